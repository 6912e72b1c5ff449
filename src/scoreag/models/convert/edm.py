"""The pickles of the EDM release (Karras et al. 2022), which carry their source code along.

The code is not looked at: the class by its name and the arguments that the file remembers say what
the network is, and the tensors are taken by their place in the tree of modules.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from scoreag.io.safe_unpickler import (
    PickleStub,
    UnsupportedCheckpoint,
    check_byte_budget,
    iter_objects,
    read_pickle_tree,
    to_plain,
)
from scoreag.models.convert.spec import CheckpointSpec, validate_config_sizes
from scoreag.registry import did_you_mean, short_repr, truncate_text

PERSISTENT = "torch_utils.persistence._reconstruct_persistent_obj"
FAMILIES = {"EDMPrecond": "edm", "VPPrecond": "vp", "VEPrecond": "ncsn", "iDDPMPrecond": "iddpm"}
DEFAULT_NETWORKS = {  # the network of a class whose arguments do not name one
    "EDMPrecond": "DhariwalUNet", "iDDPMPrecond": "DhariwalUNet", "VPPrecond": "SongUNet",
    "VEPrecond": "SongUNet",
}  # fmt: skip
SHARED_OPTIONS = {
    "model_channels": "channels", "channel_mult": "multipliers", "num_blocks": "blocks",
    "attn_resolutions": "attention_at", "augment_dim": "augment", "channel_mult_emb": "widening",
}  # fmt: skip
SONG_OPTIONS = {
    "embedding_type": "time", "channel_mult_noise": "noise_width", "encoder_type": "encoder",
    "decoder_type": "decoder", "resample_filter": "resample_filter",
}  # fmt: skip
NETWORKS: dict[str, tuple[str, dict[str, str]]] = {
    "SongUNet": ("song_unet", SHARED_OPTIONS | SONG_OPTIONS),
    "DhariwalUNet": ("adm_unet", SHARED_OPTIONS),
}  # fmt: skip
FIXED_VALUES = {  # arguments whose value is part of a family here
    "beta_d": 19.9, "beta_min": 0.1, "M": 1000, "C_1": 0.001, "C_2": 0.008
}  # fmt: skip
TRAINING_ONLY = (  # arguments that mean nothing when the weights are used
    "dropout", "label_dropout", "use_fp16", "epsilon_t", "sigma_min", "sigma_max"
)  # fmt: skip


def open_pickle(path: Path) -> CheckpointSpec:
    """The network under ``ema`` of a pickle.

    Raises:
        ValueError: it is no such pickle, or its network is another one than those released.
    """
    try:
        return _open(path, read_pickle_tree(path))
    except (AttributeError, KeyError, TypeError, IndexError, RuntimeError) as error:
        told = truncate_text(f"{type(error).__name__} {error}", 200)
        raise UnsupportedCheckpoint(f"{path} is no pickle of EDM: {told}") from error


def _open(path: Path, tree: Any) -> CheckpointSpec:
    model = tree.get("ema") if isinstance(tree, dict) else None
    if not isinstance(model, PickleStub) or model.name != PERSISTENT:
        raise UnsupportedCheckpoint(f"{path} is no pickle of EDM: it has no network called 'ema'")
    name, state = _class_and_state(model)
    if name not in FAMILIES:
        raise UnsupportedCheckpoint(
            f"{path} holds a {short_repr(name)}; {did_you_mean(name, list(FAMILIES))}"
        )
    given = to_plain(state.get("_init_kwargs") or {})
    tensors = dict(_iter_tensors(model))
    check_byte_budget(tensors.values(), path.stat().st_size)
    return build_spec(name, given, tensors, str(path), _list_unused(tree))


def build_spec(
    name: str,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    where: str,
    unused_keys: tuple[str, ...] = (),
) -> CheckpointSpec:
    """The checkpoint of a class of the release, of its arguments and its tensors by released name.

    Raises:
        ValueError: an argument is not known, or has a value that is not.
    """
    given = dict(config)
    validate_config_sizes(given, where)
    kind = given.pop("model_type", DEFAULT_NETWORKS[name])
    if not isinstance(kind, str) or kind not in NETWORKS:
        raise UnsupportedCheckpoint(
            f"{where}: a network {short_repr(kind)}; {did_you_mean(str(kind), list(NETWORKS))}"
        )
    side, colors = (_pop_required(given, one, where) for one in ("img_resolution", "img_channels"))
    classes, sigma_data = given.pop("label_dim", 0), given.pop("sigma_data", 0.5)
    _check_numbers(where, side, colors, classes, sigma_data)
    network, names = NETWORKS[kind]
    options: dict[str, Any] = {"image_shape": [colors, side, side], "classes": classes}
    for argument, value in given.items():
        if argument in names:
            options[names[argument]] = value
        elif argument in FIXED_VALUES and value != FIXED_VALUES[argument]:
            fixed = FIXED_VALUES[argument]
            raise UnsupportedCheckpoint(
                f"{where}: {argument} is {short_repr(value)}, and {fixed} is known here"
            )
        elif argument not in FIXED_VALUES and argument not in TRAINING_ONLY:
            raise UnsupportedCheckpoint(
                f"{where}: an argument {short_repr(argument)}; "
                + did_you_mean(argument, list(names))
            )
    if name == "iDDPMPrecond":
        options["variance"] = True
    return CheckpointSpec(
        format=f"EDM, {name}",
        family=FAMILIES[name],
        network=network,
        options=options,
        tensors={n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")},
        image_shape=(colors, side, side),
        classes=classes,
        sigma_data=sigma_data,
        unused_keys=(*unused_keys, *(n for n in tensors if not n.startswith("model."))),
    )


def _check_numbers(where: str, side: Any, channels: Any, classes: Any, sigma_data: Any) -> None:
    for argument, value, least in (
        ("img_resolution", side, 1),
        ("img_channels", channels, 1),
        ("label_dim", classes, 0),
    ):
        if type(value) is not int or value < least:
            raise UnsupportedCheckpoint(
                f"{where}: {argument} is {short_repr(value)}; expected a number"
            )
    if type(sigma_data) not in (int, float) or not sigma_data > 0:
        raise UnsupportedCheckpoint(
            f"{where}: sigma_data is {short_repr(sigma_data)}; expected a number above 0"
        )


def _pop_required(given: dict[str, Any], argument: str, where: str) -> Any:
    if argument not in given:
        raise UnsupportedCheckpoint(f"{where}: its arguments lack {argument!r}")
    return given.pop(argument)


def _class_and_state(model: PickleStub) -> tuple[str, dict[str, Any]]:
    """The name and the state of a persistent object."""
    (meta,) = model.arguments
    meta = meta if isinstance(meta, dict) else {**(meta.state or {}), **meta.items}
    state = meta["state"]
    name = meta["class_name"]
    return name if isinstance(name, str) else type(name).__name__, state if isinstance(
        state, dict
    ) else state.items


def _iter_tensors(model: PickleStub) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by their place in the tree of modules.

    Raises:
        Refused: a module is in two places, so that the tree could have no end.
    """
    waiting, seen = [("", model)], set[int]()
    while waiting:
        above, one = waiting.pop()
        if id(one) in seen:
            raise UnsupportedCheckpoint(f"its module {above!r} is in two places")
        seen.add(id(one))
        state = _class_and_state(one)[1] if one.name == PERSISTENT else one.state or {}
        for kind in ("_parameters", "_buffers"):
            for name, tensor in (state.get(kind) or {}).items():
                if isinstance(tensor, Tensor):
                    yield above + name, tensor
        for name, inner in (state.get("_modules") or {}).items():
            if isinstance(inner, PickleStub):
                waiting.append((f"{above}{name}.", inner))


def _list_unused(tree: Mapping[str, Any]) -> tuple[str, ...]:
    others = [name for name in tree if name != "ema"]
    code = sum(one.name == PERSISTENT for one in iter_objects(tree))
    return (*others, f"the source code of {code} objects, which was not looked at")
