"""ScoreAG: how an image classifier fails on natural images, and what can protect it.

prior = scoreag.load_prior("cifar10")
classifier = scoreag.load_classifier("cifar10-resnet20")
result = scoreag.synthesize(prior, classifier, labels=[3, 5], target="runner_up", seed=0)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scoreag.classifiers.loading import load_classifier, wrap_classifier
    from scoreag.data.loading import load_data
    from scoreag.defenses.purified_classifier import defend
    from scoreag.methods.api import purify, synthesize, transform
    from scoreag.methods.config import SamplingConfig
    from scoreag.methods.result import Result
    from scoreag.models.loading import load_prior

__version__ = "0.2.0"

_HOMES = {
    "Result": "methods.result",
    "SamplingConfig": "methods.config",
    "defend": "defenses.purified_classifier",
    "load_classifier": "classifiers.loading",
    "load_data": "data.loading",
    "load_prior": "models.loading",
    "purify": "methods.api",
    "synthesize": "methods.api",
    "transform": "methods.api",
    "wrap_classifier": "classifiers.loading",
}

__all__ = [
    "Result", "SamplingConfig", "defend", "load_classifier", "load_data", "load_prior", "purify",
    "synthesize", "transform", "wrap_classifier",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Imported on first use, so that ``import scoreag`` and ``scoreag --help`` are instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'scoreag' has no attribute {name!r}")
    return getattr(import_module(f"scoreag.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
