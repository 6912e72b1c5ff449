"""The tour in figures and in two sentences: what two networks said of which images."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from scoreag.core.types import Labels
from scoreag.images import to_float
from scoreag.metrics.accuracy import accuracy, share
from scoreag.metrics.distances import linf
from scoreag.report.page import Entry, counted


@dataclass(frozen=True)
class Shown:
    """8-bit images, and the classes that the classifier and the judge say they show."""

    images: UInt8[Tensor, "batch channel height width"]
    classifier: Labels
    judge: Labels


@dataclass(frozen=True)
class Tour:
    """All that the page tells, rows in the order of ``labels`` (real) and ``asked`` (drawn).

    Args:
        gap: the images of ``pgd``, purified.
        free: unguided draws from the seeds of ``gas``, the score model's own ceiling.
        asked, aimed: what a drawn image shall show, and what the classifier shall say; -1: errs.
        calls: denoiser calls an image, on average, by task.
        foot: how it came about: models, seed, time.
    """

    classes: tuple[str, ...]
    image_ids: tuple[int, ...]
    labels: Labels
    original: Shown
    pgd: Shown
    gat: Shown
    gap: Shown
    asked: Int[Tensor, " drawn"]
    aimed: Int[Tensor, " drawn"]
    free: Shown
    gas: Shown
    epsilon: float
    pgd_steps: int
    calls: Mapping[str, float]
    classifier: str = "the classifier"
    judge: str = "the judge"
    source: str = "given by the user"
    foot: tuple[str, ...] = ()

    @property
    def ball(self) -> str:
        """PGD's radius, e.g. 8/255."""
        return f"{255 * self.epsilon:g}/255"

    @property
    def right(self) -> Bool[Tensor, " batch"]:
        """The real images that the classifier gets right before anything is done to them."""
        return self.original.classifier == self.labels

    def fooled(self, shown: Shown) -> Bool[Tensor, " batch"]:
        """Those of them that it gets wrong in another version."""
        return self.right & (shown.classifier != self.labels)


HEADER = ("images", "classifier right", "fooled", "judge right", "largest change", "model calls")


def figures(tour: Tour) -> list[list[Entry]]:
    """The table under ``HEADER``: a row a kind of images, counts with their denominators."""
    fooled = share(tour.gas.classifier != tour.asked, "drawn images")
    return [
        ["real images", *_rights(tour.original, tour.labels, ""), "", ""],
        [f"PGD, {tour.ball}", *_attacked(tour, tour.pgd), _moved(tour, tour.pgd), ""],
        ["GAT", *_attacked(tour, tour.gat), _moved(tour, tour.gat), _calls(tour, "gat")],
        [
            "GAP of PGD's",
            *_rights(tour.gap, tour.labels, ""),
            _moved(tour, tour.gap),
            _calls(tour, "gap"),
        ],
        ["unguided draws", *_rights(tour.free, tour.asked, ""), "", _calls(tour, "free")],
        ["GAS", *_rights(tour.gas, tour.asked, counted(fooled)), "", _calls(tour, "gas")],
    ]


def meaning(tour: Tour) -> tuple[str, str]:
    """Two sentences that are true whatever the figures are."""
    return _on_real_images(tour), _on_noise_and_nothing(tour)


def _on_real_images(tour: Tour) -> str:
    right, fooled = int(tour.right.sum()), tour.fooled(tour.gat)
    count, seen = int(fooled.sum()), int((fooled & (tour.gat.judge == tour.labels)).sum())
    judged = (
        f"; in {seen} of these {count} a second network, which guided nothing, still sees the "
        "true class"
    )
    return (
        f"{tour.classifier} gets {right} of {len(tour.labels)} real images right, and moving "
        "those along what a score model holds for natural (GAT) makes it err on "
        f"{count} of these {right}{judged if count else ''}."
    )


def _on_noise_and_nothing(tour: Tour) -> str:
    right, fooled = int(tour.right.sum()), tour.fooled(tour.pgd)
    count, back = int(fooled.sum()), int((fooled & (tour.gap.classifier == tour.labels)).sum())
    repaired = f", and purifying them (GAP) makes {back} of these {count} right again"
    drawn = tour.gas.classifier != tour.asked
    taken, shown = int(drawn.sum()), int((drawn & (tour.gas.judge == tour.asked)).sum())
    agreed = f", {shown} of which the second network sees as asked"
    return (
        f"Noise of at most {tour.ball} (PGD) fools it on {count} of these {right}"
        f"{repaired if count else ''}; of {len(tour.asked)} images drawn from nothing (GAS) it "
        f"takes {taken} for another class than the one asked for{agreed if taken else ''}."
    )


def _rights(shown: Shown, labels: Labels, fooled: Entry) -> list[Entry]:
    return [
        counted(accuracy(shown.classifier, labels)),
        fooled,
        counted(accuracy(shown.judge, labels)),
    ]


def _attacked(tour: Tour, shown: Shown) -> list[Entry]:
    fooled = share(shown.classifier != tour.labels, "images right before", tour.right)
    return _rights(shown, tour.labels, counted(fooled))


def _moved(tour: Tour, shown: Shown) -> Entry:
    moved = linf(to_float(tour.original.images), to_float(shown.images))
    return f"{255 * moved.quantile(0.5).item():.0f}/255"


def _calls(tour: Tour, task: str) -> Entry:
    return f"{tour.calls[task]:.0f}"
