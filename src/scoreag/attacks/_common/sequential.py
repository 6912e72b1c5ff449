"""Searches one after the other, each on the images that still stand: restarts, and ensembles."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from scoreag.attacks._common.active_set import find_misclassified
from scoreag.attacks._common.losses import margin
from scoreag.attacks._common.objective import Objective, where_per_image
from scoreag.core.batching import select_noise, select_rows
from scoreag.core.rng import Noise
from scoreag.core.types import BatchScalar, Classifier, Images, Labels
from scoreag.methods.task import quantize_8bit

AttackFunction: TypeAlias = Callable[
    [Classifier, Images, Labels, Noise], Images
]  # an attack is one


def run_sequentially(
    attacks: Iterable[AttackFunction],
    classifier: Classifier,
    images: Images,
    labels: Labels,
    noise: Noise,
    eot_samples: int = 1,
    early_stop_draws: int = 0,
) -> Images:
    """Each search on the images that the ones before it left standing; the worst that was found.

    An image stands until the classifier errs on it, as it is and in 8 bits, in the mean over
    ``draws`` calls; with ``stop``, until it also errs in each of as many fresh calls. One on which
    it errs from the beginning is left as it is.
    """
    state = _SequenceState.evaluate(
        Objective(classifier, labels, margin, eot_samples), images, early_stop_draws
    )
    for i, search in enumerate(attacks):
        rows = state.active.nonzero().flatten().tolist()
        if not rows:
            break
        part, some = select_rows(classifier, rows), labels[rows]
        found = search(part, images[rows], some, select_noise(noise.fold_in("turn", i), rows))
        state = state.update_rows(
            rows,
            _SequenceState.evaluate(
                Objective(part, some, margin, eot_samples), found, early_stop_draws
            ),
        )
    return state.images


@dataclass(frozen=True, eq=False)
class _SequenceState:
    images: Images
    margin: BatchScalar
    active: Tensor

    @classmethod
    def evaluate(
        cls, objective: Objective, images: Images, early_stop_draws: int
    ) -> "_SequenceState":
        lead = objective.mean_margin(images)
        fooled = lead > 0
        if early_stop_draws:
            fooled = find_misclassified(objective, images, early_stop_draws, fooled)
        elif rows := fooled.nonzero().flatten().tolist():  # the draws of others are not used up
            fooled[rows] = objective.select_rows(rows).mean_margin(quantize_8bit(images)[rows]) > 0
        return cls(images, lead, ~fooled)

    def update_rows(self, rows: list[int], update: "_SequenceState") -> "_SequenceState":
        """What was found for ``rows``, where it fools or comes nearer to it."""
        better = ~update.active | (update.margin > self.margin[rows])
        images, lead, standing = self.images.clone(), self.margin.clone(), self.active.clone()
        images[rows] = where_per_image(better, update.images, images[rows])
        lead[rows] = torch.where(better, update.margin, lead[rows])
        standing[rows] = update.active
        return _SequenceState(images, lead, standing)
