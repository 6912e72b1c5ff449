"""Checks that distrust a result: what would make a figure mean something else than it seems to."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from scoreag.assess.cells import CLEAN, Cell
from scoreag.assess.columns import Columns
from scoreag.metrics.accuracy import share

EXPLODING = 1e6  # length of a gradient of the loss, pixels in [0, 1]
MANY = 0.1  # of the images: what is rarer is no pattern
LOST = 0.1  # of the successes, that 8 bits may undo
FEWEST = 500  # images, for a Frechet distance


@dataclass(frozen=True)
class Finding:
    """What is doubtful about a cell; ``grave`` where its figures should not be used as they are."""

    check: str
    cell: str
    grave: bool
    says: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Part:
    """A cell with its columns, and the number of features that it was compared in.

    Args:
        transfer: by classifier, how often the cell's images fool it.
    """

    cell: Cell
    found: Columns
    features: int = 0
    figures: Mapping[str, Any] = field(default_factory=dict)
    transfer: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def of_one(part: Part) -> list[Finding]:
    """What is doubtful about a cell by itself."""
    if not len(part.found):
        return []
    return [finding for check in ALONE for finding in check(part)]


def _gradients(part: Part) -> Iterator[Finding]:
    """Zero or exploding gradients: an attack along them says nothing about the classifier."""
    lengths = [row["gradient"] for row in part.found.rows if "gradient" in row]
    if not part.found.gradients:  # it took none: no false ones can have led it astray
        return
    zero = sum(length == 0 for length in lengths)
    large = sum(length is None or length > EXPLODING for length in lengths)
    for count, what in ((zero, "zero"), (large, f"not finite or above {EXPLODING:g}")):
        if count > MANY * len(lengths):
            yield Finding(
                "gradients", part.cell.name, True,
                f"the gradient that the attacker sees is {what} at {count} of {len(lengths)} "
                "images; attack it without gradients, or differentiate the defence exactly",
            )  # fmt: skip


def _random(part: Part) -> Iterator[Finding]:
    """Randomness where none was declared: one answer is then no measurement."""
    if part.cell.task != CLEAN:
        return
    for word in (part.cell.victim, *part.cell.others):
        unsteady = sum(not row["steady"][word] for row in part.found.rows)
        if unsteady and word not in part.cell.random:
            yield Finding(
                "randomness", part.cell.name, True,
                f"two calls of {word} on the same images differ; if it is meant to be random, "
                f"write random = [\"{word}\"] in the set",
            )  # fmt: skip


def _eight_bits(part: Part) -> Iterator[Finding]:
    """Success that vanishes when the image is saved."""
    as_float = part.found.fooled_float
    lost = share(~part.found.fooled, "successes before rounding", as_float)
    if lost.count >= 3 and lost.value > LOST:
        yield Finding(
            "8 bits", part.cell.name, False,
            f"{lost.count} of {lost.total} successes are undone by saving the image with 8 bits; "
            "the figures are of the saved images",
        )  # fmt: skip


def differing(cell: Cell) -> list[str]:
    """The options in which the attacker's copy of the purifier is another than the one judged,
    but for how it is differentiated and for its memory, which changes no answer."""
    judged, attacked = cell.purifier_options, cell.attacked
    names = [n for n in {**judged, **attacked} if n not in ("backward", "max_memory")]
    return [n for n in names if judged.get(n) != attacked.get(n)]


def _settings(part: Part) -> Iterator[Finding]:
    """Attack and defence that differ: the attacker's copy is not what is judged."""
    cell = part.cell
    if not cell.purifier:
        return
    judged, attacked = cell.purifier_options, cell.attacked
    if differ := differing(cell):
        told = ", ".join(f"{n} {attacked.get(n)} instead of {judged.get(n)}" for n in differ)
        yield Finding(
            "settings", cell.name, True,
            f"the attacker's copy of {cell.purification} has {told}: this is a weaker attacker "
            "than one who knows the defence",
        )  # fmt: skip
    if cell.fixed:
        yield Finding(
            "settings", cell.name, False,
            f"attacker and judge of {cell.purification} share one draw: how far an attack gets "
            "that knows the random numbers, not how a real one does",
        )  # fmt: skip
    if (backward := attacked.get("backward", "exact")) != "exact":
        yield Finding(
            "settings", cell.name, False,
            f"the attacker differentiates {cell.purification} by {backward!r}, not exactly; such "
            "an attack overstates the defence",
        )  # fmt: skip


def _few(part: Part) -> Iterator[Finding]:
    """Too few images for a Frechet distance."""
    count = len(part.found)
    if "frechet" in part.figures and count < max(FEWEST, part.features):
        yield Finding(
            "Frechet", part.cell.name, False,
            f"{count} images in {part.features} features: the Frechet distance is mostly the "
            "bias of a small sample; compare it with equal counts only, or use the kernel distance",
        )  # fmt: skip


ALONE: tuple[Callable[[Part], Iterator[Finding]], ...] = (
    _gradients, _random, _eight_bits, _settings, _few,
)  # fmt: skip
