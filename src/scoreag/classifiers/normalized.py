"""A module as a pure function: its weights are constants, in the precision of its input."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from scoreag.core.weight_cache import WeightCache

Weights = Mapping[str, Tensor]


class NormalizedClassifier(nn.Module):
    """``module`` on normalized images, whose weights take no part in any gradient.

    The module itself is not touched: not its mode, not its ``requires_grad``, not its dtype.  One
    that casts its images itself, to the dtype of its own weights, keeps these; logits come in the
    dtype of the images.

    Args:
        mean, std: of the channels, as the module was trained: it sees ``(images - mean) / std``.
        metadata: what a manifest says of the module: its name, sha256, license.
        image_shape: the (channels, height, width) that it was trained on, where that is known.
    """

    def __init__(
        self,
        module: nn.Module,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        metadata: Mapping[str, Any] | None = None,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__()
        self.module, self.image_shape = module, image_shape
        self.mean, self.std = tuple(mean), tuple(std)
        self.metadata = dict(metadata or {"name": type(module).__name__})
        self.weight_cache: WeightCache[Weights] = WeightCache()
        self.casts_input = False  # the images itself, which is found out when it takes no others

    def forward(self, images: Tensor) -> Tensor:
        if len(self.mean) not in (1, images.shape[1]):  # else one color would be shown as three
            raise ValueError(
                f"it is normalized with {len(self.mean)} numbers, one a color, and the images "
                f"have {images.shape[1]}; give a classifier of such images"
            )
        mean, std = (images.new_tensor(v).view(1, -1, 1, 1) for v in (self.mean, self.std))
        logits = self._forward_cast((images - mean) / std)
        floats = isinstance(logits, Tensor) and logits.is_floating_point()
        return logits.to(images.dtype) if floats else logits

    def _forward_cast(self, normalized: Tensor) -> Any:
        if self.casts_input:
            return self._call_module(normalized, self._original_weights(normalized))
        try:
            return self._call_module(normalized, self._cast_weights(normalized))
        except RuntimeError as error:
            if not _is_dtype_error(error):
                raise
            try:
                logits = self._call_module(normalized, self._original_weights(normalized))
            except RuntimeError:
                raise error from None  # what it says of the images is what helps
            self.casts_input = True
            return logits

    def _call_module(self, normalized: Tensor, weights: Weights) -> Any:
        if any(isinstance(part, torch.jit.ScriptModule) for part in self.module.modules()):
            return _call_scripted(self.module, normalized)
        return functional_call(self.module, dict(weights), normalized)

    def _named_tensors(self) -> dict[str, Tensor]:
        return {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}

    def _original_weights(self, like: Tensor) -> Weights:
        """The weights as they are, where the images are."""
        return {
            name: value.detach().to(like.device) for name, value in self._named_tensors().items()
        }

    def _cast_weights(self, like: Tensor) -> Weights:
        """The weights in the images' precision and place; copies of them are kept."""
        tensors = self._named_tensors()

        def converted() -> Weights:
            return {
                name: value.detach().to(like) if value.is_floating_point() else value.detach()
                for name, value in tensors.items()
            }

        key = (like.dtype, like.device)
        if all((v.dtype, v.device) == key for v in tensors.values() if v.is_floating_point()):
            return converted()  # nothing is copied
        return self.weight_cache.get(key, tensors.values(), converted)


def _call_scripted(module: nn.Module, normalized: Tensor) -> Any:
    """A module with a program of torch.jit in it, whose weights cannot be put in its place."""
    own = next((t.dtype for t in module.parameters() if t.is_floating_point()), normalized.dtype)
    return module(normalized.to(own))


def _is_dtype_error(error: RuntimeError) -> bool:
    """Whether it says that two tensors have different types."""
    words = str(error).lower()
    return "dtype" in words or "scalar type" in words or "should be the same" in words


def looks_like_probabilities(logits: Tensor) -> bool:
    """Do all rows look like the output of a softmax: none negative, and a sum of one?"""
    total = logits.sum(1)
    return bool((logits >= 0).all() and torch.allclose(total, torch.ones_like(total), atol=1e-4))
