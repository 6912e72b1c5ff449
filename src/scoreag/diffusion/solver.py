"""A chain of solver steps, with its exact gradient from the graph of one step at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.autograd.graph import Node, get_gradient_edge

from scoreag.core.rng import Noise
from scoreag.core.types import Denoise, Sigma, State

GradEdge: TypeAlias = tuple[Node, int]  # node of the autograd graph, number of the output


@runtime_checkable
class Step(Protocol):
    """The state at the next, lower noise level; a pure function."""

    def __call__(
        self, denoise: Denoise, x: State, sigma: Sigma, next_sigma: Sigma, noise: Noise
    ) -> State: ...


def integrate(
    step: Step,
    denoise: Denoise,
    x: State,
    sigmas: Float[Tensor, " levels"],
    noise: Noise,
    wrt: Sequence[Tensor] = (),
) -> State:
    """Apply ``step`` from each noise level of ``sigmas`` to the next.

    Step ``i`` has the noise ``noise.fold_in("step", i)``; ``wrt`` as in ``checkpoint_chain``.
    """
    return checkpoint_chain(chain_steps(step, denoise, levels_for(sigmas, x), noise), x, wrt)


def levels_for(sigmas: Float[Tensor, " levels"], x: State) -> Float[Tensor, " levels"]:
    """The noise levels in the dtype of ``x``, on the CPU: to read one waits for no GPU."""
    return sigmas.to("cpu", x.dtype)


def chain_steps(
    step: Step, denoise: Denoise, sigmas: Float[Tensor, " levels"], noise: Noise
) -> list[Callable[[State], State]]:
    """``step`` from each noise level to the next; step ``i`` draws from ``("step", i)``."""
    return [
        partial(step, denoise, sigma=sigma, next_sigma=next_sigma, noise=noise.fold_in("step", i))
        for i, (sigma, next_sigma) in enumerate(pairwise(sigmas))
    ]


def checkpoint_chain(
    functions: Iterable[Callable[[Tensor], Tensor]], x: Tensor, wrt: Sequence[Tensor] = ()
) -> Tensor:
    """``f_n(... f_2(f_1(x)))``, for pure functions, which may change the shape.

    The gradient is exact: the backward pass recomputes one function at a time, so that memory holds
    the argument of each and the graph of a single one.  It is of first order only.

    Args:
        wrt: other tensors that the functions use and that need a gradient, such as a purifier's
            input.  The backward pass refuses any that is not named.
    """
    _refuse_dependent(wrt)
    for function in functions:
        x = _CheckpointedCall.apply(function, x, *wrt)
    return x


def ode_derivative(denoise: Denoise, x: State, sigma: Sigma) -> State:
    """dx/dsigma of the probability-flow ODE: ``(x - D(x; sigma)) / sigma = -sigma * score``."""
    return (x - denoise(x, sigma)) / sigma


class _CheckpointedCall(torch.autograd.Function):
    """``function(x)``, which saves only its inputs and the state of autocast.

    torch.utils.checkpoint cannot be used: guidance takes a gradient inside the step, which would
    start the recomputation in the forward pass already, and keep the whole graph.
    """

    @staticmethod
    def forward(ctx: Any, function: Callable[[Tensor], Tensor], x: Tensor, *wrt: Tensor) -> Tensor:
        ctx.function, ctx.autocast = function, _autocast_state(x.device.type)
        ctx.save_for_backward(x, *wrt)
        return function(x.detach())  # else guidance inside would see x as a part of its own graph

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *wrt = ctx.saved_tensors
        with torch.enable_grad(), torch.autocast(**ctx.autocast):
            leaf = x.detach().requires_grad_()
            y = ctx.function(leaf)
        inputs = [leaf, *(t for t in wrt if t.requires_grad)]
        if not y.requires_grad:
            return None, *(None for _ in (x, *wrt))
        _refuse_hidden(y, inputs)
        shared = len(inputs) > 1  # each step uses the graph of wrt
        grads = torch.autograd.grad(y, inputs, grad, retain_graph=shared, allow_unused=True)
        rest = iter(grads[1:])
        return None, grads[0], *(next(rest) if t.requires_grad else None for t in wrt)


def _autocast_state(device: str) -> dict[str, Any]:
    """The arguments of torch.autocast that enter the present state; off where there is none."""
    if not torch.amp.is_autocast_available(device):
        return {"device_type": "cpu", "enabled": False}
    return {
        "device_type": device,
        "dtype": torch.get_autocast_dtype(device),
        "enabled": torch.is_autocast_enabled(device),
    }


def _refuse_hidden(y: Tensor, inputs: Sequence[Tensor]) -> None:
    """Refuse a tensor that the step uses and ``wrt`` lacks: it would silently get no gradient."""
    for node, _ in _upstream_edges([_grad_edge(y)], stop={_grad_edge(t) for t in inputs}):
        if hasattr(node, "variable"):
            shape = tuple(node.variable.shape)
            raise RuntimeError(
                f"the chain depends on a tensor of shape {shape} that requires a gradient; "
                "name it in wrt, or freeze it with requires_grad_(False)"
            )


def _refuse_dependent(wrt: Sequence[Tensor]) -> None:
    """Refuse tensors computed from one another: their gradients would count twice."""
    edges = [_grad_edge(t) for t in wrt if t.requires_grad]
    for i, edge in enumerate(edges):
        others = {*edges[:i], *edges[i + 1 :]}
        if not others.isdisjoint(_upstream_edges([edge])):
            shape = tuple(wrt[i].shape)
            raise ValueError(
                f"wrt names a tensor of shape {shape} twice, or with one that it was made from, "
                "which would count its gradient twice; name only the one that the chain uses"
            )


def _grad_edge(t: Tensor) -> GradEdge:
    edge = get_gradient_edge(t)
    return edge.node, edge.output_nr


def _upstream_edges(pending: list[GradEdge], stop: Iterable[GradEdge] = ()) -> Iterator[GradEdge]:
    """All edges that lead to ``pending``, each once; the search stops at ``stop``."""
    visited, expanded = set(stop), set[Node]()
    while pending:
        edge = pending.pop()
        if edge in visited:
            continue
        visited.add(edge)
        yield edge
        if edge[0] not in expanded:  # all outputs of a node have the same inputs
            expanded.add(edge[0])
            pending += [(child, i) for child, i in edge[0].next_functions if child is not None]
