"""The tour: each task once, with the bundled models, and a page that shows what came of it."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from scoreag import api
from scoreag.attacks.pgd import Attack
from scoreag.core.noise import Noise
from scoreag.core.prior import Prior
from scoreag.core.types import Classifier, Labels
from scoreag.dataset import Dataset, balanced, read
from scoreag.files import write_text
from scoreag.images import check_images, to_float, to_uint8
from scoreag.jobs import Job
from scoreag.models import load_classifier, load_prior
from scoreag.report.run import read_run
from scoreag.report.tour import Shown, Tour, meaning
from scoreag.report.tour_page import tour_page, tour_text
from scoreag.runs.drive import drive
from scoreag.runs.rows import picture

MODEL, CLASSIFIER, JUDGE = "cifar10", "cifar10-resnet20", "cifar10-judge"
SAMPLES, SOURCE = "samples", "from the test set of CIFAR-10"  # where no others are given
REAL, PER_CLASS = 20, 2  # how many of them are used, and how many are drawn of each class
GIVEN = ("gat", "gap")  # the tasks that start from these images
MICRO_BATCH = 10  # divides both, so that nothing is padded


@dataclass(frozen=True)
class Cast:
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
    root: str | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Draw, transform and purify images: a table through ``say``, and the page's file.

    Args:
        data: labelled images of CIFAR-10's classes, as ``data.read`` takes them; 20 are used.
        root: where the official files of that data set are.
    """
    began, out = time.monotonic(), Path(out)
    cast = Cast(
        load_prior(MODEL, device),
        load_classifier(CLASSIFIER, device),
        load_classifier(JUDGE, device),
    )
    known = cast.prior.classes
    real = balanced(read(data or SAMPLES, root, progress=progress, classes=known))[:REAL]
    if data:
        say(f"read {real.summary}")
    made = tour(cast, real, out, seed=seed, progress=progress, overwrite=overwrite)
    took = f"Made in {time.monotonic() - began:.0f} s on {os.cpu_count()} cores."
    source = f"from {real.name}" if data else SOURCE
    made = replace(made, source=source, foot=(*made.foot, took))
    write_text(out / "report.html", tour_page(made))
    say("\n".join([tour_text(made), "", *meaning(made), "", f"To look at: {out / 'report.html'}"]))
    return out / "report.html"


def tour(
    cast: Cast,
    real: Dataset,
    out: Path,
    *,
    attack: Attack | None = None,
    per_class: int = PER_CLASS,
    seed: int = 0,
    progress: bool = True,
    overwrite: bool = False,
) -> Tour:
    """PGD and the three tasks, each of these a run in its own folder of ``out``."""
    labels, attack, prior = _labels_of(real), attack or Attack(), cast.prior
    pgd = _attacked(cast, real, labels, attack, seed)
    asked = torch.arange(len(prior.classes)).repeat_interleave(per_class)
    given: dict[str, Any] = {"seed": seed, "image_ids": real.image_ids}
    images = to_float(real.images)
    jobs = {
        "gat": api.transformation(
            prior, cast.classifier, images, labels, judge=cast.judge, **given
        ),
        "gap": api.purification(prior, to_float(pgd), cast.classifier, labels, **given),
        "gas": api.synthesis(prior, cast.classifier, asked, seed=seed, judge=cast.judge),
        "free": api.synthesis(
            prior, cast.classifier, asked, seed=seed, judge=cast.judge, strength=0.0
        ),
    }
    for folder in (out / task for task in jobs if (out / task).is_symlink()):
        raise ValueError(f"{folder} is a link, and a run is kept there; remove it, or give --out")
    name = {"name": real.name, "sha256": real.sha256}
    done = {
        task: _done(cast, job, out / task, name if task in GIVEN else {}, progress, overwrite)
        for task, job in jobs.items()
    }
    return Tour(
        classes=prior.classes,
        image_ids=real.image_ids,
        labels=labels,
        original=_shown(cast, real.images),
        pgd=_shown(cast, pgd),
        gat=done["gat"].shown,
        gap=done["gap"].shown,
        asked=asked,
        aimed=done["gas"].aimed,
        free=done["free"].shown,
        gas=done["gas"].shown,
        epsilon=attack.epsilon,
        pgd_steps=attack.steps,
        calls={task: found.calls for task, found in done.items()},
        classifier=cast.names[0],
        judge=cast.names[1],
        foot=(_foot(cast, seed),),
    )


@dataclass(frozen=True)
class Done:
    """A task's run: its saved images with the answers, the classes aimed at, calls an image."""

    shown: Shown
    aimed: Labels
    calls: float


def _done(
    cast: Cast, job: Job, folder: Path, data: dict[str, Any], progress: bool, overwrite: bool
) -> Done:
    """Compute what the run in ``folder`` lacks; what is in it."""
    about = {"data": data} if data else {}
    drive(job, folder, about, micro_batch=MICRO_BATCH, progress=progress, overwrite=overwrite)
    run = read_run(folder)
    aimed = [-1 if row["wrong"] is None else row["wrong"] for row in run.rows]
    saved = torch.stack([picture(folder, row) for row in run.rows])
    calls = float(run.summary["calls"]["per_image"])
    return Done(_shown(cast, saved), torch.tensor(aimed), calls)


def _labels_of(real: Dataset) -> Labels:
    if real.labels is None:
        raise ValueError(
            f"the images of {real.name} have no labels, and the tour asks who is right; "
            "give class folders, a labels.csv, or a range such as cifar10:test[0:20]"
        )
    return real.labels


def _attacked(cast: Cast, real: Dataset, labels: Labels, attack: Attack, seed: int) -> torch.Tensor:
    """PGD's images, rounded to 8 bits."""
    place = cast.prior.sigmas.device
    images = check_images(real.images, cast.prior.image_shape).to(place)
    noise = Noise(seed, real.image_ids)
    return to_uint8(attack(cast.classifier, images, labels.to(place), noise)).cpu()


@torch.no_grad()
def _shown(cast: Cast, images: torch.Tensor) -> Shown:
    """8-bit images with the answers of both networks."""
    seen = to_float(images).to(cast.prior.sigmas.device)
    classifier, judge = (net(seen).argmax(1).cpu() for net in (cast.classifier, cast.judge))
    return Shown(images, classifier, judge)


def _foot(cast: Cast, seed: int) -> str:
    model = cast.prior.origin.get("name", "a score model")
    return (
        f"Score model {model}; classifier {cast.names[0]}; judge {cast.names[1]}; seed {seed}. "
        "The runs, with every setting, are in the folders gat, gap, gas and free beside this page."
    )
