"""The search for the smallest attack scale: exact thresholds, and a small world."""

import math

import pytest
import torch

import scoreag
import tiny
from scoreag.methods.scale_search import Brackets, ScaleSearch


@pytest.mark.parametrize("threshold", [0.03, 0.5, 4.0, 7.7, 300.0, 5e5])
def test_the_scale_found_is_within_the_precision_above_the_threshold(threshold):
    search, brackets, tries = ScaleSearch(), Brackets.unknown(1), 0
    while not (scales := brackets.next_scales(search)).isnan().all():
        brackets, tries = brackets.update([0], scales, scales >= threshold), tries + 1
    assert threshold <= brackets.high.item() <= threshold * search.precision
    steps = abs(math.log(threshold / search.first, search.factor)) + math.log2(
        math.log(search.factor) / math.log(search.precision)
    )
    assert tries <= steps + 4


def test_what_never_fools_ends_at_the_largest_scale():
    search, brackets = ScaleSearch(), Brackets.unknown(1)
    while not (scales := brackets.next_scales(search)).isnan().all():
        brackets = brackets.update([0], scales, torch.tensor([False]))
    assert brackets.low.item() == search.most and brackets.high.isinf().all()


def attacked(task, batch_size):
    options = {"attack_scale": "auto", "max_restarts": 12, "steps": 3, "progress": False}
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
