"""What a model is, for a manifest: its name, a digest of all that it computes with, and a probe.

A probe is the logits of a classifier for two fixed images.  Digests miss constants in code; logits
do not, and are compared with a tolerance, as kernels round differently.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from scoreag.diffusion.prior import Prior
from scoreag.io.manifest import logits_close, to_jsonable

ROWS_AT_ONCE = 4096  # of a tensor whose digest is computed
MAX_LOGITS = 32  # of an image in a probe
N_CALLS = 8  # that must agree, or the classifier is random
SAME_PROCESS_TOLERANCE = 5e-5  # of two calls in one process


@runtime_checkable
class DescribesDefense(Protocol):
    """A module whose answers depend on more than its weights."""

    def defense_identity(self) -> dict[str, Any]:
        """All that determines its answers, except the classifier inside."""
        ...


def model_identity(model: Any, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Name and sha256 of a model; the digest is of its weights where ``metadata`` has none."""
    identity = {"name": type(model).__name__, **metadata}
    if "sha256" not in identity and isinstance(model, nn.Module):
        buffers = dict(model.named_buffers(remove_duplicate=False))  # also those not persistent
        identity["sha256"] = tensors_sha256(buffers | dict(model.state_dict()))
    return identity


def classifier_identity(classifier: Any) -> dict[str, Any]:
    """A classifier with its normalization and the defenses inside."""
    identity = model_identity(classifier, getattr(classifier, "metadata", {}))
    identity |= {n: getattr(classifier, n) for n in ("mean", "std") if hasattr(classifier, n)}
    parts = classifier.modules() if isinstance(classifier, nn.Module) else ()
    defenses = [p.defense_identity() for p in parts if isinstance(p, DescribesDefense)]
    return identity | ({"defenses": defenses} if defenses else {})


def describe_models(
    prior: Prior, classifier: Any = None, judge: Any = None, judge_metrics: Any = None
) -> dict[str, Any]:
    """The entries of a manifest for the models of a run, and for their device."""
    like = torch.zeros(1, *prior.image_shape, dtype=prior.dtype, device=prior.sigmas.device)
    described = describe_classifiers(like, prior.classes, classifier, judge, judge_metrics)
    score_model = to_jsonable(model_identity(prior.model, prior.metadata))
    return described | {"models": {"score-model": score_model, **described["models"]}}


def describe_classifiers(
    like: Tensor,
    classes: Sequence[str],
    classifier: Any,
    judge: Any = None,
    judge_metrics: Any = None,
) -> dict[str, Any]:
    """The entries of a manifest for a run without a score model, on images like ``like``."""
    models, probes = {}, {}
    for role, model in (("classifier", classifier), ("judge", judge)):
        if model is not None:
            models[role] = classifier_identity(model)
            probes[role] = probe_classifier(model, like)
    if judge is not None:
        models["judge"] |= judge_metrics or {}
    return {
        "device": like.device.type,
        "classes": list(classes),
        "models": to_jsonable(models),
        "probe": probes,
    }


@torch.no_grad()
def probe_classifier(classifier: Any, like: Tensor) -> list[list[float]] | None:
    """Its logits of two images shaped as ``like``; None for a random classifier or a defense.

    A defense is not probed, as each call would use up random numbers that are the attacker's.
    """
    parts = classifier.modules() if isinstance(classifier, nn.Module) else ()
    if not parts or any(hasattr(part, "select_rows") for part in parts):
        return None
    devices = [like.device.index or 0] if like.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            answers = [_logits(classifier, probe_images(like)) for _ in range(N_CALLS)]
    except Exception:  # one that takes batches of another size only
        return None
    steady = all(logits_close(answers[0], other, SAME_PROCESS_TOLERANCE) for other in answers)
    return answers[0] if steady else None


def probe_images(like: Tensor) -> Tensor:
    """A ramp and an irregular pattern, 8-bit, in [0, 1]; the same on every machine."""
    shape = like.shape[1:]
    count = torch.arange(shape.numel(), device=like.device)
    patterns = torch.stack([count * 255 // max(1, len(count) - 1), count * count * 7 % 251])
    return patterns.to(like.dtype).view(2, *shape) / 255


def _logits(classifier: nn.Module, images: Tensor) -> list[list[float]]:
    logits = classifier(images).detach().cpu().float()
    stride = -(-logits.shape[1] // MAX_LOGITS)
    return [[round(float(value), 6) for value in row] for row in logits[:, ::stride].tolist()]


def tensors_sha256(
    tensors: Mapping[str, Any], convert: Callable[[Tensor], Tensor] = lambda part: part
) -> str:
    """One digest of named tensors: names, types, shapes and bytes; other values are ignored.

    Args:
        convert: of some rows of a tensor to those that count, so that it is never whole in memory.
    """
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        if isinstance(value, Tensor):
            rows = value.detach().reshape(1) if value.ndim == 0 else value.detach()
            digest.update(f"{name} {convert(rows[:0]).dtype} {tuple(value.shape)}\n".encode())
            for part in rows.split(ROWS_AT_ONCE):
                flat = convert(part).cpu().contiguous().reshape(-1).view(torch.uint8)
                digest.update(flat.numpy().tobytes())  # numpy has no bfloat16
    return digest.hexdigest()
