"""The options of the tasks: one table, checked before any work starts."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import wraps
from inspect import signature
from types import UnionType
from typing import Any, ParamSpec, TypeVar

from jaxtyping import Float
from torch import Tensor

from scoreag.diffusion.guidance import JACOBIANS, X0_ESTIMATES, Interval
from scoreag.diffusion.likelihoods import EXACT_VARIANCE, VARIANCES, max_stable_sigma
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.prior import Prior
from scoreag.registry import (
    UnknownNameError,
    UnknownOptionError,
    component_names,
    describe_value,
    did_you_mean,
    load_component,
)

P = ParamSpec("P")
T = TypeVar("T")

CHOICES: dict[str, Iterable[str]] = {
    "jacobian": JACOBIANS,
    "x0_estimate": X0_ESTIMATES,
    "likelihood_variance": (*VARIANCES, EXACT_VARIANCE),
    "attack_loss": ("likelihood", "margin"),
}
KINDS: dict[str, tuple[type | UnionType, str]] = {
    **dict.fromkeys(("attack_scale", "similarity", "sigma_start"), (float | int, "a number")),
    **dict.fromkeys(("steps", "max_restarts"), (int, "a whole number")),
    **dict.fromkeys(("sampler", *CHOICES), (str, "a name")),
    "sampler_options": (Mapping, "a mapping of names to values"),
    "normalize_gradient": (bool, "True or False"),
    "stop_margin": (float | int | None, "a number, or None"),
    "attack_interval": (tuple | list | None, "(low, high), or None"),
}
MINIMA = {"attack_scale": 0, "similarity": 0, "max_restarts": 0, "steps": 1}
CLASSIFIER_ONLY_FIELDS = (
    "attack_scale",
    "attack_interval",
    "attack_loss",
    "normalize_gradient",
    "stop_margin",
    "max_restarts",
)
IMAGE_ONLY_FIELDS = ("similarity", "likelihood_variance")
_ARGUMENTS = ("seed", "image_ids", "batch_size", "progress")
TASK_ARGUMENTS = {  # what the tasks take besides, for a hint
    **dict.fromkeys(("synthesize", "transform"), ("target", *_ARGUMENTS)),
    "purify": _ARGUMENTS,
}


@dataclass(frozen=True)
class SamplingConfig:
    """How a task samples; the tasks explain the options.

    ``attack_interval`` None acts at every noise level, and ``stop_margin`` None never stops.
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
        """The plain values of some fields."""
        plain = {**asdict(self), "sampler_options": dict(self.sampler_options)}
        return {name: plain[name] for name in field_names}


def fields_for_task(task: str) -> list[str]:
    """The names of the options of a task; no classifier guides ``purify``."""
    every = [f.name for f in fields(SamplingConfig)]
    return [name for name in every if task != "purify" or name not in CLASSIFIER_ONLY_FIELDS]


TASK_DEFAULTS: dict[str, dict[str, Any]] = {  # for a model whose card says nothing
    "synthesize": {},
    "transform": {"sigma_start": 1.0, "steps": 12, "similarity": 100.0, "attack_scale": 10.0},
    "purify": {"sigma_start": 1.0, "steps": 10, "similarity": 30.0, "attack_scale": 0.0},
}


def given_options(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Of a function's arguments the sampling options that were given: those that are not None."""
    names = (f.name for f in fields(SamplingConfig))
    return {name: arguments[name] for name in names if arguments.get(name) is not None}


def answer_unknown_options(function: Callable[P, T]) -> Callable[P, T]:
    """``function``, which answers a keyword that it does not take with the right one."""
    known = list(signature(function).parameters)

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        _check_known(function.__name__, known, kwargs)
        return function(*args, **kwargs)

    return checked


def resolve_task_config(prior: Prior, task: str, **overrides: Any) -> SamplingConfig:
    """The options of a task: the card's, changed by ``overrides``, checked.

    Raises:
        ValueError: a name, a value or a combination that cannot work; says what to write instead.
    """
    return resolve_config(prior, task, fields_for_task(task), TASK_DEFAULTS[task], overrides)


def resolve_config(
    prior: Prior,
    task: str,
    field_names: Sequence[str],
    base: Mapping[str, Any],
    overrides: Mapping[str, Any],
) -> SamplingConfig:
    """The options ``field_names`` of a task or purifier: ``base``, the card's, ``overrides``."""
    _check_known(task, field_names, overrides)
    off = ("stop_margin", "attack_interval")  # None is a value of these
    given = {name: value for name, value in overrides.items() if value is not None or name in off}
    tuned = {**base, **prior.defaults.get(task, {})}
    if "sampler" in given and given["sampler"] != tuned.get("sampler"):
        tuned.pop("sampler_options", None)
    merged = {**tuned, **given}
    _check_types(merged)
    if merged.get("attack_interval") is not None:  # cards have no tuples
        merged["attack_interval"] = tuple(merged["attack_interval"])
    config = SamplingConfig(**merged)
    _check_names(config)
    _check_numbers(config)
    _check_exact_variance(config)
    if config.attack_interval == (0, math.inf):
        config = replace(config, attack_interval=None)
    if config.stop_margin == math.inf:
        config = replace(config, stop_margin=None)
    if task != "synthesize":
        _check_stability(config, prior)
    return config


def _check_known(task: str, known: Sequence[str], options: Mapping[str, Any]) -> None:
    """Refuse an option that ``task`` does not take, with the one that was probably meant."""
    for name in (name for name in options if name not in known):
        reason = ""
        if name in CLASSIFIER_ONLY_FIELDS and "attack_scale" not in known:
            reason = f"no classifier guides it; leave {name} out"
            if "similarity" in known:
                reason += ", and set how closely it keeps to the image by similarity"
        elif name in IMAGE_ONLY_FIELDS and task == "synthesize":
            reason = f"there is no image to stay close to; leave {name} out"
        if reason and options[name] is not None:
            raise UnknownOptionError(f"{task} takes no {name}: {reason}")
        if not reason:
            hint = did_you_mean(name, [*known, *TASK_ARGUMENTS.get(task, ())])
            raise UnknownOptionError(f"{task} takes no option {name!r}; {hint}")


def _check_types(merged: Mapping[str, Any]) -> None:
    """Each option is of its kind: what came, and what was expected."""
    for name, value in merged.items():
        kind, expected = KINDS[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ValueError(f"{name} is {describe_value(value)}; expected {expected}")
    pair = merged.get("attack_interval")
    if pair is not None and not (len(pair) == 2 and all(isinstance(v, float | int) for v in pair)):
        raise ValueError(
            f"attack_interval is {describe_value(pair)}; expected two numbers, e.g. (0.1, 10)"
        )


def _check_names(config: SamplingConfig) -> None:
    for name, known in {"sampler": component_names("samplers"), **CHOICES}.items():
        word = getattr(config, name)
        if word not in known and not (name == "sampler" and "." in word):
            raise UnknownNameError(f"no {name} {word!r}; {did_you_mean(word, list(known))}")
    parameters = signature(_load_sampler(config.sampler)).parameters.values()
    own = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
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
            f"{', '.join(component_names('samplers'))}, or a module that Python finds, "
            "e.g. in PYTHONPATH"
        ) from error
    except AttributeError as error:
        raise ValueError(f"{sampler} is no sampler: it has no function 'sample'") from error
    return sample


def _check_numbers(config: SamplingConfig) -> None:
    for name, minimum in MINIMA.items():
        value = getattr(config, name)
        if not (math.isfinite(value) and value >= minimum):
            raise ValueError(f"{name} is {value}; expected a number of at least {minimum}")
    if not 0.002 < config.sigma_start <= 1000:
        raise ValueError(
            f"sigma_start is {config.sigma_start}; expected a noise level above 0.002 and at most "
            "1000, e.g. 80 (from nothing) or 1 (near the given image)"
        )
    low, high = config.attack_interval or (0, 1)
    if not 0 <= low < high:
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
            f"likelihood_variance {config.likelihood_variance!r} with similarity "
            f"{config.similarity:g} explodes from sigma_start {config.sigma_start:g}: with these "
            f"{config.steps} steps it is stable up to {level:.3g}; "
            f"write {nearer}more steps, or likelihood_variance 'damped'"
        )
