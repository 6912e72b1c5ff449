"""The search for the smallest attack scale: exact thresholds, and a small world."""

import math

import pytest
import torch

import scoreag
import tiny
from scoreag.methods.scale_search import SEARCHES, Brackets

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
    torch.testing.assert_close(whole.images, cut.images)


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
