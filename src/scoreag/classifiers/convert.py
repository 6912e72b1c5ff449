"""A user's classifier as a card: a state dict and its architecture.

The card says the normalization, the classes and the digest once, so that every command can take the
folder's name and needs no option for what is in it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scoreag.classifiers import build
from scoreag.classifiers.file_formats import STATE_DICT, detect_file_format, reject_format
from scoreag.classifiers.normalized import NormalizedClassifier
from scoreag.classifiers.state_dict import load_checkpoint
from scoreag.models.model_cards import Card, write_card


def convert_state_dict(
    file: Path,
    folder: Path,
    mean: Sequence[float],
    std: Sequence[float],
    network: str | None = None,
    config: Mapping[str, Any] | None = None,
    class_names: Sequence[str] = (),
    image_shape: tuple[int, int, int] | None = None,
    license: str = "",
    fp16: bool = False,
    strip: str | None = None,
) -> Card:
    """Write the card and the weights of a classifier into ``folder``.

    Args:
        network, arguments: as in ``build``; classes and shape are told where it takes them.
        image_shape: by default what an argument says.
        strip: as in ``load_checkpoint``.

    Raises:
        ValueError: it is not read, does not fit the network, or gives no such logits.
    """
    options = _network_options(network, config or {}, len(class_names), image_shape)
    module = open_state_dict(file, network, options, strip)
    assert network is not None  # else the file was refused
    _check_normalization(mean, std)
    shape = image_shape or _infer_image_shape(options)
    card = Card(
        name=folder.resolve().name,
        kind="classifier",
        network=network,
        file="model.safetensors",
        license=license or "not told by the file",
        image_shape=shape,
        source=f"converted from {file.name}",
        classes=_validate_class_names(
            class_names,
            _count_logits(NormalizedClassifier(module, mean, std).eval(), shape, file),
            file,
        ),
        mean=tuple(mean),
        std=tuple(std),
        options=options,
        folder=folder,
    )
    return write_card(card, module.state_dict(), fp16)


def open_state_dict(
    file: Path,
    network: str | None = None,
    config: Mapping[str, Any] | None = None,
    strip: str | None = None,
) -> nn.Module:
    """The module of a file: its state dict in the network it belongs to.

    Raises:
        ValueError: the file is not read, no network is named, or it does not fit.
    """
    if (kind := detect_file_format(file)) != STATE_DICT:
        reject_format(file, kind)
    if not network:
        raise ValueError(
            f"{file} holds tensors; say which network they are of: a file of scoreag.classifiers."
            "networks such as cifar_resnet, timm:NAME, torchvision:NAME, or my_module:function"
        )
    return load_checkpoint(file, network, strip, **(config or {})).requires_grad_(False)


def _validate_class_names(class_names: Sequence[str], count: int, file: Path) -> tuple[str, ...]:
    """The names of its classes; of no names, their numbers."""
    if class_names and len(class_names) != count:
        raise ValueError(
            f"{file} tells {count} classes apart, and {len(class_names)} names came; give the names of "
            "its own, or leave out --class-names"
        )
    return tuple(class_names) or tuple(map(str, range(count)))


def _network_options(
    network: str | None,
    config: Mapping[str, Any],
    classes: int,
    shape: tuple[int, int, int] | None,
) -> dict[str, Any]:
    """The arguments, and what is known besides and the network can be told."""
    if not network:
        return dict(config)
    known = {"classes": classes, "num_classes": classes, "image_shape": shape and list(shape)}
    told = {n: v for n, v in known.items() if v and build.accepts_option(network, n)}
    return {**told, **config}


def _check_normalization(mean: Sequence[float], std: Sequence[float]) -> None:
    if len(mean) != len(std) or not all(one > 0 for one in std):
        raise ValueError(
            f"mean {[*mean]} and std {[*std]}: expected one number a channel, std above 0"
        )


def _infer_image_shape(options: Mapping[str, Any]) -> tuple[int, int, int]:
    """What an argument says that images are like."""
    found: Any = options.get("image_shape") or ()
    if len(found) != 3 or None in found:
        raise ValueError("nothing says what its images are like; write --shape, e.g. 3x32x32")
    channels, height, width = (size or 0 for size in found)
    return channels, height, width


@torch.no_grad()
def _count_logits(classifier: NormalizedClassifier, shape: tuple[int, int, int], file: Path) -> int:
    """How many logits it gives for an image of this shape."""
    wanted = " x ".join(map(str, shape))
    try:
        logits = classifier(torch.full((2, *shape), 0.5))
    except Exception as error:  # whatever somebody else's network may raise
        what = " ".join(str(error).split())
        raise ValueError(f"{file} does not take images of {wanted}: {what}") from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 2:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"{file} gives {got} for 2 images; expected a row of logits an image")
    return int(logits.shape[1])
