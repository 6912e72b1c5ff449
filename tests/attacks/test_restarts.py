"""Attacks one after the other on the images that resist, and means over a classifier's draws."""

import pytest
import torch

import scoreag
from scoreag.attacks._objective import Objective, margin
from scoreag.attacks._search import init_best, run_sequentially
from scoreag.core.batching import select_noise, select_rows
from scoreag.core.rng import Noise
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.prior import Prior
from scoreag.diffusion.samplers import heun

LABELS = torch.zeros(3, dtype=torch.int64)
IMAGES = torch.tensor([0.9, 0.5, 0.1]).view(3, 1, 1, 1)
NOISE = Noise(0, [10, 11, 12])


def bright(images):
    """Class 1 above a brightness of one half."""
    score = images.mean((1, 2, 3))
    return torch.stack([torch.zeros_like(score) + 0.5, score], 1)


def brighter(by, seen):
    def search(classifier, images, labels, noise):
        seen.append((noise.image_ids, noise.name))
        return (images + by).clamp(0, 1)

    return search


def test_each_attack_sees_only_images_that_resisted_the_earlier_ones():
    seen = []
    searches = [brighter(by, seen) for by in (0.2, 0.1, 0.6, 0.5)]
    found = run_sequentially(searches, bright, IMAGES, LABELS, NOISE)
    assert seen == [((11, 12), ("turn", 0)), ((12,), ("turn", 1)), ((12,), ("turn", 2))]
    assert found.flatten().tolist() == pytest.approx([0.9, 0.7, 0.7])


def test_of_failed_attacks_the_one_with_the_largest_margin_is_returned():
    found = run_sequentially(
        [brighter(by, []) for by in (0.1, 0.3, 0.2)], bright, IMAGES, LABELS, NOISE
    )
    assert found.flatten().tolist()[2] == pytest.approx(0.4)


def test_a_success_that_8_bits_undo_is_no_success():
    """0.5009 is 127.7 / 255 and becomes 128 / 255 = .50196; 0.5002 is 127.55, and 128, too; a
    threshold of 0.5015 lies between what 0.5016 is and what is kept of it, 128 / 255 = .50196."""

    def strict(images):
        score = images.mean((1, 2, 3))
        return torch.stack([torch.zeros_like(score) + 0.5025, score], 1)

    seen = []
    searches = [brighter(0.4027, seen), brighter(0.45, seen)]
    found = run_sequentially(searches, strict, IMAGES[2:], LABELS[2:], select_noise(NOISE, [2]))
    assert len(seen) == 2 and found.item() == pytest.approx(0.55)


def test_the_mean_over_draws_is_that_of_the_calls():
    """Slopes 1, 2, 3, ... call by call: the mean of four is 2.5."""
    calls = iter(range(1, 100))

    def classifier(images):
        score = next(calls) * images.sum((1, 2, 3))
        return torch.stack([torch.zeros_like(score), score], 1)

    slope = Objective(classifier, LABELS, margin, eot_samples=4).loss_gradient(IMAGES)
    assert slope.gradient.flatten().tolist() == pytest.approx([2.5] * 3)
    assert slope.loss.tolist() == pytest.approx([2.25, 1.25, 0.25])
    assert slope.margin.tolist() == slope.loss.tolist()
    lead = Objective(classifier, LABELS, margin, eot_samples=2).mean_margin(IMAGES)
    assert lead.tolist() == pytest.approx([5.5 * 0.9, 5.5 * 0.5, 5.5 * 0.1])


def test_the_best_is_chosen_for_each_image_independently():
    best = init_best(IMAGES).update(IMAGES + 1, torch.tensor([1.0, 0.0, 2.0]))
    best = best.update(IMAGES + 2, torch.tensor([0.0, 1.0, 2.0]))
    assert (best.images - IMAGES).flatten().tolist() == pytest.approx([1.0, 2.0, 1.0])


def mean_or_corner(images):
    """The logits of a victim of two classes."""
    return torch.stack([images.mean((1, 2, 3)), images[:, 0, 0, 0]], 1)


@pytest.fixture
def guarded(two_classes):
    """That classifier behind a purifier, and three images."""
    prior = Prior(two_classes, heun.sample, karras(4), (1, 4, 4), dtype=torch.float64)
    images = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return scoreag.defend(mean_or_corner, prior, similarity=20.0, sigma_start=1.0, steps=2), images


def test_a_replayed_defense_answers_for_the_selected_rows(guarded):
    defended, images = guarded
    for whole in (defended.fix_randomness(1), defended.fix_randomness(1, [7, 8, 9])):
        assert torch.equal(select_rows(whole, [2, 0])(images[[2, 0]]), whole(images)[[2, 0]])
    assert select_rows(mean_or_corner, [0]) is mean_or_corner


def test_draws_of_a_row_do_not_depend_on_calls_for_other_rows(guarded):
    """Row 2 alone has at its second call the draws of the second call of all three."""
    defended, images = guarded
    whole, again = defended.fix_randomness(0)(images), defended.fix_randomness(1)(images)
    assert torch.equal(defended(images), whole)
    assert torch.equal(select_rows(defended, [2])(images[2:]), again[2:])
    assert torch.equal(defended(images)[:2], again[:2])
    mixed = defended.fix_randomness([1, 0, 1])
    assert torch.equal(mixed(images), torch.stack([again[0], whole[1], again[2]]))
    assert torch.equal(select_rows(mixed, [2, 1])(images[[2, 1]]), mixed(images)[[2, 1]])
