"""Schedulers of diffusers: each class is read as the package itself has it, or refused by name."""

import json
import math
import types
from dataclasses import replace
from importlib import import_module

import pytest
import torch

from made_diffusers import pipeline, unet
from scoreag import load_prior
from scoreag.core.rng import Noise
from scoreag.models.convert.checkpoint import convert_checkpoint
from scoreag.models.convert.diffusers_scheduler import (
    BETA_SCHEDULERS,
    DISTILLED,
    SCHEDULERS,
    find_x0_limit,
    parse_scheduler,
)
from scoreag.models.loading import PARAMETERIZATIONS
from scoreag.models.model_cards import update_card

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
OTHERS = {  # draw words, codes, sounds or paths of their own, and no images by a denoiser
    "AmusedScheduler", "BlockRefinementScheduler", "CosineDPMSolverMultistepScheduler",
    "DDPMWuerstchenScheduler", "DiscreteDDIMScheduler", "EntropyBoundScheduler",
    "HeliosDMDScheduler", "HeliosScheduler", "IPNDMScheduler", "LTXEulerAncestralRFScheduler",
    "MiniMaxH3Scheduler", "PiflowScheduler", "RFD4ProteinaScheduler", "VQDiffusionScheduler",
}  # fmt: skip
ZEROED = [
    name for name, settings in BETA_SCHEDULERS.items() if "rescale_betas_zero_snr" in settings
]
SCHEDULES = [
    *(("DDPMScheduler", name) for name in ("scaled_linear", "sigmoid", "laplace")),
    *(("DDIMScheduler", name) for name in ("squaredcos_cap_v2", "scaled_linear")),
    ("HeunDiscreteScheduler", "exp"),
    ("UniPCMultistepScheduler", "scaled_linear"),
]


@pytest.fixture(scope="module")
def diffusers():
    return pytest.importorskip("diffusers")


@pytest.fixture
def schedulers(diffusers, monkeypatch):
    """Classes by name, also those that want packages which do not matter here."""
    monkeypatch.setitem(import_module("sys").modules, "torchsde", types.ModuleType("torchsde"))
    places = {
        "KarrasVeScheduler": "deprecated.scheduling_karras_ve",
        "DPMSolverSDEScheduler": "scheduling_dpmsolver_sde",
    }

    def named(name):
        place = places.get(name)
        owner = import_module(f"diffusers.schedulers.{place}") if place else diffusers
        return getattr(owner, name)

    return named


def saved(scheduler, folder):
    """Its settings as they come back from a file."""
    scheduler.save_pretrained(folder)
    return json.loads((folder / "scheduler_config.json").read_text())


def same_steps(scheduler, folder):
    """Our network is told the number of each step at the level that diffusers has for it."""
    kept = scheduler.alphas_cumprod.double()
    steps = (kept > 2**-23).nonzero().flatten()[1:]  # a last one may hold no image at all
    sigmas = (1 / kept[steps] - 1).sqrt()
    found = parse_scheduler(saved(scheduler, folder), "file")
    told = (
        PARAMETERIZATIONS[found.family](**found.schedule_kwargs) if found.schedule_kwargs else None
    )
    told = told or _family(found.family)
    assert (told(sigmas).c_noise - steps).abs().max() <= 0.02  # alphas near 1, of float32


def _family(name):
    if name == "v_prediction":
        return PARAMETERIZATIONS["discrete"](predicts=name)
    return PARAMETERIZATIONS[name]()


def test_every_class_of_the_package_is_read_or_refused_on_purpose(diffusers):
    there = {name for name in dir(diffusers) if name.endswith("Scheduler")}
    assert there - SCHEDULERS.keys() - set(DISTILLED) - OTHERS == set()


@pytest.mark.parametrize("name", sorted(BETA_SCHEDULERS))
def test_a_table_is_that_of_its_class(schedulers, tmp_path, name):
    same_steps(schedulers(name)(), tmp_path)


@pytest.mark.parametrize("name", sorted(BETA_SCHEDULERS))
def test_settings_that_a_file_lacks_are_those_of_the_class(schedulers, tmp_path, name):
    scheduler = schedulers(name)()
    whole = parse_scheduler(saved(scheduler, tmp_path), "file")
    assert parse_scheduler({"_class_name": name}, "file") == whole


@pytest.mark.parametrize("name", ZEROED)
def test_a_table_without_image_at_its_end_is_that_of_its_class(schedulers, tmp_path, name):
    same_steps(schedulers(name)(rescale_betas_zero_snr=True), tmp_path)


@pytest.mark.parametrize("name, schedule", SCHEDULES)
def test_a_schedule_is_that_of_the_package(schedulers, tmp_path, name, schedule):
    same_steps(schedulers(name)(beta_schedule=schedule), tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        {"beta_end": 0.03},
        {"beta_start": 0.001, "beta_end": 0.01, "num_train_timesteps": 500},
        {"num_train_timesteps": 400, "beta_schedule": "squaredcos_cap_v2"},
        {"trained_betas": [0.001 * (1 + i) for i in range(50)], "num_train_timesteps": 50},
    ],
    ids=lambda settings: ",".join(settings),
)
def test_other_numbers_make_the_table_of_the_package(schedulers, tmp_path, settings):
    same_steps(schedulers("DDPMScheduler")(**settings), tmp_path)


def test_a_shift_of_the_ratio_of_signal_to_noise_is_read(schedulers, tmp_path):
    same_steps(schedulers("CogVideoXDDIMScheduler")(snr_shift_scale=1.5), tmp_path)


def close(ours, theirs):
    return float((ours - theirs).abs().max()) <= 1e-4 * max(1.0, float(theirs.abs().max()))


def noisy():
    return Noise(seed=1, image_ids=[0, 1]).normal_like(torch.zeros(2, 3, 8, 8))


@pytest.mark.parametrize("zero", [False, True], ids=["", "zero-snr"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("name", ["DDPMScheduler", "DDIMScheduler"])
@torch.no_grad()
def test_a_denoiser_of_a_table_is_that_of_the_package(
    diffusers, schedulers, tmp_path, name, prediction, zero
):
    settings = {"prediction_type": prediction, "rescale_betas_zero_snr": zero}
    scheduler = schedulers(name)(clip_sample=False, **settings)
    model, x = unet(diffusers), noisy()
    prior = load_prior(pipeline(tmp_path, model, scheduler), "cpu")
    scheduler.set_timesteps(1000)
    for t in (1, 100, 500, 900, 998):
        kept = scheduler.alphas_cumprod[t].double()
        theirs = scheduler.step(model(x, t).sample, t, x).pred_original_sample
        ours = prior.model(x / kept.sqrt().float(), (1 / kept - 1).sqrt())
        assert close(ours, theirs)


@pytest.mark.parametrize("kind", ["discrete", "continuous"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@torch.no_grad()
def test_a_denoiser_of_euler_is_that_of_the_package(
    diffusers, schedulers, tmp_path, prediction, kind
):
    scheduler = schedulers("EulerDiscreteScheduler")(prediction_type=prediction, timestep_type=kind)
    model = unet(diffusers)
    prior = load_prior(pipeline(tmp_path, model, scheduler), "cpu")
    scheduler.set_timesteps(10)
    x = noisy() * scheduler.init_noise_sigma
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        ours = prior.model(x, sigma)
        made = scheduler.step(model(scheduler.scale_model_input(x, t), t).sample, t, x)
        assert close(ours, made.pred_original_sample)
        x = made.prev_sample


@pytest.mark.parametrize("prediction, sigma_data", [("epsilon", 0.5), ("v_prediction", 1.0)])
@pytest.mark.parametrize("name", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"])
@torch.no_grad()
def test_a_denoiser_of_edm_is_that_of_the_package(
    diffusers, schedulers, tmp_path, name, prediction, sigma_data
):
    scheduler = schedulers(name)(prediction_type=prediction, sigma_data=sigma_data)
    model, x = unet(diffusers), noisy()
    prior = load_prior(pipeline(tmp_path, model, scheduler), "cpu")
    scheduler.set_timesteps(6)
    for sigma in scheduler.sigmas[:-1]:
        given = (1 + sigma) * x
        told = scheduler.precondition_noise(sigma)
        seen = model(scheduler.precondition_inputs(given, sigma), told).sample
        assert close(prior.model(given, sigma), scheduler.precondition_outputs(given, seen, sigma))
    assert prior.sigma_data == sigma_data


SOLVERS = [
    ("DPMSolverMultistepScheduler", "epsilon"), ("DPMSolverMultistepScheduler", "v_prediction"),
    ("DPMSolverSinglestepScheduler", "sample"), ("DPMSolverSinglestepScheduler", "flow_prediction"),
    ("UniPCMultistepScheduler", "flow_prediction"), ("SASolverScheduler", "v_prediction"),
]  # fmt: skip


@pytest.mark.parametrize("name, prediction", SOLVERS)
@torch.no_grad()
def test_a_denoiser_of_a_solver_is_that_of_the_package(
    diffusers, schedulers, tmp_path, name, prediction
):
    flows = prediction == "flow_prediction"
    scheduler = schedulers(name)(prediction_type=prediction, use_flow_sigmas=flows)
    model, x = unet(diffusers), noisy()
    prior = load_prior(pipeline(tmp_path, model, scheduler), "cpu")
    scheduler.set_timesteps(8)
    for place, t in enumerate(scheduler.timesteps[1:-1], 1):
        scheduler._step_index = place
        share = scheduler.sigmas[place]
        told = 1000 * share if flows else t.to(torch.float32)
        alpha, sigma = scheduler._sigma_to_alpha_sigma_t(share)
        if not flows:  # their steps are rounded, and the levels beside them are not
            kept = scheduler.alphas_cumprod[t]
            alpha, sigma = kept.sqrt(), (1 - kept).sqrt()
            scheduler.sigmas[place] = sigma / alpha
        theirs = scheduler.convert_model_output(model(x, told).sample, sample=x)
        assert close(prior.model(x / alpha, sigma / alpha), theirs)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize(
    "name", ["FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"]
)
@torch.no_grad()
def test_a_denoiser_of_a_flow_is_that_of_the_package(diffusers, schedulers, tmp_path, name, shift):
    scheduler = schedulers(name)(shift=shift)
    model, x = unet(diffusers), noisy()
    prior = load_prior(pipeline(tmp_path, model, scheduler), "cpu")
    scheduler.set_timesteps(2)
    t, share = scheduler.timesteps[1], scheduler.sigmas[1]
    while float(share) == 1:  # of Heun each step comes twice
        t, share = scheduler.timesteps[2], scheduler.sigmas[2]
    velocity = model(x, t).sample
    if name.startswith("FlowMatchEuler"):  # its last step ends at the image
        theirs = scheduler.step(velocity, scheduler.timesteps[-1], x).prev_sample
    else:
        theirs = x - share * velocity
    assert close(prior.model(x / (1 - share), share / (1 - share)), theirs)


VE = {  # as google/ncsnpp-*
    "time_embedding_type": "fourier", "center_input_sample": True, "freq_shift": 0,
    "down_block_types": ("SkipDownBlock2D", "AttnSkipDownBlock2D"),
    "up_block_types": ("AttnSkipUpBlock2D", "SkipUpBlock2D"), "block_out_channels": (32, 32),
}  # fmt: skip


@pytest.mark.parametrize("name", ["ScoreSdeVeScheduler", "KarrasVeScheduler"])
@torch.no_grad()
def test_a_denoiser_of_ve_is_that_of_the_package(diffusers, schedulers, tmp_path, name):
    scheduler = schedulers(name)()
    model, x = unet(diffusers, **VE), noisy()
    prior = load_prior(pipeline(tmp_path, model, scheduler), "cpu")
    step = schedulers("KarrasVeScheduler")().step
    for sigma in map(torch.tensor, (0.05, 1.0, 20.0)):
        given = (1 + sigma) * x
        predicted = (sigma / 2) * model((given + 1) / 2, sigma / 2).sample  # their pipeline
        theirs = step(predicted, sigma, 0.5 * sigma, given).pred_original_sample
        assert close(prior.model(given, sigma), theirs)


def test_a_ve_network_has_a_second_derivative(diffusers, schedulers, tmp_path):
    folder = pipeline(tmp_path, unet(diffusers, **VE), schedulers("ScoreSdeVeScheduler")())
    model, x = load_prior(folder, "cpu").model, torch.randn(1, 3, 8, 8, requires_grad=True)
    first = torch.autograd.grad(
        model(x, torch.tensor(0.5)).square().sum(), x, create_graph=True
    )[0]  # fmt: skip
    assert torch.autograd.grad(first.square().sum(), x)[0].isfinite().all()


@pytest.mark.parametrize(
    "settings, change, message",
    [
        ({"beta_end": 0.03}, {"beta_end": 2.0}, "its schedule_kwargs: betas from 0.0001 to 2.0"),
        ({"beta_end": 0.03}, {"final": 0.1}, "its schedule_kwargs takes no option 'final'"),
        (None, {"sign": 2}, "the sign 2; expected 1 or -1"),
    ],
    ids=["value", "name", "sign"],
)
def test_the_levels_of_a_card_are_checked_again(diffusers, tmp_path, settings, change, message):
    kind = (
        diffusers.EDMEulerScheduler() if settings is None else diffusers.DDPMScheduler(**settings)
    )
    folder = pipeline(tmp_path / "net", unet(diffusers), kind)
    update_card(convert_checkpoint(folder, tmp_path / "card")[1], schedule_kwargs=change)
    with pytest.raises(ValueError, match=message):
        load_prior(tmp_path / "card", "cpu")


DDPM, EDM = {"_class_name": "DDPMScheduler"}, {"_class_name": "EDMEulerScheduler"}
DPM = {"_class_name": "DPMSolverMultistepScheduler"}
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler"}


@pytest.mark.parametrize(
    "settings, message",
    [
        ({}, "no _class_name; add that of the scheduler"),
        ({"_class_name": "LCMScheduler"}, "LCMScheduler, whose network is distilled"),
        ({"_class_name": "AmusedScheduler"}, "a scheduler 'AmusedScheduler'; "),
        ({"_class_name": ["x"]}, "a scheduler"),
        (DDPM | {"beta_schedule": "cosine"}, "a schedule 'cosine'; there are: linear"),
        (DDPM | {"beta_schedule": ["linear"]}, "beta_schedule is \"['linear']\"; expected a word"),
        (DDPM | {"prediction_type": "noise"}, "a prediction 'noise'; there are: epsilon"),
        (DDPM | {"beta_end": 2.0}, "betas from 0.0001 to 2.0; they rise"),
        (DDPM | {"beta_end": math.nan}, "betas from 0.0001 to nan; they rise"),
        (DDPM | {"beta_start": "x"}, "beta_start is 'x'; expected a number"),
        (DDPM | {"num_train_timesteps": 10**12}, "steps; from 2 to 100000"),
        (DDPM | {"num_train_timesteps": 1.5}, "num_train_timesteps is '1.5'; expected a whole"),
        (DDPM | {"trained_betas": [0.1, 0.2]}, "no list of 1000 numbers"),
        (
            DDPM | {"trained_betas": [0.1, -0.2], "num_train_timesteps": 2},
            "no table of rising noise",
        ),
        (
            DDPM | {"trained_betas": [0.1, "x"], "num_train_timesteps": 2},
            "no list of 2 numbers",
        ),
        (DDPM | {"predict_epsilon": False}, "predict_epsilon is False"),
        (DDPM | {"sigma_data": 0.5}, "sigma_data is 0.5, which DDPMScheduler does not use"),
        (DDPM | {"snr_shift_scale": 3.0}, "snr_shift_scale is 3.0, which DDPMScheduler does not"),
        (DDPM | {"beta_power": 2}, "a setting 'beta_power' of DDPMScheduler, which is not known"),
        (
            {"_class_name": "HeunDiscreteScheduler", "rescale_betas_zero_snr": True},
            "rescale_betas_zero_snr is True, which HeunDiscreteScheduler does not use",
        ),
        (EDM | {"prediction_type": "sample"}, "'sample'; read are epsilon and v_prediction"),
        (EDM | {"sigma_data": 0}, "sigma_data is 0; expected a positive"),
        (EDM | {"beta_schedule": "linear"}, "beta_schedule is linear, which EDMEulerScheduler"),
        (DPM | {"prediction_type": "flow_prediction"}, "a prediction 'flow_prediction'"),
        (DPM | {"use_flow_sigmas": True}, "use_flow_sigmas with 'epsilon'"),
        (FLOW | {"invert_sigmas": True}, "invert_sigmas is true, and false is known"),
        (FLOW | {"num_train_timesteps": 0}, "num_train_timesteps is 0; read are 1 to"),
    ],
)
def test_settings_that_are_not_known_are_refused_in_one_line(settings, message):
    with pytest.raises(ValueError) as refused:
        parse_scheduler(settings, "scheduler.json")
    text = str(refused.value)
    assert message in text and text.startswith("scheduler.json") and len(text.splitlines()) == 1
    assert len(text) <= 500


@pytest.mark.parametrize(
    "settings",
    [
        {"clip_sample": True, "timestep_spacing": "trailing", "use_karras_sigmas": True},
        {"predict_epsilon": True, "tensor_format": "pt", "timestep_values": None},
        {"rescale_betas_zero_snr": False, "sigma_data": None, "a_later_switch": False},
    ],
)
def test_settings_of_the_way_down_change_nothing(settings):
    assert parse_scheduler(DDPM | settings, "file") == ("ddpm", {}, 0.5)


@pytest.mark.parametrize("name", ["DDPMScheduler", "DDIMScheduler"])
@pytest.mark.parametrize("limit", [0.2, 1.0, None])
@torch.no_grad()
def test_a_chain_clips_its_x0_estimates_as_the_package_does(
    diffusers, schedulers, tmp_path, name, limit
):
    settings = {"clip_sample": False} if limit is None else {"clip_sample_range": limit}
    scheduler = schedulers(name)(**settings)
    model = unet(diffusers)
    prior = load_prior(pipeline(tmp_path, model, scheduler), "cpu")
    assert prior.x0_limit == limit
    scheduler.set_timesteps(1000)
    seen = []

    def record(denoise, x, sigmas, noise, wrt):
        for t in (1, 500, 900):
            kept = scheduler.alphas_cumprod[t].double()
            level = (1 / kept - 1).sqrt()
            theirs = scheduler.step(model(kept.sqrt().float() * x, t).sample, t,
                                    kept.sqrt().float() * x).pred_original_sample  # fmt: skip
            seen.append((denoise(x, level), theirs))
        return x

    replace(prior, sampler=record).sample(Noise(0, [0, 1]))
    for ours, theirs in seen:
        assert close(ours, theirs)
    largest = max(float(ours.abs().max()) for ours, _ in seen)
    assert largest > 1 if limit is None else largest == pytest.approx(limit)


@pytest.mark.parametrize(
    "settings, limit",
    [
        ({}, 1.0),
        ({"clip_sample": False}, None),
        ({"clip_sample": True, "clip_sample_range": 2}, 2.0),
        ({"thresholding": True}, None),  # it takes the place of clipping
        ({"_class_name": "EulerDiscreteScheduler", "clip_sample": True}, None),  # has no such thing
    ],
)
def test_the_limit_is_that_of_the_scheduler(settings, limit):
    assert find_x0_limit({"_class_name": "DDPMScheduler", **settings}, "file") == limit


@pytest.mark.parametrize("value", [0, -1.0, float("inf"), "1"])
def test_a_limit_that_is_none_is_refused(value):
    with pytest.raises(ValueError, match="clip_sample_range"):
        find_x0_limit({"_class_name": "DDIMScheduler", "clip_sample_range": value}, "file")
