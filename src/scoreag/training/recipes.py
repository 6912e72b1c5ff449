"""The recipes of the bundled classifiers: the numbers that were really used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scoreag.training.loop import Plan

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


@dataclass(frozen=True)
class Recipe:
    """All that determines a classifier but the data.

    Args:
        network, options: file in networks/ and the arguments of its ``build``.
        rate, momentum, decay: of SGD with Nesterov's momentum on the mean loss.
        bias_rate: how many times faster the biases of normalisations learn.
        smoothing: share of a label that is spread over all classes.
        sides: pairs of a share of the training and the side of the windows seen until then; small
            windows at the beginning save time.
        shift: pixels by which an image may move.
        radius: of the adversary in the maximum norm, in pixel units; 0 is none.
        lookahead: the network returns to its running average every so many steps; 0 is never.
    """

    network: str
    plan: Plan
    options: Mapping[str, Any] = field(default_factory=dict)
    rate: float = 0.2
    momentum: float = 0.9
    decay: float = 5e-4
    bias_rate: float = 1.0
    smoothing: float = 0.0
    sides: Sequence[tuple[float, int]] = ((1.0, 32),)
    shift: int = 2
    radius: float = 0.0
    lookahead: int = 0
    mean: Sequence[float] = CIFAR10_MEAN
    std: Sequence[float] = CIFAR10_STD


PRESETS = {
    "cifar10-resnet20": Recipe(
        network="resnet",
        options={"depth": 20, "shortcut": "A"},
        plan=Plan(images=896_000, batch=128, warmup=0.15, decay=0.85),
        sides=((0.6, 24), (1.0, 32)),
        lookahead=20,
    ),
    "cifar10-judge": Recipe(
        network="whitened_cnn",
        options={"widths": [64, 128, 128], "mirrored": True},
        plan=Plan(images=368_640, batch=512, seed=1, warmup=0.2, decay=0.8),
        rate=0.75,
        momentum=0.85,
        decay=1.33e-3,
        bias_rate=64.0,
        smoothing=0.2,
        sides=((0.7, 24), (1.0, 32)),
        lookahead=10,
    ),
    "cifar10-robust": Recipe(
        network="plain_cnn",
        plan=Plan(images=153_600, batch=128, seed=2, warmup=0.2, decay=0.8),
        rate=0.05,
        radius=8 / 255,
    ),
}
