"""What a model is, for a manifest: its name, a digest of all that it computes with, and a probe.

A probe is the logits of a classifier for two fixed images, or what a score model of a user's code
makes of one.  Digests miss constants in code; outputs do not, and are compared with a tolerance, as
kernels round differently.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from scoreag.diffusion.parameterizations import Preconditioned
from scoreag.diffusion.prior import Prior, to_model_range
from scoreag.io.manifest import logits_close, to_jsonable
from scoreag.models.trust import is_custom_network

ROWS_AT_ONCE = 4096  # of a tensor whose digest is computed
MAX_LOGITS = 32  # numbers of an image in a probe
PROBE_SIGMAS = (0.01, 0.1, 1.0, 10.0)  # at which two parameterizations are compared
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


def score_model_identity(prior: Prior) -> dict[str, Any]:
    """A score model with its parameterization, which a card may state otherwise later."""
    identity = model_identity(prior.model, prior.metadata)
    return identity | {"sigma_data": prior.sigma_data, **describe_parameterization(prior)}


def score_model_digest(prior: Prior) -> str:
    """The sha256 of all that determines its denoiser, for files that are computed by it."""
    identity = score_model_identity(prior)
    names = {*identity} - {"name", "license", "source", "hub"}
    content = {name: identity[name] for name in names}
    probes = probe_score_model(prior).values()
    content["probe"] = [[[round(x, 3) for x in row] for row in rows or ()] for rows in probes]
    text = json.dumps(to_jsonable(content), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def describe_parameterization(prior: Prior) -> dict[str, Any]:
    """c_skip, c_out, c_in and c_noise at a few noise levels, where the family is known here.

    With the limit of the x0-estimates, where there is one.
    """
    limit = {} if prior.x0_limit is None else {"x0_limit": prior.x0_limit}
    if not isinstance(prior.model, Preconditioned):
        return limit
    coefficients = prior.model.family(torch.tensor(PROBE_SIGMAS, dtype=torch.float64))
    rows = [c.expand(len(PROBE_SIGMAS)).tolist() for c in coefficients]
    return limit | {"family": [[round(value, 4) for value in row] for row in rows]}


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
    score_model = to_jsonable(score_model_identity(prior))
    return described | {
        "models": {"score-model": score_model, **described["models"]},
        "probe": {**probe_score_model(prior), **described["probe"]},
    }


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
    return probe_function(classifier, probe_images(like), N_CALLS)


@torch.no_grad()
def probe_score_model(prior: Prior) -> dict[str, list[list[float]] | None]:
    """``{"score-model": ...}``, what it makes of an image at sigma 1, if its code is a user's."""
    network = str(prior.metadata.get("network", ""))
    if isinstance(prior.model, Preconditioned) and not is_custom_network(network):
        return {}
    like = torch.zeros(1, *prior.image_shape, dtype=prior.dtype, device=prior.sigmas.device)
    labels = torch.zeros(1, dtype=torch.int64, device=like.device) if prior.classes else None
    x = to_model_range(probe_images(like)[:1])
    return {
        "score-model": probe_function(lambda x: prior.model(x, like.new_tensor(1.0), labels), x, 2)
    }


def probe_function(
    function: Callable[[Tensor], Tensor], x: Tensor, calls: int
) -> list[list[float]] | None:
    """What it makes of ``x``, at most 32 numbers a row; None if it fails, or calls differ."""
    devices = [x.device.index or 0] if x.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            answers = [_to_rows(function(x)) for _ in range(calls)]
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


def _to_rows(output: Tensor) -> list[list[float]]:
    values = output.detach().cpu().float().flatten(1)
    stride = -(-values.shape[1] // MAX_LOGITS)
    return [[round(float(value), 6) for value in row] for row in values[:, ::stride].tolist()]


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
