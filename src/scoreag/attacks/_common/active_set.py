"""Who is still searched on: an image is left alone once it is misread in fresh draws.

Only images that stand are shown to the classifier.  Where it counts its draws row by row, as a
defence of this library does, what comes of an image does not depend on who else was left alone.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from scoreag.attacks._common.objective import LossGradient, Objective, where_per_image
from scoreag.core.types import BatchScalar, Images
from scoreag.methods.task import quantize_8bit


@dataclass(frozen=True, eq=False)
class ActiveSet:
    """An objective for those images of a batch that ``stand``; the others lie where they are left.

    Args:
        stop: of how many fresh draws each must err before an image is left alone; 0 never leaves.
    """

    objective: Objective
    early_stop_draws: int
    active: Bool[Tensor, " batch"]
    finished_images: Images

    def loss_gradient(self, images: Images) -> tuple[LossGradient, "ActiveSet"]:
        """The slope where images stand, and 0 elsewhere; and who stands after that.

        Asked about are only images that were misread in each of the gradient's draws.
        """
        rows, part = self._active_rows()
        found = part.loss_gradient(images[rows])
        slope = LossGradient(*(_scatter_rows(each, self.active) for each in vars(found).values()))
        if not self.early_stop_draws:
            return slope, self
        fallen = find_misclassified(part, images[rows], self.early_stop_draws, found.min_margin > 0)
        gone = torch.zeros_like(self.active)
        gone[rows] = fallen
        left = where_per_image(gone, images, self.finished_images)
        return slope, replace(self, active=self.active & ~gone, finished_images=left)

    def mean_margin(self, images: Images) -> BatchScalar:
        """That of images that stand; 0 elsewhere."""
        rows, part = self._active_rows()
        return (
            _scatter_rows(part.mean_margin(images[rows]), self.active)
            if rows
            else images[:, 0, 0, 0] * 0
        )

    def merge_finished(self, images: Images) -> Images:
        """``images``, but those that were left alone before."""
        return where_per_image(self.active, images, self.finished_images)

    def _active_rows(self) -> tuple[list[int], Objective]:
        rows: list[int] = self.active.nonzero().flatten().tolist()
        whole = len(rows) == len(self.active)
        return rows, self.objective if whole else self.objective.select_rows(rows)


def init_active_set(objective: Objective, early_stop_draws: int, images: Images) -> ActiveSet:
    """Every image stands, as it does before a search."""
    stands = torch.ones(len(images), dtype=torch.bool, device=images.device)
    return ActiveSet(objective, early_stop_draws, stands, images)


def find_misclassified(
    objective: Objective, images: Images, n_draws: int, candidates: Bool[Tensor, " batch"]
) -> Bool[Tensor, " batch"]:
    """Which of those ``among`` the images are misread, in 8 bits, in each of ``draws`` calls.

    One that was read right in a call is not shown in the next.
    """
    wrong, saved = candidates.clone(), quantize_8bit(images)
    for _ in range(n_draws):
        rows: list[int] = wrong.nonzero().flatten().tolist()
        if not rows:
            break
        wrong[rows] = objective.select_rows(rows).single_draw_margin(saved[rows]) > 0
    return wrong


def _scatter_rows(part: Tensor, mask: Bool[Tensor, " batch"]) -> Tensor:
    """Rows put where they belong, among rows of zeros."""
    if len(part) == len(mask):
        return part
    whole = part.new_zeros(len(mask), *part.shape[1:])
    whole[mask] = part
    return whole
