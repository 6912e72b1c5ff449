"""The two short tables of the README, ten rows in all, from the files in benchmarks/results."""

import json
from pathlib import Path

from markdown_parts import Row, share, short, table

PREFIXES = ("", "cifar100_", "tiny_imagenet_", "fashion_")  # of the results, by data set
UNRESTRICTED = {  # assessments of adversarially trained classifiers of CIFAR-10
    "unrestricted": "cifar10-robust", "unrestricted_prn": "cifar10-robust-prn",
}  # fmt: skip
ATTACKERS = {"blind": "blind PGD-40", "exact": "APGD, exact gradients"}
PURIFIED = ("tiny_imagenet_",)  # whose purification by one draw is shown


def summary(results: Path) -> str:
    """How classifiers fail where the class stays visible, and what purification leaves."""
    found = _transformed(results) | _assessed(results)
    generated = _synthesized(results)
    rows = [[name, pgd, gat, generated.get(name, "")] for name, (pgd, gat) in sorted(found.items())]
    text = table(["fooled, and the judge sees the class", "PGD-40", "GAT", "GAS"], rows)
    head = ["accuracy behind a defense", "clean", *ATTACKERS.values()]
    return f"{text}\n{table(head, [*_voted(results), *_drawn(results)])}"


def _read(results: Path, name: str) -> Row:
    file = results / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else {}


def _pairs(results: Path, task: str) -> dict[str, tuple[Row, Row]]:
    """Of each bundled classifier: what is compared with, and the default."""
    return {
        name: (rows[0], rows[1])
        for of in PREFIXES
        for name, rows in _read(results, f"{of}{task}").get("victims", {}).items()
        if len(rows) > 1 and ":" not in name
    }


def _transformed(results: Path) -> dict[str, tuple[str, str]]:
    """PGD and GAT on given images."""
    return {
        name: (short(pgd["valid"]), short(gat["valid"]))
        for name, (pgd, gat) in _pairs(results, "transformation").items()
    }


def _assessed(results: Path) -> dict[str, tuple[str, str]]:
    """The same in the assessments of classifiers that were trained adversarially."""
    found = {}
    for file, victim in UNRESTRICTED.items():
        cells = {
            cell["attack"]: short(cell["figures"]["fooled_and_shown"])
            for cell in _read(results, file).get("cells", ())
            if cell["state"] == "done" and cell["victim"] == victim and cell["attack"] != "clean"
        }
        if {"pgd", "gat"} <= cells.keys():
            found[victim] = cells["pgd"], cells["gat"]
    return found


def _synthesized(results: Path) -> dict[str, str]:
    """GAS by the defaults."""
    every = _pairs(results, "synthesis") | _pairs(results, "synthesis_robust")
    return {name: short(default["valid"]) for name, (_, default) in every.items()}


def _voted(results: Path) -> list[list[str]]:
    """Purifiers by the vote of several draws; clean accuracy on the most images."""
    rows: dict[str, dict[str, str]] = {}
    cells = _read(results, "purified").get("cells", ())
    for cell in sorted(cells, key=lambda cell: -cell["images"]):
        if cell["attack"] not in ATTACKERS or cell["state"] != "done":
            continue
        figures = cell["figures"]
        (vote,) = (name for name in figures if name.startswith("attacked_accuracy_vote_of_"))
        purifier = cell["purification"].removesuffix("_blind")
        title = f"{purifier}, vote of {vote.rpartition('_')[2]}, {cell['victim']}"
        row = rows.setdefault(title, {})
        row.setdefault("clean", short(figures[vote.replace("attacked", "clean")]))
        row[cell["attack"]] = share(figures[vote])
    return [[title, row["clean"], *(row.get(a, "") for a in ATTACKERS)]
            for title, row in rows.items()]  # fmt: skip


def _drawn(results: Path) -> list[list[str]]:
    """GAP by one draw against a blind attacker."""
    return [
        [f"gap, one draw, {name}", short(rows[1]["clean_purified"]),
         share(rows[1]["attacked_purified"]), ""]
        for of in PURIFIED
        for name, rows in _read(results, f"{of}purification").get("victims", {}).items()
        if len(rows) > 1 and ":" not in name
    ]  # fmt: skip
