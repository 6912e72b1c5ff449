"""The table of public score models in docs/models.md: what they cost, and what is known of them."""

import json
from pathlib import Path

from markdown_parts import table

from scoreag.models.convert.hub import list_checkpoints

BEGIN, END = "<!-- models: begin -->", "<!-- models: end -->"


def models(results: Path) -> str:
    """A line a public model, the smaller images first."""
    data = json.loads((results / "public_cost.json").read_text())
    about, entries = data["about"], list_checkpoints()
    body = [
        [
            f"`{name}`",
            f"{row['side']}",
            str(row["classes"] or "none"),
            f"{row['parameters'] / 1e6:.1f} M",
            f"{row['gflops']:.0f}",
            f"{row['seconds']:.2f}" if row["seconds"] < 10 else f"{row['seconds']:.0f}",
            f"{entries[name].megabytes}" + (", manual" if entries[name].manual else ""),
            entries[name].license,
        ]
        for name, row in data["rows"].items()
    ]
    head = ["--model", "pixels", "classes", "parameters", "GFLOPs", "CPU seconds", "MB", "license"]
    return (
        f"`{about['command']}`, {about['finished']}, {about['machine']}, torch {about['torch']}, "
        f"algorithm {about['algorithm']}; "
        "one call of the network for one image, of random weights:\n\n" + table(head, body)
    )


def page(results: Path, text: str) -> str:
    """``text`` with its table written again."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{models(results)}{END}{rest.split(END)[1]}"
