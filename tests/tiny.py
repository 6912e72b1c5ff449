"""Models small enough for a test: images of 3 x 8 x 8, three classes, weights of a fixed seed."""

import os
from pathlib import Path

import torch
from torch import nn

from scoreag.classifiers.networks.small_cnn import build as small_cnn
from scoreag.classifiers.normalized import wrap_classifier
from scoreag.diffusion.networks.unet import UNet
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.parameterizations import Preconditioned, edm
from scoreag.diffusion.prior import Prior
from scoreag.diffusion.samplers.heun import sample
from scoreag.io.images import write_png
from scoreag.models import model_cards
from scoreag.models.model_cards import Card, write_card

ENVIRONMENT = {  # of a process that is to find this package, and to compute as the test does
    **os.environ,
    "PYTHONPATH": str(Path(model_cards.__file__).parents[2]),
    "OMP_NUM_THREADS": "1",
}
CLASSES = ("cat", "dog", "ship")
SHAPE = (3, 8, 8)
UNET = {
    "image_shape": list(SHAPE), "classes": 3, "channels": 16, "multipliers": [1], "attention_at": []
}  # fmt: skip
HEAD = {"multipliers": [1, 1], "head_at": 2}  # of a network with a second output
CNN = {
    "image_shape": list(SHAPE),
    "classes": 3,
    "convolutions": [[4, 3, 1], [8, 3, 2]],
    "hidden": 8,
}
HARD = {  # fools some, not all
    "attack_scale": 30.0,
    "normalize_gradient": True,
    "max_restarts": 1,
    "steps": 3,
}
QUICK = {"synthesize": HARD, "transform": {**HARD, "similarity": 10.0}, "purify": {"steps": 2}}


def filled(network: nn.Module, seed: int, scale: float = 0.1) -> nn.Module:
    """Weights that leave no layer silent."""
    source = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.data = scale * torch.randn(parameter.shape, generator=source)
    return network.eval().requires_grad_(False)


def prior(**options) -> Prior:
    model = Preconditioned(filled(UNet(**UNET | options), 0), edm())
    return Prior(model, sample, karras(3), SHAPE, CLASSES, QUICK)


def victim():
    return wrap_classifier(filled(small_cnn(**CNN), 10, 0.4))


def other_classifier():
    """A classifier with other weights, that may judge the first."""
    return wrap_classifier(filled(small_cnn(**CNN), 11, 0.4))


def images(count: int) -> torch.Tensor:
    """8-bit images."""
    source = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (count, *SHAPE), dtype=torch.uint8, generator=source)


def labels(count: int) -> torch.Tensor:
    """What the classifier says of most of these images, and a wrong label for the fourth."""
    with torch.no_grad():
        said = victim()(images(count).float() / 255).argmax(1)
    said[3:4] = (said[3:4] + 1) % 3
    return said


def write_score_model(folder: Path, seed: int = 0, **changes) -> Path:
    """A card of the score model above, or of one with other weights."""
    entries = {
        "name": "tiny", "kind": "score-model", "network": "unet", "file": "model.safetensors",
        "license": "MIT", "image_shape": SHAPE, "classes": CLASSES, "family": "edm",
        "options": UNET, "defaults": QUICK, "folder": folder,
    }  # fmt: skip
    write_card(Card(**entries | changes), filled(UNet(**UNET), seed).state_dict())
    return folder


def write_classifier(folder: Path, seed: int = 10) -> Path:
    """A card of the classifier above, or of one with other weights."""
    entries = {
        "name": "net", "kind": "classifier", "network": "small_cnn", "file": "model.safetensors",
        "license": "MIT", "image_shape": SHAPE, "classes": CLASSES, "options": CNN,
        "folder": folder,
    }  # fmt: skip
    write_card(Card(**entries), filled(small_cnn(**CNN), seed, 0.4).state_dict())
    return folder


def write_images(folder: Path, count: int) -> Path:
    """Class folders with those images."""
    for i, (image, label) in enumerate(zip(images(count), labels(count), strict=True)):
        (folder / CLASSES[label]).mkdir(parents=True, exist_ok=True)
        write_png(folder / CLASSES[label] / f"{i:03d}.png", image)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a run but those that tell the time."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    told = ("manifest.json", "report.html")
    return {str(f.relative_to(folder)): f.read_bytes() for f in files if f.name not in told}
