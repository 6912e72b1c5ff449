"""The figures of a cell, from its rows alone: each with its denominator by name and an interval."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from scoreag.assess.cells import CLEAN, Cell
from scoreag.assess.columns import Columns
from scoreag.assess.drawn import AGAIN, ALL, RULES, Rule, drawn
from scoreag.core.rejection import errs
from scoreag.figures.bootstrap import of_bootstrap
from scoreag.figures.entries import Entry, of_paired_shares, of_quantile, of_rate
from scoreag.judges import UNTOUCHED
from scoreag.metrics.accuracy import Rate, accuracy, share

RIGHT = "images right before"
MEDIANS = ("l0", "l1", "l2", "linf", "psnr")
MEANS = ("ssim", "lpips")
COSTS = ("calls", "forwards", "backwards", "retries")


def figures(cell: Cell, found: Columns) -> dict[str, Entry]:
    """All figures of a cell by name; of nothing where it has no rows."""
    if not len(found):
        return {}
    if cell.task == CLEAN:
        alone = {"judge_agreement": share(found.shown, ALL)} if found.shown is not None else {}
        right = {"clean_accuracy": clean_of(found, cell.victim, cell), **alone}
        return {name: of_rate(rate) for name, rate in right.items()}
    sure = _sure(found) if cell.strangers else {}
    return {**_verdicts(found), **_judged(found), **drawn(found), **_moved(found), **sure}


def _sure(found: Columns) -> dict[str, Entry]:
    """How sure the classifier is of its answers: the mean of their probabilities."""
    result = {}
    for name, of in (("confidence_before", "before"), ("confidence", "saved")):
        values = [row["confidence"][of] for row in found.rows]
        if None not in values:
            result[name] = _share(of_bootstrap(torch.tensor(values, dtype=torch.float64), ALL))
    return result


def _share(entry: Entry) -> Entry:
    """Marked as a share, which is written in per cent."""
    return {**entry, "unit": "share"}


def _verdicts(found: Columns) -> dict[str, Entry]:
    """Accuracy before and after, and success over all images and over those right before."""
    rates = {"accuracy": share(~found.fooled, ALL), "success": share(found.fooled, ALL)}
    if found.right is not None:
        rates["clean_accuracy"] = share(found.right, ALL)
        rates["success_of_right"] = share(found.fooled, RIGHT, found.right)
    rates["success_float"] = share(found.fooled_float, ALL)
    for name in ("rejected", "rejected_before"):
        if (flags := getattr(found, name)) is not None:
            rates[name] = share(flags, ALL)
    if bool((found.wrong >= 0).any()):
        rates["as_wanted"] = share(found.wanted, ALL)
    return {name: of_rate(rate) for name, rate in rates.items()}


def _judged(found: Columns) -> dict[str, Entry]:
    """What the judges, who were not attacked, see in the images."""
    if found.shown is None:
        return {}
    of = ALL if found.right is None else RIGHT
    rates = {
        "judge_agreement": share(found.shown, ALL),
        "judge_agreement_of_successes": share(found.shown, "successes", found.fooled),
        "fooled_and_shown": share(found.fooled & found.shown, of, found.counted),
    }
    if found.shown_before is not None:
        rates["judge_agreement_before"] = share(found.shown_before, UNTOUCHED)
    return {name: of_rate(rate) for name, rate in rates.items()}


def _moved(found: Columns) -> dict[str, Entry]:
    """How far the saved images are from those before: medians, and means of the likenesses."""
    result: dict[str, Entry] = {}
    for name in MEDIANS:
        if (values := found.number(name)) is not None:
            result[name] = of_quantile(values, 0.5, ALL)
    for name in MEANS:
        if (values := found.number(name)) is not None:
            result[name] = of_bootstrap(values, ALL)
    return result


def cost(found: Columns, seconds: float, memory: int) -> dict[str, float]:
    """What an image cost on average, and the most memory that a process had."""
    count = max(1, len(found))
    per_image = {name: round(sum(row[name] for row in found.rows) / count, 4) for name in COSTS}
    return {**per_image, "seconds": round(seconds / count, 4), "memory_mb": memory >> 20}


def transfer(cell: Cell, found: Columns) -> dict[str, Entry]:
    """For the classifier attacked and each other: errs on the image, of those it got right before.

    Of images from nothing, nobody was right before: of all.
    """

    def rate(before: Tensor | None, saved: Tensor) -> Entry:
        wrong = errs(saved, found.labels)
        if before is None:
            return of_rate(share(wrong, ALL))
        return of_rate(share(wrong, RIGHT, before == found.labels))

    def told(word: str, of: str) -> Tensor:
        return torch.tensor([row["transfer"][word][of] for row in found.rows])

    first = None if found.right is None else torch.where(found.right, found.labels, -1)
    result = {cell.victim: rate(first, found.saved)}
    for word in cell.others:
        before = None if found.right is None else told(word, "before")
        result[word] = rate(before, told(word, "saved"))
    return result


def per_class(found: Columns, classes: int) -> list[dict[str, Any]]:
    """For each class: success, the judges' agreement, and which class it becomes how often."""
    result = []
    for label in range(classes):
        mine = found.labels == label
        into = torch.bincount(found.saved[mine & (found.saved >= 0)], minlength=classes)
        entry: dict[str, Any] = {
            "label": label,
            "success": of_rate(share(found.fooled, f"{RIGHT} of the class"
                                     if found.right is not None else f"{ALL} of the class",
                                     mine & found.counted)),
            "becomes": into.tolist(),
        }  # fmt: skip
        if found.rejected is not None:
            entry["rejected"] = int((mine & found.rejected).sum())
        if found.shown is not None:
            entry["judge_agreement"] = of_rate(share(found.shown, "images of the class", mine))
        if found.shown_before is not None:
            before = share(found.shown_before, f"{UNTOUCHED} of the class", mine)
            entry["judge_agreement_before"] = of_rate(before)
        result.append(entry)
    return result


def difference(a: Columns, b: Columns) -> Entry | None:
    """Success of one attack minus that of another, on the images that both were given.

    Only images that the classifier got right before count; None where there are none.
    """
    place = {int(i): row for row, i in enumerate(b.image_ids)}
    mine = [row for row, i in enumerate(a.image_ids) if int(i) in place and bool(a.counted[row])]
    if len(mine) < 2:
        return None
    theirs = [place[int(a.image_ids[row])] for row in mine]
    return _share(of_paired_shares(a.fooled[mine], b.fooled[theirs], f"{RIGHT}, in both"))


def together(
    parts: Sequence[Columns], stays: Callable[[Columns], Tensor] = lambda found: ~found.fooled
) -> Rate:
    """The images that stay right whatever attack of several is used, of all that each was given.

    Args:
        stays: whether an image is right under one attack; by default at its first draw.
    """
    right: dict[int, bool] | None = None
    for found in parts:
        mine = dict(zip(found.image_ids.tolist(), stays(found).tolist(), strict=True))
        right = mine if right is None else {i: right[i] and mine[i] for i in right if i in mine}
    return Rate(sum((right or {}).values()), len(right or {}), "images given to every attack")


def together_drawn(parts: Sequence[Columns]) -> dict[str, Rate]:
    """The same by several draws: by the worst of each image, and by vote; of one draw nothing."""
    draws = min((AGAIN, *(p.said.shape[1] if p.said is not None else 1 for p in parts)))

    def stays(found: Columns, rule: Rule) -> Tensor:
        assert found.said is not None
        return rule(found.said[:, :draws], found.labels, True)

    rules = RULES if draws > 1 else {}
    return {
        f"{name}_of_{draws}": together(parts, partial(stays, rule=rule))
        for name, rule in rules.items()
    }


def clean_of(found: Columns, victim: str, cell: Cell) -> Rate:
    """How often a victim of the set is right on its images, from the rows of the clean cell."""
    if victim == cell.victim:
        assert found.right is not None
        return share(found.right, ALL)
    said = torch.tensor([row["transfer"][victim]["before"] for row in found.rows])
    return accuracy(said, found.labels, ALL)


def judges_alone(found: Columns) -> Mapping[str, Rate]:
    """How often each judge is right on the images as they are; of images from nothing nothing."""
    judges = found.rows[0]["judges"] if found.rows else {}
    words: Sequence[str] = [word for word, said in judges.items() if "before" in said]
    return {
        word: accuracy(
            torch.tensor([row["judges"][word]["before"] for row in found.rows]),
            found.labels,
            UNTOUCHED,
        )
        for word in words
    }
