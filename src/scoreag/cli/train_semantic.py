"""train semantic: calibrate the measure of what people would see, and export it as a card."""

import shlex
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from scoreag.cli import options as o
from scoreag.cli.runs import command_line
from scoreag.cli.train import DTYPE_HELP

DEFAULT_NETWORKS = "cifar10-judge,cifar10-robust-prn"
_OUT_HELP = "Folder of the measure; use it in plans as semantic = FOLDER."


@dataclass(frozen=True, kw_only=True)
class SemanticOptions:
    """The options of the calibration."""

    humans: Annotated[str, o.Opt("Answers of people: cifar10h, or a table of counts.")] = "cifar10h"
    humans_dir: Annotated[str | None, o.Opt("Folder or file of --humans.", "as --data-dir")] = None
    networks: Annotated[
        str, o.Opt("Classifiers to mix; best none that you attack.", check=o.not_empty)
    ] = DEFAULT_NETWORKS
    data: Annotated[str, o.Opt("The images that people saw, with labels.")] = "cifar10:test"
    reading: o.ReadOptions = field(default_factory=o.ReadOptions)
    out: Annotated[str, o.Opt(_OUT_HELP, check=o.not_empty)]
    seed: Annotated[int, o.Opt("Seed of the folds.", check=o.at_least(0))] = 0
    dtype: Annotated[str, o.Opt(DTYPE_HELP, check=o.one_of("auto", "float32", "bf16"))] = "auto"
    license: Annotated[str | None, o.Opt("Of the card.", "that of the answers")] = None
    overwrite: o.Overwrite = False
    output: o.OutputOptions
    compute: o.DeviceOptions


def semantic(options: SemanticOptions) -> None:
    """Calibrate a measure of what people would see, on their answers about real images.

    scoreag train semantic --humans cifar10h --out models/semantic
    """
    from scoreag.data.humans import load_human_answers, match_answers
    from scoreag.io.run_dir import open_run_dir
    from scoreag.models.loading import load_card_of_kind
    from scoreag.training.execution import resolve_dtype
    from scoreag.training.outputs import TRAINING_FILES
    from scoreag.training.semantic_training import train_semantic

    output, compute, folder = options.output, options.compute, Path(options.out)
    cards = [
        load_card_of_kind(name, "classifier", compute.trust_code)
        for name in o.split_words(options.networks)
    ]
    data = options.reading.load(options.data, output.progress, cards[0].classes)
    if data.labels is None:
        raise ValueError(f"{data.name} has no labels; people are compared with them")
    root = options.humans_dir or options.reading.data_dir
    answers = load_human_answers(options.humans, root, output.progress, output.say)
    answers = match_answers(answers, data.labels, data.image_ids, data.classes)
    manifest = {
        "command": command_line(), "task": "train semantic", "seed": options.seed,
        "data": {"name": data.name, "sha256": data.sha256}, "humans": answers.identity,
        "networks": [card.identity for card in cards],
    }  # fmt: skip
    with ExitStack() as stack:
        run = stack.enter_context(open_run_dir(folder, manifest, TRAINING_FILES, options.overwrite))
        output.say(f"read {data.summary}")
        card = train_semantic(
            cards, data, answers, folder, {"data": data.name, "data_sha256": data.sha256},
            options.seed, compute.resolve(), output.progress, options.license or "",
            _format_command(options), resolve_dtype(options.dtype, compute.resolve().type),
        )  # fmt: skip
        run.finish(card=dict(card.identity))
    _show(options, card.metrics["people"])
    output.say(f"the card is in {folder}; use it in plans as semantic = {str(folder)!r}")


def _format_command(options: SemanticOptions) -> str:
    words = ["scoreag", "train", "semantic", "--data", options.data, "--humans", options.humans]
    words += ["--networks", options.networks, "--seed", str(options.seed)]
    return shlex.join(words)


def _show(options: SemanticOptions, figures: object) -> None:
    """The held-out figures, a line each."""
    from scoreag.stats.estimates import format_entry

    assert isinstance(figures, dict)
    width = max(map(len, figures))
    lines = [f"{name:<{width}}  {format_entry(entry)}" for name, entry in figures.items()]
    options.output.show(figures, "\n".join(lines))
