"""The manifest of a run: what determines its results, its environment, and a seal over these."""

import hashlib
import json
import math
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from scoreag.core import ALGORITHM, LEGACY_ALGORITHM
from scoreag.io.filesystem import check_regular_file, write_json

MANIFEST = "manifest.json"
FORMAT = 2  # of a run's folder; raised when a reader of another format would misread it; 1: v0.1
SEAL = "seal"
NON_IDENTITY_KEYS = (
    "format", "command", "versions", "machine", "started", "finished", "card", "probe", "merged",
    SEAL,
)  # fmt: skip
LOGIT_TOLERANCE = 1e-3  # of the largest logit: other machines round differently


def describe_environment() -> dict[str, Any]:
    """The algorithm, and the environment, which may change when a run is resumed."""
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


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run's folder."""
    file = folder / MANIFEST
    check_regular_file(file)
    if not file.is_file():
        raise ValueError(
            f"{folder} holds no run: there is no {MANIFEST} in it; give a run's folder"
        )
    try:
        manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        version = manifest["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} is no manifest of a run") from error
    if version != FORMAT:
        raise ValueError(
            f"{file} has format {version}, and this version writes {FORMAT}; give another --out"
        )
    return manifest


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest into the folder of its run."""
    write_json(folder / MANIFEST, manifest)


def compute_seal(manifest: Mapping[str, Any]) -> str:
    """The digest of all that determines a run; each row's digest depends on it."""
    identity = {name: value for name, value in manifest.items() if name not in NON_IDENTITY_KEYS}
    text = json.dumps(identity, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_seal(manifest: Mapping[str, Any], folder: Path) -> str:
    """The seal that a run's manifest holds."""
    seal = manifest.get(SEAL)
    if not isinstance(seal, str):
        raise ValueError(
            f"{folder} was written by an earlier version, whose rows have no digests; use that "
            "version, or give the command of the run again with --overwrite"
        )
    return seal


def verify_seal(folder: Path) -> str:
    """The seal of the run in ``folder``, to which the digest of each of its rows is bound."""
    manifest = read_manifest(folder)
    seal = read_seal(manifest, folder)
    if seal != compute_seal(manifest):
        raise ValueError(
            f"{folder / MANIFEST} is not as the run wrote it; give the command of the run again "
            "with --overwrite"
        )
    return seal


def diff_manifests(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """A line for each entry that differs, digests last; the environment may differ."""
    before, after = dict(flatten(old)), dict(flatten(new))
    if "algorithm" in after:
        before.setdefault("algorithm", LEGACY_ALGORITHM)
    names = [n for n in {**before, **after} if n.split(".")[0] not in NON_IDENTITY_KEYS]
    changed = [n for n in names if before.get(n) != after.get(n)]
    # the algorithm first, as the user cannot change it; digests last, as they explain nothing
    # and after it the shard, which changes other entries
    changed.sort(key=lambda n: (n != "algorithm", n[:6] != "shard.", n.endswith("sha256")))
    return [f"{n} was {before.get(n)!r} and is now {after.get(n)!r}" for n in changed]


def version_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """A line for each version that differs, so that results may be rounded differently."""
    pairs = [
        (name, *(table.get("versions", {}).get(name) for table in (old, new)))
        for name in ("scoreag", "torch")
    ]
    return [f"{name} {was} is now {now}" for name, was, now in pairs if was and was != now]


def changed_classifiers(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The roles of the classifiers whose probes in two manifests differ."""
    before, after = old.get("probe"), new.get("probe")
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return [] if before is None or after is None else ["classifier"]
    return [role for role in after if probes_differ(before.get(role), after[role])]


def probes_differ(before: Any, after: Any) -> bool:
    """Whether two probes are of different classifiers; None, without a probe, matches any."""
    return before is not None and after is not None and not logits_close(before, after)


def logits_close(one: Any, other: Any, tolerance: float = LOGIT_TOLERANCE) -> bool:
    """Whether two tables of logits are equal up to rounding; False for anything else."""
    try:
        a, b = (torch.tensor(table, dtype=torch.float64) for table in (one, other))
    except (TypeError, ValueError):
        return False
    if a.shape != b.shape:
        return False
    return bool(((a - b).abs() <= tolerance * (1 + b.abs().max())).all())


def flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested tables, with their names joined by dots."""
    for name, value in table.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def to_jsonable(value: Any) -> Any:
    """The value as JSON types: lists for tuples, text for paths and for infinity."""
    if isinstance(value, Mapping):
        return {str(name): to_jsonable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, int | float | str | bool | None) else str(value)


def format_spans(image_ids: Sequence[int]) -> str:
    """Image ids as ranges: ``0-63,70``."""
    spans: list[list[int]] = []
    for i in sorted(image_ids):
        if spans and i == spans[-1][1] + 1:
            spans[-1][1] = i
        else:
            spans.append([i, i])
    return ",".join(f"{first}-{last}" if first < last else f"{first}" for first, last in spans)


def parse_spans(spans: str) -> list[int]:
    """The image ids of ``spans``."""
    ends = [part.partition("-") for part in spans.split(",") if part]
    return [i for first, _, last in ends for i in range(int(first), int(last or first) + 1)]


def cpu_name() -> str:
    """The processor's name."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text(errors="replace").splitlines() if table.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def utc_now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
