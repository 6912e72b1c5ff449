"""The attack of a cell on some of its images: the only place where cells differ in kind."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from scoreag.assess import options
from scoreag.assess.cells import CLEAN, Cell
from scoreag.assess.kit import Kit
from scoreag.assess.measure import Measured, measured
from scoreag.assess.scene import PROBED, Attacked, Scene, Tally, asked, scene
from scoreag.core.noise import Noise
from scoreag.core.types import Images, Labels, PerImage
from scoreag.jobs import compute as compute_job
from scoreag.search.door import inside

SLACK = 1e-6  # by which rounding may carry an image out of [0, 1]


@dataclass(frozen=True, eq=False)
class Made:
    """What an attack returned for a padded micro-batch, and what it asked for.

    Args:
        wrong: the class aimed at, -1 where it is any.
        calls: score-model evaluations an image; ``forwards`` and ``backwards`` of the classifier.
        gradient: length of the loss's gradient at each image, as the attacker sees it.
    """

    images: Images
    wrong: Labels
    calls: Tensor
    retries: Tensor
    rests: Tensor
    forwards: float
    backwards: float
    gradient: PerImage | None


def compute(cell: Cell, pieces: list[range], kit: Kit) -> Measured:
    """The rows of some pieces of a cell, with their pictures and what they cost."""
    with one_thread():
        plain = kit.once(cell.key, lambda: scene(cell, kit))
        done = []
        for piece in pieces:
            began = time.perf_counter()
            made = _made(plain, piece, kit)
            took = time.perf_counter() - began
            one = measured(plain, piece, made, kit, took)
            done.append(replace(one, other=time.perf_counter() - began - took))
        return Measured.cat(done)


@contextmanager
def one_thread() -> Iterator[None]:
    """Another number of threads rounds otherwise; work is spread over processes instead."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.inference_mode(False)
def _made(plain: Scene, piece: range, kit: Kit) -> Made:
    positions = plain.padded(piece)
    ids, labels = plain.ids(positions), plain.labels[positions]
    tally = Tally()
    prior = tally.counting(plain.prior) if plain.prior is not None else None
    victim = Attacked(asked(plain, kit, True, prior), ids, tally)
    if plain.job is not None:
        made = _by_job(plain, piece, victim)
    else:
        made = _by_attack(plain, positions, victim, kit, labels)
    count = len(positions)
    if plain.job is None or plain.cell.purifier:
        made = replace(made, calls=torch.full((count,), tally.drawn / count))
    return replace(
        made,
        images=_checked(plain, made.images),
        forwards=tally.forwards / count,
        backwards=tally.backwards / count,
        gradient=_gradient(plain, positions, kit),
    )


def _by_attack(
    plain: Scene, positions: list[int], victim: Attacked, kit: Kit, labels: Labels
) -> Made:
    assert plain.images is not None
    images, cell = plain.images[positions], plain.cell
    if cell.task != CLEAN:
        attack = options.attack(cell, kit, plain.prior and victim.tally.counting(plain.prior))
        noise = Noise(cell.seed, plain.ids(positions)).at("attack")
        with inside():  # the plan's door has checked, and every call is counted
            images = attack(victim, images, labels, noise).detach()
    nothing = torch.zeros(len(positions), dtype=torch.int64)
    return Made(images, nothing - 1, nothing, nothing, nothing, 0.0, 0.0, None)


def _by_job(plain: Scene, piece: range, victim: Attacked) -> Made:
    """GAS, GAT and GAP, as their commands compute them."""
    assert plain.job is not None
    job = replace(plain.job.rows(list(piece)), classifier=victim)
    result = compute_job(job, pad_to=plain.cell.micro_batch)
    again = [*range(len(result)), *[-1] * (plain.cell.micro_batch - len(result))]
    wrong = result.wrong if result.wrong is not None else torch.full((len(result),), -1)
    return Made(
        result.images[again], wrong[again], result.calls[again], result.retries[again],
        result.rests[again], 0.0, 0.0, None,
    )  # fmt: skip


def _gradient(plain: Scene, positions: list[int], kit: Kit) -> PerImage | None:
    """Of the cross-entropy at the images before the attack, through a draw of its own."""
    if plain.images is None or plain.cell.task in (CLEAN, "purify"):
        return None
    ask, ids = asked(plain, kit, True, plain.prior), plain.ids(positions)
    leaf = plain.images[positions].detach().requires_grad_()
    with torch.enable_grad():
        loss = F.cross_entropy(ask(PROBED, leaf, ids), plain.labels[positions], reduction="sum")
    if not loss.requires_grad:
        return torch.zeros(len(positions))
    return torch.autograd.grad(loss, leaf)[0].flatten(1).norm(dim=1).cpu()


def _checked(plain: Scene, images: Tensor) -> Images:
    """Refuse what is no image: a failure of the attack is not counted as its success."""
    name = plain.cell.component
    shape = (plain.cell.micro_batch, *_shape(plain))
    if not isinstance(images, Tensor) or tuple(images.shape) != shape:
        came = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"{name} returned {came}; expected images of the shape {shape}")
    if not images.isfinite().all():
        raise ValueError(f"{name} returned NaN or infinity; try smaller steps, or report it")
    low, high = float(images.min()), float(images.max())
    if low < -SLACK or high > 1 + SLACK:
        raise ValueError(f"{name} returned images in [{low:.4g}, {high:.4g}]; expected [0, 1]")
    return images.clamp(0, 1)


def _shape(plain: Scene) -> tuple[int, ...]:
    if plain.images is not None:
        return tuple(plain.images.shape[1:])
    assert plain.prior is not None
    return plain.prior.image_shape
