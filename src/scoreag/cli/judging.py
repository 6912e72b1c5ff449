"""Who judges a run: --reference-classifier, the model card's, the bundled judge of the classes, or nobody."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scoreag.cli.options import Given

if TYPE_CHECKING:
    from scoreag.classifiers.normalized import NormalizedClassifier
    from scoreag.diffusion.prior import Prior
    from scoreag.models.model_cards import Card

NONE = "none"


def judge_for(given: Given, prior: "Prior") -> "tuple[NormalizedClassifier | None, dict[str, Any]]":
    """The judge of a run, and what the manifest says of its accuracy.

    Raises:
        ValueError: it knows other classes than the score model.
    """
    from scoreag.classifiers.loading import load_classifier

    word = (
        given.reference_classifier
        or prior.judge
        or bundled(prior.image_shape, prior.classes)
        or NONE
    )
    if word == NONE:
        return None, {}
    judge = load_classifier(word, given.device, trust_code=given.trust_code)
    card = _card(word, given.trust_code)
    if card is None:
        return judge, {}
    if prior.classes and card.classes and card.classes != prior.classes:
        raise ValueError(
            f"the judge {word} knows other classes than the score model; give a classifier of its "
            f"classes, or --reference-classifier {NONE}"
        )
    told = card.metrics.get("test", {}).get("accuracy", {})
    known = {name: told[name] for name in ("count", "total", "of") if name in told}
    return judge, {"judge": {"accuracy": known}} if len(known) == 3 else {}


def bundled(shape: tuple[int, int, int], classes: Sequence[str]) -> str:
    """The bundled judge, ``NAME-judge``, of these images and classes; "" where there is none."""
    from scoreag.models.model_cards import list_cards, load_card

    for name in (name for name in list_cards("classifier") if name.endswith("-judge")):
        found = load_card(name)
        if found.image_shape == shape and classes and found.classes == tuple(classes):
            return name
    return ""


def _card(word: str, trust_code: bool) -> "Card | None":
    """The card of a classifier; None of a function or a file of weights."""
    from scoreag.models.model_cards import load_card

    return None if ":" in word or Path(word).is_file() else load_card(word, trust_code)
