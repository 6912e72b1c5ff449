"""By what means a recipe is followed: none of them changes the result but by rounding."""

from dataclasses import dataclass

from torch import nn

from scoreag.training.team import ALONE, Team


@dataclass(frozen=True)
class Means:
    """How a recipe is carried out: processes, compilation, memory layout, logging.

    Args:
        team: the processes that share the work, and the turns in which each does its part.
        compiled: whether torch.compile makes a program of the network; it has to be told.
        channels_last: whether the colours of a pixel lie side by side in memory.
        tensorboard: whether curves are written for TensorBoard, too.
    """

    team: Team = ALONE
    compiled: bool = False
    channels_last: bool = True
    tensorboard: bool = False


def compiled(network: nn.Module, means: Means) -> None:
    """Make a program of the network if that is wanted; its weights keep their names."""
    if means.compiled:
        network.compile()
