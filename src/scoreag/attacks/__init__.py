"""Attacks, one class a file, named as in the field: ``from scoreag.attacks import PGD, APGD``."""

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

from scoreag.registry import component_names, load_component

if TYPE_CHECKING:
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
    "AdvAD", "AutoAttack", "AutoEnsemble", "Foolbox", "LowFrequency", "Square", "StAdv",
    "TorchAttacks",
]  # fmt: skip


def attack_class(name: str) -> Any:
    """The class of an attack, by its file: "di_fgsm" has DIFGSM, "my_package.my_attack" MyAttack.

    Raises:
        ValueError: there is no such file, or it has no class of its name.
    """
    module = load_component("attacks", name)
    stem = _flatten(module.__name__.rpartition(".")[2])
    for symbol, member in vars(module).items():
        if inspect.isclass(member) and _flatten(symbol) == stem:
            return member
    raise ValueError(f"{module.__name__} has no attack; expected a class of the name of its file")


def _flatten(name: str) -> str:
    return name.replace("_", "").lower()


def __getattr__(name: str) -> Any:
    """Imported on first use, so that ``import scoreag`` is instant."""
    if name in __all__:
        return attack_class(
            next(n for n in component_names("attacks") if _flatten(n) == _flatten(name))
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "attack_class"]
