"""What a run says of one classifier, or defense, in one norm ball: for an entry of RobustBench."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoreag.assess import metrics
from scoreag.assess.experiments import CLEAN, Cell
from scoreag.assess.metrics import Columns, to_columns
from scoreag.assess.runner import list_cells, read_cell, select_cells
from scoreag.assess.sanity_checks import FIXED_NORM_ATTACKS, norm_ball
from scoreag.classifiers.build import DATASETS
from scoreag.io.manifest import describe_environment, read_manifest
from scoreag.methods.result import Result
from scoreag.methods.saved_result import load_result
from scoreag.registry import did_you_mean
from scoreag.stats.proportion import Proportion, accuracy

AUTOATTACK = "autoattack"  # the component that runs the authors' code
NORMS = ("Linf", "L2")
CLASSES = dict(zip(DATASETS, (10, 100, 1000), strict=True))


@dataclass(frozen=True)
class BallEvaluation:
    """What a run says of one classifier, or defense, in one norm ball.

    Args:
        autoattack: under AutoAttack by its authors, in its standard version; None: it did not run.
        external: under all attacks of the run together; None if there was only AutoAttack.
        purified: whether a purifier stands before the classifier; None where that is unknown.
        version: of this package, which computed the run.
    """

    dataset: str
    norm: str
    eps: float
    clean: Proportion
    autoattack: Proportion | None
    external: Proportion | None
    attacks: str
    images: str
    purified: bool | None
    version: str


def format_eps(eps: float, norm: str) -> str:
    """A radius as the leaderboards write it.

    >>> format_eps(8 / 255, "Linf"), format_eps(0.5, "L2"), format_eps(0.3, "Linf")
    ('8/255', '0.5', '0.3')
    """
    levels = 255 * eps
    whole = norm == "Linf" and abs(levels - round(levels)) < 1e-6
    return f"{round(levels)}/255" if whole else f"{eps:g}"


def evaluate_in_ball(
    run: Result | str | Path, dataset: str | None, only: str | None
) -> BallEvaluation:
    if not isinstance(run, Result):
        if str(read_manifest(Path(run)).get("task")).startswith("assess "):
            return _of_assessment(Path(run), dataset, only)
        run = load_result(run)
    if only is not None:
        raise ValueError("a result is of one attack; leave out only")
    return _of_result(run, dataset)


def _check_dataset(data: str | None, stated: str | None) -> str:
    """The data set of RobustBench that the words of the run and of the caller mean."""
    if data is None and stated is None:
        raise ValueError(
            "the result does not know its data; write dataset='cifar10', on the command line "
            "--model-info dataset=cifar10"
        )
    name = str(stated or data).partition(":")[0]
    if name not in DATASETS:
        raise ValueError(f"RobustBench has no data set {name!r}; {did_you_mean(name, [*DATASETS])}")
    if data is not None and data.partition(":")[0] != name:
        raise ValueError(f"the run is of {data}, not of {stated}; leave out dataset")
    return name


def _of_result(result: Result, dataset: str | None) -> BallEvaluation:
    named = result.config.get("data")
    dataset, images = _check_dataset(named, dataset), f"{len(result)} images of {named or dataset}"
    labels, before, after = result.labels, result.clean_predictions, result.predictions
    if result.task != "attack" or labels is None or before is None or after is None:
        raise ValueError(f"the run is of {result.task}; expected one of scoreag.attack")
    name = str(result.config.get("attack"))
    default = "Linf" if name in FIXED_NORM_ATTACKS else None
    norm, eps = result.config.get("norm", default), result.config.get("eps")
    config, whole = result.config, (before == labels) & (after == labels)
    robust = Proportion(int(whole.sum()), len(whole), "images")
    original = _is_autoattack(name, config)
    return BallEvaluation(
        dataset, *_check_ball(norm, eps, name), accuracy(before, labels, "images"),
        robust if original else None, None if original else robust,
        _describe_attack(name, config), images, None, describe_environment()["versions"]["scoreag"],
    )  # fmt: skip


def _of_assessment(folder: Path, dataset: str | None, only: str | None) -> BallEvaluation:
    cells = [c for c in select_cells(list_cells(folder), only) if c.task != CLEAN and not c.is_ood]
    balls = [c for c in cells if norm_ball(c)[0] in NORMS and norm_ball(c)[1] is not None]
    groups: dict[str, list[Cell]] = {}
    for cell in balls:
        groups.setdefault(_group_name(cell), []).append(cell)
    if not groups:
        raise ValueError(f"{folder} has no attack within a ball of {' or '.join(NORMS)}")
    if len(groups) > 1:
        some = "; ".join(f"{name}: {len(some)} cells" for name, some in groups.items())
        raise ValueError(
            f"an entry is of one classifier and radius, and {folder} has {len(groups)} "
            f"({some:.300}); choose cells by --only, for instance {balls[0].name!r}"
        )
    parts = [_read_whole(folder, cell) for cell in balls]
    _check_same_images(balls, parts)
    versions = read_manifest(folder).get("versions", {})
    return _combine(balls, parts, dataset, str(versions.get("scoreag", "of unknown version")))


def _group_name(cell: Cell) -> str:
    norm, eps = norm_ball(cell)
    return f"{cell.defense}, {norm}, eps {format_eps(float(str(eps)), str(norm))}"


def _read_whole(folder: Path, cell: Cell) -> Columns:
    columns = to_columns(read_cell(folder, cell).rows)
    if len(columns) != cell.images:
        raise ValueError(
            f"{cell.name} has {len(columns)} of its {cell.images} images; finish the run first"
        )
    return columns


def _check_same_images(cells: Sequence[Cell], parts: Sequence[Columns]) -> None:
    """Worst cases are over attacks that had the same images."""
    first = sorted(parts[0].image_ids.tolist())
    for cell, part in zip(cells, parts, strict=True):
        if sorted(part.image_ids.tolist()) != first or cell.data != cells[0].data:
            raise ValueError(
                f"{cells[0].name} and {cell.name} are of other images; choose cells by --only"
            )


def _combine(
    cells: Sequence[Cell], parts: Sequence[Columns], dataset: str | None, version: str
) -> BallEvaluation:
    first, clean = cells[0], parts[0].clean_correct
    name = _check_dataset(first.data, dataset)
    count, expected = len(first.classes), CLASSES[name]
    if count not in (0, expected):
        raise ValueError(f"the classifier tells {count} classes apart, and {name} has {expected}")
    assert clean is not None  # an attack within a ball has an image to begin with
    original = [_is_autoattack(cell.component, cell.options) for cell in cells]
    theirs = [part for part, is_theirs in zip(parts, original, strict=True) if is_theirs]
    norm, eps = norm_ball(first)
    return BallEvaluation(
        name, *_check_ball(norm, eps, first.name),
        Proportion(int(clean.sum()), len(clean), "images"),
        metrics.worst_case_accuracy(theirs, _stays_correct) if theirs else None,
        None if all(original) else metrics.worst_case_accuracy(parts, _stays_correct),
        ", ".join(dict.fromkeys(_describe_attack(c.component, c.options) for c in cells)),
        f"{len(clean)} images of {first.data}", bool(first.purifier), version,
    )  # fmt: skip


def _stays_correct(columns: Columns) -> metrics.Flags:
    """Correct before and under the attack: AutoAttack does not attack what is wrong before."""
    return columns.eligible & ~columns.adv_misclassified


def _is_autoattack(name: str, options: Mapping[str, Any]) -> bool:
    return name == AUTOATTACK and options.get("version", "standard") == "standard"


def _check_ball(norm: object, eps: object, name: str) -> tuple[str, float]:
    if norm not in NORMS or not isinstance(eps, int | float):
        raise ValueError(f"{name} searches no ball of {' or '.join(NORMS)}, as RobustBench's do")
    return str(norm), float(eps)


def _describe_attack(name: str, options: Mapping[str, Any]) -> str:
    """The attack and its budget, for the footnote."""
    kept = ("version", "steps", "n_target_classes", "n_queries", "restarts", "eot_samples")
    words = [f"{key} {options[key]}" for key in kept if key in options]
    return f"{name} ({', '.join(words)})" if words else name
