"""Checkpoints of guided-diffusion (Dhariwal and Nichol 2021) and of improved-diffusion (Nichol and
Dhariwal 2021).

The image size and the number of blocks are not in the file: they come from the name of a published
file, or from the arguments of its training.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from scoreag.io.safe_unpickler import UnsupportedCheckpoint
from scoreag.models.convert.conversion import (
    UNKNOWN_LICENSE,
    CheckpointSpec,
    KeyMapEntry,
    LayerTable,
    ModuleTable,
    expand_table,
    map_checkpoint,
    validate_config,
)
from scoreag.registry import did_you_mean

GUIDED_DEFAULTS: dict[str, Any] = {
    "attention_resolutions": [32, 16, 8], "num_head_channels": 64, "resblock_updown": True,
    "use_scale_shift_norm": True, "learn_sigma": True, "noise_schedule": "linear",
}  # fmt: skip
GUIDED_256 = GUIDED_DEFAULTS | {"image_size": 256, "num_channels": 256, "num_res_blocks": 2}
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
    **dict.fromkeys(
        ("256x256_diffusion_uncond.pt", "lsun_bedroom.pt", "lsun_cat.pt", "lsun_horse.pt",
         "lsun_horse_nodropout.pt"),
        GUIDED_256 | {"class_cond": False},
    ),
    **dict.fromkeys(
        ("cifar10_uncond_50M_500K.pt", "cifar10_uncond_vlb_50M_500K.pt"),
        IMPROVED_DEFAULTS | {"image_size": 32},
    ),
    **dict.fromkeys(
        ("imagenet64_uncond_100M_1500K.pt", "imagenet64_uncond_vlb_100M_1500K.pt"),
        IMPROVED_DEFAULTS | {"image_size": 64},
    ),
    "imagenet64_cond_270M_250K.pt": IMPROVED_DEFAULTS | {
        "image_size": 64, "num_channels": 192, "class_cond": True, "rescale_timesteps": False,
    },
    **dict.fromkeys(
        ("lsun_uncond_100M_1200K_bs128.pt", "lsun_uncond_100M_2400K_bs64.pt"), IMPROVED_LSUN
    ),
}  # fmt: skip
FIRST_KEY = "input_blocks.0.0.weight"
LAYERS: LayerTable = {
    "block": {"norm0": "in_layers.0", "conv0": "in_layers.2", "affine": "emb_layers.1",
              "norm1": "out_layers.0", "conv1": "out_layers.3", "skip": "skip_connection"},
    "attention": {"norm2": "norm", "qkv": "qkv", "proj": "proj_out"},
}  # fmt: skip
MODULES: ModuleTable = {  # resampling is by a block, or by a convolution
    "stem": [("", "input_blocks.{n}.0")],
    "down": [("block", "input_blocks.{n}.0"), ("", "input_blocks.{n}.0.op")],
    "encoder": [("block", "input_blocks.{n}.0"), ("attention", "input_blocks.{n}.1")],
    "middle": [("block", "middle_block.{n}"), ("attention", "middle_block.1")],
    "decoder": [("block", "output_blocks.{n}.0"), ("attention", "output_blocks.{n}.1")],
    "up": [("block", "output_blocks.{n}.{last}"), ("", "output_blocks.{n}.{last}.conv")],
}
END_MODULES = [
    ("", "map_layer0", "time_embed.0"), ("", "map_layer1", "time_embed.2"),
    ("", "out_norm", "out.0"), ("", "out_conv", "out.2"),
]  # fmt: skip
CHANNEL_MULT = {  # defaults of the scripts, by image size
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
    **IMPROVED_DEFAULTS, **GUIDED_DEFAULTS, **DEFAULTS, **FIXED_VALUES,
    "image_size": 64, "channel_mult": [1, 2, 3, 4],
}  # fmt: skip
FAMILIES = {"linear": "ddpm", "cosine": "ddpm_cosine"}


def open_state_dict(
    tensors: Mapping[str, Tensor], path: Path, config: Mapping[str, Any] | None = None
) -> CheckpointSpec:
    """The network of a state dict.

    Args:
        config: arguments of the scripts; by default those of the published file of that name.
    """
    arguments = dict(config) if config else PUBLISHED.get(path.name)
    if arguments is None:
        raise UnsupportedCheckpoint(
            f"{path.name} does not say how it was trained; write --config as JSON, with "
            f"{', '.join(REQUIRED)}; or keep the published name, e.g. {next(iter(PUBLISHED))}"
        )
    full = complete_config(path.name, arguments, _infer_config(tensors))
    colors = tensors[FIRST_KEY].shape[1]
    if colors not in (1, 3):
        raise UnsupportedCheckpoint(
            f"{path.name} takes {colors} channels: an upsampler, which is not read"
        )
    labels = tensors.get("label_emb.weight")
    classes = len(labels) if full["class_cond"] and labels is not None else 0
    steps = full["diffusion_steps"]
    time_scale = 1000 / steps if full.get("rescale_timesteps") else 1.0
    return map_checkpoint(
        "adm_unet", network_options(full, colors, classes), key_map(full), tensors, path.name,
        lambda ours, tensor: _convert_tensor(ours, tensor, full),
        format="guided-diffusion" if full["resblock_updown"] else "improved-diffusion",
        family=FAMILIES[full["noise_schedule"]],
        schedule_kwargs={"steps": steps, "time_scale": time_scale} if steps != 1000 else {},
        license=UNKNOWN_LICENSE if config else "MIT (OpenAI)",
    )  # fmt: skip


def network_options(config: Mapping[str, Any], channels: int, classes: int) -> dict[str, Any]:
    """The arguments of ``adm_unet`` for all arguments of the scripts."""
    heads = config["num_heads"]
    return {
        "image_shape": [channels, config["image_size"], config["image_size"]],
        "classes": classes,
        "channels": config["num_channels"],
        "multipliers": config["channel_mult"],
        "blocks": config["num_res_blocks"],
        "attention_at": config["attention_resolutions"],
        **({"heads": heads} if heads else {"head": config["num_head_channels"]}),
        "variance": config["learn_sigma"],
        "resample": "blocks" if config["resblock_updown"] else "even",
        "scaled": config["use_scale_shift_norm"],
        "min_channels_per_group": 1,
    }


def key_map(config: Mapping[str, Any]) -> Iterator[KeyMapEntry]:
    """All tensors of a network of these arguments."""
    sides = [config["image_size"] >> level for level in range(len(config["channel_mult"]))]
    blocks, attended = config["num_res_blocks"], config["attention_resolutions"]
    yield from expand_table(MODULES, END_MODULES, LAYERS, sides, blocks, attended)
    yield "map_label.weight", ("label_emb.weight",)


def _convert_tensor(ours: str, tensor: Tensor, config: Mapping[str, Any]) -> Tensor:
    """Attention's rows come head by head there; here q, k and v of a channel are neighbors."""
    part = ours.split(".")[-2]
    if part == "map_label":
        return tensor.T
    if part == "qkv":
        heads = config["num_heads"] or len(tensor) // 3 // config["num_head_channels"]
        new_order = config["use_new_attention_order"]
        split = tensor.unflatten(0, (3, heads, -1) if new_order else (heads, 3, -1))
        axes = (1, 2, 0) if new_order else (0, 2, 1)
        tensor = split.permute(*axes, *range(3, split.ndim)).flatten(0, 2)
    return tensor[..., None] if part in ("qkv", "proj") and tensor.ndim == 3 else tensor


def complete_config(
    name: str, user_config: Mapping[str, Any], inferred: Mapping[str, Any]
) -> dict[str, Any]:
    """All arguments: the user's, then those that the tensors imply, then the scripts' defaults.

    Args:
        name: of the file, for messages.
    """
    config = {**DEFAULTS, **inferred, **user_config}
    config = {key: value for key, value in config.items() if key not in TRAINING_ONLY}
    for argument in ("attention_resolutions", "channel_mult"):
        if isinstance(text := config.get(argument), str):  # the scripts write lists as "32,16,8"
            config[argument] = [int(one) for one in re.findall(r"\d+", text)]
    _check_config(name, config)
    config["channel_mult"] = config.get("channel_mult") or CHANNEL_MULT.get(config["image_size"])
    if not config["channel_mult"]:
        raise UnsupportedCheckpoint(f"{name}: --config lacks channel_mult")
    if "num_heads" in user_config:
        config["num_head_channels"] = user_config.get("num_head_channels", -1)
    if config["num_head_channels"] > 0:
        config["num_heads"] = 0
    return config


def _infer_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments that the tensors imply, and the defaults of the release that they are of."""
    improved = any(name.endswith(".op.weight") for name in tensors)
    affine = tensors.get("input_blocks.1.0.emb_layers.1.bias")
    norm = tensors.get("input_blocks.1.0.out_layers.0.bias")
    last = tensors.get("out.2.bias")
    return {
        "resblock_updown": not improved,
        "use_scale_shift_norm": affine is None or norm is None or len(affine) == 2 * len(norm),
        "learn_sigma": last is None or len(last) == 2 * tensors[FIRST_KEY].shape[1],
        "class_cond": "label_emb.weight" in tensors,
        "attention_resolutions": [16, 8] if improved else [32, 16, 8],
        **({"num_heads": 4} if improved else {"num_head_channels": 64}),
    }


def _check_config(name: str, config: Mapping[str, Any]) -> None:
    if missing := [argument for argument in REQUIRED if argument not in config]:
        raise UnsupportedCheckpoint(f"{name}: --config lacks {', '.join(missing)}")
    validate_config(config, name, KNOWN_CONFIG)
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
