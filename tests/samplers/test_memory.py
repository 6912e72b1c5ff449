"""The gradient of a long chain needs hardly more memory than that of a short one."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHAIN = """
from itertools import pairwise
import torch
from scoreag.core.rng import Noise
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.samplers import {sampler} as sampler
from worlds import pulled

def peak():
    # not ru_maxrss: a process that another one starts begins with the peak of that one
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM"))  # MB

def plain(denoise, x, sigmas, noise, wrt):
    for i, (sigma, end) in enumerate(pairwise(sigmas)):
        x = sampler.step(denoise, x, sigma, end, noise.fold_in("step", i))
    return x

def gradient(batch, steps, run):
    noise = Noise(0, range(batch))
    images = noise.normal_like(torch.zeros(batch, 3, 32, 32)).requires_grad_()
    guided = pulled(lambda x, sigma: network(x), images, 0.1)
    x0 = run(guided, images + 0.5, karras(steps, sigma_max=1.0).float(), noise, wrt=[images])
    x0.sum().backward()
    assert images.grad.isfinite().all()

conv = lambda i, o: torch.nn.Conv2d(i, o, 1)
network = torch.nn.Sequential(conv(3, 160), torch.nn.SiLU(), conv(160, 3))
network.requires_grad_(False)
run = plain if "{how}" == "plain" else sampler.sample
gradient(1, 1, run)  # what torch loads and allocates on its first call is not the chain's
before = peak()
gradient(8, {steps}, run)
print(peak() - before)
"""


@cache
def megabytes(steps: int, sampler: str = "euler", how: str = "ours") -> float:
    """Peak resident memory above that just before the chain, in a fresh process."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    fixed = {"PYTHONPATH": path, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CHAIN.format(steps=steps, sampler=sampler, how=how)],
        env={**os.environ, **fixed},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m"])
def test_memory_does_not_grow_with_the_number_of_steps(sampler):
    few, many = megabytes(5, sampler), megabytes(20, sampler)
    assert many <= 1.1 * few
    assert few > 40  # what one step needs; else nothing was measured


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_plain_autograd_needs_what_all_steps_need():
    """So that the claim above is one: here the graph of a step is most of what is measured."""
    assert megabytes(5, how="plain") > 3 * megabytes(5)
