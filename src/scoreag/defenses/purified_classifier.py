"""A classifier of purified images, which is again a classifier that any attack can attack."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from scoreag.classifiers.checks import check_logits_shape
from scoreag.classifiers.class_groups import known_groups, known_names
from scoreag.core.batching import BatchContext, current_batch, pick_ids, tile_rows, use_batch
from scoreag.core.class_names import Groups
from scoreag.core.rng import Noise, next_call_indices, noise_for_calls
from scoreag.core.types import Classifier, Images, Logits
from scoreag.defenses.memory_budget import (
    max_parallel_draws,
    measure_image_bytes,
    saved_tensor_bytes,
)
from scoreag.diffusion.prior import Prior
from scoreag.io.images import check_images
from scoreag.methods.config import SamplingConfig
from scoreag.models.identity import score_model_identity
from scoreag.registry import load_component

VOTE_SMOOTHING = 1e-3  # added to the shares of a vote, so that their logs are finite


@runtime_checkable
class Purifier(Protocol):
    """Images to purified images; differentiable, and a function of its arguments alone."""

    def __call__(
        self, prior: Prior, images: Images, config: SamplingConfig, noise: Noise
    ) -> Images: ...


@dataclass(frozen=True, eq=False)
class DefenseConfig:
    """All that determines the answers of a defense, except the number of the call; see ``defend``.

    ``bytes_per_draw`` is the memory of the gradient of one draw of one image, in the prior's dtype,
    and ``state_bytes`` the part of it that a chain keeps until the gradient is taken.
    """

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
    bytes_per_draw: int = 0
    state_bytes: int = 0


class PurifiedClassifier(nn.Module):
    """What ``defend`` returns; its only state is the number of calls of each row.

    Row i has the random numbers of image ``image_ids[i]``; by default the ids are those of
    ``core.batching.current_batch``, else 0, 1, 2, ... ``fixed_calls`` is a call to replay, one for
    all rows or one for each.
    """

    def __init__(self, config: DefenseConfig) -> None:
        super().__init__()
        self.config, self.classifier = config, config.classifier
        self.call_counts: dict[int, int] = {}
        self.fixed_calls: int | tuple[int, ...] | None = None
        self.image_ids: tuple[int, ...] | None = None
        self.eval()

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classifier's classes, where they are known."""
        return known_names(self.classifier)

    @property
    def groups(self) -> Groups:
        """The classes that each of the classifier's superclasses stands for."""
        return known_groups(self.classifier)

    def fix_randomness(
        self, call_index: int | Sequence[int], image_ids: Sequence[int] | None = None
    ) -> "PurifiedClassifier":
        """The same defense, in which each call replays the draws of call ``call_index``.

        Row i is image ``image_ids[i]``, by default image i; it may have its own call index.
        """
        fixed = call_index if isinstance(call_index, int) else tuple(call_index)
        return self._copy(image_ids, fixed)

    def select_rows(self, rows: Sequence[int]) -> "PurifiedClassifier":
        """The same defense for these rows of its batch, with the same draws as in the batch."""
        ids = tuple(rows) if self.image_ids is None else pick_ids(self.image_ids, rows)
        fixed = self.fixed_calls
        if isinstance(fixed, tuple):
            fixed = tuple(fixed[min(i, len(fixed) - 1)] for i in rows)
        return self._copy(ids, fixed)

    def with_image_ids(self, image_ids: Sequence[int]) -> "PurifiedClassifier":
        """The same defense, whose row i is image ``image_ids[i]``, unless it has ids already."""
        return self if self.image_ids is not None else self._copy(image_ids, self.fixed_calls)

    def _copy(
        self, image_ids: Sequence[int] | None, fixed_calls: int | tuple[int, ...] | None
    ) -> "PurifiedClassifier":
        copy = PurifiedClassifier(self.config)
        copy.call_counts, copy.fixed_calls = self.call_counts, fixed_calls
        copy.image_ids = None if image_ids is None else tuple(image_ids)
        return copy

    def draws_per_batch(self, images: Images, draws: int) -> int:
        """How many answers an attack may compute as one batch: 1, or what ``max_memory`` holds."""
        if self.config.max_memory is None:
            return 1
        room = _draws_that_fit(self.config, images, draws)
        return room if self.config.draws == 1 else 1  # one answer has several draws already

    def defense_identity(self) -> dict[str, Any]:
        """All that determines its answers, except the classifier, which is a part of it."""
        config, names = self.config, ("seed", "draws", "aggregate", "backward", "bf16")
        return {
            "purifier": config.purify.__module__.rpartition(".")[2],
            "config": asdict(config.sampling),
            "score-model": score_model_identity(config.prior),
            **{name: getattr(config, name) for name in names},
        }

    def train(self, mode: bool = True) -> "PurifiedClassifier":
        """Stay in eval mode: in train mode an answer would depend on the batch, and change."""
        return super().train(False)

    def forward(self, images: Images) -> Logits:
        return self._forward(images)

    def forward_unclamped(self, images: Images) -> Logits:
        """The logits of a chain's x0-estimates, which may be outside of [0, 1]."""
        return self._forward(images, unclamped=True)

    @torch.inference_mode(False)  # guidance needs gradients even if the caller does not
    def _forward(self, images: Images, unclamped: bool = False) -> Logits:
        if isinstance(images, Tensor) and images.is_inference():
            images = images.clone()
        unclamped = unclamped or current_batch().unclamped
        images = check_images(images, self.config.prior.image_shape, unclamped)
        noise = self._next_noise(len(images))
        draws = [noise.fold_in("draw", i) for i in range(self.config.draws)]
        return _compute_logits(self.config, images, draws)

    def _next_noise(self, count: int) -> Noise:
        """The noise of this call, which counts as one for each row unless it is a replay."""
        context, seed = current_batch(), self.config.seed
        known = self.image_ids if self.image_ids is not None else context.image_ids
        ids = tuple(range(count)) if known is None else tile_rows(known, count)
        if self.fixed_calls is not None:
            fixed = (self.fixed_calls,) if isinstance(self.fixed_calls, int) else self.fixed_calls
            return noise_for_calls(seed, ids, tile_rows(fixed, count))
        prefixes = tile_rows(context.key_prefixes, count)
        counts = self.call_counts if context.call_counts is None else context.call_counts
        keys = [(*prefix, i) if prefix else i for prefix, i in zip(prefixes, ids, strict=True)]
        return noise_for_calls(seed, ids, next_call_indices(counts, keys), prefixes)


def _compute_logits(config: DefenseConfig, images: Images, draws: Sequence[Noise]) -> Logits:
    """The aggregated logits, with the gradient that ``config.backward`` names."""
    prior = config.prior.to(images.dtype, images.device)
    size = _draws_that_fit(config, images, len(draws))
    parts = [draws[i : i + size] for i in range(0, len(draws), size)]
    with _autocast(config, images):
        logits = torch.cat(
            [_logits_of_draws(config, prior, images, part, len(parts) > 1) for part in parts]
        )
        if config.backward == "none":
            plain = _classify(config, images, draws[:1], "blind").to(images.dtype)
            logits = (logits.detach() - plain.detach()) + plain
    return _majority_vote(logits) if config.aggregate == "majority" else logits.mean(0)


def _logits_of_draws(
    config: DefenseConfig, prior: Prior, images: Images, draws: Sequence[Noise], recompute: bool
) -> Float[Tensor, "draws batch classes"]:
    """The logits of some draws, from one batch of all their images.

    Args:
        recompute: call the classifier again in the backward pass, to save memory.
    """
    repeated = images.repeat(len(draws), 1, 1, 1)
    source = repeated if config.backward == "exact" else repeated.detach()
    purified = config.purify(prior, source, config.sampling, Noise.concat(draws))
    if config.backward == "bpda":
        purified = repeated + (purified - repeated).detach()
    if recompute and purified.requires_grad:
        logits = checkpoint(_classify, config, purified, draws, use_reentrant=False)
    else:
        logits = _classify(config, purified, draws)
    return logits.to(images.dtype).unflatten(0, (len(draws), len(images)))


def _classify(
    config: DefenseConfig, images: Images, draws: Sequence[Noise], *purpose: str
) -> Logits:
    """The classifier's logits of the images of some draws.

    The random numbers of a defense inside the classifier are keyed by the draw and the call: they
    are the same in each pass and in a replay, however the draws are split into batches.
    """
    noise = Noise.concat(draws)
    prefixes = tuple((*prefix, *purpose) for prefix in noise.row_prefixes)
    with use_batch(BatchContext(tuple(noise.image_ids), prefixes, {})):
        return validate_logits(config.classifier(images), images)


def validate_logits(logits: Any, images: Images) -> Logits:
    """Refuse anything but finite logits, one row an image."""
    logits = check_logits_shape(logits, len(images))
    finite = logits.detach().isfinite().all(1)
    if not finite.all():
        problem = "the classifier returned NaN or infinity"
        if not images.detach().isfinite().all():
            problem = (
                "the purified images are not finite: write a smaller similarity, or more steps"
            )
        raise ValueError(f"{problem} (for {int((~finite).sum())} of {len(finite)} purified images)")
    return logits


def _majority_vote(logits: Tensor) -> Logits:
    """The log of each class's share of the draws, with the gradient of the mean logits."""
    votes = torch.nn.functional.one_hot(logits.argmax(2), logits.shape[2]).to(logits).mean(0)
    mean = logits.mean(0)
    return votes.add(VOTE_SMOOTHING).log() + (mean - mean.detach())


def _autocast(config: DefenseConfig, images: Images) -> AbstractContextManager[Any]:
    return torch.autocast(images.device.type, torch.bfloat16) if config.bf16 else nullcontext()


def _draws_that_fit(config: DefenseConfig, images: Images, draws: int) -> int:
    """How many draws of these images fit into the memory budget.

    The states of all draws of one answer are held until its gradient is taken.
    """
    scale = images.element_size() / torch.finfo(config.prior.dtype).bits * 8
    per_draw, states = (int(n * scale) for n in (config.bytes_per_draw, config.state_bytes))
    held = states if config.draws > 1 else 0
    return max_parallel_draws(per_draw - held, len(images), draws, config.max_memory, held)


def measure_memory(config: DefenseConfig) -> DefenseConfig:
    """With the bytes of the gradient of one draw of one image: the graph of a step, and all states.

    It is measured on two steps: the first of them is complete for every sampler.
    """
    prior, classifier = config.prior, config.classifier
    short = replace(config.sampling, steps=min(2, config.sampling.steps))
    if isinstance(classifier, PurifiedClassifier):
        classifier = classifier.fix_randomness(0)

    def gradient(count: int) -> None:
        images = torch.full((count, *prior.image_shape), 0.5, dtype=prior.dtype)
        images = images.to(prior.sigmas.device).requires_grad_()
        context = use_batch(BatchContext(call_counts={}))
        with torch.enable_grad(), _autocast(config, images), context:
            output = config.purify(prior, images, short, Noise(0, range(count)))
            if isinstance(classifier, nn.Module):  # a function may have side effects
                output = classifier(output)
            torch.autograd.grad(output.sum(), images)

    states = _state_bytes(config)
    per_draw = measure_image_bytes(gradient) + states
    return replace(config, bytes_per_draw=per_draw, state_bytes=states)


def _state_bytes(config: DefenseConfig) -> int:
    """Bytes of the states that a whole chain keeps for one draw of one image.

    They do not depend on the denoiser, so that a cheap one stands for it.
    """
    prior, sampling = config.prior, config.sampling
    sample = load_component("samplers", sampling.sampler).sample
    x = torch.zeros(1, *prior.image_shape, dtype=prior.dtype, requires_grad=True)
    with torch.enable_grad():
        return saved_tensor_bytes(
            lambda: sample(
                lambda x, sigma: x, x, sampling.sigmas(), Noise(0, [0]), **sampling.sampler_options
            )
        )
