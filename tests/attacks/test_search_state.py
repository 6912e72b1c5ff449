"""Early stopping: when an image is finished, and that other images do not depend on it."""

from dataclasses import dataclass, field

import pytest
import torch

import scoreag
from scoreag.attacks import apgd, pgd
from scoreag.attacks._objective import Objective, margin
from scoreag.attacks._search import find_misclassified, init_active_set
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.prior import Prior
from scoreag.diffusion.samplers import heun


@dataclass
class Scripted:
    """Errs on row i at its k-th call where ``script[i][k]`` says so; and records the rows."""

    script: list[str]
    rows: tuple[int, ...] = ()
    counts: dict[int, int] = field(default_factory=dict)
    shown: list[tuple[int, ...]] = field(default_factory=list)

    def __call__(self, images):
        rows = self.rows or tuple(range(len(images)))
        self.shown.append(rows)
        leads = []
        for row in rows:
            leads.append(1.0 if self.script[row][self.counts.get(row, 0)] == "x" else -1.0)
            self.counts[row] = self.counts.get(row, 0) + 1
        wrong = images.mean((1, 2, 3)) * 0 + torch.tensor(leads)
        return torch.stack([torch.zeros_like(wrong), wrong], 1)

    def select_rows(self, rows):
        places = tuple(self.rows[i] if self.rows else i for i in rows)
        return Scripted(self.script, places, self.counts, self.shown)


def objective(classifier, draws=1):
    labels = torch.zeros(len(classifier.script), dtype=torch.int64)
    return Objective(classifier, labels, margin, draws)


def images(count):
    return torch.full((count, 1, 2, 2), 0.5)


def test_only_images_misclassified_so_far_are_checked_again():
    classifier = Scripted(["xxx", "x.x", ".xx", "xx."])
    among = torch.tensor([True, True, True, False])
    wrong = find_misclassified(objective(classifier), images(4), 3, among)
    assert wrong.tolist() == [True, False, False, False]
    assert classifier.shown == [(0, 1, 2), (0, 1), (0,)]


def test_fresh_draws_check_an_image_once_all_draws_of_a_gradient_err():
    """Two draws a gradient, one fresh draw: row 0 is finished at once; row 1 errs in one draw only;
    row 2 errs in both and is correct in the fresh draw; it is finished in the next round."""
    classifier = Scripted(["xxx", "x....", "xx.xxx"])
    active_set = init_active_set(objective(classifier, draws=2), 1, images(3))
    slope, active_set = active_set.loss_gradient(images(3))
    assert slope.min_margin.tolist() == [1.0, -1.0, 1.0] and slope.margin.tolist() == [
        1.0,
        0.0,
        1.0,
    ]
    assert active_set.active.tolist() == [False, True, True]
    slope, active_set = active_set.loss_gradient(images(3) + 0.1)
    assert active_set.active.tolist() == [False, True, False] and slope.margin[0] == 0
    everyone = (0, 1, 2)
    assert classifier.shown == [everyone, everyone, (0, 2), (1, 2), (1, 2), (2,)]
    left = active_set.merge_finished(images(3) + 0.2)
    assert left[:, 0, 0, 0].tolist() == pytest.approx([0.5, 0.7, 0.6])


def test_without_early_stopping_all_images_stay_active_without_further_calls():
    classifier = Scripted(["xx", "xx"])
    _, active_set = init_active_set(objective(classifier), 0, images(2)).loss_gradient(images(2))
    assert active_set.active.all() and len(classifier.shown) == 1


def lines(images):
    """Class 1 above a brightness of one half."""
    score = images.mean((1, 2, 3))
    return torch.stack([torch.zeros_like(score), 10 * (score - 0.5)], 1)


def test_early_stopping_ends_at_the_first_success():
    """Without early stopping the image of 0.4 goes to the edge, 0.6; with it, it stays where it
    first erred, at most one step of 0.02 and the rounding to 8 bits beyond 0.5."""
    image, label = torch.full((1, 1, 2, 2), 0.4), torch.tensor([0])
    options = {"eps": 0.2, "steps": 40, "step_size": 0.02}
    far = pgd.PGD(**options)(lines, image, label, image_ids=[3])
    near = pgd.PGD(**options, early_stop_draws=2)(lines, image, label, image_ids=[3])
    assert far.mean().item() == pytest.approx(0.6, abs=1e-6)
    assert 0.5 < near.mean() <= 0.525


@pytest.mark.parametrize("kind", [pgd.PGD, apgd.APGD], ids=["pgd", "apgd"])
def test_an_attack_ends_when_no_image_is_active(kind):
    calls = []

    def counted(x):
        calls.append(len(x))
        return lines(x)

    image, label = torch.full((1, 1, 2, 2), 0.4), torch.tensor([0])
    kind(eps=0.2, steps=60, early_stop_draws=2)(counted, image, label, image_ids=[3])
    assert len(calls) < 30


@pytest.fixture
def defended(two_classes):
    prior = Prior(two_classes, heun.sample, karras(4), (1, 4, 4), dtype=torch.float64)

    def victim(x):
        made.shown.append(len(x))
        score = 40 * (x - 0.5).mean((1, 2, 3)) + 10 * (x[:, 0, 0, 0] - 0.5)
        return torch.stack([-score, score, score - 30], 1)

    def made(draws_of_images=None):
        """With memory for so many draws of one image, or without a limit."""
        settings = {"purifier": "one_step_denoising", "sigma_start": 0.6}
        if draws_of_images is None:
            return scoreag.defend(victim, prior, **settings)
        one = scoreag.defend(victim, prior, draws=2, **settings).config.bytes_per_draw
        return scoreag.defend(victim, prior, max_memory=draws_of_images * one, **settings)

    made.shown = []
    return made


def noisy(count):
    source = torch.Generator().manual_seed(4)
    base = torch.linspace(0.34, 0.5, count, dtype=torch.float64).view(-1, 1, 1, 1)
    grain = torch.randn(count, 1, 4, 4, generator=source, dtype=torch.float64)
    return (base + 0.02 * grain).clamp(0, 1)


@pytest.mark.parametrize("weights", ["mean", "selective"])
@pytest.mark.parametrize("kind", [pgd.PGD, apgd.APGD], ids=["pgd", "apgd"])
def test_the_result_of_an_image_does_not_depend_on_which_others_are_finished(
    defended, kind, weights
):
    """Images of which some are finished early and some never: as one batch and one by one."""
    given, labels = noisy(5), torch.zeros(5, dtype=torch.int64)
    attack = kind(
        eps=0.06, steps=6, eot_samples=3, early_stop_draws=3, restarts=2, eot_weighting=weights
    )
    whole = attack(defended(), given, labels, image_ids=range(5))
    alone = [
        attack(defended().select_rows([i]), given[i : i + 1], labels[i : i + 1], image_ids=[i])
        for i in range(5)
    ]
    assert torch.allclose(whole, torch.cat(alone), rtol=0, atol=1e-12)
    moved = (whole - given).flatten(1).abs().amax(1)
    assert moved.max() <= 0.06 + 1e-9 and (moved > 0.05).any()


@pytest.mark.parametrize("weights", ["mean", "selective"])
def test_draws_that_fit_into_memory_are_one_batch_with_the_same_values(defended, weights):
    """Seven draws of five images: one after the other, and three at once, of which 3 + 3 + 1."""
    given, labels = noisy(5), torch.zeros(5, dtype=torch.int64)
    attack = pgd.PGD(eps=0.06, steps=4, eot_samples=7, early_stop_draws=3, eot_weighting=weights)
    found, shown = [], []
    for room in (None, 3):
        defense = defended(room and 5 * room)
        del defended.shown[:]
        found.append(attack(defense, given, labels, image_ids=range(5)))
        shown.append(defended.shown[1:])  # the first image is looked at before
    assert shown[0][:7] == [5] * 7 and shown[1][:3] == [15, 15, 5]
    assert torch.allclose(*found, rtol=0, atol=1e-12)
    assert (found[0] - given).abs().amax() > 0.05


@pytest.mark.parametrize("seed", [1])
@pytest.mark.parametrize("targets", [0, 2])
@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("stop", [0, 3])
def test_targets_follow_their_images_and_draws(defended, stop, count, targets, seed):
    """Draws one by one, three at once, and each image by itself."""
    given, labels = noisy(count), torch.zeros(count, dtype=torch.int64)
    attack = apgd.APGD(
        eps=0.06, steps=5, eot_samples=4, early_stop_draws=stop, n_target_classes=targets
    )
    one_by_one = attack(defended(), given, labels, seed=seed, image_ids=range(count))
    at_once = attack(defended(3 * count), given, labels, seed=seed, image_ids=range(count))
    alone = [
        attack(
            defended().select_rows([i]),
            given[i : i + 1],
            labels[i : i + 1],
            seed=seed,
            image_ids=[i],
        )
        for i in range(count)
    ]
    for other in (at_once, torch.cat(alone)):
        assert torch.allclose(one_by_one, other, rtol=0, atol=1e-12)
    assert (one_by_one - given).abs().amax() > 0.05


def test_finished_images_are_misclassified_by_unseen_draws(defended):
    """An image that 70 % of the draws misclassify would pass 23 draws in 20 tries in 1 case of
    200."""
    given, labels = noisy(5), torch.zeros(5, dtype=torch.int64)
    defense = defended()
    found = pgd.PGD(eps=0.2, steps=20, eot_samples=3, early_stop_draws=20)(
        defense, given, labels, image_ids=range(5)
    )
    said = torch.stack([defense.fix_randomness(10**9 + k)(found).argmax(1) for k in range(20)])
    assert (said != 0).double().mean() > 0.7
