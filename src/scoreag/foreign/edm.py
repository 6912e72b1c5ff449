"""The pickles of the EDM release (Karras et al. 2022), which carry their source code along.

The code is not looked at: the class by its name and the arguments that the file remembers say what
the network is, and the tensors are taken by their place in the tree of modules.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from scoreag.foreign.arguments import check_sizes
from scoreag.foreign.found import Found
from scoreag.foreign.inert import Refused, Stand, objects, plain, read
from scoreag.load import cut, hint, shown
from scoreag.saved import check_room

PERSISTENT = "torch_utils.persistence._reconstruct_persistent_obj"
FAMILIES = {"EDMPrecond": "edm", "VPPrecond": "vp", "VEPrecond": "ncsn", "iDDPMPrecond": "iddpm"}
DEFAULT = {  # the network of a class whose arguments do not name one
    "EDMPrecond": "DhariwalUNet", "iDDPMPrecond": "DhariwalUNet", "VPPrecond": "SongUNet",
    "VEPrecond": "SongUNet",
}  # fmt: skip
BOTH = {
    "model_channels": "channels", "channel_mult": "multipliers", "num_blocks": "blocks",
    "attn_resolutions": "attention_at", "augment_dim": "augment", "channel_mult_emb": "widening",
}  # fmt: skip
SONG = {
    "embedding_type": "time", "channel_mult_noise": "noise_width", "encoder_type": "encoder",
    "decoder_type": "decoder", "resample_filter": "taps",
}  # fmt: skip
NETWORKS: dict[str, tuple[str, dict[str, str]]] = {
    "SongUNet": ("song_unet", BOTH | SONG), "DhariwalUNet": ("adm_unet", BOTH)
}  # fmt: skip
FIXED = {  # arguments whose value is part of a family here
    "beta_d": 19.9, "beta_min": 0.1, "M": 1000, "C_1": 0.001, "C_2": 0.008
}  # fmt: skip
TRAINING = (  # arguments that mean nothing when the weights are used
    "dropout", "label_dropout", "use_fp16", "epsilon_t", "sigma_min", "sigma_max"
)  # fmt: skip


def open_pickle(path: Path) -> Found:
    """The network under ``ema`` of a pickle.

    Raises:
        ValueError: it is no such pickle, or its network is another one than those released.
    """
    try:
        return _opened(path, read(path))
    except (AttributeError, KeyError, TypeError, IndexError, RuntimeError) as error:
        told = cut(f"{type(error).__name__} {error}", 200)
        raise Refused(f"{path} is no pickle of EDM: {told}") from error


def _opened(path: Path, tree: Any) -> Found:
    model = tree.get("ema") if isinstance(tree, dict) else None
    if not isinstance(model, Stand) or model.name != PERSISTENT:
        raise Refused(f"{path} is no pickle of EDM: it has no network called 'ema'")
    name, state = _class(model)
    if name not in FAMILIES:
        raise Refused(f"{path} holds a {shown(name)}; {hint(name, list(FAMILIES))}")
    given = plain(state.get("_init_kwargs") or {})
    tensors = dict(_tensors(model))
    check_room(tensors.values(), path.stat().st_size)
    return found(name, given, tensors, str(path), _besides(tree))


def found(
    name: str,
    arguments: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    where: str,
    left: tuple[str, ...] = (),
) -> Found:
    """The checkpoint of a class of the release, of its arguments and its tensors by released name.

    Raises:
        ValueError: an argument is not known, or has a value that is not.
    """
    given = dict(arguments)
    check_sizes(given, where)
    kind = given.pop("model_type", DEFAULT[name])
    if not isinstance(kind, str) or kind not in NETWORKS:
        raise Refused(f"{where}: a network {shown(kind)}; {hint(str(kind), list(NETWORKS))}")
    side, colours = (_needed(given, one, where) for one in ("img_resolution", "img_channels"))
    classes, sigma_data = given.pop("label_dim", 0), given.pop("sigma_data", 0.5)
    _check_numbers(where, side, colours, classes, sigma_data)
    network, names = NETWORKS[kind]
    options: dict[str, Any] = {"image_shape": [colours, side, side], "classes": classes}
    for argument, value in given.items():
        if argument in names:
            options[names[argument]] = value
        elif argument in FIXED and value != FIXED[argument]:
            fixed = FIXED[argument]
            raise Refused(f"{where}: {argument} is {shown(value)}, and {fixed} is known here")
        elif argument not in FIXED and argument not in TRAINING:
            raise Refused(f"{where}: an argument {shown(argument)}; {hint(argument, list(names))}")
    if name == "iDDPMPrecond":
        options["variance"] = True
    return Found(
        format=f"EDM, {name}",
        family=FAMILIES[name],
        network=network,
        options=options,
        tensors={n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")},
        image_shape=(colours, side, side),
        classes=classes,
        sigma_data=sigma_data,
        left=(*left, *(n for n in tensors if not n.startswith("model."))),
    )


def _check_numbers(where: str, side: Any, colours: Any, classes: Any, sigma_data: Any) -> None:
    for argument, value, least in (
        ("img_resolution", side, 1),
        ("img_channels", colours, 1),
        ("label_dim", classes, 0),
    ):
        if type(value) is not int or value < least:
            raise Refused(f"{where}: {argument} is {shown(value)}; expected a number")
    if type(sigma_data) not in (int, float) or not sigma_data > 0:
        raise Refused(f"{where}: sigma_data is {shown(sigma_data)}; expected a number above 0")


def _needed(given: dict[str, Any], argument: str, where: str) -> Any:
    if argument not in given:
        raise Refused(f"{where}: its arguments lack {argument!r}")
    return given.pop(argument)


def _class(model: Stand) -> tuple[str, dict[str, Any]]:
    """The name and the state of a persistent object."""
    (meta,) = model.arguments
    meta = meta if isinstance(meta, dict) else {**(meta.state or {}), **meta.items}
    state = meta["state"]
    name = meta["class_name"]
    return name if isinstance(name, str) else type(name).__name__, state if isinstance(
        state, dict
    ) else state.items


def _tensors(model: Stand) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by their place in the tree of modules.

    Raises:
        Refused: a module is in two places, so that the tree could have no end.
    """
    waiting, seen = [("", model)], set[int]()
    while waiting:
        above, one = waiting.pop()
        if id(one) in seen:
            raise Refused(f"its module {above!r} is in two places")
        seen.add(id(one))
        state = _class(one)[1] if one.name == PERSISTENT else one.state or {}
        for kind in ("_parameters", "_buffers"):
            for name, tensor in (state.get(kind) or {}).items():
                if isinstance(tensor, Tensor):
                    yield above + name, tensor
        for name, inner in (state.get("_modules") or {}).items():
            if isinstance(inner, Stand):
                waiting.append((f"{above}{name}.", inner))


def _besides(tree: Mapping[str, Any]) -> tuple[str, ...]:
    others = [name for name in tree if name != "ema"]
    code = sum(one.name == PERSISTENT for one in objects(tree))
    return (*others, f"the source code of {code} objects, which was not looked at")
