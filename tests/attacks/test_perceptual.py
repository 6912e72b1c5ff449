"""Attacks in a perceptual ball, with an embedding whose optimum is known."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from attack_world import lpips
from scoreag.attacks import lpa, ppgd
from scoreag.attacks.ppgd import embedding_distance, project_by_bisection

GRAY = torch.full((2, 1, 2, 2), 0.5, dtype=torch.float64)
SCALES = torch.tensor([1.0, 2.0, 3.0, 0.5], dtype=torch.float64)
GRADIENT = torch.tensor([1.0, -1.0, 2.0, 1.0], dtype=torch.float64)


@dataclass(frozen=True)
class Scaled:
    """Each pixel times its own number: a ball is an ellipsoid."""

    def embed(self, images: Tensor) -> Tensor:
        return images.flatten(1) * SCALES


def linear(images):
    score = images.flatten(1) @ GRADIENT
    return torch.stack([torch.zeros_like(score), score], 1)


def best_direction() -> Tensor:
    """``(J^T J)^-1 g``, of length 1 in the embedding."""
    direction = GRADIENT / SCALES**2
    return direction / (SCALES * direction).norm()


def test_the_squared_distance_of_embeddings_is_lpips():
    source = torch.Generator().manual_seed(1)
    a, b = (torch.rand(2, 3, 32, 32, generator=source).double() for _ in range(2))
    metric = lpips()
    assert torch.allclose(embedding_distance(metric.embed(a), metric.embed(b)), metric(a, b))


def test_the_steepest_step_is_that_of_the_ellipsoid():
    gradient = GRADIENT.view(1, 1, 2, 2).expand(2, -1, -1, -1)
    found = ppgd.solve_steepest_step(Scaled(), GRAY, gradient, 0.1, cg_iterations=4)
    assert torch.allclose(found.flatten(1), 0.1 * best_direction().expand(2, -1))


def test_bisection_ends_inside_and_close_to_the_edge():
    moved = GRAY + 0.3 * torch.tensor([[[[1.0]]], [[[0.01]]]]).double()
    found = project_by_bisection(Scaled(), GRAY, moved, 0.04)
    away = embedding_distance(Scaled().embed(found), Scaled().embed(GRAY))
    assert 0.04 * (1 - 2 / 4096 * 6) < away[0] <= 0.04
    assert torch.equal(found[1], moved[1])


def test_ppgd_reaches_the_best_point_of_the_ellipsoid():
    attack = ppgd.PPGD(eps=0.01, cg_iterations=4, loss="margin", lpips=Scaled())
    found = attack(linear, GRAY, torch.tensor([0, 0]), image_ids=[0, 1])
    best = 0.1 * (GRADIENT * best_direction()).sum()
    gained = linear(found)[:, 1] - linear(GRAY)[:, 1]
    assert torch.allclose(gained, best.expand(2), rtol=1e-3) and (gained <= best + 1e-9).all()


def test_lpa_comes_close_to_the_best_point():
    attack = lpa.LPA(eps=0.01, confidence=10.0, lpips=Scaled())
    found = attack(linear, GRAY, torch.tensor([0, 0]), image_ids=[0, 1])
    best = 0.1 * (GRADIENT * best_direction()).sum()
    gained = linear(found)[:, 1] - linear(GRAY)[:, 1]
    assert (gained > 0.8 * best).all() and (gained <= best + 1e-9).all()


@pytest.mark.parametrize("attack", [ppgd.PPGD, lpa.LPA])
def test_missing_lpips_weights_are_reported(attack):
    with pytest.raises(ValueError, match=r"needs the weights of LPIPS: give lpips="):
        attack()(linear, GRAY, torch.tensor([0, 0]), image_ids=[0, 1])
