"""A checkpoint of other people's making: what it is, and the card and the weights made of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from scoreag.bounded import parsed_json, size_of
from scoreag.building import shapes
from scoreag.cards import Card, check_fit, write_card
from scoreag.foreign import diffusers, edm, states
from scoreag.foreign.found import Found
from scoreag.foreign.inert import Refused
from scoreag.foreign.looks import looks_like
from scoreag.load import cut, load, shown
from scoreag.tensors import read_any

READ = (
    f"pickles of EDM (.pkl), {states.READ}, safetensors whose metadata has the class of EDM and "
    "its arguments, and folders of diffusers with a UNet2DModel"
)
OLD = b"\x80\x02\x8a\x0a"  # how files of torch.save began before they were archives


def open_checkpoint(
    path: Path, arguments: Mapping[str, Any] | None = None, names: int = 0
) -> Found:
    """What a file or a folder holds; nothing of it is run.

    Args:
        arguments: that the network was trained with, where the file does not say them.
        names: how many classes are named, if they are.

    Raises:
        ValueError: it is of no kind that is known, or damaged.
    """
    try:
        return _opened(path, arguments, names)
    except (ValueError, OSError, MemoryError):
        raise
    except Exception as error:  # a file that was tampered with can raise anything
        told = cut(f"{type(error).__name__} {error}", 200)
        raise Refused(f"{path} is damaged, or no checkpoint: {told}") from error


def _opened(path: Path, arguments: Mapping[str, Any] | None, names: int) -> Found:
    head = _head(path)
    if head[:2] == b"PK" or head[:4] == OLD:
        return states.open_state(path, arguments)
    if diffusers.is_folder(path):
        return diffusers.open_folder(path, arguments, names)
    if arguments:
        raise ValueError(f"{path} says itself what it is of; leave out --arguments")
    if head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        return edm.open_pickle(path)
    if head[8:9] == b"{":
        return _safetensors(path)
    raise ValueError(f"{path} is no checkpoint of a kind that is read: {READ}")


def _head(path: Path) -> bytes:
    """The first bytes of a file; of a folder none."""
    if not path.exists():
        raise ValueError(f"there is no file {path}")
    if path.is_dir():
        return b""
    size_of(path)
    with path.open("rb") as file:
        return file.read(9)


def _safetensors(path: Path) -> Found:
    tensors = read_any(path)
    try:
        with safe_open(path, "pt") as opened:
            about = opened.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file ({cut(str(error), 200)})") from error
    if about.get("class") not in edm.FAMILIES or "arguments" not in about:
        seen = looks_like(tensors)
        said = seen if seen.startswith("looks") else "does not say what network it is of"
        raise ValueError(f"{path} {said}; read are {READ}")
    try:
        told = parsed_json(about["arguments"])
    except ValueError as error:
        raise Refused(f"{path}: its arguments are no JSON: {error}") from error
    if not isinstance(told, dict):
        raise Refused(f"{path}: its arguments are {shown(told)}; expected a table")
    return edm.found(about["class"], told, tensors, str(path))


def convert(
    path: Path,
    folder: Path,
    classes: Sequence[str] = (),
    licence: str = "",
    half: bool = False,
    arguments: Mapping[str, Any] | None = None,
) -> tuple[Found, Card]:
    """Write the card and the weights of a checkpoint into ``folder``.

    Args:
        classes: names by number; without them the numbers themselves.
        licence: of the weights; by default what the format says.
        half: store the weights with 11 significant bits.
        arguments: as in ``open_checkpoint``.

    Raises:
        ValueError: the file is not read, or does not fit the network that it names.
    """
    found = open_checkpoint(path, arguments, len(classes))
    if classes and len(classes) != found.classes:
        raise ValueError(f"{path} knows {found.classes} classes, and {len(classes)} names came")
    names = classes or [str(number) for number in range(found.classes)]
    build = load("networks", found.network).build
    try:
        wanted = shapes(build, found.options, found.tensors)
    except ValueError as error:
        raise Refused(f"{path.name}: {error}") from error
    check_fit(wanted, found.tensors, path.name)
    card = _card(found, path.name, folder, names, licence)
    return found, write_card(card, found.tensors, half)


def _card(found: Found, file: str, folder: Path, classes: Sequence[str], licence: str) -> Card:
    return Card(
        name=folder.resolve().name,
        kind="score-model",
        network=found.network,
        file="model.safetensors",
        licence=licence or found.licence,
        image_shape=found.image_shape,
        source=f"converted from {file} ({found.format})",
        classes=tuple(classes),
        family=found.family,
        sigma_data=found.sigma_data,
        levels=found.levels,
        options=found.options,
        folder=folder,
    )


def told(found: Found) -> dict[str, object]:
    """What was found, for the person who asked."""
    return {
        "format": found.format,
        "family": found.family,
        "network": found.network,
        **{f"network.{name}": value for name, value in found.options.items()},
        "parameters": sum(t.numel() for t in found.tensors.values()),
        "images": f"{' x '.join(map(str, found.image_shape))}, in [-1, 1]",
        "classes": found.classes,
        "licence": found.licence,
        "left out": ", ".join(found.left) or "nothing",
    }
