"""Guidance of the prior: a model that is pushed away from a worse one shows its classes better.

    D_w(x; sigma, y) = D_g(x; sigma, y) + w (D(x; sigma, y) - D_g(x; sigma, y))

The guide ``D_g`` is the model itself without the label (classifier-free guidance, Ho and Salimans
2022), a weaker model of the same images (autoguidance, Karras et al. 2024), or a second output of
the network, from its inner maps (internal guidance, arXiv 2512.24176).  w = 1 is the model.
For other w the result is called as a denoiser is, but it is the denoiser of no distribution.  What
rests on that, such as a certificate by one-shot denoising, takes w = 1.
"""

from typing import Any, Protocol, TypeGuard

import torch
from torch import Tensor, nn

from scoreag.core.types import Labels, Sigma, State
from scoreag.diffusion.guidance import Interval
from scoreag.diffusion.parameterizations import ScoreModel, null_label

NULL, HEAD, WEAKER = "null", "head", "weaker:"  # guides; WEAKER is followed by a model's name


class HeadedModel(ScoreModel, Protocol):
    """A score model whose network has a second output."""

    def __call__(
        self, x: State, sigma: Sigma, labels: Labels | None = None, head: bool = False
    ) -> Tensor: ...


class GuidedModel(nn.Module):
    """A score model with guidance of the prior.  Nothing is drawn and nothing is remembered.

    Args:
        model: the score model.
        scale: w, 0 or more; 1 is ``model``, and 0 is the guide.
        guide: a weaker model; or NULL, ``model`` without the label, in one batch with it; or HEAD,
            the second output of the network, for which no second evaluation is needed.
        interval: lowest and highest noise level of guidance, both included (Kynkaanniemi et al.
            2024); elsewhere the model itself, at the cost of one call.
    """

    def __init__(
        self,
        model: ScoreModel,
        scale: float,
        guide: ScoreModel | str = NULL,
        interval: Interval | None = None,
    ) -> None:
        super().__init__()
        self.model, self.guide, self.scale, self.interval = model, guide, scale, interval

    @property
    def network(self) -> Any:
        """That of the model, which knows its classes."""
        return getattr(self.model, "network", None)

    def acts_at(self, sigma: Sigma) -> bool:
        """Whether guidance acts at a noise level."""
        if self.interval is None:
            return True
        low, high = self.interval
        return low <= float(sigma) <= high

    def evaluations(self, sigma: Sigma) -> int:
        """Network evaluations of one image at a noise level."""
        return 2 if self.acts_at(sigma) and self.guide != HEAD else 1

    def forward(self, x: State, sigma: Sigma, labels: Labels | None = None) -> State:
        if not self.acts_at(sigma):
            return self.model(x, sigma, labels)
        if isinstance(self.guide, str):
            call = self._with_head if self.guide == HEAD else self._with_null_label
            denoised, guide = call(x, sigma, labels).chunk(2)
        else:
            denoised, guide = self.model(x, sigma, labels), self.guide(x, sigma, labels)
        return guide + self.scale * (denoised - guide)

    def _with_null_label(self, x: State, sigma: Sigma, labels: Labels | None) -> Tensor:
        """The model with its labels, then with the null label: one batch."""
        label = null_label(self.model)
        if labels is None or label is None:
            lack = "labels" if labels is None else "a model with a null label"
            raise ValueError(f"guidance by the null label needs {lack}; give another guide")
        null = torch.full_like(labels, label)
        return self.model(torch.cat([x, x]), sigma, torch.cat([labels, null]))

    def _with_head(self, x: State, sigma: Sigma, labels: Labels | None) -> Tensor:
        """The two outputs of the network, one batch after the other."""
        if not has_head(self.model):
            raise ValueError("guidance by a head needs a network with one; give another guide")
        return self.model(x, sigma, labels, head=True)


def evaluations_at(model: ScoreModel, sigma: Sigma) -> int:
    """Network evaluations of one image by one call of a model at a noise level."""
    return model.evaluations(sigma) if isinstance(model, GuidedModel) else 1


def has_head(model: ScoreModel) -> TypeGuard[HeadedModel]:
    """Whether a model has a second output, by which guide "head" works."""
    return bool(getattr(model, "has_head", False))
