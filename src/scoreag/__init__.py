"""ScoreAG: how an image classifier fails on natural images, and what can protect it.

prior = scoreag.load_prior("cifar10")
classifier = scoreag.load_classifier("cifar10-resnet20")
result = scoreag.synthesize(prior, classifier, labels=[3, 5], target="runner_up", seed=0)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scoreag import attacks as attacks
    from scoreag import plot as plot
    from scoreag.attacks._measured import attack
    from scoreag.classifiers.loading import load_classifier
    from scoreag.classifiers.normalized import wrap_classifier
    from scoreag.core.rng import Noise
    from scoreag.data.loading import load_data
    from scoreag.defenses.defend import defend
    from scoreag.defenses.purified_classifier import PurifiedClassifier
    from scoreag.methods.config import SamplingConfig
    from scoreag.methods.purification import purify
    from scoreag.methods.result import Result
    from scoreag.methods.saved_result import load_result
    from scoreag.methods.synthesis import synthesize
    from scoreag.methods.transformation import transform
    from scoreag.models.loading import load_prior
    from scoreag.report.robustbench import write_robustbench

__version__ = "0.2.0"

_LAZY_MODULES = {
    "Noise": "core.rng",
    "PurifiedClassifier": "defenses.purified_classifier",
    "Result": "methods.result",
    "SamplingConfig": "methods.config",
    "attack": "attacks._measured",
    "defend": "defenses.defend",
    "load_classifier": "classifiers.loading",
    "load_data": "data.loading",
    "load_prior": "models.loading",
    "load_result": "methods.saved_result",
    "purify": "methods.purification",
    "synthesize": "methods.synthesis",
    "transform": "methods.transformation",
    "wrap_classifier": "classifiers.normalized",
    "write_robustbench": "report.robustbench",
}

_RENAMED = {  # of version 0.1
    "Settings": "SamplingConfig", "classifier": "wrap_classifier", "data": "load_data"
}  # fmt: skip

__all__ = [
    "Noise",
    "PurifiedClassifier",
    "Result",
    "SamplingConfig",
    "attack",
    "attacks",
    "defend",
    "load_classifier",
    "load_data",
    "load_prior",
    "load_result",
    "plot",
    "purify",
    "synthesize",
    "transform",
    "wrap_classifier",
    "write_robustbench",
]


def __getattr__(name: str) -> Any:
    """Imported on first use, so that ``import scoreag`` and ``scoreag --help`` are instant."""
    if name in ("attacks", "plot"):
        return import_module(f"scoreag.{name}")
    if name not in _LAZY_MODULES:
        new = f"; scoreag.{name} is now scoreag.{_RENAMED[name]}" if name in _RENAMED else ""
        raise AttributeError(f"module 'scoreag' has no attribute {name!r}{new}")
    return getattr(import_module(f"scoreag.{_LAZY_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
