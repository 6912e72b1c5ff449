"""Two classes of images that any attack can confuse, and what each attack needs to be quick there.

Class 1 has vertical stripes, class 0 the opposite ones; the classifier looks at one corner only, so
that an image can fool it and stay what it is elsewhere, and stripes that move can, too.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from scoreag.core.rng import Noise
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.prior import Prior
from scoreag.diffusion.samplers import heun
from scoreag.metrics.lpips import HEAD_KEY, LAYERS, Lpips
from scoreag.registry import component_names, load_attack
from worlds import TwoClasses

FOREIGN = ("art", "autoattack", "foolbox", "torchattacks")  # libraries that need not be there
NAMES = [name for name in component_names("attacks") if name not in FOREIGN or find_spec(name)]
DETERMINISTIC = {"advad", "fgsm", "si_ni_fgsm", "stadv"}
LARGE, SMALL = 32, 16  # pixels a side; AlexNet sees nothing in smaller images than the first
CORNER = 8
QUICK: dict[str, dict[str, Any]] = {  # options that suit a world of strong signals
    "advad": {"steps": 20, "scale": 100.0},
    "apgd": {"steps": 6},
    "autoattack": {},
    "auto_ensemble": {"steps": 4, "n_queries": 20},
    "foolbox": {"options": {"steps": 5, "rel_stepsize": 0.5}},
    "gat": {
        "attack_scale": 300.0,
        "similarity": 2.0,
        "sigma_start": 1.0,
        "steps": 8,
        "max_restarts": 0,
    },
    "low_frequency": {"eps": 0.5, "steps": 10},
    "lpa": {"eps": 0.5, "steps": 4, "outer_steps": 2},
    "pgd": {"steps": 5},
    "ppgd": {"eps": 0.5, "steps": 4, "cg_iterations": 2},
    "stadv": {"max_displacement": 4.0, "steps": 16, "step_size": 0.5},
    "square": {"eps": 0.5, "n_queries": 150},
    "torchattacks": {"options": {"eps": 0.25, "alpha": 0.1, "steps": 5}},
    "art": {
        "options": {
            "eps": 0.25,
            "eps_step": 0.1,
            "max_iter": 5,
            "num_random_init": 1,
            "verbose": False,
        }
    },
}


def stripes(side: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Eight pixels a period, +0.4 and -0.4."""
    phase = torch.arange(side, dtype=dtype) % 8
    return torch.where(phase < 4, 0.4, -0.4).to(dtype).expand(3, side, side).contiguous()


def classify(images: Tensor) -> Tensor:
    """The corner's likeness to the stripes of class 1, and its opposite.

    Two more classes, which nothing looks like, let every loss be had.
    """
    template = stripes(CORNER, images.dtype)
    score = 8 * ((2 * images - 1)[:, :, :CORNER, :CORNER] * template).flatten(1).mean(1)
    none = torch.full_like(score, -5)
    return torch.stack([-score, score, none, none], dim=1) / 0.16


def natural(
    count: int, side: int = SMALL, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Images of the world, and their classes in turn."""
    labels = torch.arange(count) % 2
    grain = Noise(7, range(count)).normal_like(torch.zeros(count, 3, side, side, dtype=dtype))
    signs = (2.0 * labels - 1).to(dtype).view(-1, 1, 1, 1)
    return ((signs * stripes(side, dtype) + 0.1 * grain + 1) / 2).clamp(0, 1), labels


def lpips(channels: int = 4) -> Lpips:
    """The distance with random weights, as many channels in every layer."""
    source = torch.Generator().manual_seed(0)
    convolutions = {}
    inputs = (3, *[channels] * 4)
    for layer, size, before in zip(LAYERS, (11, 5, 3, 3, 3), inputs, strict=True):
        shape = (channels, before, size, size)
        convolutions[f"features.{layer}.weight"] = torch.randn(shape, generator=source)
        convolutions[f"features.{layer}.bias"] = torch.randn(channels, generator=source)
    heads = {HEAD_KEY.format(n): torch.rand(1, channels, 1, 1, generator=source) for n in range(5)}
    return Lpips(convolutions, heads)


def prior() -> Prior:
    shape = (3, SMALL, SMALL)
    levels = karras(4, sigma_max=1.0)

    def model(x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        return TwoClasses(stripes(SMALL, x.dtype), 0.04)(x, sigma, labels)

    return Prior(model, heun.sample, levels, shape, dtype=torch.float64)


@dataclass(frozen=True)
class Made:
    """An attack with what it needs, and the same with other options."""

    name: str
    factory: Callable[..., Any]

    def __call__(self, **changes: Any) -> Any:
        known = {f.name for f in fields(self.factory)}
        given = {"eps": 0.25} if "eps" in known else {}
        needed = {"lpips": lpips, "prior": prior}
        resources = {name: make() for name, make in needed.items() if name in known}
        return self.factory(**given | QUICK.get(self.name, {}) | resources | changes)

    @property
    def side(self) -> int:
        return LARGE if "lpips" in {f.name for f in fields(self.factory)} else SMALL

    def takes(self, option: str) -> bool:
        return option in {f.name for f in fields(self.factory) if f.compare}


def made(name: str) -> Made:
    return Made(name, load_attack(name))
