"""The Fréchet distance against torchmetrics', on the same features."""

import pytest
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from scoreag.metrics.feature_distances import Moments, frechet_distance


class Given(nn.Module):
    """Features that are given as they are."""

    num_features = 12

    def forward(self, features: Tensor) -> Tensor:
        return features


def features(seed: int, count: int, dtype: torch.dtype) -> Tensor:
    """Correlated, of sizes from 0.1 to 10, far from the origin, as those of a network are."""
    source = torch.Generator().manual_seed(seed)
    mixing = torch.randn(12, 12, generator=source, dtype=torch.float64)
    sizes = torch.logspace(-1, 1, 12, dtype=torch.float64)
    plain = torch.randn(count, 12, generator=source, dtype=torch.float64)
    return (plain @ mixing * sizes + 3 * sizes).to(dtype)


def theirs(real: Tensor, drawn: Tensor) -> float:
    """Shown in three parts, as torchmetrics is used."""
    metric = FrechetInceptionDistance(feature=Given()).set_dtype(torch.float64)
    for part in real.double().chunk(3):
        metric.update(part, real=True)
    for part in drawn.double().chunk(3):
        metric.update(part, real=False)
    return float(metric.compute())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("counts", [(400, 400), (1000, 37), (9, 11)], ids=str)
def test_the_distance_is_that_of_torchmetrics(counts, dtype):
    """Of more images than features, and of fewer, whose covariance is singular."""
    real, drawn = (features(seed, n, dtype) for seed, n in enumerate(counts))
    ours = frechet_distance(
        Moments.from_features(real, "given"), Moments.from_features(drawn, "given")
    )
    assert ours == pytest.approx(theirs(real, drawn), rel=1e-6)
