"""demo: each task once, with the bundled models, and a page that shows what came of it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from scoreag.cli import options as o


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    out: Annotated[str, o.Opt("Folder of the report.", check=o.not_empty)] = "runs/demo"
    data: Annotated[str | None, o.Opt("Labeled CIFAR-10 images.", "bundled images")] = None
    data_dir: o.DataDir = None
    seed: o.Seed = 0
    overwrite: o.Overwrite = False
    output: o.OutputOptions
    device: o.Device = "auto"


def demo(options: DemoOptions) -> None:
    """The tour: synthesize, transform next to PGD, purify; one table and one page (2 minutes).

    scoreag demo --out runs/demo
    """
    from scoreag.cli.demo_run import demo as run

    output = options.output
    shown = output.progress and not output.json
    run(
        options.out,
        options.data,
        output.progress,
        device=options.device,
        seed=options.seed,
        overwrite=options.overwrite,
        data_dir=options.data_dir,
        echo=print if shown else lambda text: None,
    )
    if output.json:
        files = sorted(Path(options.out).glob("*/summary.json"))
        runs = {file.parent.name: json.loads(file.read_text(encoding="utf-8")) for file in files}
        output.show(runs, "")
