"""A certificate in a run folder: a row per image or draw, resumed after an interruption."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import torch

from scoreag.certify.generator_risk import GeneratorSpec
from scoreag.certify.smoothing import SmoothingConfig
from scoreag.certify.steered_generator import EVENTS
from scoreag.certify.transform_smoothing import TRANSFORMS, TransformConfig
from scoreag.core.types import Classifier
from scoreag.data.loading import Dataset
from scoreag.diffusion.prior import Prior
from scoreag.io.filesystem import write_json
from scoreag.io.manifest import to_jsonable
from scoreag.io.progress import progress_bar, tqdm
from scoreag.io.ray_tasks import RayOptions, run_on_ray
from scoreag.io.records import NONE_TYPE, Fields, Row, read_complete_rows
from scoreag.io.resume import Groups, resume_rows
from scoreag.io.run_dir import ROWS, RunFiles, open_run_dir, page_files
from scoreag.methods.run_task import rows_sha256, target_to_json
from scoreag.models.identity import (
    classifier_identity,
    describe_classifiers,
    describe_models,
    probe_classifier,
    tensors_sha256,
)
from scoreag.registry import load_component

STEERING_FIELDS = ("attack_scale", "energy_pace", "attack_interval", "x0_steps")  # of our attack
MEASURED_SECONDS = 3.0  # of a dry run
ProgressCallback: TypeAlias = Callable[[int], None]

SMOOTHING_TASK, GENERATOR_TASK = "certify smoothing", "certify generator"
TRANSFORM_TASKS = {name: f"certify {name}" for name in TRANSFORMS}
TABLES = (
    "certified", "rates", "classes", *(f"steered_{event}" for event in EVENTS),
    *(f"certified_{q.name}" for transform in TRANSFORMS.values() for q in transform.quantities),
)  # fmt: skip
FIGURES = ("certified", "agreement", *(f"steered_{event}" for event in EVENTS))
CERTIFICATE_FILES = RunFiles((ROWS, "summary.json", "report.html", *page_files(TABLES, FIGURES)))
_LABEL_FIELDS = {"image_id": (int,), "label": (int,)}
_VOTE_FIELDS = {
    **_LABEL_FIELDS,
    **dict.fromkeys(("top", "count"), (int,)),
    "predicted": (int, NONE_TYPE),
    "radius": (float, NONE_TYPE),
    "p_lower": (float,),
    "correct": (bool,),
}
ROW_FIELDS: dict[str, Fields] = {  # of the rows, by task
    GENERATOR_TASK: {
        **_LABEL_FIELDS,
        "predicted": (int,),
        "shown": (bool, NONE_TYPE),
        **dict.fromkeys(("budget", "energy"), (float, NONE_TYPE)),
    },
    SMOOTHING_TASK: _VOTE_FIELDS,
    **{
        TRANSFORM_TASKS[name]: {
            **_VOTE_FIELDS,
            **{quantity.name: (float, NONE_TYPE) for quantity in transform.quantities},
        }
        for name, transform in TRANSFORMS.items()
    },
}


def describe_smoothing(
    config: SmoothingConfig, prior: Prior, classifier: Classifier, data: Dataset
) -> dict[str, Any]:
    """The manifest of a certificate by smoothing: all that determines its rows."""
    models = describe_models(prior, classifier)
    return {"task": SMOOTHING_TASK, **_describe_inputs(config, data), **models}


def describe_transform(
    config: TransformConfig, classifier: Classifier, data: Dataset, device: torch.device
) -> dict[str, Any]:
    """The manifest of a certificate against a transform: all that determines its rows."""
    like = torch.zeros(1, *data.images.shape[1:], device=device)
    models = describe_classifiers(like, data.classes, classifier)
    task = TRANSFORM_TASKS[config.transform]
    return {"task": task, **_describe_inputs(config, data), **models}


def _describe_inputs(config: SmoothingConfig | TransformConfig, data: Dataset) -> dict[str, Any]:
    """The options, the seed and the data of a smoothing."""
    rows = {"ids": torch.tensor(data.image_ids), "images": data.images, "labels": data.labels}
    sha256 = tensors_sha256(rows)
    return {
        "config": to_jsonable({n: v for n, v in asdict(config).items() if n != "seed"}),
        "seed": config.seed,
        "data": {"name": data.name, "sha256": data.sha256, "rows_sha256": sha256},
    }


def describe_generator(
    spec: GeneratorSpec,
    purifier: str | None,
    batch_size: int,
    budgets: Sequence[float] = (),
    attacks: Sequence[GeneratorSpec] = (),
) -> dict[str, Any]:
    """The manifest of a bound on a generator: all that determines its rows.

    Args:
        purifier: the name of the purifier in ``spec``, if there is one.
        budgets: for which whoever steers the generator is bounded, too.
        attacks: steered samples beside those of ``spec``, each by a budget of its own.
    """
    task, defended = spec.task, spec.evaluated_classifier
    config: dict[str, Any] = {
        **task.config.to_dict("synthesize"), "alpha": spec.alpha, "batch_size": batch_size
    }  # fmt: skip
    if defended is not None and purifier:
        sampling = defended.config.sampling
        config["purifier"] = {
            "name": purifier,
            "draws": defended.config.draws,
            "aggregate": defended.config.aggregate,
            "max_memory": defended.config.max_memory,
            **sampling.subset(load_component("purifiers", purifier).CONFIG_FIELDS),
        }
    if budgets:
        config["energy"] = list(budgets)
    if attacks:
        first = attacks[0].task
        options = {name: getattr(first.config, name) for name in STEERING_FIELDS}
        config["attack"] = {**options, "images": len(first)}
    judges = {f"judge {i}": classifier_identity(judge) for i, judge in enumerate(spec.judges)}
    described = describe_models(task.prior, task.classifier)
    described["models"] |= to_jsonable(judges)
    like = torch.zeros(1, *task.prior.image_shape, device=task.prior.sigmas.device)
    described["probe"] |= {
        f"judge {i}": probe_classifier(judge, like) for i, judge in enumerate(spec.judges)
    }
    return {
        "task": GENERATOR_TASK,
        "config": to_jsonable(config),
        "seed": task.seed,
        "target": to_jsonable(target_to_json(task.target)),
        "data": {"rows_sha256": rows_sha256(task)},
        **described,
    }


def seconds_per_unit(
    compute_rows: Callable[[int, ProgressCallback], list[Row]], number: int
) -> float:
    """The time of a copy or an image, from a part of a batch; a short first part is warm-up."""
    for _ in range(2):
        began, done = time.perf_counter(), 0

        def advance(count: int, began: float = began) -> None:
            nonlocal done
            done += count
            if time.perf_counter() - began > MEASURED_SECONDS:
                raise _EnoughError

        with suppress(_EnoughError):
            compute_rows(number, advance)
        spent = time.perf_counter() - began
        if spent > MEASURED_SECONDS:
            break
    return spent / max(1, done)


class _EnoughError(Exception):
    """Enough has been measured."""


def run_certification(
    folder: Path,
    manifest: Mapping[str, Any],
    batches: Sequence[Sequence[int]],
    compute_rows: Callable[[int, ProgressCallback], list[Row]],
    summarize: Callable[[Sequence[Row]], dict[str, Any]],
    unit: str = "image",
    units_per_image: int = 1,
    progress: bool = True,
    overwrite: bool = False,
    on_start: Callable[[], None] = lambda: None,
    ray: RayOptions | None = None,
) -> dict[str, Any]:
    """Compute the rows that ``folder`` does not have yet; returns the summary.

    Args:
        batches: image ids that are computed and written together.
        compute_rows: the rows of a batch, by its number; it advances the progress bar.
        unit, units_per_image: what the progress bar counts, and how many per image.
        on_start: called after all checks, before the first row is computed.
        ray: the cluster that computes the batches, each on one thread; None is this process.
    """
    task, total = str(manifest["task"]), units_per_image * sum(map(len, batches))

    def compute(numbers: list[int], advance: ProgressCallback) -> Iterator[list[Row]]:
        return (compute_rows(number, advance) for number in numbers)

    def make_bar(done: int) -> "tqdm[Any]":
        initial = units_per_image * done
        return progress_bar(total=total, initial=initial, unit=unit, desc=task, show=progress)

    def execute(groups: Groups) -> Iterator[tuple[list[int], list[list[Row]]]]:
        assert ray is not None
        yield from run_on_ray(_compute_group, compute_rows, ((g, g) for g in groups), ray)

    with open_run_dir(folder, manifest, CERTIFICATE_FILES, overwrite) as run:
        on_start()
        resume_rows(
            folder, batches, ROW_FIELDS[task], compute, make_bar,
            execute=None if ray is None else execute,
        )  # fmt: skip
        rows = read_complete_rows(folder, ROW_FIELDS[task])
        summary = {"task": task, **summarize(rows)}
        write_json(folder / "summary.json", summary)
        run.finish()
    return summary


def _compute_group(
    compute_rows: Callable[[int, ProgressCallback], list[Row]], group: list[int]
) -> list[list[Row]]:
    """The rows of some batches, in a worker of Ray."""
    return [compute_rows(number, lambda count: None) for number in group]
