import pytest
import torch
from torch import nn

from scoreag.training.optimization import update_ema


def pair(slow=0.0, fast=1.0):
    """An average and a network of a single weight."""
    average, network = (nn.Linear(1, 1, bias=False) for _ in range(2))
    average.weight.data.fill_(slow)
    network.weight.data.fill_(fast)
    return average, network


@pytest.mark.parametrize("batches", [1, 2, 10])
def test_after_its_half_life_the_average_has_gone_half_of_the_way(batches):
    """A twentieth of 2000 images are 100, in one batch or in several."""
    average, network = pair()
    for _ in range(batches):
        update_ema(average, network, 100 // batches, images_seen=2000, rampup_ratio=0.05)
    assert average.weight.item() == pytest.approx(0.5, abs=1e-6)


def test_two_half_lives_leave_a_quarter():
    average, network = pair(slow=8.0, fast=4.0)
    update_ema(average, network, batch_size=200, images_seen=2000, rampup_ratio=0.05)
    assert average.weight.item() == pytest.approx(4 + 4 / 4)


def test_the_half_life_grows_with_the_training():
    average, network = pair()
    update_ema(average, network, batch_size=100, images_seen=4000, rampup_ratio=0.05)
    assert average.weight.item() == pytest.approx(1 - 0.5**0.5)


def test_the_network_is_left_alone():
    average, network = pair(fast=3.0)
    update_ema(average, network, 10, 100, 0.05)
    assert network.weight.item() == 3.0 and average.weight.grad_fn is None


def test_what_is_counted_and_not_learnt_is_copied():
    average, network = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    network(torch.tensor([[1.0], [3.0]]))
    update_ema(average, network, 1, 10_000, 0.05)
    assert torch.equal(average.running_mean, torch.tensor([0.2]))  # a tenth of the mean 2
    assert average.num_batches_tracked == 1
