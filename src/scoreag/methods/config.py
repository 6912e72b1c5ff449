"""What a task can be told: one table of settings, checked before any work starts."""

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from inspect import signature
from types import UnionType
from typing import Any

from jaxtyping import Float
from torch import Tensor

from scoreag.diffusion.guidance import JACOBIANS, X0_ESTIMATES, Interval
from scoreag.diffusion.likelihoods import EXACT_VARIANCE, VARIANCES, max_stable_sigma
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.prior import Prior
from scoreag.registry import (
    UnknownNameError,
    component_names,
    describe_value,
    did_you_mean,
    load_component,
)

ATTACK_LOSSES = ("likelihood", "margin")
MAX_DOUBLINGS = 1000  # a double ends at 2^1024
TASK_ARGUMENTS = {  # of the functions that take settings, for a word that is neither
    **dict.fromkeys(
        ("synthesize", "transform"), ("target", "seed", "image_ids", "batch_size", "progress")
    ),
    "purify": ("seed", "image_ids", "batch_size", "progress"),
}
CLASSIFIER_ONLY_FIELDS = (
    "attack_scale",
    "attack_interval",
    "attack_loss",
    "normalize_gradient",
    "stop_margin",
    "max_restarts",
)


@dataclass(frozen=True)
class SamplingConfig:
    """How a task draws.

    Args:
        attack_scale: s_y, how hard the classifier's verdict pulls; 0 is an unguided draw.
        similarity: s_x, how closely a given image is kept, the inverse of a variance in [-1, 1].
        sigma_start: the noise level at which the chain begins, in units of [-1, 1].
        steps: noise levels before 0.
        sampler: a file of ``samplers``; ``sampler_options`` are its own.
        jacobian: exact, identity or finite_difference.
        x0_estimate: denoiser, ode_euler or sde_euler.
        attack_interval: lowest and highest noise level at which the classifier is listened to.
        likelihood_variance: constant, widened, damped or exact: how far an estimate is trusted.
        attack_loss: likelihood (of the wrong class, or of any but the label) or margin (of logits).
        normalize_gradient: the classifier's gradient has length ``attack_scale`` at every call.
        stop_margin: lead in logits from which on an image's guidance rests; None never rests.
        max_restarts: how often an image that failed is drawn again, each time at doubled strength.
    """

    attack_scale: float = 10.0
    similarity: float = 100.0
    sigma_start: float = 80.0
    steps: int = 18
    sampler: str = "heun"
    sampler_options: Mapping[str, Any] = field(default_factory=dict)
    jacobian: str = "exact"
    x0_estimate: str = "denoiser"
    attack_interval: Interval | None = None
    likelihood_variance: str = "damped"
    attack_loss: str = "likelihood"
    normalize_gradient: bool = False
    stop_margin: float | None = None
    max_restarts: int = 0

    def sigmas(self) -> Float[Tensor, " levels"]:
        """The noise levels, from ``sigma_start`` down to 0."""
        grid = getattr(load_component("samplers", self.sampler), "noise_schedule", karras)
        levels: Tensor = grid(self.steps, sigma_max=self.sigma_start)
        return levels

    def to_dict(self, task: str = "") -> dict[str, Any]:
        """Plain values, as a manifest keeps them; of a ``task`` only those that act in it."""
        return self.subset(fields_for_task(task))

    def subset(self, field_names: Iterable[str]) -> dict[str, Any]:
        """The plain values of some settings."""
        plain = {**asdict(self), "sampler_options": dict(self.sampler_options)}
        return {name: plain[name] for name in field_names}


def escalate_attack_scale(attack_scale: float, restarts: int) -> float:
    """The attack scale of a restart: doubled each time, as far as there are numbers."""
    return min(attack_scale * 2.0 ** min(restarts, MAX_DOUBLINGS), sys.float_info.max)


def fields_for_task(task: str) -> list[str]:
    """The names of the settings that a task can be told; no classifier guides ``purify``."""
    every = [f.name for f in fields(SamplingConfig)]
    return [name for name in every if task != "purify" or name not in CLASSIFIER_ONLY_FIELDS]


TASK_DEFAULTS: dict[str, dict[str, Any]] = {  # for a model whose card says nothing
    "synthesize": {},
    "transform": {"sigma_start": 1.0, "steps": 12, "similarity": 100.0, "attack_scale": 10.0},
    "purify": {"sigma_start": 1.0, "steps": 10, "similarity": 30.0, "attack_scale": 0.0},
}


def resolve_task_config(prior: Prior, task: str, **changes: Any) -> SamplingConfig:
    """The settings of a task: the card's, with the user's ``changes``, checked.

    Raises:
        ValueError: a name, a value or a combination that cannot work; says what to write instead.
    """
    return resolve_config(
        prior, task, fields_for_task(task), TASK_DEFAULTS[task], changes, TASK_ARGUMENTS[task]
    )


def resolve_config(
    prior: Prior,
    task: str,
    field_names: Sequence[str],
    base: Mapping[str, Any],
    overrides: Mapping[str, Any],
    other_arguments: Sequence[str] = (),
) -> SamplingConfig:
    """The settings of whatever takes those called ``acting``: ``fallback``, card, ``changes``.

    Args:
        others: arguments that it takes besides, for a word that is none of either.
    """
    _check_known(task, field_names, overrides, other_arguments)
    off = ("stop_margin", "attack_interval")  # None is a value of these
    given = {name: value for name, value in overrides.items() if value is not None or name in off}
    tuned = {**base, **prior.defaults.get(task, {})}
    if "sampler" in given and given["sampler"] != tuned.get("sampler"):
        tuned.pop("sampler_options", None)
    merged = {**tuned, **given}
    _check_types(merged)
    if merged.get("attack_interval") is not None:  # cards have no tuples
        merged["attack_interval"] = tuple(merged["attack_interval"])
    chosen = SamplingConfig(**merged)
    _check_names(chosen)
    _check_numbers(chosen)
    _check_exact_variance(chosen)
    chosen = _drop_trivial_bounds(chosen)
    if task != "synthesize":
        _check_stability(chosen, prior)
    return chosen


def _check_known(
    task: str, known: Sequence[str], overrides: Mapping[str, Any], other_arguments: Sequence[str]
) -> None:
    closely = ", and set how closely it keeps to the image by similarity"
    for name, value in overrides.items():
        if name not in known and name in CLASSIFIER_ONLY_FIELDS and value is not None:
            raise ValueError(
                f"{task} takes no {name}: no classifier guides it; leave {name} out"
                + (closely if "similarity" in known else "")
            )
        if name not in known and name not in CLASSIFIER_ONLY_FIELDS:
            raise UnknownNameError(
                f"{task} takes no setting {name!r}; {did_you_mean(name, [*known, *other_arguments])}"
            )


def _drop_trivial_bounds(config: SamplingConfig) -> SamplingConfig:
    """A bound that bounds nothing is written as None: such settings are the same."""
    interval = None if config.attack_interval == (0, math.inf) else config.attack_interval
    return replace(
        config,
        attack_interval=interval,
        stop_margin=None if config.stop_margin == math.inf else config.stop_margin,
    )


def _check_types(merged: Mapping[str, Any]) -> None:
    """Each setting is of its kind: what came, and what was expected."""
    kinds: dict[str, tuple[type | UnionType, str]] = {
        **dict.fromkeys(("attack_scale", "similarity", "sigma_start"), (float | int, "a number")),
        **dict.fromkeys(("steps", "max_restarts"), (int, "a whole number")),
        **dict.fromkeys(
            ("sampler", "jacobian", "x0_estimate", "likelihood_variance"), (str, "a name")
        ),
        "attack_loss": (str, "a name"),
        "sampler_options": (Mapping, "a mapping of names to values"),
        "normalize_gradient": (bool, "True or False"),
        "stop_margin": (float | int | None, "a number, or None"),
        "attack_interval": (tuple | list | None, "(low, high), or None"),
    }
    for name, value in merged.items():
        kind, wanted = kinds[name]
        if not isinstance(value, kind) or (
            isinstance(value, bool) and name != "normalize_gradient"
        ):
            raise ValueError(f"{name} is {describe_value(value)}; expected {wanted}")
    pair = merged.get("attack_interval")
    if pair is not None and not (len(pair) == 2 and all(isinstance(v, float | int) for v in pair)):
        raise ValueError(
            f"attack_interval is {describe_value(pair)}; expected two numbers, e.g. (0.1, 10)"
        )


def _check_names(config: SamplingConfig) -> None:
    for kind, word, known in (
        ("sampler", config.sampler, component_names("samplers")),
        ("jacobian", config.jacobian, list(JACOBIANS)),
        ("x0_estimate", config.x0_estimate, list(X0_ESTIMATES)),
        ("likelihood_variance", config.likelihood_variance, [*VARIANCES, EXACT_VARIANCE]),
        ("attack_loss", config.attack_loss, list(ATTACK_LOSSES)),
    ):
        if word not in known and not (kind == "sampler" and "." in word):
            raise UnknownNameError(f"no {kind} {word!r}; {did_you_mean(word, known)}")
    sample = _load_sampler(config.sampler)
    own = [n for n, p in signature(sample).parameters.items() if p.kind is p.KEYWORD_ONLY]
    for option in config.sampler_options:
        if option not in own:
            others = did_you_mean(option, own) if own else "it has none"
            raise ValueError(f"{config.sampler} takes no option {option!r}; {others}")


def _load_sampler(sampler: str) -> Callable[..., Any]:
    """The function of a sampler, which may be a foreign module."""
    try:
        sample: Callable[..., Any] = load_component("samplers", sampler).sample
    except ImportError as error:
        raise UnknownNameError(
            f"the sampler {sampler!r} cannot be imported ({error}); write one of "
            f"{', '.join(component_names('samplers'))}, or a module that Python finds, e.g. in PYTHONPATH"
        ) from error
    except AttributeError as error:
        raise ValueError(f"{sampler} is no sampler: it has no function 'sample'") from error
    return sample


def _check_numbers(config: SamplingConfig) -> None:
    for name, least in (("attack_scale", 0), ("similarity", 0), ("max_restarts", 0), ("steps", 1)):
        value = getattr(config, name)
        if not (math.isfinite(value) and value >= least):
            raise ValueError(f"{name} is {value}; expected a number of at least {least}")
    if not 0.002 < config.sigma_start <= 1000:
        raise ValueError(
            f"sigma_start is {config.sigma_start}; expected a noise level above 0.002 and at most 1000, "
            "e.g. 80 (from nothing) or 1 (near the given image)"
        )
    if (
        config.attack_interval is not None
        and not 0 <= config.attack_interval[0] < config.attack_interval[1]
    ):
        raise ValueError(
            f"attack_interval is {config.attack_interval}; expected 0 <= low < high, e.g. 0.1,10"
        )
    if config.stop_margin is not None and math.isnan(config.stop_margin):
        raise ValueError("stop_margin is nan; expected a lead in logits, or None")


def _check_exact_variance(config: SamplingConfig) -> None:
    """The exact variance is of the denoiser's own estimate, and goes through its Jacobian."""
    for name, only in (("x0_estimate", "denoiser"), ("jacobian", "exact")):
        came = getattr(config, name)
        if config.likelihood_variance == EXACT_VARIANCE and came != only:
            raise ValueError(
                f"likelihood_variance 'exact' needs {name} {only!r}, not {came!r}; "
                f"write --{name.replace('_', '-')} {only} or --likelihood-variance damped"
            )


def _check_stability(config: SamplingConfig, prior: Prior) -> None:
    if config.likelihood_variance in (EXACT_VARIANCE, "damped") or not config.similarity:
        return
    pixels = math.prod(prior.image_shape)
    level = max_stable_sigma(
        config.likelihood_variance, config.similarity, config.sigmas(), pixels, prior.sigma_data
    )
    if config.sigma_start > level * (1 + 1e-9):
        nearer = f"sigma_start <= {level:.3g}, " if level > 0.0021 else ""
        raise ValueError(
            f"likelihood_variance {config.likelihood_variance!r} with similarity {config.similarity:g} "
            f"explodes from sigma_start {config.sigma_start:g}: with these {config.steps} steps it is stable up to {level:.3g}; "
            f"write {nearer}more steps, or likelihood_variance 'damped'"
        )
