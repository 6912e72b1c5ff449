"""Evasion attacks of the Adversarial Robustness Toolbox, by name, and this library's as one of its.

The toolbox is under MIT, and is used where it is installed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from scoreag.attacks.external import ExternalAttack, OptionPairs, require_package
from scoreag.classifiers.normalized import wrap_classifier
from scoreag.core.types import Images, Labels

PACKAGE = "adversarial-robustness-toolbox"


@dataclass(frozen=True)
class ART(ExternalAttack):
    """An attack of ``art.attacks.evasion``, one image at a time and in float32, as ART works.

    Args:
        name: of its class there.
        options: of its constructor, by name, without the estimator: e.g. eps and max_iter.
    """

    name: str = "ProjectedGradientDescentPyTorch"
    options: Mapping[str, Any] | OptionPairs = ()

    def attack_one(self, module: nn.Module, images: Images, labels: Labels, seed: int) -> Tensor:
        evasion = require_package("art.attacks.evasion", PACKAGE)
        estimators = require_package("art.estimators.classification", PACKAGE)
        with torch.no_grad():
            classes = module(images).shape[1]
        estimator = estimators.PyTorchClassifier(
            model=module,
            loss=torch.nn.CrossEntropyLoss(),
            input_shape=tuple(images.shape[1:]),
            nb_classes=classes,
            clip_values=(0.0, 1.0),
            device_type="gpu" if images.is_cuda else "cpu",
        )
        attack = self.make_attack(evasion, estimator, **dict(self.options))
        one_hot = torch.nn.functional.one_hot(labels, classes)
        arrays = images.float().cpu().numpy(), one_hot.float().cpu().numpy()
        return torch.as_tensor(attack.generate(x=arrays[0], y=arrays[1]))


def evasion_attack(
    attack: Callable[..., Tensor],
    estimator: Any,
    seed: int = 0,
    batch_size: int = 32,
    device: str = "cpu",
) -> Any:
    """An attack of this library as ``art.attacks.EvasionAttack``, e.g. GAT against an estimator.

    Its ``generate(x, y)`` takes images in [0, 1] of the shape (batch, channels, height, width) and
    labels as numbers or one-hot; without labels those that the estimator predicts.

    Args:
        estimator: ``art.estimators.classification.PyTorchClassifier`` with ``clip_values=(0, 1)``;
            its preprocessing may be a mean and a standard deviation, and nothing else.

    Raises:
        ValueError: the toolbox is missing, or the estimator is another.
    """
    library = require_package("art.attacks.attack", PACKAGE)
    classifier = _read_estimator(estimator).to(device)

    class Evasion(library.EvasionAttack):  # type: ignore[misc, name-defined]
        _estimator_requirements = ()

        def generate(self, x: Any, y: Any = None, **_: Any) -> NDArray[np.float32]:
            images = torch.as_tensor(np.asarray(x, np.float32), device=device)
            labels = _read_labels(y, classifier, images)
            parts = [range(len(images))[i : i + batch_size] for i in range(0, len(x), batch_size)]
            found = [
                attack(classifier, images[[*ids]], labels[[*ids]], seed=seed, image_ids=[*ids])
                for ids in parts
            ]
            return torch.cat(found).cpu().numpy()

    return Evasion(estimator=estimator)


def _read_estimator(estimator: Any) -> nn.Module:
    """The network of an estimator, behind its normalization."""
    module = getattr(estimator, "model", None)
    if not isinstance(module, nn.Module):
        raise ValueError(f"{type(estimator).__name__} has no torch model; give a PyTorchClassifier")
    bounds = getattr(estimator, "clip_values", None)  # numbers, or arrays of them
    low, high = (None, None) if bounds is None else map(float, bounds)
    if (low, high) != (0, 1) or getattr(estimator, "channels_first", True) is not True:
        raise ValueError(
            f"the estimator's images lie in [{low}, {high}]; expected clip_values=(0, 1), and the "
            "channels first"
        )
    mean, std = _read_standardization(getattr(estimator, "preprocessing_operations", None) or ())
    return wrap_classifier(module, mean, std)


def _read_standardization(operations: Sequence[Any]) -> tuple[Sequence[float], Sequence[float]]:
    if not operations:
        return (0.0,), (1.0,)
    only = operations[0]
    if len(operations) > 1 or not (hasattr(only, "mean") and hasattr(only, "std")):
        names = ", ".join(type(one).__name__ for one in operations)
        raise ValueError(
            f"the estimator preprocesses by {names}; only a mean and a standard deviation are "
            "read: put the rest into its model"
        )
    return np.ravel(only.mean).tolist(), np.ravel(only.std).tolist()


def _read_labels(y: Any, classifier: nn.Module, images: Images) -> Labels:
    if y is None:
        with torch.no_grad():
            return torch.cat([classifier(part).argmax(1) for part in images.split(64)])
    given = torch.as_tensor(np.asarray(y), device=images.device)
    return given.argmax(1) if given.ndim == 2 else given.long()
