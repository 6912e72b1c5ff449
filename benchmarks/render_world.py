"""The tables of the small world: what was trained, what the cards say, and the three families."""

from markdown_parts import Row, share, short, table, what


def world(data: Row) -> str:
    """What was trained, how long it took, and what the cards say."""
    sat = " + ".join(f"{minutes:.0f}" for minutes in data["sittings"])
    told = f"{data['workers']} commands at a time, a thread each: {sat} minutes, all included."
    return f"\n{told}\n{cards(data)}"


def cards(data: Row) -> str:
    """What cards say of their training and figures; a score model's also over its training."""
    rows: dict[str, list[list[str]]] = {"score-model": [], "classifier": []}
    measured = [radius_of(n) for model in data["models"] for n, _ in under_attack(model)]
    radius = max(measured, default=8.0)
    for model in data["models"]:
        rows[model["kind"]].append(
            [
                model["name"],
                f"{model['images_seen']:,}",
                f"{model['minutes']:.0f}",
                *right(model, radius),
            ]
        )
    head = ["images seen", "minutes"]
    text = "\n" + table(["score model", *head], rows["score-model"]) + "\n"
    head += ["accuracy, test images", f"under PGD-40, {radius:g}/255"]
    return (
        text
        + table(["classifier", *head], rows["classifier"])
        + whole(data["card"])
        + curve(data["curve"])
    )


def right(model: Row, radius: float) -> list[str]:
    """A classifier's accuracy, and that under attack where it was measured."""
    if model["kind"] != "classifier":
        return []
    under = [share(entry) for name, entry in under_attack(model) if radius_of(name) == radius]
    return [share(model["figures"]["test"]["accuracy"]), *under, ""][:2]


def under_attack(model: Row) -> list[tuple[str, Row]]:
    groups = model.get("figures", {}).values()
    return [item for group in groups for item in group.items() if item[0].startswith(PGD)]


def radius_of(name: str) -> float:
    return float(name.removeprefix(PGD))


PGD = "accuracy_pgd40_"  # of a card's figures, followed by the radius, of 255
FIGURES = ("frechet_judge", "kernel_judge", "precision_judge", "recall_judge", "judge_accuracy")


def curve(found: Row) -> str:
    """A score model over its training, and what training images score in place of its draws."""
    lines = [
        [f"{point['images_seen']:,}", *(told(point["figures"][name]) for name in FIGURES)]
        for point in found["curve"]
    ]
    head = ["images seen", "Fréchet", "kernel", "precision", "recall", "judge"]
    return _drawn(found) + table(head, [*lines, floor(found["figures"])])


def whole(found: Row) -> str:
    """A score model after all its training, and how near its draws come to training images."""
    line = ["samples", *(told(found["figures"][name]) for name in FIGURES)]
    head = ["", "Fréchet", "kernel", "precision", "recall", "judge"]
    text = _drawn(found) + table(head, [line, floor(found["figures"])])
    near = [
        [kind, of, *(told(one) for one in entries.values())]
        for kind, sets in found["neighbours"].items()
        for of, entries in sets.items()
    ]
    text += "\nDistance to the nearest training image:\n\n"
    text += table(["in", "of", "median", "5 % quantile"], near)
    speed = found["speed"]
    calls = ", ".join(f"{n}: {told(one)}" for n, one in speed["seconds"].items())
    text += f"\nSeconds an image by denoiser calls, {speed['threads']} threads, beside other work: "
    return f"{text}{calls}.\n"


def floor(figures: Row) -> list[str]:
    *distances, _ = FIGURES
    found = [told(figures[f"{name}_floor"]) for name in distances]
    return ["training images", *found, f"{told(figures['judge_accuracy_test'])}, test images"]


def _drawn(found: Row) -> str:
    told = found["settings"]
    how = f"{told['images']:,} unguided samples, {told['sampler']}, {told['calls']} calls"
    return f"\n{how}, against as many test images:\n\n"


def guidance(data: Row) -> str:
    """Samples by the scale, the guide and the interval of the prior's guidance."""
    lines = []
    for row in data["rows"]:
        given, figures = row["guidance"], row["metrics"]
        lines.append(
            [
                *_guided(given),
                given.get("guide", "null") if given else "",
                f"{row['sampler']}, {row['calls']}",
                *(told(figures[name]) for name in FIGURES),
                told(row["neighbors"]["judge"]["samples"]["median"]),
            ]
        )
    first = data["rows"][0]
    images = first["metrics"]["judge_accuracy"]["total"]
    text = (
        f"\n{images:,} samples each, against as many test images. A call guided by the null label "
        "or by a weaker model takes two evaluations. The last column is the median distance "
        "to the nearest training image in the judge's features; of test images it is "
        f"{told(first['neighbors']['judge']['test images']['median'])}.\n\n"
    )
    head = ["w", "noise levels", "guide", "sampler, calls", "Fréchet", "kernel", "precision",
            "recall", "judge", "nearest"]  # fmt: skip
    return text + table(head, lines)


def guidance_curves(data: Row) -> str:
    """Fewer samples by more scales and intervals, by the classifier that chose."""
    body = [
        [
            *_guided(row["guidance"]),
            f"{row['frechet']:.1f}",
            short(row["precision"]),
            short(row["recall"]),
            share(row["judge"]),
        ]
        for row in data["rows"]
    ]
    text = (
        f"\n{data['images']} samples each (ancestral, {data['rows'][0]['calls']} calls) against as "
        "many training images that no model saw, all by the third classifier that chose:\n\n"
    )
    head = ["w", "noise levels", "Fréchet", "precision", "recall", "it says y*"]
    return text + table(head, body)


def _guided(given: Row) -> list[str]:
    """The scale and the noise levels of a guidance."""
    low, high = given.get("guidance_interval") or (0, None)
    levels = "all" if high is None else f"{low:g} to {high:g}"
    return [f"{given.get('guidance_scale', 1):g}", levels]


def told(entry: Row) -> str:
    """A figure with its interval; a share with its count."""
    if "count" in entry:
        return share(entry)
    return f"{entry['value']:.4g} ({entry['low']:.4g} to {entry['high']:.4g})"


def draws(data: Row) -> str:
    """Unguided samples by sampler."""
    rows = [
        [
            row["settings"]["sampler"],
            str(row["settings"]["calls"]),
            share(row["judge"]),
            f"{row['frechet']:.1f}",
        ]
        for row in data["rows"]
    ]
    text = (
        f"\n`{data['model']}`, {data['images']} samples with seed {data['seed']}; of as many test "
    )
    text += f"images the judge says the label of {share(data['judge'])}.\n\n"
    return text + table(["sampler", "calls", "judge says y*", "Fréchet"], rows)


def families(data: Row) -> str:
    """The same network as EDM, DDPM and NCSN."""
    first = [
        [
            row["family"],
            share(row["draws_judge"]),
            f"{row['draws_frechet']:.2f}",
            share(row["gas_success"]),
            share(row["gas_judge"]),
            share(row["gat_success"]),
            share(row["gat_judge"]),
            f"{row['gat_frechet']:.2f}",
        ]
        for row in data["rows"]
    ]
    second = [
        [
            row["family"],
            what(row["purify"]),
            share(row["attacked_purified"]),
            share(row["clean_purified"]),
        ]
        for row in data["rows"]
    ]
    head = ["family", "samples: judge says y*", "samples: Fréchet", "GAS success", "GAS: judge",
            "GAT success", "GAT: judge", "GAT: Fréchet"]  # fmt: skip
    text = f"\n{len(data['rows'])} models of one network, trained equally long; "
    text += f"{data['images']} test images, {data['per_class']} samples a class:\n\n"
    text += table(head, first)
    text += "\nGAP at the setting that served each best on training images that no model saw:\n\n"
    return text + table(["family", "setting", "attacked, purified", "clean, purified"], second)
