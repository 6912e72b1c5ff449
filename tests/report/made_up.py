"""A tour whose every answer is written down here: 4 real images, 3 drawn ones."""

import torch

from scoreag.report.demo import DemoReport, PredictedImages

REAL = torch.arange(4 * 3 * 5 * 5, dtype=torch.int64).remainder(200).byte().view(4, 3, 5, 5)


def shown(classifier, judge, moved=0, count=4):
    images = REAL[:count] + moved
    return PredictedImages(images, torch.tensor(classifier), torch.tensor(judge))


def made_up(**changes):
    """Right before: images 0 to 2. PGD fools 0 and 1, GAT 0, 1 and 2; GAP brings 1 back."""
    told = {
        "classes": ("cat", "dog <b>", "ship"),
        "image_ids": (10, 11, 12, 13),
        "labels": torch.tensor([0, 1, 2, 0]),
        "original": shown([0, 1, 2, 1], [0, 1, 2, 0]),
        "pgd": shown([1, 0, 2, 1], [0, 1, 2, 0], moved=8),
        "gat": shown([2, 2, 0, 0], [0, 1, 1, 0], moved=40),
        "gap": shown([2, 1, 2, 0], [0, 1, 2, 0], moved=5),
        "sample_labels": torch.tensor([0, 1, 2]),
        "targets": torch.tensor([1, 2, -1]),
        "unguided": shown([0, 1, 0], [0, 1, 1], count=3),
        "gas": shown([1, 1, 0], [0, 1, 0], count=3),
        "eps": 8 / 255,
        "pgd_steps": 40,
        "nfe": {"gat": 24.0, "gap": 12.4, "gas": 36.0, "free": 35.0},
        "classifier": "net <i>",
        "footer": ("seed 0",),
    }
    return DemoReport(**{**told, **changes})
