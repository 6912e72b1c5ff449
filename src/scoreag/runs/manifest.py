"""What determines a run, and what was around it: the manifest, and how two of them differ."""

import hashlib
import json
import math
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scoreag.core.algorithm import ALGORITHM, LEGACY_ALGORITHM
from scoreag.defenses.purified_classifier import DefenseConfig, PurifiedClassifier
from scoreag.methods.task import TaskSpec
from scoreag.models.model_cards import model_identity, tensors_sha256
from scoreag.runs.probe import probe_classifier

FORMAT = 1  # of a run's folder; raised when an older reader would misread it
NON_IDENTITY_KEYS = (
    "format",
    "command",
    "versions",
    "machine",
    "started",
    "finished",
    "probe",
    "seal",
)


def build_manifest(
    job: TaskSpec, provenance: Mapping[str, Any], write_every: int, batch_size: int
) -> dict[str, Any]:
    """All that determines the images of ``job``, and the circumstances of computing them.

    Args:
        provenance: what a job does not know: ``command``, the ``data``'s name, the word for
            ``target``, the ``judge``'s accuracy by its card.
        batch_size: images a forward pass, on which the rounding depends; 0: ``write_every``.
    """
    models = {"score-model": model_identity(job.prior.model, job.prior.metadata)}
    if job.classifier is not None:
        models["classifier"] = classifier_identity(job.classifier)
    if job.judge is not None:
        models["judge"] = {**classifier_identity(job.judge), **provenance.get("judge", {})}
    return {
        "format": FORMAT,
        "command": provenance.get("command"),
        "task": job.task,
        "config": to_jsonable(job.config.to_dict(job.task)),
        "seed": job.seed,
        "target": provenance.get("target", target_word(job.target)),
        "batch_size": batch_size,
        **({} if batch_size else {"write_every": write_every}),
        "device": job.prior.sigmas.device.type,
        "data": {**provenance.get("data", {}), "rows_sha256": rows_sha256(job)},
        "images": len(job),
        "image_ids": format_spans(job.image_ids),
        "labels": None if job.labels is None else sorted(set(job.labels.tolist())),
        "classes": list(job.prior.classes),
        "models": to_jsonable(models),
        "probe": _probe(job),
        **describe_environment(),
    }


def _probe(job: TaskSpec) -> dict[str, Any]:
    like = job.prior.sigmas.new_zeros(1, *job.prior.image_shape, dtype=job.prior.dtype)
    asked = {"classifier": job.classifier, "judge": job.judge}
    return {role: probe_classifier(one, like) for role, one in asked.items() if one is not None}


def describe_environment() -> dict[str, Any]:
    """The version of what is computed; and versions, machine and time, which may change between
    two halves of a run."""
    return {
        "algorithm": ALGORITHM,
        "versions": {
            "scoreag": import_module("scoreag").__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "machine": {
            "system": platform.platform(),
            "processor": cpu_name(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
        "started": utc_now(),
        "finished": None,
    }


def diff_manifests(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """In words, each setting whose value differs, digests last; what is incidental may."""
    was, wanted = dict(flatten(old)), dict(flatten(new))
    if "algorithm" in wanted:
        was.setdefault("algorithm", LEGACY_ALGORITHM)
    names = [n for n in {**was, **wanted} if n.split(".")[0] not in NON_IDENTITY_KEYS]
    differ = [n for n in names if was.get(n) != wanted.get(n)]
    # first what the user cannot mend; last digests, as what they are digests of says more
    differ.sort(key=lambda n: (n != "algorithm", n.endswith("sha256")))
    return [f"{n} was {was.get(n)!r} and is now {wanted.get(n)!r}" for n in differ]


def version_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """In words, the versions of this package and of torch that have changed since."""
    pairs = [(name, *(dict(t.get("versions") or {}).get(name) for t in (old, new)))
             for name in ("scoreag", "torch")]  # fmt: skip
    return [f"{name} {was} is now {now}" for name, was, now in pairs if was and was != now]


def flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested tables, with their names joined by dots."""
    for name, value in table.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def classifier_identity(classifier: Any) -> dict[str, Any]:
    """A classifier with its normalisation, and with the settings of the defenses inside of it:
    both decide what it says as its weights do."""
    known = model_identity(classifier, getattr(classifier, "metadata", {}))
    normalisation = {n: getattr(classifier, n) for n in ("mean", "std") if hasattr(classifier, n)}
    parts = classifier.modules() if isinstance(classifier, nn.Module) else ()
    defenses = [
        _defense_identity(part.config) for part in parts if isinstance(part, PurifiedClassifier)
    ]
    return known | normalisation | ({"defenses": defenses} if defenses else {})


def _defense_identity(defense: DefenseConfig) -> dict[str, Any]:
    """All that determines what a defense answers, but its classifier, which is a part of it."""
    chosen = {
        name: getattr(defense, name) for name in ("seed", "draws", "aggregate", "backward", "bf16")
    }
    return {
        "purifier": defense.purify.__module__.rpartition(".")[2],
        "config": asdict(defense.sampling),
        "score-model": model_identity(defense.prior.model, defense.prior.metadata),
        **chosen,
    }


def compute_seal(manifest: Mapping[str, Any]) -> str:
    """The digest of all that determines a run; it binds the rows of the run to its manifest."""
    fixed = {name: value for name, value in manifest.items() if name not in NON_IDENTITY_KEYS}
    text = json.dumps(fixed, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def format_spans(image_ids: Sequence[int]) -> str:
    """Image ids in short: ``0-63,70``."""
    found: list[list[int]] = []
    for i in sorted(image_ids):
        if found and i == found[-1][1] + 1:
            found[-1][1] = i
        else:
            found.append([i, i])
    return ",".join(f"{first}-{last}" if first < last else f"{first}" for first, last in found)


def parse_spans(spans: str) -> list[int]:
    """The image ids of ``spans``."""
    ends = [(first, last or first) for first, _, last in
            (part.partition("-") for part in spans.split(",") if part)]  # fmt: skip
    return [i for first, last in ends for i in range(int(first), int(last) + 1)]


def rows_sha256(job: TaskSpec) -> str:
    """The digest of what is given for each image: its id, label, target and pixels."""
    given: dict[str, Any] = {"ids": torch.tensor(job.image_ids)}
    for name in ("labels", "target", "images"):
        value = getattr(job, name)
        if isinstance(value, Tensor):
            given[name] = value
    return tensors_sha256(given)


def target_word(target: Tensor | str | None) -> Any:
    """The target of a job as JSON keeps it."""
    return target.tolist() if isinstance(target, Tensor) else target


def to_jsonable(value: Any) -> Any:
    """As JSON would give it back: lists for tuples, text for paths and for infinity."""
    if isinstance(value, Mapping):
        return {str(name): to_jsonable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, int | float | str | bool | None) else str(value)


def cpu_name() -> str:
    """The processor's name, as the system tells it."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text(errors="replace").splitlines() if table.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def utc_now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
