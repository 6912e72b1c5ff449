"""Rows of a made-up cell, whose every figure can be counted by hand."""

from scoreag.assess.experiments import Cell
from scoreag.assess.metrics import to_columns


def cell(**changes):
    told = {
        "name": "s/net/none/pgd", "group": "s", "data": "d", "classifier": "net", "attack": "pgd",
        "component": "pgd", "images": 4, "classes": ("cat", "dog", "ship"),
        "transfer_targets": ("other",), "reference_classifiers": ("judge",),
        "options": {"norm": "Linf", "eps": 0.1},
    }  # fmt: skip
    return Cell(**{**told, **changes})


def row(position, label, before, saved, judge, **changes):
    told = {
        "image_id": 10 + position, "position": position, "seed": 0, "label": label, "target": None,
        "predictions": {"before": before, "float": saved, "saved": saved},
        "confidence": {"before": 0.9, "saved": 0.6},
        **dict.fromkeys(("success_float", "success", "targeted_success"), saved != label),
        "judges": {"judge": {"before": label, "saved": judge}},
        "transfer": {"other": {"before": label, "saved": saved if position else label}},
        "nfe": 2.0, "restarts": 0, "guidance_skipped": 0, "forwards": 4.0, "backwards": 4.0,
        "gradient_norm": 0.5, "psnr": 30.0, "ssim": 0.5 + 0.1 * position,
        "distances": {"l0": 1.0, "l1": 1.0, "l2": 1.0 + position, "linf": 0.1},
        "file": f"f{position}", "sha256": "0",
    }  # fmt: skip
    return told | changes


def four(**changes):
    """Right before: 0, 1, 2.  Fooled: 1, 2 and 3.  The judge sees the class in 0, 1 and 3."""
    return [
        row(0, 0, 0, 0, 0, **changes),
        row(1, 1, 1, 2, 1, **changes),
        row(2, 2, 2, 0, 0, **changes),
        row(3, 1, 0, 0, 1, **changes),
    ]


def four_columns(**changes):
    return to_columns(four(**changes))
