import pytest

from scoreag.methods.summary import median_with_interval, summarize_rows


def row(before=0, saved=1, target=1, restarts=0, nfe=10, linf=0.1, float_too=True):
    """An image of class 0, right before unless said otherwise."""
    return {
        "label": 0,
        "target": target,
        "predictions": {"before": before, "float": saved, "saved": saved},
        "success_float": saved != 0 if float_too else False,
        "success": saved != 0,
        "targeted_success": saved == target,
        "restarts": restarts,
        "guidance_skipped": 0,
        "nfe": nfe,
        "distances": {"l2": 1.0, "linf": linf},
    }


ROWS = [
    row(),
    row(saved=2),
    row(saved=0, restarts=1, nfe=20),
    row(restarts=1, nfe=20, float_too=False),
    row(before=1),  # was wrong before: counts for clean accuracy alone
]


def test_the_denominator_of_a_transformation_is_what_was_right_before():
    rates = summarize_rows("transform", ROWS)["rates"]
    counted = {name: (r["count"], r["total"], r["of"]) for name, r in rates.items()}
    right = "images classified correctly before"
    assert counted == {
        "clean_accuracy": (4, 5, "all images"),
        "success_float_without_restarts": (2, 4, right),
        "success_float": (2, 4, right),
        "success_without_restarts": (2, 4, right),
        "success": (3, 4, right),
        "targeted_success_without_restarts": (1, 4, right),
        "targeted_success": (2, 4, right),
    }


def test_the_share_without_restarts_is_said_first():
    names = list(summarize_rows("transform", ROWS)["rates"])
    assert names.index("success_without_restarts") < names.index("success")


def test_the_denominator_of_a_synthesis_is_all_images():
    rates = summarize_rows("synthesize", ROWS)["rates"]
    assert (rates["success"]["count"], rates["success"]["total"]) == (4, 5)
    assert "clean_accuracy" not in rates


def test_every_rate_has_an_interval():
    """Wilson for 3 of 4, by hand: (0.75 + 0.4802 -+ 0.6496) / 1.9604."""
    rate = summarize_rows("transform", ROWS)["rates"]["success"]
    assert (rate["low"], rate["high"]) == (
        pytest.approx(0.3006, abs=1e-4),
        pytest.approx(0.9544, abs=1e-4),
    )


def test_calls_are_counted_in_all_and_for_an_image():
    calls = summarize_rows("transform", ROWS)["nfe"]
    assert (calls["sum"], calls["per_image"], calls["total"]) == (70, 14.0, 5)


def test_nothing_right_before_leaves_no_share():
    rates = summarize_rows("transform", [row(before=1)])["rates"]
    assert rates["success"]["value"] is None and rates["success"]["total"] == 0


def test_the_median_and_its_interval_are_order_statistics():
    """n = 100: 50 -+ 9.8 gives the ranks 40 and 61."""
    found = median_with_interval([float(i) for i in range(100, 0, -1)], "images")
    assert (found["value"], found["low"], found["high"]) == (50.5, 40.0, 61.0)
