"""Other libraries, as they are installed: their models as classifiers, their attacks on a defense.

    python -m venv theirs && theirs/bin/pip install . torch==2.14.1 torchvision==0.29.1 timm \
        transformers torchattacks foolbox adversarial-robustness-toolbox pyautoattack
    PYTHONPATH=src theirs/bin/python benchmarks/libraries.py

Models have random weights: what is compared is the input that they see.  Torch and torchvision must
be a pair that imports together.
"""

import argparse
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from common import Row, write
from PIL import Image
from torch import Tensor, nn

import scoreag
from scoreag.attacks.external.art import evasion_attack
from scoreag.attacks.external.autoattack import AutoAttack
from scoreag.classifiers.preprocessing import read_preprocessing, resize_and_crop

SIDE = 96  # of the images, which all models resize
COUNT = 8
EPS = 25.5 / 255  # of Fashion-MNIST
CHEAP = "AutoAttack, rand"  # twenty draws a gradient, two hundred steps: a purifier of one call


def pixels() -> Tensor:
    """Smooth 8-bit images: resizing of noise says little."""
    source = torch.Generator().manual_seed(0)
    coarse = torch.rand(COUNT, 3, 12, 12, generator=source)
    fine = nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic").clamp(0, 1)
    return (255 * fine).round().to(torch.uint8)


def pictures(images: Tensor) -> list[Image.Image]:
    return [Image.fromarray(one.permute(1, 2, 0).numpy()) for one in images]


def compare(module: nn.Module, stated: Any, theirs: Tensor) -> Row:
    """How far our input and our logits are from those of the library's own preprocessing."""
    images = pixels().float() / 255
    how = read_preprocessing(stated)
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (how.mean, how.std))
    ours = (resize_and_crop(images, how) - mean) / std
    with torch.no_grad():
        expected = module(theirs)
        expected = getattr(expected, "logits", expected)
        found = scoreag.wrap_classifier(module, preprocessing=stated)(images)
    return {
        "input_levels": 255 * ((ours - theirs) * std).abs().max().item(),  # of 8 bits
        "logits": ((found - expected).abs().max() / expected.std()).item(),
    }


def of_torchvision() -> Row:
    from torchvision.models import ResNet18_Weights, resnet18

    stated = ResNet18_Weights.IMAGENET1K_V1.transforms()
    theirs = torch.stack([stated(one) for one in pictures(pixels())])
    return compare(resnet18(weights=None).eval(), stated, theirs)


def of_torchvision_compose() -> Row:
    from torchvision import transforms as t
    from torchvision.models import resnet18

    resized = t.Resize(64, interpolation=t.InterpolationMode.BICUBIC)
    normal = t.Normalize([0.5] * 3, [0.25] * 3)
    stated = t.Compose([resized, t.CenterCrop(56), t.ToTensor(), normal])
    theirs = torch.stack([stated(one) for one in pictures(pixels())])
    return compare(resnet18(weights=None).eval(), stated, theirs)


def of_timm() -> Row:
    import timm

    module = timm.create_model("resnet18", pretrained=False).eval()
    stated = timm.data.resolve_model_data_config(module)
    made = timm.data.create_transform(**stated, is_training=False)
    theirs = torch.stack([made(one) for one in pictures(pixels())])
    return compare(module, stated, theirs)


def of_transformers() -> Row:
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        image_size=64, patch_size=8, num_labels=10,
    )  # fmt: skip
    stated = ViTImageProcessor(size={"height": 64, "width": 64})
    theirs = stated(pictures(pixels()), return_tensors="pt")["pixel_values"]
    return compare(ViTForImageClassification(config).eval(), stated, theirs)


MODELS: dict[str, tuple[str, Callable[[], Row]]] = {
    "torchvision, weights.transforms()": ("torchvision", of_torchvision),
    "torchvision, Compose": ("torchvision", of_torchvision_compose),
    "timm, data config": ("timm", of_timm),
    "transformers, image processor": ("transformers", of_transformers),
}


def by_torchattacks(defense: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    import torchattacks

    found: Tensor = torchattacks.PGD(defense, eps=EPS, alpha=EPS / 4, steps=10)(images, labels)
    return found


def by_foolbox(defense: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    import foolbox

    model = foolbox.PyTorchModel(defense, bounds=(0, 1), device="cpu")
    _, found, _ = foolbox.attacks.LinfPGD(steps=10)(model, images, labels, epsilons=EPS)
    return torch.as_tensor(found)


def estimator(defense: nn.Module, images: Tensor) -> Any:
    from art.estimators.classification import PyTorchClassifier

    return PyTorchClassifier(
        defense, nn.CrossEntropyLoss(), tuple(images.shape[1:]), 10, clip_values=(0.0, 1.0),
        device_type="cpu",
    )  # fmt: skip


def by_art(defense: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    from art.attacks.evasion import ProjectedGradientDescentPyTorch as Pgd

    attack = Pgd(estimator(defense, images), eps=EPS, eps_step=EPS / 4, max_iter=10, verbose=False)
    return torch.as_tensor(attack.generate(images.numpy(), labels.numpy()))


def by_autoattack(defense: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return AutoAttack(eps=EPS, version="rand")(defense, images, labels, seed=0)


def by_ours(defense: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return scoreag.attacks.PGD(eps=EPS, steps=10)(defense, images, labels, seed=0)


def gat_by_art(defense: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """GAT as an evasion attack of ART, on the classifier of its estimator."""
    bare = scoreag.load_classifier("fashion-cnn")
    gat = scoreag.attacks.GAT(prior=scoreag.load_prior("fashion-small"))
    found = evasion_attack(gat, estimator(bare, images)).generate(images.numpy(), labels.numpy())
    return torch.as_tensor(found)


ATTACKS: Mapping[str, tuple[str, Callable[[nn.Module, Tensor, Tensor], Tensor]]] = {
    "PGD of ScoreAG": ("scoreag", by_ours),
    "PGD of torchattacks": ("torchattacks", by_torchattacks),
    "LinfPGD of Foolbox": ("foolbox", by_foolbox),
    "PGD of ART": ("adversarial-robustness-toolbox", by_art),
    "AutoAttack, rand": ("pyautoattack", by_autoattack),
    "GAT as an EvasionAttack of ART": ("adversarial-robustness-toolbox", gat_by_art),
}


def attacked(run: Callable[[nn.Module, Tensor, Tensor], Tensor], count: int) -> Row:
    """How many images a library's attack fools, in a fresh draw, and how far it went."""
    classifier = scoreag.load_classifier("fashion-cnn")
    images, labels = scoreag.load_data(f"fashion-mnist:sample[0:{count}]")
    assert labels is not None
    victim = classifier
    if run is not gat_by_art:
        purifier = "one_step_denoising" if run is by_autoattack else "gap"
        victim = scoreag.defend(classifier, scoreag.load_prior("fashion-small"), purifier)
    with torch.no_grad():
        right = victim(images).argmax(1) == labels
    found = run(victim, images, labels)
    with torch.no_grad():
        wrong = victim((255 * found).round() / 255).argmax(1) != labels
    change = (found - images).abs().max().item()
    return {
        "images": count, "right_before": int(right.sum()), "fooled": int((right & wrong).sum()),
        "linf_255": 255 * change,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=8, help="that each attack gets")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)
    found: dict[str, list[Row]] = {"models": [], "attacks": []}
    for name, (package, make) in MODELS.items():
        found["models"].append({"name": name, "package": package, "version": version(package)})
        found["models"][-1] |= make()
        print(found["models"][-1], flush=True)
    for name, (package, run) in ATTACKS.items():
        found["attacks"].append({"name": name, "package": package, "version": version(package)})
        found["attacks"][-1] |= attacked(run, 2 if name == CHEAP else args.images)
        print(found["attacks"][-1], flush=True)
    write("libraries", found)


if __name__ == "__main__":
    main()
