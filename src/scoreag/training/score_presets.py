"""The recipes of score models: the numbers that were used."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from scoreag.training.denoising_loss import LN_SIGMA
from scoreag.training.schedule import OMIT_IF_DEFAULT, TrainingSchedule


@dataclass(frozen=True)
class ScoreRecipe:
    """All that determines a score model but the data.

    Args:
        network, options: a network and the arguments of its ``build``; the shape of the images and
            the number of classes come from the data.
        schedule: its ``warmup_fraction`` is set from ``warmup_images``.
        optimizer: "adamw" or "muon"; the latter has AdamW for what is no matrix.
        adam_lr, embed_layers: with Muon, the rate of AdamW, and the parts of the network at its
            ends, which AdamW trains too.
        betas: AdamW's.
        label_dropout: fraction of the labels that are withheld, for the unconditional model.
        sigma_data: the standard deviation of the data in [-1, 1].
        family: what the network predicts, and at which noise levels; see denoising_loss.py.
        hflip: whether half of the images are mirrored.
        ln_sigma: mean and standard deviation of the logarithm of these levels, for EDM.
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
    hflip: bool = field(default=True, metadata=OMIT_IF_DEFAULT)
    ln_sigma: tuple[float, float] = field(default=LN_SIGMA, metadata=OMIT_IF_DEFAULT)

    @property
    def resolved_schedule(self) -> TrainingSchedule:
        """The schedule, with the warm-up as a fraction of it."""
        fraction = min(1.0, self.warmup_images / self.schedule.total_images)
        return replace(self.schedule, warmup_fraction=fraction)


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
    """The small world's network as another family, in its published form, trained less long.

    Args:
        period: about the length of the interval that the network's time is from.
    """
    return replace(
        _FASHION,
        family=family,
        ln_sigma=LN_SIGMA,
        options={**_FASHION.options, "period": period},
        schedule=replace(_FASHION.schedule, total_images=80_000),
    )


PRESETS = {
    "cifar10-small": replace(
        _unet(2_000_000, channels=32, multipliers=[1, 1, 2, 4], patch=1), ln_sigma=(-0.8, 1.2)
    ),
    "cifar10-base": replace(  # sized for a GPU, not measured
        _unet(50_000_000, 256, 0.3, channels=96, multipliers=[1, 2, 3], blocks=2,
              attention_at=[16, 8], patch=1),
        warmup_images=512_000, lr=3e-3, adam_lr=1e-3,
    ),
    "cifar100-small": _unet(4_000_000, channels=32, multipliers=[1, 2, 4]),
    "fashion-small": _FASHION,
    "fashion-edm": _fashion_variant("edm", 3.0),
    "fashion-ddpm": _fashion_variant("ddpm", 1000.0),
    "fashion-ncsn": _fashion_variant("ncsn", 12.0),
    "tiny-imagenet-small": _unet(8_000_000, channels=32, multipliers=[1, 2, 4, 4]),
    "tiny": ScoreRecipe(  # learns next to nothing, in a minute: to see whether all goes well
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
        "sampler": "dpmpp_2m", "sigma_start": 80.0, "steps": 20, "attack_scale": 2.0,
        "attack_interval": [0.0, 1.0], "max_restarts": 6,
    },
    "transform": {
        "sampler": "dpmpp_2m", "sigma_start": 0.4, "steps": 8, "similarity": 60.0,
        "attack_scale": 10.0, "max_restarts": 6,
    },
    "purify": {"sampler": "ancestral", "sigma_start": 0.6, "steps": 6, "similarity": 5.0},
}  # fmt: skip

TASK_SETTINGS: dict[str, dict[str, dict[str, Any]]] = {  # of the tasks, for the preset's card
    **{f"fashion-{name}": FASHION_SETTINGS for name in ("small", "edm", "ddpm", "ncsn")},
    "cifar10-small": {
        "synthesize": {
            "sampler": "dpmpp_2m", "sigma_start": 80.0, "steps": 20, "attack_scale": 1.5,
            "attack_interval": [0.0, 2.0], "max_restarts": 3,
        },
        "transform": {
            "sampler": "dpmpp_2m", "sigma_start": 0.2, "steps": 8, "similarity": 1000.0,
            "attack_scale": 10.0, "max_restarts": 3,
        },
        "purify": {"sampler": "ancestral", "sigma_start": 0.3, "steps": 6, "similarity": 10.0},
    },
}  # fmt: skip
