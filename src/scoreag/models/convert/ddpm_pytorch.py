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

from scoreag.io.safe_unpickler import UnsupportedCheckpoint
from scoreag.models.convert.key_mapping import (
    KeyMapEntry,
    LayerTable,
    Module,
    apply_key_map,
    expand_modules,
)
from scoreag.models.convert.spec import CheckpointSpec, validate_config

FIRST_KEY = "temb.dense.0.weight"
LAYERS: LayerTable = {
    "block": {"norm0": "norm1", "conv0": "conv1", "affine": "temb_proj", "norm1": "norm2",
              "conv1": "conv2", "skip": "nin_shortcut"},
    "attention": {"norm2": "norm", "proj": "proj_out", "qkv": ("q", "k", "v")},
}  # fmt: skip


def open_state_dict(
    tensors: Mapping[str, Tensor],
    path: Path,
    config: Mapping[str, Any] | None = None,
    unused_keys: tuple[str, ...] = (),
) -> CheckpointSpec:
    """The network of a state dict.

    Args:
        config: ``{"image_size": 64}``, where attention is not at a side of 16.

    Raises:
        Refused: a tensor is missing, left over, or has another shape.
    """
    validate_config(config or {}, {"image_size": 64}, path.name)
    told = _infer_config(tensors, path.name, (config or {}).get("image_size"))
    options = network_options(told)
    return CheckpointSpec(
        format="DDPM in PyTorch",
        family="ddpm",
        network="adm_unet",
        options=options,
        tensors=apply_key_map(
            "adm_unet", options, key_map(told), tensors, path.name, _convert_tensor
        ),
        image_shape=tuple(options["image_shape"]),
        classes=0,
        unused_keys=unused_keys,
    )


def network_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``adm_unet`` for such a network."""
    side = config["sides"][0]
    return {
        "image_shape": [config["colors"], side, side],
        "channels": config["channels"],
        "multipliers": config["multipliers"],
        "blocks": config["blocks"],
        "attention_at": config["attention_at"],
        "heads": 1,
        "resample": "uneven",
        "scaled": False,
        "min_channels_per_group": 1,
        "eps": 1e-6,
        "ends": True,
    }


def _infer_config(tensors: Mapping[str, Tensor], file: str, side: Any) -> dict[str, Any]:
    """What the tensors tell."""
    first = tensors.get("conv_in.weight")
    if first is None or first.ndim != 4:
        raise UnsupportedCheckpoint(
            f"{file}: the tensor 'conv_in.weight' is missing or of no convolution"
        )
    levels = _count_indices(tensors, r"down\.(\d+)\.")
    widths = [tensors.get(f"down.{level}.block.0.conv1.weight", first) for level in range(levels)]
    looking = [level for level in range(levels) if f"down.{level}.attn.0.q.weight" in tensors]
    if side is None and not looking:
        raise UnsupportedCheckpoint(
            f"{file} does not say how large images are; write --config with image_size"
        )
    side = side or 16 << looking[0]
    return {
        "colors": first.shape[1],
        "channels": len(first),
        "multipliers": [len(width) // len(first) for width in widths],
        "blocks": _count_indices(tensors, r"down\.0\.block\.(\d+)\."),
        "sides": [side >> level for level in range(levels)],
        "attention_at": [side >> level for level in looking],
    }


def _count_indices(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """How many numbers stand there."""
    return len({found[1] for name in tensors if (found := re.match(pattern, name))})


def key_map(config: Mapping[str, Any]) -> Iterator[KeyMapEntry]:
    """All tensors of such a network."""
    return expand_modules(_iter_modules(config["sides"], config["blocks"]), LAYERS)


def _iter_modules(sides: Sequence[int], blocks: int) -> Iterator[Module]:
    yield from (("", "map_layer0", "temb.dense.0"), ("", "map_layer1", "temb.dense.1"))
    yield "", f"enc.{sides[0]}x{sides[0]}_conv", "conv_in"
    for level, side in enumerate(sides):
        if level:
            yield "", f"enc.{side}x{side}_down.1", f"down.{level - 1}.downsample.conv"
            yield "", f"dec.{2 * side}x{2 * side}_up", f"up.{level}.upsample.conv"
        for theirs, count, ours in (("down", blocks, "enc"), ("up", blocks + 1, "dec")):
            for i in range(count):
                at = f"{ours}.{side}x{side}_block{i}"
                yield "block", at, f"{theirs}.{level}.block.{i}"
                yield "attention", at, f"{theirs}.{level}.attn.{i}"
    last = f"dec.{sides[-1]}x{sides[-1]}"
    yield "block", f"{last}_in0", "mid.block_1"
    yield "attention", f"{last}_in0", "mid.attn_1"
    yield "block", f"{last}_in1", "mid.block_2"
    yield from (("", "out_norm", "norm_out"), ("", "out_conv", "conv_out"))


def _convert_tensor(ours: str, parts: Sequence[Tensor]) -> Tensor:
    """Rows of q, k and v of a channel come side by side; waves have the cosine first here."""
    if ".qkv." in ours:
        return torch.stack(list(parts), 1).flatten(0, 1)
    return parts[0].roll(parts[0].shape[1] // 2, 1) if ours == "map_layer0.weight" else parts[0]
