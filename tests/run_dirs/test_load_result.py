"""A saved result is read again as it was, with images in 8 bits."""

import json
import math
from dataclasses import replace

import pytest
import torch

import tiny
from scoreag import attack, load_result, purify, synthesize, transform
from scoreag.attacks import FGSM
from scoreag.io.images import quantize_8bit
from scoreag.methods.result import CLASS_COLUMNS

QUIET = {"batch_size": 4, "progress": False}
MADE = {
    "transform": lambda: transform(
        tiny.prior(), tiny.victim(), tiny.images(3), tiny.labels(3),
        judge=tiny.other_classifier(), **QUIET,
    ),
    "synthesize": lambda: synthesize(tiny.prior(), tiny.victim(), [0, 1, 2], target=None, **QUIET),
    "purify": lambda: purify(tiny.prior(), tiny.images(3), **QUIET),
    "attack": lambda: attack(
        FGSM(eps=0.1), tiny.victim(), tiny.images(3), tiny.labels(3), **QUIET
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=MADE)
def result(request):
    return MADE[request.param]()


def without_probabilities(result):
    """As it is read: a row has the probabilities of its likeliest classes only."""
    return replace(result, probabilities=None, clean_probabilities=None)


def test_a_result_that_was_saved_is_read_as_it_was(result, tmp_path):
    again = load_result(result.save(tmp_path / "run"))
    assert again.task == result.task and again.classes == result.classes
    assert again.to_rows() == without_probabilities(result).to_rows()
    assert torch.equal(again.images, quantize_8bit(result.images).float())
    assert (again.originals is None) == (result.originals is None)
    assert again.seed == result.seed and repr(again) == repr(result)


def test_its_summary_is_that_of_the_folder(result, tmp_path):
    folder = result.save(tmp_path / "run")
    summary = json.loads((folder / "summary.json").read_text())
    assert json.loads(json.dumps(result.summarize())) == summary
    assert load_result(folder).summarize()["rates"] == summary["rates"]


def test_a_read_result_and_a_new_one_are_joined_by_what_both_have(result, tmp_path):
    again = load_result(result.save(tmp_path / "run"))
    both = type(result).cat([result, again])
    assert both.to_rows() == 2 * without_probabilities(result).to_rows()


def test_only_the_first_images_are_read_where_that_is_asked_for(result, tmp_path):
    again = load_result(result.save(tmp_path / "run"), max_images=2)
    assert again.image_ids.tolist() == result.image_ids[:2].tolist()


def test_an_infinite_energy_is_read_as_one(tmp_path):
    """JSON has no infinity: the rows of the folder have null."""
    energy = torch.tensor([math.inf, 1.5, 0.0], dtype=torch.float64)
    result = replace(MADE["attack"](), energy=energy)
    assert load_result(result.save(tmp_path / "run")).energy.tolist() == energy.tolist()


def test_a_folder_of_another_kind_is_refused(tmp_path):
    folder = MADE["purify"]().save(tmp_path / "run")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"task": "train classifier"}))
    with pytest.raises(ValueError, match="'train classifier'; expected a run of synthesize"):
        load_result(folder)


def test_a_table_of_a_result_names_the_classes():
    pytest.importorskip("pandas")
    result = MADE["transform"]()
    table = result.to_pandas()
    assert result.classes == tiny.CLASSES
    for name in CLASS_COLUMNS:
        assert table[f"{name}_name"].tolist() == [tiny.CLASSES[i] for i in getattr(result, name)]


def test_an_untargeted_image_has_any_target():
    pytest.importorskip("pandas")
    assert MADE["synthesize"]().to_pandas()["targets_name"].tolist() == ["any"] * 3


def test_large_images_are_few_and_small_in_a_notebook():
    big = MADE["purify"]()
    wide = big.map_tensors(lambda t: t.repeat_interleave(64, 2).repeat_interleave(64, 3)
                           if t.ndim == 4 else t)  # fmt: skip
    noisy = type(wide).cat([wide] * 5)
    html = noisy._repr_html_()
    assert "The first 3 of 15 images" in html and len(html) < 4_000_000
