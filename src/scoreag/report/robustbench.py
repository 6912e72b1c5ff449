"""A run as an entry of RobustBench: its JSON of ``model_info``.  Croce et al. (2021), MIT."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scoreag.io.filesystem import check_regular_file, write_json
from scoreag.methods.result import Result
from scoreag.registry import describe_value, did_you_mean
from scoreag.report.robustbench_reading import BallEvaluation, evaluate_in_ball, format_eps
from scoreag.stats.proportion import Proportion

DATASET = "dataset"
INFO: dict[str, type] = {  # what a run may not know, and its type in the entries of RobustBench
    DATASET: str, "link": str, "name": str, "authors": str, "additional_data": bool,
    "number_forward_passes": int, "venue": str, "architecture": str, "reported": str,
    "footnote": str, "unreliable": bool,
}  # fmt: skip
MEASURED = ("eps", "clean_acc", "autoattack_acc", "external")


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
        dataset: cifar10, cifar100 or imagenet, of a result whose images were given as a tensor.
        only: a cell's name, or a pattern, for an assessment with several classifiers or radii.
        info: what no run knows: link, name (of the paper), authors, additional_data, venue,
            architecture, number_forward_passes, reported, footnote, unreliable.  What is left out
            is blank, as RobustBench leaves it.

    Raises:
        ValueError: the run is no evaluation of this kind; says what to write.
    """
    return _describe(run, dataset, only, info)[1]


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
    found, entry = _describe(run, dataset, only, info)
    file = Path(folder) / found.dataset / found.norm / f"{model_name}.json"
    if file.exists():
        entry = {**entry, **_read_entry(file), **{k: v for k, v in entry.items() if _says(v)}}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, entry)
    return file


def _describe(
    run: Result | str | Path, dataset: str | None, only: str | None, info: Mapping[str, Any] | None
) -> tuple[BallEvaluation, dict[str, Any]]:
    known = check_info(info or {})
    found = evaluate_in_ball(run, dataset or known.pop(DATASET, None), only)
    return found, _to_entry(found, known)


def check_info(info: Mapping[str, Any]) -> dict[str, Any]:
    """The given fields, whose names and types must be those of RobustBench's entries."""
    for name, value in info.items():
        if name in MEASURED:
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


def _to_entry(found: BallEvaluation, info: Mapping[str, Any]) -> dict[str, Any]:
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
