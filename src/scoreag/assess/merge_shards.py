"""Join the shards of an assessment: the folder of the assessment that was never split.

The files of rows are copied as they are; each is named by the digest of its content.
"""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from shutil import copyfile

from scoreag.assess import runner
from scoreag.assess.experiments import Cell
from scoreag.io.filesystem import atomic_write, resolve_inside, write_json
from scoreag.io.run_dir import open_run_dir
from scoreag.io.run_shards import RunShard
from scoreag.methods.merge_runs import ShardFolder, merged_manifest

NOT_COPIED = (runner.FAILURE_FILE, runner.DISTANCES_FILE)  # of a shard alone


def merge_assessments(
    shards: Sequence[ShardFolder], out: Path, command: str | None = None, overwrite: bool = False
) -> None:
    """Join the shards of ``methods.merge_runs.read_shards`` in ``out``.

    Raises:
        ValueError: the shards are of other cells, a classifier answers otherwise in one of them, or
            rows are missing.
    """
    cells = runner.list_cells(shards[0].folder)
    for one in shards:
        if [cell.key for cell in runner.list_cells(one.folder)] != [cell.key for cell in cells]:
            raise ValueError(
                f"{shards[0].folder} and {one.folder} are of other weights, data or options; "
                "compute all shards with the same models"
            )
        _check_complete(one, cells, len(shards))
    files = runner.ASSESSMENT_FILES
    with open_run_dir(out, merged_manifest(shards, command), files, overwrite) as run:
        for one in shards:
            runner.record_probes(out, runner.read_probes(one.folder))
            for name in _shard_files(one.folder):
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                atomic_write(out / name, partial(copyfile, one.folder / name))
        for cell in cells:
            runner.write_cell(out, cell)
        write_json(out / runner.CELLS_FILE, {cell.name: cell.key for cell in cells})
        run.finish()


def _shard_files(folder: Path) -> Iterator[str]:
    """The files of rows and their pictures, which must be of the assessment's own places."""
    for name in runner.owned_paths(folder):
        is_row_file = name.startswith(("cells/", "originals/")) and not name.endswith(NOT_COPIED)
        if not is_row_file or not any(
            fnmatchcase(name, pattern) for pattern in runner.ASSESSMENT_FILES.owned
        ):
            continue
        if resolve_inside(folder, name).is_file():
            yield name


def _check_complete(shard: ShardFolder, cells: Sequence[Cell], count: int) -> None:
    """Refuse a shard that lacks rows or pictures of its batches."""
    part = RunShard(shard.number, count)
    own = runner.shard_batches(cells, part)
    for cell in cells:
        stored = runner.read_cell(shard.folder, cell, check_pictures=True)
        for batch in runner.pending_batches(cell, stored):
            if (cell.key, batch) in own:
                raise ValueError(
                    f"shard {part} is not finished: {cell.name} lacks the images {batch.start} to "
                    f"{batch.stop - 1}; give the command of {shard.folder} again"
                )
