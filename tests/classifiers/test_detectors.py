"""A classifier behind a detector: what it says, and what an assessment makes of a rejection."""

import json

import pytest
import torch

import tiny
from assess.worlds_of_plans import write_net
from scoreag import load_classifier
from scoreag.classifiers.rejection import WithDetector
from scoreag.cli.app import main


class Fixed(torch.nn.Module):
    """The same logits for every image."""

    def __init__(self, *logits):
        super().__init__()
        self.logits = torch.tensor([logits])

    def forward(self, images):
        return self.logits.expand(len(images), -1)


class Bright(torch.nn.Module):
    """A detector: images brighter than one half are generated."""

    def forward(self, images):
        lead = 100 * (images.flatten(1).mean(1) - 0.5)
        return torch.stack([-lead, lead], 1)


def test_its_probabilities_by_hand():
    """d = 3/4 of odds 1 : 3, softmax(0, log 3) = (1/4, 3/4)."""
    third = float(torch.tensor(3.0).log())
    found = WithDetector(Fixed(0.0, third), Fixed(0.0, third))(torch.zeros(1, 1, 2, 2)).exp()
    assert torch.allclose(found, torch.tensor([[1 / 16, 3 / 16, 3 / 4]]))


def test_logits_of_any_size_stay_finite():
    found = WithDetector(Fixed(0.0, 1e4), Fixed(1e4, -1e4))(torch.zeros(1, 1, 2, 2))
    assert found.isfinite().all() and found.argmax() == 1


@pytest.fixture
def guarded(planned, tmp_path):
    """The folder of a plan, with two detectors: one of two classes, and one that is none."""
    write_net(tmp_path / "detector", 13, ("real", "generated"))
    return f"with-detector:net,{tmp_path / 'detector'}"


def test_it_is_made_of_two_by_their_names(guarded):
    module, net = load_classifier(guarded), load_classifier("net")
    assert module.image_shape == net.image_shape and module.metadata["name"] == guarded
    images = torch.rand(3, *net.image_shape)
    assert module(images).shape == (3, len(tiny.CLASSES) + 1)
    assert torch.equal(module(images)[:, :-1].argmax(1), net(images).argmax(1))


@pytest.mark.parametrize(
    "name, told",
    [
        (
            "with-detector:net",
            r"with-detector:net: expected a classifier and a detector, with a comma",
        ),
        ("with-detector:net,other", r"other tells \d+ classes apart; a detector has two"),
    ],
)
def test_what_is_no_pair_is_refused_in_a_line(planned, name, told):
    with pytest.raises(ValueError, match=told):
        load_classifier(name)


@pytest.fixture
def found(guarded, planned, tmp_path):
    """An assessment of it beside the bare one."""
    text = (planned / "plan.toml").read_text()
    text = text.replace('classifiers = ["net", "other"]', f'classifiers = ["net", "{guarded}"]')
    text = text.replace('classifiers = "net"\n', "")
    (planned / "guarded.toml").write_text(text)
    words = ["--only", "*", "--out", str(tmp_path / "out"), "--quiet"]
    assert main(["assess", "guarded.toml", *words]) == 0
    return json.loads((tmp_path / "out" / "summary.json").read_text()), tmp_path / "out"


def rows_of(folder, key):
    files = sorted((folder / "cells" / key).glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_no_rejection_counts_as_fooled_and_each_is_counted(found, guarded):
    summary, folder = found
    cells = [c for c in summary["cells"].values() if c["attack"] != "clean" and c["rows"]]
    assert {cell["classifier"] for cell in cells} == {"net", guarded}
    for cell in cells:
        rows = [row for row in rows_of(folder, cell["key"]) if "image_id" in row]
        said = [row["predictions"]["saved"] for row in rows]
        wrong = [s not in (-1, row["label"]) for s, row in zip(said, rows, strict=True)]
        assert wrong == [row["success"] for row in rows]
        if cell["classifier"] == guarded:
            assert cell["metrics"]["rejected"]["count"] == said.count(-1)
        else:
            assert "rejected" not in cell["metrics"] and -1 not in said
    assert "rejected" in (folder / "report.html").read_text()


def test_an_attack_on_it_avoids_being_rejected(planned):
    """An image at the detector's edge: who knows only the classifier climbs into the rejection."""
    from scoreag.attacks import pgd
    from scoreag.classifiers.rejection import (
        is_misclassified,
        predict_or_reject,
        rejection_adapted_logits,
    )

    class Side(torch.nn.Module):
        """Class 1 where the right half is brighter than the left, and the more so the brighter."""

        def forward(self, images):
            left, right = images[..., :2].flatten(1).mean(1), images[..., 2:].flatten(1).mean(1)
            lead = 40 * (right - left) + 4 * (right + left - 1)
            return torch.stack([-lead, lead], 1)

    whole = WithDetector(Side(), Bright()).eval()
    images = torch.full((4, 1, 4, 4), 0.49)
    images[..., :2] += 0.05
    images[..., 2:] -= 0.05
    labels = torch.zeros(4, dtype=torch.long)
    attack = pgd.PGD(eps=0.1, steps=20)
    plain = attack(Side().eval(), images * 1.0, labels)
    adapted = attack(lambda x: rejection_adapted_logits(whole(x), labels), images, labels)
    assert (Side()(plain).argmax(1) == 1).all()
    assert is_misclassified(predict_or_reject(whole(adapted), True), labels).all()
