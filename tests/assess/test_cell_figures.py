"""Every figure counted by hand on four images."""

import pytest
import torch

from assess.made_rows import cell, four, four_columns, row
from scoreag.assess import metrics
from scoreag.assess.metrics import majority_vote, plurality_class, to_columns
from scoreag.classifiers.rejection import REJECT
from scoreag.defenses.purified_classifier import _majority_vote
from scoreag.stats.estimates import bootstrap_ci, from_fractions
from scoreag.stats.proportion import Proportion


def counted(entry):
    return entry["count"], entry["total"]


def test_shares_have_the_denominators_that_their_names_say():
    found = metrics.compute_metrics(cell(), four_columns())
    shares = {name: counted(entry) for name, entry in found.items() if "count" in entry}
    assert shares == {
        "accuracy": (1, 4),
        "success": (3, 4),
        "clean_accuracy": (3, 4),
        "success_of_right": (2, 3),
        "success_float": (3, 4),
        "judge_agreement": (3, 4),
        "judge_agreement_of_successes": (2, 3),
        "fooled_and_shown": (1, 3),
        "judge_agreement_before": (4, 4),
    }


def test_of_images_from_nothing_all_count_and_nobody_was_right_before():
    rows = [one | {"predictions": {**one["predictions"], "before": None}} for one in four()]
    rows = [one | {"judges": {"judge": {"saved": one["judges"]["judge"]["saved"]}}} for one in rows]
    found = metrics.compute_metrics(cell(component="gas"), to_columns(rows))
    assert counted(found["fooled_and_shown"]) == (2, 4)
    assert "success_of_right" not in found and "clean_accuracy" not in found


def test_a_randomised_classifier_is_judged_by_average_worst_draw_and_vote():
    """Three draws: always right; right twice; right once; never."""
    draws = [[0, 0, 0], [1, 1, 2], [2, 0, 0], [0, 0, 0]]
    rows = [
        one | {"draw_predictions": {"before": [one["label"]] * 3, "saved": said}}
        for one, said in zip(four(), draws, strict=True)
    ]
    found = metrics.compute_metrics(cell(eval_draws=3), to_columns(rows))
    assert found["attacked_accuracy_single"]["value"] == pytest.approx(6 / 12)
    assert counted(found["attacked_accuracy_worst_of_3"]) == (1, 4)
    assert counted(found["attacked_accuracy_vote_of_3"]) == (2, 4)
    assert counted(found["clean_accuracy_worst_of_3"]) == (4, 4)


def test_the_vote_is_that_of_the_defence():
    """Twenty images, three classes, ten draws: also where no class has half of them, or two tie."""
    source = torch.Generator().manual_seed(3)
    said = torch.randint(3, (20, 10), generator=source)
    logits = torch.nn.functional.one_hot(said.T, 3).double() + torch.rand(10, 20, 3) / 2
    most = said.mode(1).values
    share = (said == most[:, None]).double().mean(1)
    assert (share <= 0.5).any() and (share > 0.5).any()
    assert torch.equal(plurality_class(said), _majority_vote(logits).argmax(1))


def test_a_rejection_is_elected_too_and_stands_behind_all_classes():
    said = torch.tensor([[REJECT, REJECT, 1], [REJECT, 1, 0], [REJECT, 1, 1]])
    assert plurality_class(said).tolist() == [REJECT, 0, 1]
    labels = torch.tensor([1, 1, 1])
    assert majority_vote(said, labels, True).tolist() == [True, False, True]
    assert majority_vote(said, labels, False).tolist() == [False, False, True]


def test_an_interval_of_shares_knows_of_what_no_image_showed():
    """Where every image is right always or never it is Wilson's of the count."""
    whole = from_fractions(torch.tensor([1.0] * 5 + [0.0] * 15), "images")
    assert (whole["low"], whole["high"]) == pytest.approx(Proportion(5, 20, "images").interval)
    none = from_fractions(torch.zeros(32), "images")
    assert none["low"] == 0 and none["high"] == pytest.approx(0.1072, abs=1e-4)  # z^2/(n + z^2)


def test_transfer_counts_the_images_that_each_classifier_got_right_before():
    found = metrics.transfer_success(cell(), four_columns())
    assert {word: counted(entry) for word, entry in found.items()} == {
        "net": (2, 3), "other": (3, 4)
    }  # fmt: skip


def test_classes_say_what_they_become():
    found = metrics.per_class_metrics(four_columns(), 3)
    assert found[1]["becomes"] == [1, 0, 1] and counted(found[1]["success"]) == (1, 1)
    assert counted(found[1]["judge_agreement"]) == (2, 2)


def test_the_worst_case_is_right_under_every_attack():
    """The second attack spares images 1 and 3, and fools 0."""
    other = to_columns([row(0, 0, 0, 1, 0), row(1, 1, 1, 1, 1), row(2, 2, 2, 0, 0)])
    rate = metrics.worst_case_accuracy([four_columns(), other])
    assert (rate.count, rate.total) == (0, 3)


def test_two_attacks_are_compared_on_the_images_that_both_were_given():
    other = to_columns([row(0, 0, 0, 0, 0), row(1, 1, 1, 1, 1), row(2, 2, 2, 2, 2)])
    entry = metrics.success_difference(four_columns(), other)
    assert entry["value"] == pytest.approx(2 / 3) and entry["total"] == 3


def test_shown_successes_are_compared_on_the_images_that_both_were_given():
    """Of images 0, 1 and 2, right before, the first attack fools 1 and 2, and 1 still shows."""
    other = to_columns([row(0, 0, 0, 0, 0), row(1, 1, 1, 1, 1), row(2, 2, 2, 2, 2)])
    entry = metrics.success_difference(four_columns(), other, shown=True)
    assert entry["value"] == pytest.approx(1 / 3) and entry["total"] == 3
    unseen = to_columns([row(0, 0, 0, 1, 1), row(1, 1, 1, 2, 1), row(2, 2, 2, 0, 2)])
    entry = metrics.success_difference(four_columns(), unseen, shown=True)
    assert entry["value"] == pytest.approx(-1 / 3) and entry["total"] == 3


def test_the_bootstrap_interval_is_that_of_the_binomial_to_its_own_error():
    """200 of 1000: the standard error is (p (1 - p) / n)^(1/2) = .01265, 1.96 of which .0248."""
    values = torch.zeros(1000)
    values[:200] = 1
    entry = bootstrap_ci(values, "images")
    assert entry["value"] == pytest.approx(0.2)
    assert entry["low"] == pytest.approx(0.1752, abs=0.004)
    assert entry["high"] == pytest.approx(0.2248, abs=0.004)


def drawn(*answers):
    """Images 0, 1, ..., each of which is right where its word has a dot."""
    said = [[int(draw != ".") for draw in word] for word in answers]
    told = [{"before": [0] * len(saved), "saved": saved} for saved in said]
    return to_columns([row(i, 0, 0, 0, 0, draw_predictions=of) for i, of in enumerate(told)])


def test_beside_all_draws_the_first_ten_tell_the_worst_and_the_vote():
    """Of 12 draws: wrong at the last two; wrong at six of the first ten, and one; always right."""
    found = drawn("..........xx", "xxxxxx.....x", "............")
    figures = metrics.compute_metrics(cell(eval_draws=12), found)
    told = {n: counted(e) for n, e in figures.items() if n.startswith("attacked") and "count" in e}
    assert told == {
        "attacked_accuracy_worst_of_10": (2, 3),
        "attacked_accuracy_vote_of_10": (2, 3),
        "attacked_accuracy_worst_of_12": (1, 3),
        "attacked_accuracy_vote_of_12": (2, 3),
    }


def test_of_several_attacks_the_worst_draw_and_the_vote_are_taken_image_by_image():
    """Each attack leaves 2 of 3 by vote, and other ones: both together leave one."""
    found = metrics.worst_case_randomized([drawn("...", "..x", "xxx"), drawn("xx.", "...", "...")])
    assert {n: (r.count, r.total) for n, r in found.items()} == {
        "worst_of_3": (0, 3), "vote_of_3": (1, 3)
    }  # fmt: skip
    assert metrics.worst_case_randomized([four_columns()]) == {}
