"""What `scoreag report` costs of 10,000 images: seconds, and peak resident memory.

The rows are made up and written as runs and assessments write theirs, with their pictures. Each
report is a process of its own, on one thread: seconds by the clock from its start to its end, and
those of the processor, to which other work beside it adds little.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from common import write
from made_folders import write_assessment, write_run

# the peak as of common.resident, without importing what a report does not
REPORT = """
import sys
import time
from pathlib import Path
from scoreag.cli.app import main
code = main(["report", sys.argv[1], "--quiet"])
lines = Path("/proc/self/status").read_text().splitlines()
peak = next(line.split()[1] for line in lines if line.startswith("VmHWM"))
print(peak, time.process_time())
sys.exit(code)
"""


def report(folder: Path) -> dict[str, float]:
    """Seconds by the clock and of the processor, and MiB, of one report of ``folder``."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", REPORT, str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - started
    peak, processor = done.stdout.split()[-2:]
    return {"seconds": seconds, "processor": float(processor), "mib": int(peak) / 1024}


def rows(count: int, repeats: int, place: Path) -> Iterator[dict[str, Any]]:
    """A run, and an assessment whose Fréchet and kernel distances are not kept yet, or are."""
    write_run(place / "run", count)
    yield {"folder": "a run of transform", "rows": count, **several(place / "run", repeats)}
    write_assessment(place / "assessment", count)
    cells = len(list(place.glob("assessment/cells/*")))
    told = {"folder": f"an assessment of {cells} cells", "rows": cells * count}
    for kept in (False, True):
        words = "are kept" if kept else "to be computed"
        found = several(place / "assessment", repeats, kept)
        yield {**told, "distances": words, **found}


def several(folder: Path, repeats: int, kept: bool = True) -> dict[str, Any]:
    """Each figure of ``repeats`` reports; unless ``kept``, distances are forgotten before each."""
    found = []
    for _ in range(repeats):
        for file in () if kept else folder.glob("cells/*/distances.json"):
            file.unlink()
        found.append(report(folder))
        found[-1]["load"] = os.getloadavg()[0]
        print(folder.name, found[-1], flush=True)
    figures = {name: [round(one[name], 1) for one in found] for name in found[0]}
    return {**figures, "page_mib": round((folder / "report.html").stat().st_size / 2**20, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        done = []
        for row in rows(args.images, args.repeats, Path(folder)):
            done.append(row)
            write("report_size", {"images": args.images, "rows": done})


if __name__ == "__main__":
    main()
