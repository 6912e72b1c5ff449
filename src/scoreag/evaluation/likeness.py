"""How like real images the draws are, in one network's features: four figures, each with a floor.

The floor is what as many training images score in place of the draws: no score model is expected
to do better.  All sets have the same number of images, since these figures depend on it.
"""

from scoreag.core.noise import Stream
from scoreag.figures import frechet_error
from scoreag.figures.entries import Entry, of_estimate, of_rate
from scoreag.figures.features import Features
from scoreag.metrics import kernel_distance
from scoreag.metrics.accuracy import share
from scoreag.metrics.recall import K, precision, recall

JACKKNIFE = "jackknife, 20 blocks left out in turn"
BLOCKS = "20 disjoint blocks"


def likeness(drawn: Features, real: Features, name: str, of: str) -> dict[str, Entry]:
    """Fréchet and kernel distance, precision and recall, each under ``WHAT_name``.

    Args:
        name: of the network; ``of``: what ``drawn`` are.
    """
    drawn, real = _shuffled(drawn), _shuffled(real)
    total = len(drawn)
    pair = f"{of}, against {len(real)} test images"
    frechet = frechet_error.with_error(drawn, real, name)
    kernel = kernel_distance.with_error(drawn, real)
    found = {
        f"frechet_{name}": of_estimate(frechet, pair, total, JACKKNIFE),
        f"kernel_{name}": of_estimate(kernel, pair, total, BLOCKS),
    }
    if min(total, len(real)) > K:
        among = f"test images, within the reach of {total} {of}"
        found[f"precision_{name}"] = of_rate(share(precision(drawn, real), pair))
        found[f"recall_{name}"] = of_rate(share(recall(drawn, real), among))
    return found


def _shuffled(rows: Features) -> Features:
    """In an order of no meaning, always the same: a block shall not be a class."""
    order = Stream("blocks", len(rows)).permutation(len(rows))
    return rows[order]
