"""A classifier from a state dict (.pt, .pth, .th, .safetensors) and the network it belongs to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from scoreag.building import within
from scoreag.cards import fill
from scoreag.classifiers.architecture import build, check
from scoreag.classifiers.kinds import SCORE, STATE, kind_of, refuse
from scoreag.files import load_tensors
from scoreag.tensors import read_any

DIFFUSION = ("temb.dense.", "all_modules.", "input_blocks.", "model.diffusion_model.")
SCORE_MODEL = "looks like a score model, and a classifier is wanted here; score models are --model"
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")


def load_checkpoint(
    file: str | Path,
    network: str | nn.Module,
    strip: Sequence[str] = ("module.", "_orig_mod."),
    **options: Any,
) -> nn.Module:
    """The network with the tensors of ``file``, in eval mode; no code in the file is run.

        module = load_checkpoint("resnet20.th", "resnet", depth=20, shortcut="A")
        victim = scoreag.classifier(module, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

    Args:
        network: an architecture's name, as in ``architecture``, built with ``options``, or a
            module of one's own.
        strip: prefixes that wrappers such as DataParallel put before the names.

    Raises:
        ValueError: the file is missing or unreadable, or its tensors do not fit the network.
    """
    if isinstance(network, str):
        check(network, options)
    tensors = _stripped(_tensors(Path(file)), strip)
    if isinstance(network, str):
        with within(tensors):
            module = build(network, options)
    else:
        module = network
    try:
        fill(module, tensors, str(file))
    except ValueError as error:
        if any(name.startswith(DIFFUSION) for name in tensors):
            raise ValueError(f"{file} {SCORE_MODEL}") from error
        raise
    return module.eval()


def _tensors(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise ValueError(f"no file {file}")
    kind = kind_of(file)
    if kind == SCORE:
        raise ValueError(f"{file} {SCORE_MODEL}")
    if kind != STATE:
        refuse(file, kind)
    found: Any = read_any(file) if file.suffix == ".safetensors" else load_tensors(file)
    for wrapper in WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    if not isinstance(found, dict) or not all(isinstance(t, Tensor) for t in found.values()):
        raise ValueError(f"{file} holds no state_dict, neither alone nor as one of {WRAPPERS}")
    return found


def _stripped(tensors: dict[str, Tensor], prefixes: Sequence[str]) -> dict[str, Tensor]:
    for prefix in prefixes:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors
