"""The tables of the small world: what was trained, what the cards say, and the three families."""

from markdown_parts import Row, share, table, what


def world(data: Row) -> str:
    """What was trained, how long it took, and what the cards say."""
    scores = [
        [
            model["name"],
            f"{model['images_seen']:,}",
            f"{model['minutes']:.0f}",
            f"{model['loss']:.4f}",
        ]
        for model in data["models"]
        if model["kind"] == "score-model"
    ]
    victims = [
        [
            model["name"],
            f"{model['images_seen']:,}",
            f"{model['minutes']:.0f}",
            *(
                share(entry) if entry else ""
                for entry in (accuracy(model, ""), accuracy(model, "_pgd40_25.5"))
            ),
        ]
        for model in data["models"]
        if model["kind"] == "classifier"
    ]
    begun = "from nothing" if data["from_nothing"] else "going on from what was done before"
    text = f"\n{data['workers']} commands at a time, a thread each, {begun}: "
    text += f"{data['minutes']:.0f} minutes in all.\n\n"
    text += table(["score model", "images seen", "minutes", "training loss"], scores)
    head = [
        "classifier",
        "images seen",
        "minutes",
        "right, fashion-mnist:test",
        "under PGD-40, 0.1",
    ]
    return text + "\n" + table(head, victims) + whole(data["card"]) + curve(data["curve"])


def accuracy(model: Row, attack: str) -> Row | None:
    found: Row | None = model["figures"].get("test", {}).get(f"accuracy{attack}")
    return found


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
    return text + f"\nSeconds an image by denoiser calls, {speed['threads']} threads: {calls}.\n"


def floor(figures: Row) -> list[str]:
    *distances, _ = FIGURES
    found = [told(figures[f"{name}_floor"]) for name in distances]
    return ["training images", *found, f"{told(figures['judge_accuracy_test'])}, test images"]


def _drawn(found: Row) -> str:
    images, calls = found["settings"]["images"], found["settings"]["calls"]
    return f"\n{images:,} unguided draws, Heun, {calls} calls, against as many test images:\n\n"


def told(entry: Row) -> str:
    """A figure with its interval; a share with its count."""
    if "count" in entry:
        return share(entry)
    return f"{entry['value']:.4g} ({entry['low']:.4g} to {entry['high']:.4g})"


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
