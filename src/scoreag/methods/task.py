"""A task: everything that determines its result, checked before any work starts."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from operator import index
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scoreag.classifiers.checks import check_classifier, validate_judge
from scoreag.classifiers.class_groups import check_names, known_groups, known_names
from scoreag.classifiers.normalized import NormalizedClassifier, wrap_classifier
from scoreag.classifiers.rejection import can_reject
from scoreag.core.batching import bind_image_ids, reset_draws, restart_draws, select_rows
from scoreag.core.rng import Noise
from scoreag.core.types import BatchScalar, Classifier, Images, Labels
from scoreag.diffusion.class_labels import fit_classes, known_classes
from scoreag.diffusion.parameterizations import null_label
from scoreag.diffusion.prior import Prior
from scoreag.io.images import check_pixels, pixels_to_float
from scoreag.methods.config import SamplingConfig
from scoreag.methods.guided_sampling import RUNNER_UP, SampleBatch, attach_guide
from scoreag.methods.scale_search import strength_to_option
from scoreag.registry import describe_value, did_you_mean

IDS_PER_CLASS = 1_000_000  # image ids of a synthesis: label * IDS_PER_CLASS + index in the class
Sample: TypeAlias = Callable[["TaskSpec", SamplingConfig, Noise], SampleBatch]
Meter: TypeAlias = Callable[[Sequence[int], int], AbstractContextManager[None]]
Target: TypeAlias = Tensor | npt.NDArray[Any] | Sequence[Any] | int | str | None


@dataclass(frozen=True, eq=False)
class TaskSpec:
    """Everything that determines a result.

    Args:
        task: synthesize, transform or purify.
        sample: runs the chain of the task.
        images: in [0, 1]; where they are 8-bit, ``select`` makes floats of those that it takes.
        target: a class per image, ``runner_up``, or None: untargeted.
        judge: reference classifier that checks the final images; it guides nothing.
        found: the values of searched options, one for each image.
        meter: entered around each batch, with the rows of its images and the number of all rows
            that are computed: their cost is that of these images.
    """

    task: str
    sample: Sample
    prior: Prior
    config: SamplingConfig
    seed: int
    image_ids: tuple[int, ...]
    classifier: Classifier | None = None
    images: Tensor | None = None
    labels: Labels | None = None
    target: Labels | str | None = None
    judge: Classifier | None = None
    found: Mapping[str, BatchScalar] = field(default_factory=dict)
    meter: Meter | None = None

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def is_attack(self) -> bool:
        """Whether a classifier guides the chain."""
        return self.task != "purify" and bool(self.config.attack_scale)

    def select(self, rows: Sequence[int]) -> "TaskSpec":
        """The task for some of its images; a random classifier keeps its draws for each image."""
        classifier = self.classifier
        if classifier is not None:
            classifier = select_rows(bind_image_ids(classifier, self.image_ids), rows)
        described = self.describe_images(rows)
        if self.images is not None:
            described["images"] = to_batch(described["images"], self.prior)
        return replace(self, classifier=classifier, **described)

    def describe_images(self, rows: Sequence[int]) -> dict[str, Any]:
        """What ``select`` gives of some images, without the models: small, to be sent elsewhere."""
        selected = torch.as_tensor(rows)

        def pick(value: Any) -> Any:
            return value[selected] if isinstance(value, Tensor) else value

        return {
            "image_ids": tuple(self.image_ids[i] for i in rows),
            "images": pick(self.images),
            "labels": pick(self.labels),
            "target": pick(self.target),
            "found": {name: value[selected] for name, value in self.found.items()},
        }

    def with_found(self, option: str, strengths: BatchScalar) -> "TaskSpec":
        """The task with the option that makes an attack of these strengths."""
        return replace(self, found={option: strength_to_option(option, strengths)})

    def with_draws(self, *purpose: str | int) -> "TaskSpec":
        """The task with the draws of a random classifier for that purpose, from the first on."""
        if self.classifier is None:
            return self
        classifier = restart_draws(self.classifier, self.image_ids, *purpose)
        return replace(self, classifier=classifier)

    def pad(self, pad_to: int, purpose: str) -> "TaskSpec":
        """The task with its last image repeated until there are ``pad_to``.

        A random classifier starts its draws again: they depend only on the images of this task and
        on ``purpose``, and the padding does not advance them.
        """
        count = len(self)
        padded = self.select([*range(count), *[count - 1] * (pad_to - count)])
        if self.classifier is None:
            return padded
        classifier = reset_draws(self.classifier, self.image_ids, purpose)
        return replace(padded, classifier=select_rows(classifier, range(len(padded))))


def to_batch(images: Tensor, prior: Prior) -> Images:
    """Images in [0, 1] where the score model is."""
    return pixels_to_float(images).to(prior.sigmas.device)


def validate_images(images: Any, prior: Prior) -> Tensor:
    """A user's images; floats where the score model is, and 8-bit ones where they are."""
    checked = check_pixels(images, prior.image_shape)
    return checked if checked.dtype == torch.uint8 else to_batch(checked, prior)


def build_attack(
    task: str,
    sample: Sample,
    prior: Prior,
    config: SamplingConfig,
    classifier: Classifier,
    images: Tensor | None,
    labels: Any,
    target: Target,
    seed: int,
    image_ids: Sequence[int] | Tensor | None,
    judge: Classifier | None,
) -> TaskSpec:
    """Check the inputs of synthesize (``images`` None) or transform: the task."""
    if images is None:
        blank = torch.full((1, *prior.image_shape), 0.5, dtype=prior.dtype)
        example, image_count = blank.to(prior.sigmas.device), None
    else:
        example, image_count = to_batch(images[:1], prior), len(images)
    classifier, class_count = validate_classifier(classifier, example)
    prior = fit_to_classifier(
        attach_guide(prior.to(example.dtype), config), classifier, class_count
    )
    labels = number_labels(labels, prior.classes)
    labels = validate_labels(labels, image_count, class_count).to(example.device)
    check_known(prior, labels, given=images is not None)
    default_ids = default_image_ids(labels) if images is None else range(len(images))
    ids, seed = validate_image_ids(image_ids, default_ids), validate_seed(seed)
    return TaskSpec(
        task=task,
        sample=sample,
        prior=prior,
        config=config,
        seed=seed,
        image_ids=ids,
        classifier=classifier,
        images=images,
        labels=labels,
        target=validate_target(target, labels, class_count, seed, ids, prior.classes),
        judge=validate_judge(judge, classifier, example, class_count, prior.classes),
    )


def check_callable(classifier: Any) -> None:
    """Refuse the name of a classifier, or anything else that cannot be called with images."""
    if isinstance(classifier, Prior):
        raise ValueError(
            "the classifier is a Prior, a score model; tasks take (prior, classifier, ...), and "
            "defend takes (classifier, prior, ...)"
        )
    if not callable(classifier) or isinstance(classifier, type):
        raise ValueError(
            f"the classifier is {describe_value(classifier)}; expected a module: "
            "write scoreag.load_classifier(...) or scoreag.wrap_classifier(module, mean, std)"
        )


def validate_classifier(
    classifier: Any, images: Images, require_grad: bool = True
) -> tuple[Classifier, int]:
    """The classifier and its number of classes; a module is wrapped, so its weights are frozen."""
    check_callable(classifier)
    is_defense = hasattr(classifier, "forward_unclamped")
    if isinstance(classifier, torch.nn.Module) and not (
        is_defense or isinstance(classifier, NormalizedClassifier)
    ):
        classifier = wrap_classifier(classifier)
    count = check_classifier(classifier, images, require_grad)
    check_names(classifier, count - can_reject(classifier))
    return classifier, count


def number_labels(labels: Any, names: Sequence[str]) -> Any:
    """Class names by their numbers; anything else as it is."""
    words = [labels] if isinstance(labels, str) else labels
    if not isinstance(words, Sequence) or not any(isinstance(word, str) for word in words):
        return labels
    for word in words:
        if isinstance(word, str) and word not in names:
            known = (
                did_you_mean(word, list(names)) if names else "write numbers: no names are known"
            )
            raise ValueError(f"labels have {word!r:.60}, which is no class; {known}")
    return [names.index(word) if isinstance(word, str) else word for word in words]


def validate_labels(labels: Any, count: int | None, classes: int, name: str = "labels") -> Labels:
    """Int64 classes within 0..classes-1, one for each of ``count`` images."""
    if labels is None:
        raise ValueError(f"the images have no {name}; give a class number per image")
    try:
        values = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} are {describe_value(labels)}; expected class numbers") from error
    values = values.reshape(1) if values.ndim == 0 else values
    if values.ndim != 1:
        raise ValueError(
            f"{name} have the shape {tuple(values.shape)}; expected one class per image"
            f"{_flat_hint(tuple(values.shape), name, classes)}"
        )
    if not len(values):
        raise ValueError("no images: there are no labels")
    if values.is_floating_point() or values.dtype == torch.bool:
        raise ValueError(
            f"{name} are {values.dtype}; expected whole numbers 0..{classes - 1}: write "
            f"{name}.long() if they are"
        )
    if count is not None and len(values) != count:
        raise ValueError(f"{len(values)} {name} for {count} images; expected one per image")
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= classes:
        fix = f": write {name} - 1 if they count from 1" if low == 1 and high == classes else ""
        raise ValueError(f"{name} from {low} to {high}; expected 0..{classes - 1}{fix}")
    return values.long()


def _flat_hint(shape: tuple[int, ...], name: str, classes: int) -> str:
    """What to write instead of a column, or of a one-hot table."""
    if len(shape) != 2 or shape[1] not in (1, classes):
        return ""
    return f": write {name}[:, 0]" if shape[1] == 1 else f": write {name}.argmax(1)"


def validate_target(
    target: Target,
    labels: Labels,
    classes: int,
    seed: int,
    ids: Sequence[int],
    class_names: Sequence[str] = (),
) -> Labels | str | None:
    """One class per image that is not its label; or ``runner_up``, or None."""
    if target is None or isinstance(target, str):
        if target == "random":
            return _random_targets(labels, classes, seed, ids)
        if target in (RUNNER_UP, "none", None):
            return None if target == "none" else target
        if target not in class_names:
            hint = did_you_mean(target, [RUNNER_UP, "random", "none", *class_names])
            raise ValueError(f"target is {target!r}, which is no class; {hint}")
        target = class_names.index(target)
    same_for_all = not isinstance(target, Tensor | np.ndarray | Sequence) or np.ndim(target) == 0
    count = None if same_for_all else len(labels)
    targets = validate_labels(target, count, classes, "target classes")
    targets = targets.to(labels.device).expand(len(labels))
    equal = (targets == labels).nonzero().flatten()
    if len(equal):
        first = int(equal[0])
        raise ValueError(
            f"target equals the label {int(targets[first])} of image {first} (and of {len(equal)} "
            'in all); write another class, or target="runner_up"'
        )
    return targets


def _random_targets(labels: Labels, classes: int, seed: int, ids: Sequence[int]) -> Labels:
    """Uniform over all classes but the label; depends only on the seed and the image id."""
    like = torch.zeros(len(ids), dtype=torch.float64)
    steps = 1 + Noise(seed, ids).fold_in("wrong").uniform_like(like) * (classes - 1)
    return (labels + steps.to(labels)) % classes


def default_image_ids(labels: Labels) -> tuple[int, ...]:
    """label * IDS_PER_CLASS + index within the class."""
    counts: Counter[int] = Counter()
    ids = []
    for label in labels.tolist():
        ids.append(label * IDS_PER_CLASS + counts[label])
        counts[label] += 1
    return tuple(ids)


def validate_image_ids(
    image_ids: Sequence[int] | Tensor | None, default: Sequence[int]
) -> tuple[int, ...]:
    """One id per image, all different: images with the same id would have the same noise."""
    if image_ids is None:
        return tuple(default)
    try:
        ids = tuple(index(i) for i in image_ids)
    except TypeError as error:
        raise ValueError(
            f"image ids are {describe_value(image_ids)}; expected whole numbers"
        ) from error
    if len(ids) != len(default) or len(set(ids)) != len(ids):
        raise ValueError(
            f"{len(set(ids))} different image ids for {len(default)} images; "
            f"expected {len(default)}"
        )
    return ids


def validate_seed(seed: int) -> int:
    """A whole number, 0 or more."""
    try:
        value = -1 if isinstance(seed, bool) else index(seed)
    except TypeError:
        value = -1
    if value < 0:
        raise ValueError(f"seed is {describe_value(seed)}; expected a whole number, 0 or more")
    return value


def fit_to_classifier(prior: Prior, classifier: Classifier, count: int) -> Prior:
    """The prior with the classifier's classes, by name; without names, there must be as many."""
    if len(names := known_names(classifier)) == count:
        prior = fit_classes(prior, names, known_groups(classifier))
    if prior.classes and len(prior.classes) != count:
        advice = getattr(getattr(prior.model, "network", None), "null_label_hint", "")
        raise ValueError(
            f"the classifier has {count} classes, and the score model {len(prior.classes)}; "
            "give one that was trained on the same classes, or name the classifier's: "
            f"wrap_classifier(module, mean, std, classes=[...]){advice and f'. {advice}'}"
        )
    return prior


def check_known(prior: Prior, labels: Labels, given: bool) -> None:
    """Refuse labels of which the score model has none, for ``given`` images or for new ones."""
    asked = sorted(set(labels.tolist()))
    unknown = [label for label in asked if label not in known_classes(prior)]
    if unknown and not given:
        raise ValueError(
            f"the score model cannot make images of {prior.classes[unknown[0]]!r}, a class of the "
            "classifier that it does not know; ask for others, or transform given images"
        )
    several = [y for y in asked if prior.label_choices and len(prior.label_choices[y]) != 1]
    if given and several and null_label(prior.model) is None:
        raise ValueError(
            f"images of {prior.classes[several[0]]!r} are of no single class of the score model, "
            "and it has no null label; give a model that was trained with dropped labels, too"
        )


def validate_prior(prior: Prior) -> Prior:
    """Refuse the name of a score model, or a classifier in its place."""
    if not isinstance(prior, Prior):
        swapped = isinstance(prior, torch.nn.Module)
        order = ", and the classifier in the classifier's place" if swapped else ""
        raise ValueError(
            f"the prior is {describe_value(prior)}; write scoreag.load_prior(...){order}"
        )
    return prior


def validate_flag(name: str, value: Any) -> bool:
    """True or False; refuses other types."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} is {describe_value(value)}; expected True or False")
    return bool(value)
