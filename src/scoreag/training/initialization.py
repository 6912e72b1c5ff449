"""The weights that a training starts from: new ones, or those of a card, also of other data."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scoreag.core.class_names import lacks_class_names, match_classes
from scoreag.models.model_cards import Card, load_weights, read_weights, write_card
from scoreag.registry import load_component
from scoreag.training.presets import data_options

HEAD_PREFIX = "head."  # of a second output, which the network of ``init`` may lack
REINIT_PREFIXES = ("first.", "last.")
SIDE_OPTIONS = ("attention_at", "head_at")  # sides of maps, which grow with the images
UNET_DEFAULTS = {"patch": 2, "multipliers": [1, 2, 3]}  # of UNet, where its options lack them


def build_seeded(
    network: str,
    options: Mapping[str, Any],
    seed: int,
    init: Card | None = None,
    classes: Sequence[str] = (),
) -> nn.Module:
    """A network with the weights of ``init``, or with new ones that depend only on the seed.

    A head that the network of ``init`` lacks is new.

    Args:
        classes: of the new network, if others than of ``init``. One that ``init`` knows by name
            keeps its weights; another one starts as the null label where there is one, else anew.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module: nn.Module = load_component("networks", network).build(**options)
    if init is not None:
        adds_head = options.get("head_at", 0) and not init.options.get("head_at", 0)
        new = {n: t for n, t in module.state_dict().items() if n.startswith(HEAD_PREFIX)}
        old = fit_class_rows(read_weights(init), module.state_dict(), init, classes)
        load_weights(module, {**(new if adds_head else {}), **old}, init.name)
    return module


def fit_class_rows(
    old: Mapping[str, Tensor], new: Mapping[str, Tensor], init: Card, classes: Sequence[str]
) -> dict[str, Tensor]:
    """The weights ``old`` of ``init`` for other classes; those of new classes are of ``new``."""
    origin = find_origins(init.classes, classes)
    if not classes or origin == list(range(len(init.classes))):
        return dict(old)
    fitted = dict(old)
    for name, axis in find_class_axes(init).items():
        rows, source = new[name].movedim(axis, 0).clone(), old[name].movedim(axis, 0)
        if len(source) > len(init.classes):  # the last row is the null label
            rows[:] = source[-1]
        for row, position in enumerate(origin):
            if position is not None:
                rows[row] = source[position]
        fitted[name] = rows.movedim(0, axis)
    return fitted


def find_origins(known: Sequence[str], classes: Sequence[str]) -> list[int | None]:
    """The number in ``known`` of each class, by its name; of nameless ones, by their order."""
    nameless = lacks_class_names(known) or lacks_class_names(classes)
    if nameless and len(known) == len(classes):
        return list(range(len(known)))
    return [numbers[0] if numbers else None for numbers in match_classes(known, classes)]


def find_class_axes(card: Card) -> dict[str, int]:
    """The weights whose shape depends on the number of classes, and in which dimension."""
    build, count = load_component("networks", card.network).build, len(card.classes)
    if "classes" not in data_options(build, card.image_shape, count):
        return {}
    shapes = []
    for classes in (count, count + 1):
        with torch.device("meta"):
            module = build(**{**card.options, "classes": classes})
        shapes.append({name: tensor.shape for name, tensor in module.state_dict().items()})
    return {
        name: next(i for i, (a, b) in enumerate(zip(shape, shapes[1][name], strict=True)) if a != b)
        for name, shape in shapes[0].items()
        if shape != shapes[1][name]
    }


def init_options(init: Card, shape: tuple[int, ...], classes: int) -> dict[str, Any]:
    """The options of ``init``'s network for images of another size and another number of classes.

    Raises:
        ValueError: the sides of its maps with attention or a head are no whole numbers then.
    """
    build = load_component("networks", init.network).build
    options = {**init.options, **data_options(build, shape, classes)}
    scale = Fraction(shape[1], init.image_shape[1])
    for name in SIDE_OPTIONS:
        if scale == 1 or name not in (known := signature(build).parameters):
            continue
        sides = options.get(name, known[name].default)
        many = isinstance(sides, Sequence)
        scaled = [scale * side for side in (sides if many else [sides])]
        if any(side.denominator != 1 for side in scaled):
            raise ValueError(
                f"{init.name} has {name} {sides} for images of {init.image_shape[1]} pixels, which "
                f"are no whole numbers for {shape[1]}; resize the images (--size), or leave out "
                "--init"
            )
        options[name] = [int(side) for side in scaled] if many else int(scaled[0])
    return options


def check_init(init: Card, kind: str, example: str, shape: tuple[int, ...]) -> None:
    """Refuse to start from a card of another kind or of another number of channels."""
    if init.kind != kind:
        raise ValueError(f"{init.name} is a {init.kind}; start from a {kind}, e.g. {example}")
    if init.image_shape[0] != shape[0]:
        raise ValueError(
            f"{init.name} is for images of {init.image_shape[0]} channels, and the data have "
            f"{shape[0]}; start from another card, or leave out --init"
        )


def grow_resolution(card: Card, folder: Path, seed: int = 0) -> Card:
    """The card of ``card``'s U-Net with half its patch and one more level, in ``folder``.

    A network of patches learns cheaply what images show, but mixes the pixels of a patch in its
    first layer.  It becomes the inner part of a network of half the patch (Karras et al. 2018): its
    levels keep their weights; the new outer level and the first and last layer are new.

    Args:
        seed: of the new weights.

    Raises:
        ValueError: it is no U-Net with an even patch.
    """
    patch, widths = (card.options.get(name, default) for name, default in UNET_DEFAULTS.items())
    if card.network != "unet" or patch % 2 or widths[0] != 1:
        raise ValueError(
            f"{card.name} is a {card.network} of patch {patch} and multipliers {widths}; a finer "
            "level fits around a unet of an even patch whose first multiplier is 1: leave out "
            "--grow-resolution"
        )
    options = {**card.options, "patch": patch // 2, "multipliers": [1, *widths]}
    tensors = {n: t.detach() for n, t in build_seeded("unet", options, seed).state_dict().items()}
    offset = 1 + int(card.options.get("blocks", 1))  # layers of the new level on the way down
    for name, tensor in read_weights(card).items():
        if not name.startswith(REINIT_PREFIXES):
            tensors[_shift_level(name, offset)] = tensor
    new = replace(card, file="model.safetensors", options=options, folder=folder, metrics={})
    return write_card(new, tensors)


def _shift_level(name: str, offset: int) -> str:
    part, *rest = name.split(".")
    return ".".join([part, str(int(rest[0]) + offset), *rest[1:]]) if part == "down" else name
