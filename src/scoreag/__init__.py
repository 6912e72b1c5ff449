"""ScoreAG: how an image classifier fails on natural images, and what can protect it.

prior = scoreag.load_prior("cifar10")
victim = scoreag.load_classifier("cifar10-resnet20")
out = scoreag.synthesize(prior, victim, labels=[3, 5], wrong="second", seed=0)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scoreag.api import purify, synthesize, transform
    from scoreag.dataset import data
    from scoreag.defence import defend
    from scoreag.models import classifier, load_classifier, load_prior
    from scoreag.result import Result
    from scoreag.settings import Settings

__version__ = "0.1.0"

_HOMES = {
    "synthesize": "api",
    "transform": "api",
    "purify": "api",
    "data": "dataset",
    "classifier": "models",
    "load_classifier": "models",
    "load_prior": "models",
    "defend": "defence",
    "Result": "result",
    "Settings": "settings",
}

__all__ = [
    "Result",
    "Settings",
    "classifier",
    "data",
    "defend",
    "load_classifier",
    "load_prior",
    "purify",
    "synthesize",
    "transform",
]


def __getattr__(name: str) -> Any:
    """Imported on first use, so that ``import scoreag`` and ``scoreag --help`` are instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'scoreag' has no attribute {name!r}")
    return getattr(import_module(f"scoreag.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
