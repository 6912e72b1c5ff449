import pytest
import torch

from scoreag.metrics.feature_distances import Moments, compute_moments, frechet_distance


def gaussian(mean, std, extractor="pixels", n=1000):
    cov = torch.diag(std**2)
    return Moments(n, n * mean, (n - 1) * cov + n * torch.outer(mean, mean), extractor)


def test_distance_of_gaussians_with_commuting_covariances():
    """Then it is |m_a - m_b|^2 + sum (s_a - s_b)^2, s the standard deviations."""
    mean, a, b = torch.tensor([3.0, 4.0]), torch.tensor([2.0, 1.0]), torch.tensor([0.5, 3.0])
    expected = 25 + (1.5**2 + 2.0**2)
    distance = frechet_distance(gaussian(mean.double(), a), gaussian(0 * mean.double(), b))
    assert distance == pytest.approx(expected)


def test_distance_of_gaussians_that_do_not_commute():
    """For 2 x 2: tr (AB)^(1/2) = (tr AB + 2 det(AB)^(1/2))^(1/2)."""
    n, zero = 1000, torch.zeros(2, dtype=torch.float64)
    a = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    b = torch.diag(torch.tensor([1.0, 4.0], dtype=torch.float64))
    expected = 4 + 5 - 2 * (10 + 2 * 12**0.5) ** 0.5
    first, second = (Moments(n, zero, (n - 1) * c, "pixels") for c in (a, b))
    assert frechet_distance(first, second) == pytest.approx(expected)


def test_moments_of_shards_add_up_to_those_of_the_whole():
    features = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    parts = Moments.from_features(features[:13], "f") + Moments.from_features(features[13:], "f")
    assert torch.allclose(parts.covariance, features.T.cov().double())


@pytest.mark.parametrize("shards", [7, 64])
def test_distance_does_not_depend_on_the_number_of_shards(shards):
    """Up to rounding in float64."""
    source = torch.Generator().manual_seed(0)
    real, drawn = (torch.randn(500, 5, generator=source) * s + 3 for s in (1.0, 1.5))

    def merged(features, count):
        first, *rest = (Moments.from_features(part, "f") for part in features.tensor_split(count))
        return sum(rest, start=first)

    expected = frechet_distance(merged(real, 1), merged(drawn, 1))
    assert expected > 1
    found = frechet_distance(merged(real, shards), merged(drawn, shards))
    assert found == pytest.approx(expected, rel=1e-12)


def test_distance_in_one_feature_is_that_of_means_and_deviations():
    """(m_a - m_b)^2 + (s_a - s_b)^2: means of 2 and 5, standard deviations of 1 and 4."""
    a, b = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[1.0], [5.0], [9.0]])
    distance = frechet_distance(Moments.from_features(a, "f"), Moments.from_features(b, "f"))
    assert distance == pytest.approx(3**2 + (4 - 1) ** 2)


def test_moments_of_images_are_those_of_their_features():
    images = torch.rand(9, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    found = compute_moments(images, lambda part: part.flatten(1), "pixels", batch_size=4)
    assert (found.count, found.extractor) == (9, "pixels")
    assert torch.allclose(found.mean, images.flatten(1).double().mean(0))


def test_features_of_two_networks_are_not_compared():
    mean, std = torch.zeros(2).double(), torch.ones(2)
    with pytest.raises(ValueError, match="'judge' and of 'pixels' cannot be compared"):
        frechet_distance(gaussian(mean, std, "judge"), gaussian(mean, std))


def test_one_image_has_no_covariance():
    with pytest.raises(ValueError, match="1 images have no covariance"):
        _ = Moments.from_features(torch.zeros(1, 3), "pixels").covariance
