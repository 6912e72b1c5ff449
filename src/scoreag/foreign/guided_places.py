"""Where guided-diffusion and improved-diffusion keep each layer of ``adm_unet``."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from scoreag.foreign.placed import Place, both

BLOCK = {
    "norm0": "in_layers.0", "conv0": "in_layers.2", "affine": "emb_layers.1",
    "norm1": "out_layers.0", "conv1": "out_layers.3", "skip": "skip_connection",
}  # fmt: skip
LOOK = {"norm2": "norm", "qkv": "qkv", "proj": "proj_out"}


def places(told: Mapping[str, Any]) -> Iterator[Place]:
    """All tensors of a network of these arguments."""
    yield from both(_layers(told))
    yield "map_label.weight", ("label_emb.weight",)


def shaped(ours: str, parts: Sequence[Tensor], told: Mapping[str, Any]) -> Tensor:
    """Attention's rows come head by head, as q, k and v of a channel side by side."""
    (tensor,), part = parts, ours.split(".")[-2]
    if part == "map_label":
        return tensor.T
    if part == "qkv":
        rows = len(tensor) // 3
        heads = told["num_heads"] or rows // told["num_head_channels"]
        order = (3, heads, -1) if told["use_new_attention_order"] else (heads, 3, -1)
        axes = (1, 2, 0) if told["use_new_attention_order"] else (0, 2, 1)
        split = tensor.unflatten(0, order)
        tensor = split.permute(*axes, *range(3, split.ndim)).flatten(0, 2)
    if part in ("qkv", "proj") and tensor.ndim == 3:
        tensor = tensor[..., None]
    return tensor


def _layers(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Our layers and theirs, in pairs."""
    sides = [told["image_size"] >> level for level in range(len(told["channel_mult"]))]
    yield from (("map_layer0", "time_embed.0"), ("map_layer1", "time_embed.2"))
    yield from _down(told, sides)
    last = f"dec.{sides[-1]}x{sides[-1]}"
    yield from _block(f"{last}_in0", "middle_block.0")
    yield from _look(f"{last}_in0", "middle_block.1")
    yield from _block(f"{last}_in1", "middle_block.2")
    yield from _up(told, sides)
    yield from (("out_norm", "out.0"), ("out_conv", "out.2"))


def _down(told: Mapping[str, Any], sides: list[int]) -> Iterator[tuple[str, str]]:
    yield f"enc.{sides[0]}x{sides[0]}_conv", "input_blocks.0.0"
    place = 0
    for side in sides:
        at = f"enc.{side}x{side}"
        if side != sides[0]:
            place += 1
            yield from _block(f"{at}_down", f"input_blocks.{place}.0")
            yield f"{at}_down", f"input_blocks.{place}.0.op"
        for i in range(told["num_res_blocks"]):
            place += 1
            yield from _block(f"{at}_block{i}", f"input_blocks.{place}.0")
            yield from _look(f"{at}_block{i}", f"input_blocks.{place}.1")


def _up(told: Mapping[str, Any], sides: list[int]) -> Iterator[tuple[str, str]]:
    place = -1
    for side in reversed(sides):
        for i in range(told["num_res_blocks"] + 1):
            place += 1
            yield from _block(f"dec.{side}x{side}_block{i}", f"output_blocks.{place}.0")
            yield from _look(f"dec.{side}x{side}_block{i}", f"output_blocks.{place}.1")
        if side != sides[0]:
            behind = 2 if side in told["attention_resolutions"] else 1
            up = f"dec.{2 * side}x{2 * side}_up"
            yield from _block(up, f"output_blocks.{place}.{behind}")
            yield up, f"output_blocks.{place}.{behind}.conv"


def _block(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    yield from ((f"{ours}.{own}", f"{theirs}.{other}") for own, other in BLOCK.items())


def _look(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    yield from ((f"{ours}.{own}", f"{theirs}.{other}") for own, other in LOOK.items())
