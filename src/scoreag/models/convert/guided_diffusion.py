"""Checkpoints of guided-diffusion (Dhariwal and Nichol 2021) and of improved-diffusion (Nichol and
Dhariwal 2021): tensors under names of their own.

The file says neither how large images are nor how many blocks a level has: its name does, for the
published ones, or the arguments that it was trained with.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

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
from scoreag.registry import did_you_mean

GUIDED_DEFAULTS: dict[str, Any] = {
    "attention_resolutions": [32, 16, 8], "num_head_channels": 64, "resblock_updown": True,
    "use_scale_shift_norm": True, "learn_sigma": True, "noise_schedule": "linear",
}  # fmt: skip
GUIDED_256 = GUIDED_DEFAULTS | {"image_size": 256, "num_channels": 256, "num_res_blocks": 2}
GUIDED_256_UNCOND = GUIDED_256 | {"class_cond": False}
IMPROVED_DEFAULTS: dict[str, Any] = {
    "attention_resolutions": [16, 8], "num_heads": 4, "resblock_updown": False,
    "use_scale_shift_norm": True, "learn_sigma": True, "class_cond": False, "num_channels": 128,
    "num_res_blocks": 3, "noise_schedule": "cosine", "diffusion_steps": 4000,
    "rescale_timesteps": True,
}  # fmt: skip
IMPROVED_LSUN = IMPROVED_DEFAULTS | {
    "image_size": 256, "num_res_blocks": 2, "num_heads": 1, "use_scale_shift_norm": False,
    "attention_resolutions": [16], "noise_schedule": "linear", "diffusion_steps": 1000,
    "rescale_timesteps": False,
}  # fmt: skip
PUBLISHED: dict[str, dict[str, Any]] = {
    "64x64_diffusion.pt": GUIDED_DEFAULTS | {
        "image_size": 64, "num_channels": 192, "num_res_blocks": 3, "class_cond": True,
        "noise_schedule": "cosine", "use_new_attention_order": True,
    },
    "128x128_diffusion.pt": GUIDED_DEFAULTS | {
        "image_size": 128, "num_channels": 256, "num_res_blocks": 2, "class_cond": True,
        "num_heads": 4, "num_head_channels": -1,
    },
    "256x256_diffusion.pt": GUIDED_256 | {"class_cond": True},
    "256x256_diffusion_uncond.pt": GUIDED_256_UNCOND,
    "lsun_bedroom.pt": GUIDED_256_UNCOND,
    "lsun_cat.pt": GUIDED_256_UNCOND,
    "lsun_horse.pt": GUIDED_256_UNCOND,
    "lsun_horse_nodropout.pt": GUIDED_256_UNCOND,
    "cifar10_uncond_50M_500K.pt": IMPROVED_DEFAULTS | {"image_size": 32},
    "cifar10_uncond_vlb_50M_500K.pt": IMPROVED_DEFAULTS | {"image_size": 32},
    "imagenet64_uncond_100M_1500K.pt": IMPROVED_DEFAULTS | {"image_size": 64},
    "imagenet64_uncond_vlb_100M_1500K.pt": IMPROVED_DEFAULTS | {"image_size": 64},
    "imagenet64_cond_270M_250K.pt": IMPROVED_DEFAULTS | {
        "image_size": 64, "num_channels": 192, "class_cond": True, "rescale_timesteps": False,
    },
    "lsun_uncond_100M_1200K_bs128.pt": IMPROVED_LSUN,
    "lsun_uncond_100M_2400K_bs64.pt": IMPROVED_LSUN,
}  # fmt: skip


LAYERS: LayerTable = {
    "block": {"norm0": "in_layers.0", "conv0": "in_layers.2", "affine": "emb_layers.1",
              "norm1": "out_layers.0", "conv1": "out_layers.3", "skip": "skip_connection"},
    "attention": {"norm2": "norm", "qkv": "qkv", "proj": "proj_out"},
}  # fmt: skip


def key_map(config: Mapping[str, Any]) -> Iterator[KeyMapEntry]:
    """All tensors of a network of these arguments."""
    yield from expand_modules(_iter_modules(config), LAYERS)
    yield "map_label.weight", ("label_emb.weight",)


def convert_tensor(ours: str, parts: Sequence[Tensor], config: Mapping[str, Any]) -> Tensor:
    """Attention's rows come head by head, as q, k and v of a channel side by side."""
    (tensor,), part = parts, ours.split(".")[-2]
    if part == "map_label":
        return tensor.T
    if part == "qkv":
        rows = len(tensor) // 3
        heads = config["num_heads"] or rows // config["num_head_channels"]
        order = (3, heads, -1) if config["use_new_attention_order"] else (heads, 3, -1)
        axes = (1, 2, 0) if config["use_new_attention_order"] else (0, 2, 1)
        split = tensor.unflatten(0, order)
        tensor = split.permute(*axes, *range(3, split.ndim)).flatten(0, 2)
    if part in ("qkv", "proj") and tensor.ndim == 3:
        tensor = tensor[..., None]
    return tensor


def _iter_modules(config: Mapping[str, Any]) -> Iterator[Module]:
    sides = [config["image_size"] >> level for level in range(len(config["channel_mult"]))]
    yield from (("", "map_layer0", "time_embed.0"), ("", "map_layer1", "time_embed.2"))
    yield from _encoder_modules(config, sides)
    last = f"dec.{sides[-1]}x{sides[-1]}"
    yield "block", f"{last}_in0", "middle_block.0"
    yield "attention", f"{last}_in0", "middle_block.1"
    yield "block", f"{last}_in1", "middle_block.2"
    yield from _decoder_modules(config, sides)
    yield from (("", "out_norm", "out.0"), ("", "out_conv", "out.2"))


def _encoder_modules(config: Mapping[str, Any], sides: list[int]) -> Iterator[Module]:
    yield "", f"enc.{sides[0]}x{sides[0]}_conv", "input_blocks.0.0"
    place = 0
    for side in sides:
        at = f"enc.{side}x{side}"
        if side != sides[0]:
            place += 1
            yield "block", f"{at}_down", f"input_blocks.{place}.0"
            yield "", f"{at}_down", f"input_blocks.{place}.0.op"
        for i in range(config["num_res_blocks"]):
            place += 1
            yield "block", f"{at}_block{i}", f"input_blocks.{place}.0"
            yield "attention", f"{at}_block{i}", f"input_blocks.{place}.1"


def _decoder_modules(config: Mapping[str, Any], sides: list[int]) -> Iterator[Module]:
    place = -1
    for side in reversed(sides):
        for i in range(config["num_res_blocks"] + 1):
            place += 1
            yield "block", f"dec.{side}x{side}_block{i}", f"output_blocks.{place}.0"
            yield "attention", f"dec.{side}x{side}_block{i}", f"output_blocks.{place}.1"
        if side != sides[0]:
            up = f"dec.{2 * side}x{2 * side}_up"
            theirs = f"output_blocks.{place}.{2 if side in config['attention_resolutions'] else 1}"
            yield from (("block", up, theirs), ("", up, f"{theirs}.conv"))


FIRST_KEY = "input_blocks.0.0.weight"
CHANNEL_MULT = {  # where none are told; of the scripts
    32: [1, 2, 2, 2], 64: [1, 2, 3, 4], 128: [1, 1, 2, 3, 4], 256: [1, 1, 2, 2, 4, 4]
}  # fmt: skip
REQUIRED = ("image_size", "num_channels", "num_res_blocks")
DEFAULTS = {
    "noise_schedule": "linear", "use_new_attention_order": False, "diffusion_steps": 1000,
    "num_heads": 0, "num_head_channels": -1,
}  # fmt: skip
FIXED_VALUES = {"num_heads_upsample": -1, "predict_xstart": False}  # in all releases
TRAINING_ONLY = (  # arguments that mean nothing when the weights are used
    "dropout", "sigma_small", "use_kl", "rescale_learned_sigmas", "use_checkpoint", "use_fp16",
    "timestep_respacing",
)  # fmt: skip
KNOWN_CONFIG = {
    **IMPROVED_DEFAULTS,
    **GUIDED_DEFAULTS,
    **DEFAULTS,
    **FIXED_VALUES,
    "image_size": 64,
    "channel_mult": [1, 2, 3, 4],
}
FAMILIES = {"linear": "ddpm", "cosine": "ddpm_cosine"}


def open_state_dict(
    tensors: Mapping[str, Tensor], path: Path, config: Mapping[str, Any] | None = None
) -> CheckpointSpec:
    """The network of a state dict.

    Args:
        config: of the scripts; by default those of the published file of that name.

    Raises:
        ValueError: nothing says what the network is, or the tensors are not those of such a one.
    """
    asked = dict(config) if config else PUBLISHED.get(path.name)
    if asked is None:
        raise UnsupportedCheckpoint(
            f"{path.name} does not say how it was trained; write --config as JSON, with "
            f"{', '.join(REQUIRED)}; or keep the published name, e.g. {next(iter(PUBLISHED))}"
        )
    told = complete_config(path.name, asked, _infer_config(tensors))
    colors, side = tensors[FIRST_KEY].shape[1], told["image_size"]
    if colors not in (1, 3):
        raise UnsupportedCheckpoint(
            f"{path.name} takes {colors} channels: an upsampler, which is not read"
        )
    labels = tensors.get("label_emb.weight")
    classes = len(labels) if told["class_cond"] and labels is not None else 0
    options = network_options(told, colors, classes)
    steps = told["diffusion_steps"]
    return CheckpointSpec(
        format="guided-diffusion" if told["resblock_updown"] else "improved-diffusion",
        family=FAMILIES[told["noise_schedule"]],
        schedule_kwargs={"steps": steps, "time_scale": _time_scale(told)} if steps != 1000 else {},
        network="adm_unet",
        options=options,
        tensors=apply_key_map(
            "adm_unet", options, key_map(told), tensors, path.name,
            lambda ours, parts: convert_tensor(ours, parts, told),
        ),
        image_shape=(colors, side, side),
        classes=classes,
        license="MIT (OpenAI)" if not config else "not told by the file",
    )  # fmt: skip


def network_options(config: Mapping[str, Any], channels: int, classes: int) -> dict[str, Any]:
    """The arguments of ``adm_unet`` for all arguments of the scripts."""
    heads = {"heads": config["num_heads"]} if config["num_heads"] else {}
    return {
        "image_shape": [channels, config["image_size"], config["image_size"]],
        "classes": classes,
        "channels": config["num_channels"],
        "multipliers": config["channel_mult"],
        "blocks": config["num_res_blocks"],
        "attention_at": config["attention_resolutions"],
        **(heads or {"head": config["num_head_channels"]}),
        "variance": config["learn_sigma"],
        "resample": "blocks" if config["resblock_updown"] else "even",
        "scaled": config["use_scale_shift_norm"],
        "min_channels_per_group": 1,
    }


def _time_scale(config: Mapping[str, Any]) -> float:
    """What the network is told of a step, for each step."""
    return 1000 / config["diffusion_steps"] if config.get("rescale_timesteps") else 1.0


def complete_config(
    name: str, user_config: Mapping[str, Any], inferred: Mapping[str, Any]
) -> dict[str, Any]:
    """All arguments: those asked for, and the others as the tensors or the scripts have them.

    Args:
        name: of the file, for what is said of it.
        inferred: what the tensors tell.

    Raises:
        Refused: one is missing, not known, or has a value that is not.
    """
    told = {**DEFAULTS, **inferred, **user_config}
    told = {key: value for key, value in told.items() if key not in TRAINING_ONLY}
    for argument in ("attention_resolutions", "channel_mult"):
        if isinstance(text := told.get(argument), str):  # the scripts write lists as "32,16,8"
            told[argument] = [int(one) for one in re.findall(r"\d+", text)]
    _check_config(name, told)
    told["channel_mult"] = told.get("channel_mult") or CHANNEL_MULT.get(told["image_size"])
    if not told["channel_mult"]:
        raise UnsupportedCheckpoint(f"{name}: --config lacks channel_mult")
    if "num_heads" in user_config:
        told["num_head_channels"] = user_config.get("num_head_channels", -1)
    if told["num_head_channels"] > 0:
        told["num_heads"] = 0
    return told


def _infer_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the tensors tell, and what the scripts of such a network have by default."""
    convolved = any(name.endswith(".op.weight") for name in tensors)
    affine = tensors.get("input_blocks.1.0.emb_layers.1.bias")
    norm = tensors.get("input_blocks.1.0.out_layers.0.bias")
    last = tensors.get("out.2.bias")
    both = affine is None or norm is None or len(affine) == 2 * len(norm)
    return {
        "resblock_updown": not convolved,
        "use_scale_shift_norm": both,
        "learn_sigma": last is None or len(last) == 2 * tensors[FIRST_KEY].shape[1],
        "class_cond": "label_emb.weight" in tensors,
        "attention_resolutions": [16, 8] if convolved else [32, 16, 8],
        **({"num_heads": 4} if convolved else {"num_head_channels": 64}),
    }


def _check_config(name: str, config: Mapping[str, Any]) -> None:
    if missing := [argument for argument in REQUIRED if argument not in config]:
        raise UnsupportedCheckpoint(f"{name}: --config lacks {', '.join(missing)}")
    validate_config(config, KNOWN_CONFIG, name)
    for argument, value in FIXED_VALUES.items():
        if config.get(argument, value) != value:
            raise UnsupportedCheckpoint(
                f"{name}: {argument} is {config[argument]}, and {value} is known here"
            )
    if (word := config["noise_schedule"]) not in FAMILIES:
        raise UnsupportedCheckpoint(
            f"{name}: a noise_schedule {word!r}; {did_you_mean(word, list(FAMILIES))}"
        )
    if config["diffusion_steps"] != 1000 and "rescale_timesteps" not in config:
        raise UnsupportedCheckpoint(
            f"{name}: of other diffusion_steps than 1000, say rescale_timesteps, too"
        )
