"""Studies whose people are simulated: coverage and bias of what the analysis reports."""

from markdown_parts import Row, table

WORDS = {
    "name": "which class is it", "real": "is it a photograph", "choose": "which of two shows it",
}  # fmt: skip
SHOWN = {  # of design `name`; all others are counted
    "agreement.krippendorff_alpha": "Krippendorff's alpha, all images",
    "agreement.gwet_ac1": "Gwet's AC1, all images",
    "conditions.clean.sees_label": "sees the label, clean",
    "conditions.gat.sees_label": "sees the label, gat",
    "conditions.gat.difference": "gat less clean",
    "repeats_equal": "repeats answered alike",
    "proxies.judge.all.spearman": "judge, rank correlation",
    "proxies.judge.all.auc_below_80": "judge, AUC below 80 %",
    "proxies.judge.all.calibration_slope": "judge, calibration slope",
}
FIGURE_HEAD = ["figure", "truth", "bias", "its error", "coverage", "bounds", "mean width"]
SUCCESS = "validity_corrected_success"


def study_simulations(data: Row) -> str:
    names = ", ".join(f"`{name}`" for name in data["conditions"])
    text = (
        f"\n{data['studies']} simulated studies of each design: {names}, {data['images']} images "
        f"each, {data['raters']} people an image. Images, people, lapses and doubts are random; "
        "the truth is that of infinitely many images and people. Bounds: within them a 95 % "
        "interval holds the truth in 99.9 % of repetitions.\n\n"
    )
    head = ["design", "question", "intervals within bounds", "least coverage", "largest",
            "people", "click without looking", "left out"]  # fmt: skip
    text += table(head, [_design(name, one) for name, one in data["designs"].items()])
    rows = {row["figure"]: row for row in data["designs"].get("name", {}).get("rows", [])}
    chosen = {figure: words for figure, words in SHOWN.items() if figure in rows}
    for figure in (figure for figure in rows if figure.endswith(SUCCESS)):
        _, condition, _, k, _ = figure.split(".")
        chosen[figure] = f"validity-corrected success, {condition}, {k} of {k}"
    body = [_figure(words, rows[figure]) for figure, words in chosen.items()]
    text += "\n" + table(FIGURE_HEAD, body)
    plain = data["pigeonhole"]
    outside = [
        [name, row["figure"], f"{row['inside']} of {row['studies']}",
         f"{row['bounds'][0]} to {row['bounds'][1]}"]
        for name, one in data["designs"].items() for row in one["rows"] if not row["within"]
    ]  # fmt: skip
    if outside:
        text += "\nIntervals outside of their bounds:\n\n"
        text += table(["design", "figure", "coverage", "bounds"], outside)
    return text + (
        "\nThe plain bootstrap of people and images at once holds the share of `gat` in "
        f"{plain['inside']} of {plain['studies']} studies: it counts the noise of single answers "
        "three times, so its intervals are too wide.\n"
    )


def _design(name: str, found: Row) -> list[str]:
    shares = [row["inside"] / row["studies"] for row in found["rows"]]
    within = sum(row["within"] for row in found["rows"])
    return [
        f"`{name}`", WORDS[name], f"{within} of {len(shares)}", f"{100 * min(shares):.1f} %",
        f"{100 * max(shares):.1f} %", f"{found['looked'] + found['clickers']:,}",
        str(found["clickers"]), str(found["left_out"]),
    ]  # fmt: skip


def _figure(words: str, row: Row) -> list[str]:
    low, high = row["bounds"]
    return [
        words, f"{row['truth']:.3f}", f"{row['bias']:+.4f}", f"{row['bias_error']:.4f}",
        f"{row['inside']} of {row['studies']}" + ("" if row["within"] else ", outside"),
        f"{low} to {high}", f"{row['width']:.3f}",
    ]  # fmt: skip


def mixed_model(data: Row) -> str:
    """The odds ratios of the mixed logistic model."""
    body = [
        _figure(f"log odds, {row['figure'].rpartition('.')[2]} over clean", row)
        for row in data["rows"]
    ]
    text = (
        f"\n{data['studies']} simulated studies as above (`name`), whose people never lapse: the "
        "model has no lapses.\n\n"
    )
    return text + table(FIGURE_HEAD, body)
