"""The options of an attack, checked when it is made: before an hour of work, not after."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from scoreag.core.batching import SupportsRowSelection, bind_image_ids
from scoreag.core.rng import Noise
from scoreag.io.images import check_images
from scoreag.methods.validation import validate_classifier, validate_labels
from scoreag.registry import UnknownOptionError, describe_value, did_you_mean

AttackCall = TypeVar("AttackCall", bound=Callable[..., Any])

_SKIP_VALIDATION: ContextVar[bool] = ContextVar("inside", default=False)


@contextmanager
def skip_validation() -> Iterator[None]:
    """Attacks that are called within are not checked: whoever calls them has checked already."""
    token = _SKIP_VALIDATION.set(True)
    try:
        yield
    finally:
        _SKIP_VALIDATION.reset(token)


def validate_inputs(require_grad: bool = True) -> Callable[[AttackCall], AttackCall]:
    """Check what an attack's ``__call__`` is given, unless another attack calls it.

    That costs one forward pass of one image (of all, where the classifier is a function), with its
    gradient where the attack takes gradients.  No images at all are returned as they came.

    Args:
        guides: does the attack follow the classifier's gradient?

    Raises:
        ValueError: what came, what was expected, and what to write instead.
    """

    def behind(call: AttackCall) -> AttackCall:
        @wraps(call)
        @torch.inference_mode(False)
        def entered(attack: Any, classifier: Any, images: Any, labels: Any, noise: Any) -> Any:
            if _SKIP_VALIDATION.get():
                return call(attack, classifier, images, labels, noise)
            if isinstance(images, Tensor) and images.ndim == 4 and not len(images):
                return _return_empty(images, labels)
            given = _prepare_inputs(classifier, images, labels, noise, require_grad)
            with skip_validation():
                return call(attack, *given)

        return entered  # type: ignore[return-value]

    return behind


def _return_empty(images: Tensor, labels: Any) -> Tensor:
    if len(labels):
        raise ValueError(f"{len(labels)} labels for 0 images; expected one an image")
    return images


def _prepare_inputs(
    classifier: Any, images: Any, labels: Any, noise: Any, require_grad: bool
) -> tuple[Any, Tensor, Tensor, Noise]:
    """The same in the form that attacks take."""
    images = check_images(images)
    images = images.clone() if images.is_inference() else images.detach()
    bound = not isinstance(
        classifier, nn.Module | SupportsRowSelection
    )  # maybe to what belongs to this batch
    victim, classes = validate_classifier(classifier, images if bound else images[:1], require_grad)
    labels = validate_labels(labels, len(images), classes).to(images.device)
    labels = labels.clone() if labels.is_inference() else labels
    if not isinstance(noise, Noise):
        raise ValueError(
            f"the noise is {describe_value(noise)}; write Noise(seed=0, image_ids=range({len(images)}))"
        )
    if len(noise.image_ids) != len(images):
        raise ValueError(
            f"the noise is that of {len(noise.image_ids)} images, and there are {len(images)}; "
            f"write Noise(seed, image_ids=range({len(images)}))"
        )
    return bind_image_ids(victim, noise.image_ids), images, labels, noise


OPTION_TYPES: dict[Any, tuple[tuple[type, ...], str]] = {
    float: ((float, int), "a number"),
    int: ((int,), "a whole number"),
    str: ((str,), "a word"),
    bool: ((bool,), "true or false"),
}
OptionPairs = tuple[tuple[str, Any], ...]
AttackT = TypeVar("AttackT")


def suggest_option_names(attack: type[AttackT]) -> type[AttackT]:
    """An attack that answers a word of another library, such as ``eps``, by its own word for it."""
    init = attack.__init__

    @wraps(init)
    def made(self: Any, *given: Any, **options: Any) -> None:
        known = [f.name for f in fields(attack)]  # type: ignore[arg-type]
        for option in options:
            if option not in known:
                name = attack.__module__.rpartition(".")[2]
                raise UnknownOptionError(
                    f"{name} takes no option {option!r}; {did_you_mean(option, known)}"
                )
        init(self, *given, **options)

    attack.__init__ = made  # type: ignore[method-assign]
    return attack


def validate_attack_options(
    attack: Any,
    positive: Sequence[str] = (),
    ranges: Mapping[str, tuple[float | int, float | int]] | None = None,
    **choices: Collection[str],
) -> None:
    """Refuse options of another kind, outside their range, or that name nothing.

    Args:
        attack: a dataclass; fields without ``compare`` are no options, but what a runner fills in.
        above_zero: the names of the options that must be finite and more than 0.
        ranges: to an option the lowest and the highest value.
        known: to an option the words that it may be.

    Raises:
        ValueError: says what came, what was expected, and what was probably meant.
    """
    name = attack_name(attack)
    for option in (f for f in fields(attack) if f.compare):
        _validate_option_type(name, option.name, option.type, getattr(attack, option.name))
    for word in positive:
        value = getattr(attack, word)
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name}: {word} is {value}; it must be above 0")
    for word, (low, high) in (ranges or {}).items():
        if not low <= (value := getattr(attack, word)) <= high:
            raise ValueError(f"{name}: {word} is {value}; expected {low:g} to {high:g}")
    for word, values in choices.items():
        if (value := getattr(attack, word)) not in values:
            raise ValueError(
                f"{name} knows no {word} {value!r}; {did_you_mean(value, list(values))}"
            )
    _validate_eps(name, attack)


def _validate_eps(name: str, attack: Any) -> None:
    """Refuse a radius in levels of 255: any image lies within it."""
    reach = getattr(attack, "eps", None)
    if reach is not None and reach > 1 and getattr(attack, "norm", None) == "Linf":
        raise ValueError(f"{name}: eps is {reach:g}, and pixels are in [0, 1]; write {reach:g}/255")


def attack_name(attack: Any) -> str:
    """The name of its file, which is its own."""
    return type(attack).__module__.rpartition(".")[2]


def options_to_pairs(options: Mapping[str, Any] | OptionPairs) -> OptionPairs:
    """Options of another library, in a form that can be compared and hashed."""
    return tuple(sorted(dict(options).items()))


def _validate_option_type(name: str, option: str, annotation: Any, value: Any) -> None:
    plain = next((k for k in OPTION_TYPES if annotation in (k, k | None)), None)
    if plain is None or (value is None and annotation != plain):
        return
    accepted, wanted = OPTION_TYPES[plain]
    if not isinstance(value, accepted) or (isinstance(value, bool) and plain is not bool):
        raise ValueError(f"{name}: {option} is {value!r}; expected {wanted}")
