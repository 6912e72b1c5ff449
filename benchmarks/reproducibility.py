"""Does a result depend on how the work was split?  The command line, on real images.

The same command twice, and with other --write-every: every file is compared, byte for byte. With
the batch size off: by how much images move, and which verdicts flip. Killed in the middle and
given again: the files of an uninterrupted run.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import rate, write

from scoreag.io.images import read_png

SAME = ("rows.jsonl", "summary.json", "images", "originals")  # the manifest holds times


def command(out: Path, args: argparse.Namespace, *more: str) -> list[str]:
    words = ["transform", "--model", "cifar10", "--classifier", "cifar10-resnet20"]
    words += ["--data", f"cifar10:test[0:{args.images}]"]
    words += ["--data-dir", str(args.data_dir)] if args.data_dir else []
    return [sys.executable, "-m", "scoreag", *words, "--quiet", "--out", str(out), *more]


def files(folder: Path) -> dict[str, bytes]:
    found = [p for name in SAME for p in [folder / name, *sorted((folder / name).glob("*"))]]
    return {str(p.relative_to(folder)): p.read_bytes() for p in found if p.is_file()}


def killed_and_continued(out: Path, args: argparse.Namespace) -> int:
    """SIGKILL once some rows are there; how many there were."""
    words = command(out, args, "--write-every", "16")
    run = subprocess.Popen(words)
    rows = out / "rows.jsonl"
    while run.poll() is None and not (rows.exists() and rows.read_text().count("\n") >= 16):
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    run.wait()
    there = rows.read_text().count("\n")
    subprocess.run(words, check=True)
    return there


def unpadded(reference: Path, out: Path) -> dict[str, Any]:
    """How far images and verdicts are from those of the fixed batch size."""

    def rows(folder: Path) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]

    pairs = list(zip(rows(reference), rows(out), strict=True))
    moved = [
        (read_png(reference / a["file"]).int() - read_png(out / b["file"]).int()).abs().max()
        for a, b in pairs
    ]
    flips = sum(a["predictions"]["saved"] != b["predictions"]["saved"] for a, b in pairs)
    return {
        "within_one": rate(torch.stack(moved) <= 1, "all images"),
        "largest_255": int(torch.stack(moved).max()),
        "flips": flips,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="where the CIFAR-10 files are")
    parser.add_argument("--images", type=int, default=48)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        subprocess.run(command(place / "a", args), check=True)
        expected = files(place / "a")
        equal = {}
        for name, more in {
            "the same command": [],
            "--write-every 7": ["--write-every", "7"],
            "--write-every 1000": ["--write-every", "1000"],
        }.items():
            out = place / name.replace(" ", "")
            subprocess.run(command(out, args, *more), check=True)
            equal[name] = files(out) == expected
        rows = killed_and_continued(place / "killed", args)
        equal[f"SIGKILL after {rows} rows, and again"] = files(place / "killed") == expected
        off = command(place / "off", args, "--batch-size", "0", "--write-every", str(args.images))
        subprocess.run(off, check=True)
        figures = {
            "images": args.images,
            "files": len(expected),
            "equal": equal,
            "micro_batch_off": unpadded(place / "a", place / "off"),
            "resolved": json.loads((place / "a" / "manifest.json").read_text())["config"],
        }
    print(json.dumps(figures, indent=1))
    write("reproducibility", figures)


if __name__ == "__main__":
    main()
