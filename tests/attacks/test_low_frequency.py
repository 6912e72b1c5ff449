import pytest
import torch
from scipy.fft import dctn

from scoreag.attacks.low_frequency import LowFrequency, dct_matrix, low_pass


@pytest.mark.parametrize("size", [1, 2, 7, 32])
def test_the_cosines_are_orthonormal(size):
    basis = dct_matrix(size)
    assert torch.allclose(basis @ basis.T, torch.eye(size, dtype=torch.float64), atol=1e-12)


def test_the_transform_is_that_of_scipy():
    x = torch.rand(6, 9, generator=torch.Generator().manual_seed(0)).double()
    assert torch.allclose(
        dct_matrix(6) @ x @ dct_matrix(9).T, torch.from_numpy(dctn(x.numpy(), norm="ortho"))
    )


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_the_change_has_no_frequency_above_the_fraction(norm):
    """On gray, where no pixel meets black or white; 2 of 8 each way are left."""
    images = torch.full((2, 3, 8, 8), 0.5, dtype=torch.float64)
    weights = torch.randn(192, 4, generator=torch.Generator().manual_seed(0)).double()
    attack = LowFrequency(eps=0.1, norm=norm, frequency_fraction=0.25, steps=10)
    found = attack(lambda x: x.flatten(1) @ weights, images, torch.tensor([0, 1]), image_ids=[0, 1])
    spectrum = dctn((found - images).numpy(), axes=(2, 3), norm="ortho")
    kept = abs(spectrum[:, :, :2, :2]).sum()
    assert kept > 0.01 and abs(spectrum).sum() == pytest.approx(kept, rel=1e-9)


def test_a_fraction_of_one_is_the_identity():
    x = torch.rand(1, 1, 5, 4, generator=torch.Generator().manual_seed(0)).double()
    assert torch.allclose(low_pass(x, 1.0), x)
