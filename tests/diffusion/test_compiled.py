"""Compiled networks: the same numbers, second derivatives too, and one warning where it fails.

The compiler of these tests is torch's tracer without code generation, which takes a second.
"""

import copy
import warnings

import pytest
import torch
from torch import nn

import scoreag
import tiny
from scoreag.diffusion.compiled import CompiledNetwork
from scoreag.diffusion.guidance import guide
from scoreag.diffusion.likelihoods import reconstruction
from scoreag.diffusion.parameterizations import Preconditioned, edm


class Small(nn.Module):
    """A network of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 1)

    def forward(self, x, time, labels=None):
        return self.last(torch.sin(self.conv(x) + time.view(-1, 1, 1, 1)))


class Traced:
    """Counts the calls that arrive at the compiled function."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, network):
        compiled = torch.compile(network, dynamic=False, backend="aot_eager")

        def call(*inputs):
            self.calls += 1
            return compiled(*inputs)

        return call


@pytest.fixture
def network():
    return tiny.filled(Small(), 0)


def pair(network, compile):
    plain, compiled = Preconditioned(network, edm()), Preconditioned(network, edm())
    compiled.compiled = CompiledNetwork(network, compile)
    return plain, compiled


def test_samples_and_gradients_are_those_of_the_network(network):
    """First derivatives go through the compiled function; second ones, of a chain, do not."""
    trace = Traced()
    plain, compiled = pair(network, trace)
    x, sigma = torch.randn(2, *tiny.SHAPE), torch.tensor(0.7)
    near = reconstruction(torch.zeros_like(x), 10.0)
    with torch.no_grad():
        for wrap in (lambda model: model, lambda model: guide(model, near)):
            torch.testing.assert_close(wrap(compiled)(x, sigma), wrap(plain)(x, sigma))
    assert trace.calls == 2
    leaf = x.clone().requires_grad_()
    found = [
        torch.autograd.grad(guide(model, near)(leaf, sigma).square().sum(), leaf)[0]
        for model in (plain, compiled)
    ]
    torch.testing.assert_close(*found)
    assert trace.calls == 2


def test_where_compiling_fails_the_network_itself_is_called_after_one_warning(network):
    def fails(_):
        def call(*inputs):
            raise RuntimeError("no C++ compiler\nwas found")

        return call

    plain, compiled = pair(network, fails)
    x, sigma = torch.randn(2, *tiny.SHAPE), torch.tensor(0.7)
    with torch.no_grad():
        with pytest.warns(UserWarning, match="runs as it is: no C\\+\\+ compiler was found"):
            first = compiled(x, sigma)
        with warnings.catch_warnings(action="error"):
            second = compiled(x, sigma)
    assert torch.equal(first, plain(x, sigma)) and torch.equal(second, first)


def test_a_mistake_of_the_caller_is_told_as_such(network):
    _, compiled = pair(network, Traced())
    with pytest.raises(RuntimeError, match="channels"):
        compiled(torch.zeros(1, 5, 8, 8), torch.tensor(1.0))


def test_a_copy_has_weights_of_its_own(network):
    _, compiled = pair(network, Traced())
    other = copy.deepcopy(compiled)
    assert other.compiled.network is other.network is not network


def test_a_loaded_model_says_that_it_is_compiled(tmp_path):
    prior = scoreag.load_prior(tiny.write_score_model(tmp_path), compile=True)
    assert prior.metadata["compiled"] is True
    assert prior.model.compiled.network is prior.model.network
