"""Evidence that a classifier gives by looking at the x0-estimate."""

from collections.abc import Callable

import torch

from scoreag.core.types import Classifier, Logits, LogLikelihood, PerImage, Sigma, State


def verdict(
    classifier: Classifier,
    value: Callable[[Logits], PerImage],
    lead: Callable[[Logits], PerImage],
    strength: float,
    stop: float | None = None,
    rest: Callable[[PerImage], None] = lambda resting: None,
) -> LogLikelihood:
    """``strength * value(f(x0))``, and 0 for an image that is already seen as wanted.

    Args:
        value: log-likelihood of what is wanted, from the logits.
        lead: by how much, in logits, what is wanted is ahead; negative while it is behind.
        stop: the lead from which on an image is left alone; None never stops.
        rest: is told at each call which images were left alone.
    """

    ask = getattr(classifier, "of_estimates", classifier)  # a defence looks at images it is given

    def log_likelihood(x0: State, sigma: Sigma) -> PerImage:
        logits = ask((x0 + 1) / 2)
        pull = strength * value(logits)
        if stop is None:
            return pull
        resting = lead(logits).detach() >= stop
        rest(resting.to(pull.dtype))
        return torch.where(resting, pull * 0, pull)

    return log_likelihood


def ahead(logits: Logits, labels: torch.Tensor) -> PerImage:
    """By how much the logit of ``labels`` exceeds the largest other one."""
    own = logits.gather(1, labels[:, None]).squeeze(1)
    return own - logits.scatter(1, labels[:, None], -torch.inf).amax(1)
