"""What a command writes: the run, its report, and the summary on the terminal."""

import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scoreag.cli.options import OutputOptions, RunOptions

if TYPE_CHECKING:
    from scoreag.data.loading import Dataset
    from scoreag.methods.task import TaskSpec


def run_and_report(
    job: "TaskSpec",
    run: RunOptions,
    output: OutputOptions,
    provenance: Mapping[str, Any],
    data: "Dataset | None" = None,
) -> None:
    """Compute a task in --out, write its report, and print the summary."""
    from scoreag.methods.run_task import find_gradient_problem, run_task

    if problem := find_gradient_problem(job):
        print(f"scoreag: warning: {problem}", file=sys.stderr)
    folder = Path(run.out)
    summary = run_task(
        job,
        folder,
        {"command": command_line(), **provenance},
        write_every=run.write_every,
        batch_size=run.batch_size,
        progress=output.progress,
        overwrite=run.overwrite,
        on_start=lambda: output.say(f"read {data.summary}") if data else None,
    )
    write_report(folder)
    output.show(summary, format_summary(summary))
    say_where(output, folder)


def write_report(folder: Path) -> Path:
    """Write the report of a run, an assessment or a certificate from what lies in its folder."""
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
            f"{folder} holds what this version does not write ({reason}); "
            "give the command of the run again with --overwrite"
        ) from error


def command_line() -> str:
    """What was typed, as it can be pasted."""
    return shlex.join(["scoreag", *sys.argv[1:]])


def say_where(output: OutputOptions, folder: str | Path) -> None:
    """Where the files are."""
    output.say(f"everything is in {folder}; open {Path(folder) / 'report.html'}")


def format_summary(summary: Mapping[str, Any]) -> str:
    """A line a figure, with its denominator."""
    headline = summary.get("headline") or {}
    lines = [("images", str(summary["images"]))]
    if headline:
        doubt = headline["says"].partition("; ")[2]
        lines.append((headline["name"], "; ".join(filter(None, (format_rate(headline), doubt)))))
    for name, rate in summary["rates"].items():
        if name != headline.get("name"):
            lines.append((name, format_rate(rate)))
    for name, median in summary["medians"].items():
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
