"""Options of attacks: what came, what was expected, and what was probably meant."""

from dataclasses import dataclass, field
from typing import Any

import pytest

import tiny
from scoreag.attacks import PGD
from scoreag.attacks._attack import Attack, option
from scoreag.attacks.external import options_to_pairs
from scoreag.registry import load_attack


@dataclass(frozen=True)
class Mine(Attack):
    """An attack outside of the library, so that no other check comes first."""

    eps: float = option(0.1, high=1)
    steps: int = option(3, above=0)
    size: float | None = option(None, above=0)
    norm: str = option("Linf", among=["Linf", "L2"])
    quiet: bool = False
    lpips: Any = field(default=None, compare=False)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"steps": 0}, "steps is 0; expected a finite number above 0"),
        ({"steps": 2.0}, "steps is 2.0; expected a whole number"),
        ({"steps": True}, "steps is True; expected a whole number"),
        ({"size": "big"}, "size is 'big'; expected a number"),
        ({"size": float("nan")}, "size is nan; expected a finite number above 0"),
        ({"size": float("inf")}, "size is inf; expected a finite number above 0"),
        ({"eps": 8}, "eps is 8; expected 0 to 1"),
        ({"norm": "l2f"}, "knows no norm 'l2f'; did you mean 'L2'?"),
        ({"norm": 2}, "norm is 2; expected a word: Linf, L2"),
        ({"quiet": 1}, "quiet is 1; expected true or false"),
    ],
)
def test_a_slip_is_refused(options, message):
    with pytest.raises(ValueError) as caught:
        Mine(**options)
    assert str(caught.value).endswith(message)


@pytest.mark.parametrize("options", [{"size": 1}, {"size": None}, {"eps": 1.0}, {"quiet": True}])
def test_valid_options_are_accepted(options):
    assert Mine(**options) == Mine(**options, lpips=3)


def test_options_of_other_libraries_become_sorted_pairs():
    assert (
        options_to_pairs({"b": 1, "a": [2]})
        == options_to_pairs((("a", [2]), ("b", 1)))
        == (("a", [2]), ("b", 1))
    )


@pytest.mark.parametrize(
    "name", ["pgd", "apgd", "square", "fgsm", "low_frequency", "auto_ensemble"]
)
def test_a_radius_in_units_of_255_is_refused(name):
    """Any image lies within it; in L2 it may be meant."""
    with pytest.raises(ValueError, match=r"eps is 8, and pixels are in \[0, 1\]; write 8/255"):
        load_attack(name)(eps=8.0)
    assert load_attack(name)(eps=8.0, norm="L2").eps == 8


def test_the_order_of_another_library_is_answered():
    """torchattacks takes the model where the options are."""
    net = tiny.victim()
    told = (
        r"PGD was given .*; it takes its options, .*: PGD\(\.\.\.\)\(classifier, images, labels\)$"
    )
    for options in ({}, {"eps": 0.1}):
        with pytest.raises(ValueError, match=told):
            PGD(net, **options)
