"""Presets on images that they are not made for, and what a card says of how it was made."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer
from torch.utils.flop_counter import FlopCounterMode

import tiny
from scoreag.cli.app import app, main
from scoreag.cli.options import build, flatten
from scoreag.cli.train import ClassifierOptions, ScoreModelOptions, select_recipe
from scoreag.core.rng import Stream
from scoreag.data.loading import Dataset
from scoreag.io.images import write_png
from scoreag.models.model_cards import build_network, load_card
from scoreag.registry import load_component
from scoreag.training.classifier_training import complete_recipe, train_classifier
from scoreag.training.outputs import resolve_license
from scoreag.training.presets import (
    DATASET_SHAPES,
    adapt_recipe,
    estimate_sigma_data,
    is_other_dataset,
    list_presets,
    preset_dataset,
)
from scoreag.training.recipes import CLASSIFIER_PRESETS as CLASSIFIERS
from scoreag.training.recipes import SCORE_PRESETS as SCORE_MODELS

pytestmark = pytest.mark.usefixtures("one_thread")

DOCS = Path(__file__).parents[2] / "docs" / "training.md"


def data(shape, name="image-folder:mine", count=12):
    pixels = (40 + Stream(0).integers(160, (count, *shape))).to(torch.uint8)
    return Dataset(pixels, torch.arange(count) % 3, tuple(range(count)), tiny.CLASSES, name)


@pytest.mark.parametrize("name", [name for name in CLASSIFIERS if "28-10" not in name])
@pytest.mark.parametrize("side", [28, 48, 64])
def test_a_preset_takes_images_of_another_size(name, side):
    """Of as many channels as it was made for; the robust preset once crashed on 48 x 48."""
    own = data((DATASET_SHAPES[preset_dataset(name)][0], side, side))
    recipe = complete_recipe(adapt_recipe(CLASSIFIERS[name], name, own), own.images, own.classes)
    assert all(one <= side for _, one in recipe.crop_schedule)
    assert recipe.mean == pytest.approx([own.images.double().mean().item() / 255] * len(
        recipe.mean), abs=0.02)  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if "wrn" in name else ())
        for name in CLASSIFIERS
        if name not in ("cifar10-wrn-28-10", "cifar10-robust-wrn")
    ],
)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 48, 48), (3, 64, 64)], ids=str)
def test_a_preset_trains_a_step_on_images_of_another_size(tmp_path, name, shape):
    """Also on gray images; then the card says of which images it is."""
    own = data(shape)
    recipe = adapt_recipe(CLASSIFIERS[name], name, own)
    schedule = replace(recipe.schedule, total_images=8, batch_size=4)
    card = train_classifier(
        replace(recipe, schedule=schedule), own.images, own.labels, own.classes, tmp_path,
        progress=False,
    )  # fmt: skip
    assert card.image_shape == shape and card.training_config["images_seen"] == 8
    assert build_network(card)(torch.zeros(2, *shape)).shape == (2, 3)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_preset_refuses_images_that_are_too_small_before_it_trains(tmp_path, name):
    """1 x 1 pixels cannot be shifted, which torch would say in its own words."""
    own = data((3, 1, 1))
    recipe = adapt_recipe(CLASSIFIERS[name], name, own)
    with pytest.raises(ValueError, match=r"--size|take a preset for such images"):
        complete_recipe(recipe, own.images, own.classes)


def test_windows_and_shifts_grow_with_the_images():
    """24 of 32 pixels are 36 of 48, and a window of the whole is none."""
    recipe = adapt_recipe(CLASSIFIERS["cifar10-resnet20"], "cifar10-resnet20", data((3, 48, 60)))
    assert (recipe.crop_schedule, recipe.random_shift, recipe.mean) == (((0.6, 36),), 3, ())


def test_on_its_own_data_a_preset_stays_as_it_is():
    for name in ("cifar10:train[0:45000]", "cifar10"):
        own = data((3, 32, 32), name)
        assert (
            adapt_recipe(CLASSIFIERS["cifar10-judge"], "cifar10-judge", own)
            == (CLASSIFIERS["cifar10-judge"])
        )
    assert preset_dataset("cifar100-small") == "cifar100" and preset_dataset("tiny") == ""
    assert preset_dataset("fashion-cnn") == "fashion-mnist" and not is_other_dataset("tiny", own)
    assert preset_dataset("tiny-imagenet-small") == "tiny-imagenet"


def test_the_deviation_is_that_of_pixels_between_minus_1_and_1():
    images = torch.tensor([0, 255, 255, 0], dtype=torch.uint8).view(1, 1, 2, 2)
    assert estimate_sigma_data(images) == 1.0
    assert estimate_sigma_data(images // 5 + 100) == pytest.approx(0.2)


@pytest.mark.parametrize(
    "words, told",
    [
        (["score-model", "--preset", "tiny-imagenet-small"], "must be multiples of 8"),
        (["classifier", "--preset", "cifar10-judge"], "network airbench_cnn cannot take a batch"),
        (["classifier", "--preset", "cifar10-robust", "--batch-size", "1", "--size", "32"],
         "network small_cnn cannot take a batch of 1 images of 3 x 32 x 32"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[2],
)  # fmt: skip
def test_a_network_that_cannot_take_the_images_is_refused_at_once(
    tmp_path, monkeypatch, capsys, words, told
):
    monkeypatch.chdir(tmp_path)
    for i in range(4):
        place = tmp_path / "images" / tiny.CLASSES[i % 3]
        place.mkdir(parents=True, exist_ok=True)
        write_png(place / f"{i}.png", torch.full((3, 4, 4), 50 * i, dtype=torch.uint8))
    more = ["--data", "image-folder:images", "--batch-size", "2", "--out", "out"]
    assert main(["train", words[0], *more, *words[1:]]) == 1
    err = capsys.readouterr().err
    assert told in err and "--size" in err and err.count("\n") == 1 and len(err) < 500
    assert not Path("out").exists()


def test_a_shift_that_is_wider_than_the_images_is_refused():
    own = data((3, 4, 4))
    recipe = replace(CLASSIFIERS["cifar10-wrn-16-4"], mean=(), std=())
    with pytest.raises(ValueError, match="moves images by 4 pixels, and these are 4 x 4"):
        complete_recipe(recipe, own.images, own.classes)


@pytest.fixture
def mixed(tmp_path, monkeypatch):
    """Pictures of two sizes, in a folder with a blank in its name."""
    monkeypatch.chdir(tmp_path)
    for i in range(6):
        place = tmp_path / "my images" / tiny.CLASSES[i % 3]
        place.mkdir(parents=True, exist_ok=True)
        write_png(place / f"{i}.png", torch.full((3, 8 + i % 2, 9), 40 * i, dtype=torch.uint8))
    return tmp_path


def parsed(words):
    """What the command line understands of a command that begins with: scoreag train KIND."""
    assert words[:2] == ["scoreag", "train"]
    command = typer.main.get_command(app).commands["train"].commands[words[2]]
    kind = ScoreModelOptions if words[2] == "score-model" else ClassifierOptions
    return build(kind, command.make_context(words[2], words[3:]).params)


SCORE = [
    "train", "score-model", "--preset", "tiny", "--data", "image-folder:my images", "--size", "8",
    "--batch-size", "3", "--train-images", "6", "--lr", "0.0003", "--seed", "7",
    "--grad-accum-steps", "2", "--sample-every-images", "6", "--no-channels-last",
    "--checkpoint-seconds", "9.5", "--license", "CC BY 4.0; ask first", "--out", "made here",
]  # fmt: skip
NET = [
    "train", "classifier", "--preset", "fashion-robust", "--data", "image-folder:my images",
    "--size", "8x8", "--batch-size", "2", "--train-images", "4", "--dtype", "float32",
    "--out", "net",
]  # fmt: skip


@pytest.mark.parametrize(
    "words, known", [(SCORE, SCORE_MODELS), (NET, CLASSIFIERS)], ids=["score-model", "classifier"]
)
def test_the_command_of_a_card_can_be_given_again(mixed, words, known):
    """It is understood as the one that was given, and trains the same weights."""
    assert main([*words, "--quiet"]) == 0
    made = load_card(words[-1])
    assert made.source.startswith("trained by: scoreag train ")
    told = shlex.split(made.source.removeprefix("trained by: "))
    before, after = parsed(["scoreag", *words]), parsed(told)
    recipes = [select_recipe(one.training, known, "cpu") for one in (before, after)]
    assert recipes[0] == recipes[1]
    was, now = flatten(before), flatten(after)
    differ = {name for name in was if was[name] != now[name]}
    assert differ <= {"dtype"} and now["dtype"] in ("float32", "bf16")
    again = [*told[1:], "--quiet", "--overwrite"]
    assert main(again) == 0 and load_card(words[-1]).sha256 == made.sha256


def test_a_folder_of_mixed_sizes_is_trained_on_and_evaluated_at_one(mixed, capsys):
    assert main([*[w for w in NET if w not in ("--size", "8x8")], "--quiet"]) == 1
    assert "give a size (--size)" in capsys.readouterr().err
    assert main([*NET, "--quiet"]) == 0
    evaluate = ["evaluate", "net", "--data", "image-folder:my images", "--json"]
    assert main(evaluate) == 1
    assert "--size" in capsys.readouterr().err
    assert main([*evaluate, "--size", "8"]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["name"] == "net"


def test_a_model_is_under_the_licence_that_its_maker_gives(mixed):
    assert (
        main([*SCORE, "--quiet"]) == 0 and load_card("made here").license == "CC BY 4.0; ask first"
    )


def test_a_model_without_a_licence_tells_the_terms_of_what_it_was_made_from(mixed):
    assert main([*NET, "--quiet"]) == 0
    made = load_card("net")
    assert made.license == "unspecified; made from image-folder:my images: terms not known"
    assert made.name == "net"
    other = resolve_license(None, "fashion-mnist:train[0:9]", made, data((1, 8, 8), "cifar10[0:3]"))
    assert other == (
        "unspecified; made from fashion-mnist:train[0:9]: MIT, cifar10[0:3]: no terms are stated, "
        f"net: {made.license}"
    )


def test_a_score_model_on_other_images_knows_their_deviation(mixed):
    words = [*SCORE, "--preset", "fashion-small", "--train-images", "3"]
    assert main([*words, "--quiet"]) == 0
    values = torch.tensor([40.0 * i for i in range(6)]) / 127.5 - 1
    expected = values.std(correction=0).item()
    assert load_card("made here").sigma_data == pytest.approx(expected, abs=0.006)


def test_presets_are_listed_as_the_page_tells_them(capsys):
    assert main(["list", "presets"]) == 0
    lines = dict(re.findall(r"^  (\S+) +(.*)$", capsys.readouterr().out, re.MULTILINE))
    assert lines == list_presets() and lines.keys() == {*CLASSIFIERS, *SCORE_MODELS}
    rows = [re.split(r" *\| *", row) for row in DOCS.read_text().splitlines()]
    found = {
        name: next(cell for cell in row if cell.endswith(" M")).removesuffix(" M")
        for row in rows for name in re.findall(r"`([\w-]+)`", row[1] if len(row) > 5 else "")
        if name in lines
    }  # fmt: skip
    assert found.keys() == lines.keys()
    for name, millions in found.items():
        told = float(re.search(r"([\d.]+) M parameters", lines[name])[1])
        assert told == pytest.approx(float(millions), abs=0.006 if millions[-3] == "." else 0.051)


def test_a_card_of_a_network_on_foreign_images_is_whole(mixed):
    """The normalisation in the card is that of the images, by which the network learnt."""
    assert main([*NET, "--quiet"]) == 0
    made = load_card("net")
    levels = torch.tensor([40.0 * i for i in range(6)]) / 255
    assert made.mean == pytest.approx([levels.mean().item()] * 3, abs=1e-3)
    assert made.image_shape == (3, 8, 8) and build_network(made)(torch.zeros(2, 3, 8, 8)).shape == (
        2,
        3,
    )


@pytest.mark.parametrize("name", ["cifar10-small", "cifar10-base"])
def test_the_expected_pace_on_a_gpu_follows_from_the_operations_of_the_network(name):
    recipe = SCORE_MODELS[name]
    network = load_component("networks", recipe.network).build(**recipe.options)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 32, 32), torch.zeros(1), torch.zeros(1).long())
    giga = counter.get_total_flops() / 1e9
    start = f"| network of {name} | {giga:.2f} |"
    (row,) = (line for line in DOCS.read_text().splitlines() if line.startswith(start))
    pace = 0.2 * 989e12 / (3e9 * giga)
    said = int(row.split("|")[3].split("(")[0].replace(",", ""))
    assert said == pytest.approx(pace, rel=0.01)
    assert float(row.split("|")[4].replace("million", "")) == pytest.approx(
        pace * 840 / 1e6, rel=0.02
    )
