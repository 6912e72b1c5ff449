"""The two short tables of the README, from the files in benchmarks/results."""

import json
from collections.abc import Iterator
from pathlib import Path

from markdown_parts import Row, share, short, table

PREFIXES = ("", "cifar100_", "tiny_imagenet_", "fashion_")  # of the results, by data set
ATTACKERS = {"blind": "blind PGD-40", "exact": "APGD, exact gradients"}


def summary(results: Path) -> str:
    """Attacks of the bundled classifiers, and what purification leaves; the defaults alone."""
    attacked = [
        row
        for of in PREFIXES
        for name, pick in (
            ("transformation", _gat),
            ("synthesis", _gas),
            ("synthesis_robust", _gas),
        )
        for row in pick(_read(results, f"{of}{name}"))
    ]
    purified = [*_purifiers(_read(results, "paper_cifar10"))]
    for of in PREFIXES:
        purified += _gap(_read(results, f"{of}purification"))
    text = table(
        ["attack", "classifier", "success (8-bit file)", "judge sees the class", "compare"],
        attacked,
    )
    head = ["defense", "classifier", "attacker, Linf", "accuracy under attack", "clean"]
    return f"{text}\n{_robust(results)}\n{table(head, purified)}"


ROBUST = {"unrestricted": "cifar10-robust", "unrestricted_prn": "cifar10-robust-prn",
          "unrestricted_fashion": "fashion-robust"}  # fmt: skip
COMPARED = {
    "gat": "GAT", "pgd": "PGD-40", "auto_ensemble": "ensemble of APGD and Square",
    "stadv": "StAdv (spatial)", "lpa": "LPA (LPIPS)",
}  # fmt: skip


def _robust(results: Path) -> str:
    """What fools adversarially trained classifiers while the judge still sees the class."""
    found: dict[str, dict[str, str]] = {attack: {} for attack in COMPARED}
    for name, victim in ROBUST.items():
        for cell in _read(results, name).get("cells", ()):
            kept = cell["state"] == "done" and cell["victim"] == victim
            if kept and cell["attack"] in found:
                found[cell["attack"]][victim] = short(cell["figures"]["fooled_and_shown"])
    victims = list(dict.fromkeys(v for row in found.values() for v in row))
    head = ["fooled, and the judge sees the class", *victims]
    rows = [
        [COMPARED[attack], *(row.get(victim, "") for victim in victims)]
        for attack, row in found.items()
    ]
    return table(head, rows)


def _read(results: Path, name: str) -> Row:
    file = results / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else {}


def _pairs(data: Row) -> Iterator[tuple[str, Row, Row]]:
    """Of each bundled classifier: what is compared with, and the default."""
    for name, rows in data.get("victims", {}).items():
        if len(rows) > 1 and ":" not in name:
            yield name, rows[0], rows[1]


def _gat(data: Row) -> Iterator[list[str]]:
    for name, pgd, row in _pairs(data):
        beside = f"PGD-40: success {short(pgd['success_8bit'])}, judge {short(pgd['judge'])}"
        yield ["GAT", name, share(row["success_8bit"]), short(row["judge"]), beside]


def _gas(data: Row) -> Iterator[list[str]]:
    for name, free, row in _pairs(data):
        beside = f"samples without attack: judge {short(free['judge'])}"
        yield ["GAS", name, share(row["success_8bit"]), short(row["judge"]), beside]


def _purifiers(data: Row) -> Iterator[list[str]]:
    """Purifiers by the vote of several draws, in the plan of the paper."""
    for cell in data.get("cells", ()):
        if cell["attack"] in ATTACKERS and cell["state"] == "done":
            figures = cell["figures"]
            (vote,) = (name for name in figures if name.startswith("attacked_accuracy_vote_of_"))
            defense = (
                f"{cell['purification'].removesuffix('_blind')}, vote of {vote.rpartition('_')[2]}"
            )
            clean = short(figures[vote.replace("attacked", "clean")])
            attacker = f"{ATTACKERS[cell['attack']]}, 8/255"
            yield [defense, cell["victim"], attacker, share(figures[vote]), clean]


def _gap(data: Row) -> Iterator[list[str]]:
    for name, base, row in _pairs(data):
        attacker = f"blind {base['settings'].removesuffix(', no purifier')}"
        clean = short(row["clean_purified"])
        yield ["gap, one draw", name, attacker, share(row["attacked_purified"]), clean]
