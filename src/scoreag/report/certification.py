"""The page of a certificate: its bounds, what they guarantee, and what they do not."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scoreag.certify import generator_risk, smoothing, transform_smoothing
from scoreag.certify.run import (
    CERTIFICATE_FILES,
    GENERATOR_TASK,
    ROW_FIELDS,
    SMOOTHING_TASK,
)
from scoreag.certify.steered_generator import EVENTS, bound_steered
from scoreag.certify.transform_smoothing import TransformConfig, load_transform
from scoreag.io.filesystem import write_text
from scoreag.io.manifest import read_manifest
from scoreag.io.records import Row
from scoreag.report.figure_export import write_figures
from scoreag.report.html import (
    Chart,
    Curve,
    class_name,
    describe_environment,
    list_config,
    metric_curve,
    plot_curves,
    render_page,
)
from scoreag.report.provenance import describe_reproduction, shorten_models
from scoreag.report.run_tables import certificate_tables
from scoreag.report.table_export import write_tables
from scoreag.report.task_run import read_summary


def write_page(folder: Path) -> Path:
    """Write ``report.html``, tables and figures of a certificate from its rows; the page's path.

    Raises:
        ValueError: it was interrupted, or its files are damaged.
    """
    manifest, summary, rows = _read(folder)
    task = manifest["task"]
    pages = {SMOOTHING_TASK: render_smoothing_page, GENERATOR_TASK: render_generator_page}
    render = pages.get(task, render_transform_page)
    charts = plot_certificate(manifest, summary, rows)
    write_tables(folder, certificate_tables(summary, manifest))
    write_figures(folder, charts)
    write_text(folder / "report.html", render(manifest, summary, charts))
    return folder / "report.html"


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Any], list[Row]]:
    manifest = read_manifest(folder)
    task = manifest["task"]
    rows: list[Row] = []

    def summarize(found: Iterable[Row]) -> dict[str, Any]:
        rows.extend(found)
        return {"task": task, **_summarize(manifest, rows)}

    summary = read_summary(folder, CERTIFICATE_FILES, ROW_FIELDS[task], summarize)
    return manifest, summary, rows


def read_certificate(folder: Path) -> tuple[dict[str, Any], list[Row]]:
    """The manifest and the rows of a finished certificate.

    Raises:
        ValueError: it was interrupted, or its files are damaged.
    """
    manifest, _, rows = _read(folder)
    return manifest, rows


def plot_certificate(
    manifest: Mapping[str, Any], summary: Mapping[str, Any], rows: Sequence[Row]
) -> dict[str, Chart]:
    """The charts of a page, by name."""
    if manifest["task"] == GENERATOR_TASK:
        steered = summary.get("steered", {}).items()
        return {f"steered_{event}": _plot_steered(found) for event, found in steered}
    label = "L2 radius, pixels in [0, 1]"
    if manifest["task"] != SMOOTHING_TASK:
        transform = load_transform(manifest["config"]["transform"])
        label = f"radius: {transform.quantities[0].text}"
    agreement = _plot_agreement(rows, manifest["config"]["n"])
    return {"certified": _plot_certified(rows, label), "agreement": agreement}


def _summarize(manifest: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    config = dict(manifest["config"])
    if manifest["task"] == GENERATOR_TASK:
        return generator_risk.summarize(rows, config["alpha"], config.get("energy", ()))
    config["seed"] = manifest["seed"]
    if manifest["task"] == SMOOTHING_TASK:
        return smoothing.summarize(rows, smoothing.SmoothingConfig(**config))
    config |= {name: tuple(config[name]) for name in ("sigma", "image_size")}  # lists in JSON
    return transform_smoothing.summarize(rows, TransformConfig(**config))


def render_smoothing_page(
    manifest: Mapping[str, Any], summary: Mapping[str, Any], charts: Mapping[str, Chart]
) -> str:
    """Certified accuracy vs. radius."""
    rates, sigma = summary["rates"], manifest["config"]["sigma"]
    return render_page(
        "smoothing",
        shorten_models(manifest),
        title="Certified robustness by randomized smoothing",
        lead=[
            f"Smoothed with noise of sigma {sigma:g}, the classifier is correct on "
            f"{rates['accuracy']['count']} of {summary['images']} images and abstains on "
            f"{rates['abstained']['count']}."
        ],
        summary=summary,
        curve=charts["certified"],
        agreement=charts["agreement"],
        config=list_config(manifest),
        reproduction=describe_reproduction(manifest),
        footer=[describe_environment(manifest)],
    )


def render_transform_page(
    manifest: Mapping[str, Any], summary: Mapping[str, Any], charts: Mapping[str, Chart]
) -> str:
    """Certified accuracy against a transform, for each quantity of its certificate."""
    rates, transform = summary["rates"], load_transform(manifest["config"]["transform"])
    deviations = zip(manifest["config"]["sigma"], transform.noise, strict=True)
    noise = "; ".join(f"{sigma:g} for {what}" for sigma, what in deviations)
    return render_page(
        "transform_smoothing",
        shorten_models(manifest),
        title=f"Certified robustness to {transform.name} by randomized smoothing",
        lead=[
            f"Smoothed over random parameters of {transform.name}, the classifier is correct on "
            f"{rates['accuracy']['count']} of {summary['images']} images and abstains on "
            f"{rates['abstained']['count']}. Standard deviations of the noise: {noise}."
        ],
        summary=summary,
        transform=transform,
        curve=charts["certified"],
        agreement=charts["agreement"],
        config=list_config(manifest),
        reproduction=describe_reproduction(manifest),
        footer=[describe_environment(manifest)],
    )


def render_generator_page(
    manifest: Mapping[str, Any], summary: Mapping[str, Any], charts: Mapping[str, Chart]
) -> str:
    """The bound of each class."""
    return render_page(
        "generator",
        shorten_models(manifest),
        title="Upper bound on the failure rate of generated images",
        lead=[
            f"With probability {1 - summary['alpha']:g}, a generated image is misclassified with "
            f"probability at most {100 * summary['upper_largest']:.1f} % in any class, and "
            f"{100 * summary['upper_mean']:.1f} % on average over the classes."
        ],
        summary=summary,
        steered=[
            _steered_part(event, found, manifest.get("classes", ()), charts)
            for event, found in summary.get("steered", {}).items()
        ],
        classes=manifest.get("classes", ()),
        config=list_config(manifest),
        reproduction=describe_reproduction(manifest),
        footer=[describe_environment(manifest)],
    )


def _steered_part(
    event: str, found: Mapping[str, Any], classes: Sequence[str], charts: Mapping[str, Chart]
) -> dict[str, Any]:
    """The bound of an event over R, in all and by class, beside our attack."""
    header, rows = ["class", "R = 0"], []
    for key, part in found.items():
        name = class_name(int(key), classes) if key else "all classes"
        cells = [name, _bounded(part["unsteered"]["upper"], part["unsteered"])]
        for budget, entry in part["budgets"].items():
            header += [f"R = {budget}"] if not key else []
            cells.append(_bounded(entry["bound"], entry.get("attack")))
        rows.append(tuple(cells))
    chart = charts[f"steered_{event}"]
    return {"event": EVENTS[event], "header": header, "rows": rows, "chart": chart}


def _bounded(bound: float, attack: Mapping[str, Any] | None) -> tuple[str, str]:
    reached = f"{attack['count']} of {attack['total']}" if attack else ""
    return f"at most {100 * bound:.1f} %", reached


def _plot_steered(found: Mapping[str, Any]) -> Chart:
    """Bound and attack over R, of all classes."""
    upper, budgets = found[""]["unsteered"]["upper"], found[""]["budgets"]
    lengths = [float(budget) for budget in budgets]
    fine = [max(lengths) * i / 20 for i in range(21)]
    curves = [Curve("bound", fine, [bound_steered(upper, length) for length in fine])]
    attacks = [entry["attack"] for entry in budgets.values() if "attack" in entry]
    if attacks:
        curves.append(metric_curve("our attack", lengths, attacks))
    last = list(budgets.values())[-1]["bound"]
    svg = plot_curves(
        curves, "R, length of the shifts of the noise", "probability",
        alt=f"The bound rises from {upper:.3f} at 0 to {last:.3f} at R = {max(lengths):g}.",
    )  # fmt: skip
    return Chart(svg, "No attacker within R is above the bound; our attack is one of them.")


def _plot_certified(rows: Sequence[Row], x_label: str) -> Chart:
    radii = sorted(row["radius"] for row in rows if row["correct"])
    shares = [(len(radii) - i) / len(rows) for i in range(len(radii) + 1)]
    quantity = x_label.partition(",")[0]
    svg = plot_curves(
        [Curve("certified accuracy", [0, *radii], shares if radii else [0])],
        x_label,
        "fraction of images",
        alt=f"Certified accuracy falls from {shares[0]:.2f} at 0 with the {quantity}.",
        steps=True,
    )
    return Chart(svg, "Fraction of all images that are correct and certified at this radius.")


def _plot_agreement(rows: Sequence[Row], n: int) -> Chart:
    """The distribution of p, of images whose most frequent class is right and of the others."""
    curves = []
    for name, right in (("the class of the image", True), ("another class", False)):
        found = sorted(row["count"] / n for row in rows if (row["top"] == row["label"]) is right)
        shares = [(len(found) - i) / len(rows) for i in range(len(found) + 1)]
        curves.append(Curve(name, [0, *found], shares if found else [0]))
    svg = plot_curves(
        curves,
        "p, share of the copies",
        "fraction of images",
        alt="How many images have a most frequent class with at least this share of the copies.",
        steps=True,
    )
    return Chart(
        svg,
        "Fraction of all images whose most frequent class has at least this share p of the copies. "
        "At p near 1/2 the answer is abstained from; the radius grows with p.",
    )
