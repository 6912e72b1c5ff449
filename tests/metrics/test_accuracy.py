import math

import pytest
import torch

from scoreag.stats.proportion import Proportion, accuracy, compute_proportion


def test_wilson_interval_of_five_in_ten_by_hand():
    """z^2 = 3.841459: 0.5 -+ 1.959964 (0.025 + 0.00960365)^(1/2) / 1.3841459 = 0.5 -+ 0.263410."""
    assert Proportion(5, 10, "images").interval == pytest.approx((0.236590, 0.763410), abs=1e-5)


@pytest.mark.parametrize(
    "count, total, low, high",
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_intervals_are_those_that_newcombe_published(count, total, low, high):
    """Newcombe (1998), Statistics in Medicine 17, table I, method 3."""
    assert Proportion(count, total, "patients").interval == pytest.approx((low, high), abs=5e-5)


def test_nothing_to_count_has_no_value_and_the_whole_interval():
    rate = Proportion(0, 0, "images right before")
    assert math.isnan(rate.value)
    assert rate.to_dict()["value"] is None
    assert rate.interval == (0, 1)


def test_intervals_end_at_the_ends_of_what_is_possible():
    assert Proportion(0, 7, "images").interval[0] == 0
    assert Proportion(7, 7, "images").interval[1] == 1


def test_dictionary_names_the_denominator():
    assert Proportion(5, 10, "images right before").to_dict() == {
        "value": 0.5,
        "count": 5,
        "of": "images right before",
        "total": 10,
        "low": 0.2366,
        "high": 0.7634,
    }


def test_more_hits_than_images_are_refused():
    with pytest.raises(ValueError, match=r"3 out of 2 images; the count must lie"):
        Proportion(3, 2, "images")


def test_share_counts_only_among_those_named():
    hits = torch.tensor([True, True, False, False])
    among = torch.tensor([True, False, True, True])
    assert compute_proportion(hits, "images right before", among) == Proportion(
        1, 3, "images right before"
    )


def test_accuracy_counts_predictions_that_are_the_label():
    assert accuracy(torch.tensor([1, 2, 3]), torch.tensor([1, 0, 3])) == Proportion(2, 3, "images")
