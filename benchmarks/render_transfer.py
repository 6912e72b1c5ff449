"""The table of transfer: attacks at equal LPIPS, and each variant that ran."""

from markdown_parts import Row, table


def transfer(data: Row) -> str:
    """Transfer by LPIPS with its interval, then what each strength did."""
    levels = data["at_equal_lpips"]
    names = list(data["variants"])
    body = [
        [name, *(_with_interval(by_name[name]) for by_name in levels.values())] for name in names
    ]
    held = ", ".join(f"`{name}`" for name in data["held"])
    text = (
        f"\nMade against `{data['source']}` from {data['images']} images of {data['data']}, and "
        f"shown to {held}: the mean of the shares that each gets wrong, of those that it got right "
        "before. Between the strengths that ran, it is interpolated at each mean LPIPS; the "
        "interval is that of a bootstrap over images.\n\n"
    )
    text += table(["attack", *(f"LPIPS {level}" for level in levels)], body)
    rows = [
        [
            name,
            f"{row['lpips']:.5f}",
            f"{100 * row['transfer']:.0f} %",
            f"{100 * row['shown']:.0f} %",
        ]
        for name, variants in data["variants"].items()
        for row in variants
    ]
    head = ["attack, from its weakest strength", "mean LPIPS", "transfer", "judge says y*"]
    return text + "\n" + table(head, rows)


def _with_interval(found: Row) -> str:
    if found["value"] is None:
        return "beyond its strengths"
    value, low, high = (100 * found[name] for name in ("value", "low", "high"))
    return f"{value:.0f} % ({low:.0f} to {high:.0f})"
