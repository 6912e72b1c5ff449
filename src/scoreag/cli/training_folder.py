"""The folder of a training: claimed before it begins, and what is told of it when it has ended."""

import json
import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scoreag.cli.options import Given, say
from scoreag.cli.tasks import command

if TYPE_CHECKING:
    from scoreag.data.loading import Dataset
    from scoreag.models.model_cards import Card
    from scoreag.training.schedule import TrainingSchedule

UNSPELLED = ("overwrite", "quiet", "json")  # what a training does not depend on


def own(
    held: ExitStack,
    given: Given,
    kind: str,
    recipe: Any,
    data: "Dataset",
    init: "Card | None" = None,
    first: bool = True,
    extra: "Dataset | None" = None,
) -> None:
    """Hold --out, while ``held`` is open, as the place of this training; one process does."""
    from scoreag.io.manifest import to_jsonable
    from scoreag.io.run_dir import open_run_dir
    from scoreag.training.log import TRAINING_FILES
    from scoreag.training.schedule import to_config_dict

    if not first:
        return
    manifest = {
        "command": command(),
        "task": f"train {kind}",
        "preset": given.preset,
        "config": to_jsonable(to_config_dict(recipe)),
        "data": {"name": data.name, "sha256": data.sha256},
        **({"extra": {"name": extra.name, "sha256": extra.sha256}} if extra else {}),
        "seed": recipe.schedule.seed,
        "init": init.identity if init else None,
    }
    held.enter_context(open_run_dir(Path(given.out), manifest, TRAINING_FILES, given.overwrite))


def spelled(kind: str, given: Given, plan: "TrainingSchedule", options: Sequence[Parameter]) -> str:
    """The command of a training with all that it depends on, to be pasted where it was given.

    The precision is the one that was chosen, and the images are told in any case.
    """
    settled = {"train_images": plan.total_images, "dtype": plan.dtype}
    words = ["scoreag", "train", kind]
    for option in options:
        value = settled.get(option.name, getattr(given, option.name))
        told = option.name == "data" or option.name in settled or value != option.default
        if value is None or option.name in UNSPELLED or not told:
            continue
        flag = option.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", str(value)]
    return shlex.join(words)


def tell(given: Given, card: "Card") -> None:
    """What was made, and how to use it; the manifest names the card as well."""
    from scoreag.io.manifest import read_manifest, to_jsonable
    from scoreag.io.run_dir import RunDir

    RunDir(card.folder, read_manifest(card.folder)).finish(card=to_jsonable(card.identity))
    how = {
        k: v for k, v in card.training_config.items() if not isinstance(v, Mapping | list | tuple)
    }
    if given.json:
        print(json.dumps({"name": card.name, "sha256": card.sha256, **how}, indent=2))
    elif not given.quiet:
        print("\n".join(f"{name:<12} {value}" for name, value in how.items()))
    flag = "--model" if card.kind == "score-model" else "--classifier"
    say(given, f"the card is in {card.folder}; use it as {flag} {card.folder}")
