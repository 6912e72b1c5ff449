"""Noise levels of the package diffusers: its tables of betas, and the settings of its schedulers.

A scheduler has settings of two kinds: those of its network, which are read, and those of its
sampler, of which the clipping alone is read.  Every setting must be known to be of one kind.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.diffusion.parameterizations import (
    Parameterization,
    cosine_alphas_cumprod,
    ddpm,
    linear_alphas_cumprod,
    v_prediction,
    x0_prediction,
)
from scoreag.registry import did_you_mean

AlphasCumprod = Float[Tensor, " steps"]
SchedulerConfig = Mapping[str, Any]
MAX_STEPS, MAX_BETAS = 100_000, 10_000  # of a schedule; betas that a card lists one by one
PREDICTIONS: dict[str, Callable[[AlphasCumprod], Parameterization]] = {
    "epsilon": ddpm, "v_prediction": v_prediction, "sample": x0_prediction
}  # fmt: skip


def discrete(
    predicts: str = "epsilon",
    schedule: str = "linear",
    steps: int = 1000,
    beta_start: float = 1e-4,
    beta_end: float = 0.02,
    betas: Sequence[float] = (),
    snr_shift: float = 1.0,
    zero_snr: bool = False,
) -> Parameterization:
    """A network whose time is a step in a table of betas.

    Args:
        predicts: the noise ("epsilon"), v ("v_prediction") or the image ("sample").
        betas: the table itself, in place of a schedule.
        snr_shift: the signal-to-noise ratio is divided by it at all steps.
        zero_snr: the last step has no signal; Lin et al. (2024), algorithm 1.
    """
    if predicts not in PREDICTIONS:
        raise ValueError(
            f"a prediction {predicts!r}; {did_you_mean(str(predicts), list(PREDICTIONS))}"
        )
    alphas = _from_betas(betas) if len(betas) else _schedule(schedule, steps, beta_start, beta_end)
    alphas = alphas / (snr_shift + (1 - snr_shift) * alphas)
    alphas = _rescale_zero_snr(alphas) if zero_snr else alphas
    alphas = alphas[alphas > 0]  # a step without any image has no finite level
    ratios = alphas[1:] / alphas[:-1]
    if len(alphas) < 2 or not (alphas[0] < 1 and bool((ratios < 1).all())):
        raise ValueError("its betas are no table of rising noise; each is above 0 and below 1")
    return PREDICTIONS[predicts](alphas)


def _from_betas(betas: Sequence[float]) -> AlphasCumprod:
    if len(betas) > MAX_BETAS:
        raise ValueError(f"{len(betas)} betas; at most {MAX_BETAS} are read")
    return (1 - torch.tensor(betas, dtype=torch.float64)).cumprod(0)


def _schedule(name: str, steps: int, beta_start: float, beta_end: float) -> AlphasCumprod:
    if not 2 <= steps <= MAX_STEPS:
        raise ValueError(f"{steps} steps; from 2 to {MAX_STEPS} are read")
    if not 0 < beta_start <= beta_end < 1:
        raise ValueError(f"betas from {beta_start} to {beta_end}; they rise, above 0 and below 1")
    if name not in SCHEDULES:
        raise ValueError(f"a schedule {name!r}; {did_you_mean(str(name), list(SCHEDULES))}")
    return SCHEDULES[name](steps, beta_start, beta_end)


def _scaled_linear(steps: int, beta_start: float, beta_end: float) -> AlphasCumprod:
    roots = torch.linspace(math.sqrt(beta_start), math.sqrt(beta_end), steps, dtype=torch.float64)
    return (1 - roots**2).cumprod(0)


def _sigmoid(steps: int, beta_start: float, beta_end: float) -> AlphasCumprod:
    rise = torch.linspace(-6, 6, steps, dtype=torch.float64).sigmoid()
    return (1 - (beta_start + rise * (beta_end - beta_start))).cumprod(0)


def _laplace(steps: int, *ends: float) -> AlphasCumprod:
    t = 0.5 - torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    log_snr = -t.sign() * (1 - 2 * t.abs() + 1e-6).log() / 2
    return _clip_betas((log_snr.sigmoid()).sqrt())


def _exp(steps: int, *ends: float) -> AlphasCumprod:
    return _clip_betas((-12 * torch.linspace(0, 1, steps + 1, dtype=torch.float64)).exp())


def _clip_betas(alpha_bar: Tensor) -> AlphasCumprod:
    """No beta is above 0.999."""
    return (alpha_bar[1:] / alpha_bar[:-1]).clamp(min=0.001).cumprod(0)


def _rescale_zero_snr(alphas_cumprod: AlphasCumprod) -> AlphasCumprod:
    root = alphas_cumprod.sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


SCHEDULES: dict[str, Callable[[int, float, float], AlphasCumprod]] = {
    "linear": linear_alphas_cumprod, "scaled_linear": _scaled_linear, "sigmoid": _sigmoid,
    "squaredcos_cap_v2": lambda steps, *ends: cosine_alphas_cumprod(steps),
    "laplace": _laplace, "exp": _exp,
}  # fmt: skip


class Prediction(NamedTuple):
    """The family of a network, as in its card, and the deviation of its data."""

    family: str
    schedule_kwargs: dict[str, Any]
    sigma_data: float = 0.5


BETA_SCHEDULE = {  # settings of a table of betas, and their defaults
    "num_train_timesteps": 1000, "beta_schedule": "linear", "beta_start": 0.0001,
    "beta_end": 0.02, "trained_betas": None, "prediction_type": "epsilon",
}  # fmt: skip
LATENT_BETA_SCHEDULE = BETA_SCHEDULE | {"beta_start": 0.00085, "beta_end": 0.012}
ZERO_SNR = {"rescale_betas_zero_snr": False}
FLOW_SIGMAS = {"use_flow_sigmas": False}
SHIFTED_BETA_SCHEDULE = (
    LATENT_BETA_SCHEDULE | ZERO_SNR | {"beta_schedule": "scaled_linear", "snr_shift_scale": 3.0}
)
BETA_SCHEDULERS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        ("DDPMScheduler", "DDPMParallelScheduler", "DDIMScheduler", "DDIMParallelScheduler",
         "DDIMInverseScheduler", "EulerAncestralDiscreteScheduler"),
        BETA_SCHEDULE | ZERO_SNR,
    ),
    "EulerDiscreteScheduler": BETA_SCHEDULE | ZERO_SNR | {"timestep_type": "discrete"},
    **dict.fromkeys(("PNDMScheduler", "LMSDiscreteScheduler"), BETA_SCHEDULE),
    "RePaintScheduler": {n: v for n, v in BETA_SCHEDULE.items() if n != "prediction_type"},
    "UnCLIPScheduler": {
        "num_train_timesteps": 1000, "prediction_type": "epsilon",
        "beta_schedule": "squaredcos_cap_v2",
    },
    **dict.fromkeys(
        ("HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
         "DPMSolverSDEScheduler"),
        LATENT_BETA_SCHEDULE,
    ),
    **dict.fromkeys(
        ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler"),
        BETA_SCHEDULE | ZERO_SNR | FLOW_SIGMAS,
    ),
    **dict.fromkeys(
        ("DPMSolverMultistepInverseScheduler", "DPMSolverSinglestepScheduler",
         "DEISMultistepScheduler", "SASolverScheduler"),
        BETA_SCHEDULE | FLOW_SIGMAS,
    ),
    **dict.fromkeys(("CogVideoXDDIMScheduler", "CogVideoXDPMScheduler"), SHIFTED_BETA_SCHEDULE),
}  # fmt: skip
CLIPPING = ("DDPMScheduler", "DDPMParallelScheduler", "DDIMScheduler", "DDIMParallelScheduler",
            "DDIMInverseScheduler")  # fmt: skip
CLIPPED = {"clip_sample": True, "clip_sample_range": 1.0}  # their defaults
TIMESTEPS = {"num_train_timesteps": 1000}  # unused where a network takes the level itself
EDM = TIMESTEPS | {"sigma_data": 0.5, "prediction_type": "epsilon"}
FLOW = {"num_train_timesteps": 1000, "shift": 1.0, "invert_sigmas": False}
SCHEDULERS: dict[str, dict[str, Any]] = BETA_SCHEDULERS | {
    **dict.fromkeys(("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"), EDM),
    **dict.fromkeys(("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"), FLOW),
    **dict.fromkeys(("ScoreSdeVeScheduler", "KarrasVeScheduler"), TIMESTEPS),
}
DISTILLED = (  # their networks jump to the end of a path, which is not the mean of the images
    "LCMScheduler", "TCDScheduler", "CMStochasticIterativeScheduler", "FlowMatchLCMScheduler",
    "SCMScheduler", "FlowMapEulerDiscreteScheduler",
)  # fmt: skip
NEUTRAL_VALUES = {  # settings without effect at this value, whatever the class
    "prediction_type": "epsilon", "snr_shift_scale": 1.0, "timestep_type": "discrete",
    "predict_epsilon": True,
}  # fmt: skip
TRAINING_KEYS = {"predict_epsilon"}.union(*SCHEDULERS.values())
SAMPLING_KEYS = frozenset((  # of the sampler alone, not of its network
    "algorithm_type", "base_image_seq_len", "base_shift", "clip_sample", "clip_sample_range",
    "correct_steps", "corrector_order", "disable_corrector", "dynamic_thresholding_ratio", "eta",
    "euler_at_final", "final_sigmas_type", "flow_shift", "interpolation_type",
    "lambda_min_clipped", "lower_order_final", "max_image_seq_len", "max_shift",
    "noise_sampler_seed", "predict_x0", "predictor_order", "rho", "s_churn", "s_max", "s_min",
    "s_noise", "sample_max_value", "sampling_eps", "set_alpha_to_one", "set_alpha_to_zero",
    "shift_terminal", "sigma_max", "sigma_min", "sigma_schedule", "skip_prk_steps", "snr",
    "solver_order", "solver_p", "solver_type", "steps_offset", "stochastic_sampling", "tau_func",
    "tensor_format", "thresholding", "time_shift_type", "timestep_spacing", "timestep_values",
    "timesteps", "use_beta_sigmas", "use_dynamic_shifting", "use_exponential_sigmas",
    "use_karras_sigmas", "use_lu_lambdas", "variance_type",
))  # fmt: skip
COMMON_TABLES: dict[str, dict[str, Any]] = {  # families of their own
    "ddpm": {},
    "ddpm_cosine": {"schedule": "squaredcos_cap_v2"},
    "v_prediction": {"predicts": "v_prediction"},
}
TYPES: dict[str, Any] = {"a word": str, "a number": int | float, "a whole number": int}


def parse_scheduler(config: SchedulerConfig, file: str) -> Prediction:
    """The family of the network beside a scheduler with these settings."""
    name = "" if config.get("_class_name") is None else str(config["_class_name"])
    if name not in SCHEDULERS:
        raise ValueError(f"{file}: {_unsupported_message(name)}")
    _check_keys(config, name, file)
    settings = {key: config.get(key, value) for key, value in SCHEDULERS[name].items()}
    try:
        if "sigma_data" in settings:
            return _parse_edm(settings)
        if "shift" in settings or settings.get("use_flow_sigmas"):
            return _parse_flow(settings)
        return _parse_betas(settings) if name in BETA_SCHEDULERS else Prediction("unit_score", {})
    except ValueError as error:
        raise ValueError(f"{file}, {name}: {error}") from error


def find_x0_limit(config: SchedulerConfig, file: str) -> float | None:
    """To what the scheduler clips its x0-estimates; None where it does not.

    The samplers of Ho et al. (2020) and Song et al. (2021) do so, at 1 by default.
    """
    if config.get("_class_name") not in CLIPPING or config.get("thresholding"):
        return None
    settings = {**CLIPPED, **{name: config[name] for name in CLIPPED if name in config}}
    if not settings["clip_sample"]:
        return None
    limit = _get(settings, "clip_sample_range", "a number")
    if not 0 < limit < math.inf:
        raise ValueError(f"{file}: clip_sample_range is {limit}; expected a positive number")
    return float(limit)


def _unsupported_message(name: str) -> str:
    if not name:
        return 'it has no _class_name; add that of the scheduler, such as "DDPMScheduler"'
    if name in DISTILLED:
        return (
            f"a {name}, whose network is distilled: it predicts one image, not the mean of all "
            "that fit; take the network that it was distilled from"
        )
    hint = did_you_mean(name[:80], list(SCHEDULERS))
    if not hint.startswith("did"):
        hint = (
            "read are those of tables of betas (DDPM, DDIM, PNDM, DPMSolver, Euler, Heun, ...), "
            "EDMEuler, EDMDPMSolverMultistep, FlowMatchEuler, FlowMatchHeun, ScoreSdeVe and "
            "KarrasVe"
        )
    return f"a scheduler {name[:80]!r}; {hint}"


def _check_keys(config: SchedulerConfig, name: str, file: str) -> None:
    """Refuse a setting that is unknown, or that has an effect on another class only."""
    for setting, value in config.items():
        if setting.startswith("_") or setting in SAMPLING_KEYS or setting in SCHEDULERS[name]:
            continue
        neutral = NEUTRAL_VALUES.get(setting, False)
        if value is None or value is neutral or (neutral and value == neutral):
            continue
        if setting in TRAINING_KEYS:
            raise ValueError(
                f"{file}: {setting} is {str(value)[:80]}, which {name} does not use; put the "
                "scheduler there that the network was trained with"
            )
        raise ValueError(
            f"{file}: a setting {setting[:80]!r} of {name}, which is not known here; remove it "
            "if it says nothing of the network"
        )


def _parse_edm(config: SchedulerConfig) -> Prediction:
    if (predicts := _get(config, "prediction_type", "a word")) not in ("epsilon", "v_prediction"):
        raise ValueError(f"a prediction_type {predicts!r}; read are epsilon and v_prediction")
    if not 0 < (sigma_data := float(_get(config, "sigma_data", "a number"))) < 1000:
        raise ValueError(f"sigma_data is {config['sigma_data']}; expected a positive number")
    return Prediction("edm", {"sign": -1} if predicts == "v_prediction" else {}, sigma_data)


def _parse_flow(config: SchedulerConfig) -> Prediction:
    if (predicts := config.get("prediction_type", "flow_prediction")) != "flow_prediction":
        raise ValueError(f"use_flow_sigmas with {predicts!r}; read is it with flow_prediction")
    if config.get("invert_sigmas"):
        raise ValueError("invert_sigmas is true, and false is known here")
    if not 1 <= (steps := _get(config, "num_train_timesteps", "a whole number")) <= MAX_STEPS:
        raise ValueError(f"num_train_timesteps is {steps}; read are 1 to {MAX_STEPS:,}")
    return Prediction("flow", {"steps": steps} if steps != 1000 else {})


def _parse_betas(config: SchedulerConfig) -> Prediction:
    config = {**BETA_SCHEDULE, "snr_shift_scale": 1.0, **config}
    predicts = _get(config, "prediction_type", "a word")
    if config.get("timestep_type") == "continuous" and predicts == "v_prediction":
        return Prediction("edm", {"sign": -1, "sigma_data": 1.0})
    betas, steps = config["trained_betas"], _get(config, "num_train_timesteps", "a whole number")
    if betas is not None and not (
        isinstance(betas, list)
        and len(betas) == steps
        and all(type(beta) in (int, float) for beta in betas)
    ):
        raise ValueError(f"trained_betas are no list of {steps} numbers, as num_train_timesteps is")
    kwargs: dict[str, Any] = {
        "predicts": predicts,
        "schedule": _get(config, "beta_schedule", "a word"),
        "steps": steps,
        "beta_start": float(_get(config, "beta_start", "a number")),
        "beta_end": float(_get(config, "beta_end", "a number")),
        "betas": betas or (),
        "snr_shift": float(_get(config, "snr_shift_scale", "a number")),
        "zero_snr": bool(config.get("rescale_betas_zero_snr")),
    }
    discrete(**kwargs)  # refuses an invalid table
    unused: tuple[str, ...] = ()
    if betas:
        unused = ("schedule", "steps", "beta_start", "beta_end")
    elif kwargs["schedule"] not in ("linear", "scaled_linear", "sigmoid"):
        unused = ("beta_start", "beta_end")
    defaults = {name: each.default for name, each in signature(discrete).parameters.items()}
    kwargs = {n: v for n, v in kwargs.items() if v != defaults[n] and n not in unused}
    common = next((family for family, table in COMMON_TABLES.items() if table == kwargs), "")
    return Prediction(common, {}) if common else Prediction("discrete", kwargs)


def _get(config: SchedulerConfig, name: str, expected: str) -> Any:
    value = config[name]
    if isinstance(value, bool) or not isinstance(value, TYPES[expected]):
        raise ValueError(f"{name} is {str(value)[:80]!r}; expected {expected}")
    return value[:80] if isinstance(value, str) else value
