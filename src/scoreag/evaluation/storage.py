"""The folder of an evaluation, rows that are computed once, and the comparison with the card.

Rows are computed in chunks, each a file that appears whole.  A killed process loses one chunk, and
the rows do not depend on interruptions.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from scoreag.core.batching import batch_ranges
from scoreag.io.filesystem import atomic_write, check_regular_file, write_json
from scoreag.io.progress import progress_bar
from scoreag.io.run_dir import RunFiles, open_run_dir, page_files
from scoreag.stats.estimates import MetricEntry

TASK = "evaluate model"
RESULTS_FILE = "figures.json"
CHUNKS = "parts"
CHUNK_FILES = f"{CHUNKS}/*-{6 * '[0-9]'}.safetensors"
SAMPLES_DIR = "samples"
GRID_FILES = (f"{SAMPLES_DIR}/class-{3 * '[0-9]'}.png", f"{SAMPLES_DIR}/nearest.png")
TABLES = ("metrics", "per_class", "comparison", "progress", "neighbors", "throughput")
FIGURES = ("loss", "progress_[0-9][0-9]")
EVALUATION_FILES = RunFiles(
    (RESULTS_FILE, "report.html", *page_files(TABLES, FIGURES), *GRID_FILES, CHUNK_FILES),
    (CHUNK_FILES,),
)
SAMPLE_SIZE_BIASED = ("frechet", "precision", "recall")  # metrics that depend on the image count


def run_in_folder(
    folder: Path,
    manifest: Mapping[str, Any],
    overwrite: bool,
    compute: Callable[[], dict[str, Any]],
) -> dict[str, Any]:
    """Call ``compute`` while holding ``folder``, and write its results to figures.json there.

    Raises:
        ValueError: the folder holds something else, or an evaluation with another configuration.
    """
    with open_run_dir(folder, {**manifest, "task": TASK}, EVALUATION_FILES, overwrite) as run:
        results = compute()
        write_json(folder / RESULTS_FILE, results)
        run.finish()
    return results


def load_or_compute(
    folder: Path,
    name: str,
    count: int,
    chunk_size: int,
    compute: Callable[[range], Tensor],
    progress: bool = True,
) -> Tensor:
    """The rows of the positions 0..count-1; chunks that ``folder`` holds are not computed again.

    Args:
        name: of the rows; with the folder's manifest it determines them.
        compute: the rows of a range of positions.
    """
    (folder / CHUNKS).mkdir(parents=True, exist_ok=True)
    chunks = []
    with progress_bar(total=count, unit="row", desc=name, show=progress) as bar:
        for positions in batch_ranges(count, chunk_size):
            file = folder / CHUNKS / f"{name}-{positions.start:06d}.safetensors"
            rows = _read_chunk(file)
            if rows is None or len(rows) != len(positions):
                rows = compute(positions).detach().cpu().contiguous()
                _write_chunk(file, rows)
            chunks.append(rows)
            bar.update(len(positions))
    return torch.cat(chunks)


def _write_chunk(file: Path, rows: Tensor) -> None:
    packed = save({"rows": rows})
    atomic_write(file, lambda aside: aside.write_bytes(packed))


def _read_chunk(file: Path) -> Tensor | None:
    """The rows of a file; None where it is absent or damaged."""
    check_regular_file(file)
    try:
        return load(file.read_bytes())["rows"]
    except (FileNotFoundError, SafetensorError, KeyError):
        return None


@dataclass(frozen=True)
class MetricComparison:
    """A metric of the card and now; ``reproduced`` is None where they cannot be compared."""

    name: str
    card_value: float
    recomputed: float
    low: float
    high: float
    reproduced: bool | None
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        words = {True: "reproduced", False: "not reproduced", None: "not compared"}
        now = f"{self.recomputed:.6g} now, interval {self.low:.6g} to {self.high:.6g}"
        return f"{words[self.reproduced]}: {self.name} is {self.card_value:.6g} on the card, {now}"


def compare_with_card(
    card: Mapping[str, MetricEntry], recomputed: Mapping[str, MetricEntry], section: str
) -> list[MetricComparison]:
    """Each metric of a section of the card, e.g. "test", that was computed again."""
    return [
        _compare_entry(f"{section}.{name}", entry, recomputed[name])
        for name, entry in card.items()
        if name in recomputed and "value" in entry
    ]


def _compare_entry(name: str, old: MetricEntry, new: MetricEntry) -> MetricComparison:
    low, high = (float(new[end] if end in new else new["value"]) for end in ("low", "high"))
    before, now = old.get("total"), new.get("total")
    reproduced: bool | None = low <= old["value"] <= high
    reason = f"the card's value lies {'within' if reproduced else 'outside'} the interval"
    if before != now and name.rpartition(".")[2].startswith(SAMPLE_SIZE_BIASED):
        reproduced, reason = None, f"it was computed on {before} images, now on {now}"
    elif old["value"] == new["value"]:
        reproduced, reason = True, "the same number"
    return MetricComparison(name, old["value"], new["value"], low, high, reproduced, reason)


def require_reproduced(comparisons: list[MetricComparison], name: str) -> None:
    """Refuse a card whose metrics were not reproduced.

    Raises:
        ValueError: names the first such metric, both values and the interval.
    """
    different = [one for one in comparisons if one.reproduced is False]
    if different:
        more = f" (and {len(different) - 1} more)" if len(different) > 1 else ""
        raise ValueError(
            f"{name}: {different[0]}{more}; give the weights and the data of the card, "
            "or --update-card to put the new metrics into it"
        )
