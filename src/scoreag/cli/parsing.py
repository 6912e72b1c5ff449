"""What the words of the command line mean: classes, ranges, options of options."""

import re
from collections.abc import Sequence
from fractions import Fraction

from scoreag.registry import did_you_mean

ALL = "all"


class UsageError(ValueError):
    """A word that cannot mean anything, whatever the model."""


def labels(text: str, classes: Sequence[str], per_class: int) -> list[int]:
    """``all``, ``3``, ``0,3,5``, ``0-4`` or ``cat,dog``, each class ``per_class`` times."""
    if not classes:
        raise ValueError(
            "this score model knows no classes, so it cannot be asked for one; "
            "use a class-conditional model, or transform given images"
        )
    if per_class < 1:
        raise UsageError(f"--per-class is {per_class}; expected 1 or more")
    from scoreag.methods.validation import IDS_PER_CLASS  # here, so that --help needs no torch

    if per_class > IDS_PER_CLASS:
        raise UsageError(f"--per-class is {per_class}; expected at most {IDS_PER_CLASS}")
    words = [w.strip() for w in text.split(",")]
    if ALL in words and ALL not in classes:
        if len(words) > 1:
            raise UsageError(
                f"--classes {text}: 'all' is every class; write all alone, or leave it"
            )
        words = [f"0-{len(classes) - 1}"]
    chosen = [number for word in words for number in _numbers(word, classes)]
    twice = [number for number in chosen if chosen.count(number) > 1]
    if twice:
        raise UsageError(f"--classes {text} names class {twice[0]} twice; use --per-class for more")
    return [number for number in chosen for _ in range(per_class)]


def class_of(word: str, classes: Sequence[str]) -> int:
    """A class by number or by name; whether a number is in range, the model tells."""
    if re.fullmatch(r"\d+", word):
        return int(word)
    if word not in classes:
        raise UsageError(f"no class {word!r}; {did_you_mean(word, [*classes, ALL])}")
    return list(classes).index(word)


def target(text: str, classes: Sequence[str]) -> int | str | None:
    """``runner-up``, ``random``, ``none``, or a class."""
    if text in ("runner-up", "random"):
        return text.replace("-", "_")
    if text == "none":
        return None
    if re.fullmatch(r"\d+", text) or text in classes:
        return class_of(text, classes)
    known = ["runner-up", "random", "none", *classes]
    raise UsageError(f"--target {text!r} is no class and no choice; {did_you_mean(text, known)}")


def interval(text: str) -> tuple[float, float]:
    """``0.1,10``: two noise levels."""
    try:
        low, high = map(float, text.split(","))
    except ValueError as error:
        raise UsageError(
            f"--attack-interval {text!r}: write two noise levels, e.g. 0.1,10"
        ) from error
    return low, high


def radius(text: str, flag: str) -> Fraction:
    """``8/255`` or ``0.03``: above 0 and at most 1."""
    try:
        above, slash, below = text.partition("/")
        value = Fraction(above) / (Fraction(below) if slash else 1)
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(f"{flag} {text!r}: write a radius in [0, 1], e.g. 8/255") from error
    if not 0 < value <= 1:
        raise UsageError(f"{flag} is {text}; expected a radius in (0, 1], e.g. 8/255")
    return value


def size(text: str) -> tuple[int, int]:
    """``32`` or ``32x48``: height and width in pixels."""
    match = re.fullmatch(r"0*([1-9]\d*)(?:x0*([1-9]\d*))?", text, re.ASCII)
    if not match:
        raise UsageError(f"--size {text}: write pixels, 32, or HEIGHTxWIDTH, 32x48")
    height = int(match[1])
    return height, int(match[2] or height)


def options(pairs: Sequence[str]) -> dict[str, int | float | bool | str]:
    """``name=value`` each, the value read as a number or true or false where it is one."""
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"--sampler-option {pair!r}: write NAME=VALUE")
        found[name.strip().replace("-", "_")] = _value(value.strip())
    return found


def _numbers(word: str, classes: Sequence[str]) -> Sequence[int]:
    match = re.fullmatch(r"(\d+)-(\d+)", word)
    if not match:
        return [class_of(word, classes)]
    first, last = int(match[1]), int(match[2])
    if last < first:
        raise UsageError(f"--classes {word}: the range ends before it begins")
    if last >= len(classes):
        raise UsageError(f"--classes {word}, but the classes are 0..{len(classes) - 1}")
    return range(first, last + 1)


def _value(word: str) -> int | float | bool | str:
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word
