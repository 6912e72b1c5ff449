"""The tables of one denoiser as three families, and of the three x0-estimates."""

from markdown_parts import Row, share, table


def parametrisations(data: Row) -> str:
    return (
        f"\n`{data['model']}` and `{data['victim']}`, {data['data']}. How far the denoiser, by way "
        "of a family's network, is from itself (root mean square, in [-1, 1]):\n\n"
        + _same(data["same"])
        + "".join(_converging(data, task) for task in ("GAT", "GAP"))
        + _estimates(data)
    )


def _same(rows: list[Row]) -> str:
    body = [[f"{row['sigma']:g}", *(f"{row[n]:.1e}" for n in ("edm", "vp", "ve"))] for row in rows]
    return table(["sigma", "EDM", "VP", "VE"], body)


def _converging(data: Row, task: str) -> str:
    rows = data[task]
    head = ["ODE of", "levels of", "solver", *(f"{n} steps" for n in rows[0]["steps"]), "order"]
    body = [
        [
            row["family"],
            row["levels"],
            row["solver"],
            *(f"{error:.3g}" for error in row["rms_255"]),
            f"{row['order']:.1f}",
        ]
        for row in rows
    ]
    text = (
        f"\n{task}, {data['few']} images: root mean square in 255ths to the images of EDM's Heun "
    )
    text += f"in {data['fine']} steps, and the order at the last doubling:\n\n"
    return text + table(head, body)


def _estimates(data: Row) -> str:
    body = [
        [
            row["settings"]["estimate"],
            share(row["gat"]),
            share(row["gat_without_retries"]),
            share(row["gap_attacked"]),
            share(row["gap_clean"]),
        ]
        for row in data["estimates"]
    ]
    text = f"\nThe x0-estimates, {data['images']} images, the card's settings:\n\n"
    text += table(
        ["estimate", "GAT success", "without restarts", "GAP, attacked", "GAP, clean"], body
    )
    for task in ("gat", "gap"):
        text += f"\n{task.upper()}: root mean square between the estimate at a level and the image "
        text += "that comes out, in [-1, 1]:\n\n"
        levels = [point["sigma"] for point in data["estimates"][0][f"{task}_far"]]
        lines = [
            [row["settings"]["estimate"], *(f"{p['rms']:.3f}" for p in row[f"{task}_far"])]
            for row in data["estimates"]
        ]
        text += table(["sigma", *(f"{level:.3g}" for level in levels)], lines)
    return text
