"""Attacks, one class a file, named as in the field: ``from scoreag.attacks import PGD, APGD``.

``_attack`` has the interface, ``_objective`` the losses and the l_p balls with their projections,
``_search`` the loops, and ``external`` the attacks of other libraries.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from scoreag.registry import component_names, load_attack

if TYPE_CHECKING:
    from scoreag.attacks._attack import Attack
    from scoreag.attacks.advad import AdvAD
    from scoreag.attacks.apgd import APGD
    from scoreag.attacks.auto_ensemble import AutoEnsemble
    from scoreag.attacks.di_fgsm import DIFGSM
    from scoreag.attacks.external.art import ART
    from scoreag.attacks.external.autoattack import AutoAttack
    from scoreag.attacks.external.foolbox import Foolbox
    from scoreag.attacks.external.torchattacks import TorchAttacks
    from scoreag.attacks.fgsm import FGSM
    from scoreag.attacks.gat import GAT
    from scoreag.attacks.low_frequency import LowFrequency
    from scoreag.attacks.lpa import LPA
    from scoreag.attacks.pgd import PGD
    from scoreag.attacks.ppgd import PPGD
    from scoreag.attacks.si_ni_fgsm import SINIFGSM
    from scoreag.attacks.square import Square
    from scoreag.attacks.stadv import StAdv

__all__ = [
    "APGD", "ART", "DIFGSM", "FGSM", "GAT", "LPA", "PGD", "PPGD", "SINIFGSM",
    "AdvAD", "Attack", "AutoAttack", "AutoEnsemble", "Foolbox", "LowFrequency", "Square", "StAdv",
    "TorchAttacks",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import an attack on first use, so that ``import scoreag`` is fast."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "Attack":
        return import_module("scoreag.attacks._attack").Attack
    files = {file.replace("_", ""): file for file in component_names("attacks")}
    return load_attack(files[name.lower()])


def __dir__() -> list[str]:
    return __all__
