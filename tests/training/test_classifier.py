from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from scoreag.core.noise import generator
from scoreag.training.classifier import (
    adversarial_loss,
    fgsm_rs,
    look_ahead,
    optimizer,
    plain_loss,
    start,
    train,
)
from scoreag.training.loop import Plan, begin
from scoreag.training.recipes import PRESETS, Recipe

TINY = Recipe(
    network="plain_cnn",
    options={"image_shape": [3, 8, 8], "classes": 2, "convolutions": [[4, 4, 2]], "hidden": 8},
    plan=Plan(images=1600, batch=16),
    sides=((1.0, 8),),
    shift=1,
)


@pytest.fixture(scope="module")
def bright_and_dark():
    """Class 1 is brighter than class 0 by two standard deviations a pixel."""
    labels = torch.arange(64) % 2
    noise = torch.rand((64, 3, 8, 8), generator=generator("data"))
    return (120 * noise + 80 * labels[:, None, None, None]).to(torch.uint8), labels


@pytest.mark.parametrize("radius", [0.0, 8 / 255], ids=["plain", "adversarial"])
def test_two_unlike_classes_are_told_apart(bright_and_dark, tmp_path, radius):
    images, labels = bright_and_dark
    state = train(replace(TINY, radius=radius), images, labels, tmp_path / "state.pt")
    network = state.average.eval()
    predicted = network((images / 255 - 0.47) / 0.245).argmax(1)
    assert (predicted == labels).all()


@pytest.mark.parametrize("lookahead", [0, 20])
def test_a_stopped_training_goes_on_as_if_it_had_not_been(bright_and_dark, tmp_path, lookahead):
    recipe = replace(TINY, lookahead=lookahead)
    whole = train(recipe, *bright_and_dark, tmp_path / "whole.pt")

    def stop(state):
        if state.seen >= 1000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, *bright_and_dark, tmp_path / "part.pt", watch=stop, save_every=0.0)
    resumed = train(recipe, *bright_and_dark, tmp_path / "part.pt")
    assert resumed.losses == whole.losses
    for name, tensor in whole.average.state_dict().items():
        assert torch.equal(tensor, resumed.average.state_dict()[name]), name


def test_the_adversary_stays_in_the_ball_and_in_the_range():
    images = torch.rand(20, 3, 4, 4)
    loss = lambda x: (x * torch.linspace(-1, 1, 4)).sum()  # noqa: E731
    moved = fgsm_rs(loss, images, 0.1, 0.125, generator(0))
    assert (moved - images).abs().max() <= 0.1 + 1e-6
    assert moved.min() >= 0 and moved.max() <= 1
    assert (moved - images).abs().max() > 0.09


def test_the_adversary_climbs_by_its_stride_from_a_random_place():
    """Grey images, gradient +1: d + 0.125 within the ball of 0.1, d uniform in it."""
    images = torch.full((200, 3, 4, 4), 0.5)
    change = fgsm_rs(lambda x: x.sum(), images, 0.1, 0.125, generator(0)) - 0.5
    assert change.min() >= 0.025 - 1e-6
    at_the_border = (change > 0.1 - 1e-6).float().mean().item()  # where d > -0.025
    assert at_the_border == pytest.approx(0.625, abs=5 * (0.625 * 0.375 / change.numel()) ** 0.5)


def test_the_adversarial_loss_is_the_plain_one_at_the_adversary():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    images, labels = torch.rand(5, 3, 2, 2), torch.tensor([0, 1, 1, 0, 1])
    plain = partial(plain_loss, mean=(0.5,), std=(0.25,))
    found = adversarial_loss(network, images, labels, generator(0), plain=plain, radius=0.1)

    def loss(x):
        return cross_entropy(network((x - 0.5) / 0.25), labels)

    moved = fgsm_rs(loss, images, 0.1, 0.125, generator(0))
    torch.testing.assert_close(found, loss(moved))
    assert found > loss(images)


def test_the_loss_normalises_each_colour():
    images = torch.tensor([0.5, 0.75, 0.0]).view(1, 3, 1, 1)
    found = plain_loss(
        nn.Flatten(), images, torch.tensor([1]), generator(0), (0.5, 0.25, 0.5), (0.5, 0.25, 0.25)
    )
    logits = torch.tensor([0.0, 2.0, -2.0])
    torch.testing.assert_close(found, -logits.softmax(0)[1].log())


def test_fast_biases_decay_as_slowly_as_the_rest():
    groups = optimizer(start(PRESETS["cifar10-judge"], random_images()).network,
                       PRESETS["cifar10-judge"]).param_groups  # fmt: skip
    slow, fast = (group["lr"] * group["weight_decay"] for group in groups)
    assert fast == pytest.approx(slow) and groups[1]["lr"] == 64 * groups[0]["lr"]


def test_looking_ahead_moves_the_network_to_its_average():
    network = nn.Linear(1, 1, bias=False)
    state = begin(network, torch.optim.SGD(network.parameters(), lr=1.0))
    plan = Plan(images=100, batch=10)
    state.average.weight.data.fill_(1.0)
    network.weight.data.fill_(3.0)
    state.seen = 50
    look_ahead(state, plan, every=5)
    kept = 0.95**5 / 8
    assert network.weight.item() == pytest.approx(3 - 2 * kept)
    assert state.average.weight.item() == network.weight.item()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_takes_cifar_images(name):
    network = start(PRESETS[name], random_images()).network.eval()
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 10)


def test_the_start_belongs_to_the_seed_and_leaves_the_global_state_alone():
    before = torch.random.get_rng_state()
    first, second = (start(TINY, random_images()).network for _ in range(2))
    assert all(map(torch.equal, first.parameters(), second.parameters()))
    assert torch.equal(before, torch.random.get_rng_state())


def random_images():
    return torch.randint(256, (10, 3, 32, 32), generator=generator(0)).to(torch.uint8)
