"""Lists are a Latin square, and orders spread checks and repeats."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreag.study.lists import count_lists, make_lists, trial_order

SQUARE = [(source, condition) for condition in "abc" for source in range(9)]


def test_four_sources_in_two_conditions_give_the_square_written_by_hand():
    versions = [(source, condition) for condition in ("clean", "gat") for source in "wxyz"]
    first, second = make_lists(versions, 2)
    assert [versions[i] for i in first] == [
        ("w", "clean"), ("y", "clean"), ("x", "gat"), ("z", "gat")
    ]  # fmt: skip
    assert [versions[i] for i in second] == [
        ("x", "clean"), ("z", "clean"), ("w", "gat"), ("y", "gat")
    ]  # fmt: skip


def test_a_list_has_equally_many_images_of_each_condition():
    for positions in make_lists(SQUARE, 3):
        assert Counter(SQUARE[i][1] for i in positions) == {"a": 3, "b": 3, "c": 3}


@given(
    kinds=st.lists(st.sets(st.sampled_from("abcd"), min_size=1), min_size=1, max_size=40),
    trials=st.integers(4, 30),
)
def test_nobody_sees_two_versions_of_a_source_and_every_image_is_in_one_list(kinds, trials):
    versions = [(i, name) for name in "abcd" for i, kind in enumerate(kinds) if name in kind]
    lists = make_lists(versions, count_lists(versions, trials))
    assert sorted(i for one in lists for i in one) == list(range(len(versions)))
    for one in lists:
        sources = [versions[i][0] for i in one]
        assert len(sources) == len(set(sources)) <= trials


@pytest.mark.parametrize("trials, expected", [(200, 3), (9, 3), (8, 4), (3, 9)])
def test_there_are_as_many_lists_as_versions_and_trials_ask_for(trials, expected):
    assert count_lists(SQUARE, trials) == expected


def test_a_list_that_cannot_hold_one_image_of_each_condition_is_refused():
    with pytest.raises(ValueError, match="--trials is 2; expected 3 or more"):
        count_lists(SQUARE, 2)


@pytest.fixture
def manifest():
    right = {"check": 0, "practice": 0}
    purposes = ["main"] * 40 + ["check"] * 10 + ["practice"] * 2
    items = [{"item": i, "purpose": p, "right": right.get(p)} for i, p in enumerate(purposes)]
    return {
        "study": "0" * 64, "lists": [list(range(40))], "items": items, "repeats": 10,
        "practice": [50, 51],
    }  # fmt: skip


def test_an_order_has_every_image_once_and_every_check_and_practice(manifest):
    order = trial_order(manifest, "someone", 0)
    by_kind = {kind: [t["item"] for t in order if t["kind"] == kind] for kind in ("main", "check")}
    assert sorted(by_kind["main"]) == list(range(40))
    assert sorted(by_kind["check"]) == list(range(40, 50))
    assert [t["item"] for t in order[:2]] == [50, 51] and order[1]["kind"] == "practice"


def test_a_repeat_comes_a_quarter_of_a_session_after_its_image_at_least(manifest):
    order = [t for t in trial_order(manifest, "someone", 0) if t["kind"] != "practice"]
    first = {t["item"]: i for i, t in enumerate(order) if t["kind"] == "main"}
    gaps = [i - first[t["item"]] for i, t in enumerate(order) if t["kind"] == "repeat"]
    assert len(gaps) == 10 and min(gaps) >= len(order) / 4


def test_checks_are_spread_over_the_session(manifest):
    order = [t["kind"] for t in trial_order(manifest, "someone", 0)]
    places = [i for i, kind in enumerate(order) if kind == "check"]
    gaps = [b - a for a, b in pairwise(places)]
    assert max(gaps) <= 2 * len(order) / 10


def test_each_person_has_another_order_and_the_same_one_again(manifest):
    one, again, other = (trial_order(manifest, name, 0) for name in ("a", "a", "b"))
    assert one == again and one != other
