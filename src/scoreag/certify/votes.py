"""The votes of a smoothed classifier: N0 random copies choose a class, N others count it.

Cohen et al. (2019), CERTIFY, for any random change of an image.  With p the Clopper-Pearson lower
bound of the class's probability, each kind of smoothing says what p > 1/2 certifies.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from scoreag.core.batching import BatchContext, batch_ranges, use_batch
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images
from scoreag.io.records import Row
from scoreag.stats.proportion import Proportion, clopper_pearson_lower

Perturb: TypeAlias = Callable[[Images, Noise], Images]  # each copy by its own row of the noise
Progress: TypeAlias = Callable[[int], None]  # called with the number of copies classified

ALL_IMAGES = "all images"
AGREEMENTS = (0.5, 0.9, 0.99, 1.0)  # shares of the copies, of which the summary counts images


@runtime_checkable
class VoteConfig(Protocol):
    """How votes are counted: ``n0`` copies choose, ``n`` count, ``alpha`` may go wrong."""

    @property
    def n0(self) -> int: ...
    @property
    def n(self) -> int: ...
    @property
    def alpha(self) -> float: ...
    @property
    def seed(self) -> int: ...
    @property
    def batch_size(self) -> int: ...


def check_vote_config(config: VoteConfig) -> None:
    """Refuse numbers of copies and an alpha with which no image can be certified."""
    for name in ("n0", "n", "batch_size"):
        if (value := getattr(config, name)) < 1:
            raise ValueError(f"{name} is {value}; expected at least 1")
    if not 0 < config.alpha < 1:
        raise ValueError(f"alpha is {config.alpha}; expected a probability, e.g. 0.001")
    if max_probability(config) <= 0.5:
        least = math.floor(math.log(config.alpha) / math.log(0.5)) + 1  # alpha^(1/N) > 1/2
        raise ValueError(
            f"with n = {config.n} and alpha = {config.alpha:g} no image can be certified; "
            f"write n = {least} or more"
        )


def max_probability(config: VoteConfig) -> float:
    """The lower bound if all copies agree, the largest for N and alpha: ``alpha^(1/N)``."""
    return clopper_pearson_lower(config.n, config.n, config.alpha)


@torch.no_grad()
def count_votes(
    base: Classifier,
    perturb: Perturb,
    image: Float[Tensor, "channels height width"],
    image_id: int,
    config: VoteConfig,
    on_progress: Progress = lambda copies: None,
    unclamped: bool = False,
) -> tuple[int, int]:
    """The class that most of N0 copies show, and how many of N other copies show it.

    Args:
        unclamped: whether the classifier gets values outside [0, 1].
    """

    def votes(purpose: str, number: int) -> Int[Tensor, " classes"]:
        name = ("smoothing", image_id, purpose)

        def count(copy_ids: range) -> Int[Tensor, " classes"]:
            noise = Noise(config.seed, copy_ids).fold_in(*name)
            copies = perturb(image.expand(len(copy_ids), *image.shape), noise)
            with use_batch(BatchContext(tuple(copy_ids), (name,), {}, unclamped)):
                found = _count_predictions(base, copies, image_id)
            on_progress(len(copy_ids))
            return found

        return torch.stack([*map(count, batch_ranges(number, config.batch_size))]).sum(0)

    top = int(votes("select", config.n0).argmax())
    return top, int(votes("estimate", config.n)[top])


def _count_predictions(base: Classifier, copies: Images, image_id: int) -> Int[Tensor, " classes"]:
    logits = base(copies)
    if not logits.isfinite().all():
        raise ValueError(
            f"the classifier returned NaN or infinity on noisy copies of image {image_id}; "
            "it cannot be certified"
        )
    return logits.argmax(1).bincount(minlength=logits.shape[1]).cpu()


def certificate_row(
    image_id: int,
    label: int,
    votes: tuple[int, int],
    config: VoteConfig,
    certify: Callable[[float], Mapping[str, float]],
    quantities: Sequence[str] = ("radius",),
) -> Row:
    """The certificate of one image; ``predicted`` and what it guarantees are None if it abstains.

    Args:
        votes: from ``count_votes``.
        certify: what a probability above 1/2 guarantees, by the names ``quantities``.
    """
    top, count = votes
    p = clopper_pearson_lower(count, config.n, config.alpha)
    abstains = p <= 0.5
    certified = {} if abstains else certify(p)
    return {
        "image_id": image_id,
        "label": label,
        "top": top,
        "count": count,
        "p_lower": round_down(p),
        "predicted": None if abstains else top,
        **{name: None if abstains else round_down(certified[name]) for name in quantities},
        "correct": not abstains and top == label,
    }


def summarize_rates(rows: Sequence[Row]) -> dict[str, Any]:
    """The accuracy of the smoothed classifier without any change, and its abstentions."""
    return {
        "accuracy": _rate(rows, lambda row: row["correct"]),
        "abstained": _rate(rows, lambda row: row["predicted"] is None),
    }


def agreement_rates(rows: Sequence[Row], n: int) -> dict[str, Any]:
    """How many images show their class in at least this share p of the N copies, for a few p."""
    return {f"{share:g}": _rate(rows, partial(_agrees, n=n, share=share)) for share in AGREEMENTS}


def _agrees(row: Row, n: int, share: float) -> bool:
    return bool(row["top"] == row["label"] and row["count"] >= share * n)


def certified_rates(
    rows: Sequence[Row], name: str, thresholds: Sequence[float], largest: float
) -> dict[str, Any]:
    """The certified accuracy at each of ``thresholds`` of ``name``.

    One above ``largest``, which N and alpha cannot reach, has no value: it is "beyond N".
    """
    return {
        f"{t:g}": _rate(rows, partial(_is_certified_at, name=name, threshold=t))
        if t <= largest
        else None
        for t in thresholds
    }


def mean_certified(rows: Sequence[Row], name: str) -> float:
    """The mean of ``name`` over all images; 0 where the prediction is wrong or missing."""
    total = sum(row[name] for row in rows if row["correct"])
    return float(round(total / max(1, len(rows)), 4))


def _rate(rows: Sequence[Row], hits: Callable[[Row], bool]) -> dict[str, Any]:
    return Proportion(sum(map(hits, rows)), len(rows), ALL_IMAGES).to_dict()


def _is_certified_at(row: Row, name: str, threshold: float) -> bool:
    return bool(row["correct"] and row[name] >= threshold)


def round_down(value: float, decimals: int = 6) -> float:
    """Rounded down, as a guarantee must not grow by rounding."""
    return math.floor(value * 10**decimals) / 10**decimals
