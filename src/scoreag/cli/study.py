"""study: build the page of a human study from runs, and serve it."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from scoreag.cli import options as o
from scoreag.cli.runs import format_table

if TYPE_CHECKING:
    from scoreag.study.pictures import Picture, Pool
    from scoreag.study.selection import Confidence

DESIGNS = ("name", "choose", "real")
MAX_SAMPLED = 2000  # images of a data set; one has hardly more of a condition in a page
_RUNS_HELP = "Folders of synthesize, transform, purify or assess."
_DESIGN_HELP = "name (which class), choose (which of two shows it better) or real (a photograph?)."
_CHECKS_HELP = "Labeled real images for easy checks and practice: cifar10:test."
_CLEAN_HELP = "Untouched images for the condition clean, of runs that have none."
_JUDGE_HELP = "Classifier that is sure of the easy images; its confidence is recorded."


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    runs: Annotated[list[str], o.Opt(_RUNS_HELP, positional=True)]
    design: Annotated[str, o.Opt(_DESIGN_HELP, check=o.one_of(*DESIGNS))]
    out: Annotated[str, o.Opt("Folder of the study.", check=o.not_empty)]
    raters: Annotated[int, o.Opt("People planned.", check=o.at_least(1))] = 25
    images_per_condition: Annotated[
        int, o.Opt("Images of each condition.", check=o.at_least(1), metavar="COUNT")
    ] = 60
    trials: Annotated[int, o.Opt("Images for one person, at most.", check=o.at_least(2))] = 200
    conditions: Annotated[str | None, o.Opt("Only these: clean,gat,pgd.", "all of the runs")] = None
    checks: Annotated[str | None, o.Opt(_CHECKS_HELP, "images that the study leaves over")] = None
    clean: Annotated[str | None, o.Opt(_CLEAN_HELP, "the runs' own")] = None
    judge: Annotated[str | None, o.Opt(_JUDGE_HELP, "none")] = None
    enlarge: Annotated[
        str, o.Opt("How small images are enlarged.", check=o.one_of("nearest", "lanczos"))
    ] = "nearest"
    title: Annotated[str, o.Opt("Title of the page.", check=o.not_empty)] = "What do you see?"
    completion_code: Annotated[str | None, o.Opt("Shown at the end.", "made of the study")] = None
    seed: o.Seed = 0
    data_dir: o.DataDir = None
    output: o.OutputOptions
    compute: o.DeviceOptions


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    folder: Annotated[str, o.Opt("Folder of the study.", positional=True)]
    host: Annotated[str, o.Opt("Address; 0.0.0.0 lets others in.")] = "127.0.0.1"
    port: Annotated[int, o.Opt("Port; 0 takes a free one.", check=o.at_least(0))] = 8000
    output: o.OutputOptions


def build(options: BuildOptions) -> None:
    """Build a study of the images of runs: one page, without a network, and its manifest.

    scoreag study build runs/gat --design name --checks cifar10:test --out studies/gat
    """
    from scoreag.study.build import check_out, write_study_folder
    from scoreag.study.design import Settings, design_study

    out = Path(options.out)
    check_out(out)
    pool = _read_pool(options)
    settings = Settings(
        options.design, options.title, options.images_per_condition, options.raters,
        options.trials, options.seed, options.enlarge, options.completion_code or "",
    )  # fmt: skip
    pool, easy = _read_easy(pool, options)
    study = design_study(pool, easy, settings, _load_judge(pool, options))
    summary = write_study_folder(study, out)
    options.output.show(summary, _format_summary(summary))
    for line in _next_steps(summary, out):
        options.output.say(line)


def serve(options: ServeOptions) -> None:
    """Show a study to people on this machine or network, and keep their answers.

    scoreag study serve studies/gat
    """
    from scoreag.study.build import read_texts
    from scoreag.study.page import default_texts, find_placeholders
    from scoreag.study.serve import make_server, open_desk

    if options.port > 65535:
        raise o.UsageError(f"--port is {options.port}; expected at most 65535")
    desk = open_desk(Path(options.folder))
    if found := find_placeholders(read_texts(desk.folder, default_texts())):
        options.output.say(f"warning: the texts still have places to fill: {', '.join(found)}")
    try:
        server = make_server(desk, options.host, options.port)
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"{options.host}:{options.port} cannot be served ({reason}); give another --port"
        ) from error
    host, port = server.server_address[:2]
    address = f"http://{host!s}:{port}/"
    line = f"{address} shows the study; answers go to {desk.answers}"
    options.output.show({"address": address, "answers": str(desk.answers)}, line)
    sys.stdout.flush()  # before the server, which has no end
    with server:
        server.serve_forever()


def _read_pool(options: BuildOptions) -> "Pool":
    """The images of the runs and of --clean, of the conditions that are asked for."""
    from scoreag.study.manifest import CLEAN
    from scoreag.study.pictures import read_runs, select_conditions

    runs = [Path(run) for run in options.runs]
    names = o.split_words(options.conditions) if options.conditions is not None else []
    if options.clean is None:
        return read_runs(runs, names)
    if names and CLEAN not in names:
        raise o.UsageError(
            f"--clean gives the condition {CLEAN}, which --conditions leaves out; write "
            f"--conditions {','.join([CLEAN, *names])}, or leave out --clean"
        )
    pool = _add_clean(read_runs(runs, [n for n in names if n != CLEAN]), options, options.clean)
    return select_conditions(pool, names)


def _add_clean(pool: "Pool", options: BuildOptions, spec: str) -> "Pool":
    """The pool with the images of a data set as the condition clean."""
    from scoreag.study.manifest import CLEAN

    if CLEAN in pool.pictures:
        raise ValueError("the runs have untouched images already; leave out --clean")
    pool, pictures = _read_dataset(pool, options, spec, "clean")
    return replace(pool, pictures={CLEAN: pictures, **pool.pictures})


def _read_easy(pool: "Pool", options: BuildOptions) -> "tuple[Pool, list[Picture]]":
    """Candidates for checks and practice: of --checks, or the untouched ones of the runs."""
    from scoreag.study.manifest import CLEAN

    if options.checks is not None:
        return _read_dataset(pool, options, options.checks, "checks")
    return pool, list(pool.pictures.get(CLEAN, ()))


def _read_dataset(
    pool: "Pool", options: BuildOptions, spec: str, use: str
) -> "tuple[Pool, list[Picture]]":
    """The labeled images of a data set as untouched pictures, and the pool that records it."""
    from scoreag.cli.runs import check_classes, check_labeled
    from scoreag.data.loading import load_dataset
    from scoreag.study.manifest import CLEAN
    from scoreag.study.pictures import dataset_pictures, sample_positions

    data = load_dataset(
        spec, options.data_dir, progress=options.output.progress, classes=pool.classes
    )
    check_labeled(data)
    check_classes(data, pool.classes)
    assert data.labels is not None
    positions = sample_positions(data.labels.tolist(), MAX_SAMPLED, options.seed)
    used = {**pool.data, use: {"name": data.name, "sha256": data.sha256}}
    return replace(pool, data=used), dataset_pictures(data, positions, CLEAN)


def _load_judge(pool: "Pool", options: BuildOptions) -> "Confidence | None":
    """The confidence of --judge in the label of each picture."""
    if options.judge is None:
        return None
    from scoreag.classifiers.class_groups import known_names
    from scoreag.study.selection import make_confidence

    judge = options.compute.load_classifier(options.judge)
    names = known_names(judge)
    if names and tuple(names) != pool.classes:
        raise ValueError(f"--judge {options.judge} has other classes than the runs")
    return make_confidence(judge, options.compute.resolve())


def _format_summary(summary: dict[str, Any]) -> str:
    fewest, most = summary["answers_per_image"]
    counts = ", ".join(f"{name} {count}" for name, count in summary["images"].items())
    return format_table([
        ("study", summary["study"][:16]),
        ("images", counts),
        ("lists", f"{summary['lists']}, with {summary['trials']} trials and practice"),
        ("answers an image", str(fewest) if fewest == most else f"{fewest} or {most}"),
        ("page", f"{summary['page']}, {summary['bytes'] / 1e6:.1f} MB"),
        ("completion code", summary["completion_code"]),
    ])  # fmt: skip


def _next_steps(summary: dict[str, Any], out: Path) -> list[str]:
    if not summary["placeholders"]:
        return [f"open {summary['page']}, or: scoreag study serve {out}"]
    return [
        f"fill the {len(summary['placeholders'])} places in [[...]] of {out / 'texts'}, and give "
        "the same command again: it writes the page anew"
    ]
