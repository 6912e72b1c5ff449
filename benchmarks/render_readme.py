"""The few lines of the README, from the files in benchmarks/results."""

import json
from collections.abc import Iterator
from pathlib import Path

from markdown_parts import Row, share, short, table


def summary(results: Path) -> str:
    """A table of the results in a folder: of each victim the first rows, and no curves."""
    rows = []
    tables = (("transformation", _gat), ("synthesis", _gas), ("purification", _gap))
    for name, pick in ((f"{of}{name}", pick) for of in ("", "fashion_") for name, pick in tables):
        file = results / f"{name}.json"
        if file.exists():
            rows += pick(json.loads(file.read_text()))
            if name == "purification":
                rows += _white_box(results)
    return table(["what", "classifier", "result"], rows)


KINDS = {"blind": "blind PGD", "exact": "APGD along exact gradients"}


def _white_box(results: Path) -> Iterator[list[str]]:
    """Purifiers by the plan of the paper, which says of whom the attacker knows."""
    file = results / "paper_cifar10.json"
    cells = json.loads(file.read_text())["cells"] if file.exists() else []
    for cell in cells:
        if cell["attack"] in KINDS and cell["state"] == "done":
            figures = cell["figures"]
            (vote,) = (name for name in figures if name.startswith("attacked_accuracy_vote_of_"))
            clean = figures[vote.replace("attacked", "clean")]
            said = f"{share(figures[vote])}; originals {short(clean)}"
            purifier = cell["purification"].removesuffix("_blind")
            draws = vote.rpartition("_")[2]
            what = f"{purifier}, vote of {draws}, under {KINDS[cell['attack']]}, 8/255"
            yield [what, cell["victim"], said]


def _pairs(data: Row) -> Iterator[tuple[str, Row, Row]]:
    """Each victim's first two rows, what is compared with and the default, once both are there."""
    return ((name, *rows[:2]) for name, rows in data["victims"].items() if len(rows) > 1)


def _gat(data: Row) -> Iterator[list[str]]:
    for victim, pgd, row in _pairs(data):
        yield ["GAT success, 8-bit file", victim, share(row["success_8bit"])]
        said = f"{short(row['judge'])}; originals {short(row['judge_untouched'])}"
        yield ["the judge still says y*", victim, f"{said}; PGD {short(pgd['judge'])}"]


def _gas(data: Row) -> Iterator[list[str]]:
    for victim, free, row in _pairs(data):
        yield ["GAS success, 8-bit file", victim, share(row["success_8bit"])]
        said = f"{short(row['judge'])}; unguided samples {short(free['judge'])}"
        yield ["the judge says y*", victim, said]


def _gap(data: Row) -> Iterator[list[str]]:
    for victim, base, row in _pairs(data):
        said = f"{short(base['attacked'])} -> {short(row['attacked_purified'])}"
        said += f"; clean {short(base['clean'])} -> {short(row['clean_purified'])}"
        attack = base["settings"].removesuffix(", no purifier")
        yield [f"GAP, accuracy under blind {attack}", victim, said]
