"""Score models for the classes of a classifier: by name, whatever either side counts."""

from dataclasses import replace

import pytest
import torch

import scoreag
import tiny
from scoreag.classifiers.class_groups import select_classes
from scoreag.core.rng import Noise
from scoreag.diffusion.class_labels import fit_classes, known_classes
from scoreag.io.images import to_float, to_uint8
from scoreag.methods.config import SamplingConfig
from scoreag.methods.guided_sampling import attach_guide

IDS = range(40)


def records(prior):
    """The prior with a model that keeps the labels with which it is called."""
    seen = []

    class Recorder(torch.nn.Module):
        null_label = prior.model.null_label

        def forward(self, x, sigma, labels=None):
            seen.append(labels)
            return prior.model(x, sigma, labels)

    return replace(prior, model=Recorder()), seen


class NoNull(torch.nn.Module):
    """A model that hides its null label."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, sigma, labels=None):
        return self.model(x, sigma, labels)


def without_null_label(prior):
    return replace(prior, model=NoNull(prior.model))


def told(prior, labels, **options):
    prior, seen = records(prior)
    prior.sample(Noise(0, range(len(labels))), torch.tensor(labels), **options)
    assert all(torch.equal(each, seen[0]) for each in seen)
    return seen[0].tolist()


def test_labels_are_translated_by_name_and_images_are_those_of_the_model_itself():
    prior = tiny.prior()
    fitted = fit_classes(prior, ("Ship", "cat"))
    assert (fitted.classes, told(fitted, [0, 1, 1])) == (("Ship", "cat"), [2, 0, 0])
    own = prior.sample(Noise(0, IDS), torch.tensor([2, 0] * 20))
    assert torch.equal(fitted.sample(Noise(0, IDS), torch.tensor([0, 1] * 20)), own)


def test_a_prior_that_was_fitted_is_fitted_again_from_its_own_numbers():
    once = fit_classes(tiny.prior(), ("ship", "cat"))
    assert told(fit_classes(once, ("cat", "ship")), [0, 1]) == [0, 2]


@pytest.mark.parametrize("classes", [(), tiny.CLASSES, ("0", "1", "2")])
def test_without_other_names_nothing_changes(classes):
    prior = tiny.prior()
    assert fit_classes(prior, classes) is prior


def test_an_unknown_class_has_the_null_label_and_cannot_be_asked_for():
    fitted = fit_classes(tiny.prior(), ("cat", "horse"))
    assert told(fitted, [0, 1]) == [0, 3] and known_classes(fitted) == [0]


def test_a_class_of_several_is_their_mixture_and_of_a_given_image_it_is_unknown():
    fitted = fit_classes(tiny.prior(), ("pet", "ship"), {"pet": ("cat", "dog")})
    labels = told(fitted, [0] * 400)
    assert set(labels) == {0, 1} and 140 < sum(labels) < 260  # 6 deviations of a fair coin
    assert labels[3:7] == told(fitted, [0] * 400)[3:7]
    given = {"init_image": torch.zeros(2, *tiny.SHAPE)}
    assert told(fitted, [0, 1], **given) == [3, 2]


def test_draws_depend_on_the_image_and_not_on_its_batch():
    fitted, seen = records(fit_classes(tiny.prior(), ("pet",), {"pet": ("cat", "dog")}))
    fitted.sample(Noise(7, [5, 3, 11]), torch.zeros(3, dtype=torch.int64))
    fitted.sample(Noise(7, [11]), torch.zeros(1, dtype=torch.int64))
    assert seen[0][2] == seen[-1][0]


@pytest.mark.parametrize(
    "classes, message",
    [
        (("horse", "frog"), "the classifier has the class 'horse', and the score model no class"),
        (("shi", "catt"), "did you mean 'ship'"),
    ],
)
def test_classes_without_a_common_name_are_refused_with_the_near_ones(classes, message):
    with pytest.raises(ValueError, match=message):
        fit_classes(tiny.prior(), classes)


def test_one_unknown_class_is_refused_where_the_model_has_no_null_label():
    prior = without_null_label(tiny.prior())
    with pytest.raises(ValueError, match="the class 'horse', and the score model no class 'horse'"):
        fit_classes(prior, ("cat", "horse"))


def named(classes):
    return scoreag.wrap_classifier(tiny.victim().module, classes=classes)


def test_tasks_take_a_classifier_that_counts_otherwise():
    """Classes in another order are the same task as with the model's own order."""
    prior, order = tiny.prior(), [2, 0, 1]
    module = torch.nn.Sequential(tiny.victim().module, Reorder(order))
    other = scoreag.wrap_classifier(module.eval(), classes=[tiny.CLASSES[i] for i in order])
    labels = torch.tensor([0, 1, 2, 1])
    moved = torch.tensor([order.index(int(y)) for y in labels])
    own = scoreag.synthesize(
        prior, named(tiny.CLASSES), labels, target=None, image_ids=range(4), progress=False
    )
    found = scoreag.synthesize(prior, other, moved, target=None, image_ids=range(4), progress=False)
    assert torch.allclose(found.images, own.images, atol=1e-5)
    assert found.success.tolist() == own.success.tolist()


class Reorder(torch.nn.Module):
    def __init__(self, order):
        super().__init__()
        self.order = order

    def forward(self, logits):
        return logits[:, self.order]


def test_synthesis_of_a_class_that_the_model_does_not_know_is_refused():
    with pytest.raises(ValueError, match="cannot make images of 'horse'"):
        scoreag.synthesize(tiny.prior(), named(("cat", "horse", "dog")), [1], progress=False)


def test_transformation_of_it_is_not_and_the_target_goes_by_the_classifiers_names():
    result = scoreag.transform(
        tiny.prior(), named(("cat", "horse", "dog")), torch.rand(2, *tiny.SHAPE), [1, 1],
        target="dog", progress=False,
    )  # fmt: skip
    assert result.targets.tolist() == [2, 2]


def test_a_judge_of_more_classes_decides_among_those_of_the_classifier():
    two = scoreag.wrap_classifier(
        torch.nn.Sequential(tiny.victim().module, Reorder([2, 0])).eval(), classes=("ship", "cat")
    )
    judge = scoreag.wrap_classifier(
        tiny.filled(tiny.small_cnn(**tiny.CNN), 11, 0.4), classes=tiny.CLASSES
    )
    result = scoreag.synthesize(
        tiny.prior(), two, [0, 1, 0, 1], target=None, judge=judge, progress=False
    )
    logits = judge(to_float(to_uint8(result.images)))[:, [2, 0]]
    assert result.judge_predictions.tolist() == logits.argmax(1).tolist()


def test_a_judge_counts_as_the_score_model_does_where_the_classifier_has_no_names():
    judge = scoreag.wrap_classifier(
        tiny.filled(tiny.small_cnn(**tiny.CNN), 11, 0.4), classes=tiny.CLASSES[::-1]
    )
    result = scoreag.synthesize(
        tiny.prior(), tiny.victim(), [0, 1, 2], target=None, judge=judge, progress=False
    )
    logits = judge(to_float(to_uint8(result.images))).flip(1)
    assert result.judge_predictions.tolist() == logits.argmax(1).tolist()


def test_a_weaker_guide_is_of_the_models_own_classes(tmp_path):
    tiny.write_score_model(tmp_path / "weak")
    fitted = fit_classes(tiny.prior(), ("ship", "cat"))
    config = SamplingConfig(guidance_scale=2.0, guide=f"weaker:{tmp_path / 'weak'}")
    assert attach_guide(fitted, config).guide is not None


def test_given_images_of_several_labels_need_a_null_label():
    prior = without_null_label(tiny.prior())
    coarse = select_classes(named(tiny.CLASSES), ("pet", "ship"), {"pet": ("cat", "dog")})
    with pytest.raises(ValueError, match="images of 'pet' are of no single class"):
        scoreag.transform(prior, coarse, torch.rand(1, *tiny.SHAPE), [0], progress=False)
    scoreag.transform(prior, coarse, torch.rand(1, *tiny.SHAPE), [1], target=0, progress=False)
    assert len(scoreag.synthesize(prior, coarse, [0], target=1, progress=False)) == 1
