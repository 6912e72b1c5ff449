"""``semantic``: the share of people who would name a class, as networks predict it.

Two mixtures of what several networks say are fitted on the answers of people: of every class,
``P(c | x)``, and of the label where that is known; see ``networks/people_ensemble.py``.  The set of
an image is ``{c: P(c | x) >= q}``, which does not know the label.

Monte-Carlo conformal prediction, Stutz et al. (2023): ``q`` is such that the answer of a random
person to a random image is in its set with probability ``1 - alpha``.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax

from scoreag.classifiers.networks.people_ensemble import LogShares, label_features
from scoreag.core.rng import Stream
from scoreag.stats.estimates import MetricEntry
from scoreag.stats.logistic import fit_line
from scoreag.stats.ranks import auc, spearman

Features: TypeAlias = Float[Tensor, "images features"]
Shares: TypeAlias = Float[Tensor, "images classes"]  # of people, of each class
Counts: TypeAlias = Int[Tensor, "images classes"]
Labels: TypeAlias = Int[Tensor, " images"]
Figures: TypeAlias = dict[str, MetricEntry]

REAL_ONLY = "calibrated on real images only"
ALPHAS = (0.1, 0.05, 0.02)  # of conformal sets; the first is that of rows
UNCLEAR = 0.8  # fewer people than this see the class: the image is not clear
RIDGE = 1e-3  # of weights of features with unit variance
SCALE_PART, SETS_PART = 0.05, 0.15  # of the images, for the temperature and for the sets
N_FOLDS = 5
N_RESAMPLES = 200  # of the images, for an interval
_ITERATIONS = 100


@dataclass(frozen=True, eq=False)
class Linear:
    """``features @ weight + bias``."""

    weight: Float[Tensor, "features outputs"]
    bias: Float[Tensor, " outputs"]

    def __call__(self, features: Features) -> Float[Tensor, "images outputs"]:
        return features.to(self.weight) @ self.weight + self.bias

    def scale(self, slope: float, offset: float = 0.0) -> "Linear":
        """``slope * output + offset``."""
        return Linear(self.weight * slope, self.bias * slope + offset)


@dataclass(frozen=True, eq=False)
class Calibration:
    """What is fitted on the answers of people.

    Args:
        mix: from all log-probabilities to the logits of every class.
        label: from the features of the label to the logit of its share.
        thresholds: of the sets, by alpha.
    """

    mix: Linear
    label: Linear
    thresholds: Mapping[float, float]

    def predict(self, log_shares: LogShares) -> Shares:
        """The share of people who would name each class, where the label is not known."""
        return self.mix(log_shares.flatten(1)).softmax(1)

    def predict_label(self, log_shares: LogShares, labels: Labels) -> Float[Tensor, " images"]:
        """The share of people who would name the label."""
        return self.label(label_features(log_shares, labels).to(self.label.weight))[:, 0].sigmoid()


def fit_mix(features: Features, shares: Shares, ridge: float = RIDGE) -> Linear:
    """The multinomial logistic regression of the shares, with a ridge, on scaled features."""

    def loss(outputs: Tensor) -> Tensor:
        return -(shares * log_softmax(outputs, 1)).sum(1).mean()

    return _fit_linear(features, loss, shares.mean(0).clamp(min=1e-6).log(), ridge)


def fit_label(features: Features, share: Float[Tensor, " images"], ridge: float = RIDGE) -> Linear:
    """The logistic regression of the share of the label, with a ridge, on scaled features."""

    def loss(outputs: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(outputs[:, 0], share)

    return _fit_linear(features, loss, share.mean(0, True).clamp(1e-6, 1 - 1e-6).logit(), ridge)


def _fit_linear(
    features: Features, loss: Callable[[Tensor], Tensor], bias: Tensor, ridge: float
) -> Linear:
    """The weights of the least ``loss(outputs) + ridge |weights|^2``, features of unit variance."""
    mean, scale = features.mean(0), features.std(0).clamp(min=1e-6)
    scaled = (features - mean) / scale
    weight = torch.zeros(features.shape[1], len(bias), dtype=features.dtype).requires_grad_()
    bias = bias.clone().requires_grad_()
    _minimize(lambda: loss(scaled @ weight + bias) + ridge * weight.square().sum(), [weight, bias])
    found = weight.detach() / scale[:, None]
    return Linear(found, bias.detach() - mean @ found)


def fit_temperature(logits: Shares, shares: Shares) -> float:
    """The temperature of the least cross-entropy with the shares; Guo et al. (2017)."""
    inverse = torch.zeros((), dtype=logits.dtype, requires_grad=True)  # its logarithm
    _minimize(lambda: -(shares * log_softmax(logits * inverse.exp(), 1)).sum(1).mean(), [inverse])
    return math.exp(-float(inverse.detach().clamp(-5, 5)))


def _minimize(loss: Callable[[], Tensor], parameters: list[Tensor]) -> None:
    """Change the parameters to where the convex loss is least, by L-BFGS."""
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=_ITERATIONS, line_search_fn="strong_wolfe", tolerance_grad=1e-7
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(closure)


def conformal_threshold(predicted: Shares, shares: Shares, alpha: float) -> float:
    """The largest q for which random answers to these images are in ``{p >= q}`` often enough.

    Each answer of each image is a calibration score, weighed so that each image weighs one: the
    limit of Monte-Carlo conformal prediction for many answers.  Of n images, the weight above q is
    ``(1 - alpha) (n + 1)`` at least; 0 if n is too small, so that every class is in the set.
    """
    n = len(predicted)
    if not n:
        return 0.0
    order = predicted.flatten().sort(descending=True)
    reached = shares.double().flatten()[order.indices].cumsum(0)
    needed = (1 - alpha) * (n + 1)
    if needed > n:
        return 0.0
    place = int(torch.searchsorted(reached, torch.tensor(needed - 1e-9, dtype=torch.float64)))
    return float(order.values[min(place, len(reached) - 1)])


def prediction_sets(predicted: Shares, threshold: float) -> Bool[Tensor, "images classes"]:
    """The classes that at least this share of people would name."""
    return predicted >= threshold


def fit(log_shares: LogShares, counts: Counts, labels: Labels, seed: int = 0) -> Calibration:
    """The mixtures by most of the images; by the others the scale of both, and the sets.

    Each number is fitted on images that no earlier step saw.
    """
    log_shares, shares = log_shares.double(), to_shares(counts)
    share = shares.gather(1, labels[:, None])[:, 0]
    order = Stream(seed, "calibration").permutation(len(shares))
    ends = [round(part * len(order)) for part in (SCALE_PART, SCALE_PART + SETS_PART)]
    scaling, sets, rest = order.tensor_split(ends)
    mix = fit_mix(log_shares[rest].flatten(1), shares[rest])
    features = label_features(log_shares, labels)
    label = fit_label(features[rest], share[rest])
    temperature = fit_temperature(mix(log_shares[scaling].flatten(1)), shares[scaling])
    mix = mix.scale(1 / temperature)
    line = fit_line(label(features[scaling])[:, 0], share[scaling])
    label = label.scale(*line) if line else label  # few images, all of one share
    predicted = mix(log_shares[sets].flatten(1)).softmax(1)
    thresholds = {alpha: conformal_threshold(predicted, shares[sets], alpha) for alpha in ALPHAS}
    return Calibration(mix, label, thresholds)


def to_shares(counts: Counts) -> Shares:
    """The share of people who named each class."""
    return counts.double() / counts.sum(1, keepdim=True)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What was predicted of each image by a calibration on others.

    Args:
        predicted: the share of each class; of_label: that of the label, which was known.
        folds: the part of each image; the calibration was on the other parts.
        in_set: by alpha, the classes in each image's set.
    """

    predicted: Shares
    of_label: Float[Tensor, " images"]
    folds: Int[Tensor, " images"]
    in_set: Mapping[float, Bool[Tensor, "images classes"]]


def cross_validate(
    log_shares: LogShares, counts: Counts, labels: Labels, n_folds: int = N_FOLDS, seed: int = 0
) -> HeldOut:
    """Predictions about each image by a calibration on the other folds."""
    count, n_classes = counts.shape
    folds = Stream(seed, "folds").permutation(count) % n_folds
    predicted = torch.zeros(count, n_classes, dtype=torch.float64)
    of_label = torch.zeros(count, dtype=torch.float64)
    in_set = {alpha: torch.zeros(count, n_classes, dtype=torch.bool) for alpha in ALPHAS}
    for fold in range(n_folds):
        held = folds == fold
        fitted = fit(log_shares[~held], counts[~held], labels[~held], seed)
        predicted[held] = fitted.predict(log_shares[held])
        of_label[held] = fitted.predict_label(log_shares[held].double(), labels[held])
        for alpha, threshold in fitted.thresholds.items():
            in_set[alpha][held] = prediction_sets(predicted[held], threshold)
    return HeldOut(predicted, of_label, folds, in_set)


def calibration_slope(predicted: Float[Tensor, " n"], share: Float[Tensor, " n"]) -> float:
    """The slope of the logistic regression of the share on the logit of the prediction.

    1: calibrated; below 1: predictions are too extreme; Cox (1958).  NaN where there is none.
    """
    line = fit_line(predicted.double().clamp(1e-4, 1 - 1e-4).logit(), share.double())
    return line[0] if line else float("nan")


def compare_with_people(
    score: Float[Tensor, " n"], share: Float[Tensor, " n"], calibrated: bool = True
) -> Figures:
    """How a score of the label compares with the share of people who name it.

    Args:
        calibrated: whether the score is a share, so that its slope has a meaning.
    """
    score, share = score.double(), share.double()
    measures: dict[str, Callable[[Tensor], float]] = {
        "spearman": lambda rows: spearman(score[rows], share[rows]),
    }
    if 0 < int((share < UNCLEAR).sum()) < len(share):
        measures["auc_unclear"] = lambda rows: auc(-score[rows], share[rows] < UNCLEAR)
    if calibrated:
        if not math.isnan(calibration_slope(score, share)):
            measures["slope"] = lambda rows: calibration_slope(score[rows], share[rows])
        measures["mean_error"] = lambda rows: float((score - share)[rows].mean())
    return {name: bootstrap(measure, len(score)) for name, measure in measures.items()}


def set_figures(held: HeldOut, counts: Counts, labels: Labels) -> Figures:
    """Coverage of random answers, and how many sets have the label, or it alone, or nothing."""
    shares = to_shares(counts)
    figures: Figures = {}
    for alpha, member in held.in_set.items():
        covered = (shares * member).sum(1)
        size, has = member.sum(1), member.gather(1, labels[:, None])[:, 0]
        columns = {
            "coverage": covered,
            "set_size": size.double(),
            "in_set": has.double(),
            "clear": (has & (size == 1)).double(),
            "empty": (size == 0).double(),
        }
        for name, column in columns.items():
            entry = bootstrap(partial(_mean, column), len(labels))
            figures[f"{name}_{round(100 * (1 - alpha))}"] = entry
    return figures


def _mean(column: Float[Tensor, " images"], rows: Tensor) -> float:
    return float(column[rows].mean())


def bootstrap(
    measure: Callable[[Tensor], float], count: int, n_resamples: int = N_RESAMPLES
) -> MetricEntry:
    """A figure of all images, with the percentiles of resampled ones; Efron (1979)."""
    source = np.random.Generator(np.random.Philox(count))
    values = [
        measure(torch.from_numpy(source.integers(count, size=count))) for _ in range(n_resamples)
    ]
    low, high = np.nanquantile(values, [0.025, 0.975])
    entry = {"value": measure(torch.arange(count)), "low": float(low), "high": float(high)}
    return {
        **{name: round(value, 4) for name, value in entry.items()},
        "of": "images", "total": count,
        "interval": f"95 %, bootstrap of {n_resamples} draws of images",
    }  # fmt: skip
