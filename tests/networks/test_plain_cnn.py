import torch

from scoreag.classifiers.networks.small_cnn import PlainCNN


def test_number_of_weights_by_hand():
    network = PlainCNN((3, 8, 8), classes=5, convolutions=((4, 4, 2), (6, 3, 1)), hidden=7)
    convolutions = 3 * 4 * 16 + 2 * 4 + 4 * 6 * 9 + 2 * 6
    layers = (6 * 4 * 4 * 7 + 2 * 7) + (7 * 5 + 5)
    assert sum(p.numel() for p in network.parameters()) == convolutions + layers


def test_stride_two_halves_the_side_and_stride_one_keeps_it():
    maps = PlainCNN().convolutions[:-1](torch.rand(1, 3, 32, 32))
    assert maps.shape == (1, 96, 8, 8)
