"""The beginning of a score model: what is asked for is checked, then built, or gone on with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from scoreag.cards import Card, fill, weights
from scoreag.core.denoiser import Preconditioned
from scoreag.core.types import Labels
from scoreag.load import check_options, load
from scoreag.training.fitting import check_takes
from scoreag.training.init import check_init
from scoreag.training.journal import continued
from scoreag.training.loop import State, begin
from scoreag.training.means import Means, compiled
from scoreag.training.muon import Muon, hidden_matrices
from scoreag.training.objectives import objective
from scoreag.training.power_ema import exponent
from scoreag.training.presets import ScoreRecipe
from scoreag.training.team import Team

Pixels = UInt8[Tensor, "count channel height width"]


def check(
    recipe: ScoreRecipe,
    labels: Labels,
    classes: Sequence[str],
    folder: Path,
    team: Team,
    width: float | None,
) -> None:
    """Refuse, before any work, labels without names, too many pieces, and an average of nothing."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(classes):
        raise ValueError(
            f"the labels go from {low} to {high}, and there are {len(classes)} names of classes; "
            f"write labels from 0 to {len(classes) - 1}, or give the names that are lacking"
        )
    team.check(recipe.plan.batch)
    if width is None:
        return
    exponent(width)
    if not recipe.plan.widths and not list((folder / "snapshots").glob("*.safetensors")):
        raise ValueError(
            f"an average of width {width:g} is made of snapshots, and this preset leaves none; "
            "choose one that has widths, such as fashion-small"
        )


def options_for(
    recipe: ScoreRecipe, images: Pixels, classes: Sequence[str], init: Card | None
) -> dict[str, Any]:
    """The network's arguments: of the card to go on from, or of the recipe and the data."""
    shape = tuple(images.shape[1:])
    if init is None:
        options = {**recipe.options, "image_shape": list(shape), "classes": len(classes)}
        _check_takes(recipe, options, shape)
        return options
    check_init(init, "score-model", "cifar10", shape, len(classes))
    if init.family != recipe.family:
        raise ValueError(
            f"{init.name} is of family {init.family}, and the preset of {recipe.family}; "
            f"give a preset of family {init.family}, or another --init"
        )
    return dict(init.options)


def _check_takes(recipe: ScoreRecipe, options: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    """Refuse a recipe whose network does not take the images."""
    build, batch = load("networks", recipe.network).build, recipe.plan.batch
    check_options(build, dict(options), recipe.network)
    with torch.device("meta"):
        asked = torch.empty(batch, *shape), torch.empty(batch), torch.zeros(batch).long()
    check_takes(build, options, [asked], recipe.network)


def started(
    recipe: ScoreRecipe,
    options: Mapping[str, Any],
    init: Card | None,
    file: Path,
    device: torch.device | str,
    means: Means,
) -> State:
    """The state before the first step of this sitting."""
    model = network(recipe, options, init, means.channels_last).to(device)
    state = begin(model, optimizer(model, recipe), len(recipe.plan.widths))
    state = continued(state, file)
    compiled(model.network, means)
    return state


def network(
    recipe: ScoreRecipe,
    options: Mapping[str, Any],
    init: Card | None,
    channels_last: bool = True,
) -> Preconditioned:
    """The denoiser before its first step; new weights are a function of the seed."""
    build = load("networks", init.network if init else recipe.network).build
    check_options(build, dict(options), recipe.network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.plan.seed)
        raw = build(**options)
    if init is not None:
        fill(raw, weights(init), init.name)
    family = objective(recipe.family, recipe.sigma_data).family
    model = Preconditioned(raw, family).train()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return model.to(memory_format=layout)  # type: ignore[call-overload]


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
