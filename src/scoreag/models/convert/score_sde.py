"""Checkpoints of score_sde_pytorch (Song et al. 2021; .pth): DDPM++ and NCSN++ with their averages.

The average of the weights is a list without names: its tensors come in the order of the parameters.
The configuration of the training is in no file; it is told, or is the name of the folder.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoreag.io.safe_unpickler import UnsupportedCheckpoint
from scoreag.models.convert.key_mapping import (
    KeyMapEntry,
    LayerTable,
    apply_key_map,
    expand_modules,
)
from scoreag.models.convert.spec import CheckpointSpec, validate_config
from scoreag.registry import did_you_mean

LAYERS: LayerTable = {
    "block": {"norm0": "GroupNorm_0", "conv0": "Conv_0", "affine": "Dense_0",
              "norm1": "GroupNorm_1", "conv1": "Conv_1", "skip": "Conv_2"},
    "attention": {"norm2": "GroupNorm_0", "qkv": ("NIN_0", "NIN_1", "NIN_2"), "proj": "NIN_3"},
    "residual": {"": "Conv2d_0"},
    "skip": {"": "Conv_0"},
}  # fmt: skip


def key_map(config: Mapping[str, Any]) -> Iterator[KeyMapEntry]:
    """All tensors of a network of this configuration; modules are numbered in their order."""
    modules = [
        (kind, ours, f"all_modules.{number}")
        for number, (kind, ours) in enumerate(_iter_modules(config))
    ]
    if modules[0][0] == "fourier":
        yield f"{modules[0][1]}.freqs", (f"{modules.pop(0)[2]}.W",)
    yield from expand_modules(modules, LAYERS)


def convert_tensor(ours: str, parts: Sequence[Tensor]) -> Tensor:
    """Attention's matrices are transposed, and rows of q, k and v come side by side here."""
    if ".qkv.weight" in ours or ".proj.weight" in ours:
        parts = [part.T[..., None, None] for part in parts]
    return torch.stack(list(parts), 1).flatten(0, 1) if ".qkv." in ours else parts[0]


def _iter_modules(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The kind of each of their modules, and our layer."""
    sides = [config["image_size"] >> level for level in range(len(config["ch_mult"]))]
    if config["embedding_type"] == "fourier":
        yield "fourier", "map_noise"
    yield from (("", "map_layer0"), ("", "map_layer1"))
    yield from _encoder_modules(config, sides)
    last = f"dec.{sides[-1]}x{sides[-1]}_in"
    yield from (("block", f"{last}0"), ("attention", f"{last}0"), ("block", f"{last}1"))
    yield from _decoder_modules(config, sides)
    if config["progressive"] == "none":
        at = f"dec.{sides[0]}x{sides[0]}_aux"
        yield from (("", f"{at}_norm"), ("", f"{at}_conv"))


def _encoder_modules(config: Mapping[str, Any], sides: Sequence[int]) -> Iterator[tuple[str, str]]:
    auxiliary = {"residual": "residual", "input_skip": "skip"}.get(config["progressive_input"])
    yield "", f"enc.{sides[0]}x{sides[0]}_conv"
    for side in sides:
        at = f"enc.{side}x{side}"
        if side != sides[0]:
            yield "block", f"{at}_down"
            if auxiliary:
                yield auxiliary, f"{at}_aux_{auxiliary}"
        for i in range(config["num_res_blocks"]):
            yield "block", f"{at}_block{i}"
            if side in config["attn_resolutions"]:
                yield "attention", f"{at}_block{i}"


def _decoder_modules(config: Mapping[str, Any], sides: Sequence[int]) -> Iterator[tuple[str, str]]:
    for side in reversed(sides):
        at, many = f"dec.{side}x{side}", config["num_res_blocks"] + 1
        yield from (("block", f"{at}_block{i}") for i in range(many))
        if side in config["attn_resolutions"]:
            yield "attention", f"{at}_block{many - 1}"
        if config["progressive"] == "output_skip":
            yield from (("", f"{at}_aux_norm"), ("", f"{at}_aux_conv"))
        if side != sides[0]:
            yield "block", f"dec.{2 * side}x{2 * side}_up"


FIRST_KEY = "all_modules.0."
UNTRAINED_KEYS = ("sigmas", "all_modules.0.W")  # a buffer, and frequencies that were not trained
DDPMPP: dict[str, Any] = {
    "sde": "vpsde", "continuous": True, "image_size": 32, "nf": 128, "ch_mult": [1, 2, 2, 2],
    "num_res_blocks": 4, "attn_resolutions": [16], "fir": False, "embedding_type": "positional",
    "progressive": "none", "progressive_input": "none",
}  # fmt: skip
NCSNPP = DDPMPP | {
    "sde": "vesde", "fir": True, "embedding_type": "fourier", "progressive_input": "residual"
}  # fmt: skip
NCSNPP_256 = NCSNPP | {
    "image_size": 256, "ch_mult": [1, 1, 2, 2, 2, 2, 2], "num_res_blocks": 2,
    "progressive": "output_skip", "progressive_input": "input_skip",
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {  # github.com/yang-song/score_sde_pytorch, configs/
    "vp/cifar10_ddpmpp": DDPMPP | {"continuous": False},
    "vp/cifar10_ddpmpp_continuous": DDPMPP,
    "vp/cifar10_ddpmpp_deep_continuous": DDPMPP | {"num_res_blocks": 8},
    "ve/cifar10_ncsnpp": NCSNPP | {"continuous": False, "embedding_type": "positional"},
    "ve/cifar10_ncsnpp_continuous": NCSNPP,
    "ve/cifar10_ncsnpp_deep_continuous": NCSNPP | {"num_res_blocks": 8},
    "ve/bedroom_ncsnpp_continuous": NCSNPP_256,
    "ve/church_ncsnpp_continuous": NCSNPP_256,
    "ve/ffhq_256_ncsnpp_continuous": NCSNPP_256,
    "ve/celebahq_256_ncsnpp_continuous": NCSNPP_256,
}
FAMILIES = {
    ("vpsde", True): "vp", ("vpsde", False): "ddpm", ("vesde", True): "ncsn",
    ("vesde", False): "smld",
}  # fmt: skip
PROGRESSIVE_TYPES = {
    "none": "standard",
    "residual": "residual",
    "input_skip": "skip",
    "output_skip": "skip",
}


def is_training_checkpoint(tree: Any) -> bool:
    """Whether this is what the training writes: the weights, their average, the optimizer."""
    if not isinstance(tree, dict) or not isinstance(tree.get("model"), dict) or "ema" not in tree:
        return False
    return any(str(name).removeprefix("module.").startswith(FIRST_KEY) for name in tree["model"])


def open_state_dict(
    tree: Mapping[str, Any], path: Path, config: Mapping[str, Any] | None = None
) -> CheckpointSpec:
    """The network of a checkpoint, its weights averaged where there is an average.

    Args:
        config: entries of its configuration, or ``{"config": "vp/cifar10_ddpmpp_continuous"}``.

    Raises:
        ValueError: nothing says what the network is, or the tensors are not those of such a one.
    """
    whole = is_training_checkpoint(tree)
    weights = {n.removeprefix("module."): t for n, t in (tree["model"] if whole else tree).items()}
    given = _load_ema(weights, tree["ema"], path.name) if whole else weights
    name, told = _resolve_config(path, config, given)
    side, channels = told["image_size"], given.get(_first_conv_key(told))
    options = network_options(
        told, 3 if channels is None or channels.ndim != 4 else channels.shape[1]
    )
    given = {n: t for n, t in given.items() if n != "sigmas"}
    return CheckpointSpec(
        format=f"score-SDE, {name}",
        family=FAMILIES[told["sde"], told["continuous"]],
        network="song_unet",
        options=options,
        tensors=apply_key_map(
            "song_unet", options, key_map(told), given, path.name, convert_tensor
        ),
        image_shape=(options["image_shape"][0], side, side),
        classes=0,
        license="Apache-2.0 (Song et al.)" if name in CONFIGS else "not told by the file",
        unused_keys=tuple(key for key in tree if key not in ("ema",)) if whole else (),
    )


def _load_ema(weights: Mapping[str, Tensor], ema: Any, file: str) -> dict[str, Tensor]:
    """The averages under the names of the parameters, whose order they have."""
    shadow = ema.get("shadow_params") if isinstance(ema, dict) else None
    if not isinstance(shadow, list) or not all(isinstance(t, Tensor) for t in shadow):
        raise UnsupportedCheckpoint(f"{file}: its 'ema' has no list of tensors 'shadow_params'")
    names = [name for name in weights if name not in UNTRAINED_KEYS]
    if len(names) != len(shadow):
        lone = names[len(shadow)] if len(names) > len(shadow) else f"number {len(names)}"
        raise UnsupportedCheckpoint(
            f"{file}: its average has {len(shadow)} tensors for {len(names)} parameters; "
            f"the first without a partner is {lone!r}"
        )
    for name, tensor in zip(names, shadow, strict=True):
        if tensor.shape != weights[name].shape:
            raise UnsupportedCheckpoint(
                f"{file}: the average of {name!r} has shape {tuple(tensor.shape)}, and the "
                f"tensor itself {tuple(weights[name].shape)}"
            )
    return {**weights, **dict(zip(names, shadow, strict=True))}


def _resolve_config(
    path: Path, overrides: Mapping[str, Any] | None, tensors: Mapping[str, Tensor]
) -> tuple[str, dict[str, Any]]:
    """The name of the configuration, and its entries."""
    asked = dict(overrides or {})
    name = asked.pop("config", "") or _guess_config(path, tensors, bool(asked))
    if name not in CONFIGS:
        raise UnsupportedCheckpoint(
            f"{path.name}: no configuration {name!r}; {did_you_mean(str(name), list(CONFIGS))}"
        )
    told = {**CONFIGS[name], **asked}
    validate_config(asked, DDPMPP, path.name)
    for entry, known in (
        ("progressive", ("none", "output_skip")),
        ("progressive_input", PROGRESSIVE_TYPES),
    ):
        if told[entry] not in known:
            raise UnsupportedCheckpoint(
                f"{path.name}: {entry} is {told[entry]!r}; {did_you_mean(told[entry], [*known])}"
            )
    if (told["sde"], told["continuous"]) not in FAMILIES:
        raise UnsupportedCheckpoint(
            f"{path.name}: sde is {told['sde']!r}; read are vpsde and vesde"
        )
    embedding = "fourier" if (told["sde"], told["continuous"]) == ("vesde", True) else "positional"
    if told["embedding_type"] != embedding:  # its network would be told another time
        raise UnsupportedCheckpoint(
            f"{path.name}: embedding_type is {told['embedding_type']!r}; of {told['sde']} with "
            f"continuous {str(told['continuous']).lower()}, read is {embedding!r}"
        )
    return (f"{name} with other arguments" if asked else name), told


def _guess_config(path: Path, tensors: Mapping[str, Tensor], has_overrides: bool) -> str:
    """The configuration that the folder is named after, or the only one with such tensors."""
    parts = path.resolve().parent.parts
    for name in CONFIGS:
        if tuple(name.split("/")) == parts[-2:] or name.split("/")[1] == parts[-1]:
            return name
    fitting = [name for name in CONFIGS if _matches_config(tensors, CONFIGS[name])]
    if len(fitting) == 1:
        return fitting[0]
    raise UnsupportedCheckpoint(
        f"{path.name} does not say how it was trained; write --config as JSON, e.g. "
        f'{{"config": "{(fitting or list(CONFIGS))[0]}"}}'
        + (f"; its tensors are those of {', '.join(fitting)}" if fitting else "")
    )


def _matches_config(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> bool:
    optional = (".Conv_2.weight", ".Conv_2.bias")  # where widths differ
    wanted = {name for _, theirs in key_map(config) for name in theirs}
    return all(n in wanted for n in tensors if n != "sigmas") and all(
        name in tensors for name in wanted if not name.endswith(optional)
    )


def network_options(config: Mapping[str, Any], channels: int = 3) -> dict[str, Any]:
    """The arguments of ``song_unet`` for a configuration."""
    fourier = config["embedding_type"] == "fourier"
    return {
        "image_shape": [channels, config["image_size"], config["image_size"]],
        "channels": config["nf"],
        "multipliers": config["ch_mult"],
        "blocks": config["num_res_blocks"],
        "attention_at": config["attn_resolutions"],
        "time": config["embedding_type"],
        "noise_width": 2 if fourier else 1,
        "encoder": PROGRESSIVE_TYPES[config["progressive_input"]],
        "decoder": PROGRESSIVE_TYPES[config["progressive"]],
        "resample_filter": [1, 3, 3, 1] if config["fir"] else [1, 1],
    }


def _first_conv_key(config: Mapping[str, Any]) -> str:
    """Behind what tells the time."""
    return f"all_modules.{3 if config['embedding_type'] == 'fourier' else 2}.weight"
