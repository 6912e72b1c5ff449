"""Checkpoints of the U-Net of Ho et al. (2020) in PyTorch, as pesser/pytorch_diffusion (.ckpt) and
ermongroup/ddim (.pth) write them: a state dict, or a list that has it first and its average last.

The tensors imply all but the image size; published networks have attention at a side of 16.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from scoreag.io.safe_unpickler import UnsupportedCheckpoint
from scoreag.models.convert.conversion import (
    CheckpointSpec,
    KeyMapEntry,
    LayerTable,
    ModuleTable,
    expand_table,
    map_checkpoint,
    validate_config,
)

FIRST_KEY = "temb.dense.0.weight"
LAYERS: LayerTable = {
    "block": {"norm0": "norm1", "conv0": "conv1", "affine": "temb_proj", "norm1": "norm2",
              "conv1": "conv2", "skip": "nin_shortcut"},
    "attention": {"norm2": "norm", "proj": "proj_out", "qkv": ("q", "k", "v")},
    "uneven": {"1": ""},  # a convolution behind its padding
}  # fmt: skip
MODULES: ModuleTable = {
    "stem": [("", "conv_in")],
    "down": [("uneven", "down.{above}.downsample.conv")],
    "encoder": [("block", "down.{level}.block.{i}"), ("attention", "down.{level}.attn.{i}")],
    "middle": [("block", "mid.block_{next}"), ("attention", "mid.attn_1")],
    "decoder": [("block", "up.{level}.block.{i}"), ("attention", "up.{level}.attn.{i}")],
    "up": [("", "up.{level}.upsample.conv")],
}
END_MODULES = [
    ("", "map_layer0", "temb.dense.0"), ("", "map_layer1", "temb.dense.1"),
    ("", "out_norm", "norm_out"), ("", "out_conv", "conv_out"),
]  # fmt: skip


def open_state_dict(
    tensors: Mapping[str, Tensor],
    path: Path,
    config: Mapping[str, Any] | None = None,
    unused_keys: tuple[str, ...] = (),
) -> CheckpointSpec:
    """The network of a state dict.

    Args:
        config: ``{"image_size": 64}``, where attention is not at a side of 16.
    """
    config = config or {}
    validate_config(config, path.name, {"image_size": 64})
    full = _infer_config(tensors, path.name, config.get("image_size"))
    return map_checkpoint(
        "adm_unet", network_options(full), key_map(full), tensors, path.name, _convert_tensor,
        format="DDPM in PyTorch", family="ddpm", unused_keys=unused_keys,
    )  # fmt: skip


def network_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``adm_unet`` for such a network."""
    side = config["sides"][0]
    return {
        "image_shape": [config["colors"], side, side],
        **{name: config[name] for name in ("channels", "multipliers", "blocks", "attention_at")},
        "heads": 1,
        "resample": "uneven",
        "scaled": False,
        "min_channels_per_group": 1,
        "eps": 1e-6,
        "ends": True,
    }


def _infer_config(tensors: Mapping[str, Tensor], file: str, side: Any) -> dict[str, Any]:
    """The architecture, by the names and shapes of the tensors."""
    stem = tensors.get("conv_in.weight")
    if stem is None or stem.ndim != 4:
        raise UnsupportedCheckpoint(
            f"{file}: the tensor 'conv_in.weight' is missing or of no convolution"
        )
    levels = _count_indices(tensors, r"down\.(\d+)\.")
    widths = [tensors.get(f"down.{level}.block.0.conv1.weight", stem) for level in range(levels)]
    attended = [level for level in range(levels) if f"down.{level}.attn.0.q.weight" in tensors]
    if side is None and not attended:
        raise UnsupportedCheckpoint(
            f"{file} does not say how large images are; write --config with image_size"
        )
    side = side or 16 << attended[0]
    return {
        "colors": stem.shape[1],
        "channels": len(stem),
        "multipliers": [len(width) // len(stem) for width in widths],
        "blocks": _count_indices(tensors, r"down\.0\.block\.(\d+)\."),
        "sides": [side >> level for level in range(levels)],
        "attention_at": [side >> level for level in attended],
    }


def _count_indices(tensors: Mapping[str, Tensor], pattern: str) -> int:
    return len({found[1] for name in tensors if (found := re.match(pattern, name))})


def key_map(config: Mapping[str, Any]) -> Iterator[KeyMapEntry]:
    """All tensors of such a network."""
    return expand_table(MODULES, END_MODULES, LAYERS, config["sides"], config["blocks"])


def _convert_tensor(ours: str, tensor: Tensor) -> Tensor:
    """Sine waves come before cosine waves there, and after them here."""
    return tensor.roll(tensor.shape[1] // 2, 1) if ours == "map_layer0.weight" else tensor
