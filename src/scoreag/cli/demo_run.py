"""The demo: each task once, with the bundled models, and a page that shows what came of it."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from scoreag import load_classifier, load_prior
from scoreag.attacks.pgd import PGD
from scoreag.core.types import Classifier, Labels
from scoreag.data.loading import Dataset, interleave_classes, load_dataset
from scoreag.data.source import interleave_groups
from scoreag.diffusion.prior import Prior
from scoreag.io.filesystem import write_text
from scoreag.io.images import check_images, to_float, to_uint8
from scoreag.io.records import read_picture
from scoreag.methods.purification import build_purification
from scoreag.methods.run_task import run_task
from scoreag.methods.synthesis import build_synthesis
from scoreag.methods.task import TaskSpec
from scoreag.methods.transformation import build_transformation
from scoreag.report.demo import (
    DemoReport,
    PredictedImages,
    format_demo_text,
    render_demo_page,
    summary_sentences,
)
from scoreag.report.task_run import read_run

CIFAR10 = ("cifar10", "cifar10-resnet20", "cifar10-judge")  # score model, classifier, judge
FASHION = ("fashion-small", "fashion-cnn", "fashion-judge")
SAMPLE = "fashion-mnist:sample"  # real images that come with the package
N_REAL, PER_CLASS = 20, 2  # how many of them are used, and how many are generated of each class
BATCH_SIZE = 10  # divides both, so that nothing is padded


@dataclass(frozen=True)
class DemoModels:
    """Who takes part: the judge is asked at the end, and guides nothing."""

    prior: Prior
    classifier: Classifier
    judge: Classifier
    names: tuple[str, str]

    @torch.no_grad()
    def predict(self, images: torch.Tensor) -> PredictedImages:
        """8-bit images with the predictions of both networks."""
        pixels = to_float(images).to(self.prior.sigmas.device)
        predictions = (net(pixels).argmax(1).cpu() for net in (self.classifier, self.judge))
        return PredictedImages(images, *predictions)


def load_models(names: tuple[str, str, str], device: str) -> DemoModels:
    """The bundled models of these names."""
    prior, classifier, judge = names
    return DemoModels(
        load_prior(prior, device), load_classifier(classifier, device),
        load_classifier(judge, device), (classifier, judge),
    )  # fmt: skip


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
    """Generate, transform and purify images: a table through ``echo``, and the page's file.

    Args:
        data: labeled images of the classes of CIFAR-10, or Fashion-MNIST; 20 are used.  By default
            Fashion-MNIST's, which are bundled, and CIFAR-10's models generate.
    """
    began, out = time.monotonic(), Path(out)
    of_fashion = data is None or data.partition(":")[0] == "fashion-mnist"
    models = load_models(FASHION if of_fashion else CIFAR10, device)
    generator = load_models(CIFAR10, device) if data is None else models
    real = load_dataset(data or SAMPLE, data_dir, progress=progress, classes=models.prior.classes)
    if data is None:
        assert real.labels is not None
        real, source = real.select(interleave_groups(real.labels.tolist())), "of Fashion-MNIST"
    else:
        real, source = interleave_classes(real), f"from {real.name}"
    real = real[:N_REAL]
    echo(f"read {real.summary}")
    report = run_demo(
        models, real, out, generator=generator, seed=seed, progress=progress, overwrite=overwrite
    )
    took = f"Made in {time.monotonic() - began:.0f} s on {os.cpu_count()} cores."
    report = replace(report, source=source, footer=(*report.footer, took))
    page = out / "report.html"
    write_text(page, render_demo_page(report))
    text = [format_demo_text(report), "", *summary_sentences(report), "", f"To look at: {page}"]
    echo("\n".join(text))
    return page


def run_demo(
    models: DemoModels,
    dataset: Dataset,
    out: Path,
    *,
    generator: DemoModels | None = None,
    attack: PGD | None = None,
    per_class: int = PER_CLASS,
    seed: int = 0,
    progress: bool = True,
    overwrite: bool = False,
) -> DemoReport:
    """PGD and the three tasks, each of these a run in its own folder of ``out``.

    Args:
        generator: the models of the images that are generated; by default those of the real ones.
    """
    labels, attack, generator = _require_labels(dataset), attack or PGD(), generator or models
    pgd = _run_pgd(models, dataset, labels, attack, seed)
    sample_labels = torch.arange(len(generator.prior.classes)).repeat_interleave(per_class)
    keyed: dict[str, Any] = {"seed": seed, "image_ids": dataset.image_ids}
    tasks = {
        "gat": build_transformation(
            models.prior, models.classifier, to_float(dataset.images), labels,
            judge=models.judge, **keyed,
        ),
        "gap": build_purification(models.prior, to_float(pgd), models.classifier, labels, **keyed),
        **{
            name: build_synthesis(
                generator.prior, generator.classifier, sample_labels, seed=seed,
                judge=generator.judge, attack_scale=scale,
            )
            for name, scale in (("gas", None), ("free", 0.0))
        },
    }  # fmt: skip
    for folder in (out / task for task in tasks if (out / task).is_symlink()):
        raise ValueError(f"{folder} is a link, and a run is kept there; remove it, or give --out")
    provenance = {"data": {"name": dataset.name, "sha256": dataset.sha256}}
    runs = {
        name: _run_task(
            models if name in ("gat", "gap") else generator, task, out / name,
            provenance if task.images is not None else {}, progress, overwrite,
        )
        for name, task in tasks.items()
    }  # fmt: skip
    other = generator is not models
    return DemoReport(
        classes=models.prior.classes,
        image_ids=dataset.image_ids,
        labels=labels,
        original=models.predict(dataset.images),
        pgd=models.predict(pgd),
        gat=runs["gat"].images,
        gap=runs["gap"].images,
        sample_labels=sample_labels,
        targets=runs["gas"].targets,
        unguided=runs["free"].images,
        gas=runs["gas"].images,
        eps=attack.eps,
        pgd_steps=attack.steps,
        nfe={task: run.nfe for task, run in runs.items()},
        classifier=models.names[0],
        judge=models.names[1],
        generated_classes=generator.prior.classes if other else (),
        generated_classifier=generator.names[0] if other else "",
        footer=(*(_describe(one) for one in dict.fromkeys((models, generator))), _footer(seed)),
    )


@dataclass(frozen=True)
class DemoRun:
    """A task's run: its saved images with the predictions, the target classes, NFE per image."""

    images: PredictedImages
    targets: Labels
    nfe: float


def _run_task(
    models: DemoModels,
    task: TaskSpec,
    folder: Path,
    provenance: dict[str, Any],
    progress: bool,
    overwrite: bool,
) -> DemoRun:
    """Compute what the run in ``folder`` lacks; what is in it."""
    run_task(
        task, folder, provenance, batch_size=BATCH_SIZE, progress=progress, overwrite=overwrite
    )
    run = read_run(folder)
    targets = [-1 if row["target"] is None else row["target"] for row in run.rows]
    saved = torch.stack([read_picture(folder, row) for row in run.rows])
    nfe = float(run.summary["nfe"]["per_image"])
    return DemoRun(models.predict(saved), torch.tensor(targets), nfe)


def _require_labels(dataset: Dataset) -> Labels:
    if dataset.labels is None:
        raise ValueError(
            f"the images of {dataset.name} have no labels, and the demo asks who is right; "
            "give class folders, a labels.csv, or a range such as cifar10:test[0:20]"
        )
    return dataset.labels


def _run_pgd(
    models: DemoModels, dataset: Dataset, labels: Labels, attack: PGD, seed: int
) -> torch.Tensor:
    """PGD's images, rounded to 8 bits."""
    device = models.prior.sigmas.device
    images = check_images(dataset.images, models.prior.image_shape).to(device)
    perturbed = attack(models.classifier, images, labels.to(device), seed, dataset.image_ids)
    return to_uint8(perturbed).cpu()


def _describe(models: DemoModels) -> str:
    prior = models.prior.metadata.get("name", "a score model")
    classifier, judge = models.names
    return f"Score model {prior}; classifier {classifier}; reference classifier {judge}."


def _footer(seed: int) -> str:
    return (
        f"Seed {seed}. The runs, with their configuration, are in the folders gat, gap, gas and "
        "free beside this page."
    )
