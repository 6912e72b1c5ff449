"""A classifier that looks at purified images: again a classifier, which any attack attacks."""

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from scoreag.classifiers.checks import REENTRANT_CHECKPOINT, diagnose_gradient
from scoreag.classifiers.loading import wrap_classifier
from scoreag.classifiers.normalized import NormalizedClassifier
from scoreag.core.batching import BatchContext, current_batch, pick_ids, tile_rows, use_batch
from scoreag.core.rng import Noise, next_call_indices, noise_for_calls
from scoreag.core.types import Classifier, Images, Logits
from scoreag.defenses.memory_budget import max_parallel_draws, measure_image_bytes, parse_bytes
from scoreag.diffusion.prior import Prior
from scoreag.io.images import check_images
from scoreag.methods.config import (
    SamplingConfig,
    answer_unknown_options,
    given_options,
    resolve_config,
)
from scoreag.methods.validation import check_callable, validate_flag, validate_prior, validate_seed
from scoreag.models.identity import model_identity
from scoreag.registry import describe_value, did_you_mean, load_component


@torch.inference_mode(False)
def check_image_shapes(classifier: nn.Module, prior: Prior) -> None:
    """Refuse a classifier that cannot take the score model's images."""
    takes = " x ".join(map(str, prior.image_shape))
    known = getattr(classifier, "image_shape", None)
    if known is not None and tuple(known) != tuple(prior.image_shape):
        raise ValueError(
            f"the classifier is one of images of {' x '.join(map(str, known))}, and the score "
            f"model purifies {takes}; give two that were made for the same images"
        )
    blank = torch.full((1, *prior.image_shape), 0.5, dtype=prior.dtype)
    leaf = blank.to(prior.sigmas.device).requires_grad_()
    try:
        with torch.enable_grad(), use_batch(BatchContext(call_counts={})):  # no draw is counted
            logits = classifier(leaf)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"the classifier cannot take what the score model purifies, images of {takes}: {reason}"
        ) from error
    problem = diagnose_gradient(validate_logits(logits, leaf), leaf)
    if problem == REENTRANT_CHECKPOINT:
        raise ValueError(f"the classifier {problem}")


def validate_logits(logits: Any, images: Images) -> Logits:
    """Logits, a row an image, all of them numbers."""
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"the classifier returned {got}; expected logits ({len(images)}, classes)")
    sound = logits.detach().isfinite().all(1)
    if not sound.all():
        blame = "the classifier returned NaN or infinity"
        if not images.detach().isfinite().all():
            blame = "the purified images are not finite: write a smaller similarity, or more steps"
        raise ValueError(f"{blame} (for {int((~sound).sum())} of {len(sound)} purified images)")
    return logits


BACKWARD_MODES = ("exact", "bpda", "none")
AGGREGATIONS = ("mean", "majority")
VOTE_SMOOTHING = 1e-3  # added to the shares of a vote, so that the log of none is a number


@runtime_checkable
class Purifier(Protocol):
    """Images to images of the prior's kind; differentiable, and pure but for ``noise``."""

    def __call__(
        self, prior: Prior, images: Images, config: SamplingConfig, noise: Noise
    ) -> Images: ...


@dataclass(frozen=True, eq=False)
class DefenseConfig:
    """All that determines the answers of a defense, but which call it is; see ``defend``."""

    classifier: Classifier
    prior: Prior
    purify: Purifier
    sampling: SamplingConfig
    seed: int = 0
    draws: int = 1
    aggregate: str = "mean"
    backward: str = "exact"
    max_memory: int | None = None
    bf16: bool = False
    bytes_per_draw: int = 0  # bytes of the gradient of one draw of one image, in the prior's dtype


@answer_unknown_options
def defend(
    classifier: Classifier,
    prior: Prior,
    purifier: str = "gap",
    *,
    seed: int = 0,
    draws: int = 1,
    aggregate: str = "mean",
    backward: str = "exact",
    max_memory: int | str | None = None,
    bf16: bool = False,
    similarity: float | None = None,
    likelihood_variance: str | None = None,
    sigma_start: float | None = None,
    steps: int | None = None,
    sampler: str | None = None,
    sampler_options: Mapping[str, Any] | None = None,
    jacobian: str | None = None,
    x0_estimate: str | None = None,
) -> "PurifiedClassifier":
    """``classifier`` behind a purifier: images in [0, 1] to logits, with fresh draws at each call.

    Any attack takes it, of this library or another: its gradient is that of the whole chain.

    Args:
        classifier: images in [0, 1] to logits (batch, classes): a module in eval mode, a function,
            or another defense.
        prior: a score model of the same images, from ``load_prior``.
        purifier: ``gap`` (Kollovieh et al. 2023), ``diffpure`` (Nie et al. 2022),
            ``one_step_denoising`` (Carlini et al. 2023), or ``package.module`` of one's own.
        seed: 0 or more; with the image and the number of the call it determines the draws.
        draws: purified images that each answer is aggregated from.
        aggregate: the ``mean`` of their logits, or ``majority``: the log of the share of draws
            that say a class.
        backward: the gradient that an attacker gets: ``exact``, of the discrete chain; ``bpda``,
            as if purification were the identity; ``none``, as if there were no purifier.
        max_memory: bytes, or such as ``"4 GiB"``, for the gradient of the draws that are taken at
            once; a single draw that needs more is refused.  By default 2 GiB, at least one draw.
        bf16: networks compute in bfloat16; states, noise and the sums over steps do not.
        similarity: s_x >= 0, the inverse variance around the given image, in [-1, 1].
        likelihood_variance: how far an x0-estimate is trusted: ``constant`` (DPS), ``widened``,
            ``damped`` (PiGDM's weight) or ``exact`` (MMPS).
        sigma_start: noise level at which the chain starts, in units of [-1, 1]; 0.002 to 1000.
        steps: noise levels before 0, at least 1.
        sampler: one of ``scoreag list samplers``; ``sampler_options`` are its own.
        jacobian: of the denoiser, ``exact``, ``identity`` (MPGD) or ``finite_difference``.
        x0_estimate: ``denoiser``, ``ode_euler`` or ``sde_euler``, of what the terms look at.
    A sampling option that is None has the value of the prior's card; a purifier takes some of them.

    Raises:
        ValueError: a word, a number or a combination that cannot work; says what to write instead.
    """
    prior, seed = validate_prior(prior), validate_seed(seed)
    check_callable(classifier)
    _check_options(draws, aggregate, backward)
    validate_flag("bf16", bf16)
    options = given_options(locals())
    if isinstance(classifier, nn.Module) and not isinstance(
        classifier, NormalizedClassifier | PurifiedClassifier
    ):
        classifier = wrap_classifier(classifier)
    if not isinstance(purifier, str):
        raise ValueError(f"the purifier is {describe_value(purifier)}; write one such as 'gap'")
    try:
        module = load_component("purifiers", purifier)
    except ModuleNotFoundError as error:
        raise ValueError(f"the purifier {purifier} cannot be imported: {error}") from error
    sampling = resolve_config(
        prior, module.CARD_SECTION, module.CONFIG_FIELDS, module.DEFAULTS, options
    )
    max_bytes = None if max_memory is None else parse_bytes(max_memory)
    config = DefenseConfig(
        classifier,
        prior,
        module.purify,
        sampling,
        seed,
        draws,
        aggregate,
        backward,
        max_bytes,
        bf16,
    )
    if isinstance(classifier, nn.Module):
        check_image_shapes(classifier, prior)
    if draws > 1 or max_bytes is not None:
        config = replace(config, bytes_per_draw=_measure_draw_bytes(config))
    return PurifiedClassifier(config)


def _check_options(draws: int, aggregate: str, backward: str) -> None:
    for name, word, known in (
        ("backward", backward, BACKWARD_MODES),
        ("aggregate", aggregate, AGGREGATIONS),
    ):
        if not isinstance(word, str) or word not in known:
            word = word if isinstance(word, str) else describe_value(word)
            raise ValueError(f"no {name} {word!r}; {did_you_mean(word, list(known))}")
    if not isinstance(draws, int) or draws < 1:
        raise ValueError(f"draws is {describe_value(draws)}; expected a whole number, at least 1")


class PurifiedClassifier(nn.Module):
    """What ``defend`` returns.  Its only state is the number of calls of each row, unless replayed.

    Row i draws as image ``image_ids[i]``; by default as ``core.batching.current_batch`` says, else
    as image i.  ``fixed_calls`` is the call that is replayed, for all rows or for each.
    """

    def __init__(self, config: DefenseConfig) -> None:
        super().__init__()
        self.config, self.classifier = config, config.classifier
        self.call_counts: dict[int, int] = {}
        self.fixed_calls: int | tuple[int, ...] | None = None
        self.image_ids: tuple[int, ...] | None = None
        self.eval()

    def fix_randomness(
        self, call_index: int | Sequence[int], image_ids: Sequence[int] | None = None
    ) -> "PurifiedClassifier":
        """The same defense with the draws of call ``call_index``, again and again.

        Row i is image ``image_ids[i]``, by default image i; it may have a call of its own.
        """
        again = PurifiedClassifier(self.config)
        again.fixed_calls = call_index if isinstance(call_index, int) else tuple(call_index)
        again.image_ids = None if image_ids is None else tuple(image_ids)
        return again

    def select_rows(self, rows: Sequence[int]) -> "PurifiedClassifier":
        """The same defense, to be shown only these rows of its batch: each draws as it would there,
        however often the others are asked."""
        part = self._with_ids(
            tuple(rows) if self.image_ids is None else pick_ids(self.image_ids, rows)
        )
        if isinstance(self.fixed_calls, tuple):
            part.fixed_calls = tuple(
                self.fixed_calls[min(i, len(self.fixed_calls) - 1)] for i in rows
            )
        return part

    def with_image_ids(self, image_ids: Sequence[int]) -> "PurifiedClassifier":
        """The same defense, whose row i is image ``image_ids[i]``, unless it has some already."""
        return self if self.image_ids is not None else self._with_ids(tuple(image_ids))

    def _with_ids(self, image_ids: tuple[int, ...]) -> "PurifiedClassifier":
        part = PurifiedClassifier(self.config)
        part.call_counts, part.fixed_calls = self.call_counts, self.fixed_calls
        part.image_ids = image_ids
        return part

    def draws_per_batch(self, images: Images, draws: int) -> int:
        """How many answers an attacker takes as one batch: one, or what ``max_memory`` holds."""
        if self.config.max_memory is None:
            return 1
        room = _draws_that_fit(self.config, images, draws)
        return room if self.config.draws == 1 else 1  # an answer takes several already

    def defense_identity(self) -> dict[str, Any]:
        """All that determines its answers, but the classifier, which is a part of it."""
        config, names = self.config, ("seed", "draws", "aggregate", "backward", "bf16")
        return {
            "purifier": config.purify.__module__.rpartition(".")[2],
            "config": asdict(config.sampling),
            "score-model": model_identity(config.prior.model, config.prior.metadata),
            **{name: getattr(config, name) for name in names},
        }

    def train(self, mode: bool = True) -> "PurifiedClassifier":
        """In eval mode it stays: in train mode its networks would answer, and change, by batch."""
        return super().train(False)

    def forward(self, images: Images) -> Logits:
        return self._forward(images)

    def forward_unclamped(self, images: Images) -> Logits:
        """The same of a chain's estimates of x0, which may lie outside of [0, 1]."""
        return self._forward(images, unclamped=True)

    @torch.inference_mode(False)  # guidance needs gradients, wherever it is called from
    def _forward(self, images: Images, unclamped: bool = False) -> Logits:
        if isinstance(images, Tensor) and images.is_inference():
            images = images.clone()
        unclamped = unclamped or current_batch().unclamped
        images = check_images(images, self.config.prior.image_shape, unclamped)
        noise = self._next_noise(len(images))
        draws = [noise.fold_in("draw", i) for i in range(self.config.draws)]
        return _compute_logits(self.config, images, draws)

    def _next_noise(self, count: int) -> Noise:
        """That of the rows of this call, which are thereby counted, unless a call is replayed."""
        shown = current_batch()
        known = self.image_ids if self.image_ids is not None else shown.image_ids
        rows = tuple(range(count)) if known is None else tile_rows(known, count)
        if self.fixed_calls is not None:
            fixed = (self.fixed_calls,) if isinstance(self.fixed_calls, int) else self.fixed_calls
            return noise_for_calls(self.config.seed, rows, tile_rows(fixed, count))
        paths = tile_rows(shown.key_prefixes, count)
        counts = self.call_counts if shown.call_counts is None else shown.call_counts
        keys = [(*path, row) if path else row for path, row in zip(paths, rows, strict=True)]
        return noise_for_calls(self.config.seed, rows, next_call_indices(counts, keys), paths)


def _compute_logits(config: DefenseConfig, images: Images, draws: Sequence[Noise]) -> Logits:
    """What is said of ``images`` after so many draws, with the gradient that an attacker takes."""
    prior = config.prior.to(images.dtype, images.device)
    size = _draws_that_fit(config, images, len(draws))
    parts = [draws[i : i + size] for i in range(0, len(draws), size)]
    with _autocast(config, images):
        seen = [_logits_of_draws(config, prior, images, part, len(parts) > 1) for part in parts]
        logits = torch.cat(seen)
        if config.backward == "none":
            plain = _classify(config, images, draws[:1], "blind").to(images.dtype)
            logits = (logits.detach() - plain.detach()) + plain
    return _majority_vote(logits) if config.aggregate == "majority" else logits.mean(0)


def _draws_that_fit(config: DefenseConfig, images: Images, draws: int) -> int:
    """How many draws of these images the budget of memory has room for.

    The draws of one answer keep their states together, until its gradient is taken.
    """
    wider = images.element_size() / torch.finfo(config.prior.dtype).bits * 8
    each, states = (int(n * wider) for n in (config.bytes_per_draw, _state_bytes(config)))
    held = states if config.draws > 1 else 0
    return max_parallel_draws(each - held, len(images), draws, config.max_memory, held)


def _logits_of_draws(
    config: DefenseConfig, prior: Prior, images: Images, draws: Sequence[Noise], recompute: bool
) -> Float[Tensor, "draws batch classes"]:
    """The logits after some draws, whose images are one batch.

    Args:
        recompute: call the classifier again for its gradient, to make room for other draws.
    """
    source = images if config.backward == "exact" else images.detach()
    many = images.repeat(len(draws), 1, 1, 1)
    purified = config.purify(
        prior, source.repeat(len(draws), 1, 1, 1), config.sampling, Noise.concat(draws)
    )
    if config.backward == "bpda":
        purified = many + (purified - many).detach()
    if recompute and purified.requires_grad:
        logits = checkpoint(_classify, config, purified, draws, use_reentrant=False)
    else:
        logits = _classify(config, purified, draws)
    return logits.to(images.dtype).unflatten(0, (len(draws), len(images)))


def _classify(
    config: DefenseConfig, images: Images, draws: Sequence[Noise], *purpose: str
) -> Logits:
    """What the classifier says of the images of some draws.

    A defense within it draws for the same images, as a function of which draw of which call it is
    asked in: the same in each pass, however the draws are split, and again in a replay.
    """
    noise = Noise.concat(draws)
    paths = tuple((*path, *purpose) for path in noise.row_prefixes)
    with use_batch(BatchContext(tuple(noise.image_ids), paths, {})):
        return validate_logits(config.classifier(images), images)


def _measure_draw_bytes(config: DefenseConfig) -> int:
    """Bytes that the gradient of one draw takes, an image: the graph of a step, and the states.

    Measured on two steps: the first of them is whole for every method, also those that call twice.
    """
    prior, settings = config.prior, config.sampling
    short = replace(settings, steps=min(2, settings.steps))
    classify = config.classifier
    if isinstance(classify, PurifiedClassifier):
        classify = classify.fix_randomness(0)

    def gradient(count: int) -> None:
        images = torch.full((count, *prior.image_shape), 0.5, dtype=prior.dtype)
        images = images.to(prior.sigmas.device).requires_grad_()
        with (
            torch.enable_grad(),
            _autocast(config, images),
            use_batch(BatchContext(call_counts={})),
        ):
            seen = config.purify(prior, images, short, Noise(0, range(count)))
            if isinstance(classify, nn.Module):  # what a function does when called is not known
                seen = classify(seen)
            torch.autograd.grad(seen.sum(), images)

    return measure_image_bytes(gradient) + _state_bytes(config)


def _state_bytes(config: DefenseConfig) -> int:
    """Bytes of the states of one draw's chain, of one image."""
    shape, dtype = config.prior.image_shape, config.prior.dtype
    return config.sampling.steps * math.prod(shape) * torch.finfo(dtype).bits // 8


def _autocast(config: DefenseConfig, images: Images) -> AbstractContextManager[Any]:
    return torch.autocast(images.device.type, torch.bfloat16) if config.bf16 else nullcontext()


def _majority_vote(logits: Tensor) -> Logits:
    """The log of each class's share of the draws; the gradient is that of the mean logits."""
    votes = torch.nn.functional.one_hot(logits.argmax(2), logits.shape[2]).to(logits).mean(0)
    mean = logits.mean(0)
    return votes.add(VOTE_SMOOTHING).log() + (mean - mean.detach())
