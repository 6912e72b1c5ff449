"""The small world's command: what waits for what, and what is not done twice."""

import os
from importlib import import_module
from pathlib import Path

import pytest

from scoreag.training.presets import PRESETS as SCORE_PRESETS
from scoreag.training.recipes import PRESETS as CLASSIFIER_PRESETS

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def fashion(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return import_module("fashion")


@pytest.fixture
def world(fashion, tmp_path):
    return fashion.World(tmp_path / "models", ())


def test_each_step_waits_for_steps_before_it_only(fashion, world):
    """With any number of workers: none waits for a step that no worker will take."""
    seen = {fashion.SMALL}  # trained before all others
    for step in fashion.steps(world):
        assert set(step.after) <= seen
        seen.add(step.name)


def test_the_presets_and_scripts_that_it_names_exist(fashion, world):
    for step in fashion.steps(world):
        if step.words[0].endswith(".py"):
            assert (FOLDER / step.words[0]).is_file()
        if "--preset" in step.words:
            preset = step.words[step.words.index("--preset") + 1]
            assert preset in {**SCORE_PRESETS, **CLASSIFIER_PRESETS}


def counting(folder: Path, name: str) -> str:
    """A script that adds a line to a file each time it runs."""
    script = folder / f"{name}.py"
    script.write_text(f"open({str(folder / name)!r}, 'a').write('ran\\n')\n")
    return str(script)


def test_a_table_is_made_again_only_where_a_model_is_younger(fashion, tmp_path):
    (tmp_path / "net").mkdir()
    weights = tmp_path / "net" / "model.safetensors"
    weights.touch()
    os.utime(weights, (1e9, 1e9))
    step = fashion.Step("table", (counting(tmp_path, "count"),), ("net",))
    for _ in range(2):
        fashion.work([step], 1, tmp_path)
    assert (tmp_path / "count").read_text() == "ran\n"
    os.utime(weights, (4e9, 4e9))
    fashion.work([step], 1, tmp_path)
    assert (tmp_path / "count").read_text() == "ran\nran\n"


def test_what_fails_ends_it_and_what_waits_is_not_begun(fashion, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit(3)\n")
    first = fashion.Step("first", (str(broken),))
    second = fashion.Step("second", (counting(tmp_path, "count"),), ("first",))
    other = fashion.Step("other", (counting(tmp_path, "other"),), ("second",))
    with pytest.raises(fashion.subprocess.CalledProcessError, match="exit status 3"):
        fashion.work([first, second, other], 2, tmp_path)
    assert not (tmp_path / "other").exists()
    assert not (tmp_path / "count").exists()
