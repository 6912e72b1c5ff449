"""train: a recipe, data, and a folder that becomes a card."""

import atexit
import math
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from scoreag.cli import parsing
from scoreag.cli.options import CLASSIFIER_TRAINED, SCORE_MODEL, TRAINED, Given, loud, say
from scoreag.cli.parsing import UsageError
from scoreag.cli.training_folder import own, spelled, tell

if TYPE_CHECKING:
    import torch

    from scoreag.data.loading import Dataset
    from scoreag.models.model_cards import Card
    from scoreag.training.distributed import DistContext
    from scoreag.training.score_presets import ScoreRecipe


def score_model(given: Given) -> None:
    """Train a score model, from nothing or from a card, and export it as a card."""
    from scoreag.classifiers.loading import resolve_device
    from scoreag.training.distributed import join_process_group, local_device
    from scoreag.training.score_presets import PRESETS

    if given.sample_every_images is not None and given.sample_every_images < 1:
        raise UsageError(
            f"--sample-every-images is {given.sample_every_images}; expected 1 or more"
        )
    if given.grad_accum_steps < 1:
        raise UsageError(f"--grad-accum-steps is {given.grad_accum_steps}; expected 1 or more")
    device = local_device(resolve_device(given.device))
    recipe = chosen(given, PRESETS, device.type)
    with join_process_group(device, given.grad_accum_steps) as team:
        if not team.is_main:
            given.quiet, given.json = True, False
        denoiser(given, recipe, team, device)


def denoiser(
    given: Given, recipe: "ScoreRecipe", team: "DistContext", device: "torch.device"
) -> None:
    """Train a score model as one of a team, of which the first claims the folder and speaks."""
    from scoreag.training.execution import ExecutionConfig
    from scoreag.training.score_model_training import train_score_model
    from scoreag.training.setup import check_recipe, resolve_options
    from scoreag.training.tensorboard import require_tensorboard

    if given.tensorboard:
        require_tensorboard()
    means = ExecutionConfig(team, given.compile, given.channels_last, given.tensorboard)
    init, folder = begun_with(given, recipe), Path(given.out)
    known = init.classes if init else ()
    data = team.main_process_first(
        lambda: labelled(given, recipe.schedule.batch_size, known)
    )  # one of them downloads
    assert data.labels is not None
    recipe = _scaled(recipe, given.preset, data, init)
    resolve_options(recipe, data.images, data.classes, init)
    check_recipe(recipe, data.labels, data.classes, folder, team, given.ema_width)
    with ExitStack() as held:
        team.main_process_first(
            lambda: own(held, given, "score-model", recipe, data, init, team.is_main)
        )
        say(given, f"read {data.summary}")
        made = train_score_model(
            recipe,
            data.images,
            data.labels,
            data.classes,
            folder,
            init,
            {
                "preset": given.preset,
                "data": data.name,
                "data_sha256": data.sha256,
                **({"grow_resolution": True} if given.grow_resolution else {}),
            },
            given.sample_every_images,
            given.checkpoint_seconds,
            loud(given),
            device,
            means,
            given.ema_width,
            given.license or "",
            spelled("score-model", given, recipe.schedule, (*TRAINED, *SCORE_MODEL)),
        )
    if team.is_main:
        tell(given, made)


def begun_with(given: Given, recipe: "ScoreRecipe") -> "Card | None":
    """The card of --init, with a finer level around it if that is wanted."""
    from scoreag.models.model_cards import load_card
    from scoreag.training.progressive_growing import grow_resolution

    if not given.init:
        if given.grow_resolution:
            raise UsageError(
                "--grow-resolution is a level around another network; give it as --init CARD"
            )
        return None
    init = load_card(given.init, given.trust_code)
    if not given.grow_resolution:
        return init
    folder = Path(mkdtemp(prefix="scoreag-"))
    atexit.register(rmtree, folder, ignore_errors=True)
    return grow_resolution(init, folder, recipe.schedule.seed)


def classifier(given: Given) -> None:
    """Train a classifier, plainly or against an adversary as the preset says; export a card."""
    from scoreag.classifiers.loading import resolve_device
    from scoreag.data.loading import load_dataset
    from scoreag.models.model_cards import load_card
    from scoreag.training.classifier_presets import PRESETS
    from scoreag.training.classifier_training import complete_recipe, train_classifier
    from scoreag.training.extra_data import check_extra
    from scoreag.training.fitting import adapt_recipe

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            "train classifier runs in one process: batch normalization wants the whole batch; "
            "start it without torchrun or accelerate"
        )
    device = resolve_device(given.device)
    recipe = chosen(given, PRESETS, device.type)
    if given.extra_fraction is not None:
        recipe = replace(recipe, extra_fraction=given.extra_fraction)
    init = load_card(given.init, given.trust_code) if given.init else None
    data = labelled(given, recipe.schedule.batch_size, init.classes if init else ())
    folder = Path(given.out)
    assert data.labels is not None
    recipe, extra = adapt_recipe(recipe, given.preset, data), None
    if given.extra_data:
        extra = load_dataset(
            given.extra_data,
            given.data_dir,
            size=_size(given),
            progress=loud(given),
            classes=data.classes,
        )
    complete_recipe(recipe, data.images, data.classes, init)
    check_extra(extra, data.images, len(data.classes), recipe.schedule, recipe.extra_fraction)
    with ExitStack() as held:
        own(held, given, "classifier", recipe, data, init, extra=extra)
        say(given, f"read {data.summary}")
        made = train_classifier(
            recipe,
            data.images,
            data.labels,
            data.classes,
            folder,
            {"preset": given.preset, "data": data.name, "data_sha256": data.sha256},
            given.checkpoint_seconds,
            loud(given),
            device,
            extra,
            init,
            given.license or "",
            spelled("classifier", given, recipe.schedule, (*TRAINED, *CLASSIFIER_TRAINED)),
        )
    tell(given, made)


def _scaled(
    recipe: "ScoreRecipe", preset: str, data: "Dataset", init: "Card | None"
) -> "ScoreRecipe":
    """The recipe with the deviation of the data, where the preset is not made for them."""
    from scoreag.training.fitting import estimate_sigma_data, is_other_dataset

    if init is not None:
        return replace(recipe, sigma_data=init.sigma_data)
    foreign = is_other_dataset(preset, data)
    return replace(recipe, sigma_data=estimate_sigma_data(data.images)) if foreign else recipe


def chosen(given: Given, presets: Mapping[str, Any], device: str) -> Any:
    """The preset, with what the user wants otherwise; "auto" is settled for the device."""
    from scoreag.training.execution import bf16_is_fast
    from scoreag.training.score_presets import get_preset

    if given.dtype not in ("auto", "float32", "bf16"):
        raise UsageError(f"--dtype is {given.dtype!r}; write auto, float32 or bf16")
    recipe = get_preset(given.preset, presets)
    for flag, count in (("train-images", given.train_images), ("batch-size", given.batch_size)):
        if count is not None and count < 1:
            raise UsageError(f"--{flag} is {count}; expected 1 or more")
    changes = {
        "total_images": given.train_images,
        "batch_size": given.batch_size,
        "seed": given.seed,
    }
    changes = {name: value for name, value in changes.items() if value is not None}
    rate = recipe.lr if given.lr is None else given.lr
    if not 0 < rate < math.inf:
        raise UsageError(f"--lr is {rate}; expected a number above 0, e.g. {recipe.lr:g}")
    dtype = given.dtype
    if dtype == "auto":
        dtype = "bf16" if device == "cuda" or bf16_is_fast() else "float32"
    return replace(recipe, lr=rate, schedule=replace(recipe.schedule, **changes, dtype=dtype))


def labelled(given: Given, batch: int, known: tuple[str, ...] = ()) -> "Dataset":
    """The training images, which have labels and classes with names.

    Args:
        known: the classes of the card to go on from, by which theirs are numbered if they are some
            of these.
    """
    from scoreag.data.loading import load_dataset

    try:
        data = load_dataset(
            given.data, given.data_dir, size=_size(given), progress=loud(given), classes=known
        )
    except ValueError:  # other classes, or a fault that is told now
        if not known:
            raise
        data = load_dataset(given.data, given.data_dir, size=_size(given), progress=loud(given))
    if data.labels is None:
        raise ValueError(f"{data.name} has no labels; training needs them")
    if batch > len(data):
        raise ValueError(
            f"--batch-size is {batch}, and there are {len(data)} images; "
            f"write --batch-size {len(data)} or fewer"
        )
    if not data.classes:
        count = int(data.labels.max()) + 1
        data = replace(data, classes=tuple(str(i) for i in range(count)))
    return data


def _size(given: Given) -> tuple[int, int] | None:
    return parsing.size(given.size) if given.size else None
