"""The door of every attack: what it is given is checked as the tasks check it, once a call."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from scoreag.asked import checked_labels, checked_victim
from scoreag.core.noise import Noise
from scoreag.core.rows import ByRow, of_images
from scoreag.images import check_images
from scoreag.load import described

Call = TypeVar("Call", bound=Callable[..., Any])

_INSIDE: ContextVar[bool] = ContextVar("inside", default=False)


@contextmanager
def inside() -> Iterator[None]:
    """Attacks that are called within are not checked: whoever calls them has checked already."""
    token = _INSIDE.set(True)
    try:
        yield
    finally:
        _INSIDE.reset(token)


def door(guides: bool = True) -> Callable[[Call], Call]:
    """Check what an attack's ``__call__`` is given, unless another attack calls it.

    That costs one forward pass of one image (of all, where the classifier is a function), with its
    gradient where the attack takes gradients.  No images at all are returned as they came.

    Args:
        guides: does the attack follow the classifier's gradient?

    Raises:
        ValueError: what came, what was expected, and what to write instead.
    """

    def behind(call: Call) -> Call:
        @wraps(call)
        @torch.inference_mode(False)
        def entered(attack: Any, classifier: Any, images: Any, labels: Any, noise: Any) -> Any:
            if _INSIDE.get():
                return call(attack, classifier, images, labels, noise)
            if isinstance(images, Tensor) and images.ndim == 4 and not len(images):
                return _nothing(images, labels)
            given = _checked(classifier, images, labels, noise, guides)
            with inside():
                return call(attack, *given)

        return entered  # type: ignore[return-value]

    return behind


def _nothing(images: Tensor, labels: Any) -> Tensor:
    if len(labels):
        raise ValueError(f"{len(labels)} labels for 0 images; expected one an image")
    return images


def _checked(
    classifier: Any, images: Any, labels: Any, noise: Any, guides: bool
) -> tuple[Any, Tensor, Tensor, Noise]:
    """The same in the form that attacks take."""
    images = check_images(images)
    images = images.clone() if images.is_inference() else images.detach()
    bound = not isinstance(classifier, nn.Module | ByRow)  # maybe to what belongs to this batch
    victim, classes = checked_victim(classifier, images if bound else images[:1], guides)
    labels = checked_labels(labels, len(images), classes).to(images.device)
    labels = labels.clone() if labels.is_inference() else labels
    if not isinstance(noise, Noise):
        raise ValueError(
            f"the noise is {described(noise)}; write Noise(seed=0, image_ids=range({len(images)}))"
        )
    if len(noise.image_ids) != len(images):
        raise ValueError(
            f"the noise is that of {len(noise.image_ids)} images, and there are {len(images)}; "
            f"write Noise(seed, image_ids=range({len(images)}))"
        )
    return of_images(victim, noise.image_ids), images, labels, noise
