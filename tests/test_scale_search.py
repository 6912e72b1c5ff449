"""The search for the smallest attack scale: exact thresholds, and a small world."""

import json
import math
from dataclasses import replace

import pytest
import torch

import scoreag
import tiny
from scoreag.certify.generator_risk import GeneratorSpec
from scoreag.cli.info import check_search
from scoreag.cli.runs import format_summary
from scoreag.core.rng import Noise
from scoreag.io.images import quantize_8bit
from scoreag.methods.config import resolve_task_config
from scoreag.methods.scale_search import SEARCHES, Brackets, at_end
from scoreag.methods.summary import list_search_problems
from scoreag.methods.synthesis import build_synthesis

SEARCH = SEARCHES["attack_scale"]


def search_for(fools, diverges=lambda strength: False, first=SEARCH.first):
    """The brackets of one image in the end, and the strengths that were tried."""
    brackets, tried = Brackets.start(torch.tensor([first], dtype=torch.float64)), []
    while not (trial := brackets.next_strengths(SEARCH)).isnan().all():
        strength = trial.item()
        finite = not diverges(strength)
        answers = (torch.tensor([value]) for value in (finite and fools(strength), finite))
        brackets = brackets.update([0], trial, *answers)
        tried.append(strength)
    return brackets, tried


@pytest.mark.parametrize("threshold", [0.03, 0.5, 4.0, 7.7, 300.0, 5e5])
def test_the_scale_found_is_within_the_precision_above_the_threshold(threshold):
    brackets, tried = search_for(lambda strength: strength >= threshold)
    assert threshold <= brackets.high.item() <= threshold * SEARCH.precision
    steps = abs(math.log(threshold / SEARCH.first, SEARCH.factor)) + math.log2(
        math.log(SEARCH.factor) / math.log(SEARCH.precision)
    )
    assert len(tried) <= steps + 4


def test_what_never_fools_ends_at_the_largest_scale():
    brackets, tried = search_for(lambda strength: False)
    assert tried[-1] == SEARCH.most and brackets.high.isinf().all()


def test_what_always_fools_ends_at_the_least_scale():
    assert search_for(lambda strength: True)[1][-1] == SEARCH.least
    assert search_for(lambda strength: True, first=SEARCH.least)[1] == [SEARCH.least]


def test_an_image_that_is_wrong_already_goes_to_the_usual_scale_if_the_least_is_too_little():
    assert search_for(lambda strength: strength > 3, first=SEARCH.least)[1][:2] == [0.01, 4.0]


@pytest.mark.parametrize("limit, threshold", [(100, 60), (2.0, 0.7), (100, 200), (0.005, 0.001)])
def test_no_larger_scale_is_tried_than_one_that_diverged(limit, threshold):
    """And a scale that fools below it is found, within the precision, if there is one."""
    brackets, tried = search_for(lambda s: s >= threshold, lambda s: s >= limit)
    diverged = [strength for strength in tried if strength >= limit]
    assert diverged == sorted(diverged, reverse=True)
    if SEARCH.least <= threshold < limit:
        assert threshold <= brackets.high.item() <= threshold * SEARCH.precision
    else:
        assert brackets.high.isinf().all()


def attacked(task, batch_size):
    options = {"attack_scale": "auto", "steps": 3, "progress": False}
    prior, victim = tiny.prior(), tiny.victim()
    if task == "synthesize":
        return scoreag.synthesize(prior, victim, [0, 1, 2, 0], batch_size=batch_size, **options)
    given = tiny.images(4), tiny.labels(4)
    return scoreag.transform(prior, victim, *given, batch_size=batch_size, **options)


@pytest.mark.parametrize("task", ["synthesize", "transform"])
def test_no_image_depends_on_the_others(task):
    whole, cut = attacked(task, 4), attacked(task, 3)
    assert torch.equal(whole.attack_scale, cut.attack_scale)
    assert torch.equal(whole.restarts, cut.restarts) and torch.equal(whole.nfe, cut.nfe)
    moderate = whole.attack_scale < 1000  # more amplifies the rounding of other batch sizes
    assert moderate.any()
    torch.testing.assert_close(whole.images[moderate], cut.images[moderate])
    torch.testing.assert_close(whole.images, cut.images, rtol=0, atol=0.01)
    again = attacked(task, 4)
    assert torch.equal(whole.images, again.images)


@pytest.mark.parametrize("task", ["synthesize", "transform"])
def test_an_image_at_the_scale_that_was_found_is_that_of_the_fixed_scale(task):
    found = attacked(task, 4)
    prior, victim = tiny.prior(), tiny.victim()
    moderate = (found.attack_scale < 1000).nonzero().flatten().tolist()  # more amplifies rounding
    assert moderate
    for i in moderate:
        options = {"attack_scale": found.attack_scale[i].item(), "max_restarts": 0, "steps": 3}
        options |= {"progress": False, "image_ids": [found.image_ids[i].item()]}
        if task == "synthesize":
            one = scoreag.synthesize(prior, victim, [int(found.labels[i])], **options)
        else:
            given = tiny.images(4)[i : i + 1], tiny.labels(4)[i : i + 1]
            one = scoreag.transform(prior, victim, *given, **options)
        torch.testing.assert_close(one.images[0], found.images[i], atol=1e-5, rtol=1e-4)


def stubborn(x):
    """Always class 0, with a gradient."""
    return torch.tensor([9.0, 0.0, 0.0]) + 1e-9 * x.flatten(1)[:, :3]


def found_by(option, victim=None, **options):
    given = tiny.images(4), tiny.labels(4)
    options = {"steps": 3, "progress": False, "normalize_gradient": False, **options}
    other = "similarity" if option == "attack_scale" else "attack_scale"
    options = {option: "auto", other: 100.0, **options}
    return scoreag.transform(tiny.prior(), victim or tiny.victim(), *given, **options)


@pytest.mark.parametrize("option", ["attack_scale", "similarity"])
def test_a_weaker_attack_by_the_precision_does_not_fool(option):
    """Whatever was found between two strengths, the other of them failed by the margin."""
    search, found = SEARCHES[option], found_by(option)
    values = getattr(found, option)
    assert found.success.any()
    for i in found.success.nonzero().flatten().tolist():
        weaker = values[i].item() * (search.precision if option == "similarity" else 1)
        weaker = weaker / (1 if option == "similarity" else search.precision)
        if at_end(option, values[i].item()):
            continue
        fixed = {option: weaker, "image_ids": [i], "max_restarts": 0}
        one = scoreag.transform(
            tiny.prior(), tiny.victim(), tiny.images(4)[i : i + 1], tiny.labels(4)[i : i + 1],
            steps=3, progress=False, normalize_gradient=False,
            **{"attack_scale": 100.0, "similarity": 100.0} | fixed,
        )  # fmt: skip
        logits = tiny.victim()(quantize_8bit(one.images))
        own = logits[0, one.labels[0]]
        others = logits[0].scatter(0, one.labels, -math.inf)
        assert others.max() - own < search.margin + 0.02  # the bracket's other side is near


def test_the_picture_fools_by_the_margin():
    found = found_by("attack_scale")
    logits = tiny.victim()(quantize_8bit(found.images))
    own = logits.gather(1, found.labels[:, None]).squeeze(1)
    lead = logits.scatter(1, found.labels[:, None], -math.inf).amax(1) - own
    hit = found.attack_scale < SEARCHES["attack_scale"].most
    assert hit.any() and (lead[hit] >= SEARCHES["attack_scale"].margin).all()


def test_a_given_target_is_reached():
    targets = (tiny.labels(4) + 1) % 3
    given = tiny.images(4), tiny.labels(4), targets
    found = scoreag.transform(
        tiny.prior(), tiny.victim(), *given, steps=3, progress=False, attack_scale="auto",
        normalize_gradient=False,
    )  # fmt: skip
    inside = found.attack_scale < SEARCHES["attack_scale"].most
    assert inside.any() and torch.equal(found.predictions[inside], targets[inside])


class Coin:
    """Errs on an image with a probability that grows with its brightness; rows have own draws."""

    def __init__(self, ids=(0, 1, 2, 3), calls=None):
        self.ids, self.calls = list(ids), calls if calls is not None else []

    def select_rows(self, rows):
        return Coin([self.ids[i] if i < len(self.ids) else -1 for i in rows], self.calls)

    def __call__(self, images):
        self.calls.append(len(images))
        noise = Noise(0, range(len(images))).fold_in("call", len(self.calls))
        u = noise.uniform_like(images.new_zeros(len(images), 1))
        bright = images.flatten(1).mean(1, keepdim=True)
        return torch.cat([0 * bright, 50 * (bright - 0.25 - 0.5 * u)], dim=1)


def test_a_random_classifier_must_err_in_a_share_of_fresh_draws():
    """It errs on brightness b with probability 2 (b - 1/4): 3/4 of the draws need about .6."""
    dark = torch.full((4, 3, 8, 8), 0.3)
    prior = replace(tiny.prior(), classes=())
    found = scoreag.transform(
        prior, Coin(), dark, torch.zeros(4).long(), target=None, steps=3, progress=False,
        attack_scale="auto", normalize_gradient=False, similarity=100.0, max_restarts=None,
    )  # fmt: skip
    bright = found.images.flatten(1).mean(1)
    inside = found.attack_scale < SEARCHES["attack_scale"].most
    assert inside.any() and bright[inside].min() > 0.45
    assert torch.equal(found.found, inside)  # also where the last draw of all is right


def test_a_given_target_that_is_not_reached_is_told():
    """Always class 1 of 3: the class 2 that was asked for never leads."""

    def victim(x):
        return torch.tensor([0.0, 5.0, -50.0]) + 1e-9 * x.flatten(1)[:, :3]

    found = scoreag.transform(
        tiny.prior(), victim, tiny.images(2), torch.zeros(2).long(), [2, 2], steps=2,
        progress=False, attack_scale="auto", normalize_gradient=False,
    )  # fmt: skip
    assert found.success.all() and not found.found.any()
    assert "on 2 of 2 images" in list_search_problems(found.to_rows(), "attack_scale")[0]


def test_a_search_is_no_generator_that_can_be_certified():
    searched = build_synthesis(tiny.prior(), tiny.victim(), [0, 1], attack_scale="auto")
    with pytest.raises(ValueError, match="attack_scale is 'auto'; the search samples until"):
        GeneratorSpec(searched)


def test_an_image_that_is_wrong_already_costs_one_chain_if_the_chain_leaves_it_wrong():
    victim = tiny.victim()
    x = tiny.images(4)
    wrong = (victim(x / 255.0).argmax(1) + 1) % 3
    found = scoreag.transform(
        tiny.prior(), victim, x, wrong, steps=3, progress=False, attack_scale="auto",
        normalize_gradient=False, similarity=1e4,
    )  # fmt: skip
    assert found.success.all() and found.restarts.tolist() == [0] * 4
    assert found.attack_scale.tolist() == [SEARCHES["attack_scale"].least] * 4


@pytest.mark.parametrize(
    "task, options, message",
    [
        ("transform", {"attack_scale": "automatic"}, "attack_scale is 'automatic'; expected a nu"),
        ("transform", {"attack_scale": "auto", "max_restarts": 3}, "leave max_restarts out"),
        ("transform", {"attack_scale": "auto", "similarity": "auto"}, "one of them"),
        ("transform", {"attack_scale": 0.0, "similarity": "auto"}, "one of them"),
        ("purify", {"similarity": "auto"}, "no classifier guides purify; write a number"),
        ("transform", {"sigma_start": "auto"}, "sigma_start is 'auto'; expected a number"),
    ],
)
def test_what_cannot_be_searched_is_refused_with_the_word_to_write(task, options, message):
    with pytest.raises(ValueError, match=message):
        resolve_task_config(tiny.prior(), task, **options)


def test_doctor_tells_of_a_run_what_no_scale_fooled(tmp_path):
    found = found_by("attack_scale", stubborn)
    folder = found.save(tmp_path / "run")
    (finding,) = check_search(folder)
    assert finding.ok is None and "no attack_scale fools the classifier on" in finding.message
    fixed = scoreag.transform(
        tiny.prior(), tiny.victim(), tiny.images(2), tiny.labels(2), progress=False, steps=2
    )
    assert check_search(fixed.save(tmp_path / "fixed")) == [] == check_search(tmp_path / "none")


def test_a_summary_tells_the_median_and_no_share_of_first_samples(tmp_path):
    found = found_by("attack_scale")
    summary = json.loads((found.save(tmp_path / "run") / "summary.json").read_text())
    middle = found.attack_scale.sort().values[1:3].mean().item()
    assert summary["attack_scale"]["value"] == pytest.approx(middle, rel=1e-6)
    assert "success" in summary["rates"] and "success_without_restarts" not in summary["rates"]
    assert "attack_scale" in format_summary(summary)


def test_what_no_scale_fools_is_said():
    found = found_by("attack_scale", stubborn)
    rows = found.to_rows()
    stuck = [row["image_id"] for row in rows if not row["found"]]
    assert stuck and all(rows[i]["attack_scale"] == 1e6 for i in stuck)
    (problem,) = list_search_problems(rows, "attack_scale")[:1]
    assert problem.startswith(f"no attack_scale fools the classifier on {len(stuck)} of 4 images")
    assert list_search_problems(rows, "") == []


@pytest.mark.parametrize("before, told", [({"before": 1}, "lower sigma_start"), ({}, "scale 0")])
def test_images_that_the_weakest_attack_fools_are_told_with_what_to_try(before, told):
    row = {"image_id": 4, "found": True, "attack_scale": 0.01,
           "label": 1, "predictions": {"saved": 2, **before}}  # fmt: skip
    (problem,) = list_search_problems([row], "attack_scale")
    assert "1 of 1 images (ids 4) fool the classifier at the smallest" in problem
    assert problem.endswith(told)
