import signal
from dataclasses import replace

import pytest
import torch
from torch import nn

from scoreag.training.checkpoint import init_state, load_checkpoint
from scoreag.training.loop import fit
from scoreag.training.schedule import TrainingSchedule, iter_batches

PLAN = TrainingSchedule(total_images=1000, batch_size=100, warmup_fraction=0.2, decay_fraction=0.4)
IMAGES = (torch.arange(10 * 12) * 2).to(torch.uint8).reshape(10, 3, 2, 2)
LABELS = torch.arange(10)


def rates(plan):
    return [plan.lr_factor(plan.batch_size * step) for step in range(plan.total_steps)]


def beginning(rate=0.1, kind=torch.optim.AdamW):
    network = nn.Linear(12, 1)
    nn.init.ones_(network.weight)
    nn.init.zeros_(network.bias)
    return init_state(network, kind(network.parameters(), lr=rate))


def squared(network, images, labels, source):
    """A loss with noise of its own."""
    target = source.normal((len(images), 1))
    return (network(images.flatten(1)) - target).square().mean()


def test_the_rate_of_a_step_is_that_of_its_midpoint():
    """Midpoints .05, .15, ... .95: rising over .2, falling over the last .4."""
    expected = [0.25, 0.75, 1, 1, 1, 1, 0.875, 0.625, 0.375, 0.125]
    assert rates(PLAN) == pytest.approx(expected)


def test_the_rates_of_all_steps_add_up_to_the_area_below_the_trapezoid():
    assert sum(rates(PLAN)) == pytest.approx(10 * (1 - 0.2 / 2 - 0.4 / 2))


def test_without_rise_and_fall_the_rate_is_constant():
    assert rates(replace(PLAN, warmup_fraction=0.0, decay_fraction=0.0)) == [1] * 10


def test_the_last_step_counts_also_where_its_batch_exceeds_the_plan():
    """Two steps of 64 for 65 images, at a quarter and three quarters of the way down."""
    assert rates(
        TrainingSchedule(total_images=65, batch_size=64, warmup_fraction=0.0, decay_fraction=1.0)
    ) == pytest.approx([0.75, 0.25])


def test_a_step_is_taken_at_the_rate_of_the_plan(tmp_path):
    """Plain descent with gradient 1: the bias falls by the sum of the rates, here 7."""
    state = beginning(1.0, torch.optim.SGD)
    plan = replace(PLAN, total_images=100, batch_size=10)
    fit(state, lambda net, *_: net.bias.sum(), IMAGES, LABELS, plan, tmp_path / "state.pt")
    assert state.network.bias.item() == pytest.approx(-7.0)


def test_the_gradient_is_no_longer_than_clip(tmp_path):
    """(300, 400) has length 500."""
    state = beginning(1.0, torch.optim.SGD)
    plan = TrainingSchedule(
        total_images=10, batch_size=10, warmup_fraction=0.0, decay_fraction=0.0, max_grad_norm=2.0
    )
    direction = torch.tensor([300.0, 400.0])
    fit(state, lambda net, *_: (net.weight[0, :2] * direction).sum(), IMAGES, LABELS, plan,
        tmp_path / "state.pt")  # fmt: skip
    torch.testing.assert_close(state.network.weight[0, :2], torch.tensor([1 - 1.2, 1 - 1.6]))


def test_an_epoch_shows_no_image_twice():
    """Ten images in batches of three: three steps an epoch, and one image is left out."""
    epoch = torch.cat(
        [
            batch.indices
            for batch in iter_batches(10, TrainingSchedule(total_images=9, batch_size=3))
        ]
    )
    assert len(epoch) == 9 and len(epoch.unique()) == 9


def test_epochs_have_different_orders():
    seen = [
        b.indices for b in iter_batches(100, TrainingSchedule(total_images=200, batch_size=100))
    ]
    assert torch.equal(seen[0].sort().values, seen[1].sort().values)
    assert not torch.equal(*seen)


def test_a_batch_knows_its_place():
    """25 images in batches of three are nine steps, the last not begun at 25 / 25."""
    found = [
        (b.step, b.epoch, b.progress * 25)
        for b in iter_batches(10, TrainingSchedule(total_images=25, batch_size=3))
    ]
    expected = [(step, step // 3, pytest.approx(3 * step)) for step in range(9)]
    assert found == expected


def test_batches_from_the_middle_are_those_of_the_whole():
    plan = TrainingSchedule(total_images=60, batch_size=3, seed=4)
    whole, rest = list(iter_batches(10, plan)), list(iter_batches(10, plan, first_step=7))
    assert [(b.step, b.epoch, b.indices.tolist()) for b in rest] == [
        (b.step, b.epoch, b.indices.tolist()) for b in whole[7:]
    ]


def test_the_order_belongs_to_the_seed():
    first, other = (
        next(iter_batches(100, TrainingSchedule(total_images=9, batch_size=9, seed=seed)))
        for seed in (0, 1)
    )
    assert not torch.equal(first.indices, other.indices)


def test_pixels_are_between_0_and_1_and_keep_their_labels(tmp_path):
    def loss(network, images, labels, source):
        assert torch.equal(images, IMAGES[labels] / 255)
        return network.bias.sum()

    fit(
        beginning(),
        loss,
        IMAGES,
        LABELS,
        TrainingSchedule(total_images=20, batch_size=5),
        tmp_path / "state.pt",
    )


def test_a_stopped_training_ends_in_the_same_average(tmp_path):
    """With an optimiser that has a memory, a falling rate, noise in the loss, and an average."""
    plan = TrainingSchedule(
        total_images=500,
        batch_size=5,
        warmup_fraction=0.1,
        decay_fraction=0.5,
        ema_rampup_ratio=0.1,
        max_grad_norm=1.0,
    )

    def train(file, **options):
        return fit(
            load_checkpoint(beginning(), file), squared, IMAGES, LABELS, plan, file, **options
        )

    def stop(state):
        if state.images_seen == 350:
            raise KeyboardInterrupt

    whole = train(tmp_path / "whole.pt")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "part.pt", checkpoint_seconds=0.0, callback=stop)
    assert torch.load(tmp_path / "part.pt")["seen"] == 350
    again = train(tmp_path / "part.pt")
    assert again.losses == whole.losses
    for kind in ("network", "average"):
        for one, other in zip(
            getattr(whole, kind).parameters(), getattr(again, kind).parameters(), strict=True
        ):
            assert torch.equal(one, other)


def test_ctrl_c_saves_the_step_at_which_it_came(tmp_path):
    """However long ago the last checkpoint was, and between two entries of the curve."""
    plan, file = TrainingSchedule(total_images=500, batch_size=5), tmp_path / "state.pt"

    def interrupted(network, images, labels, source):
        signal.raise_signal(signal.SIGINT)
        return squared(network, images, labels, source)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job of a shell ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(beginning(), interrupted, IMAGES, LABELS, plan, file)
    finally:
        signal.signal(signal.SIGINT, before)
    saved = torch.load(file)
    assert saved["seen"] == 5 and len(saved["recent"]) == 1
