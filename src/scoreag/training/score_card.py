"""From images to the card of a score model: begin or go on, train, export."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from scoreag.cards import Card, card, write_card
from scoreag.core.algorithm import ALGORITHM
from scoreag.core.denoiser import Preconditioned
from scoreag.core.noise import Noise
from scoreag.core.prior import Prior
from scoreag.core.schedule import karras
from scoreag.core.types import Labels
from scoreag.images import grid, to_uint8, write_png
from scoreag.load import load
from scoreag.training.board import board
from scoreag.training.export import trained_by
from scoreag.training.init import begun
from scoreag.training.journal import Journal, last_loss
from scoreag.training.loop import Rowwise, State, Watch, fit
from scoreag.training.means import Means
from scoreag.training.objectives import objective
from scoreag.training.presets import TUNED, ScoreRecipe
from scoreag.training.score_model import denoising
from scoreag.training.score_start import Pixels, check, options_for, started
from scoreag.training.score_start import optimizer as optimizer
from scoreag.training.snapshots import due, keep, post_hoc
from scoreag.training.terms import license_of

TOLD = (
    "plan", "rising", "optimizer", "rate", "others_rate", "ends", "betas", "decay", "dropped",
    "noise", "mirror",
)  # fmt: skip
PLAIN = Means()
SHOWN = 4  # samples of each class in a grid


def train_score_model(
    recipe: ScoreRecipe,
    images: Pixels,
    labels: Labels,
    classes: Sequence[str],
    folder: Path,
    init: Card | None = None,
    about: Mapping[str, Any] | None = None,
    samples_every: int | None = None,
    save_every: float = 60.0,
    progress: bool = True,
    device: torch.device | str = "cpu",
    means: Means = PLAIN,
    width: float | None = None,
    license: str = "",
    command: str = "",
) -> Card:
    """Follow ``recipe`` in ``folder``, from its checkpoint if there is one; the card.

    Args:
        init: a card to begin with: its weights, which were averages, a fresh optimiser and a new
            warm-up; the images that it has seen are added up.
        about: further entries of the card's recipe, e.g. ``data`` and ``data_sha256``.
        width: of the card's average, made of the snapshots; by default the running one.
        license: of the weights; "" is unspecified, with what is known of the data's terms.
        command: that was given, to be told by the card.
    """
    plan, options = recipe.schedule, options_for(recipe, images, classes, init)
    check(recipe, labels, classes, folder, means.team, width)
    file, team, samples = folder / "checkpoint.pt", means.team, partial(draw, classes=classes)
    state = team.in_turn(partial(started, recipe, options, init, file, device, means))
    journal = Journal(
        folder, plan, samples_every or max(plan.batch, plan.images // 10),
        int(init.recipe.get("images_seen", 0)) if init else 0, samples, progress,
        further(recipe, folder, means, state.seen),
    )  # fmt: skip
    if team.first:
        journal.open(state)
    watch: Watch = journal.watch if team.first else (lambda state: None)
    again: Watch = partial(journal.leave, again=True) if team.first else watch
    loss = loss_of(recipe, len(classes))
    fit(state, loss, images, labels, plan, file, save_every, watch, team=team, again=again)
    how = {**(about or {}), **history(state, journal, init), **({"ema": width} if width else {})}
    terms = license_of(license, str(how.get("data", "")), init)
    source = trained_by("score-model", command, how)
    exported = partial(
        export, state, recipe, options, classes, folder, how, width, license=terms, source=source
    )
    return team.in_turn(exported if team.first else partial(card, folder))


def further(
    recipe: ScoreRecipe, folder: Path, means: Means, seen: int
) -> list[Callable[[State], None]]:
    """What else watches: snapshots of the averages, and TensorBoard."""
    plan, found = recipe.schedule, list[Callable[[State], None]]()

    def snapshot(state: State) -> None:
        if due(state.seen, plan):
            keep(state, plan, folder)

    if plan.widths and means.team.first:
        found.append(snapshot)
    if means.tensorboard and means.team.first:
        found.append(board(folder, plan, recipe.rate, seen))
    return found


def loss_of(recipe: ScoreRecipe, classes: int) -> Rowwise:
    """What a step lowers, as the recipe's family wants it."""
    learnt = objective(recipe.family, recipe.sigma_data, recipe.noise)
    return denoising(learnt, classes, recipe.dropped, recipe.mirror)


def history(state: State, journal: Journal, init: Card | None) -> dict[str, Any]:
    """How long the training was, with what the card that it began with had seen."""
    before = dict(init.recipe) if init else {}
    return {
        **begun(init),
        "images_seen": journal.before + state.seen,
        "minutes": round(float(before.get("minutes", 0.0)) + journal.seconds / 60, 1),
        "loss": round(last_loss(state), 5),
    }


def draw(state: State, file: Path, classes: Sequence[str]) -> None:
    """A row of samples for each class, by Heun in 18 steps; the same noise every time."""
    assert isinstance(state.average, Preconditioned)
    shape: Any = state.average.network.image_shape
    sigmas = karras(18).to(next(state.average.parameters()).device)
    prior = Prior(state.average, load("samplers", "heun").sample, sigmas, tuple(shape))
    labels = torch.arange(max(1, len(classes)), device=sigmas.device).repeat_interleave(SHOWN)
    with torch.no_grad():
        drawn = prior.draw(Noise(0, range(len(labels))), labels if classes else None)
    write_png(file, grid(to_uint8(drawn.cpu()), SHOWN))


def export(
    state: State,
    recipe: ScoreRecipe,
    options: Mapping[str, Any],
    classes: Sequence[str],
    folder: Path,
    how: Mapping[str, Any],
    width: float | None = None,
    license: str = "unspecified",
    source: str = "",
) -> Card:
    """The average weights, or those of another width, in half the space, with their card."""
    assert isinstance(state.average, Preconditioned)
    plain = asdict(recipe)
    shape = tuple(options["image_shape"])
    made = Card(
        name=folder.resolve().name,
        kind="score-model",
        network=recipe.network,
        file="model.safetensors",
        licence=license,
        source=source,
        algorithm=ALGORITHM,
        image_shape=(shape[0], shape[1], shape[2]),
        classes=tuple(classes),
        family=recipe.family,
        sigma_data=recipe.sigma_data,
        options=dict(options),
        defaults=TUNED.get(str(how.get("preset")), {}),
        recipe={**how, **{k: plain[k] for k in TOLD}},
        folder=folder,
    )
    average = post_hoc(folder, width, state.seen) if width else state.average.state_dict()
    tensors = {name.removeprefix("network."): value for name, value in average.items()}
    return write_card(made, tensors, half=True)
