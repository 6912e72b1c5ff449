"""The inputs of a score model's evaluation, checked before the first metric is computed."""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from scoreag.classifiers.checks import check_classifier
from scoreag.classifiers.normalized import NormalizedClassifier
from scoreag.core import ALGORITHM
from scoreag.data.loading import Dataset
from scoreag.diffusion.prior import Prior
from scoreag.evaluation.score_model import EvalContext, Model
from scoreag.io.images import to_float
from scoreag.models.identity import (
    N_CALLS,
    model_identity,
    probe_classifier,
    probe_function,
    probe_images,
)
from scoreag.models.model_cards import Card
from scoreag.training.optimization import checkpoint_at


def describe_context(context: EvalContext) -> dict[str, Any]:
    """Everything that the metrics of a score model depend on, except its weights."""
    return {
        "images": context.n_images,
        "sampler": context.sampler,
        "nfe": context.nfe,
        "seed": context.seed,
        "batch_size": context.batch_size,
        "feature_batch_size": context.feature_batch_size,
        "feature_extractors": {one.name: one.sha256 for one in context.extractors},
        "judge": model_identity(context.judge.module, context.judge.metadata)["sha256"],
        "data": f"{context.test.name}, sha256 {context.test.sha256}",
        "train_data": f"{context.train.name}, sha256 {context.train.sha256}",
        "device": context.device.type,
        "algorithm": ALGORITHM,
        **({"guidance": dict(context.guidance_record)} if context.guidance_record else {}),
    }


def probe_context(context: EvalContext) -> dict[str, Any]:
    """The answers of the judge and the features of other networks, for two fixed images."""
    like = torch.zeros(1, *context.test.images.shape[1:], device=context.device)
    probes = {"judge": probe_classifier(context.judge, like)}
    for one in context.extractors:
        if one.name != "judge":
            name = f"feature extractor {one.name}"
            probes[name] = probe_function(one.extract, probe_images(like), N_CALLS)
    return probes


def load_compared_model(
    word: str, card: Card, load_card: Callable[[str], Card], load_prior: Callable[[str], Prior]
) -> Model:
    """The model of another card, or of ``card`` after a fraction of its training, e.g. 0.5."""
    try:
        fraction = float(word)
    except ValueError:
        return Model(load_card(word), load_prior(word))
    with TemporaryDirectory() as folder:
        try:
            earlier = checkpoint_at(card, fraction, Path(folder))
        except ValueError as error:
            raise ValueError(f"--compare-with {word}: {error}") from error
        return Model(earlier, load_prior(folder))


def check_comparable(card: Card, others: Sequence[Card]) -> None:
    """Refuse cards for other images or classes, or without their number of training images."""
    for other in others:
        if (other.image_shape, other.classes) != (card.image_shape, card.classes):
            raise ValueError(
                f"--compare-with {other.name} is for other images or classes than {card.name}"
            )
    for one in [card, *others] if others else []:
        if not isinstance(one.training_config.get("images_seen"), int):
            raise ValueError(
                f"{one.name} has no images_seen in its training_config, so it has no place on the "
                "curve; leave out --compare-with, or write images_seen into the card"
            )


def check_reference(
    name: str,
    reference: NormalizedClassifier,
    reference_classes: Sequence[str],
    card: Card,
    test: Dataset,
    device: torch.device,
) -> None:
    """Refuse a reference classifier that does not take the images or has other classes."""
    fix = "give another --reference-classifier"
    try:
        images = to_float(test.images[:2]).to(device)
        count = check_classifier(reference, images, require_grad=False)
    except ValueError as error:
        raise ValueError(f"--reference-classifier {name}: {error}; {fix}") from error
    classes = tuple(reference_classes)
    if card.classes and (count != len(card.classes) or classes != card.classes):
        raise ValueError(
            f"the reference classifier {name} has other classes than {card.name}; "
            "give one with the same classes: --reference-classifier CARD"
        )
