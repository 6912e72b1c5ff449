"""A classifier from a state dict (.pt, .pth, .th, .safetensors) and the network it belongs to."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from scoreag.classifiers.build import build, validate_architecture
from scoreag.classifiers.file_formats import (
    SCORE_CHECKPOINT,
    STATE_DICT,
    detect_file_format,
    reject_format,
)
from scoreag.io.filesystem import load_tensors
from scoreag.models.build import limit_network_size
from scoreag.models.model_cards import OPTIONAL_KEY, load_weights
from scoreag.models.safetensors import read_any_safetensors

DIFFUSION_PREFIXES = ("temb.dense.", "all_modules.", "input_blocks.", "model.diffusion_model.")
SCORE_MODEL_MESSAGE = (
    "looks like a score model, and a classifier is wanted here; score models are --model"
)
STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model", "net", "network")
AVERAGING_COUNTERS = ("n_averaged",)  # of averaged weights: no weight


def load_checkpoint(
    file: str | Path,
    network: str | nn.Module,
    strip: str | Sequence[str] | None = None,
    **options: Any,
) -> nn.Module:
    """The network with the tensors of ``file``, in eval mode; no code in the file is run.

        module = load_checkpoint("resnet20.th", "cifar_resnet", depth=20, shortcut="A")
        classifier = scoreag.wrap_classifier(module, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

    Args:
        network: an architecture's name, as in ``build``, built with ``options``, or a
            module of one's own.
        strip: a prefix that something put before the names, or several, the outermost first; the
            tensors without it are left out. By default what DataParallel, torch.compile,
            AveragedModel, Lightning and the like put before all of them is found and taken off.

    Raises:
        ValueError: the file is missing or unreadable, or its tensors do not fit the network.
    """
    if isinstance(network, str):
        validate_architecture(network, options)
    tensors = _read_state_dict(Path(file))
    if isinstance(network, str):
        with limit_network_size(tensors):
            module = build(network, options)
    else:
        module = network
    tensors = (
        _strip_common_prefix(tensors, module.state_dict())
        if strip is None
        else _strip_prefixes(tensors, [strip] if isinstance(strip, str) else strip, str(file))
    )
    try:
        load_weights(module, tensors, str(file))
    except ValueError as error:
        if any(name.removeprefix("module.").startswith(DIFFUSION_PREFIXES) for name in tensors):
            raise ValueError(f"{file} {SCORE_MODEL_MESSAGE}") from error
        raise
    return module.eval()


def _read_state_dict(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise ValueError(f"no file {file}")
    kind = detect_file_format(file)
    if kind == SCORE_CHECKPOINT:
        raise ValueError(f"{file} {SCORE_MODEL_MESSAGE}")
    if kind != STATE_DICT:
        reject_format(file, kind)
    found: Any = read_any_safetensors(file) if file.suffix == ".safetensors" else load_tensors(file)
    for wrapper in STATE_DICT_KEYS:
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    if not isinstance(found, dict) or not all(isinstance(t, Tensor) for t in found.values()):
        raise ValueError(
            f"{file} holds no state_dict, neither alone nor as one of {STATE_DICT_KEYS}"
        )
    return found


def _strip_prefixes(
    tensors: dict[str, Tensor], prefixes: Sequence[str], file: str
) -> dict[str, Tensor]:
    """The tensors whose names begin so, without that."""
    for prefix in prefixes:
        found = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        if not found:
            firsts = ", ".join(sorted(tensors)[:3])
            raise ValueError(f"{file}: no name begins with {prefix!r}; names are {firsts}, ...")
        tensors = found
    return tensors


def _strip_common_prefix(
    tensors: dict[str, Tensor], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors by the names that are wanted, where all have one prefix before these.

    Raises:
        ValueError: there are such names beside others, or with several prefixes; which to strip.
    """
    weights = {n: t for n, t in tensors.items() if n not in AVERAGING_COUNTERS or n in expected}
    needed = [name for name in expected if not name.endswith(OPTIONAL_KEY)]
    if not needed or all(name in weights for name in needed):
        return weights if len(weights) < len(tensors) else tensors
    last = needed[0]
    ends = [name.removesuffix(last) for name in weights if name.endswith(f".{last}")]
    found = [p for p in ends if all(p + name in weights for name in needed)]
    if not found:
        return tensors
    others = [name for name in weights if not name.startswith(found[0])]
    if len(found) > 1 or others:
        beside = f" beside others such as {others[0]!r}" if len(found) == 1 else ""
        raise ValueError(
            f"the weights of this network have {' or '.join(map(repr, found))} before their "
            f"names{beside}; write strip={found[0]!r}, or --strip {found[0]}, to take these alone"
        )
    return {name.removeprefix(found[0]): tensor for name, tensor in weights.items()}
