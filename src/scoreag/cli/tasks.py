"""synthesize, transform, purify: load, check, and let a run do the work."""

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scoreag.cli import parsing
from scoreag.cli.judging import judge_for
from scoreag.cli.options import SETTINGS, Given, loud, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from scoreag.data.loading import Dataset
    from scoreag.diffusion.prior import Prior
    from scoreag.methods.task import TaskSpec

LABELLED = {  # how each kind of data comes by labels
    "single-image": "write --class",
    "image-folder": "use class folders or a labels.csv",
    "npz": "put an array 'labels' into it",
}


def synthesize(given: Given) -> None:
    """Draw images of a class that a classifier takes for another one, from nothing (GAS)."""
    from scoreag.classifiers.loading import load_classifier, load_prior
    from scoreag.methods.synthesis import build_synthesis

    prior = load_prior(given.model, given.device, given.trust_code)
    labels = parsing.labels(given.classes, prior.classes, given.per_class)
    aim = parsing.target(given.target, prior.classes)
    victim = load_classifier(given.classifier, given.device, trust_code=given.trust_code)
    judge, known = judge_for(given, prior)
    job = build_synthesis(prior, victim, labels, aim, given.seed, judge=judge, **settings(given))
    run(job, given, {"target": given.target, **known})


def transform(given: Given) -> None:
    """Change given images until a classifier takes them for something else (GAT)."""
    from scoreag.classifiers.loading import load_classifier, load_prior
    from scoreag.methods.transformation import build_transformation

    prior = load_prior(given.model, given.device, given.trust_code)
    aim = parsing.target(given.target, prior.classes)
    victim = load_classifier(given.classifier, given.device, trust_code=given.trust_code)
    data = images(given, prior)
    check_labelled(data)
    judge, known = judge_for(given, prior)
    job = build_transformation(
        prior, victim, data.images, data.labels, aim, given.seed, data.image_ids, judge,
        **settings(given),
    )  # fmt: skip
    run(job, given, {"target": given.target, **about(data), **known}, data)


def purify(given: Given) -> None:
    """Bring attacked images back to the natural ones that they were made from (GAP)."""
    from scoreag.classifiers.loading import load_classifier, load_prior
    from scoreag.methods.purification import build_purification

    prior = load_prior(given.model, given.device, given.trust_code)
    victim = None
    if given.classifier:
        victim = load_classifier(given.classifier, given.device, trust_code=given.trust_code)
    data = images(given, prior)
    job = build_purification(
        prior, data.images, victim, data.labels, given.seed, data.image_ids, **settings(given)
    )
    run(job, given, about(data), data)


def settings(given: Given) -> dict[str, Any]:
    """The settings that were given, by the names of ``Settings``."""
    found = {o.name: getattr(given, o.name) for o in SETTINGS}
    pairs = found.pop("sampler_option")
    if pairs:
        found["sampler_options"] = parsing.options(pairs)
    if found["attack_interval"] is not None:
        found["attack_interval"] = parsing.interval(found["attack_interval"])
    return {name: value for name, value in found.items() if value is not None}


def images(given: Given, prior: "Prior") -> "Dataset":
    """The images that --data names; their classes and their shape must be the model's."""
    from scoreag.data.loading import load_dataset

    check_apart(given)
    data = load_dataset(
        given.data,
        given.data_dir,
        label=given.class_,
        size=parsing.size(given.size) if given.size else None,
        progress=loud(given),
        classes=names_of(given, prior),
    )
    check_classes(data, prior.classes)
    check_shape(data, prior.image_shape)
    return data


def names_of(given: Given, prior: "Prior") -> tuple[str, ...]:
    """The names by which labels are numbered: the score model's, else the classifier's."""
    from scoreag.classifiers.loading import class_names
    from scoreag.data.source import lacks_class_names

    if lacks_class_names(prior.classes) and given.classifier:
        return class_names(given.classifier) or prior.classes
    return prior.classes


def check_apart(given: Given) -> None:
    """Refuse to write where the data is read: to start afresh would delete it."""
    from scoreag.data.loading import source_path

    path, out = source_path(given.data), Path(given.out).resolve()
    if path is not None and path.resolve().is_relative_to(out):
        raise ValueError(
            f"--data {given.data} is read from --out {given.out} itself, where the new images "
            "would replace it; give another --out"
        )


def check_classes(data: "Dataset", classes: tuple[str, ...]) -> None:
    """Refuse labels that count other classes than the model's; numbers are no names."""
    from scoreag.data.source import format_classes

    nameless = ((), tuple(map(str, range(len(classes)))), tuple(map(str, range(len(data.classes)))))
    if data.labels is None or data.classes == classes:
        return
    if data.classes not in nameless and classes not in nameless:
        raise ValueError(
            f"the classes of {data.name} are {format_classes(data.classes)}, those of the model "
            f"{format_classes(classes)}; give data of its classes, or a model of theirs"
        )


def check_shape(data: "Dataset", shape: tuple[int, int, int]) -> None:
    """Refuse images of another shape than the model's; pictures are resized if that is asked."""
    came = tuple(data.images.shape[1:])
    if came == shape:
        return
    has, takes = (" x ".join(map(str, sizes)) for sizes in (came, shape))
    fix = "give images of that shape"
    if data.name.startswith(("single-image:", "image-folder:")) and came[0] == shape[0]:
        fix = f"write --size {shape[1]}" + (f"x{shape[2]}" if shape[1] != shape[2] else "")
    raise ValueError(f"the images of {data.name} are {has}, and the model takes {takes}; {fix}")


def check_labelled(data: "Dataset") -> None:
    """Refuse images without labels, which tell success from failure."""
    if data.labels is None:
        fix = LABELLED.get(data.name.partition(":")[0], "give data that has labels")
        raise ValueError(f"{data.name} has no labels, and success is judged by them; {fix}")


def about(data: "Dataset") -> dict[str, Any]:
    """What the manifest and the rows say of the data."""
    sources = dict(zip(data.image_ids, data.files, strict=True)) if data.files else {}
    return {"data": {"name": data.name, "sha256": data.sha256}, "sources": sources}


def run(
    job: "TaskSpec", given: Given, known: dict[str, Any], data: "Dataset | None" = None
) -> None:
    """Do the job in --out, and tell how it went."""
    from scoreag.methods.run_task import run_task
    from scoreag.methods.task import find_gradient_problem

    if told := find_gradient_problem(job):
        print(f"scoreag: warning: {told}", file=sys.stderr)
    folder = Path(given.out)
    figures = run_task(
        job,
        folder,
        {"command": command(), **known},
        write_every=given.write_every,
        batch_size=given.batch_size,
        progress=loud(given),
        overwrite=given.overwrite,
        on_start=lambda: say(given, f"read {data.summary}") if data else None,
    )
    render(folder)
    tell(given, figures, folder)


def render(folder: Path) -> Path:
    """Write the report of a run's folder, or of an assessment's."""
    from scoreag.io.manifest import read_manifest
    from scoreag.report import robustness, task_run

    assessed = str(read_manifest(folder).get("task")).startswith("assess ")
    return readable(folder, (robustness if assessed else task_run).write_report)


def readable(folder: Path, make: "Callable[[Path], Path]") -> Path:
    """``make`` of a folder; what no version of this program wrote there is told in a line."""
    try:
        return make(folder)
    except (LookupError, TypeError, AttributeError, ArithmeticError, AssertionError) as error:
        what = f"{type(error).__name__}: {error!s:.80}"
        raise ValueError(
            f"{folder} holds what this version does not write ({what}); "
            "give the command of the run again with --overwrite"
        ) from error


def command() -> str:
    """What was typed, as it can be pasted."""
    return shlex.join(["scoreag", *sys.argv[1:]])


def tell(given: Given, figures: dict[str, Any], folder: Path) -> None:
    """The summary: as JSON on stdout, or as a short table, and where the files are."""
    if given.json:
        print(json.dumps(figures, indent=2, ensure_ascii=False))
    elif not given.quiet:
        print(table(figures))
    say(given, f"everything is in {folder}; open {folder / 'report.html'}")


def table(figures: dict[str, Any]) -> str:
    """A line a figure, with its denominator."""
    from scoreag.stats.proportion import Proportion

    lines = [("images", str(figures["images"])), *_headline(figures)]
    for name, rate in figures["rates"].items():
        if name != figures.get("headline", {}).get("name"):
            lines.append((name, str(Proportion(rate["count"], rate["total"], rate["of"]))))
    for name, found in figures["medians"].items():
        inside = (
            f"{found['low']:.4g} to {found['high']:.4g}" if "low" in found else found["interval"]
        )
        lines.append((f"median {name}", f"{found['value']:.4g} ({inside})"))
    calls = figures["nfe"]
    lines.append(("denoiser calls", f"{calls['sum']}, {calls['per_image']:g} an image"))
    lines += [(kind, text) for kind in ("warning", "hint") for text in figures.get(f"{kind}s", ())]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name.replace('_', ' '):<{width}}  {value}" for name, value in lines)


def _headline(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """The figure by which a run is told, before all others."""
    from scoreag.stats.proportion import Proportion

    if not (found := figures.get("headline")):
        return []
    rate = str(Proportion(found["count"], found["total"], found["of"]))
    doubtful = found["says"].partition("; ")[2]
    return [(found["name"], f"{rate}; {doubtful}" if doubtful else rate)]
