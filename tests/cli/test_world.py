"""world: own images become models, attacks and a report, in the time given; resumed, or refused."""

import csv
import json
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from scoreag import load_prior
from scoreag.assess import timed_plan
from scoreag.assess.experiments import ModelCache
from scoreag.assess.plan import load_plan
from scoreag.cli import world, world_steps
from scoreag.cli.app import main
from scoreag.core.rng import Stream
from scoreag.core.signals import SignalInterrupt
from scoreag.data import footprint
from scoreag.data.loading import load_dataset
from scoreag.models.model_cards import load_card
from scoreag.training.pace import seconds_per_image
from scoreag.training.sizing import default_settings

pytestmark = pytest.mark.usefixtures("one_thread")
SHAPES = ("circle", "cross", "square", "triangle")


def draw(shape, side, center, color):
    """A shape on black."""
    picture = Image.new("RGB", (side, side))
    brush, r = ImageDraw.Draw(picture), side // 4
    x, y = center
    if shape == "circle":
        brush.ellipse([x - r, y - r, x + r, y + r], color)
    elif shape == "square":
        brush.rectangle([x - r, y - r, x + r, y + r], color)
    elif shape == "triangle":
        brush.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], color)
    else:
        brush.rectangle([x - r, y - 2, x + r, y + 2], color)
        brush.rectangle([x - 2, y - r, x + 2, y + r], color)
    return picture


def write_shapes(folder, per_class=12, side=48):
    """Class folders of shapes at other places and in other colors."""
    source = Stream(0)
    for shape in SHAPES:
        (folder / shape).mkdir(parents=True)
        for i in range(per_class):
            center = (side // 3 + source.integers(side // 3, (2,))).tolist()
            color = (100 + source.integers(155, (3,))).tolist()
            draw(shape, side, center, tuple(color)).save(folder / shape / f"{i:02d}.png")


def write_arrays(file, count=60, classes=("zero", "one", "two"), shape=(28, 28)):
    """Gray stripes, whose direction is the class, with noise."""
    noise = Stream(0).integers(60, (count, *shape)).numpy()
    rows, columns = np.indices(shape)
    stripes = np.stack([120 * (one % 6 > 2) for one in (rows, columns, rows + columns)])
    labels = np.arange(count) % len(classes)
    arrays = {"images": (stripes[labels % 3] + noise).astype(np.uint8), "labels": labels}
    np.savez(file, **arrays, classes=np.array(classes))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working directory, with 48 pictures of 3 x 48 x 48 in four class folders."""
    write_shapes(tmp_path / "shapes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fixed_pace(monkeypatch):
    """5 ms an image, so that tests train the same on every machine."""
    monkeypatch.setattr("scoreag.training.pace.seconds_per_image", lambda *_, **__: 0.005)


@pytest.fixture
def few_steps(monkeypatch):
    """The defaults of new cards with two noise levels, for a test of something else."""

    def shortened(sigma_data):
        return {
            task: {**values, "steps": 2} for task, values in default_settings(sigma_data).items()
        }

    monkeypatch.setattr("scoreag.training.sizing.default_settings", shortened)


WORLD = ["world", "--data", "image-folder:shapes", "--out", "out"]
TINY_TIME = ["--minutes", "0.1"]


@pytest.mark.slow
def test_a_folder_becomes_models_and_a_report(here, fixed_pace, capsys):
    """Four classes of 48 x 48, in a tenth of a minute, then the same command again."""
    words = [*WORLD, *TINY_TIME, "--license", "MIT"]
    assert main(words) == 0
    printed, said = capsys.readouterr()
    assert "the report is out/assessment/report.html" in said
    assert "score-model: " in said and "unet" in said and "small_cnn" in said
    out = here / "out"
    assert (out / "assessment" / "report.html").is_file()

    cards = {role: load_card(out / role) for role in ("score-model", "classifier", "judge")}
    assert {card.classes for card in cards.values()} == {SHAPES}
    assert {card.license for card in cards.values()} == {"MIT"}
    assert len({card.network for card in cards.values()}) == 3
    for role in ("classifier", "judge"):
        accuracy = cards[role].metrics["test"]["accuracy"]
        assert accuracy["total"] == 12 and 0 <= accuracy["low"] <= accuracy["high"] <= 1
        assert f"accuracy of the {role}" in printed and f"{accuracy['count']} of 12" in printed

    prior = load_prior(str(out / "score-model"))
    assert prior.defaults["transform"]["attack_scale"] == "auto"
    assert load_card(prior.judge).sha256 == cards["judge"].sha256
    assert prior.model.network.null_label

    weights = {role: card.sha256 for role, card in cards.items()}
    report = (out / "assessment" / "report.html").read_bytes()
    assert main([*words, "--quiet"]) == 0
    assert {role: load_card(out / role).sha256 for role in weights} == weights
    assert (out / "assessment" / "report.html").read_bytes() == report

    assert main(["assess", "out/plan.toml", "--out", "out/assessment", "--quiet"]) == 0
    assert main([*WORLD, "--minutes", "3"]) == 1
    assert "holds a run with other settings" in capsys.readouterr().err


@pytest.mark.slow
def test_gray_arrays_become_models_and_a_report(
    tmp_path, fixed_pace, few_steps, monkeypatch, capsys
):
    """28 x 28, with test images of their own; --json prints the summary of the assessment."""
    monkeypatch.chdir(tmp_path)
    write_arrays(tmp_path / "own.npz")
    write_arrays(tmp_path / "test.npz", 12)
    words = ["world", "--data", "npz:own.npz", "--test-data", "npz:test.npz", "--out", "out"]
    assert main([*words, *TINY_TIME, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["cells"]["own/clean"]["metrics"]["clean_accuracy"]["total"] == 4
    card = load_card("out/score-model")
    assert card.image_shape == (1, 28, 28) and not card.training_config["hflip"]
    assert len(load_dataset("npz:out/data/test.npz")) == 12
    assert load_plan("out/plan.toml").attacks["pgd"].options["eps"] == 0.1


@pytest.mark.slow
def test_an_interrupted_world_goes_on_where_it_was(here, fixed_pace, monkeypatch, capsys):
    """Stopped after the score model: it is not trained again, and the splits stay."""
    trained = []
    run = world_steps._run_training

    def stop_at_the_second(world, recipe, folder):
        if trained == ["score-model"]:
            trained.append("stop")
            raise SignalInterrupt
        trained.append(folder.name)
        return run(world, recipe, folder)

    monkeypatch.setattr(world_steps, "_run_training", stop_at_the_second)
    monkeypatch.setattr(world_steps, "attack", lambda world, seconds: pytest.fail("no attack yet"))
    words = [*WORLD, *TINY_TIME, "--quiet"]
    assert main(words) == 130
    assert "the same command goes on from there" in capsys.readouterr().err
    before = load_card("out/score-model").sha256
    planned = json.loads((here / "out" / "trainings.json").read_text())
    assert set(planned) == {"score-model", "classifier"}

    seconds = []

    def attack(world, left):
        seconds.append(left)
        raise ValueError("that will do")

    monkeypatch.setattr(world_steps, "attack", attack)
    monkeypatch.setattr("scoreag.cli.world.attack", attack)
    assert main(words) == 1
    assert trained == ["score-model", "stop", "classifier", "judge"]
    assert load_card("out/score-model").sha256 == before
    kept = json.loads((here / "out" / "trainings.json").read_text())
    assert {role: kept[role] for role in planned} == planned
    assert 0 < seconds[0] < 0.1 * 60


def test_a_dry_run_prints_the_plan_and_writes_nothing(here, capsys):
    assert main([*WORLD, "--minutes", "5", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "images       28 train, 8 held-out, 12 test; 4 classes" in printed
    for role in ("score-model", "classifier", "judge", "evaluation"):
        assert f"\n{role}" in printed
    assert not (here / "out").exists()


def test_the_expected_minutes_are_the_shares_of_the_roles(here, capsys, monkeypatch):
    """At 0.01 s an image, 100 minutes give the score model 28,000 images: 1000 epochs of 28."""
    monkeypatch.setattr("scoreag.training.pace.seconds_per_image", lambda *_, **__: 0.01)
    assert main([*WORLD, "--minutes", "1", "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {one["role"]: one["train_images"] for one in found["trainings"]} == {
        "score-model": 3300, "classifier": 900, "judge": 600,
    }  # fmt: skip
    assert main([*WORLD, "--minutes", "100", "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["trainings"]
    assert [one["train_images"] for one in found] == [28_000, 2800, 2800]


def test_splits_say_where_each_image_comes_from(here, monkeypatch):
    monkeypatch.setattr("scoreag.cli.world.load_training", lambda *_: pytest.fail("stop here"))
    with pytest.raises(pytest.fail.Exception):
        main([*WORLD, "--debug"])
    rows = list(csv.DictReader((here / "out" / "data" / "splits.csv").read_text().splitlines()))
    assert Counter(row["split"] for row in rows) == {"train": 28, "held-out": 8, "test": 12}
    files = {f"{shape}/{i:02d}.png" for shape in SHAPES for i in range(12)}
    assert {row["source"] for row in rows} == files
    assert all(row["source"].startswith(row["class"]) for row in rows)


def few(here):
    for i in range(5):
        (here / "shapes" / "cross" / f"{i:02d}.png").unlink()


def other_size(here):
    Image.new("RGB", (40, 48)).save(here / "shapes" / "cross" / "00.png")


def not_square(here):
    for file in here.glob("shapes/*/*.png"):
        Image.open(file).crop((0, 0, 48, 40)).save(file)


def unlabeled(here):
    for file in here.glob("shapes/*/*.png"):
        file.rename(here / "shapes" / f"{file.parent.name}{file.name}")
    for shape in SHAPES:
        (here / "shapes" / shape).rmdir()


def one_class(here):
    for shape in SHAPES[1:]:
        for file in (here / "shapes" / shape).iterdir():
            file.unlink()
        (here / "shapes" / shape).rmdir()


def nothing(here):
    pass


@pytest.mark.parametrize(
    "spoil, more, message",
    [
        (few, [], "the class cross of image-folder:shapes has 7 different images; expected 10"),
        (other_size, [], "all must be alike; give a size (--size) to resize them"),
        (not_square, [], "images of 3 x 40 x 48, which are not square; write --size 40"),
        (unlabeled, [], "has no labels, and success depends on them; use class folders"),
        (one_class, [], "has one class only, circle; a classifier needs two or more"),
        (nothing, ["--classes", "circle"], "has one class only, circle"),
        (nothing, ["--classes", "circle,star"], "has no class 'star'"),
        (nothing, ["--size", "8"], "a side of 8 pixels, expected 16 to 256; write --size 16"),
        (nothing, ["--minutes", "0.0001"], "--minutes is too short: the score-model sees"),
        (nothing, ["--data", "nowhere"], "no file, folder or data set 'nowhere'"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_bad_images_are_refused_in_one_line(here, capsys, spoil, more, message):
    spoil(here)
    assert main([*WORLD, *more, "--quiet"]) == 1
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1 and len(told) < 500
    assert not (here / "out" / "score-model").exists()


def test_test_images_without_a_class_are_refused(here, capsys):
    write_shapes(here / "more", 3)
    for file in (here / "more" / "square").iterdir():
        file.unlink()
    assert main([*WORLD, "--test-data", "more", "--quiet"]) == 1
    told = capsys.readouterr().err
    assert "image-folder:more has no image of square; give test images of every class" in told
    assert told.count("\n") == 1 and not (here / "out").exists()


def test_images_beyond_the_memory_are_refused_before_they_are_read(here, capsys, monkeypatch):
    monkeypatch.setattr(footprint, "free_memory", lambda: 100_000)
    monkeypatch.setattr("scoreag.cli.options.ReadOptions.load", lambda *_: pytest.fail("read"))
    assert main([*WORLD, "--quiet"]) == 1
    assert "give fewer images, or a smaller --size" in capsys.readouterr().err


@pytest.mark.parametrize("minutes", ["0", "-3", "nan", "inf"])
def test_minutes_are_above_0(here, capsys, minutes):
    assert main([*WORLD, f"--minutes={minutes}"]) == 2
    assert "expected a number above 0, e.g. 60" in capsys.readouterr().err


def test_a_folder_is_also_called_folder(here, capsys):
    assert main(["world", "--data", "folder:shapes", "--out", "out", "--size", "8"]) == 1
    assert "image-folder:shapes has images with a side of 8" in capsys.readouterr().err


def test_classes_choose_the_images_of_both_data(here, capsys, monkeypatch):
    """The test data have another class, too; the numbers are those of --classes."""
    write_shapes(here / "more", 3)
    seen = []
    monkeypatch.setattr("scoreag.cli.world._show_plan", seen.append)
    words = [*WORLD, "--test-data", "more", "--classes", "square,cross", "--dry-run"]
    assert main(words) == 0
    parts = seen[0].parts
    assert {one.classes for one in parts.values()} == {("square", "cross")}
    assert parts["test"].counts == {"square": 3, "cross": 3}
    assert all("square" in parts["test"].files[i] for i in range(6) if not parts["test"].labels[i])


def test_the_judge_judges_and_is_never_attacked():
    """Nor does it guide: the classifier is the only one that attacks are made on."""
    table = timed_plan.plan_table(MEMBERS, dict.fromkeys(timed_plan.TIME_SHARES, 16))
    (own,) = table["datasets"].values()
    assert own["classifiers"] == ["c"] and own["reference_classifier"] == "j"
    assert set(table["attacks"]) == {"pgd", "gat", "gas", "pgd_purified", "gap"}
    assert set(world.RESULTS) >= set(table["attacks"]) - {"gas"}


MEMBERS = timed_plan.Members("npz:x.npz", "p", "c", "j", n_classes=4, eps="8/255")


def test_attacks_get_as_many_images_as_their_share_of_the_time(monkeypatch):
    """Of 1000 s, GAT has 350: 70 images of 5 s, of which 64 fill batches of 16."""
    seconds = {"pgd": 0.1, "gat": 5.0, "gas": 40.0, "pgd_purified": 1.0, "gap": 1.0}
    monkeypatch.setattr(timed_plan, "_measure", lambda *_: seconds)
    assert timed_plan.fit_images(MEMBERS, 100, 1000.0, ModelCache()) == {
        "pgd": 100, "gat": 64, "gas": 16, "pgd_purified": 100, "gap": 100,
    }  # fmt: skip
    assert set(timed_plan.fit_images(MEMBERS, 100, 59.0, ModelCache()).values()) == {16}
    assert set(timed_plan.fit_images(MEMBERS, 12, 59.0, ModelCache()).values()) == {12}
    assert set(timed_plan.fit_images(MEMBERS, 12, 14.0, ModelCache()).values()) == {4}


def test_a_pace_is_measured_without_a_trace(here):
    """Neither files nor the state of the random numbers are left behind."""
    from scoreag.training.sizing import ROLES, build_recipe

    own, before = load_dataset("shapes", progress=False), torch.get_rng_state()
    recipes = [build_recipe(role, 0, own, 0, True, 8000, "float32") for role in ROLES]
    assert all(seconds_per_image(recipe, own) > 0 for recipe in recipes)
    assert torch.equal(torch.get_rng_state(), before)
    assert [path.name for path in here.iterdir()] == ["shapes"]
