"""Tensors under other names: each that is given is placed once, and none is left over.

A format lists its modules, (kind, ours, theirs), and has one table of the layers of each kind.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from scoreag.io.safe_unpickler import UnsupportedCheckpoint
from scoreag.models.build import infer_shapes
from scoreag.registry import load_component

Module: TypeAlias = tuple[str, str, str]  # its kind, our name, and theirs
LayerTable: TypeAlias = Mapping[str, Mapping[str, str | tuple[str, ...]]]  # ours: theirs, by kind
KeyMapEntry: TypeAlias = tuple[str, tuple[str, ...]]  # our tensor, and those that it is made of
FILTER_SUFFIX = "resample_filter"


def expand_modules(modules: Iterable[Module], layers: LayerTable) -> Iterator[KeyMapEntry]:
    """The weights and the biases of all layers of these modules; of no kind, it is a layer."""
    for kind, ours, theirs in modules:
        for own, names in layers.get(kind, {"": ""}).items():
            others = (names,) if isinstance(names, str) else names
            for part in ("weight", "bias"):
                yield (
                    _join(ours, own, part),
                    tuple(_join(theirs, name, _part_name(name, part)) for name in others),
                )


def _join(*names: str) -> str:
    return ".".join(filter(None, names))


def _part_name(layer: str, part: str) -> str:
    """Song's layers "network in network" call their weight W and their bias b."""
    return {"weight": "W", "bias": "b"}[part] if layer.startswith("NIN_") else part


def apply_key_map(
    network: str,
    options: Mapping[str, Any],
    key_map: Iterable[KeyMapEntry],
    tensors: Mapping[str, Tensor],
    file: str,
    convert: Callable[[str, Sequence[Tensor]], Tensor],
) -> dict[str, Tensor]:
    """The tensors under the names of a network, with its filters, which other files do not hold.

    Args:
        network, options: a file of networks/ and the arguments of its ``build``.
        key_map: of all layers that such a network may have; what it lacks is skipped.
        convert: our tensor, of its name and of those of theirs that it is made of.

    Raises:
        UnsupportedCheckpoint: a tensor has no place, is missing, or has another shape; names it.
    """
    shapes = _network_shapes(network, options, tensors, file)
    table = {ours: theirs for ours, theirs in key_map if ours in shapes}
    used = {name for theirs in table.values() for name in theirs}
    if surplus := [name for name in tensors if name not in used]:
        raise UnsupportedCheckpoint(
            f"{file}: the tensor {surplus[0]!r} has no place in a network of its kind"
        )
    converted = dict[str, Tensor]()
    for ours, theirs in table.items():
        if missing := [name for name in theirs if name not in tensors]:
            raise UnsupportedCheckpoint(f"{file}: the tensor {missing[0]!r} is missing")
        parts = [tensors[name] for name in theirs]
        where = f"{file}: the tensor {theirs[0]!r} has shape {tuple(parts[0].shape)}"
        converted[ours] = _convert_tensor(ours, parts, shapes[ours], convert, where)
    return converted | _resample_filters(shapes, options)


def _convert_tensor(
    ours: str,
    parts: list[Tensor],
    shape: torch.Size,
    convert: Callable[[str, Sequence[Tensor]], Tensor],
    where: str,
) -> Tensor:
    try:
        tensor = convert(ours, parts)
    except (RuntimeError, IndexError) as error:  # of a shape that cannot even be turned
        raise UnsupportedCheckpoint(f"{where}, which its kind of layer cannot have") from error
    if tensor.shape != shape:
        result = f", which makes {tuple(tensor.shape)}" if tensor.shape != parts[0].shape else ""
        raise UnsupportedCheckpoint(f"{where}{result}; a network of its kind has {tuple(shape)}")
    return tensor.contiguous()


def _network_shapes(
    network: str, options: Mapping[str, Any], tensors: Mapping[str, Tensor], file: str
) -> dict[str, torch.Size]:
    try:
        return infer_shapes(load_component("networks", network).build, options, tensors)
    except ValueError as error:
        raise UnsupportedCheckpoint(
            f"{file}: no network can be built of its arguments: {error}"
        ) from error


def _resample_filters(names: Iterable[str], options: Mapping[str, Any]) -> dict[str, Tensor]:
    line = torch.tensor(options.get("resample_filter", (1, 1)), dtype=torch.float32)
    square = torch.outer(line, line)[None, None] / line.sum() ** 2
    return {name: square.clone() for name in names if name.endswith(FILTER_SUFFIX)}
