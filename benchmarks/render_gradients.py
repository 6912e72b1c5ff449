"""Tables of what gradients cost: memory, time, evaluations, and how exact they are."""

from markdown_parts import Row, share, table, what


def memory(data: Row) -> str:
    body = []
    for row in data["rows"]:
        kind = "plain autograd" if row["plain"] else "scoreag"
        body.append([kind, str(row["steps"]), f"{row['mib']:.0f}", f"{row['seconds']:.1f}"])
    head = ["gradient", "Heun steps", "MiB above the start", "seconds"]
    return f"\nBatch of {data['batch']}:\n\n" + table(head, body)


def purifier_gradient(data: Row) -> str:
    plain = {r["resolved"]["purifier"]: r["seconds"] for r in data["rows"] if r["way"] == "plain"}
    body = []
    for row in data["rows"]:
        name = row["resolved"]["purifier"]
        body.append([
            f"{name}, {row['resolved']['sampler']}",
            "plain autograd" if row["way"] == "plain" else row["way"],
            f"{row['error']:.1e}",
            f"{row['seconds']:.1f}",
            f"{row['seconds'] / plain[name]:.2f}",
            f"{row['mib']:.0f}",
            str(row["evaluations"]),
        ])  # fmt: skip
    head = ["chain", "gradient by", "error to the float64 truth", "seconds", "of plain's time",
            "MiB above the start", "network evaluations"]  # fmt: skip
    text = f"\nBatch of {data['batch']}, {data['steps']} steps, float32, one run of each:\n\n"
    return text + table(head, body)


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
    return f"\nVictim `{data['victim']}`, {many}:\n\n" + table(head, body)
