"""The bound on a generator: its counts, its share of the doubt, and how often it fails in all."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

import tiny
from scoreag.certify.generator_risk import (
    GeneratorSpec,
    bound_class_risks,
    classify_draws,
    summarize,
)
from scoreag.defenses.defend import defend
from scoreag.io.images import quantize_8bit
from scoreag.methods.run_task import run_in_memory
from scoreag.methods.synthesis import build_synthesis

pytestmark = pytest.mark.usefixtures("one_thread")


def corner(images: torch.Tensor) -> torch.Tensor:
    """The class is the strongest colour of one pixel: draws of every class get all answers."""
    return 20 * images[:, :, 2, 5]


@pytest.fixture(scope="module")
def job():
    return build_synthesis(
        tiny.prior(), corner, [0, 1, 2] * 4, None, attack_scale=0.0, max_restarts=0
    )


def rows(label: int, wrong: int, total: int) -> list[dict]:
    said = [label + 1] * wrong + [label] * (total - wrong)
    return [{"image_id": i, "label": label, "predicted": word} for i, word in enumerate(said)]


def test_alpha_is_shared_among_the_classes():
    """None of 100 in each of two classes at alpha 0.1: 1 - 0.05^(1/100), rounded up."""
    found = bound_class_risks([*rows(0, 0, 100), *rows(1, 0, 100)], 0.1)
    exact = 1 - 0.05 ** (1 / 100)
    assert [entry["upper"] for entry in found.values()] == [pytest.approx(exact, abs=1e-4)] * 2
    assert all(entry["upper"] >= exact for entry in found.values())
    alone = bound_class_risks(rows(0, 0, 100), 0.1)[0]["upper"]
    assert alone == pytest.approx(1 - 0.1 ** (1 / 100), abs=1e-4)


def test_the_summary_counts_misclassified_draws():
    found = summarize([*rows(0, 3, 10), *rows(1, 5, 20)], 0.01)
    assert found["misclassified"]["count"] == 8 and found["misclassified"]["total"] == 30
    assert found["classes"]["0"]["count"] == 3 and found["classes"]["1"]["total"] == 20
    each = [found["classes"][label]["upper"] for label in ("0", "1")]
    assert found["upper_largest"] == max(each)
    assert found["upper_mean"] == pytest.approx(sum(each) / 2, abs=1e-4)


def test_any_bound_of_ten_fails_as_seldom_as_promised():
    """Known probabilities, 1,000 repeats at alpha 0.1, judged by a binomial bound."""
    truth = np.linspace(0.05, 0.8, 10)
    counts = np.random.default_rng(1).binomial(50, truth, (1000, 10))
    failures = 0
    for drawn in counts:
        found = bound_class_risks([r for c in range(10) for r in rows(c, int(drawn[c]), 50)], 0.1)
        failures += any(found[c]["upper"] < truth[c] for c in range(10))
    assert 10 < failures <= stats.binom.ppf(0.999, 1000, 0.1)


def test_verdicts_are_of_the_images_that_synthesis_saves(job):
    found = classify_draws(GeneratorSpec(job), range(12), 4)
    out = run_in_memory(job, 12, progress=False)
    assert [row["predicted"] for row in found] == out.predictions.tolist()
    assert [row["label"] for row in found] == [0, 1, 2] * 4
    assert len({row["predicted"] for row in found}) == 3


def test_verdicts_do_not_depend_on_how_they_are_cut(job):
    whole = classify_draws(GeneratorSpec(job), range(12), 4)
    cut = [
        row
        for i in range(0, 12, 4)
        for row in classify_draws(GeneratorSpec(job), range(i, i + 4), 4)
    ]
    assert whole == cut


def test_behind_a_purifier_the_defended_classifier_is_asked(job):
    """And each image keeps its draw, whatever stands beside it."""
    asked = defend(corner, tiny.prior(), "one_step_denoising", sigma_start=2.0)
    found = classify_draws(GeneratorSpec(job, asked), range(12), 12)
    images = quantize_8bit(run_in_memory(job, 12, progress=False).images)
    said = asked.fix_randomness(0, job.image_ids)(images).argmax(1)
    assert [row["predicted"] for row in found] == said.tolist()
    some = classify_draws(GeneratorSpec(job, asked), range(6, 12), 6)
    assert [row["predicted"] for row in some] == said[6:].tolist()
    assert not torch.equal(said, run_in_memory(job, 12, progress=False).predictions)


def test_draws_again_are_another_generator(job):
    again = replace(job, config=replace(job.config, max_restarts=1))
    with pytest.raises(ValueError, match="max_restarts is 1; restarts would change the gen"):
        GeneratorSpec(again)


def test_doubt_is_a_probability(job):
    with pytest.raises(ValueError, match=r"alpha is 2"):
        GeneratorSpec(job, alpha=2.0)
