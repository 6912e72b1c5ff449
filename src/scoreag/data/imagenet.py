"""The 1,000 classes of ImageNet's challenge: their wnids and their names, in the usual order.

The order is that of the wnids, by which published checkpoints count.  A name is the first word of
the synset in WordNet, with the second word or the wnid behind it where two classes share the first.
"""

from pathlib import Path

_FILE = Path(__file__).parent / "imagenet_classes.txt"  # a line is a wnid, a tab, and a name


def _read_names() -> dict[str, str]:
    """The name of each wnid, in the order of the classes."""
    lines = [line.split("\t") for line in _FILE.read_text("utf-8").splitlines()]
    return dict(zip(*zip(*lines, strict=True), strict=True))


WNID_NAMES = _read_names()
CLASSES = tuple(WNID_NAMES.values())
