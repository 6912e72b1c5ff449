import json
import re
from dataclasses import replace

import pytest
import torch

from scoreag.methods.result import Result
from scoreag.report.task_run import render_run_page, write_report


def result(task="transform"):
    """Four images: 0 and 1 are fooled, 2 is not, 3 was wrong before."""
    numbers = torch.arange(4)
    originals = (numbers.view(4, 1, 1, 1) * 20).expand(4, 3, 6, 6).float() / 255
    predictions, labels = torch.tensor([1, 2, 2, 0]), torch.tensor([0, 1, 2, 1])
    wrong = predictions != labels
    return Result(
        task=task,
        images=originals + 16 / 255,
        image_ids=numbers + 5,
        nfe=torch.full((4,), 24),
        restarts=torch.tensor([0, 1, 1, 0]),
        guidance_skipped=torch.zeros(4, dtype=torch.int64),
        originals=originals,
        labels=labels,
        targets=torch.tensor([1, 0, 1, 0]),
        clean_predictions=torch.tensor([0, 1, 2, 0]),
        predictions=predictions,
        success_float=wrong,
        success=wrong,
        targeted_success=torch.tensor([True, False, False, True]),
        config={"attack_scale": 3.0, "sampler": "<heun>"},
    )


ABOUT = {"models": {"classifier": {"name": "net <i>"}}, "classes": ["cat", "dog <b>", "ship"]}


@pytest.fixture
def folder(tmp_path):
    return result().save(tmp_path / "run", provenance=ABOUT)


def test_the_first_sentence_tells_the_outcome(folder):
    assert (
        "net &lt;i&gt; classifies 3 of 4 clean images correctly. It misclassifies 2 of these 3 "
        "after the transformation; label preservation was not checked: give --reference-classifier."
    ) in render_run_page(folder)


def test_figures_stand_with_their_denominators(folder):
    html = render_run_page(folder)
    assert html.count("2 of 3<small>images classified correctly before</small>") == 2
    assert html.count("1 of 3<small>images classified correctly before</small>") == 4
    assert "16/255" in html and "96" in html  # the median change, and all calls


def test_failures_are_shown_beside_successes(folder):
    html = render_run_page(folder)
    assert html.count("<img ") == 3 * 4
    assert html.count("\N{CHECK MARK} fooled") == 2
    assert html.count("\N{MULTIPLICATION X} not fooled") == 1
    assert html.count("\N{EN DASH} misclassified before") == 1
    headings = re.findall("<h2>(.*?)</h2>", html)
    wanted = ["Unsuccessful attacks", "Successful attacks", "Misclassified before the attack"]
    assert [heading for heading in headings if heading in wanted] == wanted


def test_names_and_settings_are_escaped_and_nothing_is_loaded(folder):
    html = render_run_page(folder)
    assert "<heun>" not in html and "&lt;heun&gt;" in html and "dog &lt;b&gt;" in html
    loads = re.findall(r'(?:src|href)="([^"]{0,9})', html)
    assert loads and all(load.startswith(("data:", "#")) for load in loads)


def test_purified_images_are_right_or_wrong(tmp_path):
    purified = replace(result("purify"), targets=None, targeted_success=result().success)
    html = render_run_page(purified.save(tmp_path / "run", provenance=ABOUT))
    assert (
        "net &lt;i&gt; classifies 1 of 4 images correctly after purification, 3 of 4 before" in html
    )
    assert html.count("\N{CHECK MARK} correct") == 1
    assert html.count("\N{MULTIPLICATION X} misclassified") == 3


def test_images_purified_without_a_classifier_have_a_page_too(tmp_path):
    nothing = dict.fromkeys(
        (
            "labels",
            "targets",
            "clean_predictions",
            "predictions",
            "success_float",
            "success",
            "targeted_success",
        )
    )
    html = render_run_page(replace(result("purify"), **nothing).save(tmp_path / "run"))
    assert "4 images were purified" in html
    assert html.count("<img ") == 3 * 4


def test_drawn_images_have_no_originals(tmp_path):
    drawn = replace(result("synthesize"), originals=None, clean_predictions=None)
    html = render_run_page(drawn.save(tmp_path / "run", provenance=ABOUT))
    assert (
        "net &lt;i&gt; misclassifies 3 of 4 images generated from noise; label preservation was not"
        in html
    )
    assert html.count("<img ") == 4


def test_a_classifier_of_a_file_is_named_without_its_folder(tmp_path):
    about = {**ABOUT, "models": {"classifier": {"name": "/home/me/nets/net.py:make"}}}
    html = render_run_page(result().save(tmp_path / "run", provenance=about))
    assert "net.py:make classifies 3 of 4 clean images" in html and "/home" not in html


def test_rows_with_probabilities_show_them(tmp_path):
    logits = torch.tensor([[0.0, 1.0, 2.0]]).repeat(4, 1)
    known = replace(
        result(), probabilities=logits.softmax(1), clean_probabilities=logits.softmax(1)
    )
    html = render_run_page(known.save(tmp_path / "run", provenance=ABOUT))
    assert html.count("<span>ship</span>") == 8  # of e^2 / (1 + e + e^2), in each version
    assert html.count("<span>67\N{NO-BREAK SPACE}%</span>") == 8
    assert "<i>classifier</i> ship, 67\N{NO-BREAK SPACE}%" in html  # images 1 and 2 are so read


def test_the_page_lies_in_the_folder_of_the_run(folder):
    assert write_report(folder).read_text() == render_run_page(folder)


def test_an_unfinished_run_is_refused(folder):
    (folder / "summary.json").unlink()
    with pytest.raises(ValueError, match=r"the run is not finished; give the command of the run"):
        render_run_page(folder)


def test_a_damaged_summary_is_refused(folder):
    (folder / "summary.json").write_text(json.dumps({"rates": 1})[:-3])
    with pytest.raises(ValueError, match=r"summary.json is damaged"):
        render_run_page(folder)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no manifest.json"):
        render_run_page(tmp_path)
