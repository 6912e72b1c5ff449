"""The weights of a folder of diffusers: in one file or several, of a variant, under old names."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from scoreag.io.bounded import parse_json, read_text
from scoreag.io.safe_unpickler import load_tensors
from scoreag.models.safetensors import read_any_safetensors

WEIGHTS_NAME = "diffusion_pytorch_model"
FILE_PATTERNS = [  # lists of shards and single files, of a variant such as "fp16" or of none
    re.escape(WEIGHTS_NAME) + shape.replace("END", end)
    for end in ("safetensors", "bin")
    for shape in (r"\.END\.index(?:\.([^.]+))?\.json", r"(?:\.([^.-]+))?\.END")
]
LEGACY_KEYS = {  # layers of attention before diffusers 0.17, which reads them so, too
    "query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"
}  # fmt: skip


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of a folder under today's names.

    Raises:
        ValueError: there are none, or several to choose from; a file is missing or damaged.
    """
    return _rename_keys(_read_all(_find_weights(folder)))


def _find_weights(folder: Path) -> Path:
    """The file of the weights, or the list of their shards; of no variant, where there is one."""
    found: dict[str, Path] = {}
    for shape in FILE_PATTERNS:  # as diffusers prefers them
        for file in sorted(folder.glob(f"{WEIGHTS_NAME}.*")):
            if whole := re.fullmatch(shape, file.name):
                found.setdefault(whole[1] or "", file)
    if "" in found or len(found) == 1:
        return found.get("") or next(iter(found.values()))
    if found:
        raise ValueError(
            f"{folder} has weights of the variants {', '.join(found)[:200]}; leave only one there"
        )
    raise ValueError(
        f"{folder} has none of {WEIGHTS_NAME}.safetensors, {WEIGHTS_NAME}.bin; get the whole folder"
    )


def _read_all(file: Path) -> dict[str, Tensor]:
    if file.suffix != ".json":
        return _read_tensors(file)
    found: dict[str, Tensor] = {}
    for name, wanted in _read_index(file).items():
        if not (shard := file.parent / name).is_file():
            raise ValueError(f"{shard} is missing, and {file.name} lists it; get the whole folder")
        held = _read_tensors(shard)
        if missing := sorted(wanted - held.keys()):
            raise ValueError(f"{shard} lacks {missing[0]!r}, which {file.name} lists")
        found |= {tensor: held[tensor] for tensor in wanted}
    return found


def _read_index(file: Path) -> dict[str, set[str]]:
    """The names of the tensors of each file beside a list."""
    try:
        listed = parse_json(read_text(file))["weight_map"]
        pairs = [(str(name), str(tensor)) for tensor, name in listed.items()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is no list of shards; get the whole folder") from error
    found: dict[str, set[str]] = {}
    for name, tensor in pairs:
        if Path(name).name != name or "\\" in name:
            raise ValueError(f"{file} lists {name[:200]!r}, which is not a file beside it")
        found.setdefault(name, set()).add(tensor)
    return found


def _read_tensors(file: Path) -> dict[str, Tensor]:
    held: Any = read_any_safetensors(file) if file.suffix == ".safetensors" else load_tensors(file)
    if not isinstance(held, Mapping) or not all(isinstance(t, Tensor) for t in held.values()):
        raise ValueError(f"{file} holds no tensors by name; get the file again")
    return {str(name): tensor for name, tensor in held.items()}


def _rename_keys(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {_rename_key(name): tensor for name, tensor in tensors.items()}
    if (waves := found.pop("time_proj.W", None)) is not None:  # at first under both names
        found.setdefault("time_proj.weight", waves)
    return found


def _rename_key(name: str) -> str:
    parts = name.split(".")
    if len(parts) > 1 and parts[-2] in LEGACY_KEYS:
        parts[-2] = LEGACY_KEYS[parts[-2]]
    return ".".join(parts)
