"""The benchmark of attacks: what it counts, and what its tables say of it."""

from importlib import import_module
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def beside(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)


def test_gradients_and_answers_are_counted_by_image():
    module = import_module("attacks")
    counted = module.Counted(lambda images: images.flatten(1)[:, :3])
    images = torch.full((2, 1, 2, 2), 0.5)
    attack = import_module("scoreag.attacks.pgd").PGD(steps=3, return_iterate="best")
    module.ours(attack, counted, images, torch.tensor([0, 1]))
    assert (counted.gradients, counted.answers) == (6, 2)


def test_a_row_holds_its_own_aim_against_that_of_pgd():
    render = import_module("render_attacks")
    said = {"value": 0.75, "count": 3, "total": 4, "low": 0.3, "high": 0.95}
    row = {
        "settings": "advad", "aim": "LPIPS", "success_8bit": said, "transferred": said,
        "judge": said, "linf_255": 8.0, "l2": 1.0, "lpips": 0.0003, "gradients": 60.0,
        "answers": 0.0,
    }  # fmt: skip
    line = render._line(row, row | {"lpips": 0.0019})
    assert line[-2:] == ["LPIPS: 0.0003", "0.0019"]
    assert render._line(row | {"aim": "transfer"}, row)[-2] == "transfer: the judge errs on 1 of 4"
