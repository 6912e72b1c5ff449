"""A linear classifier: the best change within a ball is known, and so is its margin."""

import pytest
import torch

from scoreag.attacks import apgd, auto_ensemble, fgsm, low_frequency, pgd, square
from scoreag.attacks.apgd import compute_checkpoints

WEIGHTS = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double() / 10
EPSILON = {"Linf": 0.05, "L2": 0.5}
COUNT = 3


def linear(images):
    return images.flatten(1) @ WEIGHTS.flatten(1).T


def best_margin(label: int, norm: str) -> float:
    """At gray: the largest of ``(w_j - w_y) . x + epsilon |w_j - w_y|``, in the dual norm."""
    apart = (WEIGHTS - WEIGHTS[label]).flatten(1)
    gained = apart.norm(1 if norm == "Linf" else 2, dim=1)
    reached = 0.5 * apart.sum(1) + EPSILON[norm] * gained
    return max(value.item() for j, value in enumerate(reached) if j != label)


def reached(attack, label=0):
    images = torch.full((COUNT, 3, 8, 8), 0.5, dtype=torch.float64)
    found = attack(linear, images, torch.full((COUNT,), label), image_ids=range(COUNT))
    logits = linear(found)
    others = logits.clone()
    others[:, label] = -torch.inf
    return (others.amax(1) - logits[:, label]).tolist()


def likely() -> int:
    """The predicted class of a gray image, so that there is something to attack."""
    return int(linear(torch.full((1, 3, 8, 8), 0.5, dtype=torch.float64)).argmax())


@pytest.mark.parametrize("norm", EPSILON)
@pytest.mark.parametrize(
    "attack",
    [
        lambda ball: pgd.PGD(**ball, return_iterate="best", step_size=ball["eps"]),
        lambda ball: pgd.PGD(**ball, restarts=2, step_size=ball["eps"]),
        lambda ball: apgd.APGD(**ball),
        lambda ball: apgd.APGD(**ball, n_target_classes=3),
    ],
    ids=["pgd", "pgd-restarts", "apgd", "apgd-targets"],
)
def test_the_margin_is_the_largest_in_the_ball(attack, norm):
    label = likely()
    best = best_margin(label, norm)
    found = reached(attack({"eps": EPSILON[norm], "norm": norm, "loss": "margin"}), label)
    assert best > 0.1
    assert found == pytest.approx([best] * COUNT, abs=1e-6)


@pytest.mark.parametrize("norm", EPSILON)
def test_the_ensemble_fools_wherever_a_change_in_the_ball_does(norm):
    """Down to 1 % above the smallest radius at which any does."""
    label = likely()
    apart = (WEIGHTS - WEIGHTS[label]).flatten(1)
    gained = apart.norm(1 if norm == "Linf" else 2, dim=1)
    needed = [
        -0.5 * a.sum() / g for j, (a, g) in enumerate(zip(apart, gained, strict=True)) if j != label
    ]
    attack = auto_ensemble.AutoEnsemble(
        eps=1.01 * float(min(needed)), norm=norm, steps=50, n_queries=0
    )
    assert 0 < attack.eps < EPSILON[norm]
    assert all(value > 0 for value in reached(attack, label))


@pytest.mark.parametrize("norm", EPSILON)
def test_one_step_of_fgsm_is_enough_against_two_classes(norm):
    """With two classes the gradient points the same way everywhere."""
    images = torch.full((1, 3, 8, 8), 0.5, dtype=torch.float64)
    attack = fgsm.FGSM(eps=EPSILON[norm], norm=norm)
    found = attack(lambda x: linear(x)[:, :2], images, torch.tensor([0]), image_ids=[0])
    toward = WEIGHTS[1] - WEIGHTS[0]
    unit = toward.sign() if norm == "Linf" else toward / toward.norm()
    assert torch.allclose(found[0], images[0] + EPSILON[norm] * unit, atol=1e-12)


@pytest.mark.parametrize("norm, share", [("Linf", 0.7), ("L2", 0.45)])
def test_square_comes_close_without_a_gradient(norm, share):
    """The share of the way to the optimum; success would end the search, and is out of reach."""
    label = likely()
    start, best = reached(lambda *given, **_: given[1], label)[0], best_margin(label, norm)
    offset = torch.zeros(4, dtype=torch.float64)
    offset[label] = 100.0

    def certain(images):
        assert not images.requires_grad
        return linear(images) + offset

    images = torch.full((COUNT, 3, 8, 8), 0.5, dtype=torch.float64)
    attack = square.Square(eps=EPSILON[norm], norm=norm, n_queries=400, p_init=0.3)
    found = attack(certain, images, torch.full((COUNT,), label), image_ids=range(COUNT))
    logits = linear(found)
    lead = logits.scatter(1, torch.full((COUNT, 1), label), -torch.inf).amax(1) - logits[:, label]
    assert ((lead - start) / (best - start)).min() > share


def test_the_checkpoints_are_those_of_the_paper():
    """p: 0, .22, .41, .57, .70, .80, .87, .93, .99."""
    assert compute_checkpoints(100) == [0, 22, 41, 57, 70, 80, 87, 93, 99]
    assert compute_checkpoints(1000) == [0, 220, 410, 570, 700, 800, 870, 930, 990]


def test_apgd_converges_to_a_maximum_inside_the_ball():
    """Steps of twice the radius pass it in every pixel; halved at 8 checkpoints they miss it by
    2 / 2^8 of the radius, and unhalved ones by about a radius."""
    grain = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    peak = 0.5 + 0.05 * (2 * grain - 1)

    def classifier(images):
        score = -(images - peak).abs().mean((1, 2, 3))
        return torch.stack([torch.zeros_like(score), score], 1)

    images = torch.full((1, 1, 8, 8), 0.5, dtype=torch.float64)
    attack = apgd.APGD(eps=0.05, loss="margin")
    found = attack(classifier, images, torch.tensor([0]), image_ids=[0])
    assert (found - peak).abs().mean() < 0.05 * 4 / 2**8


def test_restarts_find_the_maximum_that_a_single_start_misses():
    """Two ways up from the middle, the higher one on one side: some starts lie on the other."""

    def classifier(images):
        x = images.mean((1, 2, 3)) - 0.5
        score = torch.where(x > 0, x, -3 * x) - 0.08
        return torch.stack([torch.zeros_like(score), score], 1)

    images = torch.full((16, 1, 1, 1), 0.5, dtype=torch.float64)
    labels = torch.zeros(16, dtype=torch.int64)
    once, often = (
        pgd.PGD(eps=0.05, steps=10, restarts=n)(classifier, images, labels) for n in (1, 8)
    )
    right = [int((classifier(x).argmax(1) == 0).sum()) for x in (once, often)]
    assert right[0] >= 4 and right[1] == 0


def test_low_frequency_finds_the_best_smooth_change_in_l2():
    """Within a subspace, the steepest direction is the projection of the gradient onto it."""
    images = torch.full((1, 3, 8, 8), 0.5, dtype=torch.float64)
    attack = low_frequency.LowFrequency(0.3, norm="L2", frequency_fraction=0.5, step_size=0.3)
    found = attack(lambda x: linear(x)[:, :2], images, torch.tensor([0]), image_ids=[0])
    smooth = low_frequency.low_pass((WEIGHTS[1] - WEIGHTS[0])[None], 0.5)
    assert torch.allclose(found - images, 0.3 * smooth / smooth.norm(), atol=1e-6)
