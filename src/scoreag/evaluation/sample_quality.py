"""How like real images the draws are, in one network's features: four figures, each with a floor.

The floor is what as many training images score in place of the draws: no score model is expected
to do better.  All sets have the same number of images, since these figures depend on it.
"""

from scoreag.core.rng import Stream
from scoreag.metrics.feature_distances import (
    K_NEIGHBORS,
    fid_with_jackknife,
    kid_with_std_error,
    precision,
    recall,
)
from scoreag.metrics.feature_extractors import Features
from scoreag.stats.estimates import MetricEntry, from_estimate, from_proportion
from scoreag.stats.proportion import compute_proportion

JACKKNIFE_METHOD = "jackknife, 20 blocks left out in turn"
BLOCK_METHOD = "20 disjoint blocks"


def measure_sample_quality(
    generated: Features, real: Features, extractor_name: str, population: str
) -> dict[str, MetricEntry]:
    """Fréchet and kernel distance, precision and recall, each under ``WHAT_name``.

    Args:
        name: of the network; ``of``: what ``drawn`` are.
    """
    generated, real = _shuffle(generated), _shuffle(real)
    total = len(generated)
    pair = f"{population}, against {len(real)} test images"
    fid = fid_with_jackknife(generated, real, extractor_name)
    kernel = kid_with_std_error(generated, real)
    found = {
        f"frechet_{extractor_name}": from_estimate(fid, pair, total, JACKKNIFE_METHOD),
        f"kernel_{extractor_name}": from_estimate(kernel, pair, total, BLOCK_METHOD),
    }
    if min(total, len(real)) > K_NEIGHBORS:
        among = f"test images, within the reach of {total} {population}"
        found[f"precision_{extractor_name}"] = from_proportion(
            compute_proportion(precision(generated, real), pair)
        )
        found[f"recall_{extractor_name}"] = from_proportion(
            compute_proportion(recall(generated, real), among)
        )
    return found


def _shuffle(rows: Features) -> Features:
    """In an order of no meaning, always the same: a block shall not be a class."""
    order = Stream("blocks", len(rows)).permutation(len(rows))
    return rows[order]
