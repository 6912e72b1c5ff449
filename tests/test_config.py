"""Settings are checked before any work, and an error says what to write instead."""

import math
import re
from dataclasses import replace

import pytest
import torch

from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.prior import Prior
from scoreag.diffusion.samplers import heun
from scoreag.methods.config import resolve_task_config

PRIOR = Prior(
    lambda x, sigma, labels=None: x,
    heun.sample,
    karras(18),
    (3, 32, 32),
    defaults={"transform": {"attack_scale": 7.0, "sampler": "edm_stochastic"}},
)


def test_none_switches_off_what_a_card_switched_on():
    card = {"transform": {"stop_margin": 1.0, "attack_interval": (0.1, 5.0)}}
    chosen = resolve_task_config(
        replace(PRIOR, defaults=card), "transform", stop_margin=None, attack_interval=None
    )
    assert chosen.stop_margin is None and chosen.attack_interval is None


def test_the_card_decides_what_the_user_does_not():
    chosen = resolve_task_config(PRIOR, "transform", steps=5, attack_scale=None)
    assert (chosen.attack_scale, chosen.sampler, chosen.steps) == (7.0, "edm_stochastic", 5)


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"atack_scale": 1.0},
            "transform takes no option 'atack_scale'; did you mean 'attack_scale'?",
        ),
        ({"sampler": "hun"}, "no 'hun' in samplers; did you mean 'heun'?|no sampler 'hun'; did"),
        ({"jacobian": "exakt"}, "no jacobian 'exakt'; did you mean 'exact'?"),
        ({"x0_estimate": "denoisr"}, "no x0_estimate 'denoisr'; did you mean 'denoiser'?"),
        ({"likelihood_variance": "damp"}, "no likelihood_variance 'damp'; did you mean 'damped'?"),
        ({"attack_loss": "margn"}, "no attack_loss 'margn'; did you mean 'margin'?"),
        ({"attack_scale": -1.0}, "attack_scale is -1.0; expected a number of at least 0"),
        ({"similarity": math.nan}, "similarity is nan; expected a number of at least 0"),
        ({"attack_scale": "10"}, "attack_scale is '10'; expected a number"),
        ({"steps": 3.0}, "steps is 3.0; expected a whole number"),
        ({"max_restarts": True}, "max_restarts is True; expected a whole number"),
        ({"jacobian": 3}, "jacobian is 3; expected a name"),
        ({"normalize_gradient": "no"}, "normalize_gradient is 'no'; expected True or False"),
        ({"stop_margin": math.nan}, "stop_margin is nan"),
        ({"attack_interval": 5.0}, "attack_interval is 5.0; expected (low, high), or None"),
        ({"attack_interval": (0.1, 1.0, 2.0)}, "expected two numbers"),
        ({"steps": 0}, "steps is 0; expected a number of at least 1"),
        ({"sigma_start": 0.0}, "sigma_start is 0.0; expected a noise level above 0.002"),
        (
            {"attack_interval": (3.0, 1.0)},
            "attack_interval is (3.0, 1.0); expected 0 <= low < high",
        ),
        (
            {"likelihood_variance": "exact", "x0_estimate": "ode_euler"},
            "likelihood_variance 'exact' needs x0_estimate",
        ),
        (
            {"likelihood_variance": "exact", "jacobian": "identity"},
            "likelihood_variance 'exact' needs jacobian 'exact', not 'identity'; "
            "write --jacobian exact or --likelihood-variance damped",
        ),
        (
            {"sampler": "heun", "sampler_options": {"s_churn": 3}},
            "heun takes no option 's_churn'",
        ),
    ],
)
def test_a_slip_is_answered_with_the_right_word(changes, message):
    with pytest.raises(ValueError) as caught:
        resolve_task_config(PRIOR, "transform", **changes)
    assert any(part in str(caught.value) for part in message.split("|"))


@pytest.mark.parametrize("variance", ["constant", "widened"])
def test_a_variance_that_would_explode_is_refused_with_the_level_that_would_not(variance):
    with pytest.raises(ValueError, match="explodes from sigma_start 80") as caught:
        resolve_task_config(
            PRIOR, "transform", likelihood_variance=variance, sigma_start=80.0, similarity=100.0
        )
    found = re.search(r"sigma_start <= ([0-9.e-]+)", str(caught.value))
    level = float(found[1]) * 0.99
    assert (
        resolve_task_config(
            PRIOR, "transform", likelihood_variance=variance, sigma_start=level
        ).sigma_start
        == level
    )


def test_levels_run_from_start_to_nothing():
    sigmas = resolve_task_config(PRIOR, "transform", sigma_start=1.5, steps=6).sigmas()
    assert sigmas[0] == pytest.approx(1.5) and sigmas[-1] == 0 and len(sigmas) == 7
    assert (sigmas.diff() < 0).all() and sigmas.dtype == torch.float64


@pytest.mark.parametrize(
    "name, value",
    [("attack_scale", 3.0), ("attack_interval", (0.1, 1.0)), ("attack_loss", "margin"),
     ("normalize_gradient", True), ("stop_margin", 1.0), ("max_restarts", 2),
     ("polyak_step", True), ("momentum", 0.5), ("tangent_projection", True), ("x0_steps", 1),
     ("augmentations", 4)],
)  # fmt: skip
def test_purify_refuses_what_only_a_classifiers_guidance_has(name, value):
    with pytest.raises(ValueError, match=f"purify takes no {name}: no classifier guides it"):
        resolve_task_config(PRIOR, "purify", **{name: value})


def test_a_bound_that_bounds_nothing_is_none():
    chosen = resolve_task_config(
        PRIOR, "transform", attack_interval=(0.0, math.inf), stop_margin=math.inf
    )
    assert chosen == resolve_task_config(PRIOR, "transform")


def test_a_module_that_does_not_sample_is_named():
    with pytest.raises(ValueError, match=r"os\.path is no sampler"):
        resolve_task_config(PRIOR, "transform", sampler="os.path")
