"""The tables of attacks: beside other libraries, and each at its own aim beside PGD."""

from markdown_parts import Row, share, short, table

NUMBERS = {"LPIPS": "lpips"}
SHARES = {
    "success": "success_8bit",
    "one step": "success_8bit",
    "what a purifier leaves": "purified",
    "what the judge says": "judge",
}


def attacks(data: Row) -> str:
    text = f"\n{data['data']}, of {data['images']} images those classified correctly before; "
    text += f"8/255. Times: {data['repeats']} rounds, the two in turns; the median ratio.\n"
    for victim, rows in data["beside"].items():
        text += f"\nClassifier `{victim}`:\n\n" + table(
            ["what", "ours", "theirs", "their time / ours", "each round"], map(_pair, rows)
        )
    text += "\nEach attack at its own goal. Calls are per image; 'transferred' is to the other "
    text += "classifier; 'purified' is behind GAP, which the attack did not see.\n"
    for victim, rows in data["aims"].items():
        head = ["attack", "success, 8 bit", "transferred", "judge says y*", "purified",
                "Linf x 255", "L2", "LPIPS", "gradients", "other calls", "its aim",
                "PGD there"]  # fmt: skip
        lines = [_line(row, rows[0]) for row in rows]
        text += f"\nClassifier `{victim}`:\n\n" + table(head, lines)
    return text


def _pair(row: Row) -> list[str]:
    rounds = ", ".join(f"{ratio:.2f}" for ratio in row["ratios"])
    return [
        row["settings"],
        share(row["ours"]),
        share(row["theirs"]),
        f"{row['ratio']:.2f}",
        rounds,
    ]


def _line(row: Row, pgd: Row) -> list[str]:
    aim = row["aim"]
    return [
        row["settings"],
        share(row["success_8bit"]),
        short(row["transferred"]),
        short(row["judge"]),
        short(row["purified"]) if "purified" in row else "",
        f"{row['linf_255']:.0f}",
        f"{row['l2']:.2f}",
        f"{row['lpips']:.4f}" if "lpips" in row else "",
        f"{row['gradients']:.0f}",
        f"{row['answers']:.0f}",
        f"{aim}: {_reached(aim, row)}" if _reached(aim, row) else aim,
        _reached(aim, pgd),
    ]


def _reached(aim: str, row: Row) -> str:
    """The figure that an attack is made for."""
    if aim == "transfer":
        said = row["judge"]
        return f"the judge errs on {said['total'] - said['count']} of {said['total']}"
    if aim == "no gradient":
        return f"{row['gradients']:.0f} gradients"
    if aim in SHARES:
        return short(row[SHARES[aim]])
    return f"{row[NUMBERS[aim]]:.4f}" if NUMBERS.get(aim) in row else ""
