"""demo: each task once with the bundled models, and a page with the results."""

import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from scoreag.cli import options as o
from scoreag.cli.demo_models import CIFAR10, FASHION, load_models
from scoreag.cli.demo_runs import DemoRun, run_demo
from scoreag.cli.runs import command_line

if TYPE_CHECKING:
    from scoreag.data.loading import Dataset
    from scoreag.report.demo_images import DemoReport

SAMPLE = "fashion-mnist:sample"  # real images in the package
N_REAL = 20


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    out: Annotated[str, o.Opt("Folder of the report.", check=o.not_empty)] = "runs/demo"
    data: Annotated[str | None, o.Opt("Labeled CIFAR-10 images.", "bundled images")] = None
    data_dir: o.DataDir = None
    seed: o.Seed = 0
    overwrite: o.Overwrite = False
    output: o.TableOutputOptions
    device: o.Device = "auto"


def demo(options: DemoOptions) -> None:
    """A tour of all tasks on bundled models in 2 minutes.

    scoreag demo --out runs/demo
    """
    from scoreag.attacks.pgd import PGD
    from scoreag.io.filesystem import write_text
    from scoreag.io.manifest import describe_environment
    from scoreag.report.demo import format_demo_text, render_demo_page

    start, out, output = time.monotonic(), Path(options.out), options.output
    is_text = output.progress and not output.json and output.format == o.PLAIN
    say = print if is_text else lambda text: None
    is_fashion = options.data is None or options.data.partition(":")[0] == "fashion-mnist"
    names = FASHION if is_fashion else CIFAR10
    models = load_models(names, options.device)
    generator = load_models(CIFAR10, options.device) if options.data is None else models
    real, source = _read_images(options, models.prior.classes)
    say(f"read {real.summary}")
    run = DemoRun(out, options.seed, output.progress, options.overwrite)
    report = replace(
        run_demo(models, real, run, attack=PGD(eps=names.radius / 255), generator=generator),
        source=source,
        provenance={"command": command_line(), "seed": options.seed, **describe_environment()},
    )
    report = replace(report, footer=(*report.footer, _describe_duration(start)))
    page = out / "report.html"
    write_text(page, render_demo_page(report))
    say(f"{format_demo_text(report)}\n\nTo look at: {page}")
    _show_table(output, out, report, is_text)


def _read_images(options: DemoOptions, classes: tuple[str, ...]) -> tuple["Dataset", str]:
    """The real images, classes in turns, and where they are from."""
    from scoreag.data.loading import interleave_classes
    from scoreag.data.source import interleave_groups

    reading = o.ReadOptions(data_dir=options.data_dir)
    real = reading.load(options.data or SAMPLE, options.output.progress, classes)
    if options.data is not None:
        return interleave_classes(real)[:N_REAL], f"from {real.name}"
    assert real.labels is not None
    return real.select(interleave_groups(real.labels.tolist()))[:N_REAL], "of Fashion-MNIST"


def _show_table(
    output: o.TableOutputOptions, out: Path, report: "DemoReport", is_text: bool
) -> None:
    """Write the table; print it, or the summaries of all runs, unless the text was printed."""
    from scoreag.report.run_tables import demo_table
    from scoreag.report.table_export import write_tables

    table = demo_table(report)
    write_tables(out, [table])
    if not is_text:
        files = sorted(out.glob("*/summary.json"))
        runs = {file.parent.name: json.loads(file.read_text(encoding="utf-8")) for file in files}
        output.show(runs, "", table)


def _describe_duration(start: float) -> str:
    return f"Made in {time.monotonic() - start:.0f} s on {os.cpu_count()} cores."
