"""The headline of a run is fooled and shown; who judged, and how well, stands beside it."""

import copy
import json
from dataclasses import replace

import pytest
import torch

import tiny
from scoreag import synthesize, transform
from scoreag.classifiers.loading import load_classifier
from scoreag.classifiers.networks.small_cnn import build as plain_cnn
from scoreag.classifiers.normalized import wrap_classifier
from scoreag.cli.runs import format_summary
from scoreag.io.records import read_rows
from scoreag.methods.result import Result
from scoreag.methods.run_task import run_task
from scoreag.methods.summary import CHANCE_LEVEL_NOTE, NO_JUDGE_NOTE, summarize_rows
from scoreag.methods.transformation import build_transformation
from scoreag.models.loading import load_prior
from scoreag.report.task_run import render_run_page

JUDGE = {"models": {"judge": {"name": "J", "accuracy": {"count": 90, "total": 100, "of": "tests"}}}}


def row(label, saved, judge, before=None, judge_before=None, **changes):
    told = {
        "label": label, "target": None, "predictions": {"before": before, "saved": saved},
        "success_float": saved != label, "success": saved != label,
        "targeted_success": saved != label, "restarts": 0, "guidance_skipped": 0, "nfe": 1,
        "judge": {"before": judge_before, "saved": judge},
    }  # fmt: skip
    return told | changes


def unjudged(rows):
    return [{name: value for name, value in one.items() if name != "judge"} for one in rows]


DRAWN = [row(0, 1, 0), row(1, 0, 1), row(0, 1, 1), row(1, 1, 1)]  # fooled 3, shown of them 2
GIVEN = [
    row(0, 1, 0, before=0, judge_before=0),
    row(1, 0, 0, before=1, judge_before=1),
    row(1, 1, 1, before=1, judge_before=1),
    row(0, 1, 0, before=1, judge_before=1),  # wrong before: it does not count
]


def test_of_a_synthesis_all_images_count():
    found = summarize_rows("synthesize", DRAWN, JUDGE)
    head = found["headline"]
    assert summarize_rows("synthesize", DRAWN * 10, JUDGE)["headline"]["says"] == (
        "fooled, while the reference classifier J still sees the class"
    )
    assert (head["name"], head["count"], head["total"]) == ("fooled_and_shown", 2, 4)
    assert (head["low"], head["high"]) == (0.15, 0.85)  # Wilson of 2 of 4
    assert found["rates"]["success"]["count"] == 3
    agreed = found["rates"]["judge_agreement"]
    assert (agreed["count"], agreed["total"]) == (3, 4)


def test_of_a_transformation_those_count_that_were_right_before():
    found = summarize_rows("transform", GIVEN, JUDGE)
    head = found["headline"]
    assert (head["count"], head["total"]) == (1, 3)
    assert found["rates"]["success"]["count"] == 2
    before = found["rates"]["judge_agreement_before"]
    assert (before["count"], before["total"], before["of"]) == (3, 4, "untouched images")
    assert any("right on 3 of 4 untouched images" in text for text in found["warnings"])


@pytest.mark.parametrize("task, rows", [("synthesize", DRAWN), ("transform", GIVEN)])
def test_without_a_judge_the_headline_says_that_nothing_was_checked(task, rows):
    found = summarize_rows(task, unjudged(rows))
    assert found["headline"]["name"] == "success" and found["headline"]["says"] == NO_JUDGE_NOTE
    assert NO_JUDGE_NOTE.startswith(
        "fooled; not checked whether the class is still shown: give --reference-classifier"
    )
    assert "fooled_and_shown" not in found["rates"]
    assert "not checked whether the class is still shown" in format_summary(found)


def test_the_headline_stands_first_in_the_table_and_only_once():
    lines = format_summary(summarize_rows("transform", GIVEN, JUDGE)).splitlines()
    assert lines[1].startswith("fooled and shown") and "1 of 3" in lines[1]
    assert sum(line.startswith("fooled and shown") for line in lines) == 1
    assert any(line.startswith("success ") for line in lines)
    assert any(line.startswith("warning") for line in lines)


@pytest.mark.parametrize("of, doubted", [((95, 100), False), ((60, 100), True), (None, True)])
def test_of_images_from_nothing_the_judges_card_says_how_good_it_is(of, doubted):
    known = {} if of is None else {"accuracy": {"count": of[0], "total": of[1], "of": "tests"}}
    rows = DRAWN * 10
    found = summarize_rows("synthesize", rows, {"models": {"judge": {"name": "J", **known}}})
    assert bool(found["warnings"]) == doubted


def test_answers_that_have_nothing_to_do_with_the_labels_are_told():
    """A judge that always says 0 agrees with half of two classes: as often as by chance."""
    rows = [row(i % 2, 2, 0) for i in range(40)]
    found = summarize_rows("synthesize", rows, JUDGE)
    assert found["headline"]["count"] == 20 and found["headline"]["says"].endswith(
        CHANCE_LEVEL_NOTE
    )
    assert any(
        "20 of 40 images; predictions independent of the classes would agree in 50 %" in text
        for text in found["warnings"]
    )
    sound = [row(i % 2, 2, i % 2) for i in range(40)]
    assert CHANCE_LEVEL_NOTE not in summarize_rows("synthesize", sound, JUDGE)["headline"]["says"]


@pytest.mark.parametrize(
    "rows, settings, told",
    [
        (
            [row(0, 0, 0, 0, 0)] * 3,
            {"attack_scale": 20.0, "similarity": 1e3},
            "larger --attack-scale (now 20)",
        ),
        ([row(0, 0, 0, 0, 0)] * 3, {"attack_scale": 0.0}, "attack_scale is 0"),
        ([row(0, 1, 0, 1, 0)] * 3, {}, "wrong on all images before the attack"),
        (
            [row(0, 1, 2, 0, 0)] * 3,
            {},
            "the reference classifier sees the class in no image that fools",
        ),
        ([row(0, 1, 0, 0, 0)] * 3, {}, ""),
    ],
)
def test_where_nothing_succeeds_it_is_said_what_to_try(rows, settings, told):
    hints = summarize_rows("transform", rows, {**JUDGE, "config": settings})["hints"]
    assert bool(hints) == bool(told) and told in "".join(hints)
    assert len("".join(hints)) < 300


def judge():
    return wrap_classifier(tiny.filled(plain_cnn(**tiny.CNN), 12, 0.4))


def test_noise_that_fools_is_no_success():
    """A score model of random weights: the classifier errs on most, and the headline is 0."""
    good = load_prior("fashion-small")
    noise = filled(copy.deepcopy(good.model), 0.05)
    victim, sees = load_classifier("fashion-cnn"), load_classifier("fashion-judge")
    quick = {"steps": 2, "attack_scale": 6.0, "progress": False, "judge": sees}
    found = synthesize(replace(good, model=noise), victim, [0, 1, 2, 3, 4, 5], **quick)
    assert int(found.success.sum()) >= 4 and not (found.success & found.label_preserved).any()


def filled(network, scale):
    source = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data = scale * torch.randn(parameter.shape, generator=source)
    return network


@pytest.fixture
def judged():
    given = (tiny.prior(), tiny.victim(), tiny.images(10), tiny.labels(10))
    return build_transformation(*given, image_ids=range(20, 30), judge=judge())


def test_rows_hold_the_judges_answers_and_the_manifest_its_name(judged, tmp_path):
    figures = run_task(judged, tmp_path / "run", write_every=4, batch_size=4)
    rows = read_rows(tmp_path / "run")
    assert all({*one["judge"]} == {"before", "saved"} for one in rows)
    both = sum(
        r["predictions"]["before"] == r["label"] != r["predictions"]["saved"]
        and r["judge"]["saved"] == r["label"]
        for r in rows
    )
    assert figures["headline"]["count"] == both
    known = json.loads((tmp_path / "run" / "manifest.json").read_text())["models"]["judge"]
    assert known["name"] and len(known["sha256"]) == 64
    with torch.no_grad():
        said = judge()(tiny.images(10).float() / 255).argmax(1).tolist()
    assert [one["judge"]["before"] for one in rows] == said


def test_an_interrupted_run_gives_the_same_rows(judged, tmp_path, monkeypatch):
    run_task(judged, tmp_path / "whole", write_every=4, batch_size=4)
    run_task(judged, tmp_path / "again", write_every=4, batch_size=4)
    file = tmp_path / "again" / "rows.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:4]))
    (tmp_path / "again" / "summary.json").unlink()
    run_task(judged, tmp_path / "again", write_every=8, batch_size=4)
    assert tiny.contents(tmp_path / "again") == tiny.contents(tmp_path / "whole")


def test_a_run_of_another_judge_or_of_none_is_another_run(judged, tmp_path):
    run_task(judged, tmp_path / "run", batch_size=4)
    for who in (None, wrap_classifier(tiny.filled(plain_cnn(**tiny.CNN), 13, 0.4))):
        with pytest.raises(ValueError, match=r"another --out, or --overwrite") as told:
            run_task(replace(judged, judge=who), tmp_path / "run", batch_size=4)
        assert "models.judge" in str(told.value)


def test_a_saved_result_tells_its_judge(tmp_path):
    given = (tiny.prior(), tiny.victim(), tiny.images(3), tiny.labels(3))
    result = transform(*given, judge=judge(), progress=False)
    result.save(tmp_path / "a", provenance={"models": {"classifier": {"name": "net"}}})
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert manifest["models"]["judge"]["name"] == result.judge["name"]
    assert manifest["models"]["classifier"] == {"name": "net"}
    found = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert found["headline"]["name"] == "fooled_and_shown"
    assert [
        one["judge"]["saved"] for one in read_rows(tmp_path / "a")
    ] == result.judge_predictions.tolist()


def result():
    """Image 0 is fooled and shown, 1 fooled and lost, 2 not fooled, 3 was wrong before."""
    numbers = torch.arange(4)
    images = (numbers.view(4, 1, 1, 1) * 20).expand(4, 3, 6, 6).float() / 255
    predictions, labels = torch.tensor([1, 2, 2, 0]), torch.tensor([0, 1, 2, 1])
    wrong = predictions != labels
    return Result(
        task="transform", images=images, image_ids=numbers, nfe=numbers, restarts=numbers * 0,
        guidance_skipped=numbers * 0, originals=images, labels=labels,
        targets=torch.tensor([1, 0, 1, 0]),
        clean_predictions=torch.tensor([0, 1, 2, 0]), predictions=predictions, success_float=wrong,
        success=wrong, targeted_success=wrong, judge={"name": "J <b>"},
        judge_predictions=torch.tensor([0, 0, 2, 1]),
        judge_clean_predictions=torch.tensor([0, 1, 2, 1]),
    )  # fmt: skip


def test_the_page_tells_the_judge_and_does_not_tick_what_lost_its_class(tmp_path):
    html = render_run_page(
        result().save(tmp_path / "run", provenance={"classes": ["cat", "dog", "ship"]})
    )
    assert "It misclassifies 1 of these 3 after the transformation with the label preserved" in html
    assert "according to J &lt;b&gt; (95 % interval 6 to 79 %), and 2 in total." in html
    assert "Reference classifier J &lt;b&gt;: clean accuracy 4 of 4 untouched images" in html
    assert html.count("\N{CHECK MARK} fooled") == 1
    assert html.count("\N{MULTIPLICATION X} label not preserved") == 1
    assert "Warning: " in html  # four images show nothing of a judge
