"""A chain asks its device for no number, for which the program would wait.

A tensor on the device "meta" has no numbers: whoever asks for one gets an error.
"""

import pytest
import torch

import tiny
from scoreag.core.rng import Noise
from scoreag.diffusion.guidance import guide
from scoreag.diffusion.likelihoods import targeted
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.parameterizations import with_labels
from scoreag.diffusion.prior_guidance import GuidedModel
from scoreag.registry import component_names, load_component


def test_the_device_has_no_numbers():
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        float(torch.zeros((), device="meta"))


@pytest.mark.parametrize("name", component_names("samplers"))
def test_a_guided_chain_waits_for_no_number(name):
    x = torch.zeros(2, *tiny.SHAPE, device="meta")
    labels = torch.zeros(2, dtype=torch.int64, device="meta")
    model = GuidedModel(tiny.prior().model.to("meta"), 2.0, interval=(0.3, 2.0))
    likelihood = targeted(tiny.victim().to("meta"), labels, 3.0, stop_margin=1.0)
    guided = guide(with_labels(model, labels), likelihood, interval=(0.1, 5.0))
    sampled = load_component("samplers", name).sample(guided, x, karras(4), Noise(0, [0, 1]))
    assert sampled.device.type == "meta" and sampled.shape == x.shape
