import numpy as np
import pytest
import torch

from scoreag.metrics.lpips import HEAD_KEY, LAYERS, Lpips, load_lpips

SIZES = (11, 5, 3, 3, 3)  # of AlexNet's kernels, in pixels


def random_weights(channels=4):
    source = torch.Generator().manual_seed(0)
    inputs = (3, *[channels] * 4)
    convolutions = {}
    for layer, size, before in zip(LAYERS, SIZES, inputs, strict=True):
        shape = (channels, before, size, size)
        convolutions[f"features.{layer}.weight"] = torch.randn(shape, generator=source)
        convolutions[f"features.{layer}.bias"] = torch.randn(channels, generator=source)
    heads = {HEAD_KEY.format(n): torch.rand(1, channels, 1, 1, generator=source) for n in range(5)}
    return convolutions, heads


def passing_on():
    """Every layer hands on (red - .5 in units of the network, 1): kernels of a single 1."""
    convolutions = {}
    for layer, size in zip(LAYERS, SIZES, strict=True):
        weight = torch.zeros(2, 2 if layer else 3, size, size)
        weight[0, 0, size // 2, size // 2] = 1
        weight[1, 1, size // 2, size // 2] = float(layer > 0)
        convolutions[f"features.{layer}.weight"] = weight
        convolutions[f"features.{layer}.bias"] = torch.tensor([0.0, float(layer == 0)])
    heads = {
        HEAD_KEY.format(n): torch.tensor([1.0, 10.0]).view(1, 2, 1, 1) * 10**n for n in range(5)
    }
    return Lpips(convolutions, heads)


def images(seed=0, count=3, side=32):
    source = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, side, side, generator=source)


def gray(red):
    plain = torch.full((1, 3, 32, 32), 0.3)
    plain[:, 0] = red
    return plain


def test_five_layers_that_pass_on_one_number_by_hand():
    """Red .7065 becomes (2 * .7065 - 1 + .03) / .458 = .967249, red .2 becomes 0 after the ReLU.

    The unit vectors are (.695232, .718785) and (0, 1); their squared difference (.483348, .079082),
    which the heads weigh with 1 and 10, times 1 + 10 + 100 + 1000 + 10000.
    """
    expected = (0.483348 + 10 * 0.079082) * 11111
    assert passing_on()(gray(0.7065), gray(0.2)).item() == pytest.approx(expected, rel=1e-4)


def test_equal_images_are_at_distance_zero():
    metric = Lpips(*random_weights())
    assert metric(images(), images()).tolist() == [0, 0, 0]


def test_is_symmetric_and_positive():
    metric, a, b = Lpips(*random_weights()), images(0), images(1)
    assert torch.equal(metric(a, b), metric(b, a))
    assert (metric(a, b) > 0).all()


def test_does_not_depend_on_the_batch():
    metric, a, b = Lpips(*random_weights(), batch_size=2), images(0), images(1)
    alone = torch.cat([metric(x[None], y[None]) for x, y in zip(a, b, strict=True)])
    assert torch.allclose(metric(a, b), alone, rtol=1e-5)


def write(tmp_path, drop=()):
    convolutions, heads = random_weights()
    for name, arrays in (("features", convolutions), ("heads", heads)):
        kept = {key: value.numpy() for key, value in arrays.items() if key not in drop}
        np.savez(tmp_path / f"{name}.npz", **kept)
    return tmp_path / "features.npz", tmp_path / "heads.npz"


def test_weights_are_read_by_name(tmp_path):
    metric = Lpips(*random_weights())
    assert torch.equal(
        load_lpips(*write(tmp_path))(images(0), images(1)), metric(images(0), images(1))
    )


def test_a_missing_array_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"features.npz has no array 'features.6.bias'"):
        load_lpips(*write(tmp_path, drop=("features.6.bias",)))


@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"PK\x03\x04 cut off"], ids=["empty", "html", "cut"]
)
def test_a_file_that_is_no_npz_is_refused(tmp_path, content):
    features, heads = write(tmp_path)
    heads.write_bytes(content)
    with pytest.raises(ValueError, match=r"heads.npz is no complete .npz file.*copy it again"):
        load_lpips(features, heads)
