"""What a task will cost: its first batch is run in a temporary folder, and scaled up."""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from scoreag.core.peak_memory import peak_memory
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


def estimate_cost(
    task: TaskSpec, batch_size: int, write_every: int, picture_format: str = "png"
) -> TaskCost:
    """The cost of a task, from its first batch; nothing is kept on the disk.

    Images that are hard to fool cost more, so that the estimate is as good as the first batch is
    typical.  The last batch is padded, and costs as much as the others.
    """
    size = batch_size or write_every
    part = task.select(range(min(len(task), size)))
    seconds, nfe, disk = _run_once(part, batch_size, picture_format)
    if seconds < WARM_SECONDS:
        seconds, nfe, disk = _run_once(part, batch_size, picture_format)
    batches = math.ceil(len(task) / size)
    return TaskCost(
        images=len(task),
        measured=len(part),
        seconds=batches * seconds if batch_size else seconds * len(task) / len(part),
        nfe=round(nfe / len(part) * len(task)),
        memory_bytes=peak_memory(task.prior.sigmas.device),
        disk_bytes=disk * len(task) // len(part),
    )


def _run_once(part: TaskSpec, batch_size: int, picture_format: str) -> tuple[float, int, int]:
    """Seconds, denoiser calls and bytes of pictures and rows."""
    with TemporaryDirectory() as place:
        folder, began = Path(place) / "run", time.perf_counter()
        summary = run_task(part, folder, write_every=len(part), batch_size=batch_size,
                           progress=False, picture_format=picture_format)  # fmt: skip
        seconds = time.perf_counter() - began
        files = [file for file in folder.rglob("*") if file.suffix in _DATA_SUFFIXES]
        return seconds, int(summary["nfe"]["sum"]), sum(file.stat().st_size for file in files)
