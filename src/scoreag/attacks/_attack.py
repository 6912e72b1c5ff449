"""The interface of all attacks: options are checked at construction, inputs at each call."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field, fields
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from scoreag.core.batching import SupportsRowSelection, bind_image_ids
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images, Labels
from scoreag.io.images import check_images
from scoreag.methods.task import (
    validate_classifier,
    validate_image_ids,
    validate_labels,
    validate_seed,
)
from scoreag.registry import UnknownOptionError, describe_value, did_you_mean

OPTION_TYPES: dict[Any, tuple[tuple[type, ...], str]] = {
    float: ((float, int), "a number"),
    int: ((int,), "a whole number"),
    str: ((str,), "a word"),
    bool: ((bool,), "true or false"),
}


@runtime_checkable
class Attack(Protocol):
    """A frozen dataclass of options with ``run``; calling it checks the inputs first.

    Options with the same meaning in all attacks:

    eps: radius of the ball, for pixels in [0, 1].
    norm: of the ball, "Linf" or "L2".
    steps: number of gradient steps.
    step_size: length of one step in the norm; by default 2.5 eps / steps.
    loss: "ce" (cross-entropy), "margin" or "dlr"; see ``_objective.LOSSES``.
    restarts: runs, each from a random start of its own; later ones only for images that resisted.
    eot_samples: classifier calls per gradient, which is their mean; more than 1 for a randomized
        defense.
    eot_weighting: of these calls' gradients: "mean", or "selective" for those that one step can
        fool.
    early_stop_draws: stop an image once all of so many fresh draws misclassify it; 0: never.
    """

    needs_gradient: ClassVar[bool] = True  # of the classifier

    def __new__(cls, *args: Any, **options: Any) -> Any:
        """Answer an unknown option, such as ``epsilon``, or a classifier with what to write."""
        known = [f.name for f in fields(cls)]  # type: ignore[arg-type]
        if args and isinstance(args[0], nn.Module):
            raise UnknownOptionError(
                f"{cls.__name__} was given {describe_value(args[0])}; it takes its options, and "
                f"the classifier when it is called: {cls.__name__}(...)(classifier, images, labels)"
            )
        for name in options:
            if name not in known:
                raise UnknownOptionError(
                    f"{attack_name(cls)} takes no option {name!r}; {did_you_mean(name, known)}"
                )
        return object.__new__(cls)

    def __post_init__(self) -> None:
        validate_options(self)

    def run(self, classifier: Classifier, images: Images, labels: Labels, noise: Noise) -> Images:
        """Images in [0, 1], from inputs that have been checked."""
        ...

    @torch.inference_mode(False)
    def __call__(
        self,
        classifier: Classifier,
        images: Tensor,
        labels: Tensor | Sequence[int] | None,
        seed: int = 0,
        image_ids: Sequence[int] | Tensor | None = None,
    ) -> Images:
        """Images in [0, 1] that the classifier should misclassify; success is not checked.

        The checks cost a forward pass of one image (of all, if the classifier is a function), with
        its gradient if the attack needs gradients.

        Args:
            classifier: images in [0, 1] to logits: a module in eval mode, a function, a defense.
            images: (batch, channels, height, width), in [0, 1] or uint8.
            labels: the true classes, (batch,).
            seed: with the image id it determines all random numbers.
            image_ids: by default 0, 1, 2, ...; a result does not depend on the rest of the batch.

        Raises:
            ValueError: what came, what was expected, and what to write instead.
        """
        if isinstance(classifier, Tensor):
            raise ValueError(
                "the classifier is a tensor; write attack(classifier, images, labels), in this "
                "order"
            )
        if isinstance(images, Tensor) and images.ndim == 4 and not len(images):
            if labels is not None and len(labels):
                raise ValueError(f"{len(labels)} labels for 0 images; expected one per image")
            return images
        images = check_images(images)
        images = images.clone() if images.is_inference() else images.detach()
        # a function may depend on the rows of this batch, so a part of it is no valid probe
        is_function = not isinstance(classifier, nn.Module | SupportsRowSelection)
        probe = images if is_function else images[:1]
        checked, classes = validate_classifier(classifier, probe, self.needs_gradient)
        labels = validate_labels(labels, len(images), classes).to(images.device)
        labels = labels.clone() if labels.is_inference() else labels
        noise = Noise(validate_seed(seed), validate_image_ids(image_ids, range(len(images))))
        return self.run(bind_image_ids(checked, noise.image_ids), images, labels, noise)


def option(
    default: Any,
    *,
    above: float | int | None = None,
    low: float | int = 0,
    high: float | int = math.inf,
    among: Collection[str] = (),
) -> Any:
    """A field whose value is finite and above ``above``, in [low, high], or a word of ``among``."""
    return field(default=default, metadata={"above": above, "range": (low, high), "among": among})


def validate_options(attack: Any) -> None:
    """Refuse options of a wrong type, out of range, or unknown words."""
    name = attack_name(type(attack))
    for each in (f for f in fields(attack) if f.compare):
        value = getattr(attack, each.name)
        _validate_type(name, each.name, each.type, value, each.metadata.get("among", ()))
        if value is not None and each.metadata:
            _validate_value(name, each.name, value, each.metadata)
    eps, weighting = getattr(attack, "eps", None), getattr(attack, "eot_weighting", "mean")
    if eps is not None and eps > 1 and getattr(attack, "norm", None) == "Linf":
        raise ValueError(f"{name}: eps is {eps:g}, and pixels are in [0, 1]; write {eps:g}/255")
    if weighting != "mean" and attack.eot_samples == 1:
        raise ValueError(
            f"{name}: eot_weighting is {weighting!r}, and eot_samples is 1: there is nothing to "
            "weight; write eot_samples = 10, or leave eot_weighting out"
        )


def _validate_type(
    name: str, option: str, annotation: Any, value: Any, among: Collection[str] = ()
) -> None:
    plain = next((k for k in OPTION_TYPES if annotation in (k, k | None)), None)
    if plain is None or (value is None and annotation != plain):
        return
    accepted, expected = OPTION_TYPES[plain]
    if not isinstance(value, accepted) or (isinstance(value, bool) and plain is not bool):
        words = f": {', '.join(among)}" if among else ""
        raise ValueError(f"{name}: {option} is {value!r}; expected {expected}{words}")


def _validate_value(name: str, option: str, value: Any, allowed: Mapping[str, Any]) -> None:
    above, (low, high), among = allowed["above"], allowed["range"], allowed["among"]
    if above is not None and not above < value < math.inf:
        raise ValueError(f"{name}: {option} is {value}; expected a finite number above {above:g}")
    if not among and not low <= value <= high:
        raise ValueError(f"{name}: {option} is {value}; expected {low:g} to {high:g}")
    if among and value not in among:
        raise ValueError(f"{name} knows no {option} {value!r}; {did_you_mean(value, list(among))}")


def attack_name(attack: type) -> str:
    """The component's name, which is that of its file."""
    return attack.__module__.rpartition(".")[2]


def attack_config(attack: Any) -> dict[str, Any]:
    """The name of an attack and its options, for a manifest."""
    options = {f.name: getattr(attack, f.name) for f in fields(attack) if f.compare}
    return {"attack": attack_name(type(attack)), **options}
