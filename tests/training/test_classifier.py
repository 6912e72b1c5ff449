from dataclasses import replace

import pytest
import torch
from torch import nn

from scoreag.core.rng import Stream
from scoreag.training.checkpoint import init_state
from scoreag.training.classifier_training import (
    apply_lookahead,
    augment,
    build_loss,
    build_optimizer,
    build_state,
    train,
)
from scoreag.training.losses import classification_loss
from scoreag.training.recipes import CLASSIFIER_PRESETS as PRESETS
from scoreag.training.recipes import Recipe
from scoreag.training.schedule import Batch, TrainingSchedule

TINY = Recipe(
    network="small_cnn",
    options={"image_shape": [3, 8, 8], "classes": 2, "convolutions": [[4, 4, 2]], "hidden": 8},
    schedule=TrainingSchedule(total_images=1600, batch_size=16),
    crop_schedule=((1.0, 8),),
    random_shift=1,
)


@pytest.fixture(scope="module")
def bright_and_dark():
    """Class 1 is brighter than class 0 by two standard deviations a pixel."""
    labels = torch.arange(64) % 2
    noise = Stream("data").uniform((64, 3, 8, 8))
    return (120 * noise + 80 * labels[:, None, None, None]).to(torch.uint8), labels


@pytest.mark.parametrize("adversary", ["", "fgsm-rs", "n-fgsm", "pgd", "trades"])
def test_two_unlike_classes_are_told_apart(bright_and_dark, tmp_path, adversary):
    images, labels = bright_and_dark
    recipe = replace(TINY, adversarial=adversary, eps=8 / 255 if adversary else 0.0)
    state = train(recipe, images, labels, tmp_path / "state.pt")
    network = state.average.eval()
    predicted = network((images / 255 - 0.47) / 0.245).argmax(1)
    assert (predicted == labels).all()


@pytest.mark.parametrize("lookahead", [0, 20])
def test_a_stopped_training_goes_on_as_if_it_had_not_been(bright_and_dark, tmp_path, lookahead):
    recipe = replace(TINY, lookahead=lookahead)
    whole = train(recipe, *bright_and_dark, tmp_path / "whole.pt")

    def stop(state):
        if state.images_seen >= 1000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, *bright_and_dark, tmp_path / "part.pt", callback=stop, checkpoint_seconds=0.0)
    resumed = train(recipe, *bright_and_dark, tmp_path / "part.pt")
    assert resumed.losses == whole.losses
    for name, tensor in whole.average.state_dict().items():
        assert torch.equal(tensor, resumed.average.state_dict()[name]), name


def test_the_loss_normalises_each_colour():
    images = torch.tensor([0.5, 0.75, 0.0]).view(1, 3, 1, 1)
    found = classification_loss(
        nn.Flatten(), images, torch.tensor([1]), Stream(0), (0.5, 0.25, 0.5), (0.5, 0.25, 0.25)
    )
    logits = torch.tensor([0.0, 2.0, -2.0])
    torch.testing.assert_close(found, -logits.softmax(0)[1].log())


def test_fast_biases_decay_as_slowly_as_the_rest():
    groups = build_optimizer(build_state(PRESETS["cifar10-judge"], random_images()).network,
                       PRESETS["cifar10-judge"]).param_groups  # fmt: skip
    slow, fast = (group["lr"] * group["weight_decay"] for group in groups)
    assert fast == pytest.approx(slow) and groups[1]["lr"] == 64 * groups[0]["lr"]


def test_looking_ahead_moves_the_network_to_its_average():
    network = nn.Linear(1, 1, bias=False)
    state = init_state(network, torch.optim.SGD(network.parameters(), lr=1.0))
    plan = TrainingSchedule(total_images=100, batch_size=10)
    state.average.weight.data.fill_(1.0)
    network.weight.data.fill_(3.0)
    state.images_seen = 50
    apply_lookahead(state, plan, every=5)
    kept = 0.95**5 / 8
    assert network.weight.item() == pytest.approx(3 - 2 * kept)
    assert state.average.weight.item() == network.weight.item()


def test_without_sides_whole_images_are_seen_as_they_are():
    recipe = replace(TINY, crop_schedule=(), random_shift=0, hflip=False)
    images, batch = torch.rand(3, 1, 5, 9), Batch(0, 0, torch.arange(3), 0.0)
    assert torch.equal(augment(images, batch, Stream(0), recipe), images)


def test_windows_grow_to_the_whole_image_after_the_last_side():
    recipe = replace(TINY, crop_schedule=((0.5, 4),))
    images = torch.rand(3, 3, 6, 9)
    shapes = [
        augment(images, Batch(0, 0, torch.arange(3), done), Stream(0), recipe).shape[2:]
        for done in (0.49, 0.5)
    ]
    assert shapes == [(4, 4), (6, 9)]


def test_only_a_recipe_with_mirrors_mirrors():
    plain = replace(TINY, crop_schedule=(), random_shift=0, hflip=False)
    images, ids = torch.rand(8, 3, 4, 4), torch.arange(8)
    mirrored = augment(images, Batch(0, 0, ids, 0.0), Stream(0), replace(plain, hflip=True))
    turned = (mirrored == images.flip(3)).flatten(1).all(1)
    assert 0 < turned.sum() < 8


def test_smoothing_spreads_a_share_of_the_label_over_all_classes():
    """Two classes: 0.2 of the weight leaves the label, 0.1 of it comes back to it."""
    logit = torch.tensor([[0.0, 2.0]]).view(1, 2, 1, 1)
    recipe = replace(TINY, label_smoothing=0.2, mean=(0.0,), std=(1.0,))
    found = build_loss(recipe)(nn.Flatten(), logit, torch.tensor([1]), Stream(0))
    log_p = logit.flatten().log_softmax(0)
    torch.testing.assert_close(found, -0.9 * log_p[1] - 0.1 * log_p[0])


def test_the_average_of_the_plan_is_what_is_used_in_the_end(bright_and_dark, tmp_path):
    recipe = replace(TINY, schedule=replace(TINY.schedule, ema_rampup_ratio=0.5))
    state = train(recipe, *bright_and_dark, tmp_path / "state.pt")
    pairs = zip(state.network.parameters(), state.average.parameters(), strict=True)
    assert not any(torch.equal(now, average) for now, average in pairs)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"adversarial": "pdg", "eps": 0.1}, "no adversarial method 'pdg'; did you mean 'pgd'"),
        ({"eps": 0.1}, "eps is 0.1 and adversarial ''; write both"),
        ({"adversarial": "pgd"}, "eps is 0 and adversarial 'pgd'; write both"),
        (
            {"adversarial": "pgd", "eps": 0.1, "attack_steps": 0},
            "attack_steps 0, .* expected a step_size above 0",
        ),
        ({"adversarial": "fgsm-rs", "eps": 0.1, "attack_steps": 2}, "fgsm-rs takes 1 step, not 2"),
        ({"adversarial": "n-fgsm", "eps": 0.1, "attack_steps": 3}, "n-fgsm takes 1 step, not 3"),
        ({"extra_fraction": 1.0}, "extra_fraction is 1; expected 0 or a fraction, e.g. 0.7"),
        (
            {"lookahead": 5, "schedule": TrainingSchedule(100, 10, ema_rampup_ratio=0.1)},
            "lookahead 5 is an average .* another one .ema_rampup_ratio 0.1",
        ),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **changes)


def test_the_start_belongs_to_the_seed_and_leaves_the_global_state_alone():
    before = torch.random.get_rng_state()
    first, second = (build_state(TINY, random_images()).network for _ in range(2))
    assert all(map(torch.equal, first.parameters(), second.parameters()))
    assert torch.equal(before, torch.random.get_rng_state())


def random_images():
    return Stream(0).integers(256, (10, 3, 32, 32)).to(torch.uint8)
