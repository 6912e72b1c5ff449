"""Layers of torch.nn, one after the other: what a state dict of ``nn.Sequential`` belongs to."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from scoreag.registry import did_you_mean

LAYER_NAMES = """
AdaptiveAvgPool2d AdaptiveMaxPool2d AvgPool2d BatchNorm1d BatchNorm2d Conv2d Dropout Dropout2d ELU
Flatten GELU GroupNorm Hardswish Identity LeakyReLU Linear MaxPool2d ReLU ReLU6 SiLU Sigmoid
Softplus Tanh ZeroPad2d
"""
LAYERS = LAYER_NAMES.split()


def build(layers: Sequence[Any]) -> nn.Sequential:
    """A layer is its name and its arguments, in torch's order: ``["Conv2d", 3, 16, 4, 2, 1]``.

    >>> build([["Flatten"], ["Linear", 12, 3]])
    Sequential(
      (0): Flatten(start_dim=1, end_dim=-1)
      (1): Linear(in_features=12, out_features=3, bias=True)
    )

    Raises:
        ValueError: a layer has no such name, or does not take its arguments.
    """
    return nn.Sequential(*(_layer(position, layer) for position, layer in enumerate(layers)))


def _layer(position: int, layer: Any) -> nn.Module:
    if isinstance(layer, str):
        raise ValueError(f'layer {position} is {layer!r}; write a list, ["{layer}"]')
    if not layer:
        raise ValueError(f"layer {position} is empty; write its name and its arguments")
    name, *arguments = layer
    if name not in LAYERS:
        raise ValueError(f"layer {position} is {name!r}; {did_you_mean(name, LAYERS)}")
    values = [tuple(one) if isinstance(one, list) else one for one in arguments]
    try:
        module: nn.Module = getattr(nn, name)(*values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"layer {position}, {name} of {values}: {error}") from error
    return module
