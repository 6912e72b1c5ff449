"""A program of torch.export as a module: its graph, followed node by node."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64,
    6: torch.float16, 7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
FORMATS = {1: torch.contiguous_format, 2: torch.channels_last, 4: torch.preserve_format}
LITERALS = ("int", "ints", "float", "floats", "bool", "bools", "string", "strings")
CONSTANTS = ("none", "scalar_type", "memory_format", "layout", "device", *LITERALS)
VALUES = ("tensor", "tensors", "optional_tensors", "nested_tensors")
SYMBOLS = ("sym_int", "sym_ints", "sym_float", "sym_floats", "sym_bool", "sym_bools")


@dataclass(frozen=True)
class Node:
    """``outputs = function(*given, **named)``; arguments as the file writes them, a kind each."""

    function: Callable[..., Any]
    given: Sequence[Mapping[str, Any]]
    named: Mapping[str, Mapping[str, Any]]
    outputs: Sequence[str | tuple[str, ...]]  # a list of tensors is a tuple of names


class Program(nn.Module):
    """``logits = program(images)``, in the dtype of the images.

    Args:
        tensors: weights and constants, by the name that the nodes call them.
        trained: which of those are parameters.
        shape: of an image; None where any size is taken.
        dtype: that the program was exported in; the images' own stands for it.
        entry, result: the names of the images and of the logits.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        tensors: Mapping[str, Tensor],
        trained: Sequence[str],
        shape: Sequence[int | None],
        dtype: torch.dtype,
        entry: str,
        result: str,
    ) -> None:
        super().__init__()
        self.nodes, self.shape, self.dtype = tuple(nodes), tuple(shape), dtype
        self.entry, self.result = entry, result
        for name, tensor in tensors.items():
            if name in trained:
                self.register_parameter(name, nn.Parameter(tensor, requires_grad=False))
            else:
                self.register_buffer(name, tensor)

    def forward(self, images: Tensor) -> Tensor:
        came = tuple(images.shape[1:])
        if len(came) != len(self.shape) or any(
            size not in (None, found) for size, found in zip(self.shape, came, strict=True)
        ):
            wanted = " x ".join("any" if size is None else str(size) for size in self.shape)
            raise ValueError(f"the program takes images of {wanted}")
        known: dict[str, Any] = {**self._parameters, **self._buffers}
        known[self.entry] = images.clone()  # some operations write where they read
        for node in self.nodes:
            given = [self._value(argument, known, images) for argument in node.given]
            named = {name: self._value(a, known, images) for name, a in node.named.items()}
            _bind(node.outputs, node.function(*given, **named), known)
        return known[self.result]

    def _value(self, argument: Mapping[str, Any], known: Mapping[str, Any], images: Tensor) -> Any:
        ((kind, value),) = argument.items()
        kind = kind.removeprefix("as_")
        if kind in LITERALS:
            return value
        if kind in CONSTANTS:
            return self._constant(kind, value, images)
        return _looked_up(kind, value, known)

    def _constant(self, kind: str, value: Any, images: Tensor) -> Any:
        if kind == "device":
            return images.device
        if kind == "scalar_type":
            dtype = DTYPES[value]
            return images.dtype if dtype == self.dtype else dtype
        if kind == "memory_format":
            return FORMATS[value]
        return torch.strided if kind == "layout" else None


def argument_kind(argument: Mapping[str, Any]) -> str:
    """The kind of an argument.

    Raises:
        ValueError: it is none that is read, such as a graph of its own.
    """
    kind = next(iter(argument), "").removeprefix("as_")
    if len(argument) != 1 or kind not in (*CONSTANTS, *VALUES, *SYMBOLS):
        raise ValueError(f"it has an argument of the kind {kind!r:.40}, which is not read here")
    return kind


def _looked_up(kind: str, value: Any, known: Mapping[str, Any]) -> Any:
    """A value that an earlier node gave, or a list of such."""
    if isinstance(value, list):
        return [_looked_up(kind, one, known) for one in value]
    if "name" in value:
        return known[value["name"]]
    ((written, inner),) = value.items()
    if written == "as_name":
        return known[inner]
    if written == "as_tensor":
        return known[inner["name"]]
    return None if written == "as_none" else inner


def _bind(names: Sequence[str | tuple[str, ...]], values: Any, known: dict[str, Any]) -> None:
    """Give the results of a node their names."""
    if len(names) == 1:
        values = [values]
    for name, value in zip(names, values, strict=True):
        if isinstance(name, str):
            known[name] = value
        else:
            known.update(zip(name, value, strict=True))
