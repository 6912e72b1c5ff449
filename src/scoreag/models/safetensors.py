"""Files of weights: complete safetensors with the expected digest, in one file or in several."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from scoreag.io.bounded import parse_json, read_bytes
from scoreag.io.filesystem import atomic_write, file_sha256
from scoreag.registry import truncate_text

MAX_HEADER_BYTES = 100_000_000


def read_safetensors(file: Path, sha256: str, name: str) -> dict[str, Tensor]:
    """The tensors of a file with this digest; ``name`` is the model's, for messages."""
    if not file.is_file():
        raise ValueError(f"{name}: its weights {file} are missing")
    return _read(file, f"{name}: ", sha256)


def read_any_safetensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a file, whatever its digest."""
    return _read(file)


def _read(file: Path, prefix: str = "", sha256: str | None = None) -> dict[str, Tensor]:
    data = read_bytes(file)
    if defect := _describe_defect(data):
        raise ValueError(f"{prefix}{file} {defect}; get the file again")
    if sha256 is not None and (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise ValueError(
            f"{prefix}{file} was altered: its sha256 is {found}, the card says {sha256}"
        )
    try:
        return dict(sorted(load(data).items()))  # the library returns them in any order
    except (SafetensorError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        reason = truncate_text(str(error), 200)
        raise ValueError(f"{prefix}{file} is no safetensors file ({reason})") from error


def _describe_defect(data: bytes) -> str:
    """Why bytes are no complete safetensors file (8 for the header's length, header, numbers)."""
    if data.startswith(b"version https://git-lfs"):
        return "is a pointer of git-lfs, not the weights (run: git lfs pull)"
    if data.lstrip()[:1] == b"<":
        return "is an HTML page, not weights"
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > MAX_HEADER_BYTES:
        return "is no safetensors file"
    if len(data) < 8 + length:
        return f"is cut short: {len(data)} bytes, its header alone has {length + 8}"
    try:
        header = parse_json(data[8 : 8 + length])
        ends = [of["data_offsets"][1] for name, of in header.items() if name != "__metadata__"]
        size = 8 + length + max(map(int, ends), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError):
        return "is no safetensors file"
    return f"is cut short: {len(data)} of {size} bytes" if len(data) < size else ""


def write_safetensors(file: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write ``tensors`` into ``file``, completely or not at all; its sha256."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(file, lambda temp: temp.write_bytes(save(plain)))  # save_file: for the owner only
    return file_sha256(file)


def check_tensors(tensors: Mapping[str, Tensor], name: str, fp16: bool = False) -> None:
    """Refuse complex tensors, NaN and infinity.

    Args:
        name: of the model, for messages.
        fp16: they were halved, in which large numbers overflow.
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
    except (NotImplementedError, RuntimeError):  # torch has no isfinite for 8-bit floats
        return bool(value.float().isfinite().all())


def to_half(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Floating-point numbers with 11 significant bits; others as they are."""
    return {n: t.half() if t.is_floating_point() else t for n, t in tensors.items()}


def to_float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Floating-point numbers in float32; others as they are."""
    return {n: t.to(torch.float32) if t.is_floating_point() else t for n, t in tensors.items()}


def split_shards(tensors: Mapping[str, Tensor], max_shard_size: int) -> list[dict[str, Tensor]]:
    """``tensors`` in their order, in few groups of at most ``max_shard_size`` bytes each."""
    shards: list[dict[str, Tensor]] = [{}]
    room = max_shard_size
    for name, tensor in tensors.items():
        if tensor.nbytes > max_shard_size:
            raise ValueError(
                f"{name} has {tensor.nbytes} bytes, and a file may have {max_shard_size}"
            )
        if tensor.nbytes > room:
            shards.append({})
            room = max_shard_size
        shards[-1][name] = tensor
        room -= tensor.nbytes
    return shards
