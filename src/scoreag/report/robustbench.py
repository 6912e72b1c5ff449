"""A run as an entry of RobustBench: its JSON of ``model_info``.  Croce et al. (2021), MIT."""

import json
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
from scoreag.io.filesystem import check_regular_file, write_json
from scoreag.io.manifest import describe_environment, read_manifest
from scoreag.methods.result import Result
from scoreag.methods.saved_result import load_result
from scoreag.registry import describe_value, did_you_mean
from scoreag.stats.proportion import Proportion, accuracy

AUTOATTACK = "autoattack"  # the component that runs the authors' code
NORMS = ("Linf", "L2")
CLASSES = dict(zip(DATASETS, (10, 100, 1000), strict=True))
INFO: dict[str, type] = {  # what no run knows, and its type in the entries of RobustBench
    "link": str, "name": str, "authors": str, "additional_data": bool,
    "number_forward_passes": int, "venue": str, "architecture": str, "reported": str,
    "footnote": str, "unreliable": bool,
}  # fmt: skip
MEASURED = ("eps", "clean_acc", "autoattack_acc", "external")


@dataclass(frozen=True)
class _Evaluation:
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


def robustbench_entry(
    run: Result | str | Path,
    *,
    dataset: str | None = None,
    only: str | None = None,
    info: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The entry of RobustBench's leaderboard that a run of attacks in a norm ball stands for.

    ``autoattack_acc`` is that of AutoAttack by its authors.  With other attacks there is
    ``external``: the share of all images that are correct before and under every attack.
    Accuracies are in per cent, of the 8-bit images.

    Args:
        run: the folder of an assessment, or of ``scoreag attack``; or a result of
            ``scoreag.attack``, in memory or saved.
        dataset: cifar10, cifar100 or imagenet; for a result of images that were not named.
        only: a cell's name, or a pattern, for an assessment with several classifiers or radii.
        info: what no run knows: link, name (of the paper), authors, additional_data, venue,
            architecture, number_forward_passes, reported, footnote, unreliable.  What is left out
            is blank, as RobustBench leaves it.

    Raises:
        ValueError: the run is no evaluation of this kind; says what to write.
    """
    found = _evaluate(run, dataset, only)
    known = check_info(info or {})
    return _to_entry(found, known)


def write_robustbench(
    run: Result | str | Path,
    model_name: str,
    folder: str | Path = "model_info",
    *,
    dataset: str | None = None,
    only: str | None = None,
    info: Mapping[str, Any] | None = None,
) -> Path:
    """Write the entry of a run to FOLDER/DATASET/NORM/MODEL_NAME.json, where RobustBench reads it.

    Of a file that is there, values are kept where the run and ``info`` leave them blank.

    Args:
        run, dataset, only, info: as in ``robustbench_entry``.
        model_name: as in RobustBench: NameYearWord, for instance Carmon2019Unlabeled.

    Raises:
        ValueError: the run is no evaluation of this kind; says what to write.
    """
    if not model_name or Path(model_name).name != model_name:
        raise ValueError(f"{model_name!r:.60} is no name of a model; write one as a file's name")
    found = _evaluate(run, dataset, only)
    entry = _to_entry(found, check_info(info or {}))
    file = Path(folder) / found.dataset / found.norm / f"{model_name}.json"
    if file.exists():
        entry = {**entry, **_read_entry(file), **{k: v for k, v in entry.items() if _says(v)}}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, entry)
    return file


def check_info(info: Mapping[str, Any]) -> dict[str, Any]:
    """The given fields, whose names and types must be those of RobustBench's entries."""
    for name, value in info.items():
        if name in MEASURED or name == "dataset":
            raise ValueError(f"{name} of an entry is the run's own; leave it out")
        if name not in INFO:
            raise ValueError(
                f"an entry of RobustBench has no {name!r}; {did_you_mean(name, [*INFO])}"
            )
        if type(value) is not INFO[name]:
            kind = {bool: "true or false", int: "a whole number", str: "text"}[INFO[name]]
            raise ValueError(f"{name} is {describe_value(value)}; expected {kind}")
    return dict(info)


def _says(value: Any) -> bool:
    """Whether a field is not blank."""
    return value is not None and value != ""


def _read_entry(file: Path) -> dict[str, Any]:
    check_regular_file(file)
    try:
        entry = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict):
        raise ValueError(f"{file} is no entry of RobustBench; give another name or folder")
    return entry


def _to_entry(found: _Evaluation, info: Mapping[str, Any]) -> dict[str, Any]:
    """The fields in the order of RobustBench's own files."""
    note = f"{found.attacks}; {found.images}; ScoreAG {found.version}."
    robust = {"autoattack_acc": found.autoattack, "external": found.external}
    entry: dict[str, Any] = {
        "link": "",
        "name": "",
        "authors": "",
        "additional_data": None,
        "number_forward_passes": 1 if found.purified is False else None,
        "dataset": found.dataset,
        "venue": "",
        "architecture": "",
        "eps": format_eps(found.eps, found.norm),
        "clean_acc": _per_cent(found.clean),
        "reported": "",
        **{name: _per_cent(rate) for name, rate in robust.items() if rate is not None},
        "footnote": note,
    }
    return {**entry, **info}


def _per_cent(rate: Proportion) -> str:
    return str(round(100 * rate.value, 2))


def format_eps(eps: float, norm: str) -> str:
    """A radius as the leaderboards write it.

    >>> format_eps(8 / 255, "Linf"), format_eps(0.5, "L2"), format_eps(0.3, "Linf")
    ('8/255', '0.5', '0.3')
    """
    levels = 255 * eps
    whole = norm == "Linf" and abs(levels - round(levels)) < 1e-6
    return f"{round(levels)}/255" if whole else f"{eps:g}"


def _evaluate(run: Result | str | Path, dataset: str | None, only: str | None) -> _Evaluation:
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
        raise ValueError("the result does not know its data; write dataset='cifar10'")
    name = str(stated or data).partition(":")[0]
    if name not in DATASETS:
        raise ValueError(f"RobustBench has no data set {name!r}; {did_you_mean(name, [*DATASETS])}")
    if data is not None and data.partition(":")[0] != name:
        raise ValueError(f"the run is of {data}, not of {stated}; leave out dataset")
    return name


def _of_result(result: Result, dataset: str | None) -> _Evaluation:
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
    return _Evaluation(
        dataset, *_check_ball(norm, eps, name), accuracy(before, labels, "images"),
        robust if original else None, None if original else robust,
        _describe_attack(name, config), images, None, _version(describe_environment()),
    )  # fmt: skip


def _of_assessment(folder: Path, dataset: str | None, only: str | None) -> _Evaluation:
    cells = [c for c in select_cells(list_cells(folder), only) if c.task != CLEAN and not c.is_ood]
    balls = [cell for cell in cells if norm_ball(cell)[0] in NORMS and _is_number(cell)]
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
    return _combine(balls, parts, dataset, _version(read_manifest(folder)))


def _is_number(cell: Cell) -> bool:
    return isinstance(norm_ball(cell)[1], int | float)


def _group_name(cell: Cell) -> str:
    norm, eps = norm_ball(cell)
    return f"{cell.defense}, {norm}, eps {format_eps(float(str(eps)), str(norm))}"


def _read_whole(folder: Path, cell: Cell) -> Columns:
    columns = to_columns(read_cell(folder, cell).rows)
    if len(columns) != cell.images:
        raise ValueError(
            f"{cell.name} has {len(columns)} of its {cell.images} images; finish the run, by the "
            "command that began it"
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


def _version(manifest: Mapping[str, Any]) -> str:
    return str(manifest.get("versions", {}).get("scoreag", "of unknown version"))


def _combine(
    cells: Sequence[Cell], parts: Sequence[Columns], dataset: str | None, version: str
) -> _Evaluation:
    first, clean = cells[0], parts[0].clean_correct
    name = _check_dataset(first.data, dataset)
    if first.classes and len(first.classes) != CLASSES[name]:
        raise ValueError(
            f"the classifier tells {len(first.classes)} classes apart, and RobustBench's {name} "
            f"has {CLASSES[name]}"
        )
    assert clean is not None  # an attack within a ball has an image to begin with
    original = [_is_autoattack(cell.component, cell.options) for cell in cells]
    theirs = [part for part, is_theirs in zip(parts, original, strict=True) if is_theirs]
    norm, eps = norm_ball(first)
    return _Evaluation(
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
