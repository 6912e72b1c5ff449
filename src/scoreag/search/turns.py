"""Searches one after the other, each on the images that still stand: restarts, and ensembles."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from scoreag.core.noise import Noise
from scoreag.core.rows import of_ids, of_rows
from scoreag.core.types import Classifier, Images, Labels, PerImage
from scoreag.jobs import eight_bit
from scoreag.search.losses import margin
from scoreag.search.objective import Objective, chosen
from scoreag.search.standing import misread

Search: TypeAlias = Callable[[Classifier, Images, Labels, Noise], Images]  # an attack is one


def in_turn(
    searches: Iterable[Search],
    classifier: Classifier,
    images: Images,
    labels: Labels,
    noise: Noise,
    draws: int = 1,
    stop: int = 0,
) -> Images:
    """Each search on the images that the ones before it left standing; the worst that was found.

    An image stands until the classifier errs on it, as it is and in 8 bits, in the mean over
    ``draws`` calls; with ``stop``, until it also errs in each of as many fresh calls. One on which
    it errs from the beginning is left as it is.
    """
    state = _State.of(Objective(classifier, labels, margin, draws), images, stop)
    for i, search in enumerate(searches):
        rows = state.standing.nonzero().flatten().tolist()
        if not rows:
            break
        part, some = of_rows(classifier, rows), labels[rows]
        found = search(part, images[rows], some, of_ids(noise.at("turn", i), rows))
        state = state.with_rows(rows, _State.of(Objective(part, some, margin, draws), found, stop))
    return state.images


@dataclass(frozen=True, eq=False)
class _State:
    images: Images
    lead: PerImage
    standing: Tensor

    @classmethod
    def of(cls, objective: Objective, images: Images, stop: int) -> "_State":
        lead = objective.lead(images)
        fooled = lead > 0
        if stop:
            fooled = misread(objective, images, stop, fooled)
        elif rows := fooled.nonzero().flatten().tolist():  # the draws of others are not used up
            fooled[rows] = objective.of_rows(rows).lead(eight_bit(images)[rows]) > 0
        return cls(images, lead, ~fooled)

    def with_rows(self, rows: list[int], found: "_State") -> "_State":
        """What was found for ``rows``, where it fools or comes nearer to it."""
        better = ~found.standing | (found.lead > self.lead[rows])
        images, lead, standing = self.images.clone(), self.lead.clone(), self.standing.clone()
        images[rows] = chosen(better, found.images, images[rows])
        lead[rows] = torch.where(better, found.lead, lead[rows])
        standing[rows] = found.standing
        return _State(images, lead, standing)
