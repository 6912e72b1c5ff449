"""The steps that commands share: read and check inputs, run a task, write its report, print it."""

import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scoreag.cli.options import (
    ROBUSTBENCH,
    ClusterOptions,
    DeviceOptions,
    ImageOptions,
    OutputOptions,
    RunOptions,
    RunOutputOptions,
    parse_shard,
)

if TYPE_CHECKING:
    import torch

    from scoreag.classifiers.normalized import NormalizedClassifier
    from scoreag.data.loading import Dataset
    from scoreag.diffusion.prior import Prior
    from scoreag.methods.task import TaskSpec

NONE = "none"
SHARDS = ".shards"  # ends the folder in which processes of torchrun have theirs
MAIN_TABLES = ("cells", "classes", "certified", "certified_radius", "rates", "cost")
LABEL_HINTS = {  # how to add labels to each kind of data
    "single-image": "write --class",
    "image-folder": "use class folders or a labels.csv",
    "npz": "put an array 'labels' into it",
}


def load_images(
    source: ImageOptions,
    prior: "Prior",
    classifier: "NormalizedClassifier | None",
    out: str,
    progress: bool,
) -> "Dataset":
    """The images of --data, checked to have the classifier's classes and the model's shape."""
    check_not_overwritten(source.data, out)
    names = label_names(prior, classifier)
    data = source.load(progress, names)
    if not names and classifier is not None:
        name_classes(classifier, data, prior)
    check_classes(data, names)
    check_shape(data, prior.image_shape)
    return data


def load_classifier_images(
    source: ImageOptions, classifier: "NormalizedClassifier", out: str, progress: bool
) -> "Dataset":
    """The labeled images of --data, checked to have the classifier's classes and its shape."""
    from scoreag.classifiers.class_groups import known_names

    check_not_overwritten(source.data, out)
    names = known_names(classifier)
    data = source.load(progress, names)
    check_classes(data, names)
    if classifier.image_shape is not None:
        check_shape(data, classifier.image_shape)
    check_labeled(data)
    return data


def label_names(prior: "Prior", classifier: "NormalizedClassifier | None") -> tuple[str, ...]:
    """The class names that number the labels: the classifier's, else the score model's.

    None where those of the classifier are unknown, and it has more or fewer than the score model.
    """
    from scoreag.classifiers.class_groups import known_names

    if classifier is None:
        return prior.classes
    if names := known_names(classifier):
        return names
    return prior.classes if count_classes(classifier, prior) == len(prior.classes) else ()


def count_classes(classifier: "NormalizedClassifier", prior: "Prior") -> int:
    """The number of classes that a classifier tells apart in images of the score model's shape."""
    import torch

    from scoreag.classifiers.checks import check_classifier
    from scoreag.classifiers.rejection import can_reject

    gray = torch.full((1, *prior.image_shape), 0.5, device=prior.sigmas.device)
    return check_classifier(classifier, gray, require_grad=False) - can_reject(classifier)


def name_classes(classifier: "NormalizedClassifier", data: "Dataset", prior: "Prior") -> None:
    """Give a classifier without class names those of the data, if it has as many classes."""
    from scoreag.core.class_names import lacks_class_names

    count, names = count_classes(classifier, prior), data.classes
    if not lacks_class_names(names) and len(names) == count:
        classifier.classes = names


def check_not_overwritten(data: str, out: str) -> None:
    """Refuse an --out that contains --data: --overwrite would delete it."""
    from scoreag.data.loading import source_path

    path = source_path(data)
    if path is not None and path.resolve().is_relative_to(Path(out).resolve()):
        raise ValueError(
            f"--data {data} is read from --out {out} itself, where the new images would replace "
            "it; give another --out"
        )


def check_classes(data: "Dataset", classes: tuple[str, ...]) -> None:
    """Refuse labels of other classes than the model's; classes named by numbers match any."""
    from scoreag.data.source import format_classes

    nameless = ((), tuple(map(str, range(len(classes)))), tuple(map(str, range(len(data.classes)))))
    if data.labels is None or data.classes == classes:
        return
    if data.classes not in nameless and classes not in nameless:
        raise ValueError(
            f"the classes of {data.name} are {format_classes(data.classes)}, those of the model "
            f"{format_classes(classes)}; give data with the same classes, or another model"
        )


def check_shape(data: "Dataset", shape: tuple[int, int, int]) -> None:
    """Refuse images of another shape than the model's; only --size resizes them."""
    actual = tuple(data.images.shape[1:])
    if actual == shape:
        return
    has, takes = (" x ".join(map(str, sizes)) for sizes in (actual, shape))
    fix = "give images of that shape"
    if data.name.startswith(("single-image:", "image-folder:")) and actual[0] == shape[0]:
        fix = f"write --size {shape[1]}" + (f"x{shape[2]}" if shape[1] != shape[2] else "")
    raise ValueError(f"the images of {data.name} are {has}, and the model takes {takes}; {fix}")


def check_labeled(data: "Dataset") -> None:
    """Refuse images without labels, which success depends on."""
    if data.labels is None:
        fix = LABEL_HINTS.get(data.name.partition(":")[0], "give data that has labels")
        raise ValueError(f"{data.name} has no labels, and success depends on them; {fix}")


def describe_data(data: "Dataset") -> dict[str, Any]:
    """The entries of the manifest and of the rows that describe the data."""
    sources = dict(zip(data.image_ids, data.files, strict=True)) if data.files else {}
    return {"data": {"name": data.name, "sha256": data.sha256}, "sources": sources}


def load_reference(
    word: str | None, prior: "Prior", names: Sequence[str], compute: DeviceOptions
) -> "tuple[NormalizedClassifier | None, dict[str, Any]]":
    """The reference classifier of a run, and the manifest entry with its accuracy.

    That on its card is of the card's classes: it is left out where ``names`` are others.
    It is ``word``, else the one that the card names, else the bundled one for these classes.
    """
    from scoreag.models.model_cards import has_card

    name = word or prior.judge or find_judge(prior.image_shape, prior.classes) or NONE
    if name == NONE:
        return None, {}
    reference = compute.load_classifier(name)
    if not has_card(name):
        return reference, {}
    card = compute.load_card(name)
    if names and card.classes and set(card.classes) != set(names):
        return reference, {}
    entry = card.metrics.get("test", {}).get("accuracy", {})
    accuracy = {name: entry[name] for name in ("count", "total", "of") if name in entry}
    return reference, {"judge": {"accuracy": accuracy}} if len(accuracy) == 3 else {}


def find_judge(
    shape: tuple[int, int, int], classes: Sequence[str], any_classes: bool = False
) -> str:
    """The bundled reference classifier, ``NAME-judge``, for these images and classes, or ""."""
    from scoreag.models.model_cards import list_cards, load_card

    for name in (name for name in list_cards("classifier") if name.endswith("-judge")):
        card = load_card(name)
        same = any_classes or (classes and card.classes == tuple(classes))
        if card.image_shape == shape and same:
            return name
    return ""


def run_and_report(
    task: "TaskSpec",
    run: RunOptions,
    output: OutputOptions,
    provenance: Mapping[str, Any],
    data: "Dataset | None" = None,
    cluster: ClusterOptions | None = None,
) -> None:
    """Run a task in --out, write its report, and print the summary."""
    from scoreag.methods.run_task import find_gradient_problem, run_task

    shard = parse_shard(run.shard)
    if problem := find_gradient_problem(task):
        print(f"scoreag: warning: {problem}", file=sys.stderr)
    ray = (cluster or ClusterOptions()).connect(task.prior.sigmas.device)
    if run.dry_run:
        show_cost(task, run, output, ray.workers or 1 if ray else 1)
        return
    folder = Path(run.out)
    summary = run_task(
        task,
        folder,
        {"command": command_line(), **provenance},
        write_every=run.write_every,
        batch_size=run.batch_size,
        progress=output.progress,
        overwrite=run.overwrite,
        on_start=lambda: output.say(f"read {data.summary}") if data else None,
        shard=shard,
        picture_format=run.format,
        ray=ray,
    )
    write_report(folder)
    output.show(summary, format_summary(summary))
    say_where(output, folder)


def show_cost(task: "TaskSpec", run: RunOptions, output: OutputOptions, workers: int = 1) -> None:
    """Print what a task will cost, from its first batch; nothing is written.

    Args:
        workers: that share the time, each as fast as this process.
    """
    from scoreag.methods.dry_run import estimate_cost
    from scoreag.methods.run_task import select_shard

    task = select_shard(task, parse_shard(run.shard), run.batch_size or run.write_every)
    cost = estimate_cost(task, run.batch_size, run.write_every, run.format)
    found = cost.to_dict() | ({"workers": workers} if workers > 1 else {})
    shared = f", {format_duration(cost.seconds / workers)} with {workers} workers"
    lines = [
        ("images", f"{cost.images}, measured on {cost.measured}"),
        ("time", format_duration(cost.seconds) + (shared if workers > 1 else "")),
        ("denoiser calls", f"{cost.nfe}"),
        ("memory", f"{found['memory_mb']} MB"),
        ("disk", f"{found['disk_mb']} MB, and the report"),
    ]
    output.show(found, format_table(lines))


def show_seconds(
    output: OutputOptions,
    images: int,
    seconds: float,
    device: "torch.device",
    *more: tuple[str, int],
) -> None:
    """Print the measured cost of work on ``images`` images."""
    from scoreag.core.peak_memory import peak_memory

    memory = peak_memory(device) >> 20
    found = {
        "images": images, **{name.replace(" ", "_"): value for name, value in more},
        "seconds": round(seconds, 1), "memory_mb": memory,
    }  # fmt: skip
    lines = [("images", str(images)), *((name, f"{value:,}") for name, value in more),
             ("time", format_duration(seconds)), ("memory", f"{memory} MB")]  # fmt: skip
    output.show(found, format_table(lines))


def format_duration(seconds: float) -> str:
    """In days, hours, minutes or seconds."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def show_certificate(
    output: OutputOptions, folder: Path, summary: Mapping[str, Any], text: str
) -> None:
    """Write the report of a certificate, and print its summary."""
    write_report(folder)
    output.show(summary, text, find_main_table(folder))
    say_where(output, folder)


def find_main_table(folder: Path) -> Path | None:
    """The files of the first table of a report, without their suffix; None where it has none."""
    stems = (folder / "tables" / name for name in MAIN_TABLES)
    return next((stem for stem in stems if stem.with_suffix(".md").is_file()), None)


def show_report(output: RunOutputOptions, folder: Path, only: str | None = None) -> None:
    """Print the summary of a report that is written, its main table, or its robustbench entry.

    Args:
        only: the cells that the entry is of.
    """
    if output.format == ROBUSTBENCH:
        from scoreag.report.robustbench import robustbench_entry

        entry = robustbench_entry(folder, only=only, info=output.read_model_info())
        print(json.dumps(entry, indent=2, ensure_ascii=False))
        return
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    main = find_main_table(folder)
    text = main.with_suffix(".md").read_text(encoding="utf-8").rstrip() if main else ""
    output.show(summary, text, main)


def write_report(folder: Path) -> Path:
    """Write the report of a run, an assessment or a certificate from the files in its folder."""
    from scoreag.io.manifest import read_manifest
    from scoreag.report import certification, robustness, task_run

    kind = str(read_manifest(folder).get("task")).partition(" ")[0]
    writers: dict[str, Callable[[Path], Path]] = {
        "assess": robustness.write_report,
        "certify": certification.write_page,
    }
    try:
        return writers.get(kind, task_run.write_report)(folder)
    except (LookupError, TypeError, AttributeError, ArithmeticError, AssertionError) as error:
        reason = f"{type(error).__name__}: {error!s:.80}"
        raise ValueError(
            f"{folder} has contents that this version does not write ({reason}); "
            "give the command of the run again with --overwrite"
        ) from error


def command_line() -> str:
    """The command as typed, ready to paste."""
    return shlex.join(["scoreag", *sys.argv[1:]])


def say_where(output: OutputOptions, folder: str | Path) -> None:
    """Print where the results are; not of a shard of torchrun, which is joined elsewhere."""
    if Path(folder).parent.suffix == SHARDS:
        return
    output.say(f"results are in {folder}; open {Path(folder) / 'report.html'}")


def format_summary(summary: Mapping[str, Any]) -> str:
    """One line per metric, with its denominator."""
    headline = summary.get("headline") or {}
    lines = [("images", str(summary["images"]))]
    if headline:
        doubt = headline["says"].partition("; ")[2]
        lines.append((headline["name"], "; ".join(filter(None, (format_rate(headline), doubt)))))
    for name, rate in summary["rates"].items():
        if name != headline.get("name"):
            lines.append((name, format_rate(rate)))
    searched = {name: summary[name] for name in ("attack_scale", "similarity") if name in summary}
    for name, median in {**summary["medians"], **searched}.items():
        interval = (
            f"{median['low']:.4g} to {median['high']:.4g}" if "low" in median
            else median["interval"]
        )  # fmt: skip
        lines.append((f"median {name}", f"{median['value']:.4g} ({interval})"))
    nfe = summary["nfe"]
    lines.append(("denoiser calls", f"{nfe['sum']}, {nfe['per_image']:g} an image"))
    lines += [(kind, text) for kind in ("warning", "hint") for text in summary.get(f"{kind}s", ())]
    return format_table([(name.replace("_", " "), text) for name, text in lines])


def format_rate(entry: Mapping[str, Any]) -> str:
    """A count with its denominator and its interval."""
    from scoreag.stats.proportion import Proportion

    return str(Proportion(entry["count"], entry["total"], entry["of"]))


def format_table(lines: list[tuple[str, str]]) -> str:
    """Names and values in two columns."""
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines)
