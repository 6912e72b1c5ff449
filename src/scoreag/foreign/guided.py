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

from scoreag.foreign.arguments import check
from scoreag.foreign.found import Found
from scoreag.foreign.guided_places import places, shaped
from scoreag.foreign.guided_published import LARGE, PUBLISHED, SMALL
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
    "num_heads": 0, "num_head_channels": -1,
}  # fmt: skip
FIXED = {"num_heads_upsample": -1, "predict_xstart": False}  # in all releases
TRAINING = (  # arguments that mean nothing when the weights are used
    "dropout", "sigma_small", "use_kl", "rescale_learned_sigmas", "use_checkpoint", "use_fp16",
    "timestep_respacing",
)  # fmt: skip
KNOWN = {**SMALL, **LARGE, **DEFAULT, **FIXED, "image_size": 64, "channel_mult": [1, 2, 3, 4]}
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
    told = complete(path.name, asked, _seen(given))
    colours, side = given[FIRST].shape[1], told["image_size"]
    if colours not in (1, 3):
        raise Refused(f"{path.name} takes {colours} channels: an upsampler, which is not read")
    labels = given.get("label_emb.weight")
    classes = len(labels) if told["class_cond"] and labels is not None else 0
    options = options_of(told, colours, classes)
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


def options_of(told: Mapping[str, Any], colours: int, classes: int) -> dict[str, Any]:
    """The arguments of ``adm_unet`` for all arguments of the scripts."""
    heads = {"heads": told["num_heads"]} if told["num_heads"] else {}
    return {
        "image_shape": [colours, told["image_size"], told["image_size"]],
        "classes": classes,
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
    return 1000 / told["diffusion_steps"] if told.get("rescale_timesteps") else 1.0


def complete(name: str, asked: Mapping[str, Any], seen: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments: those asked for, and the others as the tensors or the scripts have them.

    Args:
        name: of the file, for what is said of it.
        seen: what the tensors tell.

    Raises:
        Refused: one is missing, not known, or has a value that is not.
    """
    told = {**DEFAULT, **seen, **asked}
    told = {key: value for key, value in told.items() if key not in TRAINING}
    for argument in ("attention_resolutions", "channel_mult"):
        if isinstance(text := told.get(argument), str):  # the scripts write lists as "32,16,8"
            told[argument] = [int(one) for one in re.findall(r"\d+", text)]
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
    if missing := [argument for argument in NEEDED if argument not in told]:
        raise Refused(f"{name}: --arguments lacks {', '.join(missing)}")
    check(told, KNOWN, name)
    for argument, value in FIXED.items():
        if told.get(argument, value) != value:
            raise Refused(f"{name}: {argument} is {told[argument]}, and {value} is known here")
    if (word := told["noise_schedule"]) not in FAMILIES:
        raise Refused(f"{name}: a noise_schedule {word!r}; {hint(word, list(FAMILIES))}")
    if told["diffusion_steps"] != 1000 and "rescale_timesteps" not in told:
        raise Refused(f"{name}: of other diffusion_steps than 1000, say rescale_timesteps, too")
