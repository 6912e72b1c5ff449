"""Files of ``torch.save``: whose they are, told by the names of their tensors."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from scoreag.io.safe_unpickler import UnsupportedCheckpoint, load_tensors
from scoreag.models.convert import ddpm_pytorch, guided_diffusion, score_sde
from scoreag.models.convert.detect import describe_format
from scoreag.models.convert.spec import CheckpointSpec

SUPPORTED_FORMATS = (
    "score-SDE (.pth), guided-diffusion and improved-diffusion (.pt), and Ho et al.'s network in "
    "PyTorch (.ckpt)"
)


def open_torch_file(path: Path, config: Mapping[str, Any] | None = None) -> CheckpointSpec:
    """The network of a file of tensors.

    Args:
        arguments: that it was trained with, where neither the file nor its name tells them.

    Raises:
        ValueError: nothing says what the network is, or the tensors are not those of such a one.
    """
    if (whole := _unpacked_size(path)) > path.stat().st_size:  # a thousand times its size, perhaps
        raise UnsupportedCheckpoint(
            f"{path} unpacks to {whole:,} bytes, which torch.save does not do"
        )
    tree = load_tensors(path)
    if score_sde.is_training_checkpoint(tree) and _is_state_dict(tree["model"]):
        return score_sde.open_state_dict(tree, path, config)
    given, left = _select_state_dict(tree) if isinstance(tree, list) else (tree, ())
    if not _is_state_dict(given):
        raise UnsupportedCheckpoint(
            f"{path} {describe_format(given)}; read are {SUPPORTED_FORMATS}"
        )
    if all(name.startswith("module.") for name in given):
        given = {name.removeprefix("module."): tensor for name, tensor in given.items()}
    if ddpm_pytorch.FIRST_KEY in given:
        return ddpm_pytorch.open_state_dict(given, path, config, left)
    if guided_diffusion.FIRST_KEY in given and any(
        name.startswith("output_blocks.") for name in given
    ):
        return guided_diffusion.open_state_dict(given, path, config)
    if any(name.startswith(score_sde.FIRST_KEY) for name in given):
        return score_sde.open_state_dict(given, path, config)
    raise UnsupportedCheckpoint(f"{path} {describe_format(given)}; read are {SUPPORTED_FORMATS}")


def _unpacked_size(path: Path) -> int:
    """How many bytes an archive unpacks to; 0 of what is none, or damaged: its reading says so."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(one.file_size for one in archive.infolist())
    except Exception:  # a damaged archive can raise anything
        return 0


def _select_state_dict(states: list[Any]) -> tuple[Any, tuple[str, ...]]:
    """What the training of ermongroup/ddim writes: network, optimizer, epoch, step, average."""
    if not states:
        return states, ()
    averaged = len(states) > 4 and _is_state_dict(states[-1])
    what = "the optimizer and the step" + (", and the weights of that step" if averaged else "")
    return states[-1 if averaged else 0], (what,)


def _is_state_dict(value: Any) -> bool:
    """Whether this is a state dict."""
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(n, str) and isinstance(t, Tensor) for n, t in value.items())
    )
