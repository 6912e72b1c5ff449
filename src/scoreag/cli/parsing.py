"""What the words of the command line mean: classes, ranges, options of options."""

import re
from collections.abc import Sequence
from fractions import Fraction

from scoreag.registry import did_you_mean

ALL = "all"


class UsageError(ValueError):
    """A word that cannot mean anything, whatever the model."""


def parse_labels(text: str, classes: Sequence[str], per_class: int) -> list[int]:
    """``all``, ``3``, ``0,3,5``, ``0-4`` or ``cat,dog``, each class ``per_class`` times."""
    if not classes:
        raise ValueError(
            "this score model has no classes, so it cannot synthesize images of one; "
            "use a class-conditional model, or transform given images"
        )
    from scoreag.methods.task import IDS_PER_CLASS  # here, so that --help needs no torch

    if per_class > IDS_PER_CLASS:
        raise UsageError(f"--per-class is {per_class}; expected at most {IDS_PER_CLASS}")
    words = [word.strip() for word in text.split(",")]
    if ALL in words and ALL not in classes:
        if len(words) > 1:
            raise UsageError(
                f"--classes {text}: 'all' is every class; write all alone, or leave it"
            )
        words = [f"0-{len(classes) - 1}"]
    labels = [number for word in words for number in _parse_range(word, classes)]
    repeated = [number for number in labels if labels.count(number) > 1]
    if repeated:
        raise UsageError(
            f"--classes {text} names class {repeated[0]} twice; use --per-class for more"
        )
    return [number for number in labels for _ in range(per_class)]


def parse_class(word: str, classes: Sequence[str]) -> int:
    """A class by number or by name; whether a number is in range, the model tells."""
    if re.fullmatch(r"\d+", word):
        return int(word)
    if word not in classes:
        raise UsageError(f"no class {word!r}; {did_you_mean(word, [*classes, ALL])}")
    return list(classes).index(word)


def parse_target(text: str, classes: Sequence[str]) -> int | str | None:
    """``runner-up``, ``random``, ``none``, or a class, as ``target`` of the Python functions."""
    words: dict[str, str | None] = {"runner-up": "runner_up", "random": "random", "none": None}
    if text in words:
        return words[text]
    if re.fullmatch(r"\d+", text) or text in classes:
        return parse_class(text, classes)
    known = did_you_mean(text, [*words, *classes])
    raise UsageError(f"--target {text!r} is no class and no choice; {known}")


def parse_interval(text: str) -> tuple[float, float]:
    """``0.1,10``: two noise levels."""
    try:
        low, high = map(float, text.split(","))
    except ValueError as error:
        raise UsageError(
            f"--attack-interval {text!r}: write two noise levels, e.g. 0.1,10"
        ) from error
    return low, high


def parse_radius(text: str) -> Fraction:
    """``8/255`` or ``0.03``: above 0 and at most 1."""
    try:
        above, slash, below = text.partition("/")
        value = Fraction(above) / (Fraction(below) if slash else 1)
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(f"--eps {text!r}: write a radius in [0, 1], e.g. 8/255") from error
    if not 0 < value <= 1:
        raise UsageError(f"--eps is {text}; expected a radius in (0, 1], e.g. 8/255")
    return value


def parse_size(text: str) -> tuple[int, int]:
    """``32`` or ``32x48``: height and width in pixels."""
    match = re.fullmatch(r"0*([1-9]\d*)(?:x0*([1-9]\d*))?", text, re.ASCII)
    if not match:
        raise UsageError(f"--size {text}: write pixels, 32, or HEIGHTxWIDTH, 32x48")
    height = int(match[1])
    return height, int(match[2] or height)


def parse_shape(text: str) -> tuple[int, int, int]:
    """``3x32x32``: channels, height and width."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)x([1-9]\d*)", text, re.ASCII)
    if not match:
        raise UsageError(f"--shape {text}: write CHANNELSxHEIGHTxWIDTH, e.g. 3x32x32")
    return int(match[1]), int(match[2]), int(match[3])


def parse_pairs(pairs: Sequence[str]) -> dict[str, int | float | bool | str]:
    """``name=value`` each, the value read as a number or true or false where it is one."""
    options = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"--sampler-option {pair!r}: write NAME=VALUE")
        options[name.strip().replace("-", "_")] = _parse_value(value.strip())
    return options


def _parse_range(word: str, classes: Sequence[str]) -> Sequence[int]:
    match = re.fullmatch(r"(\d+)-(\d+)", word)
    if not match:
        return [parse_class(word, classes)]
    first, last = int(match[1]), int(match[2])
    if last < first:
        raise UsageError(f"--classes {word}: the range ends before it begins")
    if last >= len(classes):
        raise UsageError(f"--classes {word}, but the classes are 0..{len(classes) - 1}")
    return range(first, last + 1)


def _parse_value(word: str) -> int | float | bool | str:
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word
