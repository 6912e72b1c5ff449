"""The energy budget in every task: never exceeded, counted the same on two routes, refused rightly.

What the energy of a sampler's steps is stands in diffusion/test_steering.py.
"""

import json
import math

import pytest
import torch

import scoreag
import tiny
from assess.worlds_of_plans import PLAN
from scoreag.assess import runner
from scoreag.attacks.gat import GAT
from scoreag.cli.app import main
from scoreag.methods.config import SamplingConfig
from scoreag.methods.guided_sampling import energy_shares

pytestmark = pytest.mark.usefixtures("one_thread")

BASE = {"max_restarts": 0, "attack_scale": 30.0, "steps": 6, "progress": False}
SAMPLERS = [
    ("ancestral", {}),
    ("euler_maruyama", {}),
    ("dpmpp_2m", {"sde": True}),
    ("edm_stochastic", {"s_churn": 20.0, "s_tmin": 0.01, "s_tmax": 80.0}),
    ("restart", {"s_tmin": 0.01, "s_tmax": 5.0}),
]


def gas(**options):
    return scoreag.synthesize(tiny.prior(), tiny.victim(), [0, 1, 2], **BASE | options)


def gat(**options):
    images, labels = tiny.images(3), tiny.labels(3)
    return scoreag.transform(
        tiny.prior(), tiny.victim(), images, labels, **BASE | {"similarity": 10.0} | options
    )


TASKS = pytest.mark.parametrize("task", [gas, gat])


@TASKS
@pytest.mark.parametrize(
    "sampler, options, pace",
    [("ancestral", {}, "greedy"), ("ancestral", {}, "proportional"),
     *((*one, "uniform") for one in SAMPLERS)],
)  # fmt: skip
def test_a_budget_is_never_exceeded_and_changes_the_images(task, sampler, options, pace):
    free = task(sampler=sampler, sampler_options=options)
    for budget in (0.01, 1.0):
        found = task(
            sampler=sampler, sampler_options=options, energy_budget=budget, energy_pace=pace
        )
        assert found.energy.dtype == torch.float64
        assert (found.energy > 0).all() and (found.energy <= budget**2).all()
        assert not torch.equal(found.images, free.images)


@pytest.mark.parametrize("sampler", ["ancestral", "euler_maruyama"])
def test_what_is_counted_without_a_budget_is_what_a_budget_out_of_reach_counts(sampler):
    """Guidance ends above the last level, so that nothing is left out at the end."""
    early = {"sampler": sampler, "attack_interval": (0.1, 1000.0)}
    free, bounded = gas(**early), gas(**early, energy_budget=1e5)
    assert torch.equal(free.images, bounded.images)
    torch.testing.assert_close(free.energy, bounded.energy)
    assert free.energy.isfinite().all()


@TASKS
def test_the_energy_grows_with_the_square_of_a_small_scale(task):
    """To first order in the scale the path is that of the reference, and shifts are linear in it.

    A reference that differs from the chain without an attack would leave a constant.
    """
    one, two = (
        task(sampler="ancestral", attack_scale=scale, energy_budget=1e3).energy
        for scale in (0.01, 0.02)
    )
    torch.testing.assert_close(two / one, torch.full_like(one, 4.0), rtol=0.02, atol=0.0)


@pytest.mark.parametrize(
    "pace, weights",
    [("uniform", [1, 1, 1, 0, 0]), ("proportional", [10.0, 4.0, 1.0, 0, 0])],
)
def test_shares_are_of_the_draws_after_a_guided_level(monkeypatch, pace, weights):
    """Levels 20, 10, 4, 1, 0.3, 0.1, 0; guided from 3 up: so draws to 10, 4 and 1."""
    config = SamplingConfig(
        sampler="ancestral", attack_interval=(3.0, 1000.0), energy_pace=pace, energy_budget=1.0
    )
    levels = torch.tensor([20.0, 10.0, 4.0, 1.0, 0.3, 0.1, 0.0])
    monkeypatch.setattr(SamplingConfig, "sigmas", lambda self: levels)
    expected = [sum(weights[: i + 1]) / sum(weights) for i in range(5)]
    assert energy_shares(config) == pytest.approx(expected)


def test_an_attack_at_the_last_noise_level_is_infinite_and_null_in_rows():
    found = gas(sampler="ancestral")
    assert found.energy.isinf().all()
    assert [row["energy"] for row in found.to_rows()] == [None, None, None]


def test_gat_pays_for_its_reference_and_gas_does_not():
    plain, bounded = (gat(sampler="ancestral", energy_budget=r) for r in (None, 1.0))
    assert bounded.nfe.tolist() == [2 * nfe for nfe in plain.nfe.tolist()]
    plain, bounded = (gas(sampler="ancestral", energy_budget=r) for r in (None, 1.0))
    assert bounded.nfe.tolist() == plain.nfe.tolist()


def test_a_searched_scale_stays_within_the_budget():
    found = gas(sampler="ancestral", attack_scale="auto", energy_budget=0.5)
    assert (found.energy <= 0.25).all()


def test_the_attack_gat_has_the_budget_of_the_task():
    images, labels = tiny.images(3) / 255, tiny.labels(3)
    options = {"attack_scale": 30.0, "sampler": "ancestral", "energy_budget": 0.3}
    attack = GAT(target="none", prior=tiny.prior(), **options)
    found = attack(tiny.victim(), images, labels, seed=5, image_ids=[7, 8, 9])
    same = scoreag.transform(
        tiny.prior(), tiny.victim(), images, labels, None, seed=5, image_ids=[7, 8, 9],
        batch_size=0, progress=False, **options,
    )  # fmt: skip
    assert torch.equal(found, same.images) and (same.energy <= 0.09).all()


@pytest.mark.parametrize("verb", ["synthesize", "transform"])
def test_rows_and_summary_tell_of_it(planned, tmp_path, verb):
    source = {
        "synthesize": ["--classes", "0,1", "--per-class", "2"],
        "transform": ["--data", "image-folder:images"],
    }[verb]
    words = [verb, "--model", "prior", "--classifier", "net", "--attack-scale", "30", "--steps",
             "4", "--sampler", "ancestral", "--energy-budget", "0.7", "--energy-pace", "uniform",
             *source, "--quiet", "--out", str(tmp_path / "out")]  # fmt: skip
    assert main(words) == 0
    rows = [json.loads(row) for row in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    assert rows and all(0 < row["energy"] <= 0.49 for row in rows)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert "energy" in json.dumps(summary)


def test_a_plan_has_budgets_for_generated_and_transformed_images(planned, tmp_path):
    steered = '\nsampler = "ancestral"\nenergy_budget = 0.4\nattack_scale = 30.0\n'
    text = PLAN.replace("[attacks.gat]\nsteps = 2", f"[attacks.gat]\nsteps = 4{steered}")
    text = text.replace(
        "[attacks.gas]\nattack_scale = [0.0, 30.0]\nsteps = 2", f"[attacks.gas]\nsteps = 4{steered}"
    )
    assert text.count("energy_budget") == 2
    (tmp_path / "plan.toml").write_text(text)
    out = tmp_path / "out"
    words = ["assess", str(tmp_path / "plan.toml"), "--out", str(out), "--quiet"]
    assert main([*words, "--only", "*/ga[st]"]) == 0
    cells = [cell for cell in runner.list_cells(out) if cell.options.get("energy_budget")]
    assert {cell.component for cell in cells} == {"gat", "gas"}
    for cell in cells:
        rows = runner.read_cell(out, cell).rows
        assert rows and all(0 < row["energy"] <= 0.16 for row in rows)


@TASKS
@pytest.mark.parametrize(
    "options, said",
    [
        ({"sampler": "euler", "energy_budget": 1.0}, "euler draws none.*write sampler ancestral"),
        ({"sampler": "heun", "energy_budget": 1.0}, "heun draws none"),
        ({"sampler": "dpmpp_2m", "energy_budget": 1.0}, "dpmpp_2m draws none"),
        ({"sampler": "ancestral", "steps": 1, "energy_budget": 1.0}, "2 steps or more"),
        ({"sampler": "ancestral", "energy_budget": 0.0}, "energy_budget is 0.0; expected a len"),
        ({"sampler": "ancestral", "energy_budget": -2.0}, "energy_budget is -2.0; expected"),
        ({"sampler": "ancestral", "energy_budget": math.inf}, "energy_budget is inf"),
        ({"sampler": "ancestral", "energy_budget": math.nan}, "energy_budget is nan"),
        ({"sampler": "ancestral", "energy_budget": 1.0, "energy_pace": "late"}, "no energy_pace"),
        ({"sampler": "ancestral", "energy_pace": "uniform"}, "shares out an energy_budget"),
        ({"sampler": "ancestral", "energy_budget": 1.0, "attack_scale": 0.0}, "limits an attack"),
        (
            {"sampler": "ancestral", "energy_budget": 1.0, "attack_interval": (1e-4, 1e-3)},
            "guides from 0.0001 to 0.001, and no noise is drawn after such",
        ),
    ],
)
def test_what_cannot_be_limited_is_refused_in_a_line(task, options, said):
    with pytest.raises(ValueError, match=said) as refused:
        task(**options)
    assert "\n" not in str(refused.value)
