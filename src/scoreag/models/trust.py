"""Limits on files from elsewhere: code that they name, and networks that are larger than they are.

A name that is typed at the prompt, or passed in Python, is trusted; one in a card or a plan is not.
The rules err on the safe side: a name of an unknown kind counts as code.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks

from scoreag.registry import short_repr, truncate_text

LIBRARY_PREFIXES = ("timm", "torchvision")  # packages whose networks are named, PACKAGE:NETWORK
CLASSIFIER_PREFIXES = (
    "obfuscated:",
    "bpda:",
    "with-detector:",
    "coarse:",
)  # before a classifier's name
SIZE_FACTOR, EXTRA_NUMBERS = 4, 1 << 22  # numbers of a network: for each of its tensors', and more
MODULES_PER_TENSOR, EXTRA_MODULES = 50, 2000


def is_custom_component(name: str) -> bool:
    """Whether an attack, purifier, sampler or family is a module from elsewhere."""
    return "." in name or ":" in name


def is_custom_network(name: str) -> bool:
    """Whether a card's network is made by a function from elsewhere."""
    package, colon, _ = name.partition(":")
    return is_custom_component(name) and not (colon and package in LIBRARY_PREFIXES)


def is_custom_classifier(name: str) -> bool:
    """Whether a classifier, or one within it, is made by a function."""
    return any(_is_factory(part.strip()) for part in name.split(","))


def _is_factory(name: str) -> bool:
    for prefix in CLASSIFIER_PREFIXES:
        if name.startswith(prefix):
            return _is_factory(name.removeprefix(prefix).strip())
    return ":" in name and not name.startswith(("robustbench:", "hf://"))


def is_custom_data(name: str) -> bool:
    """Whether images come from a module from elsewhere."""
    kind, colon, _ = name.partition(":")
    return bool(colon) and "." in kind


def is_custom_features(name: str) -> bool:
    """Whether a feature extractor is made by a function."""
    return ":" in name and not name.startswith("inception:")


def check_trusted(is_code: bool, name: str, location: str, trust_code: bool) -> None:
    """Refuse a name in a file, where it is code and that was not allowed."""
    if is_code and not trust_code:
        raise ValueError(
            f"{location} names code, {name!r:.80}, and code that a file names is not run; read "
            "that code, and if you trust it, write --trust-code (in Python trust_code=True)"
        )


@contextmanager
def limit_network_size(tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Stop a network that grows far beyond the tensors it is built for, while it is built."""
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

    def add_tensor(owner: nn.Module, name: str, value: Any) -> None:
        take("numbers", 0 if value is None else value.numel())

    def add_module(owner: nn.Module, name: str, value: Any) -> None:
        take("modules", 1)

    handles = [
        hooks.register_module_parameter_registration_hook(add_tensor),
        hooks.register_module_buffer_registration_hook(add_tensor),
        hooks.register_module_module_registration_hook(add_module),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def build_bounded(
    build: Callable[..., nn.Module], options: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> nn.Module:
    """The network of these options, which may be no larger than its tensors allow."""
    try:
        with limit_network_size(tensors):
            return build(**options)
    except MemoryError:
        raise
    except ValueError as error:
        raise ValueError(truncate_text(str(error), 300)) from error
    except Exception as error:  # arguments of a file are of any kind
        reason = truncate_text(f"{type(error).__name__} {error}", 200)
        raise ValueError(
            f"no network can be built of {short_repr(dict(options))}: {reason}"
        ) from error


def infer_shapes(
    build: Callable[..., nn.Module], options: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> dict[str, torch.Size]:
    """The shapes of the tensors of such a network; no memory is allocated for them."""
    with torch.device("meta"):
        network = build_bounded(build, options, tensors)
    return {name: tensor.shape for name, tensor in network.state_dict().items()}
