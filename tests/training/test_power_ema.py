"""Power-function averages against the sums and integrals that they stand for."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from scoreag.training.checkpoint import init_state
from scoreag.training.optimization import (
    is_snapshot_due,
    load_posthoc_average,
    profile_overlap,
    solve_posthoc_weights,
    update_power_ema,
    width_to_gamma,
    write_snapshot,
)
from scoreag.training.schedule import TrainingSchedule

STEPS = 400
WIDTHS = (0.05, 0.10)


def trajectory(count=STEPS, seed=0):
    """A weight that drifts and jitters, as in a training: a random walk, falling, and noise."""
    source = np.random.default_rng(seed)
    walk = source.standard_normal(count).cumsum() / math.sqrt(count)
    return 1 + np.exp(-np.arange(count) / 80) + 0.3 * walk + 0.1 * source.standard_normal(count)


def followed(values, width):
    """The running average of a weight that takes these values."""
    network, average = (nn.Linear(1, 1, bias=False).double() for _ in range(2))
    found = []
    for step, value in enumerate(values, start=1):
        network.weight.data.fill_(value)
        update_power_ema(average, network, step, width)
        found.append(average.weight.item())
    return np.array(found)


def deviation(gamma, n=1_000_000):
    """Of the density ``(gamma + 1) x^gamma`` on [0, 1], by the midpoint rule."""
    x = (np.arange(n) + 0.5) / n
    p = (gamma + 1) * x**gamma / n
    mean = (p * x).sum()
    return math.sqrt((p * (x - mean) ** 2).sum())


@pytest.mark.parametrize("width", [0.05, 0.10, 0.2, 0.28])
def test_the_width_is_the_deviation_of_the_profile(width):
    assert deviation(width_to_gamma(width)) == pytest.approx(width, rel=1e-5)


def test_the_exponents_of_the_paper():
    """Karras et al. (2024): widths 0.05 and 0.10 are gamma 16.97 and 6.94."""
    assert [width_to_gamma(w) for w in WIDTHS] == pytest.approx([16.97, 6.94], abs=0.005)


@pytest.mark.parametrize("width", [0.0, -0.1, 0.3, math.nan])
def test_a_width_that_no_profile_has_is_refused(width):
    with pytest.raises(ValueError, match=r"the width of an average is .*above 0 to 0\.28"):
        width_to_gamma(width)


@pytest.mark.parametrize("width", [0.05, 0.15])
def test_the_running_average_is_the_sum_of_all_weights(width):
    """Written out: step i counts ``(1 - beta_i) beta_(i+1) ... beta_n``."""
    values, power = trajectory(60), width_to_gamma(width) + 1
    weights = [
        (1 - (1 - 1 / i) ** power) * math.prod((1 - 1 / j) ** power for j in range(i + 1, 61))
        for i in range(1, 61)
    ]
    assert sum(weights) == pytest.approx(1)
    assert followed(values, width)[-1] == pytest.approx(np.dot(weights, values))


def test_the_running_average_weighs_by_a_power_of_time():
    """``(i / n)^(gamma + 1) - ((i - 1) / n)^(gamma + 1)``: the profile's integral over a step."""
    values, power = trajectory(), width_to_gamma(0.1) + 1
    edges = (np.arange(STEPS + 1) / STEPS) ** power
    assert followed(values, 0.1)[-1] == pytest.approx(np.dot(np.diff(edges), values))


def test_the_first_step_is_the_average():
    assert followed([3.0], 0.1)[0] == 3.0


@pytest.mark.parametrize("one, other", [((1.0, 2.0), (1.0, 2.0)), ((0.7, 3.0), (1.0, 6.9))])
def test_the_product_of_two_profiles_is_their_integral(one, other):
    n = 1_000_000
    x = (np.arange(n) + 0.5) / n

    def profile(t, gamma):
        return np.where(x < t, (gamma + 1) * x**gamma / t ** (gamma + 1), 0)

    expected = (profile(*one) * profile(*other)).sum() / n
    assert profile_overlap(one, other) == pytest.approx(expected, rel=1e-5)


def test_an_average_that_was_kept_is_itself():
    times = [t for t in (100.0, 200.0, 300.0) for _ in WIDTHS]
    found = solve_posthoc_weights(times, WIDTHS * 3, 300.0, WIDTHS[1])
    assert found == pytest.approx([0, 0, 0, 0, 0, 1], abs=1e-5)


class Recorded:
    """A training whose only weight takes given values, with snapshots of its averages."""

    def __init__(self, folder, values, snapshots=16, batch=4):
        self.schedule = TrainingSchedule(
            total_images=batch * len(values),
            batch_size=batch,
            ema_widths=WIDTHS,
            n_snapshots=snapshots,
        )
        network = nn.Linear(1, 1, bias=False)
        state = init_state(network, torch.optim.SGD(network.parameters()), len(WIDTHS))
        for step, value in enumerate(values, start=1):
            network.weight.data.fill_(value)
            state.images_seen = batch * step
            for average, width in zip(state.averages, WIDTHS, strict=True):
                update_power_ema(average, network, step, width)
            if is_snapshot_due(state.images_seen, self.schedule):
                write_snapshot(state, self.schedule, folder)
        self.state = state


@pytest.mark.parametrize("width", [0.03, 0.06, 0.08, 0.15])
def test_any_width_can_be_made_afterwards(tmp_path, width):
    """Half precision errs by 2^-11 of a weight of 0.8, and coefficients are up to 3.

    The averages of 0.03 and 0.15 are 0.1 apart, those that were kept 0.03.
    """
    values = trajectory()
    Recorded(tmp_path, values)
    found = load_posthoc_average(tmp_path, width)["weight"].item()
    assert found == pytest.approx(followed(values, width)[-1], abs=0.8 * 3 * 2**-11)


def test_snapshots_are_as_many_as_planned_and_the_last_is_the_end(tmp_path):
    made = Recorded(tmp_path, trajectory(50), snapshots=7)
    files = sorted((tmp_path / "snapshots").iterdir())
    assert len(files) == 7 and files[-1].stem == f"{made.schedule.total_images:09d}"


def test_fewer_steps_than_snapshots_leave_one_each(tmp_path):
    Recorded(tmp_path, trajectory(3), snapshots=7)
    assert len(list((tmp_path / "snapshots").iterdir())) == 3


def test_a_kept_width_comes_back_to_half_precision(tmp_path):
    made = Recorded(tmp_path, trajectory())
    for width, average in zip(WIDTHS, made.state.averages, strict=True):
        found = load_posthoc_average(tmp_path, width)["weight"].item()
        assert found == pytest.approx(average.weight.item(), rel=2**-10)


def test_without_snapshots_there_is_no_average(tmp_path):
    with pytest.raises(ValueError, match="has no snapshots to make an average of"):
        load_posthoc_average(tmp_path, 0.1)


def test_a_damaged_snapshot_is_named(tmp_path):
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "snapshots" / "000000100.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"000000100\.safetensors is no snapshot"):
        load_posthoc_average(tmp_path, 0.1)


def test_two_kinds_of_average_are_refused():
    with pytest.raises(ValueError, match="are two kinds of average"):
        TrainingSchedule(total_images=10, batch_size=1, ema_rampup_ratio=0.1, ema_widths=WIDTHS)
