"""A checkpointed chain has the values and gradients of the composition, and one graph at a time."""

import weakref

import pytest
import torch

from scoreag.core.rng import Noise
from scoreag.diffusion.solver import checkpoint_chain, integrate, ode_derivative
from worlds import pulled

pytestmark = pytest.mark.usefixtures("in_double_precision")
X = torch.tensor([[0.3, -0.7, 1.1], [0.2, 0.9, -0.4]], dtype=torch.float64)


def test_functions_are_applied_from_first_to_last():
    assert torch.equal(checkpoint_chain([lambda x: x + 1, lambda x: 2 * x], X), 2 * (X + 1))
    assert torch.equal(checkpoint_chain([], X), X)


def test_functions_may_change_the_shape():
    """As a multistep method does, which carries more than the state: d/dx sin(x)^2 = sin 2x."""
    x = X.clone().requires_grad_()
    checkpoint_chain(
        [lambda x: torch.stack([x, x.sin()], 1), lambda p: p[:, 1] ** 2], x
    ).sum().backward()
    assert torch.allclose(x.grad, (2 * X).sin())


def test_integrate_passes_the_levels_in_pairs_and_numbers_the_noise():
    seen = []

    def step(denoise, x, sigma, next_sigma, noise):
        seen.append((sigma.item(), next_sigma.item(), noise.name))
        return x

    integrate(step, lambda x, sigma: x, X, torch.tensor([3.0, 2.0, 0.0]), Noise(0, [0, 1]))
    assert seen == [(3.0, 2.0, ("step", 0)), (2.0, 0.0, ("step", 1))]


def test_ode_derivative_by_hand():
    """D = x / 4 at sigma = 3: (x - x/4) / 3 = x / 4."""
    assert torch.allclose(ode_derivative(lambda x, sigma: x / 4, X, torch.tensor(3.0)), X / 4)


def test_gradient_of_a_named_input():
    """y = (x w) w: dy/dx = w^2 and dy/dw = 2 x w."""
    x, w = X.clone().requires_grad_(), torch.tensor(3.0, requires_grad=True)
    checkpoint_chain([lambda x: x * w] * 2, x, wrt=[w]).sum().backward()
    assert torch.allclose(x.grad, torch.full_like(X, 9.0))
    assert torch.allclose(w.grad, 6 * X.sum())


def test_named_input_gets_its_gradient_when_the_state_needs_none():
    w = torch.tensor(3.0, requires_grad=True)
    checkpoint_chain([lambda x: x * w] * 2, X, wrt=[w]).sum().backward()
    assert torch.allclose(w.grad, 6 * X.sum())


def test_named_input_that_was_computed_gets_and_passes_on_its_gradient():
    """z = w^2 is named, and y = x z^3: dy/dw = 6 x w^5."""
    w = torch.tensor(1.5, requires_grad=True)
    z = w**2
    checkpoint_chain([lambda x: x * z] * 3, X, wrt=[z]).sum().backward()
    assert torch.allclose(w.grad, 6 * X.sum() * 1.5**5)


def test_named_input_may_be_used_through_something_computed_once_outside():
    """w is named, and every step uses the same z = w^2, whose graph must outlive the first."""
    w = torch.tensor(1.5, requires_grad=True)
    z = w**2
    checkpoint_chain([lambda x: x * z] * 3, X, wrt=[w]).sum().backward()
    assert torch.allclose(w.grad, 6 * X.sum() * 1.5**5)


def test_start_may_depend_on_a_named_input_too():
    """As in GAP from a low level: sin w starts the chain, z = 2 w pulls at it, y = z^2 sin w."""
    w = X.clone().requires_grad_()
    z = 2 * w
    checkpoint_chain([lambda x: x * z] * 2, w.sin(), wrt=[z]).sum().backward()
    assert torch.allclose(w.grad, 8 * X * X.sin() + 4 * X**2 * X.cos())


def test_the_state_itself_may_be_a_named_input():
    """y = (x + x) + x, the first x the state, the others a closure."""
    x = X.clone().requires_grad_()
    checkpoint_chain([lambda s: s + x] * 2, x, wrt=[x]).sum().backward()
    assert torch.allclose(x.grad, torch.full_like(X, 3.0))


def test_named_inputs_without_a_gradient_are_accepted():
    x, w = X.clone().requires_grad_(), torch.tensor(3.0)
    checkpoint_chain([lambda x: x * w], x, wrt=[w, torch.tensor([1, 2])]).sum().backward()
    assert torch.allclose(x.grad, torch.full_like(X, 3.0)) and w.grad is None


def test_labels_masks_and_frozen_weights_need_not_be_named():
    table = torch.nn.Embedding(4, 3).requires_grad_(False)
    layer = torch.nn.Linear(3, 3).requires_grad_(False)
    labels, mask = torch.tensor([1, 3]), torch.tensor([True, False])

    def function(x):
        return torch.where(mask[:, None], layer(x) + table(labels), x)

    x = X.clone().requires_grad_()
    checkpoint_chain([function], x).sum().backward()
    assert torch.allclose(x.grad, torch.stack([layer.weight.sum(0), torch.ones(3)]))


def test_a_function_that_ignores_its_argument_has_no_gradient():
    x = X.clone().requires_grad_()
    checkpoint_chain([lambda x: torch.zeros_like(x)], x).sum().backward()
    assert x.grad is None or not x.grad.any()


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_hidden_input_is_refused_however_it_was_made(depth):
    x, hidden = X.clone().requires_grad_(), torch.ones(3, requires_grad=True)
    made = hidden
    for _ in range(depth):
        made = made.sin()
    with pytest.raises(RuntimeError, match=r"shape \(3,\).*name it in wrt, or freeze it"):
        checkpoint_chain([lambda x: x * made], x).sum().backward()


def test_a_weight_that_was_not_frozen_is_refused():
    layer = torch.nn.Linear(3, 3)
    with pytest.raises(RuntimeError, match=r"shape \(3, 3\)|shape \(3,\)"):
        checkpoint_chain([layer], X.clone().requires_grad_()).sum().backward()


def test_naming_half_of_a_split_tensor_does_not_name_the_other_half():
    whole = torch.ones(2, requires_grad=True)
    hidden, named = whole.unbind()
    y = checkpoint_chain([lambda x: x * named + hidden], X, wrt=[named])
    with pytest.raises(RuntimeError, match=r"shape \(2,\)"):
        y.sum().backward()


def test_half_of_a_tensor_that_was_split_can_be_named_alone():
    whole = torch.ones(2, requires_grad=True)
    _, named = whole.unbind()
    checkpoint_chain([lambda x: x * named], X, wrt=[named]).sum().backward()
    assert torch.allclose(whole.grad, torch.stack([torch.tensor(0.0), X.sum()]))


@pytest.mark.parametrize("again", [lambda w: w, lambda w: 2 * w], ids=["twice", "made from it"])
def test_counting_a_gradient_twice_is_refused(again):
    w = torch.tensor(3.0, requires_grad=True)
    with pytest.raises(ValueError, match="count its gradient twice; name only the one"):
        checkpoint_chain([lambda x: x * w], X, wrt=[w, again(w)])


def states_alive(x, steps=6):
    """The most intermediate states that are alive at once while the chain runs."""
    refs, most = [], 0

    def function(x):
        nonlocal most
        inner = x.sin()  # what only the graph of this function needs
        refs.append(weakref.ref(inner))
        most = max(most, sum(ref() is not None for ref in refs))
        return inner.cos()

    checkpoint_chain([function] * steps, x)
    return most


@pytest.mark.parametrize("wanted", [False, True])
def test_nothing_inside_a_function_outlives_it(wanted):
    assert states_alive(X.clone().requires_grad_(wanted)) == 1


def saved(x, context):
    """The number of tensors that the chain saves for the backward pass."""
    count = 0

    def pack(t):
        nonlocal count
        count += 1
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t), context:
        checkpoint_chain([lambda x: x.sin().cos()] * 6, x)
    return count


def test_one_state_a_step_is_kept_if_there_is_a_gradient_and_none_without():
    x = X.clone().requires_grad_()
    assert saved(x, torch.enable_grad()) == 6
    assert saved(x, torch.no_grad()) == 0
    assert saved(X, torch.enable_grad()) == 0


def test_guidance_takes_second_derivatives_in_the_backward_pass_only():
    """No second derivatives are prepared in the forward pass; they are in the backward pass."""
    modes = []

    def function(x):
        modes.append(torch.is_grad_enabled())
        return x.sin()

    checkpoint_chain([function] * 2, X.clone().requires_grad_()).sum().backward()
    assert modes == [False, False, True, True]


def test_a_function_may_return_its_argument():
    x = X.clone().requires_grad_()
    y = checkpoint_chain([lambda x: x, lambda x: x[:, :2], lambda x: 3 * x], x)
    y.sum().backward()
    assert torch.equal(x.grad, torch.tensor([[3.0, 3.0, 0.0]] * 2))


def test_guidance_may_depend_on_a_part_of_the_state():
    """In the forward pass a slice of a state with a gradient must not require one."""
    guided = pulled(lambda x, sigma: x.sin(), torch.zeros(3), 0.5)
    x, sigma = X.clone().requires_grad_(), torch.tensor(0.8)

    def function(pair):
        first, second = pair.unbind(1)
        return torch.stack([guided(first, sigma), second], 1)

    assert torch.autograd.gradcheck(
        lambda x: checkpoint_chain([function] * 2, torch.stack([x, x], 1)), x
    )


def test_second_derivatives_of_guidance_inside_a_function():
    w = torch.full((2, 3), 0.4, requires_grad=True)
    guided = pulled(lambda x, sigma: x.sin(), w, 0.5)
    x = X.clone().requires_grad_()
    sigma = torch.tensor(0.8)
    assert torch.autograd.gradcheck(
        lambda x, w: checkpoint_chain([lambda x: guided(x, sigma)] * 3, x, wrt=[w]), (x, w)
    )


def test_the_backward_pass_has_the_autocast_state_of_the_forward_pass():
    """It is called outside of autocast, as loops over ``loss.backward()`` do."""
    seen, layer = [], torch.nn.Linear(3, 3, dtype=torch.float32).requires_grad_(False)

    def function(x):
        y = layer(x)
        seen.append(y.dtype)
        return y.float()

    x = X.float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = checkpoint_chain([function], x)
    y.sum().backward()
    checkpoint_chain([function], x).sum().backward()
    assert seen == [torch.bfloat16] * 2 + [torch.float32] * 2
