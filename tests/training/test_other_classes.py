"""A training that starts from a card of other classes, or of images of another size."""

from dataclasses import replace

import pytest
import torch

import tiny
from scoreag.cli import train
from scoreag.cli.options import DeviceOptions, OutputOptions
from scoreag.data.loading import Dataset
from scoreag.models.model_cards import load_card, read_weights
from scoreag.training.classifier_training import build_state, complete_recipe
from scoreag.training.execution import DistContext
from scoreag.training.initialization import find_class_axes, init_options
from scoreag.training.recipes import SCORE_PRESETS, Recipe
from scoreag.training.schedule import TrainingSchedule
from scoreag.training.score_model_training import build_network, check_recipe, resolve_options

RECIPE = Recipe("cifar_resnet", TrainingSchedule(total_images=20, batch_size=10), random_shift=1)
OTHERS = ("dog", "horse", "Ship", "cat")


@pytest.fixture
def net(tmp_path):
    tiny.write_classifier(tmp_path / "net")
    return load_card(str(tmp_path / "net"))


@pytest.fixture
def prior(tmp_path):
    tiny.write_score_model(tmp_path / "prior")
    return load_card(str(tmp_path / "prior"))


def test_rows_of_known_classes_are_kept_by_name_and_others_are_new(net):
    recipe = complete_recipe(RECIPE, tiny.images(20), OTHERS, net)
    old, new = read_weights(net), build_state(recipe, tiny.images(20), "cpu", net, OTHERS).network
    axes = find_class_axes(net)
    assert axes and all(axis == 0 for axis in axes.values())
    for name, value in new.state_dict().items():
        if name not in axes:
            assert torch.equal(value, old[name])
        else:
            assert torch.equal(value[[0, 2, 3]], old[name][[1, 2, 0]])
            assert not any(torch.equal(value[1], row) for row in old[name])


def test_classes_without_names_keep_their_order(net):
    numbers = ("0", "1", "2")
    recipe = complete_recipe(RECIPE, tiny.images(20), numbers, net)
    found = build_state(recipe, tiny.images(20), "cpu", net, numbers).network.state_dict()
    assert all(torch.equal(found[name], value) for name, value in read_weights(net).items())


def test_a_new_class_of_a_score_model_starts_as_the_null_label(prior):
    recipe = replace(SCORE_PRESETS["tiny"], network=prior.network)
    options = resolve_options(recipe, tiny.images(8), OTHERS, prior)
    model = build_network(recipe, options, prior, classes=OTHERS)
    old = read_weights(prior)["told.label.weight"]
    expected = old[[1, 3, 2, 0, 3]]
    assert torch.equal(model.network.told.label.weight, expected)
    x, sigma = torch.rand(2, *tiny.SHAPE), torch.tensor([0.5, 0.5])
    labels = torch.tensor([1, 4])  # horse, and the null label
    x = x[:1].expand(2, -1, -1, -1)
    first, second = model.eval()(x, sigma, labels)
    assert torch.allclose(first, second)


def test_another_size_keeps_the_weights_and_scales_the_sides_of_maps(prior):
    options = init_options(replace(prior, options={**prior.options, "attention_at": [4]}),
                           (3, 16, 16), 3)  # fmt: skip
    assert (options["attention_at"], options["image_shape"]) == ([8], [3, 16, 16])
    odd = replace(prior, options={**prior.options, "attention_at": [5]})
    with pytest.raises(ValueError, match=r"attention_at \[5\] for images of 8 pixels.*--size"):
        init_options(odd, (3, 12, 12), 3)


def test_a_default_side_is_scaled_too(prior):
    bare = replace(prior, options={"multipliers": [1, 2], "patch": 1, "image_shape": [3, 8, 8]})
    assert init_options(bare, (3, 16, 16), 3)["attention_at"] == [16]  # of 8, the default


def test_other_channels_are_refused(net):
    gray = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    with pytest.raises(ValueError, match="images of 3 channels, and the data have 1"):
        complete_recipe(RECIPE, gray, tiny.CLASSES, net)


@pytest.mark.parametrize("labels", [[1, 2, 3], [0, 3], [0, 4], [-1, 2]])
def test_labels_that_no_name_has_are_refused(labels, tmp_path):
    with pytest.raises(ValueError, match=r"labels go from .* and there are 3 names"):
        check_recipe(
            SCORE_PRESETS["tiny"], torch.tensor(labels), tiny.CLASSES, tmp_path, DistContext(), None
        )


def test_the_null_label_is_taken_only_where_it_was_said_that_there_are_some(tmp_path):
    given = (SCORE_PRESETS["tiny"], torch.tensor([0, 3]), tiny.CLASSES, tmp_path, DistContext())
    check_recipe(*given, None, has_null_labels=True)
    with pytest.raises(ValueError, match="labels go from 0 to 3, and there are 3 names"):
        check_recipe(*given, None)


def test_a_training_that_starts_from_few_classes_keeps_the_images_of_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.write_score_model(tmp_path / "prior", classes=("dog", "cat"))
    options = {
        "preset": "tiny",
        "data": "foolbox-samples",
        "out": "out",
        "compute": DeviceOptions(),
    }
    training = train.TrainOptions(output=OutputOptions(quiet=True), **options)
    known = load_card("prior").classes
    assert len(train.load_labeled(training, 2, known)) == 20
    some = replace(training, classes="ship,cat")
    assert train.load_labeled(some, 2, known).counts == {"ship": 4, "cat": 2}
    assert len(train.load_labeled(some, 2, known, keep_others=True)) == 20


def data():
    images = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1)
    return Dataset(images, torch.tensor([0, 1, 2, 2, 1, 0]), tuple(range(6)), tiny.CLASSES, "mine")


def test_classes_are_selected_in_the_order_that_was_asked_for():
    some = data().select_classes(["ship", "cat"])
    assert (some.labels.tolist(), some.image_ids) == ([1, 0, 0, 1], (0, 2, 3, 5))
    assert (some.classes, some.name) == (("ship", "cat"), "mine, classes ship, cat")
    others = data().select_classes(["ship"], keep_others=True)
    assert (others.labels.tolist(), len(others)) == ([1, 1, 0, 0, 1, 1], 6)


@pytest.mark.parametrize(
    "names, message",
    [(["shp"], "did you mean 'ship'"), (["cat", "Cat"], "write each once"), ([""], "no class ''")],
)
def test_classes_that_cannot_be_selected_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        data().select_classes(names)
