"""From images to the card of a score model: begin or go on, train, export."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from scoreag.cards import Card, fill, weights, write_card
from scoreag.core.denoiser import Preconditioned
from scoreag.core.families import edm
from scoreag.core.noise import Noise
from scoreag.core.prior import Prior
from scoreag.core.schedule import karras
from scoreag.core.types import Labels
from scoreag.images import grid, to_uint8, write_png
from scoreag.load import check_options, load
from scoreag.training.export import trained_by
from scoreag.training.journal import Journal, continued, last_loss
from scoreag.training.loop import State, begin, fit
from scoreag.training.muon import Muon, hidden_matrices
from scoreag.training.presets import ScoreRecipe
from scoreag.training.score_model import edm_loss

Pixels = UInt8[Tensor, "count channel height width"]
TOLD = ("plan", "rising", "optimizer", "rate", "others_rate", "ends", "betas", "decay", "dropped")
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
) -> Card:
    """Follow ``recipe`` in ``folder``, from its checkpoint if there is one; the card.

    Args:
        init: a card to begin with: its weights, which were averages, a fresh optimiser and a new
            warm-up; the images that it has seen are added up.
        about: further entries of the card's recipe, e.g. ``data`` and ``data_sha256``.
    """
    plan, options = recipe.schedule, options_for(recipe, images, classes, init)
    model = network(recipe, options, init).to(device)
    state = continued(begin(model, optimizer(model, recipe)), folder / "checkpoint.pt")
    before = dict(init.recipe) if init else {}
    journal = Journal(
        folder, plan, samples_every or max(plan.batch, plan.images // 10),
        int(before.get("images_seen", 0)), partial(draw, classes=classes), progress,
    )  # fmt: skip
    journal.open(state)
    loss = partial(
        edm_loss, null_label=len(classes), dropped=recipe.dropped, sigma_data=recipe.sigma_data
    )
    fit(state, loss, images, labels, plan, folder / "checkpoint.pt", save_every, journal.watch)
    how = {
        **(about or {}),
        **({"init": init.name, "init_sha256": init.sha256} if init else {}),
        "images_seen": journal.before + state.seen,
        "minutes": round(float(before.get("minutes", 0.0)) + journal.seconds / 60, 1),
        "loss": round(last_loss(state), 5),
    }
    return export(state, recipe, options, classes, folder, how)


def options_for(
    recipe: ScoreRecipe, images: Pixels, classes: Sequence[str], init: Card | None
) -> dict[str, Any]:
    """The network's arguments: of the card to go on from, or of the recipe and the data."""
    shape = tuple(images.shape[1:])
    if init is None:
        return {**recipe.options, "image_shape": list(shape), "classes": len(classes)}
    if init.kind != "score-model":
        raise ValueError(f"{init.name} is a {init.kind}; go on from a score-model, e.g. cifar10")
    if tuple(init.image_shape) != shape or len(init.classes) != len(classes):
        raise ValueError(
            f"{init.name} is for {init.image_shape} images of {len(init.classes)} classes, and the "
            f"data are {shape} images of {len(classes)}"
        )
    return dict(init.options)


def network(recipe: ScoreRecipe, options: Mapping[str, Any], init: Card | None) -> Preconditioned:
    """The denoiser before its first step; new weights are a function of the seed."""
    build = load("networks", init.network if init else recipe.network).build
    check_options(build, dict(options), recipe.network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.plan.seed)
        raw = build(**options)
    if init is not None:
        fill(raw, weights(init), init.name)
    model = Preconditioned(raw, edm(recipe.sigma_data)).train()
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def optimizer(model: Preconditioned, recipe: ScoreRecipe) -> torch.optim.Optimizer:
    """AdamW or Muon, as the recipe says."""
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(
            model.parameters(), lr=recipe.rate, betas=recipe.betas, weight_decay=recipe.decay
        )
    if recipe.optimizer != "muon":
        raise ValueError(f"optimizer is {recipe.optimizer!r}; write 'adamw' or 'muon'")
    raw = model.network
    matrices = hidden_matrices(raw, [raw.get_submodule(name) for name in recipe.ends])
    known = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in model.parameters() if id(parameter) not in known]
    return Muon(
        matrices, others, recipe.rate, recipe.others_rate, betas=recipe.betas, decay=recipe.decay
    )


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
) -> Card:
    """The average weights, in half the space, with their card."""
    assert isinstance(state.average, Preconditioned)
    plain = asdict(recipe)
    shape = tuple(options["image_shape"])
    card = Card(
        name=folder.resolve().name,
        kind="score-model",
        network=recipe.network,
        file="model.safetensors",
        licence="MIT",
        source=trained_by("score-model", how),
        image_shape=(shape[0], shape[1], shape[2]),
        classes=tuple(classes),
        family="edm",
        sigma_data=recipe.sigma_data,
        options=dict(options),
        recipe={
            **how,
            **{k: plain[k] for k in TOLD},
        },
        folder=folder,
    )
    return write_card(card, state.average.network.state_dict(), half=True)
