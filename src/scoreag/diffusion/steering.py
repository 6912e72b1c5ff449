"""Steering: how far guidance moves the noise of a sampler, and a limit on it.

A sampler with noise takes ``x' = m(x) + s n`` with ``n ~ N(0, I)``.  Guidance moves the mean from
that of a reference generator, which is the same as to shift the noise by

    u = (m_guided - m_reference) / s,        E = sum |u|^2  over the draws of a path.

``E`` is the energy of the path; its mean is twice the Kullback-Leibler divergence of guided from
unguided paths (Girsanov).  docs/certificates.md has what a limit on it promises.

A sampler tells what it does by ``drift`` for what it does between two draws (or by ``branches`` and
``choose``, if it remembers earlier estimates), by ``diffuse`` before each draw, and its caller by
``finish`` at its end.  Steering after the last draw moves no noise: its energy is infinite, and
under a limit it is left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.core.types import Denoise, Sigma, State

Energy: TypeAlias = Float[Tensor, " batch"]  # float64
Move: TypeAlias = Callable[[Denoise, State], State]

MARGINS = (1e-6, 1e-4, 1e-2)  # by which a path stays below its limit, where rounding needs it


@dataclass(eq=False)
class Steering:
    """A guided denoiser beside that of the reference generator; serves one chain only.

    Args:
        guided: the denoiser that the sampler follows.
        reference: that of the reference generator.
        limit: of the energy of a path; None only counts it.
        shares: of the limit that may be spent until each draw; later draws may spend all of it.
        energy: of each image so far.
        n_draws: how many there were.
    """

    guided: Denoise
    reference: Denoise
    limit: float | None = None
    shares: Sequence[float] = ()
    energy: Energy | None = None
    n_draws: int = 0
    _unsteered: State | None = field(default=None, repr=False)  # the reference since the last draw

    def __call__(self, x: State, sigma: Sigma) -> State:
        return self.guided(x, sigma)

    def drift(self, move: Move, x: State) -> State:
        """``move`` by the guided denoiser; by that of the reference on the side."""
        before = x if self._unsteered is None else self._unsteered
        return self.choose(move(self.guided, x), move(self.reference, before))

    def choose(self, guided: State, reference: State) -> State:
        """``guided``, where the reference generator would be at ``reference``."""
        self._unsteered = reference
        return guided

    def diffuse(self, x: State, spread: Tensor) -> State:
        """``x``, moved back toward the reference as far as the limit asks."""
        reference = self._unsteered
        if reference is None or not spread > 0:
            return x
        self._unsteered = None
        spent = self._spent(x)
        if self.limit is not None:
            share = self.shares[self.n_draws] if self.n_draws < len(self.shares) else 1.0
            x = _shorten(x, reference, spread, (self.limit * share - spent).clamp(min=0))
        self.n_draws += 1
        self.energy = spent + _energy(x, reference, spread)
        return x

    def finish(self, x: State) -> State:
        """The end of the chain: what was steered since the last draw has infinite energy."""
        reference, self._unsteered = self._unsteered, None
        spent = self._spent(x)
        if reference is not None and self.limit is not None:
            x = reference
        elif reference is not None:
            moved = (x != reference).flatten(1).any(1)
            spent = torch.where(moved.to(spent.device), torch.inf, spent)
        self.energy = spent
        return x

    def _spent(self, x: State) -> Energy:
        if self.energy is None:
            return torch.zeros(len(x), dtype=torch.float64, device=_to_double(x).device)
        return self.energy


def drift(denoise: Denoise, move: Move, x: State) -> State:
    """``move(denoise, x)``: what a sampler does between two draws of noise."""
    return denoise.drift(move, x) if isinstance(denoise, Steering) else move(denoise, x)


def branches(denoise: Denoise) -> list[Denoise]:
    """The guided denoiser, and that of the reference if the chain has one."""
    return [denoise.guided, denoise.reference] if isinstance(denoise, Steering) else [denoise]


def choose(denoise: Denoise, states: list[State]) -> State:
    """The first state of the states that ``branches`` led to."""
    return denoise.choose(*states) if isinstance(denoise, Steering) else states[0]


def diffuse(denoise: Denoise, x: State, spread: Tensor) -> State:
    """``x``, to which noise of deviation ``spread`` is added next."""
    return denoise.diffuse(x, spread) if isinstance(denoise, Steering) else x


def finish(denoise: Denoise, x: State) -> State:
    """The last state of a chain."""
    return denoise.finish(x) if isinstance(denoise, Steering) else x


def _to_double(x: Tensor) -> Tensor:
    """In float64, which mps lacks: there, on the CPU."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def _energy(x: State, reference: State, spread: Tensor) -> Energy:
    """``|x - reference|^2 / spread^2`` of each image, in float64."""
    shift = (_to_double(x) - _to_double(reference)).flatten(1) / _to_double(spread)
    return shift.square().sum(1)


def _shorten(x: State, reference: State, spread: Tensor, most: Energy) -> State:
    """``reference + c (x - reference)``, with c <= 1 so that its energy is ``most`` or a bit less.

    What the state's rounding adds is taken back, and where next to nothing is left, c = 0.
    """
    shape = (-1, *(1,) * (x.ndim - 1))
    start, shift = _to_double(reference), _to_double(x) - _to_double(reference)
    factor, shortened = torch.ones_like(most), x
    for margin in MARGINS:
        energy = _energy(shortened, reference, spread)
        over = energy > most
        shrink = (1 - margin) * (most / torch.where(over, energy, 1.0)).sqrt()
        factor = torch.where(over, factor * shrink, factor)
        candidate = (start + factor.view(shape) * shift).to(x)
        shortened = torch.where(over.view(shape).to(x.device), candidate, shortened)
    fits = _energy(shortened, reference, spread) <= most
    return torch.where(fits.view(shape).to(x.device), shortened, reference)
