"""A training that ran away stops, says so, and leaves its last good checkpoint."""

import math
from dataclasses import replace

import pytest
import torch

from scoreag.training import loop
from scoreag.training.checkpoint import DivergenceError, DivergenceMonitor, init_state
from scoreag.training.loop import fit
from scoreag.training.optimization import write_snapshot
from scoreag.training.schedule import TrainingSchedule

IMAGES = torch.zeros(10, 3, 2, 2, dtype=torch.uint8)
LABELS = torch.zeros(10, dtype=torch.int64)
PLAN = TrainingSchedule(total_images=400, batch_size=4, warmup_fraction=0.0, decay_fraction=0.0)


def trained(file, values, broken=False, pause=0.0):
    """Steps whose losses are ``values(step)``; the checkpoint's state afterwards."""
    network = torch.nn.Linear(12, 1)
    state = init_state(network, torch.optim.SGD(network.parameters(), lr=1.0))

    def loss(net, images, labels, source):
        at_a_corner = (net.bias - net.bias.detach()).abs().sqrt().sum()  # 0, with gradient NaN
        usual = 0 * net.weight.sum()
        return values(state.images_seen // 4) + usual + (at_a_corner if broken else 0)

    return fit(state, loss, IMAGES, LABELS, PLAN, file, checkpoint_seconds=pause)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_training(tmp_path, value):
    file = tmp_path / "state.pt"
    with pytest.raises(
        DivergenceError, match=r"the loss is (nan|inf), after 80 images.*state\.pt is the"
    ):
        trained(file, lambda step: value if step == 20 else 1.0)
    saved = torch.load(file)
    assert saved["seen"] == 80
    assert all(tensor.isfinite().all() for tensor in saved["network"].values())


def test_a_loss_is_no_number_among_several_that_are_read_together(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "steps_between_reads", lambda *given: 7)
    with pytest.raises(
        DivergenceError, match=r"the loss is nan, after 36 images.*nothing was saved yet"
    ):
        trained(tmp_path / "state.pt", lambda step: math.nan if step == 9 else 1.0, pause=1e9)
    assert not (tmp_path / "state.pt").exists()


def test_a_loss_that_ran_away_ends_the_training(tmp_path):
    """Ten steps, of which none is saved: the checkpoint is that of the last usual loss."""
    file = tmp_path / "state.pt"
    with pytest.raises(
        DivergenceError, match=r"above 10 times its median, 1, for 10 steps.*lower --lr"
    ):
        trained(file, lambda step: 1.0 if step < 30 else 11.0)
    assert torch.load(file)["seen"] == 30 * 4


def test_weights_that_are_no_numbers_are_not_saved(tmp_path):
    file = tmp_path / "state.pt"
    with pytest.raises(DivergenceError, match=r"the weights bias hold NaN"):
        trained(file, lambda step: 1.0, broken=True)
    assert not file.exists()


def test_single_high_losses_are_no_divergence():
    health = DivergenceMonitor()
    for step in range(300):
        health.check(50.0 if step % 5 == 4 else 1.0)


def test_a_loss_that_falls_and_rises_slowly_is_no_divergence():
    health = DivergenceMonitor()
    for step in range(1000):
        health.check(10 ** (step / 250))


def test_the_first_steps_may_be_high():
    health = DivergenceMonitor()
    for loss in [1000.0] * 9 + [1.0] * 100:
        health.check(loss)


def test_averages_that_are_no_numbers_are_no_snapshot(tmp_path):
    network = torch.nn.Linear(2, 1)
    state = init_state(network, torch.optim.SGD(network.parameters(), lr=1.0))
    state.average.bias.data.fill_(math.nan)
    with pytest.raises(DivergenceError, match="the weights bias hold NaN"):
        write_snapshot(state, replace(PLAN, ema_widths=(0.05,)), tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))
