"""The card that a training goes on from: is it for these data, and what is told of it."""

from typing import Any

from scoreag.models.model_cards import Card


def check_init(init: Card, kind: str, example: str, shape: tuple[int, ...], classes: int) -> None:
    """Refuse a card of another kind, of other images, or of another number of classes."""
    if init.kind != kind:
        raise ValueError(f"{init.name} is a {init.kind}; go on from a {kind}, e.g. {example}")
    if tuple(init.image_shape) != shape or len(init.classes) != classes:
        raise ValueError(
            f"{init.name} is for {init.image_shape} images of {len(init.classes)} classes, and the "
            f"data are {shape} images of {classes}"
        )


def describe_init(init: Card | None) -> dict[str, Any]:
    """What the new card says of the weights that it went on from."""
    return {"init": init.name, "init_sha256": init.sha256} if init is not None else {}
