"""Any module as a classifier of images in [0, 1], whose weights are constants."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from scoreag.classifiers.preprocessing import Preprocessing, read_preprocessing, resize_input
from scoreag.core.class_names import NO_GROUPS, Groups
from scoreag.core.weight_cache import WeightCache
from scoreag.diffusion.prior import Prior
from scoreag.registry import describe_value

Weights = Mapping[str, Tensor]
PARALLEL_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)  # they split a batch


class NormalizedClassifier(nn.Module):
    """``module`` on normalized images, in their dtype, without gradients of its weights.

    The module itself is not changed: neither its mode, nor its ``requires_grad``, nor its dtype.
    One that casts its images to the dtype of its own weights is called with these.

    Args:
        mean, std: of the channels: the input of the module is ``(images - mean) / std``.
        metadata: for a manifest: the name, sha256, license of the module.
        image_shape: the (channels, height, width) of its training, where that is known.
        classes: their names by number, where they are known.
        groups: for superclasses: the classes that each of ``classes`` stands for.
    """

    def __init__(
        self,
        module: nn.Module,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        metadata: Mapping[str, Any] | None = None,
        image_shape: tuple[int, int, int] | None = None,
        classes: Sequence[str] = (),
        groups: Groups = NO_GROUPS,
    ) -> None:
        super().__init__()
        self.module, self.image_shape = module, image_shape
        self.classes, self.groups = tuple(classes), groups
        self.mean, self.std = tuple(mean), tuple(std)
        self.metadata = dict(metadata or {"name": type(module).__name__})
        self.weight_cache: WeightCache[Weights] = WeightCache()
        self.casts_input = False  # found out when it refuses images of another dtype

    def forward(self, images: Tensor) -> Tensor:
        if len(self.mean) not in (
            1,
            images.shape[1],
        ):  # gray would be broadcast to RGB
            raise ValueError(
                f"it is normalized with {len(self.mean)} numbers, one a color, and the images "
                f"have {images.shape[1]}; give a classifier of such images"
            )
        mean, std = (images.new_tensor(v).view(1, -1, 1, 1) for v in (self.mean, self.std))
        logits = _read_logits(self._forward_cast((images - mean) / std))
        floats = isinstance(logits, Tensor) and logits.is_floating_point()
        return logits.to(images.dtype) if floats else logits

    @property
    def features(self) -> Callable[[Tensor], Tensor] | None:
        """From images to what the module's ``features`` are, its last layer's input; or None."""
        inner = getattr(self.module, "features", None)
        if not callable(inner):
            return None

        def of_images(images: Tensor) -> Tensor:
            mean, std = (images.new_tensor(v).view(1, -1, 1, 1) for v in (self.mean, self.std))
            return inner((images - mean) / std)

        return of_images

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
                raise error from None  # the first error is about the user's images
            self.casts_input = True
            return logits

    def _call_module(self, normalized: Tensor, weights: Weights) -> Any:
        if any(isinstance(part, torch.jit.ScriptModule) for part in self.module.modules()):
            # its weights cannot be replaced
            floats = (t.dtype for t in self.module.parameters() if t.is_floating_point())
            return self.module(normalized.to(next(floats, normalized.dtype)))
        return functional_call(self.module, dict(weights), normalized)

    def _named_tensors(self) -> dict[str, Tensor]:
        return {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}

    def _original_weights(self, like: Tensor) -> Weights:
        """The weights in their own dtype, on the images' device."""
        return {
            name: value.detach().to(like.device) for name, value in self._named_tensors().items()
        }

    def _cast_weights(self, like: Tensor) -> Weights:
        """The weights in the images' dtype, on their device; copies are cached."""
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


def _read_logits(output: Any) -> Any:
    """The logits of an output of transformers, which has them by name; else the output itself."""
    if isinstance(output, Mapping) and "logits" in output:
        return output["logits"]
    return output if isinstance(output, Tensor) else getattr(output, "logits", output)


def wrap_classifier(
    module: nn.Module,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    metadata: Mapping[str, Any] | None = None,
    image_shape: tuple[int, int, int] | None = None,
    classes: Sequence[str] = (),
    groups: Groups = NO_GROUPS,
    preprocessing: Any = None,
) -> NormalizedClassifier:
    """Any module that returns logits, or an output with ``.logits``, of images in [0, 1].

    Args:
        mean, std: the normalization of the module's input, a number a channel; by default it takes
            images in [0, 1].
        metadata: for a manifest, e.g. its name and source.
        image_shape: the (channels, height, width) of its training, where that is known.
        classes: their names by number, by which score models, judges and data of other classes are
            matched; empty where they are unknown.
        groups: for superclasses: the classes that each of ``classes`` stands for.
        preprocessing: instead of mean and std, what states the model's input: the transforms of
            torchvision, a data config of timm, an image processor of transformers.  Images are
            resized and cropped as it says, with gradients.

    Raises:
        ValueError: the module is in train mode, or the normalization is invalid.
    """
    module = _unwrap_module(module)
    if any(part.training for part in module.modules()):
        raise ValueError(
            f"the classifier {type(module).__name__} is in train mode, so its answers would "
            "change from call to call; call its .eval() first"
        )
    stated = None if preprocessing is None else read_preprocessing(preprocessing)
    if stated is not None:
        mean, std = _stated_normalization(stated, mean, std)
    means, stds = _check_normalization(mean, std)
    if not isinstance(metadata, Mapping | None):
        raise ValueError(
            f"metadata is {describe_value(metadata)}; expected a table, e.g. {{'name': 'mine'}}"
        )
    shape: Any = tuple(image_shape) if isinstance(image_shape, Sequence) else image_shape
    if shape is not None and (
        not isinstance(shape, tuple) or [type(size) for size in shape] != [int] * 3
    ):
        raise ValueError(
            f"image_shape is {describe_value(image_shape)}; expected (channels, height, width), "
            "or None"
        )
    if isinstance(module, NormalizedClassifier) and not classes:
        classes, groups = module.classes, module.groups
    names = _check_class_names(classes)
    if stated is not None:
        metadata = metadata or {"name": type(module).__name__}
        module = resize_input(module, stated)
    return NormalizedClassifier(module, means, stds, metadata, shape, names, groups).eval()


def _stated_normalization(
    stated: Preprocessing, mean: Any, std: Any
) -> tuple[Sequence[float], Sequence[float]]:
    """The normalization of a preprocessing; refuses another one beside it."""
    if _to_floats(mean) != (0.0,) or _to_floats(std) != (1.0,):
        raise ValueError("preprocessing states a mean and a std of its own; leave out mean and std")
    return stated.mean, stated.std


def _check_class_names(classes: Any) -> tuple[str, ...]:
    """The names; refuses anything but different words."""
    names = [classes] if isinstance(classes, str) or not isinstance(classes, Iterable) else classes
    names = tuple(names)
    if isinstance(classes, str) or not all(isinstance(n, str) for n in names):
        raise ValueError(
            f"classes is {describe_value(classes)}; expected a name for each output, e.g. "
            "('cat', 'dog')"
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"classes names {twice!r} twice; give each output a name of its own")
    return names


def _check_normalization(mean: Any, std: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """A mean and a deviation for each channel of images in [0, 1]."""
    means, stds = _to_floats(mean), _to_floats(std)
    if not means or len(means) != len(stds) or not all(s > 0 for s in stds):
        raise ValueError(
            f"mean {describe_value(mean)} and std {describe_value(std)}: expected one number a "
            "channel, e.g. (0.5,), std above 0"
        )
    if max(means) > 1:
        raise ValueError(
            f"mean is {describe_value(mean)}, and images are in [0, 1]; divide mean and std by 255"
        )
    return means, stds


def _to_floats(values: Any) -> tuple[float, ...]:
    """The numbers of a tuple, a tensor or an array; none of anything else."""
    try:
        return () if isinstance(values, str | bytes) else tuple(float(number) for number in values)
    except (TypeError, ValueError, RuntimeError):
        return ()


def _unwrap_module(module: Any) -> nn.Module:
    """The module inside of DataParallel; names, score models and functions are errors."""
    if isinstance(module, str | Path):
        raise ValueError(
            f"the module is {str(module)!r:.60}, a name; write scoreag.load_classifier(...) for a "
            "name, a folder or a file"
        )
    if isinstance(module, Prior):
        raise ValueError("the module is a score model, a Prior; give a classifier, a torch module")
    while isinstance(module, PARALLEL_WRAPPERS):
        module = module.module
    if not isinstance(module, nn.Module):
        expected = "an instance of it" if isinstance(module, type) else "a torch.nn.Module"
        is_function = not isinstance(module, type) and callable(module)
        fix = "; tasks, attacks and defend take a function as it is" if is_function else ""
        raise ValueError(f"the module is {describe_value(module)}; expected {expected}{fix}")
    return module


def _is_dtype_error(error: RuntimeError) -> bool:
    """Whether its message is about tensors of different dtypes."""
    words = str(error).lower()
    return "dtype" in words or "scalar type" in words or "should be the same" in words


def looks_like_probabilities(logits: Tensor) -> bool:
    """Whether all rows are like the output of a softmax: not negative, with a sum of one."""
    total = logits.sum(1)
    return bool((logits >= 0).all() and torch.allclose(total, torch.ones_like(total), atol=1e-4))
