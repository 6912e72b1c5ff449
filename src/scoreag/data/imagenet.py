"""The 1,000 classes of ImageNet's challenge: their wnids and their names, in the usual order.

The order is that of the wnids, by which published checkpoints count.  A name is the first word of
the synset in WordNet, with the second word or the wnid behind it where two classes share the first.
"""

from functools import cache
from pathlib import Path

_FILE = Path(__file__).parent / "imagenet_classes.txt"  # a line is a wnid, a tab, and a name


@cache
def wnid_names() -> dict[str, str]:
    """The name of each wnid, in the order of the classes."""
    lines = _FILE.read_text("utf-8").splitlines()
    return dict((wnid, name) for wnid, _, name in (line.partition("\t") for line in lines))


def class_names() -> tuple[str, ...]:
    """The names by number."""
    return tuple(wnid_names().values())
