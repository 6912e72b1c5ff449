"""Studies and answers of a few people, small enough to count by hand."""

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from scoreag.study.intervals import Ratings
from scoreag.study.manifest import EXCLUSIONS, compute_study_id

COLUMNS = ("trial", "item", "kind", "answer", "ms")


def make_manifest(design: str = "name", **changes: Any) -> dict[str, Any]:
    """Three sources, each clean (items 0 to 2) and as gat (3 to 5), two checks and a practice.

    Labels are 0, 1, 2.  All of gat but item 5 fool the classifier.
    """
    rows = [
        {
            "item": i, "condition": ("clean", "gat")[i // 3], "source": f"cifar10:test#{i % 3}",
            "label": i % 3, "fooled": None if i < 3 else i != 5, "sha256": "", "purpose": "main",
            "proxies": {"judge": 0.9, "semantic": None, "lpips": 0.1 * i}, "pair": None,
            "side": ("left", "right")[i % 2], "right": None,
        }
        for i in range(6)
    ]  # fmt: skip
    right = {"name": 1, "choose": "left", "real": "fake"}[design]
    for i, purpose in ((6, "check"), (7, "check"), (8, "practice")):
        rows.append({**rows[0], "item": i, "purpose": purpose, "right": right, "label": 1})
    manifest = {
        "format": 1, "task": "study", "title": "Made up", "design": design,
        "classes": ["cat", "dog", "ship"], "seed": 0, "raters": 4, "conditions": ["clean", "gat"],
        "items": rows, "lists": [[0, 4, 2], [3, 1, 5]], "repeats": 1, "checks": 2,
        "practice": [8], "minimal_ms": 200, "exclusions": dict(EXCLUSIONS), "completion_code": "X",
        **changes,
    }  # fmt: skip
    return {"study": compute_study_id(manifest), **manifest, "created": "2026-11-29T00:00:00+00:00"}


def write_manifest(folder: Path, manifest: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def answer(
    manifest: dict[str, Any], name: str, main: list[Any], number: int = 0, **changes: Any
) -> dict[str, Any]:
    """A person's answers to the three images of the list, right on checks, the first one again."""
    items = manifest["lists"][number]
    right = manifest["items"][6]["right"]
    asked = [(8, "practice", right), *((i, "main", a) for i, a in zip(items, main, strict=True))]
    asked += [(6, "check", right), (7, "check", right), (items[0], "repeat", main[0])]
    trials = [
        {"trial": k, "item": item, "kind": kind, "answer": given, "ms": 800 + 10 * k}
        for k, (item, kind, given) in enumerate(asked)
    ]
    fields = {
        "format": 1, "study": manifest["study"], "participant": name, "list": number,
        "consent": True, "started": "2026-11-29T10:00:00Z", "finished": "2026-11-29T10:05:00Z",
        "complete": True, "screen": {"width": 800, "height": 600, "pixel_ratio": 1}, "resumed": 0,
        "trials": trials,
    }  # fmt: skip
    return seal({**fields, **changes})


def seal(fields: dict[str, Any]) -> dict[str, Any]:
    """The same with the digest that the page would write; here computed as the format says."""
    trials = [[trial[name] for name in COLUMNS] for trial in fields["trials"]]
    parts = [fields["study"], fields["participant"], fields["list"], trials]
    text = json.dumps(parts, separators=(",", ":"))
    return {**fields, "digest": hashlib.sha256(text.encode()).hexdigest()}


def write_json_answers(folder: Path, fields: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{fields['participant']}.json"
    path.write_text(json.dumps(fields, indent=1))
    return path


def write_csv_answers(path: Path, people: list[dict[str, Any]]) -> Path:
    """As the page writes it: a row a trial, true and false in lower case, no value as nothing."""
    names = [n for n in people[0] if n not in ("format", "screen", "trials", "digest")]
    header = [*names, *COLUMNS, "digest"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for fields in people:
            for trial in fields["trials"]:
                row = {**fields, **trial}
                words = ["" if row[n] is None else row[n] for n in header]
                writer.writerow([str(w).lower() if isinstance(w, bool) else w for w in words])
    return path


def make_ratings(table: list[list[int | None]], n_categories: int, source: Any = None) -> Ratings:
    """A row a person and a column an item; None is no answer.  The score is category 0."""
    cells = [(i, j, a) for i, row in enumerate(table) for j, a in enumerate(row) if a is not None]
    person, item, category = (torch.tensor(column) for column in zip(*cells, strict=True))
    sources = torch.arange(len(table[0])) if source is None else torch.tensor(source)
    score = (category == 0).double()
    return Ratings(person, item, category, score, sources, len(table), n_categories)
