"""world: models of one's own labeled images, and what fools the classifier, in the time given."""

import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from scoreag.cli import options as o
from scoreag.cli.options import UsageError
from scoreag.cli.runs import (
    check_classes,
    check_labeled,
    command_line,
    format_rate,
    format_table,
)
from scoreag.cli.world_steps import (
    DATA,
    PLAN,
    TRAININGS,
    World,
    assess_command,
    attack,
    describe_training,
    load_training,
    measure_accuracy,
    size_training,
    train_model,
)

if TYPE_CHECKING:
    from scoreag.data.loading import Dataset

ALIASES = {"folder": "image-folder"}
MIN_EVALUATION = 0.1  # of the minutes, even where the trainings took longer than planned
RESULTS = {  # what is printed of each attack: a title and a metric
    "pgd": ("PGD fools it, class preserved", "fooled_and_shown"),
    "gat": ("GAT fools it, class preserved", "fooled_and_shown"),
    "gas,attack_scale=auto": ("GAS fools it, class shown", "fooled_and_shown"),
    "gas,attack_scale=0.0": ("unguided samples show their class", "judge_agreement"),
    "pgd_purified": ("accuracy under PGD, after GAP", "accuracy"),
    "gap": ("accuracy on clean images, after GAP", "accuracy"),
}
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
    """Train models of your own images, and attack them, in an hour.

    scoreag world --data image-folder:PATH --out runs/world --minutes 60
    """
    from scoreag.data.splits import split

    if not 0 < options.minutes < math.inf:
        raise UsageError(f"--minutes is {options.minutes}; expected a number above 0, e.g. 60")
    began = time.monotonic()
    data, test_data = read_data(options)
    parts = split(data, test_data)
    for part in parts.values():
        options.output.say(f"read {part.summary}")
    is_color = data.images.shape[1] == 3
    common = World(
        out=Path(options.out), source=data.name, parts=parts, minutes=options.minutes,
        seed=options.seed, flip=is_color if options.flip is None else options.flip,
        license=options.license, overwrite=options.overwrite, output=options.output,
        compute=options.compute,
    )  # fmt: skip
    if options.dry_run:
        _show_plan(common)
    else:
        _build(common, data.sha256, began)


def read_data(options: WorldOptions) -> "tuple[Dataset, Dataset | None]":
    """The images of --data and of --test-data, labeled, of named classes, square."""
    from scoreag.training.sizing import check_shape

    whole = _load(options, options.data)
    if not whole.classes:
        assert whole.labels is not None
        names = tuple(map(str, range(int(whole.labels.max()) + 1)))
        whole = replace(whole, classes=names)
    data = _select(options, whole)
    if len(data.classes) < 2:
        raise ValueError(
            f"{data.name} has one class only, {data.classes[0]}; a classifier needs two or more"
        )
    check_shape(data)
    if options.test_data is None:
        return data, None
    test_data = _load(options, options.test_data, whole.classes)
    check_classes(test_data, whole.classes)
    return data, _select(options, replace(test_data, classes=whole.classes))


def _select(options: WorldOptions, data: "Dataset") -> "Dataset":
    """The images of --classes."""
    if options.classes is None:
        return data
    return data.select_classes(o.split_words(options.classes))


def _load(options: WorldOptions, word: str, classes: tuple[str, ...] = ()) -> "Dataset":
    """Labeled images, unless they are too many for the memory."""
    from scoreag.data.footprint import check_memory

    kind, colon, path = word.partition(":")
    word = f"{ALIASES.get(kind, kind)}{colon}{path}"
    reading = options.reading
    check_memory(word, o.parse_size(reading.size) if reading.size else None)
    data = reading.load(word, options.output.progress, classes)
    check_labeled(data)
    return data


def _show_plan(world: World) -> None:
    """Print what will be trained for how long."""
    from scoreag.training.sizing import ROLES, TIME_SHARES

    total, spent, trainings = 60 * world.minutes, 0.0, []
    for role in ROLES:
        trainings.append(size_training(world, role, spent))
        spent += TIME_SHARES[role] * total
    images = {name: len(part) for name, part in world.parts.items()}
    rest = world.minutes - sum(one.seconds for one in trainings) / 60
    counts = ", ".join(f"{count} {name}" for name, count in images.items())
    lines = [
        ("images", f"{counts}; {len(world.parts['train'].classes)} classes"),
        *((one.role, describe_training(world, one)) for one in trainings),
        ("evaluation", f"{rest:.1f} minutes: PGD, GAT, GAS and GAP"),
    ]
    table = [{**asdict(one), "minutes": round(one.seconds / 60, 2)} for one in trainings]
    world.output.show(
        {"images": images, "trainings": table, "minutes": world.minutes}, format_table(lines)
    )


def _build(world: World, sha256: str, began: float) -> None:
    """Everything in --out: splits, models, metrics and the report."""
    from scoreag.data.splits import SPLIT_FILES, write_splits
    from scoreag.io.run_dir import RunFiles, open_run_dir
    from scoreag.training.sizing import CLASSIFIER, JUDGE, ROLES

    splits = tuple(f"{DATA}/{name}" for name in SPLIT_FILES)
    files = RunFiles((TRAININGS, PLAN, *splits), (TRAININGS,))
    manifest = {
        "command": command_line(),
        "task": f"world of {world.source}",
        "config": {"minutes": world.minutes, "flip": world.flip},
        "data": {"name": world.source, "sha256": sha256},
        "splits": {name: part.sha256 for name, part in world.parts.items()},
        "seed": world.seed,
    }
    with open_run_dir(world.out, manifest, files, world.overwrite) as run:
        if not all((world.out / name).is_file() for name in splits):
            write_splits(world.parts, world.out / DATA)
        spent = time.monotonic() - began
        for role in ROLES:
            card = train_model(world, load_training(world, role, spent))
            spent += 60 * float(card.training_config["minutes"])
        for role in (CLASSIFIER, JUDGE):
            measure_accuracy(world, role)
        total = 60 * world.minutes
        page = attack(world, max(total - spent, MIN_EVALUATION * total))
        run.finish()
    _show_results(world, page)


def _show_results(world: World, page: Path) -> None:
    """Print the accuracies, the success of each attack, and where the report is."""
    summary = json.loads(page.with_name("summary.json").read_text(encoding="utf-8"))
    world.output.show(summary, format_table(list(_result_lines(world, summary))))
    world.output.say(f"the report is {page}; again: {assess_command(world)}")


def _result_lines(world: World, summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    from scoreag.models.model_cards import load_card

    for role in ("classifier", "judge"):
        accuracy = load_card(world.out / role).metrics["test"]["accuracy"]
        yield f"accuracy of the {role}", format_rate(accuracy)
    cells = {name.rpartition("/")[2]: cell for name, cell in summary["cells"].items()}
    for variant, (title, metric) in RESULTS.items():
        if metric in cells.get(variant, {}).get("metrics", {}):
            yield title, format_rate(cells[variant]["metrics"][metric])
