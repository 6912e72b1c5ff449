"""Means with intervals from resampled images: no distribution is assumed; Efron (1979)."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.core.noise import key
from scoreag.figures.entries import Entry

DRAWS = 1000
AT_ONCE = 50  # draws that are held in memory


def of_bootstrap(values: Float[Tensor, " count"], of: str, draws: int = DRAWS) -> Entry:
    """The mean of ``values``, one an image, and the middle 95 % of the means of resampled images.

    The resampling is a function of the number of images alone, so that the same figures come out
    each time, and figures of the same images are resampled alike.  No interval from one value.
    """
    values, n = values.double(), len(values)
    entry: Entry = {"value": _short(float(values.mean())), "of": of, "total": n}
    if n < 2:
        return entry
    source = np.random.Generator(np.random.Philox(int.from_bytes(key("bootstrap", n), "little")))
    means = []
    for start in range(0, draws, AT_ONCE):
        size = (min(AT_ONCE, draws - start), n)
        means.append(values[torch.from_numpy(source.integers(n, size=size))].mean(1))
    low, high = torch.cat(means).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    told = f"95 %, bootstrap of {draws} draws"
    return {**entry, "low": _short(float(low)), "high": _short(float(high)), "interval": told}


def paired(
    a: Float[Tensor, " count"], b: Float[Tensor, " count"], of: str, draws: int = DRAWS
) -> Entry:
    """The mean of ``a - b`` over the same images, whose chances are shared and cancel."""
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} values are no pairs")
    return of_bootstrap(a.double() - b.double(), of, draws)


def _short(value: float) -> float:
    return float(f"{value:.7g}")
