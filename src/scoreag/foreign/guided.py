"""Checkpoints of guided-diffusion (Dhariwal and Nichol 2021) and of improved-diffusion (Nichol and
Dhariwal 2021): tensors under names of their own.

The file says neither how large images are nor how many blocks a level has: its name does, for the
published ones, or the arguments that it was trained with.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from scoreag.foreign.found import Found
from scoreag.foreign.guided_places import places, shaped
from scoreag.foreign.guided_published import LARGE, PUBLISHED
from scoreag.foreign.inert import Refused
from scoreag.foreign.placed import placed
from scoreag.load import hint

FIRST = "input_blocks.0.0.weight"
MULTIPLIERS = {  # where none are told; of the scripts
    32: [1, 2, 2, 2], 64: [1, 2, 3, 4], 128: [1, 1, 2, 3, 4], 256: [1, 1, 2, 2, 4, 4]
}  # fmt: skip
NEEDED = ("image_size", "num_channels", "num_res_blocks")
DEFAULT = {
    "noise_schedule": "linear", "use_new_attention_order": False, "diffusion_steps": 1000,
    "rescale_timesteps": None, "num_heads": 0, "num_head_channels": -1,
}  # fmt: skip
FIXED = {  # arguments that have a value of their own in no release
    "num_heads_upsample": -1, "predict_xstart": False, "conv_resample": True, "num_classes": None
}  # fmt: skip
TRAINING = (  # arguments that mean nothing when the weights are used
    "dropout", "sigma_small", "use_kl", "rescale_learned_sigmas", "use_checkpoint", "use_fp16",
    "timestep_respacing",
)  # fmt: skip
FAMILIES = {"linear": "ddpm", "cosine": "ddpm_cosine"}


def opened(
    given: Mapping[str, Tensor], path: Path, arguments: Mapping[str, Any] | None = None
) -> Found:
    """The network of a state dict.

    Args:
        arguments: of the scripts; by default those of the published file of that name.

    Raises:
        ValueError: nothing says what the network is, or the tensors are not those of such a one.
    """
    asked = dict(arguments) if arguments else PUBLISHED.get(path.name)
    if asked is None:
        raise Refused(
            f"{path.name} does not say how it was trained; write --arguments as JSON, with "
            f"{', '.join(NEEDED)}; or keep the published name, e.g. {next(iter(PUBLISHED))}"
        )
    told = _told(path.name, given, asked)
    colours, side = given[FIRST].shape[1], told["image_size"]
    if colours not in (1, 3):
        raise Refused(f"{path.name} takes {colours} channels: an upsampler, which is not read")
    classes = len(given["label_emb.weight"]) if told["class_cond"] else 0
    options = {"image_shape": [colours, side, side], "classes": classes, **_options(told)}
    steps = told["diffusion_steps"]
    return Found(
        format="guided-diffusion" if told["resblock_updown"] else "improved-diffusion",
        family=FAMILIES[told["noise_schedule"]],
        levels={"steps": steps, "pace": _pace(told)} if steps != 1000 else {},
        network="adm_unet",
        options=options,
        tensors=placed(
            "adm_unet", options, places(told), given, path.name,
            lambda ours, parts: shaped(ours, parts, told),
        ),
        image_shape=(colours, side, side),
        classes=classes,
        licence="MIT (OpenAI)" if not arguments else "not told by the file",
    )  # fmt: skip


def _options(told: Mapping[str, Any]) -> dict[str, Any]:
    heads = {"heads": told["num_heads"]} if told["num_heads"] else {}
    return {
        "channels": told["num_channels"],
        "multipliers": told["channel_mult"],
        "blocks": told["num_res_blocks"],
        "attention_at": told["attention_resolutions"],
        **(heads or {"head": told["num_head_channels"]}),
        "variance": told["learn_sigma"],
        "resample": "blocks" if told["resblock_updown"] else "even",
        "scaled": told["use_scale_shift_norm"],
        "least": 1,
    }


def _pace(told: Mapping[str, Any]) -> float:
    """What the network is told of a step, for each step."""
    return 1000 / told["diffusion_steps"] if told["rescale_timesteps"] else 1.0


def _told(name: str, given: Mapping[str, Tensor], asked: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments: those asked for, and the others as the tensors or the scripts have them.

    Raises:
        Refused: one is missing, not known, or has a value that is not.
    """
    told = {**DEFAULT, **_seen(given), **asked}
    told = {key: value for key, value in told.items() if key not in TRAINING}
    for argument in ("attention_resolutions", "channel_mult"):
        if isinstance(told.get(argument), str):  # the scripts write lists as "32,16,8"
            told[argument] = [int(one) for one in re.findall(r"\d+", told[argument])]
    _check(name, told)
    told["channel_mult"] = told.get("channel_mult") or MULTIPLIERS.get(told["image_size"])
    if not told["channel_mult"]:
        raise Refused(f"{name}: --arguments lacks channel_mult")
    if "num_heads" in asked:
        told["num_head_channels"] = asked.get("num_head_channels", -1)
    if told["num_head_channels"] > 0:
        told["num_heads"] = 0
    return told


def _seen(given: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the tensors tell, and what the scripts of such a network have by default."""
    convolved = any(name.endswith(".op.weight") for name in given)
    affine = given.get("input_blocks.1.0.emb_layers.1.bias")
    norm = given.get("input_blocks.1.0.out_layers.0.bias")
    last = given.get("out.2.bias")
    both = affine is None or norm is None or len(affine) == 2 * len(norm)
    return {
        "resblock_updown": not convolved,
        "use_scale_shift_norm": both,
        "learn_sigma": last is None or len(last) == 2 * given[FIRST].shape[1],
        "class_cond": "label_emb.weight" in given,
        "attention_resolutions": [16, 8] if convolved else [32, 16, 8],
        **({"num_heads": 4} if convolved else {"num_head_channels": 64}),
    }


def _check(name: str, told: Mapping[str, Any]) -> None:
    known = [*NEEDED, "channel_mult", *LARGE, "class_cond", *DEFAULT, *FIXED]
    for argument, value in told.items():
        if argument not in known:
            raise Refused(f"{name}: an argument {argument!r}; {hint(argument, known)}")
        if argument in FIXED and value != FIXED[argument]:
            raise Refused(f"{name}: {argument} is {value}; read are networks without it")
    if missing := [argument for argument in NEEDED if argument not in told]:
        raise Refused(f"{name}: --arguments lacks {', '.join(missing)}")
    for argument in (*NEEDED, "diffusion_steps", "num_heads", "num_head_channels"):
        if not isinstance(told[argument], int):
            raise Refused(f"{name}: {argument} is {told[argument]!r}; expected a whole number")
    if (word := told["noise_schedule"]) not in FAMILIES:
        raise Refused(f"{name}: a noise_schedule {word!r}; {hint(str(word), list(FAMILIES))}")
    if told["diffusion_steps"] != 1000 and told["rescale_timesteps"] is None:
        raise Refused(f"{name}: of other diffusion_steps than 1000, say rescale_timesteps, too")
