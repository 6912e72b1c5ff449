"""A tour whose every answer is written down here: 4 real images, 3 generated ones."""

import torch

from scoreag.report.demo_images import (
    AttackedClassifier,
    DemoReport,
    GeneratedImages,
    PredictedImages,
    PurifiedImages,
)

REAL = torch.arange(4 * 3 * 5 * 5, dtype=torch.int64).remainder(200).byte().view(4, 3, 5, 5)
LABELS = torch.tensor([0, 1, 2, 0])


def shown(classifier, judge, moved=0):
    images = REAL[: len(classifier)] + moved
    return PredictedImages(images, torch.tensor(classifier), torch.tensor(judge))


def plain(**changes):
    """Right before: images 0 to 2. PGD fools 0 and 1, GAT 0, 1 and 2."""
    told = {
        "name": "net <i>",
        "labels": LABELS,
        "original": shown([0, 1, 2, 1], [0, 1, 2, 0]),
        "pgd": shown([1, 0, 2, 1], [0, 1, 2, 0], moved=8),
        "gat": shown([2, 2, 0, 0], [0, 1, 1, 0], moved=40),
        "nfe": 24.0,
    }
    return AttackedClassifier(**{**told, **changes})


def robust(**changes):
    """The first 2 images: both right before. PGD fools none, GAT both; of 1 the class is seen."""
    told = {
        "name": "robust",
        "labels": LABELS[:2],
        "original": shown([0, 1], [0, 1]),
        "pgd": shown([0, 1], [0, 0], moved=8),
        "gat": shown([1, 2], [0, 2], moved=50),
        "nfe": 30.0,
    }
    return AttackedClassifier(**{**told, **changes})


def purified(**changes):
    """GAP of PGD's: right on 1, 2 and 3. Of the first 2 images, both without attack are right,
    1 of a blind attacker is, and none of one who knows GAP."""
    told = {
        "blind": shown([2, 1, 2, 0], [0, 1, 2, 0], moved=5),
        "clean": shown([0, 1], [0, 1], moved=3),
        "white_box": shown([0, 2], [0, 1], moved=8),
        "white_box_purified": shown([1, 2], [0, 2], moved=9),
        "steps": 7,
        "nfe": 12.4,
    }
    return PurifiedImages(**{**told, **changes})


def generated(**changes):
    """GAS fools on images 0 and 2; the reference classifier sees the class in 0 and 1."""
    told = {
        "classifier": "drawn",
        "classes": ("cat", "dog <b>", "ship"),
        "labels": torch.tensor([0, 1, 2]),
        "targets": torch.tensor([1, 2, -1]),
        "unguided": shown([0, 1, 0], [0, 1, 1]),
        "gas": shown([1, 1, 0], [0, 1, 0]),
        "nfe": (35.0, 36.0),
    }
    return GeneratedImages(**{**told, **changes})


def made_up(**changes):
    told = {
        "classes": ("cat", "dog <b>", "ship"),
        "image_ids": (10, 11, 12, 13),
        "plain": plain(),
        "robust": robust(),
        "purified": purified(),
        "generated": generated(),
        "eps": 8 / 255,
        "pgd_steps": 40,
        "footer": ("seed 0",),
    }
    return DemoReport(**{**told, **changes})
