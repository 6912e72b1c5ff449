"""Who judges a run: --judge, the model card's, the bundled judge of the classes, or nobody."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scoreag.verbs.options import Given

if TYPE_CHECKING:
    from scoreag.cards import Card
    from scoreag.core.frozen import Frozen
    from scoreag.core.prior import Prior

NONE = "none"


def judge_for(given: Given, prior: "Prior") -> "tuple[Frozen | None, dict[str, Any]]":
    """The judge of a run, and what the manifest says of its accuracy.

    Raises:
        ValueError: it knows other classes than the score model.
    """
    from scoreag.models import load_classifier

    word = given.judge or prior.judge or bundled(prior.image_shape, prior.classes) or NONE
    if word == NONE:
        return None, {}
    judge = load_classifier(word, given.device, trust_code=given.trust_code)
    card = _card(word, given.trust_code)
    if card is None:
        return judge, {}
    if prior.classes and card.classes and card.classes != prior.classes:
        raise ValueError(
            f"the judge {word} knows other classes than the score model; give a classifier of its "
            f"classes, or --judge {NONE}"
        )
    told = card.figures.get("test", {}).get("accuracy", {})
    known = {name: told[name] for name in ("count", "total", "of") if name in told}
    return judge, {"judge": {"accuracy": known}} if len(known) == 3 else {}


def bundled(shape: tuple[int, int, int], classes: Sequence[str]) -> str:
    """The bundled judge, ``NAME-judge``, of these images and classes; "" where there is none."""
    from scoreag.cards import card, cards

    for name in (name for name in cards("classifier") if name.endswith("-judge")):
        found = card(name)
        if found.image_shape == shape and classes and found.classes == tuple(classes):
            return name
    return ""


def _card(word: str, trust_code: bool) -> "Card | None":
    """The card of a classifier; None of a function or a file of weights."""
    from scoreag.cards import card

    return None if ":" in word or Path(word).is_file() else card(word, trust_code)
