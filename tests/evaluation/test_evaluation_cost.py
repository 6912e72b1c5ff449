"""What an evaluation is said to cost, on a clock that only the classifier moves."""

import json
from pathlib import Path

import pytest
import torch

import tiny
from scoreag.attacks import PGD
from scoreag.cli.app import main
from scoreag.data.loading import Dataset
from scoreag.evaluation import cost
from scoreag.evaluation.classifier import EvaluationSet


def test_seconds_are_those_of_a_batch_times_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(cost.time, "perf_counter", lambda: clock[0])

    def classifier(images: torch.Tensor) -> torch.Tensor:
        clock[0] += 3.0
        return images.flatten(1)[:, :2]

    images, labels = torch.zeros(10, 1, 2, 2, dtype=torch.uint8), torch.zeros(10, dtype=torch.int64)
    data = Dataset(images, labels, tuple(range(10)), ("a", "b"), "npz:x")
    found = cost.estimate_classifier(classifier, {"test": EvaluationSet(data, "images", {})}, 4)
    assert found == (10, 3.0 * 10 / 4)


def test_attacks_cost_what_they_take(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = [0]

    def classifier(images: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        return images.flatten(1)[:, :2]

    monkeypatch.setattr(cost.time, "perf_counter", lambda: float(calls[0]))
    images, labels = torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)
    data = Dataset(images, labels, tuple(range(4)), ("a", "b"), "npz:x")
    attacks = {"pgd5_8": PGD(eps=8 / 255, steps=5)}
    parts = {"test": EvaluationSet(data, "images", attacks)}
    _, seconds = cost.estimate_classifier(classifier, parts, 4)
    assert seconds >= 1 + 5 + 1  # clean, the steps, and the attacked images


@pytest.mark.parametrize("kind", ["net", "prior"])
def test_dry_run_of_an_evaluation_writes_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.write_score_model(tmp_path / "prior")
    tiny.write_classifier(tmp_path / "net")
    tiny.write_images(tmp_path / "images", 8)
    before = tiny.contents(tmp_path)
    words = ["--data", "image-folder:images", "--images", "6", "--dry-run", "--json"]
    if kind == "prior":
        words += ["--train-data", "image-folder:images", "--reference-classifier", "net"]
        words += ["--nfe", "3", "--sampler", "euler", "--batch-size", "3"]
    assert main(["evaluate", kind, *words, "--out", "out", "--device", "cpu"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == 6 and found["seconds"] >= 0
    assert found.get("denoiser_calls") == (18 if kind == "prior" else None)
    assert tiny.contents(tmp_path) == before
