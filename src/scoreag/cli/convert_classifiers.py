"""convert, of a classifier: a state dict with its network, as a card of one's own."""

import json
import re
from pathlib import Path
from typing import Any

from scoreag.cli.options import Given, say
from scoreag.cli.parsing import UsageError
from scoreag.models import trust

SHAPES = {"cifar10": (3, 32, 32), "cifar100": (3, 32, 32), "fashion-mnist": (1, 28, 28)}
OWN = ("network", "mean", "std", "shape", "strip")  # options of a classifier alone


def is_classifier(given: Given) -> bool:
    """Whether it is a classifier: an option says so, or the file can be nothing else."""
    from scoreag.classifiers.state_dict import ONNX, TORCH_EXPORT, TORCHSCRIPT, detect_file_format

    path = Path(given.checkpoint)
    told = any(getattr(given, name) is not None for name in OWN)
    return told or (
        path.is_file() and detect_file_format(path) in (ONNX, TORCH_EXPORT, TORCHSCRIPT)
    )


def convert_classifier(given: Given, arguments: dict[str, Any] | None, classes: list[str]) -> None:
    """Write the card, and tell what it says."""
    from scoreag.classifiers.state_dict import convert_state_dict

    folder, file = Path(given.folder), Path(given.checkpoint)
    if not file.is_file():
        raise ValueError(f"there is no file {file}")
    card = convert_state_dict(
        file,
        folder,
        numbers(given.mean, "--mean"),
        numbers(given.std, "--std"),
        given.network,
        arguments,
        classes,
        shape(given.shape) if given.shape else SHAPES.get(given.class_names or ""),
        given.license or "",
        given.fp16,
        given.strip,
    )
    told = {
        "network": card.network,
        **{f"network.{name}": value for name, value in card.options.items()},
        "images": f"{' x '.join(map(str, card.image_shape))}, in [0, 1]",
        "normalization": f"mean {list(card.mean)}, std {list(card.std)}",
        "classes": len(card.classes),
        "license": card.license,
        "sha256": card.sha256,
    }
    if given.json:
        print(json.dumps(told, indent=2))
    elif not given.quiet:
        print("\n".join(f"{name:<22} {value}" for name, value in told.items()))
    say(given, f"the card is {folder / 'card.toml'}; use it as --classifier {folder}")
    more = ""
    if trust.is_custom_network(card.network):
        more = " --trust-code"
        say(given, f"it names code, {card.network}: write --trust-code wherever it is used")
    say(given, f"is that right? scoreag doctor --classifier {folder}{more} --data ... tells")


def numbers(text: str | None, flag: str) -> tuple[float, ...]:
    """``0.485,0.456,0.406``: a number a channel.

    Raises:
        UsageError: they are none, or nothing was given.
    """
    if text is None:
        raise UsageError(
            f"{flag} is missing: normalization is explicit. Write what the classifier was trained "
            "with, e.g. --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225; --mean 0 --std 1 if it "
            "takes images in [0, 1]"
        )
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"{flag} is {text!r}; write a number a channel, e.g. 0.5,0.5,0.5"
        ) from error


def shape(text: str) -> tuple[int, int, int]:
    """``3x32x32``: channels, height and width."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)x([1-9]\d*)", text, re.ASCII)
    if not match:
        raise UsageError(f"--shape {text}: write CHANNELSxHEIGHTxWIDTH, e.g. 3x32x32")
    channels, height, width = map(int, match.groups())
    return channels, height, width
