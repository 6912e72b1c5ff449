"""Under what terms a trained model is: what its maker says, else what is known of its data."""

from scoreag.cards import Card
from scoreag.dataset import Dataset

TERMS = {
    "cifar10": "no terms are stated",
    "cifar100": "no terms are stated",
    "fashion-mnist": "MIT",
    "tiny-imagenet": "ImageNet's terms: research, not commerce",
}
UNKNOWN = "terms not known"


def license_of(
    given: str | None, data: str, init: Card | None = None, extra: Dataset | None = None
) -> str:
    """``given``, or "unspecified" with the terms of all that the model was made from.

    Args:
        data: the name of the training images, e.g. "cifar10:train[0:45000]".
    """
    if given:
        return given
    sources = [f"{name}: {_terms(name)}" for name in (data, extra.name if extra else "") if name]
    sources += [f"{init.name}: {init.licence}"] if init else []
    return f"unspecified; made from {', '.join(sources)}" if sources else "unspecified"


def _terms(name: str) -> str:
    return TERMS.get(name.partition(":")[0].partition("[")[0], UNKNOWN)
