"""Files of ``torch.save``: whose they are, told by the names of their tensors."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from scoreag.files import load_tensors
from scoreag.foreign import guided, ho, score_sde
from scoreag.foreign.found import Found
from scoreag.foreign.inert import Refused
from scoreag.foreign.looks import looks_like

READ = (
    "score-SDE (.pth), guided-diffusion and improved-diffusion (.pt), and Ho et al.'s network in "
    "PyTorch (.ckpt)"
)


def open_state(path: Path, arguments: Mapping[str, Any] | None = None) -> Found:
    """The network of a file of tensors.

    Args:
        arguments: that it was trained with, where neither the file nor its name tells them.

    Raises:
        ValueError: nothing says what the network is, or the tensors are not those of such a one.
    """
    if (whole := _unpacked(path)) > path.stat().st_size:  # a thousand times its size, perhaps
        raise Refused(f"{path} unpacks to {whole:,} bytes, which torch.save does not do")
    tree = load_tensors(path)
    if score_sde.is_whole(tree) and _tensors(tree["model"]):
        return score_sde.opened(tree, path, arguments)
    given, left = _of_list(tree) if isinstance(tree, list) else (tree, ())
    if not _tensors(given):
        raise Refused(f"{path} {looks_like(given)}; read are {READ}")
    if all(name.startswith("module.") for name in given):
        given = {name.removeprefix("module."): tensor for name, tensor in given.items()}
    if ho.FIRST in given:
        return ho.opened(given, path, arguments, left)
    if guided.FIRST in given and any(name.startswith("output_blocks.") for name in given):
        return guided.opened(given, path, arguments)
    if any(name.startswith(score_sde.FIRST) for name in given):
        return score_sde.opened(given, path, arguments)
    raise Refused(f"{path} {looks_like(given)}; read are {READ}")


def _unpacked(path: Path) -> int:
    """How many bytes an archive unpacks to; 0 of what is none, or damaged: its reading says so."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(one.file_size for one in archive.infolist())
    except Exception:  # a damaged archive can raise anything
        return 0


def _of_list(states: list[Any]) -> tuple[Any, tuple[str, ...]]:
    """What the training of ermongroup/ddim writes: network, optimizer, epoch, step, average."""
    if not states:
        return states, ()
    averaged = len(states) > 4 and _tensors(states[-1])
    what = "the optimizer and the step" + (", and the weights of that step" if averaged else "")
    return states[-1 if averaged else 0], (what,)


def _tensors(value: Any) -> bool:
    """Whether this is a state dict."""
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(n, str) and isinstance(t, Tensor) for n, t in value.items())
    )
