"""Runs and studies small enough for a test: four classes, images of 3 x 8 x 8 that all differ."""

from pathlib import Path

import torch

from scoreag.methods.result import Result
from scoreag.study.design import Settings, Study, design_study
from scoreag.study.pictures import Pool, read_runs

CLASSES = ("cat", "dog", "ship", "traffic_light")
DATA = "cifar10:test[0:400]"


def images(count: int, seed: int) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 8, 8), generator=source).float() / 255


def result(task: str, count: int, seed: int, wrong_before: int = 0) -> Result:
    """Images of labels 0, 1, 2, 3, 0, ...; the first ``wrong_before`` are misclassified before.

    Every second image of an attack fools the classifier; the judge sees every label but that of
    image 4.
    """
    zeros = torch.zeros(count, dtype=torch.long)
    labels = torch.arange(count) % 4
    clean = labels.clone()
    clean[:wrong_before] = (clean[:wrong_before] + 1) % 4
    predictions = torch.where(torch.arange(count) % 2 == 0, (labels + 1) % 4, labels)
    judged = labels.clone()
    judged[4:5] = (judged[4:5] + 1) % 4
    given = task != "synthesize"
    return Result(
        task, images(count, seed), torch.arange(count), zeros, zeros, zeros,
        originals=images(count, 0) if given else None, labels=labels,
        clean_predictions=clean if given else None, predictions=predictions,
        success=predictions != labels, success_float=predictions != labels,
        targeted_success=predictions != labels, judge={"name": "a judge"},
        judge_predictions=judged, judge_clean_predictions=labels if given else None,
    )  # fmt: skip


def write_run(folder: Path, task: str, count: int = 48, seed: int = 1, **more: object) -> Path:
    """A run's folder; ``wrong_before`` as above, ``classes`` and ``data`` of its manifest."""
    classes, data = more.pop("classes", CLASSES), more.pop("data", DATA)
    provenance = {"classes": list(classes), "data": {"name": data}}
    return result(task, count, seed, **more).save(folder, provenance=provenance)


def write_runs(folder: Path) -> list[Path]:
    """Two attacks on the same images, and generated ones."""
    return [
        write_run(folder / "gat", "transform", seed=1),
        write_run(folder / "strong", "transform", seed=2),
        write_run(folder / "gas", "synthesize", seed=3),
    ]


def read_pool(folder: Path) -> Pool:
    return read_runs(write_runs(folder))


def make_study(pool: Pool, design: str = "name", **settings: object) -> Study:
    """A study of 8 images a condition, with the pool's own images for checks and practice."""
    easy = pool.pictures.get("clean", ())
    return design_study(pool, easy, Settings(design, **{"images": 8, "raters": 6, **settings}))
