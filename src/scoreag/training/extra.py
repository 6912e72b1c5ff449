"""Batches of which a share is extra data, such as a score model's samples; Wang et al. (2023)."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import UInt8
from torch import Tensor

from scoreag.core.types import Labels
from scoreag.dataset import Dataset
from scoreag.training.loop import Batch, Plan, batches

Pixels = UInt8[Tensor, "count channel height width"]


def mixed(count: int, plan: Plan, first: int = 0, *, own: int, share: float) -> Iterator[Batch]:
    """``loop.batches`` for data whose rows from ``own`` on are the extra ones.

    Either part has an order and epochs of its own, so that every image comes once before any of
    its part comes again, however large the other is.  ``epoch`` is that of the own images.
    """
    extra = extra_of(plan.batch, share)
    ours = _part(plan, plan.batch - extra, plan.seed)
    theirs = _part(plan, extra, -1 - plan.seed)  # another order, also where both are as many
    pairs = zip(batches(own, ours, first), batches(count - own, theirs, first), strict=True)
    for real, added in pairs:
        done = real.step * plan.batch / plan.images
        yield Batch(real.step, real.epoch, torch.cat([real.ids, own + added.ids]), done)


def extra_of(batch: int, share: float) -> int:
    """How many of a batch are extra images: at least one, and not all."""
    return min(batch - 1, max(1, round(share * batch)))


def joined(images: Pixels, labels: Labels, extra: Dataset) -> tuple[Tensor, Tensor]:
    """One's own images and labels, then the extra ones."""
    assert extra.labels is not None
    return torch.cat([images, extra.images]), torch.cat([labels, extra.labels.to(labels)])


def check_extra(
    extra: Dataset | None, images: Pixels, classes: int, plan: Plan, share: float
) -> None:
    """Refuse extra data that do not belong to the images.

    Raises:
        ValueError: a share without data or the reverse, no labels, another shape, other classes,
            or fewer images than a batch takes.
    """
    if extra is None or not share:
        if extra is None and not share:
            return
        lacks = "no extra data" if extra is None else f"extra data {extra.name!r} but no share"
        raise ValueError(f"extra_share is {share:g}, with {lacks}; give both, e.g. 0.7, or neither")
    if extra.labels is None:
        raise ValueError(f"{extra.name} has no labels; extra data need them")
    if extra.images.shape[1:] != images.shape[1:]:
        theirs, ours = (" x ".join(map(str, x.shape[1:])) for x in (extra.images, images))
        raise ValueError(f"{extra.name} has {theirs} images, and the training images are {ours}")
    if not 0 <= int(extra.labels.min()) <= int(extra.labels.max()) < classes:
        raise ValueError(
            f"{extra.name} has labels {int(extra.labels.min())} to {int(extra.labels.max())}; "
            f"the training images have 0 to {classes - 1}"
        )
    if len(extra) < (wanted := extra_of(plan.batch, share)):
        raise ValueError(
            f"{extra.name} has {len(extra)} images, and a batch takes {wanted}; give at least "
            "that many, or a smaller batch or share"
        )


def _part(plan: Plan, batch: int, seed: int) -> Plan:
    """As many steps as ``plan`` has, of smaller batches."""
    return replace(plan, batch=batch, images=batch * plan.steps, seed=seed)
