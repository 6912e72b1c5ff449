"""The prior over images, and samples from it under a condition; all tasks are such samples."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from scoreag.core.rng import Noise
from scoreag.core.types import Denoise, Images, Labels, State
from scoreag.core.weight_cache import WeightCache
from scoreag.diffusion.parameterizations import ScoreModel, null_label, with_labels
from scoreag.diffusion.steering import finish


@runtime_checkable
class Sampler(Protocol):
    """From the state at the first noise level to that at the last; ``wrt`` as in ``integrate``."""

    def __call__(
        self, denoise: Denoise, x: State, sigmas: Tensor, noise: Noise, wrt: Sequence[Tensor] = ()
    ) -> State: ...


@dataclass(frozen=True, eq=False, repr=False)
class Prior:
    """``p(x0 | label)``: a score model and a sampler.

    Args:
        model: the denoiser, which may be class-conditional.
        sigmas: the noise levels, decreasing, the last of them 0.
        image_shape: channels, height, width.
        classes: the names of the labels; empty for a model without classes.
        defaults: for each task the options that were tuned for this model.
        dtype: of the states and of the weights of ``model``.
        metadata: of the model, for manifests: name, sha256, license.
        sigma_data: standard deviation of a pixel of the data, in units of the state.
        x0_limit: chains clip the x0-estimates of ``model`` to ``-x0_limit..x0_limit``, before any
            condition; None: they do not.
        judge: the name of a reference classifier for its samples; "" for none.
        guide: a weaker score model of the same images, where one guides this one.
        guide_name: by which an option calls it.
        trust_code: whether code that the card of a guide names may be run.
        label_choices: where ``classes`` are not the model's own: the labels of the model that each
            stands for; see class_labels.py.
        model_classes: then, the names of the model's own classes.
    """

    model: ScoreModel
    sampler: Sampler
    sigmas: Tensor
    image_shape: tuple[int, int, int]
    classes: tuple[str, ...] = ()
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32
    metadata: Mapping[str, Any] = field(default_factory=dict)
    sigma_data: float = 0.5
    x0_limit: float | None = None
    judge: str = ""
    guide: ScoreModel | None = None
    guide_name: str = ""
    trust_code: bool = False
    label_choices: tuple[tuple[int, ...], ...] = ()
    model_classes: tuple[str, ...] = ()
    weight_cache: WeightCache[ScoreModel] = field(default_factory=WeightCache)

    def __repr__(self) -> str:
        name = self.metadata.get("name", type(self.model).__name__)
        shape, kinds = " x ".join(map(str, self.image_shape)), len(self.classes)
        classes = f"{kinds} class{'es' * (kinds != 1)}" if kinds else "no classes"
        return f"Prior({name}: images of {shape}, {classes}, on {self.sigmas.device})"

    def sample(
        self,
        noise: Noise,
        labels: Labels | None = None,
        condition: Callable[[Denoise], Denoise] = lambda denoise: denoise,
        init_image: State | None = None,
        wrt: Sequence[Tensor] = (),
    ) -> Images:
        """One image per id of ``noise``, from ``p(x0 | label)`` or, with a condition, a posterior.

        Args:
            condition: guides a denoiser, e.g. ``partial(guide, log_likelihood=...)``.
            init_image: the chain starts at ``init_image + sigmas[0] n``; by default 0.
            wrt: tensors in ``condition`` that need a gradient, as in ``integrate``.
        """
        if labels is not None and self.label_choices:
            labels = to_model_labels(self, labels, noise, given=init_image is not None)
        denoise = condition(self._clipped(with_labels(self.model, labels)))
        start = self.initial_state(noise, init_image)
        return to_images(finish(denoise, self.sampler(denoise, start, self.sigmas, noise, wrt)))

    def _clipped(self, denoise: Denoise) -> Denoise:
        """The denoiser within ``x0_limit``; Ho et al. (2020) sample by it."""
        limit = self.x0_limit
        if limit is None:
            return denoise
        return lambda x, sigma: denoise(x, sigma).clamp(-limit, limit)

    def initial_state(self, noise: Noise, init_image: State | None = None) -> State:
        """The state at the first noise level."""
        if init_image is None:
            shape = (len(noise.image_ids), *self.image_shape)
            init_image = torch.zeros(shape, dtype=self.dtype, device=self.sigmas.device)
        return init_image + self.sigmas[0].to(init_image) * noise.fold_in("start").normal_like(
            init_image
        )

    def to(self, dtype: torch.dtype, device: torch.device | str | None = None) -> "Prior":
        """The same prior in another dtype or on another device; copied weights are cached."""
        sigmas = self.sigmas.to(device)

        def convert(source: ScoreModel) -> ScoreModel:
            place = (dtype, sigmas.device)
            if not isinstance(source, nn.Module) or place == (self.dtype, self.sigmas.device):
                return source
            weights = [*source.parameters(), *source.buffers()]
            return self.weight_cache.get(
                (source, *place),
                weights,
                lambda: copy.deepcopy(source).to(dtype=dtype, device=sigmas.device),
            )

        guide = None if self.guide is None else convert(self.guide)
        return replace(self, model=convert(self.model), guide=guide, sigmas=sigmas, dtype=dtype)


def to_model_labels(prior: Prior, labels: Labels, noise: Noise, given: bool) -> Labels:
    """The model's labels of classes that are not its own.

    A class of several labels is their mixture, ``p(x0 | class) = mean p(x0 | label)``, of which one
    is drawn for each image.  Of a ``given`` image the label is not known then: it gets the null
    label, as that of a class does which the model does not know.
    """
    null = null_label(prior.model)
    counts = torch.tensor([len(choices) for choices in prior.label_choices], device=labels.device)
    width = max(1, int(counts.max()))
    rows = [[*choices, *[-1] * (width - len(choices))] for choices in prior.label_choices]
    table, count = torch.tensor(rows, device=labels.device)[labels], counts[labels]
    draws = noise.fold_in("class").uniform_like(torch.zeros(len(labels), dtype=torch.float64))
    position = (draws.to(labels.device) * count).long().clamp(max=width - 1)
    found = table.gather(1, position[:, None])[:, 0]
    unknown = (count == 0) | (count > 1) if given else count == 0
    if unknown.any() and null is None:
        first = prior.classes[int(labels[unknown][0])]
        raise ValueError(
            f"the score model does not know the class {first!r}, and it has no null label; give "
            "images of its classes"
        )
    return torch.where(unknown, -1 if null is None else null, found)


def to_images(x0: State) -> Images:
    """[-1, 1] to [0, 1], clamped."""
    return ((x0 + 1) / 2).clamp(0, 1)


def to_model_range(images: Images) -> State:
    """[0, 1] to [-1, 1]."""
    return 2 * images - 1
