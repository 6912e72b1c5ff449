"""Files of weights: safetensors that are whole and have the digest asked for, in one or several."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from safetensors.torch import save as packed
from torch import Tensor

from scoreag.io.bounded import parse_json, read_bytes
from scoreag.io.filesystem import atomic_write, file_sha256
from scoreag.registry import truncate_text


def read_safetensors(file: Path, expected: str, name: str) -> dict[str, Tensor]:
    """The tensors of ``file``, whose sha256 is ``expected``, as they are stored.

    Args:
        name: of the model, for what is said of a file that is refused.

    Raises:
        ValueError: the file is missing, something else, cut short, or another one.
    """
    if not file.is_file():
        raise ValueError(f"{name}: its weights {file} are missing")
    data = _read_complete(file, f"{name}: ")
    if (found := hashlib.sha256(data).hexdigest()) != expected:
        raise ValueError(
            f"{name}: {file} was altered: its sha256 is {found}, the card says {expected}"
        )
    return _parse(data, file, f"{name}: ")


def read_any_safetensors(file: Path) -> dict[str, Tensor]:
    """The tensors of ``file``, whatever its digest.

    Raises:
        ValueError: it is something else, or cut short.
    """
    return _parse(_read_complete(file), file)


def _read_complete(file: Path, prefix: str = "") -> bytes:
    data = read_bytes(file)
    if wrong := _describe_defect(data):
        raise ValueError(f"{prefix}{file} {wrong}; get the file again")
    return data


def _parse(data: bytes, file: Path, prefix: str = "") -> dict[str, Tensor]:
    try:
        return dict(sorted(load(data).items()))  # the library gives them in any order
    except (SafetensorError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        told = truncate_text(str(error), 200)
        raise ValueError(f"{prefix}{file} is no safetensors file ({told})") from error


def write_safetensors(file: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write ``tensors`` into ``file``, whole or not at all; its sha256."""
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(file, lambda aside: aside.write_bytes(packed(kept)))  # save_file: owner only
    return file_sha256(file)


def check_tensors(tensors: Mapping[str, Tensor], name: str, fp16: bool = False) -> None:
    """Refuse tensors that no network computes with.

    Args:
        name: of the model, for what is said of it.
        fp16: they were halved, which large numbers do not survive.

    Raises:
        ValueError: one is complex, or holds NaN or infinity; names it.
    """
    advice = "; leave out --fp16, or mend them" if fp16 else "; get whole weights"
    for tensor, value in tensors.items():
        if value.is_complex():
            raise ValueError(
                f"{name}: the tensor {tensor!r:.120} is complex; expected real numbers"
            )
        if value.is_floating_point() and not _is_finite(value):
            raise ValueError(f"{name}: the tensor {tensor!r:.120} holds NaN or infinity{advice}")


def _is_finite(value: Tensor) -> bool:
    try:
        return bool(value.isfinite().all())
    except (NotImplementedError, RuntimeError):  # of eight bits, torch does not know
        return bool(value.float().isfinite().all())


def to_half(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Floating-point numbers in half the space, with 11 significant bits; others as they are."""
    return {n: t.half() if t.is_floating_point() else t for n, t in tensors.items()}


def to_float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Floating-point numbers in float32; others as they are."""
    return {n: t.to(torch.float32) if t.is_floating_point() else t for n, t in tensors.items()}


def split_shards(tensors: Mapping[str, Tensor], max_shard_size: int) -> list[dict[str, Tensor]]:
    """``tensors`` in their order, in as few files as have ``max_shard_size`` bytes of numbers each.

    Raises:
        ValueError: one tensor alone is larger.
    """
    found: list[dict[str, Tensor]] = [{}]
    room = max_shard_size
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        if size > max_shard_size:
            raise ValueError(f"{name} has {size} bytes, and a file may have {max_shard_size}")
        if size > room:
            found.append({})
            room = max_shard_size
        found[-1][name] = tensor
        room -= size
    return found


def _describe_defect(data: bytes) -> str:
    """What is wrong with bytes that should be a safetensors file: 8 for the header's length, ..."""
    if data.startswith(b"version https://git-lfs"):
        return "is a pointer of git-lfs, not the weights (run: git lfs pull)"
    if data.lstrip()[:1] == b"<":
        return "is an HTML page, not weights"
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > 100_000_000:
        return "is no safetensors file"
    if len(data) < 8 + length:
        return f"is cut short: {len(data)} bytes, its header alone has {length + 8}"
    try:
        header = parse_json(data[8 : 8 + length])
        ends = [of["data_offsets"][1] for name, of in header.items() if name != "__metadata__"]
        whole = 8 + length + max(map(int, ends), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError):
        return "is no safetensors file"
    return f"is cut short: {len(data)} of {whole} bytes" if len(data) < whole else ""
