"""ScoreAG: how an image classifier fails on natural images, and what can protect it.

prior = scoreag.load_prior("cifar10")
victim = scoreag.load_classifier("cifar10-resnet20")
out = scoreag.synthesize(prior, victim, labels=[3, 5], wrong="second", seed=0)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scoreag.classifiers.loading import load_classifier, load_prior, wrap_classifier
    from scoreag.data.loading import load_data
    from scoreag.defenses.purified_classifier import defend
    from scoreag.methods.api import purify, synthesize, transform
    from scoreag.methods.config import SamplingConfig
    from scoreag.methods.result import Result

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
    "SamplingConfig",
    "defend",
    "load_classifier",
    "load_data",
    "load_prior",
    "purify",
    "synthesize",
    "transform",
    "wrap_classifier",
]


def __getattr__(name: str) -> Any:
    """Imported on first use, so that ``import scoreag`` and ``scoreag --help`` are instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'scoreag' has no attribute {name!r}")
    return getattr(import_module(f"scoreag.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
