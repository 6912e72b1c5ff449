"""The bytes that a graph keeps, beside numbers worked out by hand."""

import pytest
import torch

from scoreag.defenses.memory_budget import saved_tensor_bytes
from scoreag.diffusion.solver import checkpoint_chain


def leaf(count: int = 1000) -> torch.Tensor:
    return torch.linspace(0.1, 1, count, dtype=torch.float64).requires_grad_()


def test_each_result_that_the_next_function_differentiates_is_kept():
    """exp keeps its result, sin its argument, which is that result: 8000 bytes, once."""
    assert saved_tensor_bytes(lambda: leaf().exp().sin().sum().backward()) == 8000
    assert saved_tensor_bytes(lambda: leaf().exp().sin().cos().sum().backward()) == 16000


def test_what_is_not_kept_any_more_is_not_counted():
    """One graph after the other needs as much as one."""

    def run():
        for _ in range(5):
            leaf().exp().sin().cos().sum().backward()

    assert saved_tensor_bytes(run) == 16000


def test_without_gradients_nothing_is_kept():
    assert saved_tensor_bytes(lambda: leaf().detach().exp().sin()) == 0


@pytest.mark.parametrize("steps", [1, 4])
def test_a_fold_keeps_its_states_and_the_graph_of_one_step(steps):
    """A step keeps its argument's cosine's argument and more; the fold its states."""

    def step(x):
        return x.exp().sin().cos()

    def run():
        checkpoint_chain([step] * steps, leaf()).sum().backward()

    states, graph = 8000 * steps, 16000
    assert saved_tensor_bytes(run) <= states + graph


def test_other_bytes_of_another_type():
    def run():
        x = torch.linspace(0.1, 1, 1000, dtype=torch.float32).requires_grad_()
        x.exp().sin().sum().backward()

    assert saved_tensor_bytes(run) == 4000
