"""Exact one-sided bounds on a probability, from how often something happened; Clopper-Pearson."""

from scipy.special import betaincinv


def lower(count: int, total: int, alpha: float) -> float:
    """The p at which ``count`` or more of ``total`` would have the probability alpha; 0 for none.

    The truth lies below it with probability at most ``alpha``, whatever it is.
    """
    _check(count, total, alpha)
    return float(betaincinv(count, total - count + 1, alpha)) if count else 0.0


def upper(count: int, total: int, alpha: float) -> float:
    """The p at which ``count`` or fewer of ``total`` would have the probability alpha; 1 for all.

    The truth lies above it with probability at most ``alpha``, whatever it is.
    """
    _check(count, total, alpha)
    return 1.0 if count == total else float(betaincinv(count + 1, total - count, 1 - alpha))


def _check(count: int, total: int, alpha: float) -> None:
    if not (0 <= count <= total and total > 0):
        raise ValueError(f"{count} of {total}; expected a count from 0 to a total above 0")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}; expected a probability between 0 and 1, e.g. 0.001")
