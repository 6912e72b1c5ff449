"""A classifier from a file of ``torch.save`` (.pt, .pth, .th) and the network it belongs to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from scoreag.cards import fill
from scoreag.files import load_tensors
from scoreag.load import check_options
from scoreag.load import load as component

EDM = b"torch_utils.persistence"  # stands at the beginning of its pickles
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
        network: a file of ``scoreag.networks``, built with ``options``, or a module of one's own.
        strip: prefixes that wrappers such as DataParallel put before the names.

    Raises:
        ValueError: the file is missing or unreadable, or its tensors do not fit the network.
    """
    module = _built(network, options) if isinstance(network, str) else network
    tensors = _stripped(_tensors(Path(file)), strip)
    try:
        fill(module, tensors, str(file))
    except ValueError as error:
        if any(name.startswith(DIFFUSION) for name in tensors):
            raise ValueError(f"{file} {SCORE_MODEL}") from error
        raise
    return module.eval()


def _built(name: str, options: dict[str, Any]) -> nn.Module:
    build = component("networks", name).build
    check_options(build, options, f"the network {name}")
    return build(**options)


def _tensors(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise ValueError(f"no file {file}")
    with file.open("rb") as start:
        if EDM in start.read(4096):
            raise ValueError(f"{file} {SCORE_MODEL}")
    found: Any = load_tensors(file)
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
