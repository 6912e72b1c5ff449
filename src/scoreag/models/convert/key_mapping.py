"""Tensors under other names: each that is given is placed once, and none is left over."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from scoreag.io.safe_unpickler import UnsupportedCheckpoint
from scoreag.models.build import infer_shapes
from scoreag.registry import load_component

KeyMapEntry: TypeAlias = tuple[str, tuple[str, ...]]  # our tensor, and those that it is made of
FILTER_SUFFIX = "resample_filter"


def weight_and_bias(pairs: Iterable[tuple[str, str]]) -> Iterator[KeyMapEntry]:
    """The weights and the biases of layers, given ours and theirs."""
    for ours, theirs in pairs:
        for kind in ("weight", "bias"):
            yield f"{ours}.{kind}", (f"{theirs}.{kind}",)


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
        places: of all layers that such a network may have; what it lacks is skipped.
        made: our tensor, of its name and of those of theirs that it is made of.

    Raises:
        Refused: a tensor of theirs has no place, is missing, or has another shape; names it.
    """
    wanted = _network_shapes(network, options, tensors, file)
    table = {ours: theirs for ours, theirs in key_map if ours in wanted}
    used = {name for theirs in table.values() for name in theirs}
    if left := [name for name in tensors if name not in used]:
        raise UnsupportedCheckpoint(
            f"{file}: the tensor {left[0]!r} has no place in a network of its kind"
        )
    found = dict[str, Tensor]()
    for ours, theirs in table.items():
        if missing := [name for name in theirs if name not in tensors]:
            raise UnsupportedCheckpoint(f"{file}: the tensor {missing[0]!r} is missing")
        found[ours] = _convert_tensor(
            ours, [tensors[name] for name in theirs], wanted[ours], convert, file, theirs
        )
    return found | _resample_filters(wanted, options)


def _convert_tensor(
    ours: str,
    parts: list[Tensor],
    shape: torch.Size,
    convert: Callable[[str, Sequence[Tensor]], Tensor],
    file: str,
    theirs: tuple[str, ...],
) -> Tensor:
    try:
        tensor = convert(ours, parts)
    except (RuntimeError, IndexError) as error:  # of a shape that cannot even be turned
        raise UnsupportedCheckpoint(
            f"{file}: the tensor {theirs[0]!r} has shape {tuple(parts[0].shape)}, which its "
            "kind of layer cannot have"
        ) from error
    if tensor.shape != shape:
        came, turned = tuple(parts[0].shape), tuple(tensor.shape)
        raise UnsupportedCheckpoint(
            f"{file}: the tensor {theirs[0]!r} has shape {came}"
            + (f", which makes {turned}" if turned != came else "")
            + f"; a network of its kind has {tuple(shape)}"
        )
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


def _resample_filters(wanted: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Tensor]:
    line = torch.tensor(options.get("resample_filter", (1, 1)), dtype=torch.float32)
    whole = torch.outer(line, line)[None, None] / line.sum() ** 2
    return {name: whole.clone() for name in wanted if name.endswith(FILTER_SUFFIX)}
