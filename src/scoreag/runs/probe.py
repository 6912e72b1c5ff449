"""What a classifier says of two fixed pictures: what its weights do not tell of it.

Logits are kept as they are and compared with a tolerance, for kernels round differently.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

MAX_LOGITS = 32  # logits of an image that are kept
N_CALLS = 8  # by which an answer at random is told from another classifier
TOLERANCE = 1e-3  # of the largest logit: other machines round otherwise
SAME_PROCESS_TOLERANCE = (
    5e-5  # within which the calls of one process agree, unless the answers are drawn
)


@torch.no_grad()
def probe_classifier(classifier: Any, like: Tensor) -> list[list[float]] | None:
    """Its logits of two pictures shaped as ``like``; None where they differ from call to call.

    A defense is not asked: each call would take draws that are the attacker's.
    """
    parts = classifier.modules() if isinstance(classifier, nn.Module) else ()
    if not parts or any(hasattr(part, "select_rows") for part in parts):
        return None
    seen = probe_images(like)
    try:
        with torch.random.fork_rng(_devices(like)):
            said = [_logits(classifier, seen) for _ in range(N_CALLS)]
    except Exception:  # one that takes batches of another size only
        return None
    steady = all(_allclose(said[0], other, SAME_PROCESS_TOLERANCE) for other in said)
    return said[0] if steady else None


def changed_classifiers(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The classifiers, by their roles, that answer otherwise in one of two manifests of a run."""
    was, now = old.get("probe"), new.get("probe")
    if not isinstance(was, Mapping) or not isinstance(now, Mapping):
        return [] if was is None or now is None else ["classifier"]
    return [role for role in now if probes_differ(was.get(role), now[role])]


def probes_differ(was: Any, now: Any) -> bool:
    """Whether two answers are of two classifiers; None is of one that draws, or was not asked."""
    return was is not None and now is not None and not _allclose(was, now)


def probe_images(like: Tensor) -> Tensor:
    """A ramp and a pattern without order, 8-bit, in [0, 1]; the same on every machine."""
    shape = like.shape[1:]
    count = torch.arange(shape.numel(), device=like.device)
    patterns = torch.stack([count * 255 // max(1, len(count) - 1), count * count * 7 % 251])
    return patterns.to(like.dtype).view(2, *shape) / 255


def _logits(classifier: nn.Module, images: Tensor) -> list[list[float]]:
    logits = classifier(images).detach().cpu().float()
    every = -(-logits.shape[1] // MAX_LOGITS)
    return [[round(float(value), 6) for value in row] for row in logits[:, ::every].tolist()]


def _allclose(one: Any, other: Any, tolerance: float = TOLERANCE) -> bool:
    """Whether two tables of logits are equal up to rounding; what is no table of numbers is not."""
    try:
        a, b = (torch.tensor(table, dtype=torch.float64) for table in (one, other))
    except (TypeError, ValueError):
        return False
    if a.shape != b.shape:
        return False
    return bool(((a - b).abs() <= tolerance * (1 + b.abs().max())).all())


def _devices(like: Tensor) -> list[int]:
    return [like.device.index or 0] if like.device.type == "cuda" else []
