"""What a checkpoint turned out to be: a family, an architecture, its arguments, its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class CheckpointSpec:
    """A checkpoint as it was recognized, ready to become a card.

    Args:
        format: of the file, in words.
        family: a file of score_models/.
        levels: of the card: what its family has to know besides.
        network, options: a file of networks/ and the arguments of its ``build``.
        tensors: under the names of that network.
        classes: how many labels it knows; 0 knows none.
        license: of the weights, as far as the format tells.
        left: what the file holds besides, and what was not needed, in words.
    """

    format: str
    family: str
    network: str
    options: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    image_shape: tuple[int, int, int]
    classes: int
    sigma_data: float = 0.5
    schedule_kwargs: Mapping[str, Any] = field(default_factory=dict)
    license: str = "not told by the file"
    unused_keys: tuple[str, ...] = field(default=())
