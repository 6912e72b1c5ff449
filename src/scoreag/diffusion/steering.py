"""Steering: how far guidance moves the noise of a sampler, and a limit on it.

A sampler with noise takes ``x' = m(x) + s n`` with ``n ~ N(0, I)``.  Guidance moves the mean from
that of a reference generator, which is the same as to shift the noise by

    u = (m_guided - m_reference) / s,        E = sum |u|^2  over the draws of a path.

``E`` is the energy of the path; its mean is twice the Kullback-Leibler divergence of guided from
unguided paths (Girsanov).  docs/certificates.md has what a limit on it promises.

A sampler tells what it does by ``drift`` for what it does between two draws (or by ``branches`` and
``choose``, if it remembers earlier estimates), by ``diffuse`` before each draw, and its caller by
``finish`` at its end.  Steering after the last draw moves no
noise: it has infinite energy, and under a limit it is left out.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.core.types import Denoise, Sigma, State

Energy: TypeAlias = Float[Tensor, " batch"]  # float64
Move: TypeAlias = Callable[[Denoise, State], State]

HAIR = 1e-6  # of a limit, by which a path stays below it
TRIES = 3  # to shorten a state that rounding brings above the limit again


@dataclass(eq=False)
class Steering:
    """A guided denoiser beside that of the reference generator; serves one chain only.

    Args:
        guided: the denoiser that the sampler follows.
        reference: that of the reference generator.
        limit: of the energy of a path; None only counts it.
        pace: the share of the limit that may be spent once the noise has come down to a level.
        energy: of each image so far.
    """

    guided: Denoise
    reference: Denoise
    limit: float | None = None
    pace: Callable[[Sigma], float] = lambda sigma: 1.0
    energy: Energy | None = None
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

    def diffuse(self, x: State, spread: Tensor, sigma: Sigma) -> State:
        """``x``, moved back toward the reference as far as the limit asks."""
        reference = self._unsteered
        if reference is None or not spread > 0:
            return x
        self._unsteered = None
        spent = self._spent(x)
        if self.limit is not None:
            left = (self.limit * min(1.0, self.pace(sigma)) - spent).clamp(min=0)
            x = _shorten(x, reference, spread, left)
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
            spent = torch.where(moved, torch.inf, spent)
        self.energy = spent
        return x

    def _spent(self, x: State) -> Energy:
        if self.energy is None:
            return torch.zeros(len(x), dtype=torch.float64, device=x.device)
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


def diffuse(denoise: Denoise, x: State, spread: Tensor, sigma: Sigma) -> State:
    """``x``, to which noise of deviation ``spread`` is added next, up to the level ``sigma``."""
    return denoise.diffuse(x, spread, sigma) if isinstance(denoise, Steering) else x


def finish(denoise: Denoise, x: State) -> State:
    """The last state of a chain."""
    return denoise.finish(x) if isinstance(denoise, Steering) else x


def _energy(x: State, reference: State, spread: Tensor) -> Energy:
    """``|x - reference|^2 / spread^2`` of each image, in float64."""
    shift = (x.double() - reference.double()).flatten(1) / spread.double()
    return shift.square().sum(1)


def _shorten(x: State, reference: State, spread: Tensor, most: Energy) -> State:
    """``reference + c (x - reference)``, with c <= 1 so that its energy is ``most`` or a hair less.

    What the state's rounding adds is taken back, and where next to nothing is left, c = 0.
    """
    shape = (-1, *(1,) * (x.ndim - 1))
    wide, shift = reference.double(), x.double() - reference.double()
    factor, found = torch.ones_like(most), x
    for _ in range(TRIES):
        energy = _energy(found, reference, spread)
        over = energy > most
        shrink = (1 - HAIR) * (most / torch.where(over, energy, 1.0)).sqrt()
        factor = torch.where(over, factor * shrink, factor)
        short = (wide + factor.view(shape) * shift).to(x.dtype)
        found = torch.where(over.view(shape), short, found)
    fits = _energy(found, reference, spread) <= most
    return torch.where(fits.view(shape), found, reference)
