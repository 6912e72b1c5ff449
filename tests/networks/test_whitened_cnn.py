import torch
from torch.nn.functional import unfold

from scoreag.classifiers.networks.airbench_cnn import WhitenedCNN, whiten


def second_moment(maps):
    rows = maps.transpose(0, 1).flatten(1)
    return rows @ rows.T / rows.shape[1]


def test_whitened_patches_have_unit_covariance_in_every_direction():
    images = torch.randn(40, 3, 9, 9, dtype=torch.float64).cumsum(3) / 3
    network = WhitenedCNN(widths=(8, 8, 8)).double()
    whiten(network, images, floor=0.0)
    plus, minus = network.whitening(images).split(12, dim=1)
    torch.testing.assert_close(second_moment(plus), torch.eye(12, dtype=torch.float64))
    assert torch.equal(plus, -minus)


def test_the_floor_limits_how_much_a_quiet_direction_is_raised():
    """All pixels equal: one direction of variance 12 v, eleven of none."""
    images = torch.full((2, 3, 8, 8), 0.5, dtype=torch.float64)
    network = WhitenedCNN(widths=(8, 8, 8)).double()
    whiten(network, images, floor=0.25)
    moved = network.whitening(images)[:, :12]
    loudest = 12 * 0.25 / (12 * 0.25 + 0.25)
    torch.testing.assert_close(second_moment(moved).trace().item(), loudest)


def test_gray_patches_have_four_numbers():
    images = torch.randn(40, 1, 9, 9, dtype=torch.float64).cumsum(3) / 3
    network = WhitenedCNN(widths=(8, 8, 8), image_shape=(1, 9, 9)).double()
    whiten(network, images, floor=0.0)
    plus, minus = network.whitening(images).split(4, dim=1)
    torch.testing.assert_close(second_moment(plus), torch.eye(4, dtype=torch.float64))
    assert torch.equal(plus, -minus)


def test_a_filter_reads_a_patch_as_unfold_does():
    network = WhitenedCNN(widths=(8, 8, 8))
    images = torch.rand(2, 3, 5, 5)
    by_hand = network.whitening.weight.flatten(1) @ unfold(images, 2)
    torch.testing.assert_close(network.whitening(images).flatten(2), by_hand)


def test_convolutions_begin_as_the_identity_on_their_input_channels():
    group = WhitenedCNN(widths=(64, 128, 128)).groups[1]
    x = torch.randn(2, 64, 6, 6)
    torch.testing.assert_close(group.conv1(x)[:, :64], x)
    x = torch.randn(2, 128, 6, 6)
    torch.testing.assert_close(group.conv2(x), x)


def test_only_convolutions_biases_and_the_last_layer_learn():
    learning = {n for n, p in WhitenedCNN().named_parameters() if p.requires_grad}
    assert "whitening.weight" not in learning and "groups.0.norm1.weight" not in learning
    assert {"whitening.bias", "groups.0.norm1.bias", "groups.0.conv1.weight"} <= learning


def test_airbench_has_its_known_size():
    """Its paper's network has 1.97 million weights that are learnt."""
    learnt = sum(p.numel() for p in WhitenedCNN().parameters() if p.requires_grad)
    groups = [(24, 64), (64, 256), (256, 256)]
    convolutions = sum(9 * wide * (width + wide) + 2 * wide for width, wide in groups)
    assert learnt == convolutions + 24 + 10 * 256


def test_a_mirrored_network_is_symmetric():
    network = WhitenedCNN(widths=(4, 4, 4), mirrored=True).eval()
    plain = WhitenedCNN(widths=(4, 4, 4)).eval()
    plain.load_state_dict(network.state_dict())
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(network(x), (plain(x) + plain(x.flip(3))) / 2)
    torch.testing.assert_close(network(x), network(x.flip(3)))
