"""Networks are built within the bounds of the tensors that are to be put into them.

The arguments of a network come from a file, and may ask for a million layers.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks

from scoreag.registry import short_repr, truncate_text

SIZE_FACTOR, EXTRA_NUMBERS = 4, 1 << 22  # of the network for each of the tensors', and beside
MODULES_PER_TENSOR, EXTRA_MODULES = 50, 2000  # modules for each tensor, and beside them


@contextmanager
def limit_network_size(tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Stop a network that grows far beyond the tensors it is built for, as it is built.

    Raises:
        ValueError: it does.
    """
    numbers = SIZE_FACTOR * sum(tensor.numel() for tensor in tensors.values()) + EXTRA_NUMBERS
    left = {"numbers": numbers, "modules": MODULES_PER_TENSOR * len(tensors) + EXTRA_MODULES}
    thread = get_ident()

    def take(kind: str, count: int) -> None:
        if get_ident() != thread:
            return
        left[kind] -= count
        if left[kind] < 0:
            raise ValueError(
                f"it has far more {kind} than the {len(tensors)} tensors of its weights; its "
                "arguments are not those that it was trained with"
            )

    def number(owner: nn.Module, name: str, value: Any) -> None:
        take("numbers", 0 if value is None else value.numel())

    def layer(owner: nn.Module, name: str, value: Any) -> None:
        take("modules", 1)

    handles = [
        hooks.register_module_parameter_registration_hook(number),
        hooks.register_module_buffer_registration_hook(number),
        hooks.register_module_module_registration_hook(layer),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def build_bounded(
    build: Callable[..., nn.Module], options: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> nn.Module:
    """The network of these options, within the bounds of its tensors.

    Raises:
        ValueError: none can be built of them.
    """
    try:
        with limit_network_size(tensors):
            return build(**options)
    except MemoryError:
        raise
    except ValueError as error:
        raise ValueError(truncate_text(str(error), 300)) from error
    except Exception as error:  # arguments of a file are of any kind
        told = truncate_text(f"{type(error).__name__} {error}", 200)
        raise ValueError(
            f"no network can be built of {short_repr(dict(options))}: {told}"
        ) from error


def infer_shapes(
    build: Callable[..., nn.Module], options: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> dict[str, torch.Size]:
    """The shapes of the tensors of such a network; no room is made for them."""
    with torch.device("meta"):
        made = build_bounded(build, options, tensors)
    return {name: tensor.shape for name, tensor in made.state_dict().items()}
