"""AutoAttack itself, by its authors' code; Croce & Hein (2020), MIT; where it is installed."""

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from scoreag.attacks._attack import option
from scoreag.attacks.external import ExternalAttack, require_package
from scoreag.core.types import Images, Labels

PYPI = "pyautoattack"  # the authors' code as PyPI has it


def _import_library() -> Any:
    """The authors' package; else the same code as it is on PyPI."""
    name = PYPI if _is_missing("autoattack") and not _is_missing(PYPI) else "autoattack"
    return require_package(name, f"{PYPI}, or git+https://github.com/fra31/auto-attack")


def _is_missing(package: str) -> bool:
    known = sys.modules.get(package, sys)  # None where an import is forbidden
    return known is None or (known is sys and find_spec(package) is None)


@dataclass(frozen=True)
class AutoAttack(ExternalAttack):
    """``autoattack.AutoAttack``, or that of pyautoattack, one image at a time and in float32.

    ``AutoEnsemble`` is this library's own attack of the kind.

    Args:
        version: "standard", "plus", or "rand" for a randomized defense.
    """

    eps: float = option(8 / 255, above=0)
    norm: str = option("Linf", among=("Linf", "L2"))
    version: str = option("standard", among=("standard", "plus", "rand"))

    def attack_one(self, module: nn.Module, images: Images, labels: Labels, seed: int) -> Tensor:
        library = _import_library()
        with torch.no_grad():
            others = module(images).shape[1] - 1
        if others < 3:
            raise ValueError(
                f"autoattack needs 4 classes, and the classifier knows {others + 1}; "
                "take auto_ensemble"
            )
        quiet = {"verbose": False} if "verbose" in signature(library.AutoAttack).parameters else {}
        attack = library.AutoAttack(
            module, norm=self.norm, eps=self.eps, seed=seed, version=self.version,
            device=images.device, **quiet,
        )  # fmt: skip
        for part in (attack.apgd_targeted, attack.fab):
            part.n_target_classes = min(part.n_target_classes, others)
        # AutoAttack mixes float32 into images of any dtype
        found: Any = attack.run_standard_evaluation(images.float(), labels)
        return found[0] if isinstance(found, tuple) else found  # pyautoattack: and predictions
