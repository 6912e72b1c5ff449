"""Whole weights count an image as often as they say; scipy's figures of repeated images."""

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from scoreag.stats.logistic import fit_line
from scoreag.stats.ranks import weighted_auc, weighted_spearman


def make(seed):
    """Two numbers with ties, a side and a count for each of 40 images."""
    rng = np.random.default_rng(seed)
    return (
        rng.integers(9, size=40),
        rng.integers(7, size=40),
        rng.random(40) < 0.4,
        rng.integers(1, 4, size=40),
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_weights_repeat_images(seed):
    a, b, side, counts = make(seed)
    often = np.repeat(np.arange(40), counts)
    x, y, w = (torch.from_numpy(one).double() for one in (a, b, counts))
    expected = stats.spearmanr(a[often], b[often]).statistic
    assert float(weighted_spearman(x, y, w)) == pytest.approx(expected, abs=1e-12)
    yes, no = a[often][side[often]], a[often][~side[often]]
    expected = stats.mannwhitneyu(yes, no).statistic / (len(yes) * len(no))
    assert float(weighted_auc(x, torch.from_numpy(side), w)) == pytest.approx(expected, abs=1e-12)


def test_the_gradient_in_the_weights_is_the_difference_quotient():
    a, b, side, counts = make(2)
    x, y, w = (torch.from_numpy(one).double() for one in (a, b, counts))
    yes = torch.from_numpy(side)
    w.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: weighted_spearman(x, y, v), w)
    assert torch.autograd.gradcheck(lambda v: weighted_auc(x, yes, v), w)


def test_a_logistic_line_is_where_scipy_finds_the_least_loss():
    rng = np.random.default_rng(3)
    x, counts = rng.standard_normal(50), rng.integers(1, 6, size=50)
    share = rng.binomial(counts, 1 / (1 + np.exp(-2 * x + 0.5))) / counts

    def loss(b):
        z = b[0] * x + b[1]
        return (counts * (np.logaddexp(0, z) - share * z)).sum()

    expected = optimize.minimize(loss, np.zeros(2)).x
    tensors = (torch.from_numpy(one).double() for one in (x, share, counts))
    assert fit_line(*tensors) == pytest.approx(expected, abs=1e-4)


def test_a_separated_line_has_no_maximum():
    x = torch.linspace(-1, 1, 20, dtype=torch.float64)
    assert fit_line(x, (x > 0).double()) is None
