"""Classifiers of some classes or of superclasses: against sums of probabilities."""

from types import MappingProxyType, SimpleNamespace

import pytest
import torch

import scoreag
import tiny
from scoreag.classifiers.class_groups import GroupedClasses, known_names, select_classes
from scoreag.classifiers.loading import class_names, load_classifier
from scoreag.classifiers.rejection import WithDetector
from scoreag.data.cifar import COARSE_CLASSES, COARSE_GROUPS, FINE_CLASSES
from scoreag.data.imagenet import CLASSES, WNID_NAMES

IMAGES = torch.rand(5, *tiny.SHAPE, generator=torch.Generator().manual_seed(0))


def three():
    return scoreag.wrap_classifier(tiny.victim().module, classes=tiny.CLASSES)


def test_some_classes_have_the_probabilities_given_that_it_is_one_of_them():
    own, some = three()(IMAGES).softmax(1), select_classes(three(), ("ship", "cat"))
    expected = own[:, [2, 0]] / own[:, [2, 0]].sum(1, keepdim=True)
    assert torch.allclose(some(IMAGES).softmax(1), expected, atol=1e-6)
    assert some.classes == ("ship", "cat")


def test_superclasses_have_the_sum_of_the_probabilities():
    groups = MappingProxyType({"animal": ("cat", "dog")})
    coarse = select_classes(three(), ("ship", "animal"), groups)
    own = three()(IMAGES).softmax(1)
    expected = torch.stack([own[:, 2], own[:, 0] + own[:, 1]], 1)
    assert torch.allclose(coarse(IMAGES).softmax(1), expected, atol=1e-6)
    assert dict(coarse.groups) == {"animal": ("cat", "dog")}


def test_the_gradient_of_a_superclass_is_finite_where_others_are_padded():
    images = IMAGES.clone().requires_grad_()
    coarse = select_classes(three(), ("ship", "animal"), {"animal": ("cat", "dog")})
    (gradient,) = torch.autograd.grad(coarse(images).sum(), images)
    assert gradient.isfinite().all() and gradient.abs().sum() > 0


def test_what_cannot_be_selected_is_refused_with_a_word():
    with pytest.raises(ValueError, match=r"no class 'catt'; did you mean 'cat'"):
        select_classes(three(), ("catt", "dog"))
    with pytest.raises(ValueError, match=r"have no names to choose from; name them"):
        select_classes(tiny.victim(), ("cat",))
    guarded = scoreag.wrap_classifier(
        WithDetector(tiny.victim(), tiny.victim()).eval(), classes=tiny.CLASSES
    )
    with pytest.raises(ValueError, match="rejects images"):
        select_classes(guarded, ("cat",))


@pytest.mark.parametrize(
    "classes, message",
    [("cat", "a name for each output"), (("a", "a"), "'a' twice")],
)
def test_names_that_are_none_are_refused(classes, message):
    with pytest.raises(ValueError, match=message):
        scoreag.wrap_classifier(tiny.victim().module, classes=classes)


def test_a_card_tells_its_names_and_coarse_is_for_cifar100(tmp_path):
    tiny.write_classifier(tmp_path / "net")
    assert load_classifier(tmp_path / "net").classes == tiny.CLASSES
    with pytest.raises(ValueError, match="expected a classifier of CIFAR-100's fine classes"):
        load_classifier(f"coarse:{tmp_path / 'net'}")
    assert class_names("coarse:whatever") == COARSE_CLASSES


def test_the_superclasses_of_cifar100_are_five_each_of_all_fine_classes():
    members = [name for group in COARSE_GROUPS.values() for name in group]
    assert sorted(members) == sorted(FINE_CLASSES) and {len(g) for g in COARSE_GROUPS.values()} == {
        5
    }


def test_the_thousand_classes_of_imagenet_are_in_the_order_of_their_wnids():
    assert list(WNID_NAMES) == sorted(WNID_NAMES) and len(set(CLASSES)) == 1000
    known = {0: "tench", 1: "goldfish", 207: "golden retriever", 291: "lion", 963: "pizza",
             517: "crane (n03126707)", 134: "crane (n02012849)", 999: "toilet tissue"}  # fmt: skip
    assert {number: CLASSES[number] for number in known} == known


def test_groups_are_on_the_device_of_the_logits():
    inner = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3, device="meta"))
    grouped = GroupedClasses(inner, [[0], [1, 2]])
    assert grouped(torch.zeros(2, 1, 2, 2, device="meta")).shape == (2, 2)


@pytest.mark.parametrize("classes", [10, None, "catdog", ("a", 1)])
def test_an_attribute_of_another_meaning_is_no_list_of_names(classes):
    assert known_names(SimpleNamespace(classes=classes)) == ()


def test_names_of_another_number_are_refused_before_anything_is_computed():
    two = scoreag.wrap_classifier(tiny.victim().module, classes=("cat", "dog"))
    message = r"the classifier names 2 classes \(cat, dog, ...\) and tells 3 apart"
    with pytest.raises(ValueError, match=message):
        scoreag.synthesize(tiny.prior(), two, [0], progress=False)
    with pytest.raises(ValueError, match=message):
        scoreag.purify(tiny.prior(), torch.rand(1, *tiny.SHAPE), two, labels=[0], progress=False)
    with pytest.raises(ValueError, match="the judge names 2 classes"):
        judge = tiny.filled(tiny.small_cnn(**tiny.CNN), 11, 0.4)
        named = scoreag.wrap_classifier(judge, classes=("cat", "dog"))
        scoreag.synthesize(tiny.prior(), three(), [0], judge=named, progress=False)


def test_a_classifier_that_is_wrapped_again_keeps_its_names():
    assert scoreag.wrap_classifier(three()).classes == tiny.CLASSES
    guarded = scoreag.defend(three(), tiny.prior(), purifier="gap")
    assert guarded.classes == tiny.CLASSES
