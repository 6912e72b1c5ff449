"""The tables of the three tasks, a table a victim, and of how fast images are made."""

from collections.abc import Callable

from markdown_parts import Row, share, short, table, what


def by_victim(
    data: Row,
    head: list[str],
    told: Callable[[list[Row]], str],
    line: Callable[[Row], list[str]],
    skipped: int = 0,
) -> str:
    """A table a victim, under what is told of its rows; the first ones may be told only."""
    return "".join(
        f"\nClassifier `{victim}`, {told(rows)}\n\n" + table(head, map(line, rows[skipped:]))
        for victim, rows in data["victims"].items()
    )


def transformation(data: Row) -> str:
    head = ["setting", "success, 8 bit", "without restarts", "targeted success", "judge says y*",
            "both", "judge, originals", "Linf x 255", "L2", "LPIPS", "Fréchet", "NFE"]  # fmt: skip

    def line(row: Row) -> list[str]:
        names = ("without_retries", "as_wanted", "judge", "valid", "judge_untouched")
        return [
            what(row["settings"]),
            share(row["success_8bit"]),
            *(short(row[k]) if k in row else "" for k in names),
            f"{row['linf_255']:.0f}",
            f"{row['l2']:.2f}",
            f"{row['lpips']:.4f}" if "lpips" in row else "",
            f"{row['frechet']:.2f}",
            f"{row['calls']:.0f}" if "calls" in row else "",
        ]

    over = "all shares over the images that it classified correctly before:"
    return by_victim(data, head, lambda _: f"{data['data']}, {data['images']} images; {over}", line)


def synthesis(data: Row) -> str:
    head = [
        "setting",
        "success, 8 bit",
        "without restarts",
        "targeted success",
        "judge says y*",
        "both",
        "NFE",
    ]

    def line(row: Row) -> list[str]:
        return [
            drawn(row["settings"]),
            share(row["success_8bit"]),
            short(row["without_retries"]) if "without_retries" in row else "",
            short(row["as_wanted"]) if "as_wanted" in row else "",
            share(row["judge"]),
            share(row["valid"]) if "valid" in row else "",
            f"{row['calls']:.0f}",
        ]

    many = f"{data['per_class']} images a class, seed {data['seed']}; shares over all images:"
    return by_victim(data, head, lambda _: many, line)


def drawn(settings: Row) -> str:
    """The settings of GAS in words; at strength 0 there is no attack."""
    if settings.get("strength", settings.get("attack_scale")) != 0:
        return what(settings)
    others = what(
        {
            name: value
            for name, value in settings.items()
            if name not in ("strength", "attack_scale")
        }
    )
    return "no attack, same seeds" + ("" if others == "default" else f", {others}")


def purification(data: Row) -> str:
    head = ["setting", "attacked, purified", "clean, purified", "L2 to the clean image", "NFE"]

    def told(rows: list[Row]) -> str:
        right, left = (share(rows[0][name]) for name in ("clean", "attacked"))
        many = f"{data['data']}, {data['images']} images. Without purifier it has {right} right"
        attack = rows[0]["settings"].removesuffix(", no purifier")
        return f"{many}, and under {attack} {left}."

    def line(row: Row) -> list[str]:
        return [
            what(row["settings"]),
            share(row["attacked_purified"]),
            share(row["clean_purified"]),
            f"{row['attacked_l2']:.2f}",
            f"{row['calls']:.0f}",
        ]

    return by_victim(data, head, told, line, skipped=1)


def sampling(data: Row) -> str:
    first = data["rows"][0]
    body = [
        [
            row["variant"],
            share(row["success_8bit"]),
            share(row["judge"]),
            f"{row['calls']:.0f}",
            f"{row['seconds']:.1f}",
            f"{first['seconds'] / row['seconds']:.1f}",
            f"{row['peak_mib']:.0f}",
        ]
        for row in data["rows"]
    ]
    head = ["variant", "success", "judge says y*", "NFE", "seconds", "times faster", "peak MiB"]
    text = f"\n{10 * data['per_class']} images, one run of each, without restarts unless said:\n\n"
    return text + table(head, body)
