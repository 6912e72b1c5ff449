"""Checkpoints of score_sde_pytorch (Song et al. 2021; .pth): DDPM++ and NCSN++ with their averages.

The average of the weights is a list without names: its tensors come in the order of the parameters.
The configuration of the training is not in the file: it is an argument, the name of the folder, or
the only one with such tensors.
"""

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
    expand_modules,
    map_checkpoint,
    unet_modules,
    validate_config,
)
from scoreag.registry import did_you_mean

FIRST_KEY = "all_modules.0."
UNTRAINED_KEYS = ("sigmas", "all_modules.0.W")  # a buffer, and frequencies that were not trained
LAYERS: LayerTable = {
    "block": {"norm0": "GroupNorm_0", "conv0": "Conv_0", "affine": "Dense_0",
              "norm1": "GroupNorm_1", "conv1": "Conv_1", "skip": "Conv_2"},
    "attention": {"norm2": "GroupNorm_0", "qkv": ("NIN_0", "NIN_1", "NIN_2"), "proj": "NIN_3"},
    "residual": {"": "Conv2d_0"},
    "skip": {"": "Conv_0"},
}  # fmt: skip
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
    "none": "standard", "residual": "residual", "input_skip": "skip", "output_skip": "skip"
}  # fmt: skip


def is_training_checkpoint(tree: Any) -> bool:
    """Whether this is what the training writes: the weights, their average, the optimizer."""
    if not isinstance(tree, dict) or not isinstance(tree.get("model"), dict) or "ema" not in tree:
        return False
    return any(str(name).removeprefix("module.").startswith(FIRST_KEY) for name in tree["model"])


def open_state_dict(
    tree: Mapping[str, Any], path: Path, config: Mapping[str, Any] | None = None
) -> CheckpointSpec:
    """The network of a checkpoint, with the averaged weights where there are some.

    Args:
        config: entries of its configuration, or ``{"config": "vp/cifar10_ddpmpp_continuous"}``.
    """
    is_training = is_training_checkpoint(tree)
    named = tree["model"] if is_training else tree
    weights = {name.removeprefix("module."): tensor for name, tensor in named.items()}
    if is_training:
        weights = _load_ema(weights, tree["ema"], path.name)
    name, full = _resolve_config(path, config, weights)
    fourier = full["embedding_type"] == "fourier"
    stem = weights.get(f"all_modules.{3 if fourier else 2}.weight")
    colors = 3 if stem is None or stem.ndim != 4 else stem.shape[1]
    weights.pop("sigmas", None)
    return map_checkpoint(
        "song_unet", network_options(full, colors), key_map(full), weights, path.name,
        _convert_tensor,
        format=f"score-SDE, {name}",
        family=FAMILIES[full["sde"], full["continuous"]],
        license="Apache-2.0 (Song et al.)" if name in CONFIGS else UNKNOWN_LICENSE,
        unused_keys=tuple(key for key in tree if key != "ema") if is_training else (),
    )  # fmt: skip


def network_options(config: Mapping[str, Any], channels: int = 3) -> dict[str, Any]:
    """The arguments of ``song_unet`` for a configuration."""
    return {
        "image_shape": [channels, config["image_size"], config["image_size"]],
        "channels": config["nf"],
        "multipliers": config["ch_mult"],
        "blocks": config["num_res_blocks"],
        "attention_at": config["attn_resolutions"],
        "time": config["embedding_type"],
        "noise_width": 2 if config["embedding_type"] == "fourier" else 1,
        "encoder": PROGRESSIVE_TYPES[config["progressive_input"]],
        "decoder": PROGRESSIVE_TYPES[config["progressive"]],
        "resample_filter": [1, 3, 3, 1] if config["fir"] else [1, 1],
    }


def key_map(config: Mapping[str, Any]) -> Iterator[KeyMapEntry]:
    """All tensors of a network of this configuration; modules are numbered in their order."""
    modules = [
        (kind, ours, f"all_modules.{number}")
        for number, (kind, ours) in enumerate(_iter_modules(config))
    ]
    if modules[0][0] == "fourier":
        yield "map_noise.freqs", ("all_modules.0.W",)
        modules = modules[1:]
    yield from expand_modules(modules, LAYERS)


def _iter_modules(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The kind of each of their modules, and our name for it."""
    sides = [config["image_size"] >> level for level in range(len(config["ch_mult"]))]
    auxiliary = {"residual": "residual", "input_skip": "skip"}.get(config["progressive_input"])
    if config["embedding_type"] == "fourier":
        yield "fourier", "map_noise"
    yield from (("", "map_layer0"), ("", "map_layer1"))
    for role, ours, numbers in unet_modules(sides, config["num_res_blocks"]):
        side, i = numbers["side"], numbers["i"]
        yield "" if role == "stem" else "block", ours
        ends_level = role == "decoder" and i == config["num_res_blocks"]
        attended = side in config["attn_resolutions"] and (role == "encoder" or ends_level)
        if attended or (role == "middle" and i == 0):
            yield "attention", ours
        if role == "down" and auxiliary:
            yield auxiliary, f"enc.{side}x{side}_aux_{auxiliary}"
        if ends_level and config["progressive"] == "output_skip":
            yield from _output_modules(side)
    if config["progressive"] == "none":
        yield from _output_modules(sides[0])


def _output_modules(side: int) -> Iterator[tuple[str, str]]:
    yield from (("", f"dec.{side}x{side}_aux_norm"), ("", f"dec.{side}x{side}_aux_conv"))


def _convert_tensor(ours: str, tensor: Tensor) -> Tensor:
    """Attention's matrices are transposed there, and 1x1 convolutions here."""
    is_matrix = ".qkv.weight" in ours or ".proj.weight" in ours
    return tensor.T[..., None, None] if is_matrix else tensor


def _load_ema(weights: Mapping[str, Tensor], ema: Any, file: str) -> dict[str, Tensor]:
    """The averages under the names of the parameters, in whose order they come."""
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
    averages = dict(zip(names, shadow, strict=True))
    for name, tensor in averages.items():
        if tensor.shape != weights[name].shape:
            raise UnsupportedCheckpoint(
                f"{file}: the average of {name!r} has shape {tuple(tensor.shape)}, and the "
                f"tensor itself {tuple(weights[name].shape)}"
            )
    return {**weights, **averages}


def _resolve_config(
    path: Path, overrides: Mapping[str, Any] | None, tensors: Mapping[str, Tensor]
) -> tuple[str, dict[str, Any]]:
    """The name of the configuration, and its entries."""
    changes = dict(overrides or {})
    name = changes.pop("config", "") or _guess_config(path, tensors)
    if name not in CONFIGS:
        raise UnsupportedCheckpoint(
            f"{path.name}: no configuration {name!r}; {did_you_mean(str(name), list(CONFIGS))}"
        )
    full = {**CONFIGS[name], **changes}
    validate_config(changes, path.name, DDPMPP)
    for entry, known in (
        ("progressive", ("none", "output_skip")),
        ("progressive_input", PROGRESSIVE_TYPES),
    ):
        if full[entry] not in known:
            raise UnsupportedCheckpoint(
                f"{path.name}: {entry} is {full[entry]!r}; {did_you_mean(full[entry], [*known])}"
            )
    kind = full["sde"], full["continuous"]
    if kind not in FAMILIES:
        raise UnsupportedCheckpoint(
            f"{path.name}: sde is {full['sde']!r}; read are vpsde and vesde"
        )
    embedding = "fourier" if kind == ("vesde", True) else "positional"
    if full["embedding_type"] != embedding:  # the network takes another time
        raise UnsupportedCheckpoint(
            f"{path.name}: embedding_type is {full['embedding_type']!r}; of {full['sde']} with "
            f"continuous {str(full['continuous']).lower()}, read is {embedding!r}"
        )
    return (f"{name} with other arguments" if changes else name), full


def _guess_config(path: Path, tensors: Mapping[str, Tensor]) -> str:
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
