"""A command started by torchrun: every process computes a shard, and the first joins them.

The shards are in OUT.shards/1-of-4 and so on until they are joined in OUT.  A run that stopped is
resumed by the same command.
"""

import io
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scoreag.cli.options import (
    PLAIN,
    OutputOptions,
    RunOutputOptions,
    UsageError,
    build,
    flatten,
)
from scoreag.cli.runs import SHARDS

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

LAUNCHED = "TORCHELASTIC_RUN_ID"  # a variable that torchrun sets
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Rank:
    """One of ``count`` processes, numbered from 0, and its number on its machine."""

    number: int
    count: int
    local: int


def current_rank() -> Rank | None:
    """This process among those of torchrun; None where there is one process alone."""
    if LAUNCHED not in os.environ:
        return None
    number, count, local = (int(os.environ[n]) for n in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    return Rank(number, count, local) if count > 1 else None


def split_by_ranks(run: Callable[[Any], None]) -> Callable[[Any], None]:
    """A command whose run torchrun splits; alone it is what it was."""

    @wraps(run)
    def command(options: Any) -> None:
        rank = current_rank()
        if rank is None:
            run(options)
        else:
            run_as_rank(rank, run, options)

    return command


def run_as_rank(rank: Rank, run: Callable[[Any], None], options: Any) -> None:
    """Run a command's part of ``rank``; the first process then joins the parts of all.

    Raises:
        UsageError: the run is split in another way, too.
    """
    values, output = flatten(options), _merge_output(options.output)
    _check(rank, values)
    output.read_model_info()  # what is wrong with it is told before any work
    values["device"] = _own_device(rank, values["device"])
    out = Path(values["out"] or "")
    folders = [Path(f"{out}{SHARDS}") / f"{k}-of-{rank.count}" for k in range(1, rank.count + 1)]
    no_run = values["dry_run"] or not values["out"]  # the command says that --out is missing
    if no_run or (_is_finished(out) and not values["overwrite"]):
        if rank.number == 0:
            shard = f"1/{rank.count}" if values["dry_run"] else None
            run(build(type(options), {**values, "shard": shard}))
        return
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; --out takes a folder")
    store = _connect(rank)
    values["shard"], values["out"] = f"{rank.number + 1}/{rank.count}", str(folders[rank.number])
    values["quiet"] |= rank.number > 0
    if output is options.output:  # of an attack or an assessment, of which only the whole is shown
        values |= {"format": PLAIN, "model_info": None}
    with redirect_stdout(io.StringIO()), _named(rank):  # the summary is that of the whole run
        run(build(type(options), values))
    store.set(_done(rank.number), "")
    if rank.number == 0:
        _join(rank, out, folders, values["overwrite"], output, store)


@contextmanager
def _named(rank: Rank) -> Iterator[None]:
    """What is refused of a shard that nobody typed, in words of the processes."""
    shard = f"--shard {rank.number + 1}/{rank.count}"
    try:
        yield
    except ValueError as error:
        if not str(error).startswith(shard):
            raise
        text = str(error).removeprefix(shard).replace("shards,", "processes,")
        raise ValueError(f"torchrun started {rank.count} processes{text}") from error


def refuse_ranks(run: Callable[[Any], None]) -> Callable[[Any], None]:
    """A command that torchrun does not split: several processes would only repeat it."""

    @wraps(run)
    def command(options: Any) -> None:
        if (rank := current_rank()) is not None:
            raise UsageError(
                f"torchrun started {rank.count} processes of a command that it does not split; "
                "start it alone (torchrun splits synthesize, transform, purify, attack, assess "
                "and trains)"
            )
        run(options)

    return command


def _check(rank: Rank, values: dict[str, Any]) -> None:
    """Refuse what torchrun cannot split."""
    for name in ("shard", "ray", "workers"):
        if values[name] is not None:
            raise UsageError(
                f"torchrun splits the run into {rank.count} shards, and --{name} splits it, too; "
                "leave out one of them"
            )
    if values.get("format") in ("webdataset", "parquet"):  # of pictures, not of a table
        raise UsageError(
            f"the processes of torchrun write PNG files, and --format is {values['format']}; "
            "leave it out, or write --ray local instead of torchrun"
        )


def _own_device(rank: Rank, device: str) -> str:
    """A GPU of its own for each process of a machine, where there are GPUs."""
    if device not in ("auto", "cuda"):
        return device
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return f"cuda:{rank.local % count}" if count else device


def _is_finished(out: Path) -> bool:
    """Whether a folder holds a run that was finished, or joined."""
    from scoreag.io.manifest import MANIFEST, read_manifest

    return (out / MANIFEST).is_file() and "finished" in read_manifest(out)


def _connect(rank: Rank) -> "Store":
    """What all processes of torchrun can write to and read."""
    import torch.distributed as dist

    if not dist.is_available():
        raise ValueError("this build of torch has no torch.distributed; write --ray local instead")
    from torch.distributed.rendezvous import rendezvous

    store: Store = next(rendezvous("env://", rank.number, rank.count))[0]
    return store


def _done(number: int) -> str:
    return f"scoreag/done/{number}"


def _merge_output(output: OutputOptions) -> RunOutputOptions:
    """How the whole run is printed."""
    if isinstance(output, RunOutputOptions):
        return output
    return RunOutputOptions(quiet=output.quiet, json=output.json, debug=output.debug)


def _join(
    rank: Rank, out: Path, folders: list[Path], overwrite: bool, output: RunOutputOptions,
    store: "Store",
) -> None:  # fmt: skip
    """Join the shards of all processes when they are done, and delete them."""
    from scoreag.cli.merge import MergeOptions, merge

    while not store.check([_done(number) for number in range(rank.count)]):
        time.sleep(POLL_SECONDS)
    shards = [str(folder) for folder in folders]
    merge(MergeOptions(out=str(out), shards=shards, overwrite=overwrite, output=output))
    for folder in folders:
        shutil.rmtree(folder)
    if not any(folders[0].parent.iterdir()):
        folders[0].parent.rmdir()
