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
    from scoreag.io import run_dir as place
    from scoreag.training.log import OWNED_FILES

    if first:
        fresh = held.enter_context(place.exclusive_lock(Path(given.out)))
        held.enter_context(place.cleanup_on_error(Path(given.out), fresh, OWNED_FILES))
        claim(given, kind, recipe, data, init, extra)


def claim(
    given: Given,
    kind: str,
    recipe: Any,
    data: "Dataset",
    init: "Card | None" = None,
    extra: "Dataset | None" = None,
) -> None:
    """Make --out the place of this training; one with other settings is refused."""
    from scoreag.io import run_dir as place
    from scoreag.io.manifest import FORMAT, describe_environment, to_jsonable
    from scoreag.training.log import OWNED_FILES
    from scoreag.training.schedule import to_config_dict

    manifest = {
        "format": FORMAT,
        "command": command(),
        "task": f"train {kind}",
        "preset": given.preset,
        "config": to_jsonable(to_config_dict(recipe)),
        "data": {"name": data.name, "sha256": data.sha256},
        **({"extra": {"name": extra.name, "sha256": extra.sha256}} if extra else {}),
        "seed": recipe.schedule.seed,
        "init": init.identity if init else None,
        "made": None if given.overwrite else product(Path(given.out)),
        **describe_environment(),
    }
    place.open_run_dir(Path(given.out), manifest, given.overwrite, OWNED_FILES)


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


def product(folder: Path) -> dict[str, str] | None:
    """The card that a finished training in ``folder`` made, as its manifest says."""
    from scoreag.io import run_dir as place

    there = (folder / place.MANIFEST).is_file()
    found: dict[str, str] | None = place.read_manifest(folder).get("made") if there else None
    return found


def finish(card: "Card") -> None:
    """The manifest says when the training ended, and what came of it."""
    from scoreag.io import run_dir as place
    from scoreag.io.manifest import to_jsonable, utc_now

    found = place.read_manifest(card.folder)
    ended = found["finished"] or utc_now()
    place.write_manifest(
        card.folder, {**found, "finished": ended, "made": to_jsonable(card.identity)}
    )


def tell(given: Given, card: "Card") -> None:
    """What was made, and how to use it."""
    finish(card)
    how = {
        k: v for k, v in card.training_config.items() if not isinstance(v, Mapping | list | tuple)
    }
    if given.json:
        print(json.dumps({"name": card.name, "sha256": card.sha256, **how}, indent=2))
    elif not given.quiet:
        print("\n".join(f"{name:<12} {value}" for name, value in how.items()))
    flag = "--model" if card.kind == "score-model" else "--classifier"
    say(given, f"the card is in {card.folder}; use it as {flag} {card.folder}")
