"""What libraries state of a model's input is read, and done as they do it, with gradients."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import scoreag
from scoreag.classifiers.preprocessing import Preprocessing, read_preprocessing, resize_and_crop

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TIMM = {"input_size": (3, 224, 224), "interpolation": "bicubic", "mean": MEAN, "std": STD,
        "crop_pct": 0.875, "crop_mode": "center"}  # fmt: skip


def step(kind: str, **attributes: object) -> object:
    """An object of a class of that name, as transforms are told apart."""
    return type(kind, (), attributes)()


def processor(**changes: object) -> SimpleNamespace:
    given = dict(
        image_mean=list(MEAN), image_std=list(STD), do_rescale=True, rescale_factor=1 / 255,
        do_normalize=True, do_resize=True, size={"shortest_edge": 256}, resample=3,
        do_center_crop=True, crop_size={"height": 224, "width": 224}, crop_pct=None,
    )  # fmt: skip
    return SimpleNamespace(**(given | changes))


@pytest.mark.parametrize(
    "source",
    [
        TIMM,
        processor(),
        SimpleNamespace(resize_size=[256], crop_size=[224], mean=list(MEAN), std=list(STD),
                        interpolation=SimpleNamespace(value="bicubic")),
        SimpleNamespace(transforms=[
            step("Resize", size=256, interpolation=SimpleNamespace(value="bicubic"), max_size=None),
            step("CenterCrop", size=(224, 224)), step("ToTensor"),
            step("Normalize", mean=MEAN, std=STD),
        ]),
    ],
    ids=["timm", "transformers", "torchvision preset", "Compose"],
)  # fmt: skip
def test_every_library_says_the_same_in_its_own_words(source):
    expected = Preprocessing(MEAN, STD, resize=256, crop=(224, 224), mode="bicubic")
    assert read_preprocessing(source) == expected


def test_a_size_may_be_an_object():
    size = SimpleNamespace(height=8, width=6, shortest_edge=None, longest_edge=None)
    found = read_preprocessing(processor(do_center_crop=False, size=size))
    assert (found.resize, found.crop) == ((8, 6), None)


def test_a_processor_without_a_crop_resizes_to_height_and_width():
    found = read_preprocessing(
        processor(do_center_crop=False, size={"height": 8, "width": 6}, resample=2)
    )
    assert (found.resize, found.crop, found.mode) == ((8, 6), None, "bilinear")


@pytest.mark.parametrize(
    "mode, pillow", [("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)]
)
@pytest.mark.parametrize("size", [(20, 12), (5, 7)])
def test_images_are_resized_as_pillow_does(mode, pillow, size):
    image = torch.rand(1, 1, 9, 11, generator=torch.Generator().manual_seed(0))
    found = resize_and_crop(image, Preprocessing(resize=size, mode=mode))
    theirs = Image.fromarray(image[0, 0].numpy()).resize(size[::-1], pillow)
    np.testing.assert_allclose(found[0, 0].numpy(), np.asarray(theirs), atol=2e-6)


def test_the_shorter_side_is_resized_and_the_center_is_kept():
    image = torch.arange(6.0)[None, None, None].expand(1, 1, 3, 6) / 6
    kept = resize_and_crop(image, Preprocessing(resize=3, crop=(1, 2)))
    torch.testing.assert_close(kept, torch.tensor([[[[2 / 6, 3 / 6]]]]))
    wide = resize_and_crop(image, Preprocessing(resize=6, mode="nearest-exact"))
    assert wide.shape == (1, 1, 6, 12)


def test_a_wrapped_classifier_resizes_normalizes_and_has_a_gradient():
    module = nn.Sequential(nn.AvgPool2d(4), nn.Flatten()).eval()  # wants 4 x 4
    stated = processor(size={"height": 4, "width": 4}, do_center_crop=False)
    classifier = scoreag.wrap_classifier(module, preprocessing=stated)
    images = torch.full((2, 3, 8, 8), 0.5, requires_grad=True)
    logits = classifier(images)
    by_hand = [(0.5 - m) / s for m, s in zip(MEAN, STD, strict=True)]
    torch.testing.assert_close(logits, torch.tensor([by_hand] * 2))
    (gradient,) = torch.autograd.grad(logits.sum(), images)
    torch.testing.assert_close(gradient.sum((2, 3)), torch.tensor([[1 / s for s in STD]] * 2))
    assert classifier.metadata["name"] == "Sequential"


@pytest.mark.parametrize("output", ["object", "mapping"])
def test_logits_of_an_output_by_name_are_the_logits(output):
    class Named(nn.Module):
        def forward(self, x):
            logits = x.mean((2, 3))
            return SimpleNamespace(logits=logits) if output == "object" else {"logits": logits}

    images = torch.rand(2, 3, 4, 4)
    assert torch.equal(scoreag.wrap_classifier(Named().eval())(images), images.mean((2, 3)))


@pytest.mark.parametrize(
    "source, message",
    [
        (3, "expected the transforms of torchvision"),
        (TIMM | {"crop_mode": "border"}, "'border' is not read"),
        (TIMM | {"interpolation": "lanczos"}, "'lanczos' is not read"),
        (processor(rescale_factor=1 / 127.5), "does not rescale pixels by 1/255"),
        (processor(crop_pct=0.9), "crop_pct is not read"),
        (processor(size={"shortest_edge": 4, "longest_edge": 9}), "longest_edge"),
        (SimpleNamespace(transforms=[step("RandomCrop", size=32)]), "RandomCrop is not read"),
        (SimpleNamespace(transforms=[step("CenterCrop", size=2), step("Resize", size=3)]),
         "Resize is not read"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused_by_name(source, message):
    with pytest.raises(ValueError, match=message):
        read_preprocessing(source)


def test_a_second_normalization_is_refused():
    with pytest.raises(ValueError, match="leave out mean and std"):
        scoreag.wrap_classifier(nn.Identity().eval(), mean=MEAN, std=STD, preprocessing=TIMM)


def test_a_crop_larger_than_the_image_is_refused():
    with pytest.raises(ValueError, match="2 x 2 have no center of 3 x 3"):
        resize_and_crop(torch.zeros(1, 1, 2, 2), Preprocessing(crop=(3, 3)))
