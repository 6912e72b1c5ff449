"""The recipes of classifiers and score models, and the presets, with the values that were used."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from scoreag.registry import did_you_mean
from scoreag.training.losses import LN_SIGMA
from scoreag.training.schedule import OMIT_IF_DEFAULT, TrainingSchedule

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
ADVERSARIAL_METHODS = ("fgsm-rs", "n-fgsm", "pgd", "trades")
SINGLE_STEP_METHODS = ("fgsm-rs", "n-fgsm")


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a classifier, except the data.

    Args:
        network, options: a network and the arguments of its ``build``; the shape of the images and
            the number of classes come from the data.
        lr, momentum, weight_decay: of SGD with Nesterov's momentum on the mean loss.
        bias_lr_factor: how many times faster the biases of normalizations learn.
        crop_schedule: pairs of a fraction of the training and the side of the crops until then;
            small crops at the beginning save time; after the last pair, images are not cropped.
        random_shift: pixels by which an image may be shifted.
        hflip: whether an image is mirrored in every other epoch.
        adversarial: "fgsm-rs", "n-fgsm", "pgd" or "trades"; "" is none.
        eps: of its ball in the maximum norm, in pixel units.
        step_size: of the attack, as a fraction of eps.
        attack_steps: of the attack; 1 for FGSM-RS and N-FGSM.
        beta: weight of the divergence in TRADES.
        extra_fraction: fraction of each batch that is extra data.
        denoised, noise: a score model, and the deviation of noise in [0, 1] that it removes in one
            step, from images that the network then learns to read; "" and 0: none.
        clean_fraction: of such a batch, without noise.
        consistency: weight of the disagreement of two such copies; 0 is one copy.
        confident: whether copies that the network reads wrongly are left out.
        lookahead: the network is reset to its running average every so many steps; 0 is never.
        mean, std: of each channel, which normalize the network's input; empty: those of the
            training images.
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
    denoised: str = field(default="", metadata=OMIT_IF_DEFAULT)
    noise: float = field(default=0.0, metadata=OMIT_IF_DEFAULT)
    clean_fraction: float = field(default=0.25, metadata=OMIT_IF_DEFAULT)
    consistency: float = field(default=0.0, metadata=OMIT_IF_DEFAULT)
    confident: bool = field(default=False, metadata=OMIT_IF_DEFAULT)
    lookahead: int = 0
    mean: Sequence[float] = CIFAR10_MEAN
    std: Sequence[float] = CIFAR10_STD

    def __post_init__(self) -> None:
        self._check_adversarial()
        self._check_denoised()
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

    def _check_denoised(self) -> None:
        numbers = (self.noise, self.consistency, self.clean_fraction)
        if not (all(0 <= x < math.inf for x in numbers) and self.clean_fraction < 1):
            raise ValueError(
                f"noise {self.noise:g}, consistency {self.consistency:g}, clean_fraction "
                f"{self.clean_fraction:g}: expected numbers from 0 on, and a fraction below 1, "
                "e.g. 0.25, 5 and 0.25"
            )
        if bool(self.denoised) != (self.noise > 0):
            raise ValueError(
                f"noise is {self.noise:g} and denoised {self.denoised!r}; write both, a deviation "
                "and a score model that removes it, e.g. 0.25 and 'cifar10', or none"
            )
        if self.denoised and self.adversarial:
            raise ValueError(
                f"adversarial is {self.adversarial!r} and denoised {self.denoised!r}; a training "
                "has one of them: leave the other out"
            )
        if not self.denoised and (self.consistency or self.confident):
            raise ValueError(
                "consistency and confident are of denoised copies; write denoised and noise, too, "
                "e.g. 'cifar10' and 0.25"
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
        if method in SINGLE_STEP_METHODS and self.attack_steps != 1:
            raise ValueError(
                f"{method} takes 1 step, not {self.attack_steps}; write 'pgd' for more"
            )


@dataclass(frozen=True)
class ScoreRecipe:
    """Everything that determines a score model, except the data.

    Args:
        network, options: a network and the arguments of its ``build``; the shape of the images and
            the number of classes come from the data.
        schedule: its ``warmup_fraction`` is set from ``warmup_images``.
        optimizer: "adamw" or "muon", which trains all parameters but matrices with AdamW.
        adam_lr, embed_layers: with Muon, the rate of AdamW, and the first and last parts of the
            network, which AdamW trains, too.
        betas: AdamW's.
        label_dropout: fraction of the labels that are dropped, for the unconditional model.
        sigma_data: the standard deviation of the data in [-1, 1].
        family: what the network predicts, and at which noise levels; see losses.py.
        ln_sigma: mean and standard deviation of the logarithm of these levels, for EDM.
        hflip: whether half of the images are mirrored.
        head_weight: of the loss of the network's head, if its options have ``head_at``.
    """

    network: str
    schedule: TrainingSchedule
    options: Mapping[str, Any] = field(default_factory=dict)
    warmup_images: int = 12_800
    optimizer: str = "adamw"
    lr: float = 1e-3
    adam_lr: float = 1e-3
    embed_layers: tuple[str, ...] = ("first", "last")
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    label_dropout: float = 0.1
    sigma_data: float = 0.5
    family: str = field(default="edm", metadata=OMIT_IF_DEFAULT)
    ln_sigma: tuple[float, float] = field(default=LN_SIGMA, metadata=OMIT_IF_DEFAULT)
    hflip: bool = field(default=True, metadata=OMIT_IF_DEFAULT)
    head_weight: float = field(default=0.25, metadata=OMIT_IF_DEFAULT)

    @property
    def resolved_schedule(self) -> TrainingSchedule:
        """The schedule, with the warm-up as a fraction of it."""
        fraction = min(1.0, self.warmup_images / self.schedule.total_images)
        return replace(self.schedule, warmup_fraction=fraction)


def _schedule(total: int, batch_size: int, seed: int = 0, warmup: float = 0.2) -> TrainingSchedule:
    """The rate rises, then falls until the end."""
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

CLASSIFIER_PRESETS = {
    "cifar10-resnet20": Recipe(
        "cifar_resnet", _schedule(1_800_000, 128, warmup=0.15), {"depth": 20, "shortcut": "A"},
        crop_schedule=((0.6, 24), (1.0, 32)), lookahead=20,
    ),
    "cifar10-judge": _CIFAR10_JUDGE,
    "cifar10-robust": _CIFAR10_ROBUST,
    "cifar10-robust-prn": Recipe(
        "preact_resnet",
        replace(_schedule(1_350_000, 128, seed=2, warmup=0.15), ema_rampup_ratio=0.02),
        {"width": 32}, crop_schedule=((0.6, 24), (1.0, 32)), adversarial="n-fgsm", eps=8 / 255,
        step_size=1.0,
    ),
    "cifar10-wrn-16-4": _wide_resnet(2_000_000, 128, depth=16, width=4),
    "cifar10-wrn-28-10": replace(_wide_resnet(5_000_000, 128, depth=28, width=10), lr=0.1),
    "cifar10-robust-wrn": replace(
        _wide_resnet(5_000_000, 256, seed=2, depth=28, width=10, activation="silu"),
        label_smoothing=0.1, adversarial="trades", eps=8 / 255, step_size=0.25, attack_steps=10,
        beta=5.0,
    ),
    "cifar10-people": replace(  # made for --init cifar10-judge and --humans cifar10n
        _CIFAR10_JUDGE, schedule=_schedule(200_000, 256, seed=3), lr=0.1, label_smoothing=0.0,
        crop_schedule=((0.3, 24), (1.0, 32)),
    ),
    "cifar100-resnet": Recipe(  # made for --init cifar10-robust-prn
        "preact_resnet", replace(_schedule(500_000, 128, warmup=0.1), ema_rampup_ratio=0.02),
        {"width": 32}, lr=0.1, label_smoothing=0.1, crop_schedule=((0.6, 24), (1.0, 32)),
        mean=(), std=(),
    ),
    "cifar100-judge": replace(  # made for --init cifar10-judge
        _CIFAR10_JUDGE, schedule=_schedule(400_000, 512, seed=1), lr=0.5, mean=(), std=(),
    ),
    "tiny-imagenet-resnet": Recipe(  # made for --init cifar10-robust-prn
        "preact_resnet", replace(_schedule(100_000, 64, warmup=0.1), ema_rampup_ratio=0.02),
        {"width": 32}, lr=0.05, label_smoothing=0.1, crop_schedule=((0.6, 48), (1.0, 64)),
        random_shift=4, mean=(), std=(),
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


def _unet(total: int, batch_size: int = 64, decay: float = 0.25, **options: Any) -> ScoreRecipe:
    """A U-Net by Muon, with averages of two widths."""
    schedule = TrainingSchedule(
        total_images=total, batch_size=batch_size, decay_fraction=decay, max_grad_norm=1.0,
        ema_widths=(0.05, 0.10),
    )  # fmt: skip
    return ScoreRecipe("unet", schedule, options, optimizer="muon", lr=6e-3, adam_lr=2e-3)


_FASHION = replace(
    _unet(600_000, decay=0.3, channels=32, multipliers=[1, 2], blocks=2, attention_at=[]),
    sigma_data=0.7, hflip=False, ln_sigma=(-0.4, 1.2),
)  # fmt: skip


def _fashion_variant(family: str, period: float) -> ScoreRecipe:
    """The network of fashion-small as another family, with published settings, trained shorter.

    Args:
        period: about the length of the interval of the network's time input.
    """
    options = {**_FASHION.options, "period": period}
    schedule = replace(_FASHION.schedule, total_images=80_000)
    return replace(_FASHION, family=family, ln_sigma=LN_SIGMA, options=options, schedule=schedule)


SCORE_PRESETS = {
    "cifar10-small": replace(
        _unet(8_000_000, channels=32, multipliers=[1, 1, 2, 4], patch=1, head_at=16),
        ln_sigma=(-0.8, 1.2), lr=3e-3, adam_lr=1e-3,
    ),
    "cifar10-base": replace(  # sized for 15 minutes of a GPU, not measured
        _unet(6_000_000, 512, 0.3, channels=96, multipliers=[1, 2, 3], blocks=2,
              attention_at=[16, 8], patch=1),
        warmup_images=102_400, lr=3e-3, adam_lr=1e-3,
    ),
    "cifar100-small": replace(  # made for --init cifar10
        _unet(400_000, channels=32, multipliers=[1, 1, 2, 4], patch=1, head_at=16),
        ln_sigma=(-0.8, 1.2), lr=3e-3, adam_lr=1e-3,
    ),
    "fashion-small": _FASHION,
    "fashion-edm": _fashion_variant("edm", 3.0),
    "fashion-ddpm": _fashion_variant("ddpm", 1000.0),
    "fashion-ncsn": _fashion_variant("ncsn", 12.0),
    "tiny-imagenet-small": replace(  # made for --init cifar10
        _unet(90_000, channels=32, multipliers=[1, 1, 2, 4], attention_at=[16], patch=1,
              head_at=32),
        ln_sigma=(-0.8, 1.2), lr=3e-3, adam_lr=1e-3,
    ),
    "tiny": ScoreRecipe(  # learns next to nothing, in a minute, to test an installation
        "unet",
        TrainingSchedule(
            total_images=6_400, batch_size=32, decay_fraction=0.25, ema_rampup_ratio=0.05,
            max_grad_norm=1.0,
        ),
        {"channels": 16, "multipliers": [1], "attention_at": []},
        warmup_images=640,
    ),
}  # fmt: skip

FASHION_SETTINGS: dict[str, dict[str, Any]] = {
    "synthesize": {
        "sampler": "ancestral", "sigma_start": 80.0, "steps": 20, "attack_scale": "auto",
        "x0_steps": 16, "attack_interval": [0.0, 1.0], "guidance_scale": 8.0,
        "guidance_interval": [0.2, 2.0],
    },
    "transform": {
        "sampler": "dpmpp_2m", "sigma_start": 0.8, "steps": 10, "similarity": 60.0,
        "attack_scale": "auto", "x0_steps": 5, "guidance_scale": 3.0,
    },
    "purify": {"sampler": "ancestral", "sigma_start": 0.6, "steps": 6, "similarity": 5.0},
}  # fmt: skip

CIFAR_SETTINGS: dict[str, dict[str, Any]] = {
    "synthesize": {
        "sampler": "dpmpp_2m", "sigma_start": 80.0, "steps": 20, "attack_scale": "auto",
        "x0_steps": 2, "attack_interval": [0.0, 2.0], "guidance_scale": 12.0,
        "guidance_interval": [0.2, 1.5],
    },
    "transform": {
        "sampler": "dpmpp_2m", "sigma_start": 0.2, "steps": 8, "similarity": 1000.0,
        "attack_scale": "auto", "x0_steps": 2,
    },
    "purify": {"sampler": "ancestral", "sigma_start": 0.3, "steps": 6, "similarity": 10.0},
}  # fmt: skip

TASK_SETTINGS: dict[str, dict[str, dict[str, Any]]] = {  # defaults of the tasks, in the card
    **{f"fashion-{name}": FASHION_SETTINGS for name in ("small", "edm", "ddpm", "ncsn")},
    "cifar10-small": CIFAR_SETTINGS,
    "cifar100-small": {
        **CIFAR_SETTINGS,
        "transform": {**CIFAR_SETTINGS["transform"], "sigma_start": 0.1, "similarity": 10_000.0},
        "purify": {"sampler": "ancestral", "sigma_start": 0.2, "steps": 6, "similarity": 30.0},
    },
    "tiny-imagenet-small": {
        **CIFAR_SETTINGS,
        "synthesize": {**CIFAR_SETTINGS["synthesize"], "guidance_interval": [0.2, 4.0]},
    },
}  # fmt: skip
