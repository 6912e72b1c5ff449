"""What a scheduler's settings say of the network beside it: what it predicts, at which levels.

A scheduler of diffusers has settings of two kinds: those that its network was trained with, which
are read, and those of its own way down the noise levels, which mean nothing here.  Each name is
known to be of one kind, or the folder is refused.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from scoreag.load import hint, load

Settings = Mapping[str, Any]


class Prediction(NamedTuple):
    """A file of score_models/, what its card has to say of it, and the deviation of the data."""

    family: str
    levels: dict[str, Any]
    sigma_data: float = 0.5


TABLE = {  # settings that say which table of betas, and what a class without them has
    "num_train_timesteps": 1000, "beta_schedule": "linear", "beta_start": 0.0001,
    "beta_end": 0.02, "trained_betas": None, "prediction_type": "epsilon",
}  # fmt: skip
WIDE = TABLE | {"beta_start": 0.00085, "beta_end": 0.012}
ZERO = {"rescale_betas_zero_snr": False}
FLOWING = {"use_flow_sigmas": False}
SHIFTED = WIDE | ZERO | {"beta_schedule": "scaled_linear", "snr_shift_scale": 3.0}
TABLES: dict[str, dict[str, Any]] = {
    "DDPMScheduler": TABLE | ZERO,
    "DDPMParallelScheduler": TABLE | ZERO,
    "DDIMScheduler": TABLE | ZERO,
    "DDIMParallelScheduler": TABLE | ZERO,
    "DDIMInverseScheduler": TABLE | ZERO,
    "PNDMScheduler": TABLE,
    "RePaintScheduler": {n: v for n, v in TABLE.items() if n != "prediction_type"},
    "UnCLIPScheduler": {
        "num_train_timesteps": 1000, "prediction_type": "epsilon",
        "beta_schedule": "squaredcos_cap_v2",
    },
    "EulerDiscreteScheduler": TABLE | ZERO | {"timestep_type": "discrete"},
    "EulerAncestralDiscreteScheduler": TABLE | ZERO,
    "LMSDiscreteScheduler": TABLE,
    "HeunDiscreteScheduler": WIDE,
    "KDPM2DiscreteScheduler": WIDE,
    "KDPM2AncestralDiscreteScheduler": WIDE,
    "DPMSolverSDEScheduler": WIDE,
    "DPMSolverMultistepScheduler": TABLE | ZERO | FLOWING,
    "DPMSolverMultistepInverseScheduler": TABLE | FLOWING,
    "DPMSolverSinglestepScheduler": TABLE | FLOWING,
    "DEISMultistepScheduler": TABLE | FLOWING,
    "UniPCMultistepScheduler": TABLE | ZERO | FLOWING,
    "SASolverScheduler": TABLE | FLOWING,
    "CogVideoXDDIMScheduler": SHIFTED,
    "CogVideoXDPMScheduler": SHIFTED,
}  # fmt: skip
GRID = {"num_train_timesteps": 1000}  # of no account where a network is told the level itself
EDM = GRID | {"sigma_data": 0.5, "prediction_type": "epsilon"}
FLOW = {"num_train_timesteps": 1000, "shift": 1.0, "invert_sigmas": False}
KNOWN: dict[str, dict[str, Any]] = TABLES | {
    "EDMEulerScheduler": EDM,
    "EDMDPMSolverMultistepScheduler": EDM,
    "FlowMatchEulerDiscreteScheduler": FLOW,
    "FlowMatchHeunDiscreteScheduler": FLOW,
    "ScoreSdeVeScheduler": GRID,
    "KarrasVeScheduler": GRID,
}
DISTILLED = (  # their networks jump to the end of a path, which is not the mean of the images
    "LCMScheduler", "TCDScheduler", "CMStochasticIterativeScheduler", "FlowMatchLCMScheduler",
    "SCMScheduler", "FlowMapEulerDiscreteScheduler",
)  # fmt: skip
NEUTRAL = {  # settings that mean nothing when they have this value, whatever the class
    "prediction_type": "epsilon", "snr_shift_scale": 1.0, "timestep_type": "discrete",
    "predict_epsilon": True,
}  # fmt: skip
READ = {name for settings in KNOWN.values() for name in settings} | {"predict_epsilon"}
IRRELEVANT = frozenset((  # how a scheduler walks, clips and draws; nothing of its network
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


def levels_of(told: Settings, file: str) -> Prediction:
    """The family of the network beside a scheduler with these settings.

    Raises:
        ValueError: its class, or a setting that matters, is not known; says which.
    """
    name = "" if told.get("_class_name") is None else str(told["_class_name"])
    if name not in KNOWN:
        raise ValueError(f"{file}: {_refused(name)}")
    _check_names(told, name, file)
    given = {setting: told.get(setting, value) for setting, value in KNOWN[name].items()}
    try:
        return _reader(name, given)(given)
    except ValueError as error:
        raise ValueError(f"{file}, {name}: {error}") from error


def _refused(name: str) -> str:
    if not name:
        return 'it has no _class_name; add that of the scheduler, such as "DDPMScheduler"'
    if name in DISTILLED:
        return (
            f"a {name}, whose network is distilled: it predicts one image, not the mean of all "
            "that fit; take the network that it was distilled from"
        )
    close = hint(name[:80], list(KNOWN))
    return f"a scheduler {name[:80]!r}; " + (
        close
        if close.startswith("did")
        else "read are those of tables of betas (DDPM, DDIM, PNDM, DPMSolver, Euler, Heun, ...), "
        "EDMEuler, EDMDPMSolverMultistep, FlowMatchEuler, FlowMatchHeun, ScoreSdeVe and KarrasVe"
    )


def _check_names(told: Settings, name: str, file: str) -> None:
    """Refuse a setting that is not known, or that matters for another class than this."""
    for setting, value in told.items():
        if setting.startswith("_") or setting in IRRELEVANT or setting in KNOWN[name]:
            continue
        if value is None or value is NEUTRAL.get(setting, False) or value == NEUTRAL.get(setting):
            continue
        if setting in READ:
            raise ValueError(
                f"{file}: {setting} is {str(value)[:80]}, which {name} does not use; put the "
                "scheduler there that the network was trained with"
            )
        raise ValueError(
            f"{file}: a setting {setting[:80]!r} of {name}, which is not known here; remove it "
            "if it says nothing of the network"
        )


def _reader(name: str, given: Settings) -> Callable[[Settings], Prediction]:
    if name in TABLES:
        return _of_flow if given.get("use_flow_sigmas") else _of_table
    if name.startswith("EDM"):
        return _of_edm
    return _of_flow if name.startswith("FlowMatch") else lambda given: Prediction("unit_score", {})


def _of_edm(given: Settings) -> Prediction:
    if (predicts := _word(given, "prediction_type")) not in ("epsilon", "v_prediction"):
        raise ValueError(f"a prediction_type {predicts!r}; read are epsilon and v_prediction")
    if not 0 < (sigma_data := _number(given, "sigma_data")) < 1000:
        raise ValueError(f"sigma_data is {given['sigma_data']}; expected a positive number")
    levels = {"sign": -1} if predicts == "v_prediction" else {}
    return Prediction("edm", levels, sigma_data)


def _of_flow(given: Settings) -> Prediction:
    if (predicts := given.get("prediction_type", "flow_prediction")) != "flow_prediction":
        raise ValueError(f"use_flow_sigmas with {predicts!r}; read is it with flow_prediction")
    if given.get("invert_sigmas"):
        raise ValueError("invert_sigmas is true, and false is known here")
    if not 1 <= (steps := _whole(given, "num_train_timesteps")) <= 100_000:
        raise ValueError(f"num_train_timesteps is {steps}; read are 1 to 100,000")
    return Prediction("flow", {"steps": steps} if steps != 1000 else {})


def _of_table(given: Settings) -> Prediction:
    predicts = _word(given, "prediction_type", "epsilon")
    if given.get("timestep_type") == "continuous" and predicts == "v_prediction":
        return Prediction("edm", {"sign": -1, "sigma_data": 1.0})
    betas, steps = given.get("trained_betas"), _whole(given, "num_train_timesteps")
    if betas is not None and not _are_numbers(betas, steps):
        raise ValueError(f"trained_betas are no list of {steps} numbers, as num_train_timesteps is")
    asked = {
        "predicts": predicts,
        "schedule": _word(given, "beta_schedule"),
        "steps": steps,
        "first": _number(given, "beta_start", 1e-4),
        "last": _number(given, "beta_end", 0.02),
        "betas": betas or [],
        "snr_shift": _number(given, "snr_shift_scale", 1.0),
        "zero_snr": bool(given.get("rescale_betas_zero_snr")),
    }
    load("score_models", "discrete").family(**asked)  # refuses what is no table
    return _named(_needed(asked))


def _needed(asked: dict[str, Any]) -> dict[str, Any]:
    """What changes the table: betas need no schedule, and a cosine no ends."""
    usual = {
        "predicts": "epsilon", "schedule": "linear", "steps": 1000, "first": 1e-4, "last": 0.02,
        "betas": [], "snr_shift": 1.0, "zero_snr": False,
    }  # fmt: skip
    needless: tuple[str, ...] = ()
    if asked["betas"]:
        needless = ("schedule", "steps", "first", "last")
    elif asked["schedule"] not in ("linear", "scaled_linear", "sigmoid"):
        needless = ("first", "last")
    return {n: v for n, v in asked.items() if v != usual[n] and n not in needless}


def _named(levels: dict[str, Any]) -> Prediction:
    """The commonest tables are families of their own."""
    if not levels:
        return Prediction("ddpm", {})
    if levels == {"schedule": "squaredcos_cap_v2"}:
        return Prediction("ddpm_cosine", {})
    if levels == {"predicts": "v_prediction"}:
        return Prediction("v_prediction", {})
    return Prediction("discrete", levels)


def _are_numbers(values: Any, many: int) -> bool:
    known = isinstance(values, list) and len(values) == many
    return known and all(type(value) in (int, float) for value in values)


def _word(given: Settings, name: str, default: str = "") -> str:
    if not isinstance(value := given.get(name, default), str):
        raise ValueError(f"{name} is {str(value)[:80]!r}; expected a word")
    return value[:80]


def _number(given: Settings, name: str, default: float = 0.0) -> float:
    value = given.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} is {str(value)[:80]!r}; expected a number")
    return float(value)


def _whole(given: Settings, name: str) -> int:
    value = given[name]
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} is {str(value)[:80]!r}; expected a whole number")
    return value
