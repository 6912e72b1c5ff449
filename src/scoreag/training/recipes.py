"""The recipes of classifiers: the numbers that were really used for those that are bundled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scoreag.load import hint
from scoreag.training.plan import LATER, Plan

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
ADVERSARIES = ("", "fgsm-rs", "pgd", "trades")


@dataclass(frozen=True)
class Recipe:
    """All that determines a classifier but the data.

    Args:
        network, options: file in networks/ and the arguments of its ``build``; the shape of the
            images and the number of classes come from the data.
        rate, momentum, decay: of SGD with Nesterov's momentum on the mean loss.
        bias_rate: how many times faster the biases of normalisations learn.
        smoothing: share of a label that is spread over all classes.
        sides: pairs of a share of the training and the side of the windows seen until then; small
            windows at the beginning save time; after the last pair, whole images.
        shift: pixels by which an image may move.
        mirror: whether an image is shown as its mirror image in every other epoch.
        adversary: "fgsm-rs", "pgd" or "trades"; "" is none.
        radius: of its ball in the maximum norm, in pixel units.
        stride: length of one of its steps, as a share of the radius.
        steps: how many it takes; FGSM-RS is one.
        beta: weight of the divergence in TRADES.
        extra_share: share of each batch that is extra data; 0 is none.
        lookahead: the network returns to its running average every so many steps; 0 is never.
        mean, std: what the network's input is normalised with, a number a channel; empty: those
            of the training images.
    """

    network: str
    plan: Plan
    options: Mapping[str, Any] = field(default_factory=dict)
    rate: float = 0.2
    momentum: float = 0.9
    decay: float = 5e-4
    bias_rate: float = 1.0
    smoothing: float = 0.0
    sides: Sequence[tuple[float, int]] = ()
    shift: int = 2
    mirror: bool = field(default=True, metadata=LATER)
    adversary: str = field(default="", metadata=LATER)
    radius: float = 0.0
    stride: float = field(default=1.25, metadata=LATER)
    steps: int = field(default=1, metadata=LATER)
    beta: float = field(default=6.0, metadata=LATER)
    extra_share: float = field(default=0.0, metadata=LATER)
    lookahead: int = 0
    mean: Sequence[float] = CIFAR10_MEAN
    std: Sequence[float] = CIFAR10_STD

    def __post_init__(self) -> None:
        if self.adversary not in ADVERSARIES:
            known = list(ADVERSARIES[1:])
            raise ValueError(f"no adversary {self.adversary!r}; {hint(self.adversary, known)}")
        if bool(self.adversary) != (self.radius > 0):
            raise ValueError(
                f"radius is {self.radius:g} and adversary {self.adversary!r}; write both, e.g. "
                "8/255 and 'fgsm-rs', or 0 and ''"
            )
        if self.adversary and not (self.stride > 0 and self.steps > 0 and self.beta >= 0):
            raise ValueError(
                f"stride {self.stride:g}, steps {self.steps} and beta {self.beta:g}: expected a "
                "stride above 0, e.g. 0.25, steps above 0, e.g. 10, and a beta from 0 on, e.g. 6"
            )
        if self.adversary == "fgsm-rs" and self.steps != 1:
            raise ValueError(f"fgsm-rs takes 1 step, not {self.steps}; write 'pgd' for more")
        if not 0 <= self.extra_share < 1:
            raise ValueError(
                f"extra_share is {self.extra_share:g}; expected 0 or a share, e.g. 0.7"
            )
        if self.lookahead and (self.plan.ema or self.plan.widths):
            raise ValueError(
                f"lookahead {self.lookahead} is an average of the weights, and the plan has "
                f"another one (ema {self.plan.ema:g}, widths {self.plan.widths}); set one to 0"
            )


PRESETS = {
    "cifar10-resnet20": Recipe(
        network="resnet",
        options={"depth": 20, "shortcut": "A"},
        plan=Plan(images=1_800_000, batch=128, warmup=0.15, decay=0.85),
        sides=((0.6, 24), (1.0, 32)),
        lookahead=20,
    ),
    "cifar10-judge": Recipe(
        network="whitened_cnn",
        options={"widths": [64, 256, 256], "mirrored": True},
        plan=Plan(images=460_800, batch=512, seed=1, warmup=0.2, decay=0.8),
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
        sides=((1.0, 32),),
        adversary="fgsm-rs",
        radius=8 / 255,
    ),
    "cifar10-wrn-16-4": Recipe(  # sized for a GPU, as are the next two; not measured here
        network="wide_resnet",
        options={"depth": 16, "width": 4},
        plan=Plan(images=2_000_000, batch=128, warmup=0.1, decay=0.9, ema=0.02),
        shift=4,
    ),
    "cifar10-wrn-28-10": Recipe(
        network="wide_resnet",
        options={"depth": 28, "width": 10},
        plan=Plan(images=5_000_000, batch=128, warmup=0.1, decay=0.9, ema=0.02),
        rate=0.1,
        shift=4,
    ),
    "cifar10-robust-wrn": Recipe(
        network="wide_resnet",
        options={"depth": 28, "width": 10, "activation": "silu"},
        plan=Plan(images=5_000_000, batch=256, seed=2, warmup=0.1, decay=0.9, ema=0.02),
        smoothing=0.1,
        shift=4,
        adversary="trades",
        radius=8 / 255,
        stride=0.25,
        steps=10,
        beta=5.0,
    ),
    "fashion-cnn": Recipe(
        network="wide_resnet",
        options={"depth": 10, "width": 1, "stem": 2},
        plan=Plan(images=400_000, batch=128, warmup=0.2, decay=0.8),
        shift=1,
        mirror=False,
        mean=(),
        std=(),
    ),
    "fashion-robust": Recipe(
        network="plain_cnn",
        options={"convolutions": [[32, 4, 2], [64, 4, 2]], "hidden": 128},
        plan=Plan(images=200_000, batch=128, seed=2, warmup=0.2, decay=0.8),
        rate=0.05,
        shift=1,
        mirror=False,
        adversary="fgsm-rs",
        radius=0.1,
        mean=(),
        std=(),
    ),
    "fashion-judge": Recipe(
        network="whitened_cnn",
        options={"widths": [32, 64, 128]},
        plan=Plan(images=600_000, batch=512, seed=1, warmup=0.2, decay=0.8),
        rate=0.75,
        momentum=0.85,
        decay=1.33e-3,
        bias_rate=64.0,
        smoothing=0.2,
        sides=((0.7, 20),),
        mirror=False,
        lookahead=10,
        mean=(),
        std=(),
    ),
}
