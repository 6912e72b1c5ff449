"""Which images are shown: equally many of each condition, balanced by label, of shared sources."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import torch

from scoreag.core.types import Classifier
from scoreag.data.source import interleave_groups
from scoreag.io.images import decode_png, to_float
from scoreag.study.lists import shuffle_key
from scoreag.study.pictures import Picture

Confidence = Callable[[Sequence[Picture]], list[float]]  # of a judge, in each picture's label
MAX_CANDIDATES = 500  # for checks; a judge is slow on more


def select_main(
    pictures: Mapping[str, Sequence[Picture]], count: int, seed: int
) -> dict[str, list[Picture]]:
    """``count`` images of each condition in the order of their labels.

    Sources that many conditions have come first, so that conditions share them.

    Raises:
        ValueError: a condition has fewer images.
    """
    has = Counter(one.source_pixels for some in pictures.values() for one in some)
    selected = {}
    for condition, some in pictures.items():
        own = {one.source_pixels: one for one in some}  # a source once
        if len(own) < count:
            raise ValueError(
                f"condition {condition} has {len(own)} images that count, fewer than {count}; "
                f"give --images-per-condition {len(own)}, --conditions without it, or more images"
            )
        order = sorted(own.values(), key=lambda one: _rank(one, has, seed))
        selected[condition] = _balance(order, count)
    return selected


def _rank(one: Picture, has: Mapping[str, int], seed: int) -> tuple[int, int, str]:
    return one.label, -has[one.source_pixels], shuffle_key(seed, "main", one.source_pixels)


def _balance(order: Sequence[Picture], count: int) -> list[Picture]:
    """The first pictures of each label in turn, sorted by label."""
    turns = interleave_groups([one.label for one in order])[:count]
    return [order[i] for i in sorted(turns)]


def select_easy(
    candidates: Sequence[Picture], count: int, seed: int, confidence: Confidence | None
) -> list[Picture]:
    """``count`` images whose label nobody misses; labels take turns.

    Args:
        confidence: the most confident images are taken; None takes any.

    Raises:
        ValueError: there are too few.
    """
    some = sorted(candidates, key=lambda one: shuffle_key(seed, "easy", one.pixels))
    turns = interleave_groups([one.label for one in some])
    some = [some[i] for i in turns[:MAX_CANDIDATES]]
    if confidence is not None and some:
        sure = dict(zip([one.pixels for one in some], confidence(some), strict=True))
        some = sorted((o for o in some if sure[o.pixels] > 0.5), key=lambda o: -sure[o.pixels])
    if len(some) < count:
        raise ValueError(
            f"checks and practice need {count} easy images beside those of the study, and there "
            f"are {len(some)}; give --checks with labeled real images, e.g. cifar10:test"
        )
    labels = sorted(range(len(some)), key=lambda i: some[i].label)
    ordered = [some[i] for i in labels]
    return [ordered[i] for i in interleave_groups([one.label for one in ordered])[:count]]


def make_confidence(
    classifier: Classifier, device: torch.device, batch_size: int = 250
) -> Confidence:
    """The probability that a classifier gives to the label of each picture."""

    def confidence(pictures: Sequence[Picture]) -> list[float]:
        found: list[float] = []
        for start in range(0, len(pictures), batch_size):
            batch = pictures[start : start + batch_size]
            images = torch.stack([to_float(decode_png(one.png)) for one in batch]).to(device)
            labels = torch.tensor([one.label for one in batch], device=device)
            with torch.inference_mode():
                shares = classifier(images).softmax(1)
            found += shares[torch.arange(len(batch), device=device), labels].tolist()
        return found

    return confidence


def shuffle_blocks(image: torch.Tensor, seed: int, blocks: int = 4) -> torch.Tensor:
    """The image cut into ``blocks`` x ``blocks`` pieces in a random order: no photograph."""
    height, width = (size // blocks for size in image.shape[-2:])
    pieces = [
        (slice(i * height, (i + 1) * height), slice(j * width, (j + 1) * width))
        for i in range(blocks)
        for j in range(blocks)
    ]
    order = sorted(range(len(pieces)), key=lambda k: shuffle_key(seed, "blocks", k))
    result = image.clone()
    for target, source in zip(pieces, order, strict=True):
        result[:, target[0], target[1]] = image[:, pieces[source][0], pieces[source][1]]
    return result
