"""Random numbers that belong to an image, not to a batch.

Row ``i`` of every draw is a function of the seed, of the identity of image ``i`` and of the name
of the draw, and of nothing else.  Results therefore survive splitting, reordering or resuming a
batch, and a step that is recomputed for its gradient sees the noise that it saw before.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from operator import index

import torch
from torch import Tensor

from scoreag.core.types import State


@dataclass(frozen=True)
class Noise:
    """A stateless source of randomness for the images ``image_ids``.

    >>> noise = Noise(seed=0, image_ids=[7, 8])
    >>> x = torch.zeros(2, 3)
    >>> torch.equal(noise.at("step", 1).normal_like(x), noise.at("step", 1).normal_like(x))
    True
    """

    seed: int
    image_ids: Sequence[int]
    name: tuple[str | int, ...] = ()
    within: tuple[tuple[str | int, ...], ...] = ()  # if any, what precedes the name, row by row

    def __post_init__(self) -> None:
        """Whole numbers of any library are plain ones here: the key is their text."""
        object.__setattr__(self, "seed", index(self.seed))
        object.__setattr__(self, "image_ids", tuple(index(i) for i in self.image_ids))

    @staticmethod
    def joined(parts: Sequence["Noise"]) -> "Noise":
        """One source for the rows of all ``parts``, of one seed: each draws what it drew there."""
        seeds = {part.seed for part in parts}
        if len(seeds) != 1:
            raise ValueError(f"noise of the seeds {sorted(seeds)} is not one; give parts of one")
        ids = [i for part in parts for i in part.image_ids]
        names = [(*row, *part.name) for part in parts for row in part._prefixes()]
        return Noise(seeds.pop(), ids, within=tuple(names))

    def at(self, *name: str | int) -> "Noise":
        """The source for a named purpose, e.g. ``noise.at("step", 3)``."""
        plain = (word if isinstance(word, str) else index(word) for word in name)
        return replace(self, name=(*self.name, *plain))

    def normal_like(self, x: State) -> State:
        """Standard normal numbers with the shape, dtype and device of ``x``."""
        if len(x) != len(self.image_ids):
            raise ValueError(f"x has {len(x)} rows, but there are {len(self.image_ids)} image ids")
        rows = zip(self.image_ids, self._prefixes(), strict=True)
        return torch.stack([self._row(i, before, x.shape[1:]) for i, before in rows]).to(x)

    def _prefixes(self) -> tuple[tuple[str | int, ...], ...]:
        return self.within or ((),) * len(self.image_ids)

    def _row(self, image_id: int, before: tuple[str | int, ...], shape: torch.Size) -> Tensor:
        """Drawn on the CPU in float32, so that every device and dtype sees the same numbers."""
        source = generator(self.seed, image_id, (*before, *self.name))
        return torch.randn(shape, generator=source, dtype=torch.float32, device="cpu")


def generator(*key: object) -> torch.Generator:
    """A generator on the CPU whose numbers are a function of ``key``, and of nothing else."""
    digest = int.from_bytes(blake2b(repr(key).encode(), digest_size=8).digest(), "little")
    return torch.Generator("cpu").manual_seed(digest >> 1)  # it takes 63 bits


def noisy(x0: Tensor, sigma: Tensor, noise: Noise) -> Tensor:
    """``x0 + sigma n``: the forward process, at noise level ``sigma``."""
    return x0 + sigma * noise.at("forward").normal_like(x0)
