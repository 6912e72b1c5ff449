"""The pickles of the EDM release (Karras et al. 2022), which carry their source code along.

That code is not run: the class name and the arguments in the file determine the network, and the
tensors are found by their place in the tree of modules.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from scoreag.io.safe_unpickler import (
    PickleStub,
    UnsupportedCheckpoint,
    check_byte_budget,
    read_pickle_tree,
    to_plain,
)
from scoreag.models.convert.conversion import CheckpointSpec, validate_config
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
}
FIXED_VALUES = {  # arguments whose value the family implies
    "beta_d": 19.9, "beta_min": 0.1, "M": 1000, "C_1": 0.001, "C_2": 0.008
}  # fmt: skip
TRAINING_ONLY = (  # arguments that mean nothing when the weights are used
    "dropout", "label_dropout", "use_fp16", "epsilon_t", "sigma_min", "sigma_max"
)  # fmt: skip


def open_pickle(path: Path) -> CheckpointSpec:
    """The network under ``ema`` of a pickle."""
    try:
        tree = read_pickle_tree(path)
        model = tree.get("ema") if isinstance(tree, dict) else None
        if not isinstance(model, PickleStub) or model.name != PERSISTENT:
            raise UnsupportedCheckpoint(
                f"{path} is no pickle of EDM: it has no network called 'ema'"
            )
        name, state = _class_and_state(model)
        if name not in FAMILIES:
            raise UnsupportedCheckpoint(
                f"{path} holds a {short_repr(name)}; {did_you_mean(name, list(FAMILIES))}"
            )
        config = to_plain(state.get("_init_kwargs") or {})
        tensors = dict(_iter_tensors(model))
        check_byte_budget(tensors.values(), path.stat().st_size)
        unused = (*(key for key in tree if key != "ema"), "source code, which was not run")
        return build_spec(name, config, tensors, str(path), unused)
    except (AttributeError, KeyError, TypeError, IndexError, RuntimeError) as error:
        reason = truncate_text(f"{type(error).__name__} {error}", 200)
        raise UnsupportedCheckpoint(f"{path} is no pickle of EDM: {reason}") from error


def build_spec(
    name: str,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    where: str,
    unused_keys: tuple[str, ...] = (),
) -> CheckpointSpec:
    """The checkpoint of a class of the release, its arguments, and its tensors by released name."""
    arguments = dict(config)
    validate_config(arguments, where)
    kind = arguments.pop("model_type", DEFAULT_NETWORKS[name])
    if not isinstance(kind, str) or kind not in NETWORKS:
        raise UnsupportedCheckpoint(
            f"{where}: a network {short_repr(kind)}; {did_you_mean(str(kind), list(NETWORKS))}"
        )
    side = _pop_number(arguments, "img_resolution", 1, where)
    colors = _pop_number(arguments, "img_channels", 1, where)
    arguments.setdefault("label_dim", 0)
    classes = _pop_number(arguments, "label_dim", 0, where)
    sigma_data = arguments.pop("sigma_data", 0.5)
    if type(sigma_data) not in (int, float) or not sigma_data > 0:
        raise UnsupportedCheckpoint(
            f"{where}: sigma_data is {short_repr(sigma_data)}; expected a number above 0"
        )
    network, names = NETWORKS[kind]
    options: dict[str, Any] = {"image_shape": [colors, side, side], "classes": classes}
    options |= {"null_label": True} if classes and arguments.get("label_dropout") else {}
    for argument, value in arguments.items():
        if argument in names:
            options[names[argument]] = value
        elif argument in FIXED_VALUES and value != FIXED_VALUES[argument]:
            fixed = FIXED_VALUES[argument]
            raise UnsupportedCheckpoint(
                f"{where}: {argument} is {short_repr(value)}, and {fixed} is known here"
            )
        elif argument not in (*FIXED_VALUES, *TRAINING_ONLY):
            known = did_you_mean(argument, list(names))
            raise UnsupportedCheckpoint(f"{where}: an argument {short_repr(argument)}; {known}")
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


def _pop_number(arguments: dict[str, Any], name: str, minimum: int, where: str) -> int:
    if name not in arguments:
        raise UnsupportedCheckpoint(f"{where}: its arguments lack {name!r}")
    value = arguments.pop(name)
    if type(value) is not int or value < minimum:
        raise UnsupportedCheckpoint(f"{where}: {name} is {short_repr(value)}; expected a number")
    return value


def _class_and_state(model: PickleStub) -> tuple[str, dict[str, Any]]:
    """The class name and the state of a persistent object."""
    (meta,) = model.arguments
    meta = meta if isinstance(meta, dict) else {**(meta.state or {}), **meta.items}
    name, state = meta["class_name"], meta["state"]
    return (
        name if isinstance(name, str) else type(name).__name__,
        state if isinstance(state, dict) else state.items,
    )


def _iter_tensors(model: PickleStub) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by their place in the tree of modules, which must be a tree."""
    waiting, visited = [("", model)], set[int]()
    while waiting:
        prefix, stub = waiting.pop()
        if id(stub) in visited:
            raise UnsupportedCheckpoint(f"its module {prefix!r} is in two places")
        visited.add(id(stub))
        state = _class_and_state(stub)[1] if stub.name == PERSISTENT else stub.state or {}
        for kind in ("_parameters", "_buffers"):
            for name, tensor in (state.get(kind) or {}).items():
                if isinstance(tensor, Tensor):
                    yield prefix + name, tensor
        for name, inner in (state.get("_modules") or {}).items():
            if isinstance(inner, PickleStub):
                waiting.append((f"{prefix}{name}.", inner))
