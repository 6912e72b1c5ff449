"""One denoiser as three families, and each family's own path: against exact worlds."""

import json
import math
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch

import scoreag
import tiny
from scoreag.core.rng import Noise
from worlds import Gaussian

FOLDER = Path(__file__).parents[2] / "benchmarks"
LEVELS = (0.002, 0.05, 0.7, 10.0)


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("family", ["edm", "vp", "ve"])
def test_the_route_by_way_of_a_family_gives_the_denoiser_back(family, level):
    prior = tiny.prior()
    expressed = import_module("reexpressed").as_family(prior, family)
    noise = Noise(0, range(3)).normal_like(torch.zeros(3, *tiny.SHAPE))
    x, labels, sigma = 0.4 * noise + level * noise.flip(0), torch.tensor([0, 1, 2]), level
    sigma = torch.tensor(sigma)
    expected = prior.model(x, sigma, labels)
    assert torch.allclose(expressed.model(x, sigma, labels), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("level", [*LEVELS, 80.0])
@pytest.mark.parametrize("family", ["vp", "ve"])
def test_in_double_precision_nothing_but_rounding_is_between_them(family, level):
    prior = tiny.prior().to(torch.float64)
    expressed = import_module("reexpressed").as_family(prior, family)
    x = level * Noise(0, range(2)).normal_like(torch.zeros(2, *tiny.SHAPE).double())
    sigma = torch.tensor(level).double()
    assert torch.allclose(expressed.model(x, sigma), prior.model(x, sigma), atol=1e-9, rtol=0)


def test_the_network_of_vp_says_the_noise_that_it_was_given():
    """Where the image is known, epsilon = (x - x0) / sigma at the level of its time, by hand."""
    made = import_module("reexpressed")
    family, level = made.FAMILIES["vp"]
    x0, noise = torch.full((1, 1, 2, 2), 0.3), torch.randn(1, 1, 2, 2)
    network = made.Network(lambda x, sigma, labels: x0.expand_as(x), family, level)
    time = torch.tensor([0.5 * 999])  # ln(1 + sigma^2) = 0.1 / 2 + 19.9 / 8
    sigma = math.sqrt(math.exp(0.1 / 2 + 19.9 / 8) - 1)
    z = (x0 + sigma * noise) / math.sqrt(1 + sigma**2)
    assert torch.allclose(network(z, time), noise, atol=1e-5)


@pytest.fixture
def wide() -> Gaussian:
    """A world whose scale is that of images, in double precision."""
    mean = torch.tensor([[0.3], [-0.2]], dtype=torch.float64)
    return Gaussian(mean, var=torch.tensor([[0.25], [0.04]], dtype=torch.float64))


def error(world, path, levels, order, steps):
    """To the exact flow down to the last level, and the exact estimate there."""
    own = import_module("paths.own")
    noise = Noise(3, range(4))
    start = torch.tensor(1.0, dtype=torch.float64)
    x = world.mean + noise.normal_like(torch.zeros(4, 2, 3).double())
    grid = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    found = own.sample(world.denoise, x, grid, noise, path=path, levels=levels, order=order)
    last = torch.tensor(own.SIGMA_MIN, dtype=torch.float64)
    exact = world.denoise(world.flow(x, start, last), last)
    return float((found - exact).abs().max())


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(
    "path, levels", [("edm", "edm"), ("vp", "vp"), ("vp", "edm"), ("ve", "ve")]
)
def test_the_error_on_each_path_falls_at_the_order_of_the_solver(wide, path, levels, order):
    coarse, fine = (error(wide, path, levels, order, steps) for steps in (129, 257))
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


def test_where_images_have_no_width_levels_uniform_in_the_time_of_vp_are_bad_for_heun():
    """The noise is like the root of t, whose slope has no bound at 0; EDM's levels are dense there.

    Images lie near a surface: in most directions they vary less than the last noise level.
    """
    thin = torch.full((2, 1), 1e-5, dtype=torch.float64)
    world = Gaussian(torch.tensor([[0.3], [-0.2]], dtype=torch.float64), thin)
    own, dense = (
        [error(world, "vp", levels, order, 33) for order in (1, 2)] for levels in ("vp", "edm")
    )
    assert own[1] > 10 * own[0] and dense[1] < dense[0] < own[0] / 10


def test_the_benchmark_writes_what_its_section_tells(monkeypatch, tmp_path, capsys):
    common, module = import_module("common"), import_module("parametrisations")
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    quick = {"transform": {"steps": 3, "attack_scale": 1.0}, "purify": {"steps": 3}}
    prior = replace(tiny.prior(), defaults=quick)
    monkeypatch.setattr(scoreag, "load_prior", lambda name: prior)
    monkeypatch.setattr(scoreag, "load_classifier", lambda name: tiny.victim())
    given = tiny.images(3) / 255, tiny.labels(3)
    monkeypatch.setattr(scoreag, "load_data", lambda spec, data_dir, classes=(): given)
    words = ["--few", "2", "--steps", "2", "4", "--fine", "8"]
    monkeypatch.setattr("sys.argv", ["parametrisations.py", *words])
    module.main()
    found = json.loads((tmp_path / "parametrisations.json").read_text())
    assert [len(found[task]) for task in ("GAT", "GAP")] == [10, 10]
    assert found["GAT"][1]["calls"] == [3, 7]  # Heun: two a step, one for the last
    assert [row["settings"]["estimate"] for row in found["estimates"]] == [
        "denoiser", "ode_euler", "sde_euler",
    ]  # fmt: skip
    # where the chain is a single draw, the last estimate of the denoiser is the outcome
    assert found["estimates"][0]["gap_far"][-1]["rms"] < found["estimates"][0]["gap_far"][0]["rms"]
    text = import_module("render_parametrisations").parametrisations(found)
    assert "| vp | edm | heun |" in text and "sde_euler" in text


def test_the_picture_shows_the_errors_that_were_found():
    drawn = import_module("drawn")
    data = json.loads((FOLDER / "results" / "parametrisations.json").read_text())
    for axes, task in zip(drawn.converging(data).axes, ("GAT", "GAP"), strict=True):
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        shown = [line.get_ydata() for line in axes.get_lines()]
        assert [list(y) for y in shown] == [row["rms_255"] for row in data[task]]
