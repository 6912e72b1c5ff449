"""Folders of made-up rows, as many as one likes: a run, and an assessment, by their own writers."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from scoreag.assess import runner
from scoreag.assess.experiments import Cell
from scoreag.assess.runner import SHARD_IMAGES
from scoreag.assess.score_batch import ScoredBatch
from scoreag.io.filesystem import write_json
from scoreag.io.images import encode_png
from scoreag.io.manifest import FORMAT, MANIFEST
from scoreag.io.records import Row
from scoreag.methods.result import Result

SHAPE = (3, 32, 32)
CLASSES = tuple(f"class {i}" for i in range(10))
FEATURES = 256  # of an image, as the last layer of the bundled judge has
ATTACKS = ("pgd", "gat", "square")
VICTIM = "net"


def write_run(folder: Path, count: int) -> None:
    """A run of transform: rows, pictures, originals; without its page."""
    source = torch.Generator().manual_seed(0)
    originals = torch.rand(count, *SHAPE, generator=source)
    change = 0.1 * torch.randn(count, *SHAPE, generator=source)
    label, before, saved = _answers(count, source)
    zero = torch.zeros(count, dtype=torch.int64)
    Result(
        "transform", (originals + change).clamp(0, 1), torch.arange(count), zero + 24, zero, zero,
        originals=originals, labels=label, targets=zero - 1, clean_predictions=before,
        predictions=saved,
        success_float=saved != label, success=saved != label, targeted_success=saved != label,
    ).save(folder)  # fmt: skip


def write_assessment(folder: Path, count: int) -> None:
    """One set with one victim: its images as they are, and under three attacks."""
    cells = [_cell("clean", count), *(_cell(name, count) for name in ATTACKS)]
    for seed, cell in enumerate(cells):
        runner.write_cell(folder, cell)
        for shard in _shards(cell, torch.Generator().manual_seed(seed)):
            runner.write_shard(folder, cell, shard)
    write_json(folder / runner.CELLS_FILE, {cell.name: cell.key for cell in cells})
    told = {"format": FORMAT, "task": "assess made up", "plan": {"images": count}, "device": "cpu"}
    write_json(folder / MANIFEST, told)


def _cell(attack: str, count: int) -> Cell:
    return Cell(
        name=f"s/{VICTIM}/none/{attack}" if attack != "clean" else "s/clean",
        group="s", data="made up", classifier=VICTIM, attack=attack, component=attack, images=count,
        reference_classifiers=("judge",), transfer_targets=("other",), feature_extractor="judge",
        classes=CLASSES,
    )  # fmt: skip


def _answers(count: int, source: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Labels; answers that are right nine times in ten; and half of them other ones."""
    label = torch.randint(10, (count,), generator=source)
    off = torch.rand(2, count, generator=source)
    return label, (label + (off[0] > 0.9)) % 10, (label + (off[1] > 0.5)) % 10


def _shards(cell: Cell, source: torch.Generator) -> Iterator[ScoredBatch]:
    label, before, saved = (part.tolist() for part in _answers(cell.images, source))
    lengths = torch.rand(cell.images, 4, generator=source, dtype=torch.float64).tolist()
    for begin in range(0, cell.images, SHARD_IMAGES):
        piece = range(begin, min(begin + SHARD_IMAGES, cell.images))
        rows = [
            _row(cell, i, label[i], before[i], before[i] if cell.attack == "clean" else saved[i])
            | _figures(lengths[i])
            for i in piece
        ]
        pictures = torch.randint(0, 256, (len(rows), *SHAPE), generator=source, dtype=torch.uint8)
        files = {row["file"]: encode_png(one) for row, one in zip(rows, pictures, strict=True)}
        originals = {row["original_file"]: next(iter(files.values())) for row in rows}
        features = torch.randn(len(rows), FEATURES, generator=source)
        yield ScoredBatch(rows, originals | files, features, 1.0, 2**20)


def _row(cell: Cell, i: int, label: int, before: int, saved: int) -> Row:
    fooled = saved != label
    picture = f"{i:06d}.png"
    return {
        "image_id": i, "position": i, "seed": 0, "label": label, "target": None,
        "predictions": {"before": before, "float": saved, "saved": saved},
        "success_float": fooled, "success": fooled, "targeted_success": fooled,
        "judges": {"judge": {"before": label, "saved": before}},
        "transfer": {"other": {"before": before, "saved": saved}},
        "nfe": 0.0, "restarts": 0, "guidance_skipped": 0, "forwards": 40.0, "backwards": 40.0,
        "is_deterministic": {VICTIM: True, "other": True},
        "sha256": "0" * 64, "original_sha256": "0" * 64,
        "file": f"cells/{cell.key}/images/{picture}", "original_file": f"originals/data/{picture}",
    }  # fmt: skip


def _figures(numbers: list[float]) -> Row:
    a, b, c, d = (round(number, 6) for number in numbers)
    return {
        "confidence": {"before": a, "saved": b},
        "gradient_norm": c,
        "distances": {"l0": float(round(1000 * a)), "l1": 60 * b, "l2": 2 * c, "linf": d / 10},
        "psnr": 20 + 10 * a,
        "ssim": b,
        "lpips": c / 10,
    }
