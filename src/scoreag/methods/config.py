"""The options of the tasks: defaults, documentation, and checks before any work starts."""

import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import wraps
from inspect import getdoc, signature
from typing import Any, ParamSpec, TypeVar

from jaxtyping import Float
from torch import Tensor

from scoreag.diffusion.guidance import JACOBIANS, X0_ESTIMATES, Interval
from scoreag.diffusion.likelihoods import EXACT_VARIANCE, VARIANCES, max_stable_sigma
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.parameterizations import null_label
from scoreag.diffusion.prior import Prior
from scoreag.diffusion.prior_guidance import HEAD, NULL, WEAKER, has_head
from scoreag.methods.scale_search import AUTO, SEARCHES, searched_option
from scoreag.registry import (
    UnknownNameError,
    UnknownOptionError,
    component_names,
    describe_value,
    did_you_mean,
    load_component,
)

PACES = ("greedy", "uniform", "proportional")
MAX_BUDGET = 1e6
P = ParamSpec("P")
T = TypeVar("T")

CHOICES: dict[str, Iterable[str]] = {
    "jacobian": JACOBIANS,
    "x0_estimate": X0_ESTIMATES,
    "likelihood_variance": (*VARIANCES, EXACT_VARIANCE),
    "attack_loss": ("likelihood", "margin"),
    "energy_pace": PACES,
}
TYPES: dict[str, tuple[Any, str]] = {
    **dict.fromkeys(("attack_scale", "similarity"), (float | int | str, "a number, or 'auto'")),
    **dict.fromkeys(("sigma_start", "guidance_scale"), (float | int, "a number")),
    **dict.fromkeys(
        ("steps", "max_restarts", "x0_steps", "augmentations"), (int, "a whole number")
    ),
    **dict.fromkeys(("sampler", "guide", *CHOICES), (str, "a name")),
    "sampler_options": (Mapping, "a mapping of names to values"),
    **dict.fromkeys(
        ("normalize_gradient", "polyak_step", "tangent_projection"), (bool, "True or False")
    ),
    "momentum": (float | int, "a number"),
    **dict.fromkeys(("stop_margin", "energy_budget"), (float | int | None, "a number, or None")),
    **dict.fromkeys(
        ("attack_interval", "guidance_interval"), (tuple | list | None, "(low, high), or None")
    ),
}
MINIMA = {
    "attack_scale": 0, "similarity": 0, "guidance_scale": 0, "max_restarts": 0, "steps": 1,
    "x0_steps": 0, "augmentations": 0, "momentum": 0,
}  # fmt: skip
INTERVALS = ("attack_interval", "guidance_interval")
CLASSIFIER_ONLY_FIELDS = (
    "attack_scale", "attack_interval", "attack_loss", "normalize_gradient", "stop_margin",
    "max_restarts", "polyak_step", "momentum", "tangent_projection", "x0_steps", "augmentations",
    "energy_budget", "energy_pace",
)  # fmt: skip
IMAGE_ONLY_FIELDS = ("similarity", "likelihood_variance")
NULL_OR = "'null' or "  # of a message about guides
GUIDANCE_FIELDS = ("guidance_scale", "guide", "guidance_interval")
DOCS = {  # of the parameters that several public functions share
    "classifier": "images in [0, 1] to logits (batch, classes), in eval mode; a module, a "
    "function, or what ``defend`` returns.",
    "images": "(batch, channel, height, width), of the prior's shape: float32 or float64 in "
    "[0, 1], or uint8.",
    "seed": "0 or more; with the image id it determines the noise of an image.",
    "image_ids": "one per image, all different; by default 0, 1, 2, ...",
    "judge": "reference classifier of the same classes, trained separately. It checks at the end "
    "whether the images still show their labels, and guides nothing.",
    "batch_size": "images per forward pass, 1 to 4096; 0: all at once, unpadded.",
    "progress": "whether to show a progress bar.",
    "attack_scale": "s_y >= 0, the weight of the classifier's guidance; 0: no attack; "
    "``auto``: for each image the smallest at which the classifier errs.",
    "attack_loss": "``likelihood`` of the target (or of any error), or ``margin`` of the logits.",
    "attack_interval": "the lowest and highest noise level at which the classifier guides.",
    "normalize_gradient": "rescale its gradient to the length ``attack_scale`` at every call.",
    "polyak_step": "give it the length at which, to first order, the goal is reached, times "
    "``attack_scale``.",
    "momentum": "of its sum over the calls of a chain; 0: none.",
    "tangent_projection": "leave out its part along the score, as DPAC does.",
    "x0_steps": "further steps on the x0-estimate itself at every call, without the denoiser.",
    "augmentations": "random views of the x0-estimate, whose mean logits guide; 0: itself.",
    "stop_margin": "margin of the logits above which guidance pauses; inf: never.",
    "max_restarts": "how often a failed image is sampled again, each time at twice the scale; of "
    "a fixed ``attack_scale`` only.",
    "energy_budget": "R > 0: the squares of the attack's shifts of the sampler's noise, in its "
    "deviations, never sum to more than R^2; of samplers that draw noise. None: no limit. A bound "
    "holds for one image of a fixed ``attack_scale``, not of ``auto`` or of restarts.",
    "energy_pace": "``greedy``: what the attack takes, while any is left; ``uniform``: an equal "
    "share at each draw after a guided noise level, and what was left over before; "
    "``proportional``: there, in proportion to the noise level that is drawn to.",
    "similarity": "s_x >= 0, the inverse variance around the given image, in [-1, 1]; ``auto``, "
    "with a number as ``attack_scale``: for each image the largest at which the classifier errs.",
    "likelihood_variance": "variance of the x0-estimate: ``constant`` (DPS), ``widened``, "
    "``damped`` (PiGDM's weight) or ``exact`` (MMPS).",
    "guidance_scale": "w of the prior's guidance ``D_guide + w (D - D_guide)``: 1 is none, more "
    "shows the class more clearly.",
    "guide": "``null``, the model without the label; ``head``, its network's second output, at no "
    "further cost; or ``weaker:NAME``, another score model.",
    "guidance_interval": "the lowest and highest noise level at which the prior is guided.",
    "sigma_start": "noise level at which the chain starts, in units of [-1, 1]; 0.002 to 1000.",
    "steps": "number of noise levels above 0, at least 1.",
    "sampler": "one of ``scoreag list samplers``.",
    "sampler_options": "options of that sampler, by name.",
    "jacobian": "of the denoiser: ``exact``, ``identity`` (MPGD) or ``finite_difference``.",
    "x0_estimate": "at which the likelihoods are evaluated: ``denoiser``, ``ode_euler`` or "
    "``sde_euler``.",
}
RAISES = """
Raises:
    ValueError: an input, an option or a combination that cannot work; the message says what to
        write instead."""


@dataclass(frozen=True)
class SamplingConfig:
    """How a task samples; ``DOCS`` explains the options.

    An interval None is all noise levels, and ``stop_margin`` None never pauses.
    """

    attack_scale: float | str = 10.0
    similarity: float | str = 100.0
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
    polyak_step: bool = False
    momentum: float = 0.0
    tangent_projection: bool = False
    x0_steps: int = 0
    augmentations: int = 0
    stop_margin: float | None = None
    max_restarts: int = 0
    energy_budget: float | None = None
    energy_pace: str = PACES[0]
    guidance_scale: float = 1.0
    guide: str = NULL
    guidance_interval: Interval | None = None

    @property
    def searched(self) -> str:
        """The option whose value is searched for each image, or ""."""
        return searched_option(vars(self))

    def strengths(self, task: str) -> dict[str, float]:
        """The attack scale and the similarity of a task, NaN where they are searched for."""
        names = [name for name in SEARCHES if name in fields_for_task(task)]
        values = {name: getattr(self, name) for name in names}
        return {n: math.nan if value == AUTO else float(value) for n, value in values.items()}

    def sigmas(self) -> Float[Tensor, " levels"]:
        """The noise levels, from ``sigma_start`` down to 0."""
        schedule = getattr(load_component("samplers", self.sampler), "noise_schedule", karras)
        levels: Tensor = schedule(self.steps, sigma_max=self.sigma_start)
        return levels

    def to_dict(self, task: str = "") -> dict[str, Any]:
        """Plain values for a manifest; only the options of ``task``, if it is named."""
        return self.subset(fields_for_task(task))

    def subset(self, field_names: Iterable[str]) -> dict[str, Any]:
        """The plain values of some fields."""
        plain = {**asdict(self), "sampler_options": dict(self.sampler_options)}
        return {name: plain[name] for name in field_names}


FIELDS = tuple(f.name for f in fields(SamplingConfig))
TASK_DEFAULTS: dict[str, dict[str, Any]] = {  # where the model's card has no entry
    "synthesize": {"attack_scale": AUTO},
    "transform": {"sigma_start": 1.0, "steps": 12, "similarity": 100.0, "attack_scale": AUTO},
    "purify": {"sigma_start": 1.0, "steps": 10, "similarity": 30.0, "attack_scale": 0.0},
}


def fields_for_task(task: str) -> list[str]:
    """The options of a task: no classifier guides ``purify``, and ``synthesize`` has no image."""
    without = {"purify": CLASSIFIER_ONLY_FIELDS, "synthesize": IMAGE_ONLY_FIELDS}.get(task, ())
    return [name for name in FIELDS if name not in without]


def given_options(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The sampling options among a function's arguments that are not None."""
    return {name: arguments[name] for name in FIELDS if arguments.get(name) is not None}


def document_options(function: Callable[P, T]) -> Callable[P, T]:
    """Fill ``{options}`` in the docstring of ``function`` from ``DOCS``.

    It becomes the list of all parameters that the docstring does not explain itself.
    """
    text = getdoc(function) or ""
    lines = [
        textwrap.fill(f"{name}: {DOCS[name]}", 96, initial_indent="    ", subsequent_indent=" " * 8)
        for name in signature(function).parameters
        if f"\n    {name}: " not in text
    ]
    function.__doc__ = text.replace("    {options}", "\n".join(lines)) + f"\n{RAISES}\n"
    return function


def answer_unknown_options(function: Callable[P, T]) -> Callable[P, T]:
    """``function`` with an error for an unknown keyword that names the right one."""
    known = list(signature(function).parameters)

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        _check_known(function.__name__, known, kwargs)
        return function(*args, **kwargs)

    return checked


def resolve_task_config(prior: Prior, task: str, **overrides: Any) -> SamplingConfig:
    """The checked options of a task: ``overrides`` over the card's over ``TASK_DEFAULTS``.

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
    """The checked options of a task or purifier: ``overrides`` over the card's over ``base``."""
    _check_known(task, field_names, overrides)
    nullable = ("stop_margin", "energy_budget", *INTERVALS)
    changes = {n: value for n, value in overrides.items() if value is not None or n in nullable}
    defaults = {**base, **prior.defaults.get(task, {})}
    if "sampler" in changes and changes["sampler"] != defaults.get("sampler"):
        defaults.pop("sampler_options", None)
    merged = {**defaults, **changes}
    _check_types(merged)
    merged |= {n: tuple(merged[n]) for n in INTERVALS if merged.get(n) is not None}  # cards: lists
    config = SamplingConfig(**merged)
    _check_names(config)
    _check_numbers(config)
    _check_exact_variance(config)
    _check_guidance(config, prior, task, overrides)
    _check_search(config, task, field_names, overrides)
    _check_gradient(config)
    _check_energy(config, overrides)
    everywhere = (0, math.inf)
    if config.attack_interval == everywhere:
        config = replace(config, attack_interval=None)
    if config.guidance_interval == everywhere:
        config = replace(config, guidance_interval=None)
    if config.stop_margin == math.inf:
        config = replace(config, stop_margin=None)
    if config.searched:
        config = replace(config, max_restarts=0)
    if task != "synthesize":
        _check_stability(config, prior)
    return config


def _check_known(task: str, known: Sequence[str], options: Mapping[str, Any]) -> None:
    for name in (name for name in options if name not in known):
        if name in CLASSIFIER_ONLY_FIELDS and "attack_scale" not in known:
            reason = f"no classifier guides it; leave {name} out"
            if "similarity" in known:
                reason += ", and set how closely it keeps to the image by similarity"
        elif name in IMAGE_ONLY_FIELDS and task == "synthesize":
            reason = f"there is no image to stay close to; leave {name} out"
        elif name in GUIDANCE_FIELDS and "sigma_start" in known:
            if options[name] in (1, NULL, None):
                continue
            reason = (
                "it calls the denoiser itself, without guidance of the prior; "
                f"leave {name} out, or write guidance_scale 1"
            )
        else:
            hint = did_you_mean(name, [*known])
            raise UnknownOptionError(f"{task} takes no option {name!r}; {hint}")
        if options[name] is not None:
            raise UnknownOptionError(f"{task} takes no {name}: {reason}")


def _check_types(merged: Mapping[str, Any]) -> None:
    for name, value in merged.items():
        type_, expected = TYPES[name]
        is_word = isinstance(value, str) and name in SEARCHES and value != AUTO
        is_bool = isinstance(value, bool) and type_ is not bool
        if is_word or is_bool or not isinstance(value, type_):
            raise ValueError(f"{name} is {describe_value(value)}; expected {expected}")
    for name in INTERVALS:
        pair = merged.get(name) or (0, 1)
        if not (len(pair) == 2 and all(isinstance(v, float | int) for v in pair)):
            raise ValueError(
                f"{name} is {describe_value(pair)}; expected two numbers, e.g. (0.1, 10)"
            )


def _check_names(config: SamplingConfig) -> None:
    for name, known in {"sampler": component_names("samplers"), **CHOICES}.items():
        word = getattr(config, name)
        if word not in known and not (name == "sampler" and "." in word):
            raise UnknownNameError(f"no {name} {word!r}; {did_you_mean(word, list(known))}")
    parameters = signature(_load_sampler(config.sampler)).parameters.values()
    accepted = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    for option in config.sampler_options:
        if option not in accepted:
            hint = did_you_mean(option, accepted) if accepted else "it has none"
            raise ValueError(f"{config.sampler} takes no option {option!r}; {hint}")


def _load_sampler(sampler: str) -> Callable[..., Any]:
    """The function of a sampler, which may be in a module of another package."""
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
        if value == AUTO and name in SEARCHES:
            continue
        if not (math.isfinite(value) and value >= minimum):
            raise ValueError(f"{name} is {value}; expected a number of at least {minimum}")
    if not 0.002 < config.sigma_start <= 1000:
        raise ValueError(
            f"sigma_start is {config.sigma_start}; expected a noise level above 0.002 and at most "
            "1000, e.g. 80 (from pure noise) or 1 (near the given image)"
        )
    for name in INTERVALS:
        low, high = getattr(config, name) or (0, 1)
        if not 0 <= low < high:
            raise ValueError(f"{name} is {(low, high)}; expected 0 <= low < high, e.g. 0.1,10")
    if config.stop_margin is not None and math.isnan(config.stop_margin):
        raise ValueError("stop_margin is nan; expected a margin of logits, or None")


def _check_exact_variance(config: SamplingConfig) -> None:
    """The exact variance belongs to the denoiser's own estimate and needs its Jacobian."""
    for name, required in (("x0_estimate", "denoiser"), ("jacobian", "exact")):
        value = getattr(config, name)
        if config.likelihood_variance == EXACT_VARIANCE and value != required:
            raise ValueError(
                f"likelihood_variance 'exact' needs {name} {required!r}, not {value!r}; "
                f"write --{name.replace('_', '-')} {required} or --likelihood-variance damped"
            )


def _check_guidance(
    config: SamplingConfig, prior: Prior, task: str, overrides: Mapping[str, Any]
) -> None:
    """A guide that the model has, of a scale at which it acts."""
    if not config.guide.removeprefix(WEAKER).strip(" "):
        raise ValueError("guide 'weaker:' names no score model; write weaker:NAME")
    if config.guide not in (NULL, HEAD) and not config.guide.startswith(WEAKER):
        raise UnknownNameError(
            f"no guide {config.guide!r}; write 'null', 'head', or 'weaker:NAME' with a score "
            "model's name or folder"
        )
    if config.guidance_scale == 1:
        acting = {
            "guide": overrides.get("guide", NULL) not in (NULL, None),
            "guidance_interval": overrides.get("guidance_interval") is not None,
        }
        idle = [name for name, acts in acting.items() if acts]
        if idle:
            raise ValueError(
                f"guidance_scale is 1, at which {idle[0]} does nothing; write a guidance_scale "
                "above 1, e.g. 2"
            )
    elif config.guide == NULL:
        labeled = task in ("synthesize", "transform") and bool(prior.classes)
        if not labeled or null_label(prior.model) is None:
            lack = (
                "this model has no null label" if labeled else f"{task} of this model has no labels"
            )
            raise ValueError(
                f"guidance_scale is {config.guidance_scale:g} and guide is 'null', but {lack}; "
                f"write guide {_other_guide(prior)}, or guidance_scale 1"
            )
    elif config.guide == HEAD and not has_head(prior.model):
        labeled = task in ("synthesize", "transform") and null_label(prior.model) is not None
        raise ValueError(
            "guide is 'head', but the network of this model has no second output; write guide "
            f"{NULL_OR if labeled else ''}'weaker:NAME', or train a network with option head_at"
        )


def _other_guide(prior: Prior) -> str:
    """What guides where the null label cannot."""
    return "'head' or 'weaker:NAME'" if has_head(prior.model) else "'weaker:NAME'"


def _check_gradient(config: SamplingConfig) -> None:
    """One rule for the length of the gradient, and a memory that fades."""
    if config.normalize_gradient and config.polyak_step:
        raise ValueError(
            "normalize_gradient and polyak_step both set the length of the gradient; write "
            "normalize_gradient=False or polyak_step=False"
        )
    if config.momentum >= 1:
        raise ValueError(
            f"momentum is {config.momentum:g}; expected a number from 0 to below 1, e.g. 0.5"
        )


def _check_energy(config: SamplingConfig, overrides: Mapping[str, Any]) -> None:
    """A budget above 0, of a sampler that draws noise."""
    budget = config.energy_budget
    if budget is None:
        if overrides.get("energy_pace", PACES[0]) not in (PACES[0], None):
            raise ValueError(
                "energy_pace shares out an energy_budget; write one, e.g. 2, or leave it out"
            )
        return
    if not 0 < budget <= MAX_BUDGET:
        raise ValueError(
            f"energy_budget is {budget}; expected a length above 0 and at most {MAX_BUDGET:g}, in "
            "deviations of the noise, e.g. 2"
        )
    if config.attack_scale == 0:
        raise ValueError(
            "energy_budget limits an attack, and attack_scale is 0; write a number above 0, or "
            "leave energy_budget out"
        )
    check_draws_noise(config, "energy_budget limits")
    if not any(guided for _, guided in guided_draws(config)):
        low, high = config.attack_interval or (0.0, math.inf)
        first, *_, last = config.sigmas().tolist()[:-1]
        raise ValueError(
            f"the attack guides from {low:g} to {high:g}, and no noise is drawn after such a noise "
            f"level; there are {config.steps} levels from {first:.3g} to {last:.3g}: write another "
            "attack_interval, or more steps"
        )


def check_draws_noise(config: SamplingConfig, limit: str = "an energy is") -> None:
    """Refuse a sampler that draws no noise which could be shifted.

    Args:
        limit: what asks for it, and its verb.
    """
    if not draw_levels(config):
        raise ValueError(
            f"{limit} how far the attack shifts the noise that a sampler draws, and "
            f"{config.sampler} draws none with these options; write sampler ancestral, and 2 steps "
            "or more"
        )


def draw_levels(config: SamplingConfig) -> list[float]:
    """The noise levels at which the sampler draws noise after its start; empty without any."""
    component = load_component("samplers", config.sampler)
    levels = getattr(component, "draw_levels", None)
    return levels(config.sigmas().tolist(), **config.sampler_options) if levels else []


def guided_draws(config: SamplingConfig) -> list[tuple[float, bool]]:
    """The noise level of each draw, and whether the attack guides at the level above it."""
    levels = config.sigmas().tolist()
    low, high = config.attack_interval or (0.0, math.inf)
    return [
        (draw, low <= min(level for level in levels if level > draw) <= high)
        for draw in draw_levels(config)
    ]


def _check_search(
    config: SamplingConfig, task: str, field_names: Sequence[str], overrides: Mapping[str, Any]
) -> None:
    """One searched option, of a task that has a classifier to fool."""
    if config.similarity == AUTO and "attack_scale" not in field_names:
        raise ValueError(
            f"similarity is 'auto', and no classifier guides {task}; write a number, e.g. 30"
        )
    if config.similarity == AUTO and config.attack_scale in (AUTO, 0):
        raise ValueError(
            f"similarity is 'auto' and attack_scale {config.attack_scale!r}; one of them can be "
            "searched for at a time: write a number above 0 as attack_scale, e.g. 100"
        )
    if config.searched and overrides.get("max_restarts"):
        raise ValueError(
            f"max_restarts is for a fixed attack_scale; with {config.searched} 'auto' each image "
            "is sampled until its value is found: leave max_restarts out, or write a number as "
            f"{config.searched}"
        )


def _check_stability(config: SamplingConfig, prior: Prior) -> None:
    if config.likelihood_variance in (EXACT_VARIANCE, "damped") or not config.similarity:
        return
    similarity = config.similarity
    if isinstance(similarity, str):  # the largest that may be tried
        similarity = 1 / SEARCHES["similarity"].least
    pixels = math.prod(prior.image_shape)
    level = max_stable_sigma(
        config.likelihood_variance, similarity, config.sigmas(), pixels, prior.sigma_data
    )
    if config.sigma_start > level * (1 + 1e-9):
        lower_start = f"sigma_start <= {level:.3g}, " if level > 0.0021 else ""
        raise ValueError(
            f"likelihood_variance {config.likelihood_variance!r} with similarity "
            f"{similarity:g} explodes from sigma_start {config.sigma_start:g}: with these "
            f"{config.steps} steps it is stable up to {level:.3g}; "
            f"write {lower_start}more steps, or likelihood_variance 'damped'"
        )
