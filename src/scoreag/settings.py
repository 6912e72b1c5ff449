"""What a task can be told: one table of settings, checked before any work starts."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from inspect import signature
from types import UnionType
from typing import Any

from jaxtyping import Float
from torch import Tensor

from scoreag.core.guide import ESTIMATES, GRADIENTS, Interval
from scoreag.core.prior import Prior
from scoreag.core.schedule import karras
from scoreag.guidance.resembles import EXACT, VARIANCES, stable_below
from scoreag.load import UnknownName, described, hint, load, names

GUIDANCE = ("likelihood", "margin")
ARGUMENTS = {  # of the functions that take settings, for a word that is neither
    **dict.fromkeys(
        ("synthesize", "transform"), ("wrong", "seed", "image_ids", "micro_batch", "progress")
    ),
    "purify": ("seed", "image_ids", "micro_batch", "progress"),
}
OF_THE_CLASSIFIER = ("strength", "interval", "guidance", "normalized", "stop", "retries")


@dataclass(frozen=True)
class Settings:
    """How a task draws.

    Args:
        strength: s_y, how hard the classifier's verdict pulls; 0 is an unguided draw.
        precision: s_x, how closely a given image is kept, the inverse of a variance in [-1, 1].
        start: the noise level at which the chain begins, in units of [-1, 1].
        steps: noise levels before 0.
        sampler: a file of ``samplers``; ``sampler_options`` are its own.
        gradient: exact, straight or symmetric.
        estimate: denoiser, ode_euler or sde_euler.
        interval: lowest and highest noise level at which the classifier is listened to.
        variance: constant, widened, damped or exact: how far an estimate is trusted.
        guidance: likelihood (of the wrong class, or of any but the label) or margin (of logits).
        normalized: the classifier's gradient has length ``strength`` at every call.
        stop: lead in logits from which on an image's guidance rests; None never rests.
        retries: how often an image that failed is drawn again, each time at doubled strength.
    """

    strength: float = 10.0
    precision: float = 100.0
    start: float = 80.0
    steps: int = 18
    sampler: str = "heun"
    sampler_options: Mapping[str, Any] = field(default_factory=dict)
    gradient: str = "exact"
    estimate: str = "denoiser"
    interval: Interval | None = None
    variance: str = "damped"
    guidance: str = "likelihood"
    normalized: bool = False
    stop: float | None = None
    retries: int = 0

    def sigmas(self) -> Float[Tensor, " levels"]:
        """The noise levels, from ``start`` down to 0."""
        grid = getattr(load("samplers", self.sampler), "grid", karras)
        levels: Tensor = grid(self.steps, sigma_max=self.start)
        return levels

    def to_dict(self, task: str = "") -> dict[str, Any]:
        """Plain values, as a manifest keeps them; of a ``task`` only those that act in it."""
        return self.only(acting_in(task))

    def only(self, acting: Iterable[str]) -> dict[str, Any]:
        """The plain values of some settings."""
        plain = {**asdict(self), "sampler_options": dict(self.sampler_options)}
        return {name: plain[name] for name in acting}


def acting_in(task: str) -> list[str]:
    """The names of the settings that a task can be told; no classifier guides ``purify``."""
    every = [f.name for f in fields(Settings)]
    return [name for name in every if task != "purify" or name not in OF_THE_CLASSIFIER]


FALLBACK: dict[str, dict[str, Any]] = {  # for a model whose card says nothing
    "synthesize": {},
    "transform": {"start": 1.0, "steps": 12, "precision": 100.0, "strength": 10.0},
    "purify": {"start": 1.0, "steps": 10, "precision": 30.0, "strength": 0.0},
}


def settings_for(prior: Prior, task: str, **changes: Any) -> Settings:
    """The settings of a task: the card's, with the user's ``changes``, checked.

    Raises:
        ValueError: a name, a value or a combination that cannot work; says what to write instead.
    """
    return chosen_for(prior, task, acting_in(task), FALLBACK[task], changes, ARGUMENTS[task])


def chosen_for(
    prior: Prior,
    task: str,
    acting: Sequence[str],
    fallback: Mapping[str, Any],
    changes: Mapping[str, Any],
    others: Sequence[str] = (),
) -> Settings:
    """The settings of whatever takes those called ``acting``: ``fallback``, card, ``changes``.

    Args:
        others: arguments that it takes besides, for a word that is none of either.
    """
    _check_known(task, acting, changes, others)
    off = ("stop", "interval")  # None is a value of these
    given = {name: value for name, value in changes.items() if value is not None or name in off}
    tuned = {**fallback, **prior.defaults.get(task, {})}
    if "sampler" in given and given["sampler"] != tuned.get("sampler"):
        tuned.pop("sampler_options", None)
    merged = {**tuned, **given}
    _check_types(merged)
    if merged.get("interval") is not None:  # cards have no tuples
        merged["interval"] = tuple(merged["interval"])
    chosen = Settings(**merged)
    _check_names(chosen)
    _check_numbers(chosen)
    _check_exact(chosen)
    chosen = _unbounded(chosen)
    if task != "synthesize":
        _check_stability(chosen, prior)
    return chosen


def _check_known(
    task: str, known: Sequence[str], changes: Mapping[str, Any], others: Sequence[str]
) -> None:
    closely = ", and set how closely it keeps to the image by precision"
    for name, value in changes.items():
        if name not in known and name in OF_THE_CLASSIFIER and value is not None:
            raise ValueError(
                f"{task} takes no {name}: no classifier guides it; leave {name} out"
                + (closely if "precision" in known else "")
            )
        if name not in known and name not in OF_THE_CLASSIFIER:
            raise UnknownName(f"{task} takes no setting {name!r}; {hint(name, [*known, *others])}")


def _unbounded(chosen: Settings) -> Settings:
    """A bound that bounds nothing is written as None: such settings are the same."""
    interval = None if chosen.interval == (0, math.inf) else chosen.interval
    return replace(chosen, interval=interval, stop=None if chosen.stop == math.inf else chosen.stop)


def _check_types(merged: Mapping[str, Any]) -> None:
    """Each setting is of its kind: what came, and what was expected."""
    kinds: dict[str, tuple[type | UnionType, str]] = {
        **dict.fromkeys(("strength", "precision", "start"), (float | int, "a number")),
        **dict.fromkeys(("steps", "retries"), (int, "a whole number")),
        **dict.fromkeys(("sampler", "gradient", "estimate", "variance"), (str, "a name")),
        "guidance": (str, "a name"),
        "sampler_options": (Mapping, "a mapping of names to values"),
        "normalized": (bool, "True or False"),
        "stop": (float | int | None, "a number, or None"),
        "interval": (tuple | list | None, "(low, high), or None"),
    }
    for name, value in merged.items():
        kind, wanted = kinds[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and name != "normalized"):
            raise ValueError(f"{name} is {described(value)}; expected {wanted}")
    pair = merged.get("interval")
    if pair is not None and not (len(pair) == 2 and all(isinstance(v, float | int) for v in pair)):
        raise ValueError(f"interval is {described(pair)}; expected two numbers, e.g. (0.1, 10)")


def _check_names(chosen: Settings) -> None:
    for kind, word, known in (
        ("sampler", chosen.sampler, names("samplers")),
        ("gradient", chosen.gradient, list(GRADIENTS)),
        ("estimate", chosen.estimate, list(ESTIMATES)),
        ("variance", chosen.variance, [*VARIANCES, EXACT]),
        ("guidance", chosen.guidance, list(GUIDANCE)),
    ):
        if word not in known and not (kind == "sampler" and "." in word):
            raise UnknownName(f"no {kind} {word!r}; {hint(word, known)}")
    sample = _sample(chosen.sampler)
    own = [n for n, p in signature(sample).parameters.items() if p.kind is p.KEYWORD_ONLY]
    for option in chosen.sampler_options:
        if option not in own:
            others = hint(option, own) if own else "it has none"
            raise ValueError(f"{chosen.sampler} takes no option {option!r}; {others}")


def _sample(sampler: str) -> Callable[..., Any]:
    """The function of a sampler, which may be a foreign module."""
    try:
        sample: Callable[..., Any] = load("samplers", sampler).sample
    except ImportError as error:
        raise UnknownName(
            f"the sampler {sampler!r} cannot be imported ({error}); write one of "
            f"{', '.join(names('samplers'))}, or a module that Python finds, e.g. in PYTHONPATH"
        ) from error
    except AttributeError as error:
        raise ValueError(f"{sampler} is no sampler: it has no function 'sample'") from error
    return sample


def _check_numbers(chosen: Settings) -> None:
    for name, least in (("strength", 0), ("precision", 0), ("retries", 0), ("steps", 1)):
        value = getattr(chosen, name)
        if not (math.isfinite(value) and value >= least):
            raise ValueError(f"{name} is {value}; expected a number of at least {least}")
    if not 0.002 < chosen.start <= 1000:
        raise ValueError(
            f"start is {chosen.start}; expected a noise level above 0.002 and at most 1000, "
            "e.g. 80 (from nothing) or 1 (near the given image)"
        )
    if chosen.interval is not None and not 0 <= chosen.interval[0] < chosen.interval[1]:
        raise ValueError(f"interval is {chosen.interval}; expected 0 <= low < high, e.g. 0.1,10")
    if chosen.stop is not None and math.isnan(chosen.stop):
        raise ValueError("stop is nan; expected a lead in logits, or None")


def _check_exact(chosen: Settings) -> None:
    """The exact variance is of the denoiser's own estimate, and goes through its Jacobian."""
    for name, only in (("estimate", "denoiser"), ("gradient", "exact")):
        came = getattr(chosen, name)
        if chosen.variance == EXACT and came != only:
            raise ValueError(
                f"variance 'exact' needs {name} {only!r}, not {came!r}; "
                f"write --{name} {only} or --variance damped"
            )


def _check_stability(chosen: Settings, prior: Prior) -> None:
    if chosen.variance in (EXACT, "damped") or not chosen.precision:
        return
    pixels = math.prod(prior.image_shape)
    level = stable_below(
        chosen.variance, chosen.precision, chosen.sigmas(), pixels, prior.sigma_data
    )
    if chosen.start > level * (1 + 1e-9):
        nearer = f"start <= {level:.3g}, " if level > 0.0021 else ""
        raise ValueError(
            f"variance {chosen.variance!r} with precision {chosen.precision:g} explodes from start "
            f"{chosen.start:g}: with these {chosen.steps} steps it is stable up to {level:.3g}; "
            f"write {nearer}more steps, or variance 'damped'"
        )
