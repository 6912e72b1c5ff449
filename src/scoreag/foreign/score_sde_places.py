"""Where score_sde_pytorch keeps each layer of ``song_unet``: ``all_modules.N``, as they are used.

Attention is a module of its own there, behind the block that it belongs to here.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from scoreag.foreign.placed import Place, both

BLOCK = {
    "norm0": "GroupNorm_0", "conv0": "Conv_0", "affine": "Dense_0", "norm1": "GroupNorm_1",
    "conv1": "Conv_1", "skip": "Conv_2",
}  # fmt: skip


def places(told: Mapping[str, Any]) -> Iterator[Place]:
    """All tensors of a network of this configuration."""
    for number, (kind, ours) in enumerate(_modules(told)):
        yield from _of_kind(kind, ours, f"all_modules.{number}")


def made(ours: str, parts: Sequence[Tensor]) -> Tensor:
    """Attention's matrices are transposed, and rows of q, k and v come side by side here."""
    if ".qkv.weight" in ours or ".proj.weight" in ours:
        parts = [part.T[..., None, None] for part in parts]
    return torch.stack(list(parts), 1).flatten(0, 1) if ".qkv." in ours else parts[0]


def _of_kind(kind: str, ours: str, theirs: str) -> Iterator[Place]:
    if kind == "waves":
        yield f"{ours}.freqs", (f"{theirs}.W",)
    elif kind == "block":
        yield from both((f"{ours}.{own}", f"{theirs}.{other}") for own, other in BLOCK.items())
    elif kind == "look":
        yield from both([(f"{ours}.norm2", f"{theirs}.GroupNorm_0")])
        for own, other in (("weight", "W"), ("bias", "b")):
            yield f"{ours}.qkv.{own}", tuple(f"{theirs}.NIN_{i}.{other}" for i in range(3))
            yield f"{ours}.proj.{own}", (f"{theirs}.NIN_3.{other}",)
    else:  # a layer alone, or the only one in a module that has no more
        yield from both([(ours, f"{theirs}.{kind}" if kind else theirs)])


def _modules(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The kind of each of their modules, and our layer."""
    sides = [told["image_size"] >> level for level in range(len(told["ch_mult"]))]
    if told["embedding_type"] == "fourier":
        yield "waves", "map_noise"
    yield from (("", "map_layer0"), ("", "map_layer1"))
    yield from _down(told, sides)
    last = f"dec.{sides[-1]}x{sides[-1]}_in"
    yield from (("block", f"{last}0"), ("look", f"{last}0"), ("block", f"{last}1"))
    yield from _up(told, sides)
    if told["progressive"] == "none":
        at = f"dec.{sides[0]}x{sides[0]}_aux"
        yield from (("", f"{at}_norm"), ("", f"{at}_conv"))


def _down(told: Mapping[str, Any], sides: Sequence[int]) -> Iterator[tuple[str, str]]:
    beside = {"residual": ("Conv2d_0", "residual"), "input_skip": ("Conv_0", "skip")}
    yield "", f"enc.{sides[0]}x{sides[0]}_conv"
    for side in sides:
        at = f"enc.{side}x{side}"
        if side != sides[0]:
            yield "block", f"{at}_down"
            if told["progressive_input"] in beside:
                kind, way = beside[told["progressive_input"]]
                yield kind, f"{at}_aux_{way}"
        for i in range(told["num_res_blocks"]):
            yield "block", f"{at}_block{i}"
            if side in told["attn_resolutions"]:
                yield "look", f"{at}_block{i}"


def _up(told: Mapping[str, Any], sides: Sequence[int]) -> Iterator[tuple[str, str]]:
    for side in reversed(sides):
        at, many = f"dec.{side}x{side}", told["num_res_blocks"] + 1
        yield from (("block", f"{at}_block{i}") for i in range(many))
        if side in told["attn_resolutions"]:
            yield "look", f"{at}_block{many - 1}"
        if told["progressive"] == "output_skip":
            yield from (("", f"{at}_aux_norm"), ("", f"{at}_aux_conv"))
        if side != sides[0]:
            yield "block", f"dec.{2 * side}x{2 * side}_up"
