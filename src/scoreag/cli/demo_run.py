"""The tour: each task once, with the bundled models, and a page that shows what came of it."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from scoreag.attacks.pgd import PGD
from scoreag.classifiers.loading import load_classifier
from scoreag.core.types import Classifier, Labels
from scoreag.data.loading import Dataset, interleave_classes, load_dataset
from scoreag.diffusion.prior import Prior
from scoreag.io.filesystem import write_text
from scoreag.io.images import check_images, to_float, to_uint8
from scoreag.io.records import read_picture
from scoreag.methods.purification import build_purification
from scoreag.methods.run_task import run_task
from scoreag.methods.synthesis import build_synthesis
from scoreag.methods.task import TaskSpec
from scoreag.methods.transformation import build_transformation
from scoreag.models.loading import load_prior
from scoreag.report.demo import (
    DemoReport,
    PredictedImages,
    format_demo_text,
    render_demo_page,
    summary_sentences,
)
from scoreag.report.task_run import read_run

PRIOR, CLASSIFIER, JUDGE = "cifar10", "cifar10-resnet20", "cifar10-judge"
SAMPLE_DATA, SAMPLE_SOURCE = (
    "foolbox-samples",
    "from the test set of CIFAR-10",
)  # where no others are given
N_REAL, PER_CLASS = 20, 2  # how many of them are used, and how many are drawn of each class
IMAGE_TASKS = ("gat", "gap")  # the tasks that start from these images
BATCH_SIZE = 10  # divides both, so that nothing is padded


@dataclass(frozen=True)
class DemoModels:
    """Who takes part: the judge answers at the end and is asked nothing before."""

    prior: Prior
    classifier: Classifier
    judge: Classifier
    names: tuple[str, str] = (CLASSIFIER, JUDGE)


def demo(
    out: str | Path,
    data: str | None = None,
    progress: bool = True,
    *,
    device: str = "auto",
    seed: int = 0,
    overwrite: bool = False,
    data_dir: str | None = None,
    echo: Callable[[str], None] = print,
) -> Path:
    """Draw, transform and purify images: a table through ``say``, and the page's file.

    Args:
        data: labelled images of CIFAR-10's classes, as ``data.read`` takes them; 20 are used.
        data_dir: where the official files of that data set are.
    """
    began, out = time.monotonic(), Path(out)
    cast = DemoModels(
        load_prior(PRIOR, device),
        load_classifier(CLASSIFIER, device),
        load_classifier(JUDGE, device),
    )
    known = cast.prior.classes
    real = interleave_classes(
        load_dataset(data or SAMPLE_DATA, data_dir, progress=progress, classes=known)
    )[:N_REAL]
    if data:
        echo(f"read {real.summary}")
    made = run_demo(cast, real, out, seed=seed, progress=progress, overwrite=overwrite)
    took = f"Made in {time.monotonic() - began:.0f} s on {os.cpu_count()} cores."
    source = f"from {real.name}" if data else SAMPLE_SOURCE
    made = replace(made, source=source, footer=(*made.footer, took))
    write_text(out / "report.html", render_demo_page(made))
    echo(
        "\n".join(
            [
                format_demo_text(made),
                "",
                *summary_sentences(made),
                "",
                f"To look at: {out / 'report.html'}",
            ]
        )
    )
    return out / "report.html"


def run_demo(
    demo_models: DemoModels,
    dataset: Dataset,
    out: Path,
    *,
    attack: PGD | None = None,
    per_class: int = PER_CLASS,
    seed: int = 0,
    progress: bool = True,
    overwrite: bool = False,
) -> DemoReport:
    """PGD and the three tasks, each of these a run in its own folder of ``out``."""
    labels, attack, prior = _require_labels(dataset), attack or PGD(), demo_models.prior
    pgd = _run_pgd(demo_models, dataset, labels, attack, seed)
    asked = torch.arange(len(prior.classes)).repeat_interleave(per_class)
    given: dict[str, Any] = {"seed": seed, "image_ids": dataset.image_ids}
    images = to_float(dataset.images)
    jobs = {
        "gat": build_transformation(
            prior, demo_models.classifier, images, labels, judge=demo_models.judge, **given
        ),
        "gap": build_purification(prior, to_float(pgd), demo_models.classifier, labels, **given),
        "gas": build_synthesis(
            prior, demo_models.classifier, asked, seed=seed, judge=demo_models.judge
        ),
        "free": build_synthesis(
            prior,
            demo_models.classifier,
            asked,
            seed=seed,
            judge=demo_models.judge,
            attack_scale=0.0,
        ),
    }
    for folder in (out / task for task in jobs if (out / task).is_symlink()):
        raise ValueError(f"{folder} is a link, and a run is kept there; remove it, or give --out")
    name = {"name": dataset.name, "sha256": dataset.sha256}
    done = {
        task: _run_task(
            demo_models, job, out / task, name if task in IMAGE_TASKS else {}, progress, overwrite
        )
        for task, job in jobs.items()
    }
    return DemoReport(
        classes=prior.classes,
        image_ids=dataset.image_ids,
        labels=labels,
        original=_predict(demo_models, dataset.images),
        pgd=_predict(demo_models, pgd),
        gat=done["gat"].images,
        gap=done["gap"].images,
        sample_labels=asked,
        targets=done["gas"].targets,
        unguided=done["free"].images,
        gas=done["gas"].images,
        eps=attack.eps,
        pgd_steps=attack.steps,
        nfe={task: found.nfe for task, found in done.items()},
        classifier=demo_models.names[0],
        judge=demo_models.names[1],
        footer=(_footer(demo_models, seed),),
    )


@dataclass(frozen=True)
class DemoRun:
    """A task's run: its saved images with the answers, the classes aimed at, calls an image."""

    images: PredictedImages
    targets: Labels
    nfe: float


def _run_task(
    demo_models: DemoModels,
    job: TaskSpec,
    folder: Path,
    data: dict[str, Any],
    progress: bool,
    overwrite: bool,
) -> DemoRun:
    """Compute what the run in ``folder`` lacks; what is in it."""
    about = {"data": data} if data else {}
    run_task(job, folder, about, batch_size=BATCH_SIZE, progress=progress, overwrite=overwrite)
    run = read_run(folder)
    aimed = [-1 if row["target"] is None else row["target"] for row in run.rows]
    saved = torch.stack([read_picture(folder, row) for row in run.rows])
    calls = float(run.summary["nfe"]["per_image"])
    return DemoRun(_predict(demo_models, saved), torch.tensor(aimed), calls)


def _require_labels(dataset: Dataset) -> Labels:
    if dataset.labels is None:
        raise ValueError(
            f"the images of {dataset.name} have no labels, and the tour asks who is right; "
            "give class folders, a labels.csv, or a range such as cifar10:test[0:20]"
        )
    return dataset.labels


def _run_pgd(
    demo_models: DemoModels, dataset: Dataset, labels: Labels, attack: PGD, seed: int
) -> torch.Tensor:
    """PGD's images, rounded to 8 bits."""
    place = demo_models.prior.sigmas.device
    images = check_images(dataset.images, demo_models.prior.image_shape).to(place)
    adversarial = attack(demo_models.classifier, images, labels.to(place), seed, dataset.image_ids)
    return to_uint8(adversarial).cpu()


@torch.no_grad()
def _predict(demo_models: DemoModels, images: torch.Tensor) -> PredictedImages:
    """8-bit images with the answers of both networks."""
    seen = to_float(images).to(demo_models.prior.sigmas.device)
    classifier, judge = (
        net(seen).argmax(1).cpu() for net in (demo_models.classifier, demo_models.judge)
    )
    return PredictedImages(images, classifier, judge)


def _footer(demo_models: DemoModels, seed: int) -> str:
    model = demo_models.prior.metadata.get("name", "a score model")
    return (
        f"Score model {model}; classifier {demo_models.names[0]}; judge {demo_models.names[1]}; seed {seed}. "
        "The runs, with every setting, are in the folders gat, gap, gas and free beside this page."
    )
