"""The tables of the small world: what was trained, what the cards say, and the three families."""

from markdown_parts import Row, share, table, what


def world(data: Row) -> str:
    """What was trained, how long it took, and what the cards say."""
    rows: dict[str, list[list[str]]] = {"score-model": [], "classifier": []}
    for model in data["models"]:
        rows[model["kind"]].append(
            [model["name"], f"{model['images_seen']:,}", f"{model['minutes']:.0f}", *right(model)]
        )
    sat = " + ".join(f"{minutes:.0f}" for minutes in data["sittings"])
    text = (
        f"\n{data['workers']} commands at a time, a thread each: {sat} minutes, all included.\n\n"
    )
    head = ["images seen", "minutes"]
    text += table(["score model", *head], rows["score-model"]) + "\n"
    head += ["right, test images", "under PGD-40, 0.1"]
    return (
        text
        + table(["classifier", *head], rows["classifier"])
        + whole(data["card"])
        + curve(data["curve"])
    )


def right(model: Row) -> list[str]:
    """A classifier's accuracy, and that under attack where it was measured."""
    if model["kind"] != "classifier":
        return []
    test = model["figures"]["test"]
    names = ("accuracy", "accuracy_pgd40_25.5")
    return [share(test[name]) if name in test else "" for name in names]


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
    line = ["the draws", *(told(found["figures"][name]) for name in FIGURES)]
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
    how = f"{told['images']:,} unguided draws, {told['sampler']}, {told['calls']} calls"
    return f"\n{how}, against as many test images:\n\n"


def told(entry: Row) -> str:
    """A figure with its interval; a share with its count."""
    if "count" in entry:
        return share(entry)
    return f"{entry['value']:.4g} ({entry['low']:.4g} to {entry['high']:.4g})"


def draws(data: Row) -> str:
    """Unguided draws by sampler."""
    rows = [
        [
            row["settings"]["sampler"],
            str(row["settings"]["calls"]),
            share(row["judge"]),
            f"{row['frechet']:.1f}",
        ]
        for row in data["rows"]
    ]
    text = f"\n`{data['model']}`, {data['images']} draws with seed {data['seed']}; of as many test "
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
    head = ["family", "draws: judge says y*", "draws: Fréchet", "GAS success", "GAS: judge",
            "GAT success", "GAT: judge", "GAT: Fréchet"]  # fmt: skip
    text = f"\n{len(data['rows'])} models of one network, trained equally long; "
    text += f"{data['images']} test images, {data['per_class']} draws a class:\n\n"
    text += table(head, first)
    text += "\nGAP at the setting that served each best on training images that no model saw:\n\n"
    return text + table(["family", "setting", "attacked, purified", "clean, purified"], second)
