"""The tables of ``semantic``: what people see, what helps to predict it, and attacked images."""

from markdown_parts import Row, table

NAMES = ("spearman", "auc_unclear", "slope", "coverage_90", "clear_90")


def semantic(data: Row) -> str:
    """Cross-validated figures of each mixture, then the measure on changed and attacked images."""
    humans = data["humans"]
    body = [
        [row["settings"], *(_with_interval(row["figures"].get(name)) for name in NAMES)]
        for row in data["people"]
    ]
    head = ["predicted by", "Spearman", "AUC, fewer than 80 % see it", "calibration slope",
            "coverage of 90 % sets", "label alone in the set"]  # fmt: skip
    text = (
        f"\nAgainst {data['answers']:,} answers of {humans['name']} ({humans['license']}) about "
        f"{data['data']}, in five folds: each image is predicted by a calibration on others. The "
        "goal was a Spearman of .60 and an AUC of .90; about .84 is the most that can be reached. "
        "Intervals: 95 %, bootstrap over images. `people` learned from the answers of "
        "CIFAR-10N.\n\n" + table(head, body)
    )
    if "changed" in data:
        text += _on_changed(data)
    if data.get("attacked"):
        text += _on_attacked(data)
    return text


def _with_interval(entry: Row | None) -> str:
    return f"{entry['value']:.3f} ({entry['low']:.3f} to {entry['high']:.3f})" if entry else ""


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _on_changed(data: Row) -> str:
    body = [
        [row["change"], _percent(row["semantic"]), _percent(row["in_set"]), _percent(row["clear"]),
         f"{row['set_size']:.2f}", _percent(row["empty"])]
        for row in data["changed"]
    ]  # fmt: skip
    head = ["change", "semantic", "label in the set", "alone", "classes in a set", "empty sets"]
    return (
        f"\nThe measure ({' + '.join(data['measure']['members'])}), calibrated on real images "
        f"only, on {data['changed_images']} changed images. Nobody was asked about these, so "
        "coverage is not known: the table says how the sets change. A set is empty where no class "
        "is clear enough.\n\n" + table(head, body)
    )


def _on_attacked(data: Row) -> str:
    body = [
        [row["cell"], str(row["images"]), _percent(row["success"]), _percent(row["semantic"]),
         _percent(row["in_set"]), _percent(row["clear"]), _percent(row["judge"]),
         f"{row['lpips']:.4f}" if "lpips" in row else ""]
        for row in data["attacked"]
    ]  # fmt: skip
    head = ["experiment", "images", "attack success", "semantic", "label in the set", "alone",
            "judge says the label", "LPIPS"]  # fmt: skip
    return (
        "\nOn attacked images. The measure is calibrated on real images only: here it is an "
        "extrapolation, and no person was asked.\n\n" + table(head, body)
    )
