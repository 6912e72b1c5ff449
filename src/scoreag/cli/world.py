"""world: from labeled images to a score model, a classifier, a judge, and what fools the classifier."""

import json
import math
import shlex
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from scoreag.cli import options as o
from scoreag.cli.evaluate import EvaluateOptions, evaluate
from scoreag.cli.options import UsageError
from scoreag.cli.runs import command_line, format_rate, format_table, write_report

if TYPE_CHECKING:
    import torch

    from scoreag.data.loading import Dataset
    from scoreag.models.model_cards import Card
    from scoreag.training.sizing import SizedTraining

DATA, PLAN, ASSESSMENT, TRAININGS = "data", "plan.toml", "assessment", "trainings.json"
ALIASES = {"folder": "image-folder"}
MIN_EVALUATION = 0.1  # of the minutes, even where the trainings took longer than planned
EPS = {1: "0.1", 3: "8/255"}  # of PGD, by the number of channels
_MINUTES_HELP = "Time of the trainings and of the evaluation together."
_OUT_HELP = "Folder of everything; the same command resumes it."
_DATA_HELP = "Labeled square images: image-folder:PATH, npz:FILE.npz, tiny-imagenet:train."
_FLIP_HELP = "Mirror training images; not for digits or letters."


@dataclass(frozen=True, kw_only=True)
class WorldOptions:
    data: Annotated[str, o.Opt(_DATA_HELP)]
    test_data: Annotated[str | None, o.Opt("Labeled test images.", "a tenth of --data")] = None
    classes: Annotated[str | None, o.Opt("Only images of these: lion,pizza.", "all")] = None
    reading: o.ReadOptions = field(default_factory=o.ReadOptions)
    out: Annotated[str, o.Opt(_OUT_HELP, check=o.not_empty)]
    minutes: Annotated[float, o.Opt(_MINUTES_HELP)] = 60.0
    flip: Annotated[bool | None, o.Opt(_FLIP_HELP, "of color images")] = None
    license: Annotated[str | None, o.Opt("Of the weights.", "the data's terms are noted")] = None
    seed: o.Seed = 0
    dry_run: Annotated[bool, o.switch("Measure a few steps, and print the plan.")] = False
    overwrite: o.Overwrite = False
    output: o.OutputOptions
    compute: o.DeviceOptions


def world(options: WorldOptions) -> None:
    """Train and attack models of your own images in an hour.

    scoreag world --data image-folder:PATH --out runs/world --minutes 60
    """
    if not 0 < options.minutes < math.inf:
        raise UsageError(f"--minutes is {options.minutes}; expected a number above 0, e.g. 60")
    began, device = time.monotonic(), options.compute.resolve()
    data, test_data = read_data(options)
    parts = split_data(options, data, test_data)
    if options.dry_run:
        trainings = size_trainings(options, parts["train"], device)
        show_plan(options, parts, trainings)
        return
    _build(options, data, parts, device, began)


def read_data(options: WorldOptions) -> "tuple[Dataset, Dataset | None]":
    """The images of --data and of --test-data, labeled, of named classes, square."""
    from scoreag.training.sizing import check_shape

    data = _load(options, options.data)
    if not data.classes:
        assert data.labels is not None
        names = tuple(map(str, range(int(data.labels.max()) + 1)))
        data = replace(data, classes=names)
    if options.classes is not None:
        data = data.select_classes([name.strip() for name in options.classes.split(",")])
    if len(data.classes) < 2:
        raise ValueError(
            f"{data.name} has one class only, {data.classes[0]}; a classifier needs two or more"
        )
    check_shape(data)
    if options.test_data is None:
        return data, None
    test_data = _load(options, options.test_data)
    if options.classes is not None and test_data.classes:
        test_data = test_data.select_classes(data.classes)
    return data, test_data


def _load(options: WorldOptions, word: str) -> "Dataset":
    """Labeled images, unless they are too many for the memory."""
    from scoreag.cli.runs import check_labeled
    from scoreag.data.footprint import check_memory

    kind, colon, path = word.partition(":")
    word = f"{ALIASES.get(kind, kind)}{colon}{path}"
    reading = options.reading
    check_memory(word, o.parse_size(reading.size) if reading.size else None)
    data = reading.load(word, options.output.progress)
    check_labeled(data)
    return data


def split_data(
    options: WorldOptions, data: "Dataset", test_data: "Dataset | None"
) -> "dict[str, Dataset]":
    """The parts of the data by name."""
    from scoreag.data.splits import split

    parts = split(data, test_data)
    for part in parts.values():
        options.output.say(f"read {part.summary}")
    return parts


def size_trainings(
    options: WorldOptions, data: "Dataset", device: "torch.device"
) -> "list[SizedTraining]":
    """The three trainings, of sizes and lengths that fit --minutes, by the pace of this machine."""
    from scoreag.training.execution import bf16_is_fast
    from scoreag.training.pace import seconds_per_image
    from scoreag.training.sizing import ROLES, TIME_SHARES, choose_training

    dtype = "bf16" if device.type == "cuda" or bf16_is_fast() else "float32"
    measure = partial(seconds_per_image, data=data, device=device)
    return [
        choose_training(
            role, data, 60 * options.minutes * TIME_SHARES[role], measure, options.seed,
            flips(options, data), dtype,
        )
        for role in ROLES
    ]  # fmt: skip


def flips(options: WorldOptions, data: "Dataset") -> bool:
    """Whether training images are mirrored."""
    return data.images.shape[1] == 3 if options.flip is None else options.flip


def show_plan(
    options: WorldOptions, parts: "Mapping[str, Dataset]", trainings: "list[SizedTraining]"
) -> None:
    """Print what will be trained for how long."""
    options.output.show(
        {
            "images": {name: len(part) for name, part in parts.items()},
            "trainings": [asdict(one) for one in trainings],
            "minutes": options.minutes,
        },
        format_plan(options, parts, trainings),
    )


def format_plan(
    options: WorldOptions, parts: "Mapping[str, Dataset]", trainings: "list[SizedTraining]"
) -> str:
    """A line for the images, for each training, and for the evaluation."""
    train = parts["train"]
    counts = ", ".join(f"{len(part)} {name}" for name, part in parts.items())
    lines = [("images", f"{counts}; {len(train.classes)} classes")]
    for one in trainings:
        recipe = one.recipe(train, options.seed, flips(options, train))
        values = {n: v for n, v in recipe.options.items() if v not in ([], False)}
        network = ", ".join([recipe.network, *(f"{name} {value}" for name, value in values.items())])
        lines.append((
            one.role,
            f"{one.seconds / 60:.1f} minutes: {one.train_images:,} images, "
            f"{1 / one.seconds_per_image:.3g} a second; {network}",
        ))  # fmt: skip
    rest = options.minutes - sum(one.seconds for one in trainings) / 60
    lines.append(("evaluation", f"{rest:.1f} minutes: PGD, GAT, GAS and GAP"))
    return format_table(lines)


def _build(
    options: WorldOptions,
    data: "Dataset",
    parts: "dict[str, Dataset]",
    device: "torch.device",
    began: float,
) -> None:
    """Everything in --out: splits, models, metrics and the report."""
    from scoreag.data.splits import SPLIT_FILES, write_splits
    from scoreag.io.run_dir import RunFiles, open_run_dir

    out = Path(options.out)
    splits = tuple(f"{DATA}/{name}" for name in SPLIT_FILES)
    files = RunFiles((TRAININGS, PLAN, *splits), (TRAININGS,))
    manifest = build_manifest(options, data, parts)
    with open_run_dir(out, manifest, files, options.overwrite) as run:
        if not all((out / name).is_file() for name in splits):
            write_splits(parts, out / DATA)
        trainings = _load_trainings(options, parts["train"], device)
        options.output.say(format_plan(options, parts, trainings))
        prepared = time.monotonic() - began
        spent = prepared + 60 * sum(
            float(train(options, one, data.name, parts["train"], device).training_config["minutes"])
            for one in trainings
        )
        for role in ("classifier", "judge"):
            _measure_accuracy(options, out / role)
        seconds = 60 * options.minutes
        page = _attack(options, parts, max(seconds - spent, MIN_EVALUATION * seconds))
        run.finish()
    _show_results(options, page)


def build_manifest(
    options: WorldOptions, data: "Dataset", parts: "Mapping[str, Dataset]"
) -> dict[str, Any]:
    """What determines the models."""
    return {
        "command": command_line(),
        "task": f"world of {data.name}",
        "config": {"minutes": options.minutes, "flip": flips(options, data)},
        "data": {"name": data.name, "sha256": data.sha256},
        "splits": {name: part.sha256 for name, part in parts.items()},
        "seed": options.seed,
    }


def _load_trainings(
    options: WorldOptions, data: "Dataset", device: "torch.device"
) -> "list[SizedTraining]":
    """The trainings of trainings.json, so that what is resumed is what was begun, or new ones."""
    from scoreag.io.filesystem import write_json
    from scoreag.training.sizing import SizedTraining

    file = Path(options.out) / TRAININGS
    if not file.is_file():
        trainings = size_trainings(options, data, device)
        write_json(file, {"trainings": [asdict(one) for one in trainings]})
    try:
        table = json.loads(file.read_text(encoding="utf-8"))["trainings"]
        return [SizedTraining(**one) for one in table]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file} is damaged ({error}); give --overwrite to start from scratch"
        ) from error


def train(
    options: WorldOptions,
    training: "SizedTraining",
    source: str,
    data: "Dataset",
    device: "torch.device",
) -> "Card":
    """The card of a role, trained unless it is there.

    Args:
        source: the name of the data set, whose license counts.
    """
    from scoreag.io.manifest import to_jsonable
    from scoreag.io.run_dir import open_run_dir
    from scoreag.models.model_cards import load_card, update_card
    from scoreag.training.outputs import TRAINING_FILES, resolve_license
    from scoreag.training.schedule import to_config_dict
    from scoreag.training.sizing import SCORE_MODEL, default_settings

    role, recipe = training.role, training.recipe(data, options.seed, flips(options, data))
    folder = Path(options.out) / role
    manifest = {
        "command": command_line(),
        "task": f"train {role}",
        "config": to_jsonable(to_config_dict(recipe)),
        "data": {"name": data.name, "sha256": data.sha256},
        "seed": recipe.schedule.seed,
    }
    with open_run_dir(folder, manifest, TRAINING_FILES, options.overwrite) as run:
        if run.manifest.get("finished") and (folder / "card.toml").is_file():
            return load_card(folder)
        options.output.say(f"{role}: about {training.seconds / 60:.1f} minutes")
        card = _run_training(
            options, recipe, data, folder, device, resolve_license(options.license, source)
        )
        if role == SCORE_MODEL:
            settings = default_settings(card.sigma_data)
            card = update_card(card, defaults=settings, judge="../judge")
        run.finish(card=to_jsonable(card.identity))
        return card


def _run_training(
    options: WorldOptions,
    recipe: Any,
    data: "Dataset",
    folder: Path,
    device: "torch.device",
    license: str,
) -> "Card":
    from scoreag.training.classifier_training import train_classifier
    from scoreag.training.recipes import Recipe
    from scoreag.training.score_model_training import train_score_model

    assert data.labels is not None
    word = f"npz:{_path(options, DATA, 'train.npz')}"
    provenance = {"data": word, "data_sha256": data.sha256}
    given: dict[str, Any] = {
        "provenance": provenance, "progress": options.output.progress, "device": device,
        "license": license, "command": command_line(),
    }  # fmt: skip
    if isinstance(recipe, Recipe):
        return train_classifier(recipe, data.images, data.labels, data.classes, folder, **given)
    return train_score_model(
        recipe, data.images, data.labels, data.classes, folder,
        sample_every_images=recipe.schedule.total_images, **given,
    )  # fmt: skip


def _path(options: WorldOptions, *names: str) -> str:
    """The full path of something in --out, which is right wherever a plan is run."""
    return str(Path(options.out).resolve().joinpath(*names))


def _measure_accuracy(options: WorldOptions, folder: Path) -> None:
    """Write the accuracy on the test images to a card that has none."""
    from scoreag.models.model_cards import load_card

    if "test" in load_card(folder).metrics:
        return
    evaluate(
        EvaluateOptions(
            card=str(folder), data=f"npz:{_path(options, DATA, 'test.npz')}",
            out=str(folder.with_name(f"evaluation-{folder.name}")), update_card=True,
            overwrite=True, output=o.OutputOptions(quiet=True), compute=options.compute,
        )
    )  # fmt: skip


def _attack(options: WorldOptions, parts: "Mapping[str, Dataset]", seconds: float) -> Path:
    """Run the plan in --out, written first if it is not there; the page of the assessment."""
    from scoreag.assess import executors, runner
    from scoreag.assess.experiments import ModelCache
    from scoreag.assess.plan import load_plan
    from scoreag.assess.resolve import resolve_plan
    from scoreag.assess.timed_plan import Members, fit_images, plan_table
    from scoreag.io.filesystem import write_text
    from scoreag.models.model_cards import to_toml

    output, test = options.output, parts["test"]
    file, folder = Path(options.out) / PLAN, Path(options.out) / ASSESSMENT
    cache = ModelCache(None, options.compute.device, "", output.progress)
    if not file.is_file():
        members = Members(
            f"npz:{_path(options, DATA, 'test.npz')}", _path(options, "score-model"),
            _path(options, "classifier"), _path(options, "judge"), len(test.classes),
            EPS[test.images.shape[1]],
        )  # fmt: skip
        images = fit_images(members, len(test), seconds, cache)
        write_text(file, to_toml(plan_table(members, images)))
    plan = load_plan(file)
    cells = resolve_plan(plan, cache)
    output.say(f"attacks: about {seconds / 60:.1f} minutes")
    again = shlex.join(["scoreag", "assess", str(file), "--out", str(folder)])
    status = runner.assess(
        cells, folder, runner.build_manifest(plan, cache, again),
        partial(executors.run_serial, cache=cache), overwrite=options.overwrite,
        progress=output.progress, probes=runner.probe_classifiers(cells, cache),
    )  # fmt: skip
    page = write_report(folder)
    for name, message in status.failed.items():
        raise ValueError(f"{name} failed: {message}; the same command tries again")
    return page


def _show_results(options: WorldOptions, page: Path) -> None:
    """Print the accuracies, the success of each attack, and where the report is."""
    from scoreag.models.model_cards import load_card

    summary = json.loads(page.with_name("summary.json").read_text(encoding="utf-8"))
    out = Path(options.out)
    lines = [
        (f"accuracy of the {role}", format_rate(load_card(out / role).metrics["test"]["accuracy"]))
        for role in ("classifier", "judge")
    ]
    for name, cell in summary["cells"].items():
        metrics = cell["metrics"]
        for metric in ("fooled_and_shown", "success"):
            if metric in metrics:
                lines.append((f"{name}, {metric}", format_rate(metrics[metric])))
    again = shlex.join(["scoreag", "assess", str(out / PLAN), "--out", str(out / ASSESSMENT)])
    options.output.show(summary, format_table(lines))
    options.output.say(f"the report is {page}; {again} makes it again")
