"""Muon against singular values from elsewhere, torch's AdamW, and its own memory."""

import pytest
import torch
from torch import nn

from scoreag.diffusion.networks.unet import UNet
from scoreag.training.optimization import Muon, hidden_matrices, orthogonalize

SHAPES = [(8, 8), (16, 72), (72, 16)]


@pytest.mark.parametrize("shape", SHAPES)
def test_all_directions_of_a_step_count_about_alike(shape):
    """Singular values end near 1, on the singular vectors that torch's decomposition finds."""
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    inside = u.T @ orthogonalize(matrix) @ v.T
    values = inside.diagonal()
    assert values.min() > 0.65 and values.max() < 1.25
    assert (inside - values.diag()).abs().max() < 1e-4


@pytest.mark.parametrize("shape", SHAPES)
def test_a_first_step_has_elements_of_the_size_of_adams(shape):
    weight = nn.Parameter(torch.zeros(shape))
    weight.grad = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    Muon([weight], [], lr=1.0, weight_decay=0.0).step()
    assert 0.15 < weight.detach().square().mean().sqrt() < 0.25


def test_what_is_no_matrix_moves_as_with_torchs_adamw():
    ours = nn.Parameter(torch.linspace(-1, 1, 7))
    theirs = nn.Parameter(ours.detach().clone())
    settings = {"betas": (0.9, 0.99), "eps": 1e-8}
    a = Muon([], [ours], adam_lr=0.01, weight_decay=0.1, **settings)
    b = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1, **settings)
    for k in range(5):
        ours.grad = torch.randn(7, generator=torch.Generator().manual_seed(k))
        theirs.grad = ours.grad.clone()
        a.step()
        b.step()
    assert torch.allclose(ours, theirs, rtol=1e-6)


def test_its_memory_outlives_a_checkpoint():
    def fresh():
        layer = nn.Linear(4, 6)
        with torch.no_grad():
            layer.weight.copy_(torch.linspace(-1, 1, 24).view(6, 4))
            layer.bias.zero_()
        return layer, Muon([layer.weight], [layer.bias])

    def steps(layer, optimizer, which):
        for k in which:
            x = torch.randn(5, 4, generator=torch.Generator().manual_seed(k))
            optimizer.zero_grad()
            layer(x).square().sum().backward()
            optimizer.step()

    whole, optimizer = fresh()
    steps(whole, optimizer, range(6))
    first, before = fresh()
    steps(first, before, range(3))
    second, after = fresh()
    second.load_state_dict(first.state_dict())
    after.load_state_dict(before.state_dict())
    steps(second, after, range(3, 6))
    assert torch.equal(second.weight, whole.weight) and torch.equal(second.bias, whole.bias)


def test_matrices_are_the_hidden_weights():
    network = UNet((3, 16, 16), 3, channels=16, multipliers=[1])
    found = {id(p) for p in hidden_matrices(network, [network.first, network.last])}
    names = {name for name, p in network.named_parameters() if id(p) in found}
    assert "middle.conv1.weight" in names and "middle.attention.qkv.weight" in names
    assert not names & {"first.weight", "last.2.weight", "told.label.weight", "middle.conv1.bias"}


def test_a_closure_is_refused():
    with pytest.raises(ValueError, match="no closure"):
        Muon([nn.Parameter(torch.ones(2, 2))], []).step(lambda: 0.0)
