"""What the formats share: a recognized checkpoint, the check of its config, renaming its tensors.

A format has a table of its layers, a table of its modules, and a function for what else differs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

from scoreag.io.safe_unpickler import UnsupportedCheckpoint
from scoreag.models.trust import infer_shapes
from scoreag.registry import did_you_mean, load_component, short_repr

LayerTable: TypeAlias = Mapping[str, Mapping[str, str | tuple[str, ...]]]  # kind: {ours: theirs}
ModuleTable: TypeAlias = Mapping[str, Sequence[tuple[str, str]]]  # role: (kind, their pattern)
Module: TypeAlias = tuple[str, str, str]  # its kind, our name, and theirs
Convert: TypeAlias = Callable[[str, Tensor], Tensor]  # (our name, their tensor) -> ours
KeyMapEntry: TypeAlias = tuple[str, tuple[str, ...]]  # our tensor, and those that it is made of
MAX_LENGTH, MAX_NUMBER = 100, 1_000_000  # of lists and words; of numbers
UNKNOWN_LICENSE = "not stated by the file"


@dataclass(frozen=True)
class CheckpointSpec:
    """A checkpoint as it was recognized, ready to become a card.

    Args:
        format: of the file, in words.
        family, schedule_kwargs: the parameterization, as in a card.
        network, options: a file of networks/ and the arguments of its ``build``.
        tensors: under the names of that network.
        classes: the number of its labels; 0 for an unconditional model.
        x0_limit: to which its sampler clips x0-estimates.
        license: of the weights, as far as the format implies one.
        unused_keys: what else the file holds, in words.
    """

    format: str
    family: str
    network: str
    options: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    image_shape: tuple[int, int, int]
    classes: int
    sigma_data: float = 0.5
    x0_limit: float | None = None
    schedule_kwargs: Mapping[str, Any] = field(default_factory=dict)
    license: str = UNKNOWN_LICENSE
    unused_keys: tuple[str, ...] = ()


def validate_config(
    config: Mapping[str, Any], file: str, examples: Mapping[str, Any] | None = None
) -> None:
    """Refuse unknown arguments of a training, values of another type, and absurd sizes.

    Args:
        examples: a value for each known argument, None for any type; without it all are known.
    """
    for name, value in config.items():
        values = value if isinstance(value, list) else [value]
        if len(values) > MAX_LENGTH or not all(map(_is_small, values)):
            raise UnsupportedCheckpoint(
                f"{file}: {short_repr(name)} is {short_repr(value)}, which no network has"
            )
    if examples is None:
        return
    for name, value in config.items():
        if name not in examples:
            raise UnsupportedCheckpoint(
                f"{file}: an argument {short_repr(name)}; {did_you_mean(name, list(examples))}"
            )
        if not _is_same_type(value, examples[name]):
            raise UnsupportedCheckpoint(
                f"{file}: {name} is {short_repr(value)}; expected one as {examples[name]!r}"
            )


def _is_small(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= MAX_LENGTH
    return value is None or (isinstance(value, int | float) and abs(value) <= MAX_NUMBER)


def _is_same_type(value: Any, example: Any) -> bool:
    if isinstance(example, list):
        return isinstance(value, list) and all(type(one) is int for one in value) and bool(value)
    return example is None or type(value) is type(example)


def map_checkpoint(
    network: str,
    options: Mapping[str, Any],
    key_map: Iterable[KeyMapEntry],
    tensors: Mapping[str, Tensor],
    file: str,
    convert: Convert,
    **entries: Any,
) -> CheckpointSpec:
    """The checkpoint with its tensors under our names, and further ``entries``.

    Args:
        network, options: a file of networks/ and the arguments of its ``build``.
        key_map: of all layers that such a network may have; those that it lacks are skipped.
    """
    return CheckpointSpec(
        network=network,
        options=options,
        tensors=_apply_key_map(network, options, key_map, tensors, file, convert),
        image_shape=tuple(options["image_shape"]),
        classes=options.get("classes", 0),
        **entries,
    )


def expand_table(
    table: ModuleTable,
    ends: Iterable[Module],
    layers: LayerTable,
    sides: Sequence[int],
    blocks: int,
    attended: Sequence[int] = (),
) -> Iterator[KeyMapEntry]:
    """The key map of a U-Net, by a pattern of their name for each role of a module.

    Args:
        ends: the modules before and after the U-Net.
        attended: sides of the levels with attention, behind which ``{last}`` is 2, else 1.
    """
    modules = [
        (kind, ours, theirs.format(**numbers, last=2 if numbers["side"] in attended else 1))
        for role, ours, numbers in unet_modules(sides, blocks)
        for kind, theirs in table[role]
    ]
    return expand_modules([*ends, *modules], layers)


def unet_modules(sides: Sequence[int], blocks: int) -> Iterator[tuple[str, str, dict[str, int]]]:
    """The role, our name and the numbers of each module of a U-Net, in the order of computation.

    The numbers are ``side``, ``level``, ``above`` (the level before), ``i`` and ``next`` (from 0
    and from 1 within a level), and ``n`` (the block of the encoder or of the decoder).
    """

    deepest = len(sides) - 1
    yield _module("stem", f"enc.{sides[0]}x{sides[0]}_conv", sides, 0, 0, 0)
    for level, side in enumerate(sides):
        first, at = level * (blocks + 1), f"enc.{side}x{side}"
        if level:
            yield _module("down", f"{at}_down", sides, level, 0, first)
        for i in range(blocks):
            yield _module("encoder", f"{at}_block{i}", sides, level, i, first + 1 + i)
    for i in range(2):
        yield _module("middle", f"dec.{sides[-1]}x{sides[-1]}_in{i}", sides, deepest, i, 2 * i)
    for level in range(deepest, -1, -1):
        first, side = (deepest - level) * (blocks + 1), sides[level]
        for i in range(blocks + 1):
            yield _module("decoder", f"dec.{side}x{side}_block{i}", sides, level, i, first + i)
        if level:
            up = f"dec.{2 * side}x{2 * side}_up"
            yield _module("up", up, sides, level, 0, first + blocks)


def _module(
    role: str, name: str, sides: Sequence[int], level: int, i: int, n: int
) -> tuple[str, str, dict[str, int]]:
    numbers = {"level": level, "above": level - 1, "i": i, "next": i + 1, "n": n}
    return role, name, {"side": sides[level], **numbers}


def expand_modules(modules: Iterable[Module], layers: LayerTable) -> Iterator[KeyMapEntry]:
    """The weights and biases of all layers of these modules; a module of no kind is one layer."""
    for kind, ours, theirs in modules:
        for layer, sources in layers.get(kind, {"": ""}).items():
            names = (sources,) if isinstance(sources, str) else sources
            for part in ("weight", "bias"):
                yield (
                    _join(ours, layer, part),
                    tuple(_join(theirs, name, _part_name(name, part)) for name in names),
                )


def _join(*names: str) -> str:
    return ".".join(filter(None, names))


def _part_name(layer: str, part: str) -> str:
    """Song's layers "network in network" call their weight W and their bias b."""
    return {"weight": "W", "bias": "b"}[part] if layer.startswith("NIN_") else part


def _apply_key_map(
    network: str,
    options: Mapping[str, Any],
    key_map: Iterable[KeyMapEntry],
    tensors: Mapping[str, Tensor],
    file: str,
    convert: Convert,
) -> dict[str, Tensor]:
    """The tensors under our names: each is used once, and none is left over.

    The rows of several that make up one (q, k and v) are interleaved.  Resampling filters, which
    other files lack, are added.
    """
    try:
        shapes = infer_shapes(load_component("networks", network).build, options, tensors)
    except ValueError as error:
        raise UnsupportedCheckpoint(
            f"{file}: no network can be built of its arguments: {error}"
        ) from error
    table = {ours: theirs for ours, theirs in key_map if ours in shapes}
    used = {name for theirs in table.values() for name in theirs}
    if surplus := [name for name in tensors if name not in used]:
        raise UnsupportedCheckpoint(
            f"{file}: the tensor {surplus[0]!r} has no place in a network of its kind"
        )
    line = torch.tensor(options.get("resample_filter", (1, 1)), dtype=torch.float32)
    kernel = torch.outer(line, line)[None, None] / line.sum() ** 2
    converted = {name: kernel.clone() for name in shapes if name.endswith("resample_filter")}
    for ours, theirs in table.items():
        if missing := [name for name in theirs if name not in tensors]:
            raise UnsupportedCheckpoint(f"{file}: the tensor {missing[0]!r} is missing")
        parts = [tensors[name] for name in theirs]
        where = f"{file}: the tensor {theirs[0]!r} has shape {tuple(parts[0].shape)}"
        try:
            found = [convert(ours, part) for part in parts]
            tensor = torch.stack(found, 1).flatten(0, 1) if len(found) > 1 else found[0]
        except (RuntimeError, IndexError) as error:  # too few dimensions to be permuted
            raise UnsupportedCheckpoint(f"{where}, which its kind of layer cannot have") from error
        if tensor.shape != shapes[ours]:
            made = tuple(tensor.shape)
            note = f", which makes {made}" if made != parts[0].shape else ""
            raise UnsupportedCheckpoint(
                f"{where}{note}; a network of its kind has {tuple(shapes[ours])}"
            )
        converted[ours] = tensor.contiguous()
    return converted
