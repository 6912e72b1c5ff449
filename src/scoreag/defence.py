"""A classifier that looks at purified images: again a classifier, which any attack attacks."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from scoreag.asked import check_callable, checked_flag, checked_prior, checked_seed
from scoreag.core.draws import at_calls, taken
from scoreag.core.frozen import Frozen
from scoreag.core.noise import Noise
from scoreag.core.prior import Prior
from scoreag.core.rows import Batch, batch, picked, showing, tiled
from scoreag.core.types import Classifier, Images, Logits
from scoreag.defence_checks import check_fits, checked
from scoreag.images import check_images
from scoreag.load import described, hint, load
from scoreag.memory import bytes_of, draws_at_once, per_image
from scoreag.models import classifier as as_classifier
from scoreag.settings import Settings, chosen_for

ARGUMENTS = ("seed", "draws", "vote", "backward", "max_memory", "bf16")
BACKWARD = ("exact", "bpda", "blind")
VOTES = ("mean", "majority")
UNSEEN = 1e-3  # added to the shares of a vote, so that the log of none is a number


@runtime_checkable
class Purify(Protocol):
    """Images to images of the prior's kind; differentiable, and pure but for ``noise``."""

    def __call__(
        self, prior: Prior, images: Images, settings: Settings, noise: Noise
    ) -> Images: ...


@dataclass(frozen=True, eq=False)
class Defence:
    """All that determines the answers of a defence, but which call it is; see ``defend``."""

    classifier: Classifier
    prior: Prior
    purify: Purify
    settings: Settings
    seed: int = 0
    draws: int = 1
    vote: str = "mean"
    backward: str = "exact"
    max_memory: int | None = None
    bf16: bool = False
    footprint: int = 0  # bytes of the gradient of one draw of one image, in the prior's dtype


def defend(
    classifier: Classifier,
    prior: Prior,
    purifier: str = "gap",
    *,
    seed: int = 0,
    draws: int = 1,
    vote: str = "mean",
    backward: str = "exact",
    max_memory: int | str | None = None,
    bf16: bool = False,
    **settings: Any,
) -> "Defended":
    """``classifier`` behind a purifier: images in [0, 1] to logits, with fresh draws at each call.

    Args:
        purifier: a file of ``purifiers``, or a module of one's own, named with dots.
        draws: purified images that are looked at for each answer; 1 is the one-shot defence.
        vote: "mean" of the logits, or "majority": the log of the share of draws that say a class.
        backward: how an attacker differentiates it: "exact", the gradient of the discrete chain;
            "bpda", as if purification were the identity; "blind", as if there were none.
        max_memory: bytes, or "4 GiB", for the gradient of the draws that are taken at once; a
            single draw that needs more is refused.  By default draws are taken at once as far as
            2 GiB reach, and at least one.
        bf16: networks compute in bfloat16; states, noise and the sums over steps do not.
        settings: fields of ``Settings`` that the purifier takes; what is not given comes from the
            prior's card.

    Raises:
        ValueError: a word, a number or a combination that cannot work; says what to write instead.
    """
    prior, seed = checked_prior(prior), checked_seed(seed)
    check_callable(classifier)
    _check_words(draws, vote, backward)
    checked_flag("bf16", bf16)
    if isinstance(classifier, nn.Module) and not isinstance(classifier, Frozen | Defended):
        classifier = as_classifier(classifier)
    if not isinstance(purifier, str):
        raise ValueError(f"the purifier is {described(purifier)}; write one such as 'gap'")
    try:
        part = load("purifiers", purifier)
    except ModuleNotFoundError as error:
        raise ValueError(f"the purifier {purifier} cannot be imported: {error}") from error
    chosen = chosen_for(prior, part.CARD, part.TAKES, part.DEFAULTS, settings, ARGUMENTS)
    most = None if max_memory is None else bytes_of(max_memory)
    defence = Defence(
        classifier, prior, part.purify, chosen, seed, draws, vote, backward, most, bf16
    )
    if isinstance(classifier, nn.Module):
        check_fits(classifier, prior)
    if draws > 1 or most is not None:
        defence = replace(defence, footprint=_footprint(defence))
    return Defended(defence)


def _check_words(draws: int, vote: str, backward: str) -> None:
    for kind, word, known in (("backward", backward, BACKWARD), ("vote", vote, VOTES)):
        if not isinstance(word, str) or word not in known:
            raise ValueError(f"no {kind} {described(word)}; {hint(described(word), list(known))}")
    if not isinstance(draws, int) or draws < 1:
        raise ValueError(f"draws is {described(draws)}; expected a whole number, at least 1")


class Defended(nn.Module):
    """What ``defend`` returns.  Its only state is the number of calls of each row, unless replayed.

    Row i draws as image ``rows[i]``; by default as the image that whoever shows the batch says, and
    where nobody does as image i.  ``fixed`` is the call that is replayed, for all rows or for each.
    """

    def __init__(self, defence: Defence) -> None:
        super().__init__()
        self.defence, self.classifier = defence, defence.classifier
        self.counts: dict[int, int] = {}
        self.fixed: int | tuple[int, ...] | None = None
        self.rows: tuple[int, ...] | None = None
        self.eval()

    def replay(
        self, draw: int | Sequence[int], image_ids: Sequence[int] | None = None
    ) -> "Defended":
        """The same defence with the draws of call ``draw``, again and again.

        Row i is image ``image_ids[i]``, by default image i; it may have a call of its own.
        """
        again = Defended(self.defence)
        again.fixed = draw if isinstance(draw, int) else tuple(draw)
        again.rows = None if image_ids is None else tuple(image_ids)
        return again

    def for_rows(self, rows: Sequence[int]) -> "Defended":
        """The same defence, to be shown only these rows of its batch: each draws as it would there,
        however often the others are asked."""
        part = self._with(tuple(rows) if self.rows is None else picked(self.rows, rows))
        if isinstance(self.fixed, tuple):
            part.fixed = tuple(self.fixed[min(i, len(self.fixed) - 1)] for i in rows)
        return part

    def for_ids(self, image_ids: Sequence[int]) -> "Defended":
        """The same defence, whose row i is image ``image_ids[i]``, unless it was told before."""
        return self if self.rows is not None else self._with(tuple(image_ids))

    def _with(self, rows: tuple[int, ...]) -> "Defended":
        part = Defended(self.defence)
        part.counts, part.fixed, part.rows = self.counts, self.fixed, rows
        return part

    def at_once(self, images: Images, draws: int) -> int:
        """How many answers an attacker takes as one batch: one, or what ``max_memory`` holds."""
        if self.defence.max_memory is None:
            return 1
        room = _fitting(self.defence, images, draws)
        return room if self.defence.draws == 1 else 1  # an answer takes several already

    def train(self, mode: bool = True) -> "Defended":
        """In eval mode it stays: in train mode its networks would answer, and change, by batch."""
        return super().train(False)

    def forward(self, images: Images) -> Logits:
        return self._answered(images)

    def of_estimates(self, images: Images) -> Logits:
        """The same of a chain's estimates of x0, which may lie outside of [0, 1]."""
        return self._answered(images, estimates=True)

    @torch.inference_mode(False)  # guidance needs gradients, wherever it is called from
    def _answered(self, images: Images, estimates: bool = False) -> Logits:
        if isinstance(images, Tensor) and images.is_inference():
            images = images.clone()
        estimates = estimates or batch().estimates
        images = check_images(images, self.defence.prior.image_shape, estimates)
        noise = self._noise(len(images))
        draws = [noise.at("draw", i) for i in range(self.defence.draws)]
        return _answer(self.defence, images, draws)

    def _noise(self, count: int) -> Noise:
        """That of the rows of this call, which are thereby counted, unless a call is replayed."""
        shown = batch()
        known = self.rows if self.rows is not None else shown.ids
        rows = tuple(range(count)) if known is None else tiled(known, count)
        if self.fixed is not None:
            fixed = (self.fixed,) if isinstance(self.fixed, int) else self.fixed
            return at_calls(self.defence.seed, rows, tiled(fixed, count))
        paths = tiled(shown.paths, count)
        counts = self.counts if shown.counts is None else shown.counts
        keys = [(*path, row) if path else row for path, row in zip(paths, rows, strict=True)]
        return at_calls(self.defence.seed, rows, taken(counts, keys), paths)


def _answer(defence: Defence, images: Images, draws: Sequence[Noise]) -> Logits:
    """What is said of ``images`` after so many draws, with the gradient that an attacker takes."""
    prior = defence.prior.to(images.dtype, images.device)
    size = _fitting(defence, images, len(draws))
    parts = [draws[i : i + size] for i in range(0, len(draws), size)]
    with _arithmetic(defence, images):
        seen = [_seen(defence, prior, images, part, len(parts) > 1) for part in parts]
        logits = torch.cat(seen)
        if defence.backward == "blind":
            plain = _classified(defence, images, draws[:1], "blind").to(images.dtype)
            logits = (logits.detach() - plain.detach()) + plain
    return _counted(logits) if defence.vote == "majority" else logits.mean(0)


def _fitting(defence: Defence, images: Images, draws: int) -> int:
    """How many draws of these images the budget of memory has room for.

    The draws of one answer keep their states together, until its gradient is taken.
    """
    wider = images.element_size() / torch.finfo(defence.prior.dtype).bits * 8
    each, states = (int(n * wider) for n in (defence.footprint, _states(defence)))
    held = states if defence.draws > 1 else 0
    return draws_at_once(each - held, len(images), draws, defence.max_memory, held)


def _seen(
    defence: Defence, prior: Prior, images: Images, draws: Sequence[Noise], again: bool
) -> Float[Tensor, "draws batch classes"]:
    """The logits after some draws, whose images are one batch.

    Args:
        again: the classifier is called again for its gradient, so that other draws have its room.
    """
    source = images if defence.backward == "exact" else images.detach()
    many = images.repeat(len(draws), 1, 1, 1)
    purified = defence.purify(
        prior, source.repeat(len(draws), 1, 1, 1), defence.settings, Noise.joined(draws)
    )
    if defence.backward == "bpda":
        purified = many + (purified - many).detach()
    if again and purified.requires_grad:
        logits = checkpoint(_classified, defence, purified, draws, use_reentrant=False)
    else:
        logits = _classified(defence, purified, draws)
    return logits.to(images.dtype).unflatten(0, (len(draws), len(images)))


def _classified(defence: Defence, images: Images, draws: Sequence[Noise], *purpose: str) -> Logits:
    """What the classifier says of the images of some draws.

    A defence within it draws for the same images, as a function of which draw of which call it is
    asked in: the same in each pass, however the draws are split, and again in a replay.
    """
    noise = Noise.joined(draws)
    paths = tuple((*path, *purpose) for path in noise.within)
    with showing(Batch(tuple(noise.image_ids), paths, {})):
        return checked(defence.classifier(images), images)


def _footprint(defence: Defence) -> int:
    """Bytes that the gradient of one draw takes, an image: the graph of a step, and the states.

    Measured on two steps: the first of them is whole for every method, also those that call twice.
    """
    prior, settings = defence.prior, defence.settings
    short = replace(settings, steps=min(2, settings.steps))
    classify = defence.classifier
    if isinstance(classify, Defended):
        classify = classify.replay(0)

    def gradient(count: int) -> None:
        images = torch.full((count, *prior.image_shape), 0.5, dtype=prior.dtype)
        images = images.to(prior.sigmas.device).requires_grad_()
        with torch.enable_grad(), _arithmetic(defence, images), showing(Batch(counts={})):
            seen = defence.purify(prior, images, short, Noise(0, range(count)))
            if isinstance(classify, nn.Module):  # what a function does when called is not known
                seen = classify(seen)
            torch.autograd.grad(seen.sum(), images)

    return per_image(gradient) + _states(defence)


def _states(defence: Defence) -> int:
    """Bytes of the states of one draw's chain, of one image."""
    shape, dtype = defence.prior.image_shape, defence.prior.dtype
    return defence.settings.steps * math.prod(shape) * torch.finfo(dtype).bits // 8


def _arithmetic(defence: Defence, images: Images) -> AbstractContextManager[Any]:
    return torch.autocast(images.device.type, torch.bfloat16) if defence.bf16 else nullcontext()


def _counted(logits: Tensor) -> Logits:
    """The log of each class's share of the draws; the gradient is that of the mean logits."""
    votes = torch.nn.functional.one_hot(logits.argmax(2), logits.shape[2]).to(logits).mean(0)
    mean = logits.mean(0)
    return votes.add(UNSEEN).log() + (mean - mean.detach())
