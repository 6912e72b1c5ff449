"""The recipes of score models: the numbers that were really used."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from scoreag.load import UnknownName, hint
from scoreag.training.objectives import NOISE
from scoreag.training.plan import LATER, Plan


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
    plan: Plan
    options: Mapping[str, Any] = field(default_factory=dict)
    rising: int = 12_800
    optimizer: str = "adamw"
    rate: float = 1e-3
    others_rate: float = 1e-3
    ends: tuple[str, ...] = ("first", "last")
    betas: tuple[float, float] = (0.9, 0.99)
    decay: float = 0.01
    dropped: float = 0.1
    sigma_data: float = 0.5
    family: str = field(default="edm", metadata=LATER)
    mirror: bool = field(default=True, metadata=LATER)
    noise: tuple[float, float] = field(default=NOISE, metadata=LATER)

    @property
    def schedule(self) -> Plan:
        """The plan, with the warm-up as a share of it."""
        return replace(self.plan, warmup=min(1.0, self.rising / self.plan.images))


FASHION = ScoreRecipe(
    network="unet",
    options={"channels": 32, "multipliers": [1, 2], "blocks": 2, "attention_at": []},
    plan=Plan(images=600_000, batch=64, decay=0.3, clip=1.0, widths=(0.05, 0.10)),
    optimizer="muon",
    rate=6e-3,
    others_rate=2e-3,
    sigma_data=0.7,
    mirror=False,
    noise=(-0.4, 1.2),
)


def _as(family: str, period: float) -> ScoreRecipe:
    """The small world's network as another family, in its published form, trained less long.

    Args:
        period: about the length of the interval that the network's time is from.
    """
    return replace(
        FASHION,
        family=family,
        noise=NOISE,
        options={**FASHION.options, "period": period},
        plan=replace(FASHION.plan, images=80_000),
    )


PRESETS = {
    "cifar10-small": ScoreRecipe(
        network="unet",
        options={"channels": 32, "multipliers": [1, 1, 2, 4], "patch": 1},
        plan=Plan(images=2_000_000, batch=64, decay=0.25, clip=1.0, widths=(0.05, 0.10)),
        optimizer="muon",
        rate=6e-3,
        others_rate=2e-3,
        noise=(-0.8, 1.2),
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
        plan=Plan(images=50_000_000, batch=256, decay=0.3, clip=1.0, widths=(0.05, 0.10)),
        rising=512_000,
        optimizer="muon",
        rate=3e-3,
        others_rate=1e-3,
    ),
    "cifar100-small": ScoreRecipe(
        network="unet",
        options={"channels": 32, "multipliers": [1, 2, 4]},
        plan=Plan(images=4_000_000, batch=64, decay=0.25, clip=1.0, widths=(0.05, 0.10)),
        optimizer="muon",
        rate=6e-3,
        others_rate=2e-3,
    ),
    "fashion-small": FASHION,
    "fashion-edm": _as("edm", 3.0),
    "fashion-ddpm": _as("ddpm", 1000.0),
    "fashion-ncsn": _as("ncsn", 12.0),
    "tiny-imagenet-small": ScoreRecipe(
        network="unet",
        options={"channels": 32, "multipliers": [1, 2, 4, 4]},
        plan=Plan(images=8_000_000, batch=64, decay=0.25, clip=1.0, widths=(0.05, 0.10)),
        optimizer="muon",
        rate=6e-3,
        others_rate=2e-3,
    ),
    "tiny": ScoreRecipe(  # learns next to nothing, in a minute: to see whether all goes well
        network="unet",
        options={"channels": 16, "multipliers": [1], "attention_at": []},
        plan=Plan(images=6_400, batch=32, decay=0.25, ema=0.05, clip=1.0),
        rising=640,
    ),
}

FASHION_TASKS: dict[str, dict[str, Any]] = {
    "synthesize": {
        "sampler": "dpmpp", "start": 80.0, "steps": 20, "strength": 2.0, "interval": [0.0, 1.0],
        "retries": 6,
    },
    "transform": {
        "sampler": "dpmpp", "start": 0.4, "steps": 8, "precision": 60.0, "strength": 10.0,
        "retries": 6,
    },
    "purify": {"sampler": "ancestral", "start": 0.6, "steps": 6, "precision": 5.0},
}  # fmt: skip

TUNED: dict[str, dict[str, dict[str, Any]]] = {  # settings of the tasks, for the preset's card
    **{f"fashion-{which}": FASHION_TASKS for which in ("small", "edm", "ddpm", "ncsn")},
    "cifar10-small": {
        "synthesize": {
            "sampler": "dpmpp", "start": 80.0, "steps": 20, "strength": 1.5,
            "interval": [0.0, 2.0], "retries": 3,
        },
        "transform": {
            "sampler": "dpmpp", "start": 0.2, "steps": 8, "precision": 1000.0, "strength": 10.0,
            "retries": 3,
        },
        "purify": {"sampler": "ancestral", "start": 0.3, "steps": 6, "precision": 10.0},
    },
}  # fmt: skip


def preset(name: str, known: Mapping[str, Any]) -> Any:
    """The recipe of that name among ``known``; "did you mean" where there is none."""
    if name not in known:
        raise UnknownName(f"no preset {name!r}; {hint(name, list(known))}")
    return known[name]
