"""A run of a million images by four workers of Ray, with a model so small that the engine counts.

Rows, memory, disk and files, the seconds to resume and to report, what the engine costs a row, and
a forecast from its first rows. Processor seconds leave out other work on the machine.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch
from common import resident, write
from torch import nn

from scoreag.classifiers.normalized import NormalizedClassifier, wrap_classifier
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.prior import Prior
from scoreag.diffusion.samplers.euler import sample
from scoreag.io.ray_tasks import RayOptions
from scoreag.methods.run_batch import run_batch
from scoreag.methods.run_task import run_task
from scoreag.methods.synthesis import build_synthesis
from scoreag.methods.task import TaskSpec

CLASSES = ("a", "b", "c", "d")
SHAPE = (3, 4, 4)
BATCH_SIZE, WRITE_EVERY = 256, 1024
PLAIN = {"attack_scale": 0.0, "steps": 1, "max_restarts": 0}


class Shrink(nn.Module):
    """The posterior mean of a standard Gaussian: the least that a score model can be."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, labels: Any = None) -> torch.Tensor:
        return self.scale * x / (1 + sigma.view(-1, 1, 1, 1) ** 2)


def classifier() -> NormalizedClassifier:
    """A linear classifier with fixed random weights."""
    layer = nn.Linear(48, len(CLASSES), bias=False)
    layer.weight.data = torch.randn(4, 48, generator=torch.Generator().manual_seed(0))
    network = nn.Sequential(nn.Flatten(), layer).eval().requires_grad_(False)
    return wrap_classifier(network, classes=CLASSES)


def task(images: int) -> TaskSpec:
    """So many images, as many of each class."""
    prior = Prior(Shrink(), sample, karras(1), SHAPE, CLASSES, {"synthesize": PLAIN})
    labels = [label for label in range(len(CLASSES)) for _ in range(images // len(CLASSES))]
    return build_synthesis(prior, classifier(), labels, None, seed=0)


def descendants(root: int) -> dict[int, str]:
    """The processes below one, with the text of their status."""
    parents, texts = {}, {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            texts[int(place.name)] = (place / "status").read_text()
            fields = (place / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended
            continue
        parents[int(place.name)] = int(fields[1])
    found = {root}
    while more := {p for p, parent in parents.items() if parent in found} - found:
        found |= more
    return {p: texts[p] for p in found if p in texts}


def megabytes(text: str, name: str = "VmRSS") -> float:
    line = next((line for line in text.splitlines() if line.startswith(name)), "x 0 kB")
    return int(line.split()[1]) / 1024


class Watch(threading.Thread):
    """Memory of this process and of its largest worker, by the rows that are written."""

    def __init__(self, folder: Path, seconds: float) -> None:
        super().__init__(daemon=True)
        self.folder, self.seconds, self.samples = folder, seconds, []
        self.ended, self.began = threading.Event(), time.perf_counter()

    def run(self) -> None:
        while not self.ended.wait(self.seconds):
            rows = self.folder / "rows.jsonl"
            found = descendants(os.getpid())
            workers = [megabytes(t) for p, t in found.items() if "ray::" in t.splitlines()[0]]
            self.samples.append({
                "seconds": round(time.perf_counter() - self.began, 2),
                "rows_bytes": rows.stat().st_size if rows.exists() else 0,
                "driver_mb": round(megabytes(found[os.getpid()])),
                "largest_worker_mb": round(max(workers, default=0)),
            })  # fmt: skip

    def stop(self) -> list[dict[str, Any]]:
        """All samples."""
        self.ended.set()
        self.join()
        return self.samples


def thin(samples: list[dict[str, Any]], count: int = 16) -> list[dict[str, Any]]:
    """So many of the samples, evenly spaced, the last one among them."""
    step = max(1, -(-len(samples) // count))
    return samples[::-step][::-1]


def forecast(images: int, share: float, samples: list[dict[str, Any]]) -> dict[str, float]:
    """The seconds of a run as they are told once a ``share`` of its rows is written.

    From then on each row takes as long as those since the first write; before it, Ray starts, and
    its workers load torch.
    """
    begun = [one for one in samples if one["rows_bytes"]]
    first, total = begun[0], begun[-1]["rows_bytes"]
    then = next(one for one in begun if one["rows_bytes"] >= share * total)
    done = [one["rows_bytes"] / total for one in (first, then)]
    pace = (then["seconds"] - first["seconds"]) / (done[1] - done[0])
    return {
        "from_rows": round(done[1] * images), "start_seconds": first["seconds"],
        "microseconds_a_row": round(1e6 * pace / images),
        "seconds": round(then["seconds"] + pace * (1 - done[1]), 1),
    }  # fmt: skip


def run(images: int, folder: Path, workers: int) -> dict[str, Any]:
    """One run from an empty folder."""
    wall, cpu = time.perf_counter(), time.process_time()
    summary = run_task(
        task(images), folder, write_every=WRITE_EVERY, batch_size=BATCH_SIZE, progress=False,
        picture_format="webdataset", ray=RayOptions("local", workers),
    )  # fmt: skip
    return {
        "images": summary["images"], "seconds": round(time.perf_counter() - wall, 1),
        "driver_cpu_seconds": round(time.process_time() - cpu, 1),
    }  # fmt: skip


def kernel_seconds(images: int = 4 * BATCH_SIZE) -> float:
    """Processor seconds of sampling an image, without judging, encoding and writing."""
    part = task(images)
    parts = [part.select(range(i, i + BATCH_SIZE)) for i in range(0, images, BATCH_SIZE)]
    run_batch(parts[0], BATCH_SIZE)
    before = time.process_time()
    for one in parts:
        run_batch(one, BATCH_SIZE)
    return (time.process_time() - before) / images


def serial_seconds(images: int, folder: Path) -> float:
    """Processor seconds of an image of a whole run in this process, resumed and reported once."""
    job, before = task(images), time.process_time()
    run_task(job, folder, write_every=WRITE_EVERY, batch_size=BATCH_SIZE, progress=False,
             picture_format="webdataset")  # fmt: skip
    return (time.process_time() - before) / images


def interrupt(folder: Path, images: int) -> dict[str, Any]:
    """Cut the rows in the middle of their last write, as a kill does, and resume by one process."""
    rows = folder / "rows.jsonl"
    digest = sha256(rows)
    lost = 300
    lines = rows.read_bytes()[-2000 * lost :].splitlines(keepends=True)[-lost:]
    os.truncate(rows, rows.stat().st_size - sum(map(len, lines)) - 100)
    marks: dict[str, float] = {}
    began, cpu = time.perf_counter(), time.process_time()

    def first_batch(part: TaskSpec, pad_to: int, advance: Any) -> Any:
        marks.setdefault("seconds", time.perf_counter() - began)
        marks.setdefault("cpu_seconds", time.process_time() - cpu)
        return run_batch(part, pad_to, advance)

    module: Any = sys.modules["scoreag.methods.run_task"]
    module.run_batch = first_batch
    try:
        run_task(task(images), folder, write_every=WRITE_EVERY, batch_size=BATCH_SIZE,
                 progress=False, picture_format="webdataset")  # fmt: skip
    finally:
        module.run_batch = run_batch
    return {
        "until_first_batch": {name: round(value, 1) for name, value in marks.items()},
        "whole_command_seconds": round(time.perf_counter() - began, 1),
        "same_rows": sha256(rows) == digest,
    }


def sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def report(folder: Path) -> dict[str, Any]:
    """The report, in a process of its own, as the command makes it."""
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[2]); from pathlib import Path\n"
        "from common import resident\nfrom scoreag.report.task_run import write_report\n"
        "began, cpu = time.perf_counter(), time.process_time()\n"
        "page = write_report(Path(sys.argv[1]))\n"
        "print(time.perf_counter() - began, time.process_time() - cpu, resident(),"
        " page.stat().st_size / 2**20)"
    )
    place = str(Path(__file__).parent)
    output = subprocess.run([sys.executable, "-c", code, str(folder), place], check=True,
                            capture_output=True, text=True).stdout  # fmt: skip
    names = ("seconds", "cpu_seconds", "peak_mb", "page_mb")
    return {name: round(float(word), 1) for name, word in zip(names, output.split(), strict=True)}


def disk(folder: Path) -> dict[str, Any]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {
        "files": len(files),
        "megabytes": round(sum(file.stat().st_size for file in files) / 2**20),
        "rows_jsonl_megabytes": round((folder / "rows.jsonl").stat().st_size / 2**20),
        "shards": len([*folder.glob("images/*.tar")]),
    }


def rows_exact(folder: Path, images: int, sample_of: int = 997) -> dict[str, Any]:
    """The ids of all rows, and each ``sample_of``-th one against a computation without a run."""
    job, wrong, found = task(images), 0, 0
    ids = iter(job.image_ids)
    same_ids = True
    chosen: list[tuple[int, dict[str, Any]]] = []
    with (folder / "rows.jsonl").open() as lines:
        for found, line in enumerate(lines, start=1):
            row = json.loads(line)
            same_ids &= row["image_id"] == next(ids, None)
            if found % sample_of == 1:
                chosen.append((found - 1, row))
    for begin in range(0, len(chosen), BATCH_SIZE):
        group = chosen[begin : begin + BATCH_SIZE]
        result = run_batch(job.select([position for position, _ in group]), BATCH_SIZE)
        assert result.predictions is not None
        predictions = result.predictions.tolist()
        for (_, row), said in zip(group, predictions, strict=True):
            wrong += row["predictions"]["saved"] != said
    return {"rows": found, "ids_in_order": same_ids, "compared": len(chosen), "different": wrong}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--share", type=float, default=0.05, help="of the rows, for the forecast")
    parser.add_argument("--serial", type=int, default=20_480, help="images of one process alone")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--out", type=Path, help="where the run is written; else a new folder")
    parser.add_argument("--name", default="million")
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = {"worker_niceness": 0, "raylet_start_wait_time_s": 600}  # of a machine at work
    os.environ.update({f"RAY_{name}": str(value) for name, value in settings.items()})
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.out or Path(scratch) / "run"
        watch = Watch(folder, 0.5)
        watch.start()
        measured = run(args.images, folder, args.workers)
        samples = watch.stop()
        told = forecast(args.images, args.share, samples)
        serial = serial_seconds(args.serial, Path(scratch) / "serial")
        kernel = kernel_seconds()
        figures = {
            "workers": args.workers, "batch_size": BATCH_SIZE, "write_every": WRITE_EVERY,
            "run": measured,
            "forecast": told | {"over_measured": round(told["seconds"] / measured["seconds"], 3)},
            "microseconds_a_row": {
                "sampling": round(1e6 * kernel), "whole_run_in_one_process": round(1e6 * serial),
                "engine": round(1e6 * (serial - kernel)),
                "driver_with_ray": round(1e6 * measured["driver_cpu_seconds"] / args.images),
            },
            "load": [round(value, 1) for value in os.getloadavg()],
            "memory": thin(samples), "disk": disk(folder),
        }  # fmt: skip
        write(args.name, figures)
        figures["exact"] = rows_exact(folder, args.images)
        figures["report"] = report(folder)
        write(args.name, figures)
        figures["resume"] = interrupt(folder, args.images)
        figures["peak_mb"] = round(resident())
        write(args.name, figures)


if __name__ == "__main__":
    main()
