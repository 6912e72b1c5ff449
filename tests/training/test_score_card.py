import csv
import tomllib
from dataclasses import replace

import pytest
import torch
from PIL import Image

import tiny
from scoreag import load_prior
from scoreag.methods.config import resolve_task_config
from scoreag.models.model_cards import read_weights, write_card
from scoreag.training import loop
from scoreag.training.presets import get_preset
from scoreag.training.recipes import SCORE_PRESETS as PRESETS
from scoreag.training.recipes import TASK_SETTINGS
from scoreag.training.score_model_training import train_score_model

pytestmark = pytest.mark.usefixtures("one_thread")

PLAN = replace(PRESETS["tiny"].schedule, total_images=100, batch_size=4, ema_rampup_ratio=0.0)
RECIPE = replace(PRESETS["tiny"], schedule=PLAN, warmup_images=20)


@pytest.fixture(scope="module")
def made(tmp_path_factory, one_thread):
    """A card that has seen 100 images."""
    return train(tmp_path_factory.mktemp("made") / "first", RECIPE)


def train(folder, recipe, init=None):
    folder.mkdir()
    about = {"preset": "tiny", "data": "noise"}
    data = tiny.images(16), tiny.labels(16)
    return train_score_model(recipe, *data, tiny.CLASSES, folder, init, about, 50, progress=False)


def test_what_was_trained_is_a_card_with_its_history(made):
    found = tomllib.loads((made.folder / "card.toml").read_text())
    assert (config := found["training_config"])["images_seen"] == 100
    assert config["data"] == "noise" and config["schedule"]["batch_size"] == 4
    assert found["classes"] == list(tiny.CLASSES) and found["image_shape"] == [3, 8, 8]


def test_the_card_can_be_used(made):
    prior = load_prior(made.folder)
    x = torch.zeros(2, 3, 8, 8)
    assert prior.model(x, torch.tensor(1.0), torch.tensor([0, 2])).shape == x.shape


def test_the_curve_has_the_mean_of_every_fifty_steps(made):
    with (made.folder / "loss.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["images_seen"] for row in rows] == ["100"]
    assert (made.folder / "loss.svg").read_text().lstrip().startswith("<?xml")


def test_losses_that_are_read_together_change_nothing(made, tmp_path, monkeypatch):
    """As on a GPU, which is not to wait for each of them."""
    monkeypatch.setattr(loop, "steps_between_reads", lambda *given: 7)
    other = train(tmp_path / "first", RECIPE)
    assert other.sha256 == made.sha256
    for name in ("loss.csv", "samples/000000052.png"):
        assert (other.folder / name).read_bytes() == (made.folder / name).read_bytes()


def test_weights_are_written_in_files_of_a_size(made, tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    card = train_score_model(
        RECIPE, tiny.images(16), tiny.labels(16), tiny.CLASSES, folder, progress=False,
        max_shard_size=60_000,
    )  # fmt: skip
    files = sorted(folder.glob("*.safetensors"))
    assert len(files) > 1 and all(file.stat().st_size < 70_000 for file in files)
    whole, parts = read_weights(made), read_weights(card)
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert load_prior(folder).image_shape == tiny.SHAPE


def test_samples_are_a_row_for_each_class(made):
    files = sorted(path.name for path in (made.folder / "samples").iterdir())
    assert files == ["000000052.png", "000000100.png"]  # the first steps at or after 50 and 100
    with Image.open(made.folder / "samples" / files[-1]) as picture:
        assert picture.size == (4 * 10 - 2, 3 * 10 - 2)  # 8 pixels and a gap of 2 each


def test_going_on_from_a_card_adds_up_what_was_seen(made, tmp_path):
    again = train(tmp_path / "second", RECIPE, made)
    assert (
        again.training_config["images_seen"] == 200 and again.training_config["init"] == made.name
    )
    assert (tmp_path / "second" / "samples" / "000000152.png").exists()


def test_going_on_begins_with_the_weights_of_the_card(made, tmp_path):
    """At a rate of nothing, they are also what it ends with."""
    still = train(tmp_path / "still", replace(RECIPE, lr=0.0), made)
    before, after = read_weights(made), read_weights(still)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_card_for_other_images_is_refused(made, tmp_path):
    gray = tiny.images(4)[:, :1], tiny.labels(4), tiny.CLASSES
    with pytest.raises(ValueError, match=r"is for images of 3 channels, and the data have 1"):
        train_score_model(RECIPE, *gray, tmp_path, made)


def test_the_warm_up_is_counted_in_images():
    assert PRESETS["cifar10-small"].resolved_schedule.warmup_fraction * 8_000_000 == pytest.approx(
        12_800
    )
    assert RECIPE.resolved_schedule.lr_factor(0) == pytest.approx(2 / 20)  # half of a batch of 4


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="did you mean 'cifar10-small'"):
        get_preset("cifar10-smal", PRESETS)


def test_the_card_of_a_preset_has_the_settings_that_were_tuned_for_it(tmp_path):
    data = tiny.images(4), tiny.labels(4), tiny.CLASSES
    about = {"preset": "cifar10-small", "data": "noise"}
    made = train_score_model(RECIPE, *data, tmp_path, None, about, 50, progress=False)
    assert made.defaults == TASK_SETTINGS["cifar10-small"]
    for task in made.defaults:
        resolve_task_config(load_prior(tmp_path, "cpu"), task)  # all of them are known to the task


def with_head(recipe):
    return replace(recipe, options={**recipe.options, **tiny.HEAD})


def test_a_head_is_trained_and_a_part_of_the_card(tmp_path):
    card = train(tmp_path / "headed", with_head(RECIPE))
    weights = read_weights(card)
    assert card.options["head_at"] == 2 and weights["head.2.weight"].abs().max() > 0
    assert load_prior(card.folder).model.has_head


def test_a_training_may_add_a_head_to_a_card_without_one(tmp_path):
    plain = replace(RECIPE, options={**RECIPE.options, "multipliers": [1, 1]})
    first = train(tmp_path / "first", plain)
    assert "head_at" not in first.options
    still = replace(with_head(RECIPE), lr=0.0)
    second = train(tmp_path / "second", still, init=first)
    assert second.options["head_at"] == 2 and load_prior(second.folder).model.has_head
    before, after = read_weights(first), read_weights(second)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert {name.partition(".")[0] for name in after.keys() - before.keys()} == {"head"}


def test_a_card_without_maps_of_that_side_is_trained_without_a_head(made, tmp_path):
    """Of one level."""
    assert "head_at" not in train(tmp_path / "second", with_head(RECIPE), init=made).options


def test_a_head_that_is_lost_is_not_made_up(tmp_path):
    first = train(tmp_path / "first", with_head(RECIPE))
    weights = {n: t for n, t in read_weights(first).items() if not n.startswith("head.")}
    with pytest.raises(ValueError, match="the weights lack 'head"):
        train(tmp_path / "second", RECIPE, init=write_card(first, weights))


def test_a_head_that_would_learn_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="head_weight is 0, and the network has a head"):
        train(tmp_path / "headed", replace(with_head(RECIPE), head_weight=0.0))


def test_a_card_with_a_head_starts_a_training_of_a_preset_without_one(tmp_path):
    first = train(tmp_path / "first", with_head(RECIPE))
    plain = replace(RECIPE, options={**RECIPE.options, "multipliers": [1, 1]})
    assert train(tmp_path / "second", plain, init=first).options["head_at"] == 2


def test_a_head_is_where_the_maps_of_these_images_are_nearest_to_its_side(tmp_path):
    recipe = replace(with_head(RECIPE), options={**with_head(RECIPE).options, "head_at": 16})
    assert train(tmp_path / "headed", recipe).options["head_at"] == 2
