"""Means with intervals from resampled images: no distribution is assumed; Efron (1979)."""

import math

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import ndtr, stdtrit
from torch import Tensor

from scoreag.core.rng import derive_key
from scoreag.stats.estimates import MetricEntry
from scoreag.stats.quantiles import TOO_SMALL

N_RESAMPLES = 1000
RESAMPLE_CHUNK = 50  # draws that are held in memory
MIN_VALUES = 10  # values, below which resampling them tells too little
NO_VARIATION = "no interval: all values are alike"  # resampling them knows of no other


def bootstrap_ci(
    values: Float[Tensor, " count"], population: str, n_resamples: int = N_RESAMPLES
) -> MetricEntry:
    """The mean of ``values``, one an image, and the middle of the means of resampled images.

    The percentiles are expanded (Hesterberg 2015): ``Phi(-(n / (n - 1))^(1/2) t)`` in place of
    2.5 %, t the 97.5 % quantile of Student's distribution with n - 1 degrees of freedom; the plain
    ones hold the mean of 10 normal values in 90 % of cases only.  The resampling is a function of
    the number of images alone, so that the same figures come out each time, and figures of the same
    images are resampled alike.  No interval from fewer than 10 values, nor from equal ones.
    """
    values, n = values.double(), len(values)
    entry: MetricEntry = {
        "value": _round_to_seven_digits(float(values.mean())),
        "of": population,
        "total": n,
    }
    if n < MIN_VALUES:
        return {**entry, "interval": TOO_SMALL}
    source = np.random.Generator(
        np.random.Philox(int.from_bytes(derive_key("bootstrap", n), "little"))
    )
    means = []
    for start in range(0, n_resamples, RESAMPLE_CHUNK):
        size = (min(RESAMPLE_CHUNK, n_resamples - start), n)
        means.append(values[torch.from_numpy(source.integers(n, size=size))].mean(1))
    tail = float(ndtr(-math.sqrt(n / (n - 1)) * stdtrit(n - 1, 0.975)))
    ends = torch.tensor([tail, 1 - tail], dtype=torch.float64)
    low, high = (_round_to_seven_digits(float(end)) for end in torch.cat(means).quantile(ends))
    if low == high:
        return {**entry, "interval": NO_VARIATION}
    told = f"95 %, bootstrap of {n_resamples} draws"
    return {**entry, "low": low, "high": high, "interval": told}


def _round_to_seven_digits(value: float) -> float:
    return float(f"{value:.7g}")
