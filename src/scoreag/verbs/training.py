"""train: a recipe, data, and a folder that becomes a card."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scoreag.verbs.options import Given, loud, say
from scoreag.verbs.tasks import command
from scoreag.verbs.words import UsageError

if TYPE_CHECKING:
    from scoreag.cards import Card
    from scoreag.dataset import Dataset


def score_model(given: Given) -> None:
    """Train a score model, from nothing or from a card, and export it as a card."""
    from scoreag.cards import card
    from scoreag.models import device_of
    from scoreag.runs import folder as place
    from scoreag.training.journal import OURS
    from scoreag.training.presets import PRESETS
    from scoreag.training.score_card import options_for, train_score_model

    if given.samples_every is not None and given.samples_every < 1:
        raise UsageError(f"--samples-every is {given.samples_every}; expected 1 or more")
    device = device_of(given.device)
    recipe = chosen(given, PRESETS, device.type)
    init = card(given.init) if given.init else None
    data, folder = labelled(given, recipe.plan.batch), Path(given.out)
    assert data.labels is not None
    options_for(recipe, data.images, data.classes, init)
    with place.alone(folder) as fresh, place.withdrawn(folder, fresh, OURS):
        claim(given, "score-model", recipe, data, init)
        made = train_score_model(
            recipe,
            data.images,
            data.labels,
            data.classes,
            folder,
            init,
            {"preset": given.preset, "data": data.name, "data_sha256": data.sha256},
            given.samples_every,
            given.save_every,
            loud(given),
            device,
        )
    tell(given, made)


def classifier(given: Given) -> None:
    """Train a classifier, plainly or against FGSM-RS as the preset says; export it as a card."""
    from scoreag.models import device_of
    from scoreag.runs import folder as place
    from scoreag.training.classifier_card import train_classifier
    from scoreag.training.journal import OURS
    from scoreag.training.recipes import PRESETS

    device = device_of(given.device)
    recipe = chosen(given, PRESETS, device.type)
    data, folder = labelled(given, recipe.plan.batch), Path(given.out)
    assert data.labels is not None
    with place.alone(folder) as fresh, place.withdrawn(folder, fresh, OURS):
        claim(given, "classifier", recipe, data)
        made = train_classifier(
            recipe,
            data.images,
            data.labels,
            data.classes,
            folder,
            {"preset": given.preset, "data": data.name, "data_sha256": data.sha256},
            given.save_every,
            loud(given),
            device,
        )
    tell(given, made)


def chosen(given: Given, presets: Mapping[str, Any], device: str) -> Any:
    """The preset, with what the user wants otherwise; "auto" is settled for the device."""
    from scoreag.training.loop import bf16_is_fast
    from scoreag.training.presets import preset

    if given.precision not in ("auto", "float32", "bf16"):
        raise UsageError(f"--precision is {given.precision!r}; write auto, float32 or bf16")
    recipe = preset(given.preset, presets)
    asked = {"images": given.images, "batch": given.batch, "seed": given.seed}
    plan = {name: value for name, value in asked.items() if value is not None}
    for name in ("images", "batch"):
        if plan.get(name, 1) < 1:
            raise UsageError(f"--{name} is {plan[name]}; expected 1 or more")
    rate = recipe.rate if given.rate is None else given.rate
    if not 0 < rate < math.inf:
        raise UsageError(f"--rate is {rate}; expected a number above 0, e.g. {recipe.rate:g}")
    precision = given.precision
    if precision == "auto":
        precision = "bf16" if device == "cuda" or bf16_is_fast() else "float32"
    return replace(recipe, rate=rate, plan=replace(recipe.plan, **plan, precision=precision))


def labelled(given: Given, batch: int) -> "Dataset":
    """The training images, which have labels and classes with names."""
    from scoreag.dataset import read

    data = read(given.data, given.root, progress=loud(given))
    if data.labels is None:
        raise ValueError(f"{data.name} has no labels; training needs them")
    if batch > len(data):
        raise ValueError(
            f"--batch is {batch}, and there are {len(data)} images; "
            f"write --batch {len(data)} or fewer"
        )
    if not data.classes:
        count = int(data.labels.max()) + 1
        data = replace(data, classes=tuple(str(i) for i in range(count)))
    return data


def claim(
    given: Given, kind: str, recipe: Any, data: "Dataset", init: "Card | None" = None
) -> None:
    """Make --out the place of this training; one with other settings is refused."""
    from scoreag.runs import folder as place
    from scoreag.runs.manifest import FORMAT, circumstances, plain
    from scoreag.training.journal import OURS

    manifest = {
        "format": FORMAT,
        "command": command(),
        "task": f"train {kind}",
        "preset": given.preset,
        "settings": plain(asdict(recipe)),
        "data": {"name": data.name, "sha256": data.sha256},
        "seed": recipe.plan.seed,
        "init": init.identity if init else None,
        "made": None if given.overwrite else product(Path(given.out)),
        **circumstances(),
    }
    place.claim(Path(given.out), manifest, given.overwrite, OURS)


def product(folder: Path) -> dict[str, str] | None:
    """The card that a finished training in ``folder`` made, as its manifest says."""
    from scoreag.runs import folder as place

    there = (folder / place.MANIFEST).is_file()
    found: dict[str, str] | None = place.read(folder).get("made") if there else None
    return found


def finish(card: "Card") -> None:
    """The manifest says when the training ended, and what came of it."""
    from scoreag.runs import folder as place
    from scoreag.runs.manifest import now, plain

    found = place.read(card.folder)
    ended = found["finished"] or now()
    place.write(card.folder, {**found, "finished": ended, "made": plain(card.identity)})


def tell(given: Given, card: "Card") -> None:
    """What was made, and how to use it."""
    finish(card)
    how = {k: v for k, v in card.recipe.items() if not isinstance(v, Mapping | list | tuple)}
    if given.json:
        print(json.dumps({"name": card.name, "sha256": card.sha256, **how}, indent=2))
    elif not given.quiet:
        print("\n".join(f"{name:<12} {value}" for name, value in how.items()))
    flag = "--model" if card.kind == "score-model" else "--classifier"
    say(given, f"the card is in {card.folder}; use it as {flag} {card.folder}")
