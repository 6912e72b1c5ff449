"""Unguided draws: those that synthesize gives at strength 0, whatever was there before."""

from dataclasses import replace

import pytest
import torch

import tiny
from scoreag import synthesize
from scoreag.evaluation.sampling import (
    cycle_labels,
    generate_samples,
    make_image_ids,
    steps_for_nfe,
)
from scoreag.io.images import to_uint8
from scoreag.registry import component_names


def drawn(folder, count=7, **options):
    return generate_samples(
        tiny.prior(), folder, "tiny", count, nfe=5, batch_size=4, progress=False, **options
    )


@pytest.mark.parametrize(
    "sampler, steps", [("heun", 3), ("ancestral", 5), ("dpmpp_2m", 5), ("euler_maruyama", 5)]
)
def test_draws_are_those_of_synthesize_at_strength_0(tmp_path, sampler, steps):
    settings = {
        "sampler": sampler,
        "steps": steps,
        "attack_scale": 0.0,
        "sigma_start": 152.17 if sampler == "euler_maruyama" else 80.0,
        "max_restarts": 0,
    }
    labels, ids = cycle_labels(7, 3), make_image_ids(7, 3)
    asked = {"image_ids": ids, "seed": 4, "batch_size": 4, "progress": False}
    found = synthesize(tiny.prior(), tiny.victim(), labels, **asked, **settings)
    assert torch.equal(drawn(tmp_path, seed=4, sampler=sampler), to_uint8(found.images))


def test_draws_are_the_same_bits_after_an_interruption(tmp_path):
    whole = drawn(tmp_path / "whole")
    drawn(tmp_path / "part", count=4)
    assert torch.equal(drawn(tmp_path / "part"), whole)


def test_classes_take_turns_and_number_their_images():
    assert cycle_labels(5, 3).tolist() == [0, 1, 2, 0, 1]
    assert make_image_ids(5, 3) == [0, 1_000_000, 2_000_000, 1, 1_000_001]
    assert make_image_ids(3, 0) == [0, 1, 2]


def test_heun_calls_the_denoiser_once_at_its_last_step():
    assert [steps_for_nfe("heun", calls) for calls in (1, 35, 63)] == [1, 18, 32]
    with pytest.raises(ValueError, match=r"64 denoiser calls are no whole.*2 more.*e\.g\. 65"):
        steps_for_nfe("heun", 64)


def test_restarts_are_counted():
    """Two of three Heun steps each: 12 calls more than Heun's method of as many levels."""
    assert [steps_for_nfe("restart", calls) for calls in (15, 35)] == [2, 12]
    with pytest.raises(ValueError, match=r"calls 15 times and 2 more for each further step.* 15"):
        steps_for_nfe("restart", 9)


@pytest.mark.parametrize("sampler", component_names("samplers"))
def test_the_denoiser_is_called_as_often_as_was_asked(tmp_path, sampler):
    calls, count = [], 17
    prior = tiny.prior()
    model = prior.model
    counted = replace(prior, model=lambda *given: calls.append(0) or model(*given))
    generate_samples(counted, tmp_path, "tiny", 2, sampler, nfe=count, batch_size=2, progress=False)
    assert len(calls) == count
