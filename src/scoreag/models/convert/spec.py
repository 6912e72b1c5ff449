"""What a checkpoint turned out to be, and the check of the config that it was trained with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from scoreag.io.safe_unpickler import UnsupportedCheckpoint
from scoreag.registry import did_you_mean, short_repr


@dataclass(frozen=True)
class CheckpointSpec:
    """A checkpoint as it was recognized, ready to become a card.

    Args:
        format: of the file, in words.
        family: a name of score_models.py.
        schedule_kwargs: of the card: arguments of its family.
        network, options: a file of networks/ and the arguments of its ``build``.
        tensors: under the names of that network.
        classes: how many labels it knows; 0 knows none.
        license: of the weights, as far as the format tells.
        unused_keys: what the file holds besides, and what was not needed, in words.
    """

    format: str
    family: str
    network: str
    options: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    image_shape: tuple[int, int, int]
    classes: int
    sigma_data: float = 0.5
    schedule_kwargs: Mapping[str, Any] = field(default_factory=dict)
    license: str = "not told by the file"
    unused_keys: tuple[str, ...] = field(default=())


MAX_LENGTH, MAX_NUMBER = 100, 1_000_000  # of lists and words; of numbers


def validate_config(config: Mapping[str, Any], examples: Mapping[str, Any], file: str) -> None:
    """Refuse arguments of a training that are not known, or are of another kind.

    Args:
        examples: of all arguments that are known; None stands for any value.

    Raises:
        Refused: an argument is not known, or its value is of another kind.
    """
    validate_config_sizes(config, file)
    for name, value in config.items():
        if name not in examples:
            raise UnsupportedCheckpoint(
                f"{file}: an argument {short_repr(name)}; {did_you_mean(name, list(examples))}"
            )
        if not _is_same_type(value, examples[name]):
            raise UnsupportedCheckpoint(
                f"{file}: {name} is {short_repr(value)}; expected one as {examples[name]!r}"
            )


def validate_config_sizes(config: Mapping[str, Any], file: str) -> None:
    """Refuse arguments that no published network has.

    Raises:
        Refused: a number or a list of a network is larger than any that was published.
    """
    for name, value in config.items():
        listed = value if isinstance(value, list) else [value]
        if len(listed) > MAX_LENGTH or not all(_is_small(one) for one in listed):
            raise UnsupportedCheckpoint(
                f"{file}: {short_repr(name)} is {short_repr(value)}, which no network has"
            )


def _is_small(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= MAX_LENGTH
    return value is None or (isinstance(value, int | float) and abs(value) <= MAX_NUMBER)


def _is_same_type(value: Any, example: Any) -> bool:
    if isinstance(example, list):
        return isinstance(value, list) and all(type(one) is int for one in value) and bool(value)
    return example is None or type(value) is type(example)
