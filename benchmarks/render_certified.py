"""Certificates: of images, a line a noise level; of generators and of classifiers, one each."""

from markdown_parts import Row, share, short, table

from scoreag.certify.steered_generator import EVENTS


def certified(data: Row) -> str:
    first = data["rows"][0]
    radii = list(first["certified"])
    names = {row["models"]["classifier"]: None for row in data["rows"]}
    text = "\n" + ", ".join(f"`{name}`" for name in names)
    text += f" behind `{first['models']['score-model']}`, "
    text += f"{first['data']}, {first['images']} images; L2, pixels in [0, 1]. The certificate of "
    text += f"an image is wrong with probability {first['alpha']:g} at most.\n\n"
    several = len(names) > 1
    head = [
        *["classifier"] * several, "noise", "N0", "N", "networks", "accuracy, radius 0",
        "abstained", *(f"certified at {r}" for r in radii), "mean radius", "images a minute",
    ]  # fmt: skip
    lines = [[*[row["models"]["classifier"]] * several, *_line(row)] for row in data["rows"]]
    return text + table(head, lines)


def _line(row: Row) -> list[str]:
    return [
        f"{row['noise']:g}", str(row["select"]), f"{row['samples']:,}",
        row["precision"] + ", compiled" * row.get("compiled", False),
        share(row["rates"]["accuracy"]), short(row["rates"]["abstained"]),
        *("beyond N" if entry is None else share(entry) for entry in row["certified"].values()),
        f"{row['mean_radius']:.3f}", f"{row['images'] / row['minutes']:.2f}",
    ]  # fmt: skip


def promised(data: Row) -> str:
    first = data["rows"][0]
    models = first["models"]
    text = f"\nSamples of `{models['score-model']}`, classified by `{models['classifier']}`, "
    text += f"{first['per_class']} of each class. With probability {1 - first['alpha']:g} all "
    text += "classes' bounds hold at once.\n\n"
    head = ["attack scale s_y", "purifier", "sampler", "steps", "misclassified",
            "at most, mean over classes", "at most, the worst class"]  # fmt: skip
    return text + table(head, map(_generator, data["rows"]))


def _generator(row: Row) -> list[str]:
    return [
        f"{row['strength']:g}", row["purifier"], row["sampler"], str(row["steps"]),
        share(row["misclassified"]),
        *(f"{100 * row[name]:.1f} %" for name in ("upper_mean", "upper_largest")),
    ]  # fmt: skip


def steered(data: Row) -> str:
    """A table an event: for each generator and classifier the bound over R, and our attack."""
    first = data["rows"][0]
    lengths = [f"{length:g}" for length in first["energy"]]
    text = (
        f"\nIn all classes together; all bounds of a run hold at once with probability "
        f"{1 - first['alpha']:g}. R is the length of the shifts of the noise, in its deviations. "
        "Each cell: at most, for everyone who steers within R; below it what our attack reached.\n"
    )
    for event in first["events"]:
        rows = [row for row in data["rows"] if event in row["events"]]
        head = ["generator", "classifier", "purifier", "R = 0", *(f"R = {r}" for r in lengths)]
        text += f"\n{EVENTS[event].capitalize()}:\n\n"
        text += table(head, [_steered_line(row, row["events"][event], lengths) for row in rows])
    return text


def _steered_line(row: Row, found: Row, lengths: list[str]) -> list[str]:
    models = row["models"]
    generator = f"{models['score-model']}, {row['sampler']}, {row['steps']} steps"
    if row.get("guidance_scale", 1) != 1:
        generator += f", w = {row['guidance_scale']:g}"
    cells = [_bound(found["unsteered"]["upper"], found["unsteered"])]
    cells += [_bound(one["bound"], one.get("attack")) for one in _in_order(found, lengths)]
    return [generator, models["classifier"], row["purifier"], *cells]


def _in_order(found: Row, lengths: list[str]) -> list[Row]:
    return [found["budgets"][length] for length in lengths]


def _bound(upper: float, reached: Row | None) -> str:
    return f"{100 * upper:.1f} %" + (f"<br>{short(reached)}" if reached else "")


COLUMNS = (  # of the table by classifier: the head, the kind of run, the quantity, the threshold
    ("L2 <= 0.25", "l2", None, "0.25"),
    ("L2 <= 0.5", "l2", None, "0.5"),
    ("blur, variance < 1", "blur", "radius", "1"),
    ("blur, variance < 4", "blur", "radius", "4"),
    ("shift <= 1 pixel", "translation", "radius", "1"),
    ("shift <= 3 pixels", "translation", "radius", "3"),
    ("brightness <= 0.1", "brightness-contrast", "brightness", "0.1"),
    ("contrast <= 1.2", "brightness-contrast", "contrast", "1.2"),
)
LENGTHS = ("0.5", "1")  # R of the steered generator


def certificates(data: Row) -> str:
    """A line a classifier: certified accuracy by kind of change, and bounds on a generator."""
    rows = data["rows"]
    notes = sorted({note for row in rows for note in _made(row)})
    kinds = [kind for row in rows for name, kind in row.items() if name != "classifier"]
    alphas = " or ".join(sorted({f"{kind['alpha']:g}" for kind in kinds}))
    text = (
        "\nThe share of all images that are read rightly and certified against every change of "
        "that kind and size; then the bound on the share of generated images that are misread "
        "while every judge sees the class, whoever steers the generator within R. Each certificate "
        f"is wrong with probability {alphas} at most.\n\n"
    )
    if earlier := data.get("earlier"):
        text += "The other rows are of: " + "; ".join(f"`{one}`" for one in earlier) + ".\n\n"
    head = ["classifier", *(name for name, *_ in COLUMNS),
            *(f"steered, R = {length}" for length in LENGTHS)]  # fmt: skip
    text += table(head, map(_classifier_line, rows))
    return text + "\n" + "".join(f"- {note}\n" for note in notes)


def _classifier_line(row: Row) -> list[str]:
    cells = [row["classifier"]]
    for _, kind, quantity, threshold in COLUMNS:
        found = row.get(kind, {}).get("certified", {})
        rate = (found.get(quantity, {}) if quantity else found).get(threshold)
        cells.append(short(rate) if rate else "beyond N" if kind in row else "")
    events = row.get("steered", {}).get("events", {})
    parts = events.get("misread_and_shown", {}).get("budgets", {})
    return cells + [
        f"{100 * parts[length]['bound']:.1f} %" if length in parts else "" for length in LENGTHS
    ]


def _made(row: Row) -> list[str]:
    """How the certificates of a classifier were made."""
    notes = []
    if found := row.get("l2"):
        notes.append(
            f"L2: {found['data']}, behind `{found['models']['score-model']}`, noise "
            f"{found['noise']:g}, N = {found['samples']:,}"
        )
    for kind in ("blur", "translation", "brightness-contrast"):
        if found := row.get(kind):
            sigma = ", ".join(f"{value:g}" for value in found["sigma"])
            notes.append(f"{kind}: {found['data']}, noise {sigma}, N = {found['n']:,}")
    if found := row.get("steered"):
        notes.append(
            f"steered: `{found['models']['score-model']}`, {found['sampler']}, "
            f"{found['steps']} steps, {found['per_class']} images of each class"
        )
    return notes


def energy_pace(data: Row) -> str:
    """A line a pace: how many images our attack fools at each R."""
    rows = data["rows"]
    lengths = list(rows[0]["reached"])
    head = ["generator", "classifier", "pace", "s_y", "R = 0", *(f"R = {r}" for r in lengths)]
    return "\n" + table(head, ([
        row["models"]["score-model"], row["models"]["classifier"], row["attack"]["energy_pace"],
        f"{row['attack']['attack_scale']:g}", short(row["unsteered"]),
        *(short(row["reached"][length]) for length in lengths),
    ] for row in rows))  # fmt: skip
