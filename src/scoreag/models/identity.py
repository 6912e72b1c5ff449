"""What a model is, for a manifest: its name, and a digest of all that it computes with."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def model_identity(model: Any, origin: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a model; its weights speak for themselves where no file does."""
    known = {"name": type(model).__name__, **origin}
    if "sha256" not in known and isinstance(model, nn.Module):
        known["sha256"] = tensors_sha256(_all_tensors(model))
    return known


def _all_tensors(model: nn.Module) -> dict[str, Any]:
    """All that a module computes with; a state dict lacks the buffers that are not persistent."""
    buffers = dict(model.named_buffers(remove_duplicate=False))
    return {**buffers, **dict(model.state_dict())}


def tensors_sha256(tensors: Mapping[str, Any]) -> str:
    """One digest of named tensors: names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            plain_bytes = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(plain_bytes.numpy().tobytes())  # numpy knows no bfloat16
    return digest.hexdigest()
