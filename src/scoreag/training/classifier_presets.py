"""The recipes of classifiers: the numbers that were really used for those that are bundled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scoreag.registry import did_you_mean
from scoreag.training.schedule import OMIT_IF_DEFAULT, TrainingSchedule

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
ADVERSARIAL_METHODS = ("", "fgsm-rs", "pgd", "trades")


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
    schedule: TrainingSchedule
    options: Mapping[str, Any] = field(default_factory=dict)
    lr: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    bias_lr_factor: float = 1.0
    label_smoothing: float = 0.0
    crop_schedule: Sequence[tuple[float, int]] = ()
    random_shift: int = 2
    hflip: bool = field(default=True, metadata=OMIT_IF_DEFAULT)
    adversarial: str = field(default="", metadata=OMIT_IF_DEFAULT)
    eps: float = 0.0
    step_size: float = field(default=1.25, metadata=OMIT_IF_DEFAULT)
    attack_steps: int = field(default=1, metadata=OMIT_IF_DEFAULT)
    beta: float = field(default=6.0, metadata=OMIT_IF_DEFAULT)
    extra_fraction: float = field(default=0.0, metadata=OMIT_IF_DEFAULT)
    lookahead: int = 0
    mean: Sequence[float] = CIFAR10_MEAN
    std: Sequence[float] = CIFAR10_STD

    def __post_init__(self) -> None:
        if self.adversarial not in ADVERSARIAL_METHODS:
            known = list(ADVERSARIAL_METHODS[1:])
            raise ValueError(
                f"no adversarial method {self.adversarial!r}; {did_you_mean(self.adversarial, known)}"
            )
        if bool(self.adversarial) != (self.eps > 0):
            raise ValueError(
                f"eps is {self.eps:g} and adversarial {self.adversarial!r}; write both, e.g. "
                "8/255 and 'fgsm-rs', or 0 and ''"
            )
        if self.adversarial and not (
            self.step_size > 0 and self.attack_steps > 0 and self.beta >= 0
        ):
            raise ValueError(
                f"step_size {self.step_size:g}, attack_steps {self.attack_steps}, beta {self.beta:g}: "
                "expected a step_size above 0, e.g. 0.25, attack_steps above 0, e.g. 10, and a beta "
                "from 0 on, e.g. 6"
            )
        if self.adversarial == "fgsm-rs" and self.attack_steps != 1:
            raise ValueError(f"fgsm-rs takes 1 step, not {self.attack_steps}; write 'pgd' for more")
        if not 0 <= self.extra_fraction < 1:
            raise ValueError(
                f"extra_fraction is {self.extra_fraction:g}; expected 0 or a share, e.g. 0.7"
            )
        if self.lookahead and (self.schedule.ema_rampup_ratio or self.schedule.ema_widths):
            raise ValueError(
                f"lookahead {self.lookahead} is an average of the weights, and the schedule has "
                f"another one (ema_rampup_ratio {self.schedule.ema_rampup_ratio:g}, ema_widths "
                f"{self.schedule.ema_widths}); set one to 0"
            )


PRESETS = {
    "cifar10-resnet20": Recipe(
        network="cifar_resnet",
        options={"depth": 20, "shortcut": "A"},
        schedule=TrainingSchedule(
            total_images=1_800_000, batch_size=128, warmup_fraction=0.15, decay_fraction=0.85
        ),
        crop_schedule=((0.6, 24), (1.0, 32)),
        lookahead=20,
    ),
    "cifar10-judge": Recipe(
        network="airbench_cnn",
        options={"widths": [64, 256, 256], "mirrored": True},
        schedule=TrainingSchedule(
            total_images=460_800, batch_size=512, seed=1, warmup_fraction=0.2, decay_fraction=0.8
        ),
        lr=0.75,
        momentum=0.85,
        weight_decay=1.33e-3,
        bias_lr_factor=64.0,
        label_smoothing=0.2,
        crop_schedule=((0.7, 24), (1.0, 32)),
        lookahead=10,
    ),
    "cifar10-robust": Recipe(
        network="small_cnn",
        schedule=TrainingSchedule(
            total_images=153_600, batch_size=128, seed=2, warmup_fraction=0.2, decay_fraction=0.8
        ),
        lr=0.05,
        crop_schedule=((1.0, 32),),
        adversarial="fgsm-rs",
        eps=8 / 255,
    ),
    "cifar10-wrn-16-4": Recipe(  # sized for a GPU, as are the next two; not measured here
        network="wide_resnet",
        options={"depth": 16, "width": 4},
        schedule=TrainingSchedule(
            total_images=2_000_000,
            batch_size=128,
            warmup_fraction=0.1,
            decay_fraction=0.9,
            ema_rampup_ratio=0.02,
        ),
        random_shift=4,
    ),
    "cifar10-wrn-28-10": Recipe(
        network="wide_resnet",
        options={"depth": 28, "width": 10},
        schedule=TrainingSchedule(
            total_images=5_000_000,
            batch_size=128,
            warmup_fraction=0.1,
            decay_fraction=0.9,
            ema_rampup_ratio=0.02,
        ),
        lr=0.1,
        random_shift=4,
    ),
    "cifar10-robust-wrn": Recipe(
        network="wide_resnet",
        options={"depth": 28, "width": 10, "activation": "silu"},
        schedule=TrainingSchedule(
            total_images=5_000_000,
            batch_size=256,
            seed=2,
            warmup_fraction=0.1,
            decay_fraction=0.9,
            ema_rampup_ratio=0.02,
        ),
        label_smoothing=0.1,
        random_shift=4,
        adversarial="trades",
        eps=8 / 255,
        step_size=0.25,
        attack_steps=10,
        beta=5.0,
    ),
    "fashion-cnn": Recipe(
        network="wide_resnet",
        options={"depth": 10, "width": 1, "stem": 2},
        schedule=TrainingSchedule(
            total_images=400_000, batch_size=128, warmup_fraction=0.2, decay_fraction=0.8
        ),
        random_shift=1,
        hflip=False,
        mean=(),
        std=(),
    ),
    "fashion-robust": Recipe(
        network="small_cnn",
        options={"convolutions": [[32, 4, 2], [64, 4, 2]], "hidden": 128},
        schedule=TrainingSchedule(
            total_images=200_000, batch_size=128, seed=2, warmup_fraction=0.2, decay_fraction=0.8
        ),
        lr=0.05,
        random_shift=1,
        hflip=False,
        adversarial="fgsm-rs",
        eps=0.1,
        mean=(),
        std=(),
    ),
    "fashion-judge": Recipe(
        network="airbench_cnn",
        options={"widths": [32, 64, 128]},
        schedule=TrainingSchedule(
            total_images=600_000, batch_size=512, seed=1, warmup_fraction=0.2, decay_fraction=0.8
        ),
        lr=0.75,
        momentum=0.85,
        weight_decay=1.33e-3,
        bias_lr_factor=64.0,
        label_smoothing=0.2,
        crop_schedule=((0.7, 20),),
        hflip=False,
        lookahead=10,
        mean=(),
        std=(),
    ),
}
