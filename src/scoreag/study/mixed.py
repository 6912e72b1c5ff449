"""The mixed logistic model of the label being seen, by statsmodels, which is optional."""

import math
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from scoreag.stats.proportion import Z_975
from scoreag.study.intervals import Ratings

Numbers: TypeAlias = NDArray[Any]

PRIOR_SD = 5.0  # of the fixed effects, in logits
HINT = "the mixed logistic model needs statsmodels: pip install 'scoreag[study]'"
LOGISTIC_VARIANCE = math.pi**2 / 3


def has_statsmodels() -> bool:
    return find_spec("statsmodels") is not None


def fit_mixed_model(
    ratings: Ratings, condition: Sequence[int], names: Sequence[str]
) -> dict[str, Any]:
    """``logit P(seen) = a_condition + u_person + u_image + u_version``, with normal u.

    Statsmodels estimates the deviations of u by variational Bayes.  Its own errors of a are too
    small, so a and its errors are those of the joint mode of a and u, given the deviations.
    The odds ratios compare a condition with the first one, for one person and one image.

    Args:
        condition: of each item, its place in ``names``.
    """
    item, source = ratings.item.numpy(), ratings.source.numpy()
    fixed = np.eye(len(names))[np.asarray(condition)[item]]
    fixed[:, 0] = 1.0
    groups = [
        np.unique(group, return_inverse=True)[1]
        for group in (ratings.person.numpy(), source[item], item)
    ]
    kinds = (
        ["person", "image", "version"]
        if len({*item}) > len({*source[item]})
        else ["person", "image"]
    )
    groups = groups[: len(kinds)]
    score = ratings.score.numpy()
    sds = estimate_deviations(score, fixed, groups)
    mean, error = fit_joint_mode(score, fixed, groups, sds)
    total = float((sds**2).sum()) + LOGISTIC_VARIANCE
    return {
        "reference": names[0],
        "odds_ratios": {n: _odds_ratio(mean[i], error[i]) for i, n in enumerate(names) if i},
        "deviations": {kind: round(float(sd), 4) for kind, sd in zip(kinds, sds, strict=True)},
        "icc_image": round(float((sds[1:] ** 2).sum()) / total, 4),
        "answers": len(score),
    }


def _indicators(groups: Sequence[Numbers]) -> csr_matrix:
    """A column for each person, image and version; a row an answer."""
    n, sizes = len(groups[0]), [int(group.max()) + 1 for group in groups]
    starts = np.cumsum([0, *sizes[:-1]])
    columns = np.concatenate([start + one for start, one in zip(starts, groups, strict=True)])
    rows = np.tile(np.arange(n), len(groups))
    return csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(n, sum(sizes)))


def estimate_deviations(score: Numbers, fixed: Numbers, groups: Sequence[Numbers]) -> Numbers:
    """The standard deviations of the random intercepts, by statsmodels."""
    from statsmodels.genmod.bayes_mixed_glm import BinomialBayesMixedGLM

    ident = np.repeat(np.arange(len(groups)), [int(group.max()) + 1 for group in groups])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = BinomialBayesMixedGLM(
            score, fixed, _indicators(groups), ident, vcp_p=1.0, fe_p=PRIOR_SD
        )
        return np.exp(model.fit_vb().vcp_mean)


def fit_joint_mode(
    score: Numbers, fixed: Numbers, groups: Sequence[Numbers], sds: Numbers
) -> tuple[Numbers, Numbers]:
    """The fixed effects at the joint mode, and their errors by its curvature; Newton's method."""
    design = np.hstack([fixed, _indicators(groups).toarray()])
    sizes = [int(group.max()) + 1 for group in groups]
    precision = np.concatenate([np.full(fixed.shape[1], PRIOR_SD**-2), np.repeat(sds**-2.0, sizes)])
    b = np.zeros(design.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-design @ b))
        curvature = (design.T * (p * (1 - p))) @ design + np.diag(precision)
        step = np.linalg.solve(curvature, design.T @ (score - p) - precision * b)
        b += step
        if np.abs(step).max() < 1e-8:
            break
    k = fixed.shape[1]
    return b[:k], np.sqrt(np.diag(np.linalg.inv(curvature))[:k])


def _odds_ratio(log_odds: float, sd: float) -> dict[str, Any]:
    low, high = (math.exp(log_odds + sign * Z_975 * sd) for sign in (-1, 1))
    return {
        "value": round(math.exp(log_odds), 4), "low": round(low, 4), "high": round(high, 4),
        "interval": "95 %, normal, given the deviations",
    }  # fmt: skip
