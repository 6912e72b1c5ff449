"""Who is still searched on: an image is left alone once it is misread in fresh draws.

Only images that stand are shown to the classifier.  Where it counts its draws row by row, as a
defence of this library does, what comes of an image does not depend on who else was left alone.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from scoreag.core.types import Images, PerImage
from scoreag.jobs import eight_bit
from scoreag.search.objective import Objective, Slope, chosen


@dataclass(frozen=True, eq=False)
class Standing:
    """An objective for those images of a batch that ``stand``; the others lie where they are left.

    Args:
        stop: of how many fresh draws each must err before an image is left alone; 0 never leaves.
    """

    objective: Objective
    stop: int
    stands: Bool[Tensor, " batch"]
    left: Images

    def slope(self, images: Images) -> tuple[Slope, "Standing"]:
        """The slope where images stand, and 0 elsewhere; and who stands after that.

        Asked about are only images that were misread in each of the gradient's draws.
        """
        rows, part = self._part()
        found = part.slope(images[rows])
        slope = Slope(*(_spread(each, self.stands) for each in vars(found).values()))
        if not self.stop:
            return slope, self
        fallen = misread(part, images[rows], self.stop, found.least > 0)
        gone = torch.zeros_like(self.stands)
        gone[rows] = fallen
        left = chosen(gone, images, self.left)
        return slope, replace(self, stands=self.stands & ~gone, left=left)

    def lead(self, images: Images) -> PerImage:
        """That of images that stand; 0 elsewhere."""
        rows, part = self._part()
        return _spread(part.lead(images[rows]), self.stands) if rows else images[:, 0, 0, 0] * 0

    def found(self, images: Images) -> Images:
        """``images``, but those that were left alone before."""
        return chosen(self.stands, images, self.left)

    def _part(self) -> tuple[list[int], Objective]:
        rows: list[int] = self.stands.nonzero().flatten().tolist()
        whole = len(rows) == len(self.stands)
        return rows, self.objective if whole else self.objective.of_rows(rows)


def all_standing(objective: Objective, stop: int, images: Images) -> Standing:
    """Every image stands, as it does before a search."""
    stands = torch.ones(len(images), dtype=torch.bool, device=images.device)
    return Standing(objective, stop, stands, images)


def misread(
    objective: Objective, images: Images, draws: int, among: Bool[Tensor, " batch"]
) -> Bool[Tensor, " batch"]:
    """Which of those ``among`` the images are misread, in 8 bits, in each of ``draws`` calls.

    One that was read right in a call is not shown in the next.
    """
    wrong, saved = among.clone(), eight_bit(images)
    for _ in range(draws):
        rows: list[int] = wrong.nonzero().flatten().tolist()
        if not rows:
            break
        wrong[rows] = objective.of_rows(rows).once(saved[rows]) > 0
    return wrong


def _spread(part: Tensor, where: Bool[Tensor, " batch"]) -> Tensor:
    """Rows put where they belong, among rows of zeros."""
    if len(part) == len(where):
        return part
    whole = part.new_zeros(len(where), *part.shape[1:])
    whole[where] = part
    return whole
