from dataclasses import replace

import pytest
import torch

import tiny
from scoreag.classifiers.loading import load_classifier
from scoreag.core.rng import Stream
from scoreag.data.loading import Dataset
from scoreag.models.model_cards import build_network, load_card
from scoreag.training.classifier_training import (
    build_state,
    channel_stats,
    complete_recipe,
    train,
    train_classifier,
)
from scoreag.training.outputs import describe_inputs
from scoreag.training.recipes import CLASSIFIER_PRESETS as PRESETS
from scoreag.training.recipes import Recipe
from scoreag.training.schedule import TrainingSchedule

OPEN = Recipe(
    network="wide_resnet",
    schedule=TrainingSchedule(100, 10),
    options={"depth": 10, "width": 1},
    mean=(),
    std=(),
)
SHAPES = {"fashion": (1, 28, 28), "tiny": (3, 64, 64)}


def pixels(shape, count=10):
    return Stream(0).integers(256, (count, *shape)).to(torch.uint8)


@pytest.mark.parametrize("shape, classes", [((1, 12, 10), 3), ((3, 64, 64), 200)])
def test_shape_classes_and_normalisation_come_from_the_data(shape, classes):
    images = pixels(shape)
    recipe = complete_recipe(OPEN, images, [str(i) for i in range(classes)])
    known = {"image_shape": list(shape), "classes": classes}
    assert recipe.options == {"depth": 10, "width": 1, **known}
    values = images.double().div(255).transpose(0, 1).flatten(1)
    assert recipe.mean == pytest.approx(values.mean(1).tolist(), abs=5e-5)
    assert recipe.std == pytest.approx(values.std(1, correction=0).tolist(), abs=5e-5)


def test_a_channel_that_never_changes_is_not_divided_by_nothing():
    assert channel_stats(torch.full((2, 1, 3, 3), 51, dtype=torch.uint8)) == ((0.2,), (0.0039,))


def test_a_normalisation_of_the_recipe_is_kept():
    preset = PRESETS["cifar10-resnet20"]
    recipe = complete_recipe(preset, pixels((3, 32, 32)), tiny.CLASSES)
    assert (recipe.mean, recipe.std) == (preset.mean, preset.std)


@pytest.mark.parametrize(
    "recipe, shape, message",
    [
        (PRESETS["cifar10-robust"], (1, 32, 32), "for images of 3 channels, and these have 1"),
        (
            PRESETS["cifar10-resnet20"],
            (3, 26, 26),
            "crops to a side of 32, and the images are 26 x 26",
        ),
        (replace(OPEN, options={"dept": 10}), (3, 8, 8), "no option 'dept'; did you mean 'depth'"),
    ],
)
def test_a_recipe_for_other_images_is_refused(recipe, shape, message):
    with pytest.raises(ValueError, match=message):
        complete_recipe(recipe, pixels(shape), tiny.CLASSES)


@pytest.mark.parametrize("name", [name for name in PRESETS if "wrn" not in name])
def test_a_preset_takes_the_images_it_is_named_after(name):
    shape = SHAPES.get(name.split("-")[0], (3, 32, 32))
    recipe = complete_recipe(PRESETS[name], pixels(shape), [str(i) for i in range(10)])
    assert build_state(recipe, pixels(shape)).network.eval()(torch.rand(2, *shape)).shape == (2, 10)


@pytest.mark.parametrize(
    "name, count",
    [
        ("cifar10-wrn-16-4", 2_748_890),
        ("cifar10-wrn-28-10", 36_479_194),
        ("cifar10-robust-wrn", 36_479_194),
    ],
)
def test_a_wide_preset_is_the_network_it_is_named_after(name, count):
    recipe = complete_recipe(PRESETS[name], pixels((3, 32, 32)), [str(i) for i in range(10)])
    with torch.device("meta"):
        network = build_state(recipe, pixels((3, 32, 32)), "meta").network
    assert sum(p.numel() for p in network.parameters()) == count


def test_a_card_of_grey_images_can_be_used(tmp_path):
    recipe = replace(OPEN, schedule=TrainingSchedule(total_images=20, batch_size=5))
    made = train_classifier(
        recipe, pixels((1, 9, 7)), tiny.labels(10), tiny.CLASSES, tmp_path, progress=False
    )
    assert load_card(tmp_path).image_shape == (1, 9, 7) and made.classes == tiny.CLASSES
    images = torch.rand(2, 1, 9, 7)
    expected = build_network(made).eval()((images - made.mean[0]) / made.std[0])
    torch.testing.assert_close(load_classifier(str(tmp_path))(images), expected)


def test_extra_images_are_learnt_from_and_told(tmp_path):
    """Own images of class 0 only: that there are dark ones, only the extra data say."""
    bright = torch.full((8, 1, 8, 8), 200, dtype=torch.uint8)
    dark = Dataset(bright // 4, torch.ones(8, dtype=torch.int64), tuple(range(8)), (), "dark")
    plan = TrainingSchedule(total_images=400, batch_size=8)
    recipe = replace(
        OPEN, schedule=plan, extra_fraction=0.5, random_shift=0, mean=(0.5,), std=(0.25,)
    )
    data = bright, torch.zeros(8, dtype=torch.int64), ("bright", "dark")
    made = train_classifier(recipe, *data, tmp_path, progress=False, extra_data=dark)
    said = load_classifier(str(tmp_path))(torch.cat([bright, dark.images]) / 255).argmax(1)
    assert said.tolist() == [0] * 8 + [1] * 8
    told = load_card(tmp_path).training_config
    assert (told["extra"], told["extra_fraction"], told["extra_images"]) == ("dark", 0.5, 8)
    assert told["extra_sha256"] == dark.sha256 and made.training_config["images_seen"] == 400


def test_a_stopped_training_with_extra_data_goes_on_as_if_it_had_not_been(tmp_path):
    extra = Dataset(tiny.images(12), tiny.labels(12), tuple(range(12)), (), "extra")
    recipe = replace(
        OPEN, schedule=TrainingSchedule(total_images=40, batch_size=4), extra_fraction=0.5
    )
    recipe = complete_recipe(recipe, tiny.images(9), tiny.CLASSES)
    data = {"images": tiny.images(9), "labels": tiny.labels(9), "extra_data": extra}
    whole = train(recipe, **data, file=tmp_path / "whole.pt")

    def stop(state):
        if state.images_seen == 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, **data, file=tmp_path / "part.pt", callback=stop, checkpoint_seconds=0.0)
    resumed = train(recipe, **data, file=tmp_path / "part.pt")
    pairs = zip(whole.network.parameters(), resumed.network.parameters(), strict=True)
    assert resumed.losses == whole.losses and all(torch.equal(a, b) for a, b in pairs)


def test_a_share_without_extra_data_is_refused_before_anything_is_written(tmp_path):
    recipe = replace(OPEN, extra_fraction=0.5)
    data = pixels((3, 8, 8)), tiny.labels(10), tiny.CLASSES
    with pytest.raises(ValueError, match=r"extra_fraction is 0\.5, with no extra data"):
        train_classifier(recipe, *data, tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_the_card_says_which_extra_data_there_were():
    extra = Dataset(tiny.images(3), torch.tensor([0, 1, 2]), (0, 1, 2), (), "run:drawn")
    told = {"extra": "run:drawn", "extra_sha256": extra.sha256, "extra_images": 3}
    assert describe_inputs(None, extra) == told and describe_inputs(None) == {}
