"""Under what terms a trained model is: what its maker says, else what is known of its data."""

from scoreag.data.loading import Dataset
from scoreag.models.model_cards import Card

DATASET_LICENSES = {
    "cifar10": "no terms are stated",
    "cifar100": "no terms are stated",
    "fashion-mnist": "MIT",
    "tiny-imagenet": "ImageNet's terms: research, not commerce",
}
UNKNOWN_LICENSE = "terms not known"


def resolve_license(
    license_name: str | None, data: str, init: Card | None = None, extra_data: Dataset | None = None
) -> str:
    """``given``, or "unspecified" with the terms of all that the model was made from.

    Args:
        data: the name of the training images, e.g. "cifar10:train[0:45000]".
    """
    if license_name:
        return license_name
    sources = [
        f"{name}: {_dataset_license(name)}"
        for name in (data, extra_data.name if extra_data else "")
        if name
    ]
    sources += [f"{init.name}: {init.license}"] if init else []
    return f"unspecified; made from {', '.join(sources)}" if sources else "unspecified"


def _dataset_license(name: str) -> str:
    return DATASET_LICENSES.get(name.partition(":")[0].partition("[")[0], UNKNOWN_LICENSE)
