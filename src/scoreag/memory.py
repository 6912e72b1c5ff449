"""How many draws are taken at once: as many as a budget of memory has room for."""

import re
from collections.abc import Callable
from functools import partial

from scoreag.core.footprint import kept_bytes
from scoreag.load import described

DEFAULT = 2 * 2**30  # bytes, where nothing is said
SHARE = 1.75  # of the graph: 1.2 to 1.6 were measured in processes of their own, all told
UNITS = {"": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def bytes_of(given: int | str) -> int:
    """A number of bytes, or "4 GiB", "500MB"."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(given), re.ASCII)
    if not match or match[2].upper() not in UNITS or isinstance(given, bool):
        raise ValueError(
            f"max_memory is {described(given)}; write bytes, or such as '500 MiB' or '4 GiB'"
        )
    found = int(float(match[1]) * UNITS[match[2].upper()])
    if found < 1:
        raise ValueError(f"max_memory is {given!r}; expected more than nothing, e.g. '4 GiB'")
    return found


def draws_at_once(an_image: int, images: int, draws: int, most: int | None, held: int = 0) -> int:
    """How many draws of ``images`` images fit into ``most`` bytes; without a limit into 2 GiB.

    Args:
        an_image: bytes that one draw of one image takes.
        held: bytes of each draw of each image that are held until all draws have been taken.

    Raises:
        ValueError: a single draw does not fit into the limit; the message gives what would.
    """
    a_draw, all_held = max(1, an_image * images), held * draws * images
    if most is not None and a_draw + all_held > most:
        fit = most * images // (a_draw + all_held)
        fewer = f"at most {fit} of them at once, or " if fit else ""
        raise ValueError(
            f"the gradient of {f'{draws} draws' if held else 'one draw'} of {images} images takes "
            f"about {text(a_draw + all_held)}, and max_memory is {text(most)}; give {fewer}"
            f"max_memory={text(a_draw + all_held)!r}"
        )
    return max(1, min(draws, ((most or DEFAULT) - all_held) // a_draw))


def per_image(gradient: Callable[[int], None]) -> int:
    """Bytes that one image more takes: what is shared, such as weights, is not counted.

    Args:
        gradient: computes that of a number of images.
    """
    one, two = (kept_bytes(partial(gradient, count)) for count in (1, 2))
    return round(SHARE * (two - one))


def text(size: int) -> str:
    """In MiB below one GiB, rounded up, so that what is said to do does."""
    unit = "GiB" if size >= 2**30 else "MiB"
    return f"{-(-100 * size // UNITS[unit.upper()]) / 100:g} {unit}"
