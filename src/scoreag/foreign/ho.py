"""Checkpoints of the U-Net of Ho et al. (2020) in PyTorch, as pesser/pytorch_diffusion (.ckpt) and
ermongroup/ddim (.pth) write them: a state dict, or a list that has it first and its average last.

The tensors say all but how large images are; published networks have attention at a side of 16.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoreag.foreign.arguments import check
from scoreag.foreign.found import Found
from scoreag.foreign.inert import Refused
from scoreag.foreign.placed import Place, both, placed

FIRST = "temb.dense.0.weight"
BLOCK = {
    "norm0": "norm1", "conv0": "conv1", "affine": "temb_proj", "norm1": "norm2", "conv1": "conv2",
    "skip": "nin_shortcut",
}  # fmt: skip
PARTS = ("q", "k", "v")


def opened(
    given: Mapping[str, Tensor],
    path: Path,
    arguments: Mapping[str, Any] | None = None,
    left: tuple[str, ...] = (),
) -> Found:
    """The network of a state dict.

    Args:
        arguments: ``{"image_size": 64}``, where attention is not at a side of 16.

    Raises:
        Refused: a tensor is missing, left over, or has another shape.
    """
    check(arguments or {}, {"image_size": 64}, path.name)
    told = _told(given, path.name, (arguments or {}).get("image_size"))
    options = options_of(told)
    return Found(
        format="DDPM in PyTorch",
        family="ddpm",
        network="adm_unet",
        options=options,
        tensors=placed("adm_unet", options, places(told), given, path.name, _made),
        image_shape=tuple(options["image_shape"]),
        classes=0,
        left=left,
    )


def options_of(told: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``adm_unet`` for such a network."""
    side = told["sides"][0]
    return {
        "image_shape": [told["colours"], side, side],
        "channels": told["channels"],
        "multipliers": told["multipliers"],
        "blocks": told["blocks"],
        "attention_at": told["attention_at"],
        "heads": 1,
        "resample": "uneven",
        "scaled": False,
        "least": 1,
        "eps": 1e-6,
        "ends": True,
    }


def _told(given: Mapping[str, Tensor], file: str, side: Any) -> dict[str, Any]:
    """What the tensors tell."""
    first = given.get("conv_in.weight")
    if first is None or first.ndim != 4:
        raise Refused(f"{file}: the tensor 'conv_in.weight' is missing or of no convolution")
    levels = _count(given, r"down\.(\d+)\.")
    widths = [given.get(f"down.{level}.block.0.conv1.weight", first) for level in range(levels)]
    looking = [level for level in range(levels) if f"down.{level}.attn.0.q.weight" in given]
    if side is None and not looking:
        raise Refused(
            f"{file} does not say how large images are; write --arguments with image_size"
        )
    side = side or 16 << looking[0]
    return {
        "colours": first.shape[1],
        "channels": len(first),
        "multipliers": [len(width) // len(first) for width in widths],
        "blocks": _count(given, r"down\.0\.block\.(\d+)\."),
        "sides": [side >> level for level in range(levels)],
        "attention_at": [side >> level for level in looking],
    }


def _count(given: Mapping[str, Tensor], pattern: str) -> int:
    """How many numbers stand there."""
    return len({found[1] for name in given if (found := re.match(pattern, name))})


def places(told: Mapping[str, Any]) -> Iterator[Place]:
    """All tensors of such a network."""
    sides, last = told["sides"], len(told["sides"]) - 1
    yield from both(_plain(sides))
    for level, side in enumerate(sides):
        for way, many, ours in (("down", 0, "enc"), ("up", 1, "dec")):
            for i in range(told["blocks"] + many):
                at = f"{ours}.{side}x{side}_block{i}"
                yield from _block(at, f"{way}.{level}.block.{i}")
                yield from _look(at, f"{way}.{level}.attn.{i}")
    at = f"dec.{sides[last]}x{sides[last]}"
    yield from _block(f"{at}_in0", "mid.block_1")
    yield from _look(f"{at}_in0", "mid.attn_1")
    yield from _block(f"{at}_in1", "mid.block_2")


def _plain(sides: Sequence[int]) -> Iterator[tuple[str, str]]:
    yield from (("map_layer0", "temb.dense.0"), ("map_layer1", "temb.dense.1"))
    yield f"enc.{sides[0]}x{sides[0]}_conv", "conv_in"
    for level, side in enumerate(sides[1:], 1):
        yield f"enc.{side}x{side}_down.1", f"down.{level - 1}.downsample.conv"
        yield f"dec.{2 * side}x{2 * side}_up", f"up.{level}.upsample.conv"
    yield from (("out_norm", "norm_out"), ("out_conv", "conv_out"))


def _block(ours: str, theirs: str) -> Iterator[Place]:
    yield from both((f"{ours}.{own}", f"{theirs}.{other}") for own, other in BLOCK.items())


def _look(ours: str, theirs: str) -> Iterator[Place]:
    yield from both([(f"{ours}.norm2", f"{theirs}.norm"), (f"{ours}.proj", f"{theirs}.proj_out")])
    for kind in ("weight", "bias"):
        yield f"{ours}.qkv.{kind}", tuple(f"{theirs}.{part}.{kind}" for part in PARTS)


def _made(ours: str, parts: Sequence[Tensor]) -> Tensor:
    """Rows of q, k and v of a channel come side by side; waves have the cosine first here."""
    if ".qkv." in ours:
        return torch.stack(list(parts), 1).flatten(0, 1)
    return parts[0].roll(parts[0].shape[1] // 2, 1) if ours == "map_layer0.weight" else parts[0]
