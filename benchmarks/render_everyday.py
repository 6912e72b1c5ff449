"""Everyday tasks beside other tools: lines, concepts, seconds and outcomes of each script."""

from collections.abc import Iterator

from markdown_parts import Row, table

MEASURES = {"lines": "lines", "concepts": "concepts", "processor_seconds": "processor seconds"}
OURS = ("scoreag", "shell")


def everyday_short(data: Row) -> str:
    """One row: each measure of ours, and in brackets the least of the other tools."""
    cells = []
    for task in data["tasks"]:
        ours, others = _of_task(data, task)
        (python, *_), words = ours, []
        for name, word in MEASURES.items():
            best = min(row[name] for row in others)
            words.append(f"{word} {python[name]:g} ({best:g})")
        cells.append(", ".join(words))
    head = ["in brackets: the least of other tools", *data["tasks"].values()]
    return "\n" + table(head, [["ScoreAG", *cells]])


def everyday(data: Row) -> str:
    body = [
        [
            data["tasks"][row["task"]], data["tools"][row["tool"]], str(row["lines"]),
            str(row["lines_with_imports"]), str(row["concepts"]),
            f"{row['processor_seconds']:.1f}", f"{row['seconds']:.0f}", _outcome(row),
        ]
        for row in data["rows"]
    ]  # fmt: skip
    head = ["task", "tool", "lines", "with imports", "concepts", "processor seconds",
            "seconds of the clock", "outcome"]  # fmt: skip
    missing = [
        f"{data['tasks'][task]}: " + "; ".join(f"{data['tools'][t]}: {w}" for t, w in why.items())
        for task, why in data["absent"].items()
    ]
    above = list(_above(data)) or ["ScoreAG has the fewest lines and concepts in every task."]
    return (
        "\nScripts: `benchmarks/everyday`. A line is a statement; a concept is a name of others "
        "that the script mentions (`benchmarks/everyday_counts.py`). One thread; the start of "
        "Python and the imports are within the seconds. Other work ran beside: those of the clock "
        "say little."
        "\n\n" + table(head, body)
        + "\nWhat a tool cannot do, it is not shown with:\n\n"
        + "".join(f"- {line}.\n" for line in missing)
        + "\nWhere ScoreAG is above the best other tool:\n\n"
        + "".join(f"- {line}\n" for line in above)
        + "\n" + _reading(data)
    )  # fmt: skip


def _of_task(data: Row, task: str) -> tuple[list[Row], list[Row]]:
    rows = [row for row in data["rows"] if row["task"] == task]
    ours = [row for row in rows if row["tool"] in OURS]
    return ours, [row for row in rows if row["tool"] not in OURS]


def _above(data: Row) -> Iterator[str]:
    """Each measure of a task in which another tool's script is below the one in Python."""
    for task, title in data["tasks"].items():
        (python, *shell), others = _of_task(data, task)
        for name in ("lines", "concepts", "processor_seconds"):
            best = min(others, key=lambda row, name=name: row[name])
            if best[name] < python[name]:
                word = name.replace("_", " ")
                own = [f"; by the command line {one[name]:g}" for one in shell]
                yield (
                    f"{title}: {python[name]:g} {word}, {best[name]:g} by "
                    f"{data['tools'][best['tool']]}{''.join(own)}."
                )


def _outcome(row: Row) -> str:
    if "entry" in row:
        entry = row["entry"]
        robust = entry.get("autoattack_acc", entry.get("external"))
        return f"clean {entry['clean_acc']} %, robust {robust} %"
    if "shown" in row:
        return f"{row['shown']} of {row['of']} show their class; {row['pngs']} PNG"
    if "pngs" in row:
        return f"{row['correct']} of {row['of']} PNG correct, change at most {row['linf_255']:g}"
    return " and ".join(_rate(one) for one in row["printed"])


def _rate(one: Row) -> str:
    if "accuracy" in one:
        return f"{100 * one['accuracy']:.1f} % correct"
    return f"{100 * one['correct'] / one['of']:.1f} % correct"


def _reading(data: Row) -> str:
    """What RobustBench made of our entry and of the model that we loaded."""
    read = next(row["robustbench_reads"] for row in data["rows"] if "robustbench_reads" in row)
    return (
        "The weights of the leaderboard's model are random convolutions below a fitted last layer. "
        "RobustBench reads our entry in its tables, and updates it by a run of its own. The logits "
        f"of its model by our name and by its loader differ by {read['logits_differ_by']:g}. The "
        "scheduler of diffusers clips each estimate of the image to [-1, 1], which helps a DDPM "
        "that was trained for minutes; the samplers of ScoreAG do not clip.\n"
    )
