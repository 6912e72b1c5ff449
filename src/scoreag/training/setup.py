"""The beginning of a score model: what is asked for is checked, then built, or gone on with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from scoreag.core.types import Labels
from scoreag.diffusion.parameterizations import Preconditioned
from scoreag.models.model_cards import Card, load_weights, read_weights
from scoreag.registry import check_options, load_component
from scoreag.training.distributed import DistContext
from scoreag.training.execution import ExecutionConfig, compile_network
from scoreag.training.fitting import check_input_shapes
from scoreag.training.log import resume_or_start
from scoreag.training.loop import TrainState, init_state
from scoreag.training.muon import Muon, hidden_matrices
from scoreag.training.noise_distributions import build_objective
from scoreag.training.posthoc_ema import width_to_gamma
from scoreag.training.score_presets import ScoreRecipe
from scoreag.training.warm_start import check_init

Pixels = UInt8[Tensor, "count channel height width"]


def check_recipe(
    recipe: ScoreRecipe,
    labels: Labels,
    classes: Sequence[str],
    folder: Path,
    dist_context: DistContext,
    ema_width: float | None,
) -> None:
    """Refuse, before any work, labels without names, too many pieces, and an average of nothing."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(classes):
        raise ValueError(
            f"the labels go from {low} to {high}, and there are {len(classes)} names of classes; "
            f"write labels from 0 to {len(classes) - 1}, or give the names that are lacking"
        )
    dist_context.check_batch_size(recipe.schedule.batch_size)
    if ema_width is None:
        return
    width_to_gamma(ema_width)
    if not recipe.schedule.ema_widths and not list((folder / "snapshots").glob("*.safetensors")):
        raise ValueError(
            f"an average of width {ema_width:g} is made of snapshots, and this preset leaves none; "
            "choose one that has ema_widths, such as fashion-small"
        )


def resolve_options(
    recipe: ScoreRecipe, images: Pixels, classes: Sequence[str], init: Card | None
) -> dict[str, Any]:
    """The network's arguments: of the card to go on from, or of the recipe and the data."""
    shape = tuple(images.shape[1:])
    if init is None:
        options = {**recipe.options, "image_shape": list(shape), "classes": len(classes)}
        _check_input_shapes(recipe, options, shape)
        return options
    check_init(init, "score-model", "cifar10", shape, len(classes))
    if init.family != recipe.family:
        raise ValueError(
            f"{init.name} is of family {init.family}, and the preset of {recipe.family}; "
            f"give a preset of family {init.family}, or another --init"
        )
    return dict(init.options)


def _check_input_shapes(
    recipe: ScoreRecipe, options: Mapping[str, Any], shape: tuple[int, ...]
) -> None:
    """Refuse a recipe whose network does not take the images."""
    build, batch = load_component("networks", recipe.network).build, recipe.schedule.batch_size
    check_options(build, dict(options), recipe.network)
    with torch.device("meta"):
        asked = torch.empty(batch, *shape), torch.empty(batch), torch.zeros(batch).long()
    check_input_shapes(build, options, [asked], recipe.network)


def build_or_resume(
    recipe: ScoreRecipe,
    options: Mapping[str, Any],
    init: Card | None,
    file: Path,
    device: torch.device | str,
    execution: ExecutionConfig,
) -> TrainState:
    """The state before the first step of this sitting."""
    model = build_network(recipe, options, init, execution.channels_last).to(device)
    state = init_state(model, build_optimizer(model, recipe), len(recipe.schedule.ema_widths))
    state = resume_or_start(state, file)
    compile_network(model.network, execution)
    return state


def build_network(
    recipe: ScoreRecipe,
    options: Mapping[str, Any],
    init: Card | None,
    channels_last: bool = True,
) -> Preconditioned:
    """The denoiser before its first step; new weights are a function of the seed."""
    build = load_component("networks", init.network if init else recipe.network).build
    check_options(build, dict(options), recipe.network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.schedule.seed)
        raw = build(**options)
    if init is not None:
        load_weights(raw, read_weights(init), init.name)
    family = build_objective(recipe.family, recipe.sigma_data).family
    model = Preconditioned(raw, family).train()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return model.to(memory_format=layout)  # type: ignore[call-overload]


def build_optimizer(model: Preconditioned, recipe: ScoreRecipe) -> torch.optim.Optimizer:
    """AdamW or Muon, as the recipe says."""
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(
            model.parameters(), lr=recipe.lr, betas=recipe.betas, weight_decay=recipe.weight_decay
        )
    if recipe.optimizer != "muon":
        raise ValueError(f"optimizer is {recipe.optimizer!r}; write 'adamw' or 'muon'")
    raw = model.network
    matrices = hidden_matrices(raw, [raw.get_submodule(name) for name in recipe.embed_layers])
    known = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in model.parameters() if id(parameter) not in known]
    return Muon(
        matrices,
        others,
        recipe.lr,
        recipe.adam_lr,
        betas=recipe.betas,
        weight_decay=recipe.weight_decay,
    )
