from dataclasses import replace

import pytest
import torch

import tiny
from scoreag.data.loading import Dataset
from scoreag.training.schedule import (
    TrainingSchedule,
    check_extra,
    concat_extra,
    extra_batch_size,
    iter_batches,
    mix_batches,
)

PLAN = TrainingSchedule(total_images=200, batch_size=10)
SAMPLES = Dataset(tiny.images(20), torch.arange(20) % 3, tuple(range(20)), (), "samples")


def ids(plan=PLAN, first=0, own=12, extra=21, share=0.7):
    return [
        batch.indices
        for batch in mix_batches(own + extra, plan, first, n_own=own, extra_fraction=share)
    ]


def test_a_share_of_each_batch_is_extra_and_comes_last():
    for batch in ids():
        assert (batch[:3] < 12).all() and (batch[3:] >= 12).all() and len(batch) == 10


def test_either_part_is_seen_once_before_it_is_seen_again():
    """12 own images at 3 a batch: four batches; 21 extra ones at 7 a batch: three."""
    rows = ids()
    own, extra = (torch.cat([b[part] for b in rows]) for part in (slice(3), slice(3, None)))
    for start in (0, 12, 24):
        assert sorted(own[start : start + 12].tolist()) == list(range(12))
    for start in (0, 21, 42):
        assert sorted(extra[start : start + 21].tolist()) == list(range(12, 33))


def test_a_batch_belongs_to_the_seed_and_the_step():
    whole, later, other = ids(), ids(first=13), ids(replace(PLAN, seed=1))
    assert len(whole) == PLAN.total_steps and len(later) == PLAN.total_steps - 13
    assert all(map(torch.equal, whole[13:], later))
    assert not torch.equal(torch.cat(whole), torch.cat(other))


def test_the_parts_have_orders_of_their_own():
    pairs = torch.stack(ids(own=50, extra=50, share=0.5))
    assert not torch.equal(pairs[:, :5], pairs[:, 5:] - 50)


def test_the_way_is_measured_as_without_extra_data():
    mine = [(b.step, b.progress) for b in mix_batches(40, PLAN, n_own=20, extra_fraction=0.5)]
    assert mine == [(b.step, b.progress) for b in iter_batches(40, PLAN)]


@pytest.mark.parametrize("share, count", [(0.7, 7), (0.01, 1), (0.99, 9)])
def test_a_batch_has_some_of_either(share, count):
    assert extra_batch_size(10, share) == count


def test_labels_stay_with_their_images():
    images, labels = concat_extra(tiny.images(4), torch.tensor([0, 1, 2, 0]), SAMPLES)
    assert torch.equal(images[4:], SAMPLES.images) and torch.equal(labels[4:], SAMPLES.labels)
    assert torch.equal(images[:4], tiny.images(4)) and labels[:4].tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize(
    "extra, share, message",
    [
        (None, 0.7, "extra_fraction is 0.7, with no extra data; give both"),
        (SAMPLES, 0.0, "extra_fraction is 0, with extra data 'samples' but no fraction"),
        (replace(SAMPLES, labels=None), 0.7, "samples has no labels"),
        (
            replace(SAMPLES, images=SAMPLES.images[:, :1]), 0.7,
            "samples has 1 x 8 x 8 images, and the training images are 3 x 8 x 8",
        ),
        (
            replace(SAMPLES, labels=SAMPLES.labels + 1), 0.7,
            "samples has labels 1 to 3; the training images have 0 to 2",
        ),
        (SAMPLES[:6], 0.7, "samples has 6 images, and a batch takes 7"),
    ],
    ids=["no-data", "no-share", "unlabeled", "grey", "other-classes", "few"],
)  # fmt: skip
def test_extra_data_that_do_not_belong_here_are_refused(extra, share, message):
    with pytest.raises(ValueError, match=message):
        check_extra(extra, tiny.images(4), 3, PLAN, share)


@pytest.mark.parametrize("extra, share", [(None, 0.0), (SAMPLES, 0.7)], ids=["none", "samples"])
def test_extra_data_that_belong_here_are_taken(extra, share):
    check_extra(extra, tiny.images(4), 3, PLAN, share)
