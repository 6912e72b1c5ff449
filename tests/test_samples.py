"""Sampling without a classifier is a synthesis whose attack has no strength."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import scoreag
import tiny
from scoreag.cli.app import main

LABELS = [0, 1, 2, 1]


def test_samples_are_those_of_an_attack_without_strength() -> None:
    attacked = scoreag.synthesize(
        tiny.prior(), tiny.victim(), LABELS, None, attack_scale=0.0, progress=False
    )
    plain = scoreag.synthesize(tiny.prior(), None, LABELS, progress=False)
    assert torch.equal(plain.images, attacked.images)
    assert torch.equal(plain.image_ids, attacked.image_ids)
    assert plain.success is None and plain.predictions is None
    assert repr(plain) == "Result(synthesize: 4 images of 3 x 8 x 8)"


def test_judge_says_whether_samples_show_their_class() -> None:
    plain = scoreag.synthesize(tiny.prior(), None, LABELS, judge=tiny.victim(), progress=False)
    eight_bit = (plain.images * 255).round() / 255
    expected = tiny.victim()(eight_bit).argmax(1) == torch.tensor(LABELS)
    assert plain.label_preserved is not None
    assert torch.equal(plain.label_preserved, expected)


def test_model_without_classes_is_sampled_by_image_id() -> None:
    prior = replace(tiny.prior(classes=0), classes=())
    some = scoreag.synthesize(prior, None, None, image_ids=range(3), progress=False)
    last = scoreag.synthesize(prior, None, None, image_ids=[2], progress=False)
    assert len(some) == 3 and torch.equal(some.images[2:], last.images)
    with pytest.raises(ValueError, match=r"no classes; write labels=None and image_ids=range"):
        scoreag.synthesize(prior, None, [0], progress=False)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"attack_scale": 2.0}, "attack_scale is of an attack"),
        ({"target": 1}, "needs a classifier"),
    ],
)
def test_options_of_an_attack_need_a_classifier(options: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        scoreag.synthesize(tiny.prior(), None, LABELS, progress=False, **options)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    tiny.write_score_model(tmp_path / "prior")
    tiny.write_classifier(tmp_path / "net")
    return tmp_path


def synthesize(*words: str) -> int:
    return main(
        ["synthesize", "--model", "prior", "--per-class", "2", "--out", "out", "--device", "cpu",
         *words]
    )  # fmt: skip


def test_command_samples_and_reports(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert synthesize("--reference-classifier", "net", "--json", "--classes", "dog") == 0
    summary = json.loads(capsys.readouterr().out)
    assert [*summary["rates"]] == ["judge_agreement"] and "headline" not in summary
    assert summary["rates"]["judge_agreement"]["total"] == summary["images"] == 2
    page = (models / "out" / "report.html").read_text()
    count = summary["rates"]["judge_agreement"]["count"]
    assert f"2 images were sampled without an attack; net sees the class in {count} of 2." in page


def test_target_without_classifier_is_a_wrong_usage(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert synthesize("--target", "dog") == 2
    assert "--target dog needs --classifier" in capsys.readouterr().err
    assert not (models / "out").exists()


def test_class_names_are_labels_in_python_too() -> None:
    named = scoreag.synthesize(tiny.prior(), None, ["cat", "ship", 1], progress=False)
    numbered = scoreag.synthesize(tiny.prior(), None, [0, 2, 1], progress=False)
    assert torch.equal(named.images, numbered.images)
    with pytest.raises(ValueError, match=r"labels have 'shp', which is no class; .*'ship'"):
        scoreag.synthesize(tiny.prior(), tiny.victim(), ["shp"], progress=False)
