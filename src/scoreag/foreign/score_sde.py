"""Checkpoints of score_sde_pytorch (Song et al. 2021; .pth): DDPM++ and NCSN++ with their averages.

The average of the weights is a list without names: its tensors come in the order of the parameters.
The configuration of the training is in no file; it is told, or is the name of the folder.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from scoreag.foreign.arguments import check
from scoreag.foreign.found import Found
from scoreag.foreign.inert import Refused
from scoreag.foreign.placed import placed
from scoreag.foreign.score_sde_places import made, places
from scoreag.load import hint

FIRST = "all_modules.0."
FROZEN = ("sigmas", "all_modules.0.W")  # a buffer, and frequencies that were not trained
DDPMPP: dict[str, Any] = {
    "sde": "vpsde", "continuous": True, "image_size": 32, "nf": 128, "ch_mult": [1, 2, 2, 2],
    "num_res_blocks": 4, "attn_resolutions": [16], "fir": False, "embedding_type": "positional",
    "progressive": "none", "progressive_input": "none",
}  # fmt: skip
NCSNPP = DDPMPP | {
    "sde": "vesde", "fir": True, "embedding_type": "fourier", "progressive_input": "residual"
}  # fmt: skip
LARGE = NCSNPP | {
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
    "ve/bedroom_ncsnpp_continuous": LARGE,
    "ve/church_ncsnpp_continuous": LARGE,
    "ve/ffhq_256_ncsnpp_continuous": LARGE,
    "ve/celebahq_256_ncsnpp_continuous": LARGE,
}
FAMILIES = {
    ("vpsde", True): "vp", ("vpsde", False): "ddpm", ("vesde", True): "ncsn",
    ("vesde", False): "smld",
}  # fmt: skip
WAYS = {"none": "standard", "residual": "residual", "input_skip": "skip", "output_skip": "skip"}


def is_whole(tree: Any) -> bool:
    """Whether this is what the training writes: the weights, their average, the optimizer."""
    if not isinstance(tree, dict) or not isinstance(tree.get("model"), dict) or "ema" not in tree:
        return False
    return any(str(name).removeprefix("module.").startswith(FIRST) for name in tree["model"])


def opened(
    tree: Mapping[str, Any], path: Path, arguments: Mapping[str, Any] | None = None
) -> Found:
    """The network of a checkpoint, its weights averaged where there is an average.

    Args:
        arguments: entries of its configuration, or ``{"config": "vp/cifar10_ddpmpp_continuous"}``.

    Raises:
        ValueError: nothing says what the network is, or the tensors are not those of such a one.
    """
    whole = is_whole(tree)
    weights = {n.removeprefix("module."): t for n, t in (tree["model"] if whole else tree).items()}
    given = _averaged(weights, tree["ema"], path.name) if whole else weights
    name, told = _told(path, arguments, given)
    side, channels = told["image_size"], given.get(_convolution(told))
    options = options_of(told, 3 if channels is None or channels.ndim != 4 else channels.shape[1])
    given = {n: t for n, t in given.items() if n != "sigmas"}
    return Found(
        format=f"score-SDE, {name}",
        family=FAMILIES[told["sde"], told["continuous"]],
        network="song_unet",
        options=options,
        tensors=placed("song_unet", options, places(told), given, path.name, made),
        image_shape=(options["image_shape"][0], side, side),
        classes=0,
        licence="Apache-2.0 (Song et al.)" if name in CONFIGS else "not told by the file",
        left=tuple(key for key in tree if key not in ("ema",)) if whole else (),
    )


def _averaged(weights: Mapping[str, Tensor], ema: Any, file: str) -> dict[str, Tensor]:
    """The averages under the names of the parameters, whose order they have."""
    shadow = ema.get("shadow_params") if isinstance(ema, dict) else None
    if not isinstance(shadow, list) or not all(isinstance(t, Tensor) for t in shadow):
        raise Refused(f"{file}: its 'ema' has no list of tensors 'shadow_params'")
    names = [name for name in weights if name not in FROZEN]
    if len(names) != len(shadow):
        lone = names[len(shadow)] if len(names) > len(shadow) else f"number {len(names)}"
        raise Refused(
            f"{file}: its average has {len(shadow)} tensors for {len(names)} parameters; "
            f"the first without a partner is {lone!r}"
        )
    for name, tensor in zip(names, shadow, strict=True):
        if tensor.shape != weights[name].shape:
            raise Refused(
                f"{file}: the average of {name!r} has shape {tuple(tensor.shape)}, and the "
                f"tensor itself {tuple(weights[name].shape)}"
            )
    return {**weights, **dict(zip(names, shadow, strict=True))}


def _told(
    path: Path, arguments: Mapping[str, Any] | None, given: Mapping[str, Tensor]
) -> tuple[str, dict[str, Any]]:
    """The name of the configuration, and its entries."""
    asked = dict(arguments or {})
    name = asked.pop("config", "") or _by_place(path, given, bool(asked))
    if name not in CONFIGS:
        raise Refused(f"{path.name}: no configuration {name!r}; {hint(str(name), list(CONFIGS))}")
    told = {**CONFIGS[name], **asked}
    check(asked, DDPMPP, path.name)
    for entry, known in (("progressive", ("none", "output_skip")), ("progressive_input", WAYS)):
        if told[entry] not in known:
            raise Refused(f"{path.name}: {entry} is {told[entry]!r}; {hint(told[entry], [*known])}")
    if (told["sde"], told["continuous"]) not in FAMILIES:
        raise Refused(f"{path.name}: sde is {told['sde']!r}; read are vpsde and vesde")
    embedding = "fourier" if (told["sde"], told["continuous"]) == ("vesde", True) else "positional"
    if told["embedding_type"] != embedding:  # its network would be told another time
        raise Refused(
            f"{path.name}: embedding_type is {told['embedding_type']!r}; of {told['sde']} with "
            f"continuous {str(told['continuous']).lower()}, read is {embedding!r}"
        )
    return (f"{name} with other arguments" if asked else name), told


def _by_place(path: Path, given: Mapping[str, Tensor], asked: bool) -> str:
    """The configuration that the folder is named after, or the only one with such tensors."""
    parts = path.resolve().parent.parts
    for name in CONFIGS:
        if tuple(name.split("/")) == parts[-2:] or name.split("/")[1] == parts[-1]:
            return name
    fitting = [name for name in CONFIGS if _fits(given, CONFIGS[name])]
    if len(fitting) == 1:
        return fitting[0]
    raise Refused(
        f"{path.name} does not say how it was trained; write --arguments as JSON, e.g. "
        f'{{"config": "{(fitting or list(CONFIGS))[0]}"}}'
        + (f"; its tensors are those of {', '.join(fitting)}" if fitting else "")
    )


def _fits(given: Mapping[str, Tensor], told: Mapping[str, Any]) -> bool:
    optional = (".Conv_2.weight", ".Conv_2.bias")  # where widths differ
    wanted = {name for _, theirs in places(told) for name in theirs}
    return all(n in wanted for n in given if n != "sigmas") and all(
        name in given for name in wanted if not name.endswith(optional)
    )


def options_of(told: Mapping[str, Any], colours: int = 3) -> dict[str, Any]:
    """The arguments of ``song_unet`` for a configuration."""
    fourier = told["embedding_type"] == "fourier"
    return {
        "image_shape": [colours, told["image_size"], told["image_size"]],
        "channels": told["nf"],
        "multipliers": told["ch_mult"],
        "blocks": told["num_res_blocks"],
        "attention_at": told["attn_resolutions"],
        "time": told["embedding_type"],
        "noise_width": 2 if fourier else 1,
        "encoder": WAYS[told["progressive_input"]],
        "decoder": WAYS[told["progressive"]],
        "taps": [1, 3, 3, 1] if told["fir"] else [1, 1],
    }


def _convolution(told: Mapping[str, Any]) -> str:
    """Behind what tells the time."""
    return f"all_modules.{3 if told['embedding_type'] == 'fourier' else 2}.weight"
