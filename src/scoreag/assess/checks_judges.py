"""Checks of the judges: none of them is attacked, and each is right on untouched images."""

from collections.abc import Iterator, Mapping, Sequence

from scoreag.assess.cells import Cell
from scoreag.assess.checks import Finding
from scoreag.judges import doubt
from scoreag.metrics.accuracy import Rate


def of_group(cells: Sequence[Cell], right: Mapping[str, Rate]) -> Iterator[Finding]:
    """What is doubtful about the judges of a set.

    Args:
        cells: those of the set, the first of them that of its images as they are.
        right: how often each judge is right on these images; empty where nobody was asked.
    """
    first = cells[0]
    for word in first.judges:
        if not right.get(word):
            told = f"how often the judge {word} is right on untouched images is not known; do "
            yield Finding("judge", first.name, True, f"{told}the cell {first.group}/clean, too")
        elif told := doubt(word, right[word], len(first.classes)):
            yield Finding("judge", first.name, True, told)
    for word, victim in sorted({pair for cell in cells for pair in attacked(cell)}):
        yield Finding(
            "judge", first.name, True,
            f"the judge {word} has the weights of {victim}, which is attacked: its agreement says "
            "nothing of what the images show; give another judge, trained apart",
        )  # fmt: skip


def attacked(cell: Cell) -> list[tuple[str, str]]:
    """The judges of a cell that have the weights of a victim of its set, each with the victim."""
    content = cell.content
    victims = {cell.victim: content.get("victim"), **content.get("others", {})}
    return [
        (word, victim)
        for word, judge in content.get("judges", {}).items()
        for victim, of in victims.items()
        if judge and of and judge.get("sha256") == of.get("sha256")
    ]


def are_known(cells: Sequence[Cell]) -> bool:
    """Whether the digests of all judges and victims are known, so that they can be compared."""
    return all(
        cell.content.get("victim") and {*cell.judges} <= {*cell.content.get("judges", {})}
        for cell in cells
        if cell.judges
    )
