"""Join the shards of a task: the folder of the run that was never split.

Rows and pictures are bit-identical to those of a run without shards, which resumes the result.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import copyfile
from typing import Any

from scoreag.core import ALGORITHM
from scoreag.core.batching import batch_ranges
from scoreag.io.filesystem import atomic_write, write_json
from scoreag.io.manifest import (
    changed_classifiers,
    diff_manifests,
    read_manifest,
    verify_seal,
    version_changes,
)
from scoreag.io.records import (
    IMAGE_KINDS,
    Row,
    files_intact,
    picture_path,
    read_complete_rows,
    replace_rows,
)
from scoreag.io.run_dir import open_run_dir
from scoreag.io.run_shards import SHARD, shard_entry
from scoreag.methods.result import ROW_FIELDS, TASK_FILES
from scoreag.methods.summary import summarize_rows

OWN_ENTRIES = ("images", "image_ids", SHARD)  # of a shard, in its manifest
FILE_ENTRIES = ("file", "original_file")  # of a row: its pictures


@dataclass(frozen=True)
class ShardFolder:
    """The folder of a shard, and its manifest."""

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def number(self) -> int:
        return int(shard_entry(self.manifest)["number"])


def read_shards(folders: Sequence[Path]) -> list[ShardFolder]:
    """All shards of one run in their order.

    Raises:
        ValueError: one is missing, there twice, no shard, or of another run.
    """
    shards = [ShardFolder(folder, read_manifest(folder)) for folder in folders]
    for one in shards:
        if not shard_entry(one.manifest):
            raise ValueError(f"{one.folder} is no shard of a run; give folders of runs by --shard")
        verify_seal(one.folder)
        _check_same_run(shards[0], one)
    count = int(shard_entry(shards[0].manifest)["count"])
    numbers = sorted(one.number for one in shards)
    if twice := [n for n in numbers if numbers.count(n) > 1]:
        raise ValueError(f"shard {twice[0]}/{count} was given twice; give each once")
    if missing := [n for n in range(1, count + 1) if n not in numbers]:
        raise ValueError(
            f"shard {missing[0]}/{count} is missing ({len(missing)} in all); give the folders of "
            "all shards"
        )
    return sorted(shards, key=lambda one: one.number)


def _check_same_run(first: ShardFolder, other: ShardFolder) -> None:
    """Refuse a shard of another run, of another classifier, or of another algorithm."""
    before, after = (whole_manifest(one.manifest) for one in (first, other))
    changes = diff_manifests(before, after)
    changes += [f"the {role} answers otherwise" for role in changed_classifiers(before, after)]
    if changes:
        raise ValueError(f"{first.folder} and {other.folder} are of different runs: {changes[0]}")
    if (algorithm := other.manifest.get("algorithm")) != ALGORITHM:
        raise ValueError(
            f"{other.folder} was computed by algorithm {algorithm}, and this version is of "
            f"{ALGORITHM}; merge with the version that computed it"
        )
    for change in version_changes(first.manifest, other.manifest):
        warnings.warn(f"{other.folder}: {change}; results may be rounded otherwise", stacklevel=3)


def whole_manifest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of the run that a shard is of, and its number of shards."""
    entry = shard_entry(manifest)
    whole = {name: entry[name] for name in ("images", "image_ids") if name in entry}
    rest = {name: value for name, value in manifest.items() if name not in OWN_ENTRIES}
    return {**rest, **whole, "shards": entry["count"]}


def merged_manifest(shards: Sequence[ShardFolder], command: str | None) -> dict[str, Any]:
    """The manifest of the whole run, and under ``merged`` how each shard came about."""
    manifest = whole_manifest(shards[0].manifest)
    del manifest["shards"]
    origin = ("command", "versions", "machine", "started", "finished")
    merged = [{name: one.manifest.get(name) for name in origin} for one in shards]
    return {**manifest, "command": command, "merged": merged}


def merge_tasks(
    shards: Sequence[ShardFolder], out: Path, command: str | None = None, overwrite: bool = False
) -> dict[str, Any]:
    """Join the shards of ``read_shards`` in ``out``; returns the summary.

    Raises:
        ValueError: a shard is not finished, or a file of it was changed.
    """
    pairs = interleave_rows(shards)
    rows = [row for _, row in pairs]
    manifest = merged_manifest(shards, command)
    with open_run_dir(out, manifest, TASK_FILES, overwrite) as run:
        for shard, row in pairs:
            _copy_pictures(shard.folder, out, row)
        replace_rows(out, rows)
        summary = summarize_rows(str(manifest["task"]), rows, run.manifest)
        write_json(out / "summary.json", summary)
        run.finish()
    return summary


def interleave_rows(shards: Sequence[ShardFolder]) -> list[tuple[ShardFolder, Row]]:
    """The rows of all shards in the order of the whole run, each with its shard."""
    manifest = shards[0].manifest
    size = manifest["batch_size"] or manifest["write_every"]
    rest = [iter(read_complete_rows(one.folder, ROW_FIELDS)) for one in shards]
    rows = []
    for number, batch in enumerate(batch_ranges(shard_entry(manifest)["images"], size)):
        turn = number % len(shards)
        rows += [(shards[turn], next(rest[turn])) for _ in batch]
    return rows


def _copy_pictures(source: Path, out: Path, row: Row) -> None:
    names = {row[entry] for entry in FILE_ENTRIES if entry in row}
    in_folders = read_manifest(source).get("pictures") is not None
    own_places = {picture_path(kind, row["image_id"], in_folders) for kind in IMAGE_KINDS}
    if not names <= own_places or not files_intact(source, row):
        raise ValueError(
            f"{source}: the pictures of image {row['image_id']} are not what its run wrote; give "
            "the command of that shard again"
        )
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        atomic_write(out / name, partial(copyfile, source / name))
    if not files_intact(out, row):
        raise OSError(f"{out} does not hold what was copied to it; see whether the disk is full")
