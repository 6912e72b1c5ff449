"""Checkpoints of guided-diffusion (Dhariwal and Nichol 2021): tensors under names of their own.

The file says neither how large images are nor how many blocks a level has: its name does, for the
published ones, or the arguments that it was trained with.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoreag.files import load_tensors
from scoreag.foreign.found import Found
from scoreag.foreign.inert import Refused
from scoreag.load import hint

LARGE = {
    "attention_resolutions": [32, 16, 8], "num_head_channels": 64, "resblock_updown": True,
    "use_scale_shift_norm": True, "learn_sigma": True,
}  # fmt: skip
PUBLISHED: dict[str, dict[str, Any]] = {  # github.com/openai/guided-diffusion, README
    "64x64_diffusion.pt": LARGE | {
        "image_size": 64, "num_channels": 192, "channel_mult": [1, 2, 3, 4], "num_res_blocks": 3,
        "class_cond": True, "noise_schedule": "cosine", "use_new_attention_order": True,
    },
    "256x256_diffusion.pt": LARGE | {
        "image_size": 256, "num_channels": 256, "channel_mult": [1, 1, 2, 2, 4, 4],
        "num_res_blocks": 2, "class_cond": True, "noise_schedule": "linear",
    },
    "256x256_diffusion_uncond.pt": LARGE | {
        "image_size": 256, "num_channels": 256, "channel_mult": [1, 1, 2, 2, 4, 4],
        "num_res_blocks": 2, "class_cond": False, "noise_schedule": "linear",
    },
}  # fmt: skip
NEEDED = ("image_size", "num_channels", "channel_mult", "num_res_blocks")
DEFAULT = {"class_cond": False, "noise_schedule": "linear", "use_new_attention_order": False}
FAMILIES = {"linear": "ddpm", "cosine": "ddpm_cosine"}
BLOCK = {
    "norm0": "in_layers.0", "conv0": "in_layers.2", "affine": "emb_layers.1",
    "norm1": "out_layers.0", "conv1": "out_layers.3", "skip": "skip_connection",
}  # fmt: skip
LOOK = {"norm2": "norm", "qkv": "qkv", "proj": "proj_out"}


def open_state(path: Path, arguments: Mapping[str, Any] | None = None) -> Found:
    """The network of a file of ``torch.save``.

    Args:
        arguments: of guided-diffusion's scripts; by default those of the published file of that
            name.

    Raises:
        ValueError: nothing says what the network is, or the tensors are not those of such a one.
    """
    asked = dict(arguments) if arguments else PUBLISHED.get(path.name)
    if asked is None:
        raise Refused(
            f"{path.name} does not say how it was trained; write --arguments as JSON, with "
            f"{', '.join(NEEDED)}; or keep the published name, e.g. {next(iter(PUBLISHED))}"
        )
    told: dict[str, Any] = {**DEFAULT, **LARGE, **asked}
    _check(path.name, told)
    given = load_tensors(path)
    if not isinstance(given, dict) or "input_blocks.0.0.weight" not in given:
        raise Refused(f"{path} is no state dict of guided-diffusion: no 'input_blocks.0.0.weight'")
    colours, side = given["input_blocks.0.0.weight"].shape[1], told["image_size"]
    classes = len(given["label_emb.weight"]) if told["class_cond"] else 0
    return Found(
        format="guided-diffusion",
        family=FAMILIES[told["noise_schedule"]],
        network="adm_unet",
        options={
            "image_shape": [colours, side, side],
            "classes": classes,
            "channels": told["num_channels"],
            "multipliers": told["channel_mult"],
            "blocks": told["num_res_blocks"],
            "attention_at": told["attention_resolutions"],
            "head": told["num_head_channels"],
            "variance": told["learn_sigma"],
        },
        tensors=_renamed(given, told, path.name),
        image_shape=(colours, side, side),
        classes=classes,
        licence="MIT (OpenAI)"
        if path.name in PUBLISHED and not arguments
        else "not told by the file",
    )


def _check(name: str, told: Mapping[str, Any]) -> None:
    for argument in told:
        if argument not in (known := [*NEEDED, *DEFAULT, *LARGE]):
            raise Refused(f"{name}: an argument {argument!r}; {hint(argument, known)}")
    missing = [argument for argument in NEEDED if argument not in told]
    if missing:
        raise Refused(f"{name}: --arguments lacks {', '.join(missing)}")
    for argument in ("resblock_updown", "use_scale_shift_norm"):
        if not told[argument]:
            raise Refused(f"{name}: {argument} is false; read are networks with it")
    if told["num_channels"] < 128:
        raise Refused(f"{name}: num_channels is {told['num_channels']}; read are 128 or more")
    if told["noise_schedule"] not in FAMILIES:
        word = told["noise_schedule"]
        raise Refused(f"{name}: a noise_schedule {word!r}; {hint(word, list(FAMILIES))}")


def _renamed(given: Mapping[str, Tensor], told: Mapping[str, Any], file: str) -> dict[str, Tensor]:
    """The tensors under the names of ``adm_unet``, each used once.

    Raises:
        Refused: one is missing or left over.
    """
    found, used = dict[str, Tensor](), set[str]()
    for ours, theirs in _places(told):
        for kind in ("weight", "bias"):
            name = f"{theirs}.{kind}"
            if name in given:
                used.add(name)
                found[f"{ours}.{kind}"] = _shaped(ours, given[name], told)
    for at in _resampled(told):
        for layer in ("conv0", "skip"):
            found[f"{at}.{layer}.resample_filter"] = torch.full((1, 1, 2, 2), 0.25)
    if told["class_cond"]:
        used.add("label_emb.weight")
        found["map_label.weight"] = given["label_emb.weight"].T.contiguous()
    if left := sorted(set(given) - used):
        raise Refused(
            f"{file}: the tensor {left[0]!r} has no place in the network of its arguments"
        )
    return found


def _shaped(ours: str, tensor: Tensor, told: Mapping[str, Any]) -> Tensor:
    """Attention's rows come head by head, as q, k and v of a channel side by side."""
    part = ours.rpartition(".")[2]
    if part == "qkv":
        heads = len(tensor) // 3 // told["num_head_channels"]
        order = (3, heads, -1) if told["use_new_attention_order"] else (heads, 3, -1)
        axes = (1, 2, 0) if told["use_new_attention_order"] else (0, 2, 1)
        parts = tensor.unflatten(0, order)
        tensor = parts.permute(*axes, *range(3, parts.ndim)).flatten(0, 2)
    if part in ("qkv", "proj") and tensor.ndim == 3:
        tensor = tensor[..., None]
    return tensor


def _sides(told: Mapping[str, Any]) -> list[int]:
    return [told["image_size"] >> level for level in range(len(told["channel_mult"]))]


def _resampled(told: Mapping[str, Any]) -> Iterator[str]:
    """The blocks that halve or double."""
    sides = _sides(told)
    yield from (f"enc.{side}x{side}_down" for side in sides[1:])
    yield from (f"dec.{side}x{side}_up" for side in sides[:-1])


def _places(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Our layers and theirs, in pairs."""
    sides, blocks = _sides(told), told["num_res_blocks"]
    yield from (("map_layer0", "time_embed.0"), ("map_layer1", "time_embed.2"))
    yield f"enc.{sides[0]}x{sides[0]}_conv", "input_blocks.0.0"
    place = 0
    for side in sides:
        if side != sides[0]:
            place += 1
            yield from _block(f"enc.{side}x{side}_down", f"input_blocks.{place}.0")
        for i in range(blocks):
            place += 1
            yield from _block(f"enc.{side}x{side}_block{i}", f"input_blocks.{place}.0")
            yield from _look(f"enc.{side}x{side}_block{i}", f"input_blocks.{place}.1", side, told)
    last = f"dec.{sides[-1]}x{sides[-1]}"
    yield from _block(f"{last}_in0", "middle_block.0")
    yield from ((f"{last}_in0.{ours}", f"middle_block.1.{t}") for ours, t in LOOK.items())
    yield from _block(f"{last}_in1", "middle_block.2")
    place = -1
    for side in reversed(sides):
        for i in range(blocks + 1):
            place += 1
            yield from _block(f"dec.{side}x{side}_block{i}", f"output_blocks.{place}.0")
            yield from _look(f"dec.{side}x{side}_block{i}", f"output_blocks.{place}.1", side, told)
        if side != sides[0]:
            behind = 2 if side in told["attention_resolutions"] else 1
            up = f"dec.{2 * side}x{2 * side}_up"
            yield from _block(up, f"output_blocks.{place}.{behind}")
    yield from (("out_norm", "out.0"), ("out_conv", "out.2"))


def _block(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    yield from ((f"{ours}.{own}", f"{theirs}.{other}") for own, other in BLOCK.items())


def _look(ours: str, theirs: str, side: int, told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if side in told["attention_resolutions"]:
        yield from ((f"{ours}.{own}", f"{theirs}.{other}") for own, other in LOOK.items())
