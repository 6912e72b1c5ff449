"""What a task will cost: its first batch is run in a temporary folder, and scaled up."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from scoreag.core.peak_memory import peak_memory
from scoreag.io.records import iter_complete_rows
from scoreag.methods.result import ROW_FIELDS
from scoreag.methods.run_task import run_task
from scoreag.methods.task import TaskSpec

_DATA_SUFFIXES = (".png", ".jsonl", ".tar", ".parquet")
WARM_SECONDS = 2.0  # a batch that takes less is run again, as its first run also loads kernels


@dataclass(frozen=True)
class TaskCost:
    """The cost of a task on this machine, from the measured batch.

    Args:
        images: of the whole task.
        measured: images of the measured batch.
        seconds: of the whole task, by this process.
        nfe: denoiser calls, over all images.
        memory_bytes: the largest memory of the process, or of the GPU.
        disk_bytes: of the pictures and rows, without the report.
    """

    images: int
    measured: int
    seconds: float
    nfe: int
    memory_bytes: int
    disk_bytes: int

    def to_dict(self) -> dict[str, int | float]:
        """As JSON for users."""
        return {
            "images": self.images,
            "measured_on": self.measured,
            "seconds": round(self.seconds, 1),
            "score_model_calls": self.nfe,
            "memory_mb": self.memory_bytes >> 20,
            "disk_mb": round(self.disk_bytes / 2**20, 2),
        }


@dataclass(frozen=True)
class Measured:
    """What some images cost: seconds, denoiser calls, bytes on disk, and how often each ran."""

    seconds: float
    nfe: int
    disk_bytes: int
    tries: tuple[int, ...]


def estimate_cost(
    task: TaskSpec, batch_size: int, write_every: int, picture_format: str = "png"
) -> TaskCost:
    """The cost of a task, from its first batch; nothing is kept on the disk.

    Images that are hard to fool cost more, so that the estimate is as good as the first batch is
    typical.  The last batch is padded, and costs as much as the others.
    """
    size = batch_size or write_every
    part = task.select(range(min(len(task), size)))
    once = _run_once(part, batch_size, picture_format)
    if once.seconds < WARM_SECONDS:
        once = _run_once(part, batch_size, picture_format)
    if batch_size:
        batches = count_all_batches(once.tries, len(task), size, write_every)
        seconds = once.seconds * batches / count_batches(once.tries, len(part), size)
    else:
        seconds = once.seconds * len(task) / len(part)
    return TaskCost(
        images=len(task),
        measured=len(part),
        seconds=seconds,
        nfe=round(once.nfe / len(part) * len(task)),
        memory_bytes=peak_memory(task.prior.sigmas.device),
        disk_bytes=once.disk_bytes * len(task) // len(part),
    )


def count_batches(tries: Sequence[int], images: int, size: int) -> int:
    """How many batches some images take that are computed together: sum_r ceil(images * q_r / size)

    Args:
        tries: how often each image of a sample was computed; q_r is the share of more than r tries.
        size: images a batch; the last of each round is padded.

    >>> count_batches([3, 1, 1, 1], 4, 4), count_batches([3, 1, 1, 1], 16, 4)
    (3, 6)
    """
    left = [sum(one > r for one in tries) for r in range(max(tries))]
    return sum(math.ceil(images * count / (len(tries) * size)) for count in left)


def count_all_batches(tries: Sequence[int], images: int, size: int, together: int) -> int:
    """How many batches a run takes in which whole batches of ``together`` images share them."""
    each = math.ceil(together / size) * size
    whole, rest = divmod(images, each)
    return whole * count_batches(tries, each, size) + count_batches(tries, rest, size)


def _run_once(part: TaskSpec, batch_size: int, picture_format: str) -> Measured:
    with TemporaryDirectory() as place:
        folder, began = Path(place) / "run", time.perf_counter()
        summary = run_task(part, folder, write_every=len(part), batch_size=batch_size,
                           progress=False, picture_format=picture_format)  # fmt: skip
        seconds = time.perf_counter() - began
        files = [file for file in folder.rglob("*") if file.suffix in _DATA_SUFFIXES]
        return Measured(
            seconds=seconds,
            nfe=int(summary["nfe"]["sum"]),
            disk_bytes=sum(file.stat().st_size for file in files),
            tries=tuple(row["restarts"] + 1 for row in iter_complete_rows(folder, ROW_FIELDS)),
        )
