"""A checkpoint of other people's making: what it is, and the card and the weights made of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from scoreag.io.bounded import get_file_size, parse_json
from scoreag.models.build import infer_shapes
from scoreag.models.convert import diffusers, edm, state_dicts
from scoreag.models.convert.detect import describe_format
from scoreag.models.convert.safe_unpickler import UnsupportedCheckpoint
from scoreag.models.convert.spec import CheckpointSpec
from scoreag.models.model_cards import Card, check_state_dict, write_card
from scoreag.models.safetensors import read_any_safetensors
from scoreag.registry import load_component, short_repr, truncate_text

SUPPORTED_FORMATS = (
    f"pickles of EDM (.pkl), {state_dicts.SUPPORTED_FORMATS}, safetensors whose metadata has the class of EDM and "
    "its arguments, and folders of diffusers with a UNet2DModel"
)
LEGACY_TORCH_MAGIC = b"\x80\x02\x8a\x0a"  # how files of torch.save began before they were archives


def open_checkpoint(
    path: Path, config: Mapping[str, Any] | None = None, class_count: int = 0
) -> CheckpointSpec:
    """What a file or a folder holds; nothing of it is run.

    Args:
        arguments: that the network was trained with, where the file does not say them.
        names: how many classes are named, if they are.

    Raises:
        ValueError: it is of no kind that is known, or damaged.
    """
    try:
        return _open(path, config, class_count)
    except (ValueError, OSError, MemoryError):
        raise
    except Exception as error:  # a file that was tampered with can raise anything
        told = truncate_text(f"{type(error).__name__} {error}", 200)
        raise UnsupportedCheckpoint(f"{path} is damaged, or no checkpoint: {told}") from error


def _open(path: Path, config: Mapping[str, Any] | None, class_count: int) -> CheckpointSpec:
    head = _read_magic(path)
    if head[:2] == b"PK" or head[:4] == LEGACY_TORCH_MAGIC:
        return state_dicts.open_torch_file(path, config)
    if diffusers.is_folder(path):
        return diffusers.open_folder(path, config, class_count)
    if config:
        raise ValueError(f"{path} says itself what it is of; leave out --config")
    if head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        return edm.open_pickle(path)
    if head[8:9] == b"{":
        return _open_safetensors(path)
    raise ValueError(f"{path} is no checkpoint of a kind that is read: {SUPPORTED_FORMATS}")


def _read_magic(path: Path) -> bytes:
    """The first bytes of a file; of a folder none."""
    if not path.exists():
        raise ValueError(f"there is no file {path}")
    if path.is_dir():
        return b""
    get_file_size(path)
    with path.open("rb") as file:
        return file.read(9)


def _open_safetensors(path: Path) -> CheckpointSpec:
    tensors = read_any_safetensors(path)
    try:
        with safe_open(path, "pt") as opened:
            about = opened.metadata() or {}
    except SafetensorError as error:
        raise ValueError(
            f"{path} is no safetensors file ({truncate_text(str(error), 200)})"
        ) from error
    if about.get("class") not in edm.FAMILIES or "arguments" not in about:
        seen = describe_format(tensors)
        said = seen if seen.startswith("looks") else "does not say what network it is of"
        raise ValueError(f"{path} {said}; read are {SUPPORTED_FORMATS}")
    try:
        told = parse_json(about["arguments"])
    except ValueError as error:
        raise UnsupportedCheckpoint(f"{path}: its arguments are no JSON: {error}") from error
    if not isinstance(told, dict):
        raise UnsupportedCheckpoint(
            f"{path}: its arguments are {short_repr(told)}; expected a table"
        )
    return edm.build_spec(about["class"], told, tensors, str(path))


def convert_checkpoint(
    path: Path,
    folder: Path,
    class_names: Sequence[str] = (),
    license: str = "",
    fp16: bool = False,
    config: Mapping[str, Any] | None = None,
) -> tuple[CheckpointSpec, Card]:
    """Write the card and the weights of a checkpoint into ``folder``.

    Args:
        classes: names by number; without them the numbers themselves.
        license: of the weights; by default what the format says.
        half: store the weights with 11 significant bits.
        arguments: as in ``open_checkpoint``.

    Raises:
        ValueError: the file is not read, or does not fit the network that it names.
    """
    found = open_checkpoint(path, config, len(class_names))
    if class_names and len(class_names) != found.classes:
        raise ValueError(f"{path} knows {found.classes} classes, and {len(class_names)} names came")
    names = class_names or [str(number) for number in range(found.classes)]
    build = load_component("networks", found.network).build
    try:
        wanted = infer_shapes(build, found.options, found.tensors)
    except ValueError as error:
        raise UnsupportedCheckpoint(f"{path.name}: {error}") from error
    check_state_dict(wanted, found.tensors, path.name)
    card = _make_card(found, path.name, folder, names, license)
    return found, write_card(card, found.tensors, fp16)


def _make_card(
    spec: CheckpointSpec, file: str, folder: Path, class_names: Sequence[str], license: str
) -> Card:
    return Card(
        name=folder.resolve().name,
        kind="score-model",
        network=spec.network,
        file="model.safetensors",
        license=license or spec.license,
        image_shape=spec.image_shape,
        source=f"converted from {file} ({spec.format})",
        classes=tuple(class_names),
        family=spec.family,
        sigma_data=spec.sigma_data,
        schedule_kwargs=spec.schedule_kwargs,
        options=spec.options,
        folder=folder,
    )


def summarize(spec: CheckpointSpec) -> dict[str, object]:
    """What was found, for the person who asked."""
    return {
        "format": spec.format,
        "family": spec.family,
        "network": spec.network,
        **{f"network.{name}": value for name, value in spec.options.items()},
        "parameters": sum(t.numel() for t in spec.tensors.values()),
        "images": f"{' x '.join(map(str, spec.image_shape))}, in [-1, 1]",
        "classes": spec.classes,
        "license": spec.license,
        "left out": ", ".join(spec.unused_keys) or "nothing",
    }
