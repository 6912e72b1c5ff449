"""The small world's command: what waits for what, what is not done twice, and its tables."""

import json
from importlib import import_module
from pathlib import Path

import pytest

import tiny
from scoreag.models.model_cards import load_card, write_card
from scoreag.training.recipes import CLASSIFIER_PRESETS as CLASSIFIER_PRESETS
from scoreag.training.recipes import SCORE_PRESETS as SCORE_PRESETS

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def fashion(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return import_module("fashion")


@pytest.fixture
def world(fashion, tmp_path):
    return fashion.World(tmp_path / "models", ())


@pytest.fixture(params=["whole", "trials"])
def todo(request, fashion, world):
    return list(getattr(fashion, request.param)(world))


def test_each_step_waits_for_steps_before_it_only(fashion, todo):
    """So that there is always one that is ready.  Trials find all models there."""
    trained = any(step.name == fashion.JUDGE for step in todo)
    seen = {fashion.SMALL} if trained else {fashion.SMALL, *fashion.VICTIMS, fashion.JUDGE}
    for step in todo:
        assert {*step.models, *step.after} <= seen
        seen.add(step.name)


def test_the_presets_and_scripts_that_it_names_exist(todo):
    for step in todo:
        if step.words[0].endswith(".py"):
            assert (FOLDER / step.words[0]).is_file()
        if "--preset" in step.words:
            preset = step.words[step.words.index("--preset") + 1]
            assert preset in {**SCORE_PRESETS, **CLASSIFIER_PRESETS}


@pytest.fixture
def counting(fashion, tmp_path):
    """Steps whose scripts add a line to a file each time they run."""

    def step(name, models=(), after=(), ends="", more=()):
        script, made = tmp_path / f"{name}.py", tmp_path / name
        script.write_text(f"open({str(made)!r}, 'a').write('ran\\n'){ends}\n")
        return fashion.Step(name, (str(script), *more), made, models, after)

    return step


def ran(step) -> int:
    return len(step.made.read_text().splitlines()) if step.made.exists() else 0


def test_a_step_is_done_again_only_where_its_command_its_models_or_its_file_changed(
    fashion, counting, tmp_path
):
    tiny.write_classifier(tmp_path / "net")
    step = counting("table", ("net",))
    for _ in range(2):
        fashion.work([step], 1, tmp_path)
    assert ran(step) == 1
    fashion.work([counting("table", ("net",), more=("--images", "3"))], 1, tmp_path)
    assert ran(step) == 2
    other = tiny.victim().module
    other.linear.bias.data += 1
    write_card(load_card(tmp_path / "net"), other.state_dict())
    fashion.work([counting("table", ("net",), more=("--images", "3"))], 1, tmp_path)
    assert ran(step) == 3
    step.made.unlink()
    fashion.work([counting("table", ("net",), more=("--images", "3"))], 1, tmp_path)
    assert ran(step) == 1


def test_no_worker_waits_while_a_step_is_ready(fashion, counting, tmp_path):
    """A step that waits for another one lets those behind it pass."""
    slow = counting("slow", ends="; __import__('time').sleep(2)")
    waits, free = counting("waits", after=("slow",)), counting("free")
    began = fashion.time.monotonic()
    fashion.work([slow, waits, free], 2, tmp_path)
    marks = [(tmp_path / "done" / f"{n}.json").stat().st_mtime for n in ("free", "slow", "waits")]
    assert marks == sorted(marks) and fashion.time.monotonic() - began > 2


def test_what_fails_ends_it_and_what_has_not_begun_is_left(fashion, counting, tmp_path):
    broken = counting("broken", ends="; raise SystemExit(3)")
    others = [counting(f"other{i}", after=("broken",) if i else ()) for i in range(2)]
    with pytest.raises(fashion.Failed, match="broken ended with exit status 3"):
        fashion.work([broken, *others, counting("late")], 1, tmp_path)
    assert [ran(step) for step in (*others, counting("late"))] == [0, 0, 0]
    assert not (tmp_path / "done" / "broken.json").exists()


def entry(value, low, high):
    return {"value": value, "low": low, "high": high, "of": "draws", "total": 10}


def rate(count, total):
    return {"value": count / total, "count": count, "total": total, "low": 0.1, "high": 0.9}


def figures():
    names = ("frechet_judge", "kernel_judge", "precision_judge", "recall_judge")
    found = {name: entry(5.0, 4.0, 6.0) for name in names}
    found |= {f"{name}_floor": entry(1.0, 0.5, 1.5) for name in names}
    return found | {"judge_accuracy": rate(9, 10), "judge_accuracy_test": rate(10, 10)}


def test_the_tables_show_what_the_evaluation_found(fashion, monkeypatch):
    """From files as evaluate-model writes them."""
    page = import_module("render_world")
    point = {"images_seen": 1234, "figures": figures()}
    settings = {"images": 10, "sampler": "heun", "calls": 35}
    near = {"pixels": {"draws": {"median": entry(1.0, 0.9, 1.1), "low": entry(0.5, 0.4, 0.6)}}}
    speed = {"threads": 1, "seconds": {"18": entry(0.25, 0.2, 0.3)}}
    robust = {"test": {"accuracy": rate(8, 10), "accuracy_pgd40_25.5": rate(7, 10)}}
    about = {"images_seen": 1234, "minutes": 3.2}
    data = {
        "workers": 2,
        "sittings": [20.0, 30.0],
        "models": [
            {"name": "score", "kind": "score-model", **about},
            {"name": "robust", "kind": "classifier", **about, "figures": robust},
        ],
        "card": {"settings": settings, "figures": figures(), "neighbours": near, "speed": speed},
        "curve": {"settings": settings, "figures": figures(), "curve": [point]},
    }
    text = page.world(json.loads(json.dumps(data)))
    assert "20 + 30 minutes" in text and "| score | 1,234 | 3 |" in text
    assert "| robust | 1,234 | 3 | 80.0 % (8 of 10; 10.0 to 90.0) | 70.0 % (7 of 10;" in text
    assert "| 1,234 | 5 (4 to 6) |" in text and "| training images | 1 (0.5 to 1.5) |" in text
    assert "100.0 % (10 of 10; 10.0 to 90.0), test images |" in text
    assert "18: 0.25 (0.2 to 0.3)" in text


def test_the_table_of_families_shows_each_with_its_best_purification(fashion):
    page = import_module("render_world")
    names = ("draws_judge", "gas_success", "gas_judge", "gat_success", "gat_judge")
    row = {"family": "ncsn", "draws_frechet": 12.346, "gat_frechet": 7.0, "purify": {"start": 0.4}}
    row |= {name: rate(9, 10) for name in names}
    row |= {"attacked_purified": rate(6, 10), "clean_purified": rate(8, 10)}
    text = page.families({"rows": [row], "images": 10, "per_class": 1})
    assert "| ncsn | 90.0 % (9 of 10; 10.0 to 90.0) | 12.35 |" in text
    assert "| ncsn | start 0.4 | 60.0 % (6 of 10; 10.0 to 90.0) | 80.0 % (8 of 10;" in text
