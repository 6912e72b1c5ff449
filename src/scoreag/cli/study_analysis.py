"""study analyze and study power: what people answered, and how many are needed."""

import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from scoreag.cli import options as o
from scoreag.cli.options import UsageError
from scoreag.cli.runs import format_table, say_where

if TYPE_CHECKING:
    from scoreag.study.power import Design

OTHER_RATERS = (3, 5, 10)  # shown beside what was asked for
_ANSWERS_HELP = "Files of answers, JSON or CSV, or folders of them."
_ICC_HELP = "Correlation of two answers on one image; real CIFAR-10 images have 0.21."


@dataclass(frozen=True, kw_only=True)
class AnalyzeOptions:
    study: Annotated[str, o.Opt("Folder of the study.", positional=True)]
    answers: Annotated[
        list[str] | None, o.Opt(_ANSWERS_HELP, "answers in the folder", positional=True)
    ] = None
    out: Annotated[str | None, o.Opt("Folder of the results.", "analysis in the folder")] = None
    output: o.TableOutputOptions


@dataclass(frozen=True, kw_only=True)
class PowerOptions:
    raters: Annotated[int, o.Opt("People who see each image.", check=o.at_least(1))] = 5
    difference: Annotated[float, o.Opt("Of the shares of two conditions, in (0, 1).")] = 0.05
    baseline: Annotated[float, o.Opt("Mean share of both conditions.")] = 0.9
    icc: Annotated[float, o.Opt(_ICC_HELP)] = 0.3
    power: Annotated[float, o.Opt("Probability of showing the difference.")] = 0.8
    alpha: Annotated[float, o.Opt("Of the two-sided test.")] = 0.05
    conditions: Annotated[int, o.Opt("Conditions, untouched images among them.")] = 4
    trials_per_person: Annotated[
        int, o.Opt("Images a person, without checks and repeats.", check=o.at_least(1))
    ] = 200
    output: o.TableOutputOptions


def analyze(options: AnalyzeOptions) -> None:
    """Analyze the answers of a study; write a page, a summary and tables.

    scoreag study analyze studies/gat answers/*.json
    """
    from scoreag.io.filesystem import file_sha256
    from scoreag.io.manifest import MANIFEST, utc_now
    from scoreag.report.study import check_out, format_study, write_analysis
    from scoreag.report.study_tables import study_tables
    from scoreag.study.analysis import analyze as analyze_answers
    from scoreag.study.answers import list_files, read_answers
    from scoreag.study.manifest import ANSWERS, read_study

    folder = Path(options.study)
    manifest = read_study(folder)
    out = Path(options.out) if options.out else folder / "analysis"
    check_out(out)
    paths = [Path(word) for word in options.answers or [str(folder / ANSWERS)]]
    analysis = analyze_answers(manifest, read_answers(manifest, paths))
    provenance = {
        "command": _command(options),
        "analyzed": utc_now(),
        "scoreag": _version(),
        "manifest_sha256": file_sha256(folder / MANIFEST),
        "answers_sha256": sorted(file_sha256(file) for file in list_files(paths)),
    }
    write_analysis(analysis, provenance, out)
    main, *_ = study_tables(analysis.summary)
    options.output.show(analysis.summary, format_table(format_study(analysis.summary)), main)
    say_where(options.output, out)


def _command(options: AnalyzeOptions) -> str:
    """The command without the files of answers, whose names are those of people."""
    out = ["--out", options.out] if options.out else []
    return shlex.join(["scoreag", "study", "analyze", options.study, *out])


def _version() -> str:
    from importlib import import_module

    return str(import_module("scoreag").__version__)


def power(options: PowerOptions) -> None:
    """Plan a study: the images and people that show a difference between two conditions.

    scoreag study power --raters 5 --difference 0.05
    """
    from scoreag.study.power import Design, plan_study

    names = ("raters", "difference", "baseline", "icc", "power", "alpha", "conditions")
    try:
        design = Design(
            **{name: getattr(options, name) for name in names}, trials=options.trials_per_person
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    plan = plan_study(design)
    others = [plan_study(replace(design, raters=raters)) for raters in OTHER_RATERS]
    found = {"design": asdict(design), **plan, "others": others}
    options.output.show(found, format_table(_plan_lines(design, plan, others)))


def _plan_lines(
    design: "Design", plan: dict[str, Any], others: list[dict[str, Any]]
) -> list[tuple[str, str]]:
    """The plan as lines, and what other numbers of people an image would need."""
    percent = f"{100 * design.difference:g} points around {100 * design.baseline:g} %"
    lines = [
        ("difference", f"{percent}, ICC {design.icc:g}, alpha {design.alpha:g}"),
        ("power", f"{100 * plan['power']:.1f} %"),
        ("images a condition", f"{plan['images']:,}"),
        ("answers", f"{plan['answers']:,}, of {design.conditions} conditions"),
        ("people", f"{plan['people']:,}, at most {design.trials} images each"),
    ]
    for one in others:
        line = f"{one['images']:,} images, {one['answers']:,} answers, {one['people']:,} people"
        lines.append((f"with {one['raters']} people an image", line))
    return lines
