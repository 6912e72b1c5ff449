"""What a scheduler's settings say of the network beside it: what it predicts, at which levels.

A scheduler of diffusers has settings of two kinds: those that its network was trained with, which
are read, and those of its own way down the noise levels, which mean nothing here.  Each name is
known to be of one kind, or the folder is refused.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from scoreag.models.score_models import discrete
from scoreag.registry import did_you_mean

SchedulerConfig = Mapping[str, Any]


class Prediction(NamedTuple):
    """A name of score_models.py, what its card has to say of it, and the deviation of the data."""

    family: str
    schedule_kwargs: dict[str, Any]
    sigma_data: float = 0.5


BETA_SCHEDULE = {  # settings that say which table of betas, and what a class without them has
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
    "DDPMScheduler": BETA_SCHEDULE | ZERO_SNR,
    "DDPMParallelScheduler": BETA_SCHEDULE | ZERO_SNR,
    "DDIMScheduler": BETA_SCHEDULE | ZERO_SNR,
    "DDIMParallelScheduler": BETA_SCHEDULE | ZERO_SNR,
    "DDIMInverseScheduler": BETA_SCHEDULE | ZERO_SNR,
    "PNDMScheduler": BETA_SCHEDULE,
    "RePaintScheduler": {n: v for n, v in BETA_SCHEDULE.items() if n != "prediction_type"},
    "UnCLIPScheduler": {
        "num_train_timesteps": 1000, "prediction_type": "epsilon",
        "beta_schedule": "squaredcos_cap_v2",
    },
    "EulerDiscreteScheduler": BETA_SCHEDULE | ZERO_SNR | {"timestep_type": "discrete"},
    "EulerAncestralDiscreteScheduler": BETA_SCHEDULE | ZERO_SNR,
    "LMSDiscreteScheduler": BETA_SCHEDULE,
    "HeunDiscreteScheduler": LATENT_BETA_SCHEDULE,
    "KDPM2DiscreteScheduler": LATENT_BETA_SCHEDULE,
    "KDPM2AncestralDiscreteScheduler": LATENT_BETA_SCHEDULE,
    "DPMSolverSDEScheduler": LATENT_BETA_SCHEDULE,
    "DPMSolverMultistepScheduler": BETA_SCHEDULE | ZERO_SNR | FLOW_SIGMAS,
    "DPMSolverMultistepInverseScheduler": BETA_SCHEDULE | FLOW_SIGMAS,
    "DPMSolverSinglestepScheduler": BETA_SCHEDULE | FLOW_SIGMAS,
    "DEISMultistepScheduler": BETA_SCHEDULE | FLOW_SIGMAS,
    "UniPCMultistepScheduler": BETA_SCHEDULE | ZERO_SNR | FLOW_SIGMAS,
    "SASolverScheduler": BETA_SCHEDULE | FLOW_SIGMAS,
    "CogVideoXDDIMScheduler": SHIFTED_BETA_SCHEDULE,
    "CogVideoXDPMScheduler": SHIFTED_BETA_SCHEDULE,
}  # fmt: skip
TIMESTEPS = {"num_train_timesteps": 1000}  # of no account where a network is told the level itself
EDM = TIMESTEPS | {"sigma_data": 0.5, "prediction_type": "epsilon"}
FLOW = {"num_train_timesteps": 1000, "shift": 1.0, "invert_sigmas": False}
SCHEDULERS: dict[str, dict[str, Any]] = BETA_SCHEDULERS | {
    "EDMEulerScheduler": EDM,
    "EDMDPMSolverMultistepScheduler": EDM,
    "FlowMatchEulerDiscreteScheduler": FLOW,
    "FlowMatchHeunDiscreteScheduler": FLOW,
    "ScoreSdeVeScheduler": TIMESTEPS,
    "KarrasVeScheduler": TIMESTEPS,
}
DISTILLED = (  # their networks jump to the end of a path, which is not the mean of the images
    "LCMScheduler", "TCDScheduler", "CMStochasticIterativeScheduler", "FlowMatchLCMScheduler",
    "SCMScheduler", "FlowMapEulerDiscreteScheduler",
)  # fmt: skip
NEUTRAL_VALUES = {  # settings that mean nothing when they have this value, whatever the class
    "prediction_type": "epsilon", "snr_shift_scale": 1.0, "timestep_type": "discrete",
    "predict_epsilon": True,
}  # fmt: skip
TRAINING_KEYS = {name for settings in SCHEDULERS.values() for name in settings} | {
    "predict_epsilon"
}
SAMPLING_KEYS = frozenset((  # how a scheduler walks, clips and draws; nothing of its network
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


def parse_scheduler(config: SchedulerConfig, file: str) -> Prediction:
    """The family of the network beside a scheduler with these settings.

    Raises:
        ValueError: its class, or a setting that matters, is not known; says which.
    """
    name = "" if config.get("_class_name") is None else str(config["_class_name"])
    if name not in SCHEDULERS:
        raise ValueError(f"{file}: {_unsupported_message(name)}")
    _check_keys(config, name, file)
    given = {setting: config.get(setting, value) for setting, value in SCHEDULERS[name].items()}
    try:
        return _select_parser(name, given)(given)
    except ValueError as error:
        raise ValueError(f"{file}, {name}: {error}") from error


def _unsupported_message(name: str) -> str:
    if not name:
        return 'it has no _class_name; add that of the scheduler, such as "DDPMScheduler"'
    if name in DISTILLED:
        return (
            f"a {name}, whose network is distilled: it predicts one image, not the mean of all "
            "that fit; take the network that it was distilled from"
        )
    close = did_you_mean(name[:80], list(SCHEDULERS))
    return f"a scheduler {name[:80]!r}; " + (
        close
        if close.startswith("did")
        else "read are those of tables of betas (DDPM, DDIM, PNDM, DPMSolver, Euler, Heun, ...), "
        "EDMEuler, EDMDPMSolverMultistep, FlowMatchEuler, FlowMatchHeun, ScoreSdeVe and KarrasVe"
    )


def _check_keys(config: SchedulerConfig, name: str, file: str) -> None:
    """Refuse a setting that is not known, or that matters for another class than this."""
    for setting, value in config.items():
        if setting.startswith("_") or setting in SAMPLING_KEYS or setting in SCHEDULERS[name]:
            continue
        if (
            value is None
            or value is NEUTRAL_VALUES.get(setting, False)
            or value == NEUTRAL_VALUES.get(setting)
        ):
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


def _select_parser(name: str, config: SchedulerConfig) -> Callable[[SchedulerConfig], Prediction]:
    if name in BETA_SCHEDULERS:
        return _parse_flow if config.get("use_flow_sigmas") else _parse_betas
    if name.startswith("EDM"):
        return _parse_edm
    return (
        _parse_flow if name.startswith("FlowMatch") else lambda given: Prediction("unit_score", {})
    )


def _parse_edm(config: SchedulerConfig) -> Prediction:
    if (predicts := _get_str(config, "prediction_type")) not in ("epsilon", "v_prediction"):
        raise ValueError(f"a prediction_type {predicts!r}; read are epsilon and v_prediction")
    if not 0 < (sigma_data := _get_float(config, "sigma_data")) < 1000:
        raise ValueError(f"sigma_data is {config['sigma_data']}; expected a positive number")
    levels = {"sign": -1} if predicts == "v_prediction" else {}
    return Prediction("edm", levels, sigma_data)


def _parse_flow(config: SchedulerConfig) -> Prediction:
    if (predicts := config.get("prediction_type", "flow_prediction")) != "flow_prediction":
        raise ValueError(f"use_flow_sigmas with {predicts!r}; read is it with flow_prediction")
    if config.get("invert_sigmas"):
        raise ValueError("invert_sigmas is true, and false is known here")
    if not 1 <= (steps := _get_int(config, "num_train_timesteps")) <= 100_000:
        raise ValueError(f"num_train_timesteps is {steps}; read are 1 to 100,000")
    return Prediction("flow", {"steps": steps} if steps != 1000 else {})


def _parse_betas(config: SchedulerConfig) -> Prediction:
    predicts = _get_str(config, "prediction_type", "epsilon")
    if config.get("timestep_type") == "continuous" and predicts == "v_prediction":
        return Prediction("edm", {"sign": -1, "sigma_data": 1.0})
    betas, steps = config.get("trained_betas"), _get_int(config, "num_train_timesteps")
    if betas is not None and not _are_numbers(betas, steps):
        raise ValueError(f"trained_betas are no list of {steps} numbers, as num_train_timesteps is")
    kwargs: dict[str, Any] = {
        "predicts": predicts,
        "schedule": _get_str(config, "beta_schedule"),
        "steps": steps,
        "beta_start": _get_float(config, "beta_start", 1e-4),
        "beta_end": _get_float(config, "beta_end", 0.02),
        "betas": betas or [],
        "snr_shift": _get_float(config, "snr_shift_scale", 1.0),
        "zero_snr": bool(config.get("rescale_betas_zero_snr")),
    }
    discrete(**kwargs)  # refuses what is no table
    return _match_family(_drop_defaults(kwargs))


def _drop_defaults(kwargs: dict[str, Any]) -> dict[str, Any]:
    """What changes the table: betas need no schedule, and a cosine no ends."""
    usual = {
        "predicts": "epsilon", "schedule": "linear", "steps": 1000, "beta_start": 1e-4,
        "beta_end": 0.02, "betas": [], "snr_shift": 1.0, "zero_snr": False,
    }  # fmt: skip
    needless: tuple[str, ...] = ()
    if kwargs["betas"]:
        needless = ("schedule", "steps", "beta_start", "beta_end")
    elif kwargs["schedule"] not in ("linear", "scaled_linear", "sigmoid"):
        needless = ("beta_start", "beta_end")
    return {n: v for n, v in kwargs.items() if v != usual[n] and n not in needless}


def _match_family(schedule_kwargs: dict[str, Any]) -> Prediction:
    """The commonest tables are families of their own."""
    if not schedule_kwargs:
        return Prediction("ddpm", {})
    if schedule_kwargs == {"schedule": "squaredcos_cap_v2"}:
        return Prediction("ddpm_cosine", {})
    if schedule_kwargs == {"predicts": "v_prediction"}:
        return Prediction("v_prediction", {})
    return Prediction("discrete", schedule_kwargs)


def _are_numbers(values: Any, count: int) -> bool:
    known = isinstance(values, list) and len(values) == count
    return known and all(type(value) in (int, float) for value in values)


def _get_str(config: SchedulerConfig, name: str, default: str = "") -> str:
    if not isinstance(value := config.get(name, default), str):
        raise ValueError(f"{name} is {str(value)[:80]!r}; expected a word")
    return value[:80]


def _get_float(config: SchedulerConfig, name: str, default: float = 0.0) -> float:
    value = config.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} is {str(value)[:80]!r}; expected a number")
    return float(value)


def _get_int(config: SchedulerConfig, name: str) -> int:
    value = config[name]
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} is {str(value)[:80]!r}; expected a whole number")
    return value
