"""Tables of what gradients cost: memory, time, evaluations, and how exact they are."""

from statistics import median

from markdown_parts import Row, share, table, what


def memory(data: Row) -> str:
    body = []
    for row in data["rows"]:  # what took how long is in the next table, side by side
        kind = "plain autograd" if row["plain"] else "scoreag"
        body.append([kind, str(row["steps"]), f"{row['mib']:.0f}"])
    head = ["gradient", "Heun steps", "MiB above the start"]
    return f"\nBatch of {data['batch']}:\n\n" + table(head, body)


def purifier_gradient(data: Row) -> str:
    plain = {row["resolved"]["purifier"]: row for row in data["rows"] if row["way"] == "plain"}
    body = []
    for row in data["rows"]:
        name = row["resolved"]["purifier"]
        body.append([
            f"{name}, {row['resolved']['sampler']}",
            "plain autograd" if row["way"] == "plain" else row["way"],
            f"{row['error']:.1e}",
            _spread(row["seconds"], ".1f"),
            _spread(_each(row["seconds"], plain[name]["seconds"]), ".2f"),
            f"{median(_each(row['seconds'], row['forward'])) / plain[name]['evaluations']:.1f}",
            f"{median(row['mib']):.0f}",
            str(row["evaluations"]),
        ])  # fmt: skip
    head = ["chain", "gradient by", "error to the float64 truth", "seconds", "of plain's time",
            "forward passes a call", "MiB above the start", "network evaluations"]  # fmt: skip
    text = f"\nBatch of {data['batch']}, {data['steps']} steps, float32, {data['repeats']} rounds: "
    text += "medians, smallest to largest; ratios are of one round each. A call is\n"
    text += (
        "an evaluation of the chain, guided where it is GAP's; a forward pass is one of the bare "
    )
    text += "network.\n\n"
    return text + table(head, body)


def _each(some: list[float], others: list[float]) -> list[float]:
    """Round by round, how many times the one is the other."""
    return [a / b for a, b in zip(some, others, strict=True)]


def _spread(found: list[float], form: str) -> str:
    return f"{median(found):{form}} ({min(found):{form}} to {max(found):{form}})"


def purifiers(data: Row) -> str:
    body = [
        [
            row["purifier"],
            what(row["settings"]) if "settings" in row else "",
            str(row["calls"]),
            share(row["clean"]),
            share(row["attacked"]),
            f"{1000 * row['seconds']:.0f}" if row["calls"] else "",
        ]
        for row in data["rows"]
    ]
    head = ["purifier", "setting", "calls", "clean", "under blind PGD-40", "ms an image"]
    many = f"{data['data']}, {data['images']} images, {255 * data['epsilon']:g}/255, one draw each"
    return f"\nClassifier `{data['victim']}`, {many}:\n\n" + table(head, body)
