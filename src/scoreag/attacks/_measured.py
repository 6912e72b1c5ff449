"""An attack whose images are measured: ``scoreag.attack``, beside ``scoreag.transform``."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoreag.attacks._attack import Attack, attack_config, attack_name
from scoreag.classifiers.checks import validate_judge
from scoreag.classifiers.class_groups import known_names
from scoreag.core.batching import batch_ranges, pick_ids, reset_draws
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images, Labels, Logits
from scoreag.data.loading import Dataset, load_dataset
from scoreag.io.images import check_images, quantize_8bit
from scoreag.io.progress import tqdm
from scoreag.methods.result import Result
from scoreag.methods.run_task import DEFAULT_BATCH_SIZE, check_batch_size
from scoreag.methods.task import (
    validate_classifier,
    validate_flag,
    validate_image_ids,
    validate_labels,
    validate_seed,
)
from scoreag.registry import describe_value, load_attack


def attack(
    attack: Attack | str,
    classifier: Classifier,
    images: Tensor | str | Path,
    labels: Tensor | Sequence[int] | None = None,
    *,
    seed: int = 0,
    image_ids: Sequence[int] | Tensor | None = None,
    judge: Classifier | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    progress: bool = True,
) -> Result:
    """Attack a classifier, and measure on the 8-bit images whether that succeeded.

    The attack itself returns images and does not grade them.  A randomized defense is judged by
    draws that the attack did not see.

    Args:
        attack: ``PGD(eps=8/255)``, or a name, with the attack's default options: "pgd".
        classifier: images in [0, 1] to logits: a module in eval mode, a function, a defense.
        images: (batch, channels, height, width), in [0, 1] or uint8; or the word of a data set,
            "cifar10:test[0:64]", with its labels and ids; ``config`` of the result names it.
        labels: the true classes, (batch,); those of the data set where that is named.
        seed: with the image id it determines all random numbers.
        image_ids: by default 0, 1, 2, ..., or those of the data set.
        judge: reference classifier; it tells whether the images still show their class.
        batch_size: images per forward pass; 0: all at once, unpadded.

    Returns:
        The attacked images, in [0, 1], and what was measured on them.

    Raises:
        ValueError: what came, what was expected, and what to write instead.
    """
    chosen = _load(attack)
    check_batch_size("batch_size", batch_size, "all at once")
    named: dict[str, Any] = {}
    if isinstance(images, str | Path):
        data = _load_named(images, labels, classifier, progress)
        named, images, labels = {"data": data.name}, data.images, data.labels
        image_ids = data.image_ids if image_ids is None else image_ids
    images = check_images(images).detach()
    checked, n_classes = validate_classifier(classifier, images[:1], chosen.needs_gradient)
    labels = validate_labels(labels, len(images), n_classes).to(images.device)
    names = known_names(classifier)
    judge = validate_judge(judge, checked, images[:1], n_classes, names)
    ids, seed = validate_image_ids(image_ids, range(len(images))), validate_seed(seed)
    size = batch_size or len(images)
    hidden = None if validate_flag("progress", progress) else True
    parts = []
    with tqdm(total=len(images), unit="image", desc="attack", delay=2, disable=hidden) as bar:
        for rows in batch_ranges(len(images), size):
            padded = [*rows, *[rows[-1]] * (size - len(rows))]
            part = [*pick_ids(ids, rows), *pick_ids((), range(len(rows), size))]
            x, y = images[padded], labels[padded]
            with torch.inference_mode(False):  # run, not a call: the inputs have been checked
                fresh = reset_draws(checked, part, "attack")
                adversarial = chosen.run(fresh, x, y, Noise(seed, part))
            found = _measure(chosen, checked, judge, x, y, adversarial, part, seed, names)
            parts.append(found[: len(rows)])
            bar.update(len(rows))
    result = Result.cat(parts)
    return replace(result, config={**result.config, **named})


def _load_named(word: str | Path, labels: Any, classifier: Classifier, progress: bool) -> Dataset:
    """The labeled images of a word, numbered by the classes of the classifier."""
    if labels is not None:
        raise ValueError(f"{word} has labels of its own; leave out labels")
    names = known_names(classifier)
    data = load_dataset(word, progress=validate_flag("progress", progress), classes=names)
    if data.labels is None:
        raise ValueError(f"{data.name} has no labels, and success depends on them; give labels")
    return data


def _load(attack: Attack | str) -> Any:
    """The attack of a name, or the given one, which must not be a task or a class."""
    chosen = load_attack(attack)() if isinstance(attack, str) else attack
    if isinstance(chosen, type) or not hasattr(chosen, "run"):
        raise ValueError(
            f"the attack is {describe_value(attack)}; expected one with its options, such as "
            "scoreag.attacks.PGD(eps=8/255), or a name: scoreag list attacks"
        )
    if hasattr(chosen, "prior"):
        raise ValueError(
            f"{attack_name(type(chosen))} samples by a score model; write "
            "scoreag.transform(prior, classifier, images, labels), which counts its cost"
        )
    return chosen


@torch.no_grad()
def _measure(
    attack: Any,
    classifier: Classifier,
    judge: Classifier | None,
    images: Images,
    labels: Labels,
    adversarial: Images,
    ids: Sequence[int],
    seed: int,
    names: tuple[str, ...],
) -> Result:
    """The predictions of both classifiers, on the originals and on the attacked images."""

    def compute_logits(pixels: Images, purpose: str) -> Logits:
        logits: Logits = reset_draws(classifier, ids, purpose)(pixels)
        return logits

    zeros, saved = torch.zeros(len(images), dtype=torch.int64), quantize_8bit(adversarial)
    result = Result(
        task="attack", images=adversarial, originals=images, labels=labels,
        image_ids=torch.tensor(ids), nfe=zeros, restarts=zeros, guidance_skipped=zeros,
        seed=seed, config=attack_config(attack), classes=names,
    )  # fmt: skip
    before, after = compute_logits(images, "before"), compute_logits(saved, "saved")
    result = result.with_predictions(after, before)
    result = result.with_success(compute_logits(adversarial, "float").argmax(1))
    if judge is None:
        return result
    return result.with_judge(judge, judge(images).argmax(1), judge(saved).argmax(1))
