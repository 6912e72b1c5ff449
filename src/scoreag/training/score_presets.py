"""The recipes of score models: the numbers that were really used."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from scoreag.registry import UnknownNameError, did_you_mean
from scoreag.training.noise_distributions import LN_SIGMA
from scoreag.training.schedule import OMIT_IF_DEFAULT, TrainingSchedule


@dataclass(frozen=True)
class ScoreRecipe:
    """All that determines a score model but the data.

    Args:
        network, options: file in networks/ and the arguments of its ``build``; the shape of the
            images and the number of classes come from the data.
        plan: its ``warmup`` is set from ``rising``.
        rising: images seen while the rate rises.
        optimizer: "adamw" or "muon"; the latter has AdamW for what is no matrix.
        rate, betas, decay: of the optimiser; betas are AdamW's.
        others_rate, ends: with Muon, the rate of AdamW, and the parts of the network at its ends,
            which AdamW trains too.
        dropped: share of the labels that are withheld, for the unconditional model.
        sigma_data: the deviation of the data in [-1, 1].
        family: what the network predicts, and at which noise levels; see objectives.py.
        noise: mean and deviation of the logarithm of these levels, for EDM.
        mirror: whether half of the images are shown mirrored.
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
        """The plan, with the warm-up as a share of it."""
        return replace(
            self.schedule, warmup_fraction=min(1.0, self.warmup_images / self.schedule.total_images)
        )


FASHION_RECIPE = ScoreRecipe(
    network="unet",
    options={"channels": 32, "multipliers": [1, 2], "blocks": 2, "attention_at": []},
    schedule=TrainingSchedule(
        total_images=600_000,
        batch_size=64,
        decay_fraction=0.3,
        max_grad_norm=1.0,
        ema_widths=(0.05, 0.10),
    ),
    optimizer="muon",
    lr=6e-3,
    adam_lr=2e-3,
    sigma_data=0.7,
    hflip=False,
    ln_sigma=(-0.4, 1.2),
)


def _fashion_variant(family: str, period: float) -> ScoreRecipe:
    """The small world's network as another family, in its published form, trained less long.

    Args:
        period: about the length of the interval that the network's time is from.
    """
    return replace(
        FASHION_RECIPE,
        family=family,
        ln_sigma=LN_SIGMA,
        options={**FASHION_RECIPE.options, "period": period},
        schedule=replace(FASHION_RECIPE.schedule, total_images=80_000),
    )


PRESETS = {
    "cifar10-small": ScoreRecipe(
        network="unet",
        options={"channels": 32, "multipliers": [1, 1, 2, 4], "patch": 1},
        schedule=TrainingSchedule(
            total_images=2_000_000,
            batch_size=64,
            decay_fraction=0.25,
            max_grad_norm=1.0,
            ema_widths=(0.05, 0.10),
        ),
        optimizer="muon",
        lr=6e-3,
        adam_lr=2e-3,
        ln_sigma=(-0.8, 1.2),
    ),
    "cifar10-base": ScoreRecipe(  # sized for a GPU, not measured
        network="unet",
        options={
            "channels": 96,
            "multipliers": [1, 2, 3],
            "blocks": 2,
            "attention_at": [16, 8],
            "patch": 1,
        },
        schedule=TrainingSchedule(
            total_images=50_000_000,
            batch_size=256,
            decay_fraction=0.3,
            max_grad_norm=1.0,
            ema_widths=(0.05, 0.10),
        ),
        warmup_images=512_000,
        optimizer="muon",
        lr=3e-3,
        adam_lr=1e-3,
    ),
    "cifar100-small": ScoreRecipe(
        network="unet",
        options={"channels": 32, "multipliers": [1, 2, 4]},
        schedule=TrainingSchedule(
            total_images=4_000_000,
            batch_size=64,
            decay_fraction=0.25,
            max_grad_norm=1.0,
            ema_widths=(0.05, 0.10),
        ),
        optimizer="muon",
        lr=6e-3,
        adam_lr=2e-3,
    ),
    "fashion-small": FASHION_RECIPE,
    "fashion-edm": _fashion_variant("edm", 3.0),
    "fashion-ddpm": _fashion_variant("ddpm", 1000.0),
    "fashion-ncsn": _fashion_variant("ncsn", 12.0),
    "tiny-imagenet-small": ScoreRecipe(
        network="unet",
        options={"channels": 32, "multipliers": [1, 2, 4, 4]},
        schedule=TrainingSchedule(
            total_images=8_000_000,
            batch_size=64,
            decay_fraction=0.25,
            max_grad_norm=1.0,
            ema_widths=(0.05, 0.10),
        ),
        optimizer="muon",
        lr=6e-3,
        adam_lr=2e-3,
    ),
    "tiny": ScoreRecipe(  # learns next to nothing, in a minute: to see whether all goes well
        network="unet",
        options={"channels": 16, "multipliers": [1], "attention_at": []},
        schedule=TrainingSchedule(
            total_images=6_400,
            batch_size=32,
            decay_fraction=0.25,
            ema_rampup_ratio=0.05,
            max_grad_norm=1.0,
        ),
        warmup_images=640,
    ),
}

FASHION_SETTINGS: dict[str, dict[str, Any]] = {
    "synthesize": {
        "sampler": "dpmpp_2m", "sigma_start": 80.0, "steps": 20, "attack_scale": 2.0, "attack_interval": [0.0, 1.0],
        "max_restarts": 6,
    },
    "transform": {
        "sampler": "dpmpp_2m", "sigma_start": 0.4, "steps": 8, "similarity": 60.0, "attack_scale": 10.0,
        "max_restarts": 6,
    },
    "purify": {"sampler": "ancestral", "sigma_start": 0.6, "steps": 6, "similarity": 5.0},
}  # fmt: skip

TASK_SETTINGS: dict[str, dict[str, dict[str, Any]]] = {  # settings of the tasks, for the preset's card
    **{f"fashion-{which}": FASHION_SETTINGS for which in ("small", "edm", "ddpm", "ncsn")},
    "cifar10-small": {
        "synthesize": {
            "sampler": "dpmpp_2m", "sigma_start": 80.0, "steps": 20, "attack_scale": 1.5,
            "attack_interval": [0.0, 2.0], "max_restarts": 3,
        },
        "transform": {
            "sampler": "dpmpp_2m", "sigma_start": 0.2, "steps": 8, "similarity": 1000.0, "attack_scale": 10.0,
            "max_restarts": 3,
        },
        "purify": {"sampler": "ancestral", "sigma_start": 0.3, "steps": 6, "similarity": 10.0},
    },
}  # fmt: skip


def get_preset(name: str, known: Mapping[str, Any]) -> Any:
    """The recipe of that name among ``known``; "did you mean" where there is none."""
    if name not in known:
        raise UnknownNameError(f"no preset {name!r}; {did_you_mean(name, list(known))}")
    return known[name]
