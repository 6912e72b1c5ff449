"""Recipes for images of any size: networks that take them, and lengths that fit the time."""

from dataclasses import replace

import pytest
import torch

import tiny
from scoreag.core.rng import Stream
from scoreag.data.loading import Dataset
from scoreag.methods.config import fields_for_task
from scoreag.training import pace
from scoreag.training.classifier_training import _whitening_images, complete_recipe
from scoreag.training.execution import SINGLE_PROCESS
from scoreag.training.score_model_training import check_recipe, resolve_options
from scoreag.training.sizing import (
    CLASSIFIER,
    JUDGE,
    MAX_EPOCHS,
    MIN_STEPS,
    N_SIZES,
    ROLES,
    SCORE_MODEL,
    TIME_SHARES,
    build_recipe,
    check_shape,
    choose_training,
    default_settings,
    time_for,
    unet_layout,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def data(shape=(3, 16, 16), count=96):
    pixels = (40 + Stream(0).integers(160, (count, *shape))).to(torch.uint8)
    labels = torch.arange(count) % 3
    return Dataset(pixels, labels, tuple(range(count)), tiny.CLASSES, "image-folder:mine")


@pytest.mark.parametrize(
    "side, layout",
    [(16, (2, 1)), (28, (2, 2)), (32, (2, 2)), (33, (1, 1)), (48, (2, 3)), (50, (2, 1)),
     (64, (2, 3)), (128, (4, 3)), (256, (8, 3))],
)  # fmt: skip
def test_patches_and_levels_divide_the_side(side, layout):
    """28 is 14 and 7; 48 is 24, 12 and 6; 50 is 25, which cannot be halved."""
    assert unet_layout(side) == layout
    patch, levels = layout
    assert side % (patch * 2 ** (levels - 1)) == 0


@pytest.mark.parametrize("size", range(N_SIZES))
@pytest.mark.parametrize("channels, side", [(1, 28), (3, 16), (3, 33), (3, 48), (1, 50), (3, 64)])
def test_networks_of_every_size_take_the_images(channels, side, size):
    """Checked without computing: all tensors are on the meta device."""
    own = data((channels, side, side), 24)
    check_shape(own)
    score = build_recipe(SCORE_MODEL, size, own, 0, True, 800, "float32")
    resolve_options(score, own.images, own.classes, None)
    for role in (CLASSIFIER, JUDGE):
        complete_recipe(build_recipe(role, size, own, 0, True, 800, "float32"), own.images,
                        own.classes)  # fmt: skip


def test_the_judge_is_another_network_with_another_seed():
    recipes = [build_recipe(role, 0, data(), 5, False, 800, "float32") for role in ROLES]
    assert len({one.network for one in recipes}) == 3
    assert [one.schedule.seed for one in recipes] == [5, 6, 7]
    assert not any(one.hflip for one in recipes)


def test_a_score_model_learns_a_null_label_and_the_deviation_of_the_data(tmp_path):
    own = data()
    recipe = build_recipe(SCORE_MODEL, 0, own, 0, False, 800, "float32")
    assert recipe.label_dropout > 0
    expected = (own.images.double() / 127.5 - 1).std(correction=0).item()
    assert recipe.sigma_data == pytest.approx(expected, abs=0.006)
    check_recipe(recipe, own.labels, own.classes, tmp_path, SINGLE_PROCESS, None)


@pytest.mark.parametrize(
    "shape, message",
    [
        ((3, 32, 24), "3 x 32 x 24, which are not square; write --size 24"),
        ((3, 12, 12), "a side of 12 pixels, expected 16 to 256; write --size 16"),
        ((3, 300, 300), "a side of 300 pixels, expected 16 to 256; write --size 64"),
        ((3, 55, 55), "55 pixels, which cannot be halved often enough; write --size 48"),
    ],
)
def test_a_side_that_no_network_takes_is_refused_with_one_that_fits(shape, message):
    with pytest.raises(ValueError, match=message):
        check_shape(data(shape, 3))


def paces(*seconds):
    """A measurement that knows the sizes by their widths, and how often it was made."""
    calls = []

    def measure(recipe):
        calls.append(recipe)
        return seconds[len(calls) - 1]

    measure.calls = calls
    return measure


def test_the_largest_size_is_taken_that_sees_enough_images():
    """96,000 images are all that 96 are shown in 1000 epochs; 0.4 s an image is too slow."""
    measure = paces(0.001, 0.01, 0.4)
    chosen = choose_training(SCORE_MODEL, data(), 2000.0, measure)
    assert (chosen.size, chosen.train_images) == (1, MAX_EPOCHS[SCORE_MODEL] * 96)
    assert chosen.seconds == pytest.approx(960.0)
    assert [one.options["channels"] for one in measure.calls] == [16, 32, 64]


def test_a_short_time_is_not_spent_on_measuring_large_networks():
    measure = paces(0.001)
    chosen = choose_training(CLASSIFIER, data(), 1.5, measure)
    assert (chosen.size, chosen.train_images, len(measure.calls)) == (0, 1500, 1)


def test_a_time_for_less_than_a_few_steps_is_refused_with_one_that_suffices():
    """80 images, ten batches of eight, take 160 s, which is a tenth of 27 minutes."""
    assert MIN_STEPS * 8 * 2.0 / TIME_SHARES[JUDGE] / 60 == pytest.approx(26.7, abs=0.1)
    with pytest.raises(ValueError, match=r"judge sees 0.5 images of 3 x 16 x 16 .*--minutes 27"):
        choose_training(JUDGE, data(), 100.0, paces(2.0))


def test_what_took_too_long_is_made_up_for_by_the_rest():
    """The judge has a tenth of 0.3 of the time, of which 0.2 are evaluation."""
    assert time_for(SCORE_MODEL, 100.0, 0.0) == pytest.approx(55.0)
    assert time_for(JUDGE, 100.0, 70.0) == pytest.approx(10.0)
    assert time_for(JUDGE, 100.0, 100.0) == pytest.approx(25 / 3)  # at least of a quarter


@pytest.mark.parametrize("role", ROLES)
def test_the_pace_is_that_of_training_steps(role, monkeypatch):
    """With a clock that advances by 6 s a step, an image of a batch of 12 takes 0.5 s."""
    own, ticks = data(), iter(range(0, 600, 6))
    monkeypatch.setattr(pace.time, "perf_counter", lambda: float(next(ticks)))
    recipe = build_recipe(role, 0, own, 0, False, 8000, "float32")
    recipe = replace(recipe, schedule=replace(recipe.schedule, batch_size=12))
    assert pace.seconds_per_image(recipe, own) == 0.5
    assert next(ticks) == 6 * (pace.TIMED_STEPS + 1)


def test_the_defaults_of_a_card_are_options_of_the_tasks():
    for sigma_data, start in ((0.1, 0.3), (0.5, 0.5), (1.0, 0.8)):
        settings = default_settings(sigma_data)
        assert settings["transform"]["sigma_start"] == start
        assert settings["purify"]["sigma_start"] <= start
        for task, values in settings.items():
            assert set(values) <= {*fields_for_task(task)}


def test_large_images_are_whitened_by_fewer_of_them():
    """The covariance of 2 x 2 patches of 256 x 256 images is not taken from 5000 of them."""
    assert _whitening_images(32, 32) == _whitening_images(28, 28) == 5000
    assert (_whitening_images(64, 64), _whitening_images(256, 256)) == (1250, 78)


@pytest.mark.parametrize("side, halvings", [(16, 1), (28, 2), (32, 2), (48, 3), (64, 3), (256, 5)])
def test_the_judge_halves_its_maps_to_a_side_of_8_or_less(side, halvings):
    """So that its hidden layer has as many weights for images of any size, about."""
    recipe = build_recipe(JUDGE, 1, data((1, side, side), 8), 0, False, 80, "float32")
    strides = [stride for _, _, stride in recipe.options["convolutions"]]
    assert strides == [2] * halvings + [1]
