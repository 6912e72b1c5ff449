"""The recipes of classifiers: the numbers that were used for those that are bundled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from scoreag.registry import did_you_mean
from scoreag.training.schedule import OMIT_IF_DEFAULT, TrainingSchedule

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
ADVERSARIAL_METHODS = ("fgsm-rs", "pgd", "trades")


@dataclass(frozen=True)
class Recipe:
    """All that determines a classifier but the data.

    Args:
        network, options: a network and the arguments of its ``build``; the shape of the images and
            the number of classes come from the data.
        lr, momentum, weight_decay: of SGD with Nesterov's momentum on the mean loss.
        bias_lr_factor: how many times faster the biases of normalizations learn.
        crop_schedule: pairs of a fraction of the training and the side of the crops until then;
            small crops at the beginning save time; after the last pair, whole images.
        random_shift: pixels by which an image may move.
        hflip: whether an image is mirrored in every other epoch.
        adversarial: "fgsm-rs", "pgd" or "trades"; "" is none.
        eps: of its ball in the maximum norm, in pixel units.
        step_size: of the attack, as a fraction of eps.
        attack_steps: how many it takes; FGSM-RS is one.
        beta: weight of the divergence in TRADES.
        extra_fraction: fraction of each batch that is extra data.
        lookahead: the network returns to its running average every so many steps; 0 is never.
        mean, std: the network's input is normalized with these, a number a channel; empty: those
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
        self._check_adversarial()
        if not 0 <= self.extra_fraction < 1:
            raise ValueError(
                f"extra_fraction is {self.extra_fraction:g}; expected 0 or a fraction, e.g. 0.7"
            )
        ratio, widths = self.schedule.ema_rampup_ratio, self.schedule.ema_widths
        if self.lookahead and (ratio or widths):
            raise ValueError(
                f"lookahead {self.lookahead} is an average of the weights, and the schedule has "
                f"another one (ema_rampup_ratio {ratio:g}, ema_widths {widths}); set one to 0"
            )

    def _check_adversarial(self) -> None:
        method, known = self.adversarial, list(ADVERSARIAL_METHODS)
        if method and method not in known:
            raise ValueError(f"no adversarial method {method!r}; {did_you_mean(method, known)}")
        if bool(method) != (self.eps > 0):
            raise ValueError(
                f"eps is {self.eps:g} and adversarial {method!r}; write both, e.g. "
                "8/255 and 'fgsm-rs', or 0 and ''"
            )
        if method and not (self.step_size > 0 and self.attack_steps > 0 and self.beta >= 0):
            raise ValueError(
                f"step_size {self.step_size:g}, attack_steps {self.attack_steps}, beta "
                f"{self.beta:g}: expected a step_size above 0, e.g. 0.25, attack_steps above 0, "
                "e.g. 10, and a beta from 0 on, e.g. 6"
            )
        if method == "fgsm-rs" and self.attack_steps != 1:
            raise ValueError(f"fgsm-rs takes 1 step, not {self.attack_steps}; write 'pgd' for more")


def _schedule(total: int, batch_size: int, seed: int = 0, warmup: float = 0.2) -> TrainingSchedule:
    """A triangle: the rate rises, then falls until the end."""
    return TrainingSchedule(
        total_images=total, batch_size=batch_size, seed=seed, warmup_fraction=warmup,
        decay_fraction=round(1 - warmup, 6),
    )  # fmt: skip


def _wide_resnet(total: int, batch_size: int, seed: int = 0, **options: Any) -> Recipe:
    """Sized for a GPU; not measured."""
    schedule = replace(_schedule(total, batch_size, seed, 0.1), ema_rampup_ratio=0.02)
    return Recipe("wide_resnet", schedule, options, random_shift=4)


_CIFAR10_JUDGE = Recipe(
    "airbench_cnn", _schedule(460_800, 512, seed=1), {"widths": [64, 256, 256], "mirrored": True},
    lr=0.75, momentum=0.85, weight_decay=1.33e-3, bias_lr_factor=64.0, label_smoothing=0.2,
    crop_schedule=((0.7, 24), (1.0, 32)), lookahead=10,
)  # fmt: skip
_CIFAR10_ROBUST = Recipe(
    "small_cnn", _schedule(153_600, 128, seed=2), lr=0.05, crop_schedule=((1.0, 32),),
    adversarial="fgsm-rs", eps=8 / 255,
)  # fmt: skip

PRESETS = {
    "cifar10-resnet20": Recipe(
        "cifar_resnet", _schedule(1_800_000, 128, warmup=0.15), {"depth": 20, "shortcut": "A"},
        crop_schedule=((0.6, 24), (1.0, 32)), lookahead=20,
    ),
    "cifar10-judge": _CIFAR10_JUDGE,
    "cifar10-robust": _CIFAR10_ROBUST,
    "cifar10-wrn-16-4": _wide_resnet(2_000_000, 128, depth=16, width=4),
    "cifar10-wrn-28-10": replace(_wide_resnet(5_000_000, 128, depth=28, width=10), lr=0.1),
    "cifar10-robust-wrn": replace(
        _wide_resnet(5_000_000, 256, seed=2, depth=28, width=10, activation="silu"),
        label_smoothing=0.1, adversarial="trades", eps=8 / 255, step_size=0.25, attack_steps=10,
        beta=5.0,
    ),
    "fashion-cnn": Recipe(
        "wide_resnet", _schedule(400_000, 128), {"depth": 10, "width": 1, "stem": 2},
        random_shift=1, hflip=False, mean=(), std=(),
    ),
    "fashion-robust": replace(
        _CIFAR10_ROBUST, schedule=_schedule(200_000, 128, seed=2),
        options={"convolutions": [[32, 4, 2], [64, 4, 2]], "hidden": 128}, crop_schedule=(),
        random_shift=1, hflip=False, eps=0.1, mean=(), std=(),
    ),
    "fashion-judge": replace(
        _CIFAR10_JUDGE, schedule=_schedule(600_000, 512, seed=1),
        options={"widths": [32, 64, 128]}, crop_schedule=((0.7, 20),), hflip=False, mean=(), std=(),
    ),
}  # fmt: skip
