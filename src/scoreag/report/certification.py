"""The page of a certificate: its figures, and what they promise and what they do not."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scoreag.certify import generator_risk, smoothing
from scoreag.certify.run import OWNED_FILES, ROW_FIELDS, SMOOTHING_TASK
from scoreag.certify.smoothing import RADII
from scoreag.io.filesystem import write_text
from scoreag.report.html import (
    TableCell,
    definition_list,
    figure,
    format_count,
    proportions_table,
    render_page,
    section,
    table,
)
from scoreag.report.svg_plots import Curve, plot_curves
from scoreag.runs import records as lines
from scoreag.runs import run_dir as place
from scoreag.runs.manifest import flatten
from scoreag.runs.records import Row
from scoreag.stats.proportion import Proportion

SMOOTHING_GUARANTEES = (
    (
        "What it promises",
        "An image that is certified with radius r: no change of an L2 length below r, whatever "
        "attack finds it, makes the smoothed classifier say another class. The smoothed classifier "
        "is the one that asks the base classifier, behind the denoiser, about many noisy copies.",
    ),
    (
        "With what doubt",
        "For each image the statement may be wrong with probability alpha, over the noise that was "
        "drawn here: of 1,000 images certified at alpha 0.001 about one may be.",
    ),
    (
        "What it does not promise",
        "Nothing beyond the radius, nothing for other changes (linf, rotations, other natural "
        "images of the class), nothing for the classifier without smoothing, and nothing for an "
        "answer from fewer copies than were counted on. That the prediction is right is measured "
        "on these images, not promised for others.",
    ),
)
GENERATOR_GUARANTEES = (
    (
        "What it promises",
        "A draw of this generator, for a class, is misclassified with at most the probability that "
        "stands there; all bounds hold together with probability 1 - alpha, over the draws made.",
    ),
    (
        "What a draw is",
        "An image of the stated score model, sampler, steps and strength, rounded to 8 bits; "
        "another model, sampler or strength is another generator. Misclassified means that the "
        "classifier does not say the class that was asked for, also where the draw does not show "
        "it: a weak generator makes the bound larger, not smaller.",
    ),
    (
        "What it does not promise",
        "Nothing for real images, nothing for an attacker who searches among draws or steers them, "
        "unless that steering is the generator stated here (strength s_y above 0), and nothing for "
        "one who knows the purifier where the guidance was by the bare classifier.",
    ),
)


def write_page(folder: Path) -> Path:
    """Write ``report.html`` of a certificate's folder anew, from its rows; the file.

    Raises:
        ValueError: it was interrupted.
    """
    manifest, file = place.read_manifest(folder), folder / "summary.json"
    if not file.is_file():
        raise ValueError(
            f"{folder} has no summary.json, the work is not finished; give its command again"
        )
    made = render_smoothing_page if manifest["task"] == SMOOTHING_TASK else render_generator_page
    place.refuse_links(folder, OWNED_FILES)
    summary = json.loads(file.read_text(encoding="utf-8"))
    rows = lines.read_complete_rows(folder, ROW_FIELDS[manifest["task"]])
    if summary != {"task": manifest["task"], **_recompute_summary(manifest, rows)}:
        raise ValueError(
            f"{file} does not say what the rows of the certificate say; give its command again"
        )
    text = made(manifest, summary, rows)
    write_text(folder / "report.html", text)
    return folder / "report.html"


def _recompute_summary(manifest: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """The summary, from the rows and the settings that the manifest tells."""
    settings = dict(manifest["config"])
    if manifest["task"] != SMOOTHING_TASK:
        return generator_risk.summarize(rows, settings["alpha"])
    return smoothing.summarize(rows, smoothing.SmoothingConfig(**settings, seed=manifest["seed"]))


def render_smoothing_page(
    manifest: Mapping[str, Any], summary: Mapping[str, Any], rows: Sequence[Row]
) -> str:
    """Certified accuracy over the radius."""
    known = summary["rates"]
    lead = (
        f"Smoothed with noise {manifest['config']['sigma']:g}, the classifier is right on "
        f"{known['accuracy']['count']} of {len(rows)} images, and abstains on "
        f"{known['abstained']['count']}."
    )
    named = [(name, _parse_proportion(entry)) for name, entry in known.items()]
    body = [
        section(
            "In figures",
            proportions_table("Of the smoothed classifier.", named),
            _certified_table(summary),
        ),
        section("Over the radius", _certified_curve(summary, rows)),
        section("How to read it", definition_list(SMOOTHING_GUARANTEES)),
        section("How it came about", definition_list(_config_entries(manifest))),
    ]
    return render_page(
        "Certified by randomised smoothing", [lead], body, [str(manifest["started"])]
    )


def render_generator_page(
    manifest: Mapping[str, Any], summary: Mapping[str, Any], rows: Sequence[Row]
) -> str:
    """The bound of each class."""
    lead = (
        f"With probability {1 - summary['alpha']:g}, a draw of the generator is misclassified with "
        f"at most {100 * summary['upper_largest']:.1f} % in any class, and "
        f"{100 * summary['upper_mean']:.1f} % on average over the classes."
    )
    names = manifest.get("classes", ())
    body = [
        section("In figures", _bounds_table(summary, names)),
        section("How to read it", definition_list(GENERATOR_GUARANTEES)),
        section("How it came about", definition_list(_config_entries(manifest))),
    ]
    return render_page("Certified for a generator", [lead], body, [str(manifest["started"])])


def _certified_table(summary: Mapping[str, Any]) -> str:
    shown: list[tuple[TableCell, ...]] = []
    for far in RADII:
        entry = summary["certified"][f"{far:g}"]
        told: TableCell = "beyond N" if entry is None else format_count(_parse_proportion(entry))
        shown.append((f"{far:g}", told))
    return table(
        f"Right and certified at an L2 radius; N and alpha reach {summary['largest_radius']:g}.",
        ("radius", "certified accuracy"),
        shown,
    )


def _certified_curve(summary: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The share of images that are right and certified at least so far."""
    radii = sorted(row["radius"] for row in rows if row["correct"])
    left = [(len(radii) - i) / len(rows) for i in range(len(radii) + 1)]
    line = Curve("certified accuracy", [0, *radii], left if radii else [0])
    alt = f"Certified accuracy falls from {left[0]:.2f} at 0 with the L2 radius."
    svg = plot_curves([line], "L2 radius, pixels in [0, 1]", "share of images", alt=alt, steps=True)
    return figure(svg, "The share of all images that are right and certified at least so far.")


def _bounds_table(summary: Mapping[str, Any], names: Sequence[str]) -> str:
    shown: list[tuple[TableCell, ...]] = []
    for label, entry in summary["classes"].items():
        name = names[int(label)] if int(label) < len(names) else f"class {label}"
        shown.append(
            (name, format_count(_parse_proportion(entry)), f"{100 * entry['upper']:.2f} %")
        )
    shown.append(("mean of the classes", "", f"{100 * summary['upper_mean']:.2f} %"))
    return table(
        f"Misclassified draws, and what their probability is at most (alpha {summary['alpha']:g}, "
        "shared among the classes).",
        ("class", "misclassified", "at most"),
        shown,
    )


def _parse_proportion(entry: Mapping[str, Any]) -> Proportion:
    return Proportion(entry["count"], entry["total"], entry["of"])


def _config_entries(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    outside = ("versions", "machine", "started", "finished", "format", "classes", "probe", "seal")
    kept = {name: value for name, value in manifest.items() if name not in outside}
    return [(name, str(value)) for name, value in flatten(kept) if value not in (None, {}, [])]
