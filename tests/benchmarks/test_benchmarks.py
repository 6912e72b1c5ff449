"""Benchmarks: what is typed, what each row says of itself, and what is kept when one is cut off."""

import json
from argparse import Namespace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch

import scoreag
import tiny

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def common(monkeypatch, tmp_path) -> ModuleType:
    """What the benchmarks share, with results of its own; all models are the small ones."""
    monkeypatch.syspath_prepend(FOLDER)
    module = import_module("common")
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.setattr(scoreag, "load_prior", lambda name: tiny.prior())
    monkeypatch.setattr(scoreag, "load_classifier", lambda name: tiny.victim())
    given = tiny.images(6) / 255, tiny.labels(6)
    monkeypatch.setattr(scoreag, "load_data", lambda spec, data_dir, classes=(): given)
    return module


@pytest.mark.parametrize(
    "name, word, meant",
    [
        ("steps", "8", 8),
        ("steps", "8.5", 8.5),  # to be refused as it was typed
        ("attack_scale", "8", 8.0),
        ("similarity", "1e3", 1000.0),
        ("stop_margin", "-1", -1.0),
        ("stop_margin", "none", None),
        ("normalize_gradient", "True", True),
        ("likelihood_variance", "damped", "damped"),
        ("attack_interval", "0:2", (0.0, 2.0)),
    ],
)
def test_a_value_is_of_the_kind_of_its_setting(common, name, word, meant):
    found = common.value(name, word)
    assert found == meant and type(found) is type(meant)


def test_rows_are_the_default_each_single_value_and_every_combination(common):
    args = Namespace(
        setting=["steps=4"],
        grid=["similarity=30,100", "sigma_start=0.3"],
        attack_scale=[3.0],
        steps=[],
        each=["x0_steps=2+momentum=0.5", 'sampler_options={"recurrence":2;"a":1}'],
    )
    assert common.cells(args, alone=("attack_scale", "steps"), sampler=[]) == [
        {"steps": 4},
        {"steps": 4, "attack_scale": 3.0},
        {"steps": 4, "x0_steps": 2, "momentum": 0.5},
        {"steps": 4, "sampler_options": {"recurrence": 2, "a": 1}},
        {"steps": 4, "similarity": 30, "sigma_start": 0.3},
        {"steps": 4, "similarity": 100, "sigma_start": 0.3},
    ]


def test_without_a_grid_there_is_the_default_alone(common):
    assert common.cells(Namespace(setting=[], grid=[], each=[])) == [{}]


def test_what_is_cut_off_keeps_the_rows_that_were_done(common, tmp_path):
    def rows(victim):
        yield {"settings": "first"}
        yield {"settings": "second"}
        raise KeyboardInterrupt

    args = Namespace(model="cifar10", classifier=["net"], name="cut")
    with pytest.raises(KeyboardInterrupt):
        common.measure(args, {}, rows)
    found = json.loads((tmp_path / "cut.json").read_text())["victims"]["net"]
    assert [row["settings"] for row in found] == ["first", "second"]


def results(monkeypatch, common, name: str, *words: str) -> list[dict]:
    """The rows that a benchmark writes."""
    monkeypatch.setattr(
        "sys.argv", [f"{name}.py", "--data-dir", "x", "--setting", "steps=2", *words]
    )
    import_module(name).main()
    figures = json.loads((common.RESULTS / f"{name}.json").read_text())
    return figures["victims"]["cifar10-resnet20"]


def resolved(rows: list[dict], *names: str) -> list[tuple]:
    return [tuple(row["resolved"][name] for name in names) for row in rows]


def test_a_grid_of_purification_attacks_once(common, monkeypatch):
    attacks, module = [], import_module("purification")

    def attacked(victim, images, labels, attack):
        attacks.append(len(images))
        return 1 - images

    monkeypatch.setattr(module, "attacked", attacked)
    words = ("--grid", "similarity=30,100", "--grid", "sigma_start=0.3,0.5")
    base, default, *rows = results(monkeypatch, common, "purification", *words)
    assert attacks == [6] and base["resolved"]["steps"] == 40
    assert base["settings"] == "PGD-40, 8/255, no purifier"
    assert resolved([default], "similarity", "sigma_start") == [(30.0, 1.0)]
    cells = [(30, 0.3), (30, 0.5), (100, 0.3), (100, 0.5)]
    assert resolved(rows, "similarity", "sigma_start") == cells
    assert "attack_scale" not in default["resolved"] and default["resolved"]["seed"] == 0


class Judge:
    """Says what the small classifier says, and measures one distance."""

    def message(self, images):
        with torch.no_grad():
            return tiny.victim()(images).argmax(1)

    def distances(self, images, originals):
        return {"linf_255": 255 * (images - originals).abs().max().item()}


def test_transformation_counts_success_with_retries_beside_that_without(common, monkeypatch):
    monkeypatch.setattr(import_module("transformation"), "ruler", lambda *_, **__: Judge())
    words = ("--grid", "attack_scale=10,30", "max_restarts=0,2")
    _, default, *rows = results(monkeypatch, common, "transformation", *words)
    cells = [(10, 0), (10, 2), (30, 0), (30, 2)]
    assert resolved(rows, "attack_scale", "max_restarts") == cells
    counts = [(row["success_8bit"]["count"], row["without_retries"]["count"]) for row in rows]
    for (plain, same), (more, first) in (counts[:2], counts[2:]):
        assert plain == same == first <= more  # the first draws are the same, whatever follows
    assert any(more > first for more, first in counts)
    assert [row["retries"] > 0 for row in rows] == [False, True, False, True]
    assert list(default).index("success_8bit") < list(default).index("without_retries")


def test_synthesis_stands_beside_unguided_draws(common, monkeypatch):
    monkeypatch.setattr(import_module("synthesis"), "ruler", lambda *_, **__: Judge())
    words = ("--per-class", "1", "--attack-scale", "3", "--seed", "5")
    rows = results(monkeypatch, common, "synthesis", *words)
    assert resolved(rows, "attack_scale", "seed") == [(0.0, 5), (30.0, 5), (3.0, 5)]


def test_a_recipe_lasts_as_long_as_asked_by_the_pace_of_its_first_steps(common, monkeypatch):
    """Twelve steps in 3 seconds are four a second: ten seconds are 40 steps."""
    module = import_module("training_recipes")
    monkeypatch.setattr(module, "trained", lambda recipe, data: (None, 3.0))
    recipe = module.PRESETS["tiny"]
    assert (
        module.lasting(recipe, None, 10.0).schedule.total_images == 40 * recipe.schedule.batch_size
    )


def test_draws_by_sampler_are_judged_and_kept(common, monkeypatch):
    module = import_module("draws")

    class Both(Judge):
        def moments(self, images):
            return import_module("scoreag.metrics.feature_distances").Moments.from_features(
                images.flatten(1)[:, :3], "x"
            )

    monkeypatch.setattr(module, "ruler", lambda **_: Both())
    words = ["draws.py", "--data-dir", "x", "--images", "6", "--sampler", "euler", "--nfe", "2"]
    monkeypatch.setattr("sys.argv", [*words, "3"])
    module.main()
    figures = json.loads((common.RESULTS / "draws.json").read_text())
    assert [row["settings"]["calls"] for row in figures["rows"]] == [2, 3]
    assert all(row["judge"]["total"] == 6 and row["frechet"] >= 0 for row in figures["rows"])
