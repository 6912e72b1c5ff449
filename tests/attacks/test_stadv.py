import pytest
import torch

from scoreag.attacks._search import init_best
from scoreag.attacks.stadv import StAdv, flow_total_variation, warp

IMAGES = torch.rand(2, 3, 6, 5, generator=torch.Generator().manual_seed(0)).double()
STILL = torch.zeros(2, 2, 6, 5, dtype=torch.float64)


def test_no_flow_is_the_image_itself():
    assert torch.allclose(warp(IMAGES, STILL), IMAGES, atol=1e-12)


def test_a_flow_of_whole_pixels_reads_the_neighbor_and_repeats_the_edge():
    right, down = STILL.clone(), STILL.clone()
    right[:, 0], down[:, 1] = 1.0, 2.0
    assert torch.allclose(warp(IMAGES, right)[..., :-1], IMAGES[..., 1:])
    assert torch.allclose(warp(IMAGES, right)[..., -1], IMAGES[..., -1])
    assert torch.allclose(warp(IMAGES, down)[:, :, :-2], IMAGES[:, :, 2:])


def test_half_a_pixel_is_the_mean_of_two():
    half = STILL.clone()
    half[:, 0] = 0.5
    middle = (IMAGES[..., 1:] + IMAGES[..., :-1]) / 2
    assert torch.allclose(warp(IMAGES, half)[..., :-1], middle)


def test_total_variation_counts_each_pair_of_neighbors_once():
    """One pixel inside moved by (3, 4): its four neighbors are each 5 away."""
    flow = STILL.clone()
    flow[0, :, 2, 2] = torch.tensor([3.0, 4.0])
    assert flow_total_variation(flow).tolist() == pytest.approx([20.0, 0.0], abs=1e-4)
    assert flow_total_variation(flow + 7.0).tolist() == pytest.approx([20.0, 0.0], abs=1e-4)


def test_no_pixel_is_read_beyond_the_maximal_displacement():
    """A ramp of one tenth a pixel: what moves by 0.3 of a pixel changes by 0.03 at most."""
    ramp = (torch.arange(8).double() / 10).expand(1, 1, 8, 8).contiguous()

    def darker(images):
        score = -images.mean((1, 2, 3))
        return torch.stack([torch.zeros_like(score), score], 1)

    found = StAdv(max_displacement=0.3)(darker, ramp, torch.tensor([0]), image_ids=[0])
    assert 0.02 < (ramp - found).max() <= 0.03 + 1e-9


def test_of_the_flows_that_fool_the_smoothest_is_returned():
    """However far ahead the others are; and what fools goes before what does not."""
    attack, best = StAdv(), init_best(IMAGES)
    flows = [STILL + bend * torch.arange(6.0).double()[:, None] for bend in (0.0, 0.3, 0.1, 0.2)]
    leads = [torch.tensor([lead, -1.0]).double() for lead in (-0.1, 9.0, 0.5, 1.0)]
    for flow, lead in zip(flows, leads, strict=True):
        best = attack._update_best(best, IMAGES, flow, lead)
    assert torch.equal(best.images[0], warp(IMAGES, flows[2])[0])
    assert torch.equal(best.images[1], IMAGES[1])
