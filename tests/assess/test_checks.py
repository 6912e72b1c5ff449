"""Each check finds what it is for, and leaves alone what is sound."""

from dataclasses import replace

import pytest

from assess.made_rows import cell, four, four_columns, row
from scoreag.assess.metrics import CellResult, to_columns
from scoreag.assess.sanity_checks import check_across_cells, check_cell


def told(**changes):
    part = CellResult(
        cell(**changes.pop("of", {})), four_columns(**changes.pop("rows", {})), **changes
    )
    return [(finding.check, finding.is_error) for finding in check_cell(part)]


def test_a_sound_cell_raises_no_doubt():
    assert told() == []


@pytest.mark.parametrize("length", [0.0, 2e6, None])
def test_zero_and_exploding_gradients_are_doubted(length):
    assert told(rows={"gradient_norm": length}) == [("gradients", True)]


def test_an_attack_that_takes_no_gradients_is_not_doubted_for_them():
    assert told(rows={"gradient_norm": 0.0, "backwards": 0.0}) == []


def test_randomness_that_was_not_declared_is_doubted():
    steady = {"is_deterministic": {"net": False, "other": True}}
    clean = {"component": "clean", "attack": "clean"}
    assert told(of=clean, rows=steady) == [("randomness", True)]
    assert told(of={**clean, "stochastic": ("net",)}, rows=steady) == []
    other = {"is_deterministic": {"net": True, "other": False}}
    assert told(of={**clean, "stochastic": ("net",)}, rows=other) == [("randomness", True)]
    assert told(of={**clean, "stochastic": ("other",)}, rows=other) == []


def test_success_that_vanishes_at_8_bits_is_noted():
    rows = [row(i, 0, 0, 0, 0, success_float=True, success=i > 3) for i in range(10)]
    (finding,) = check_cell(CellResult(cell(), to_columns(rows)))
    assert finding.check == "8 bits" and "4 of 10 successes" in finding.message


def test_an_attackers_copy_that_differs_is_doubted_by_name():
    guarded = {"purifier": "gap", "purifier_name": "gap", "purifier_options": {"steps": 8}}
    assert told(of={**guarded, "attacker_options": {"steps": 8}}) == []
    part = CellResult(cell(**guarded, attacker_options={"steps": 2}), four_columns())
    assert "steps 2 instead of 8" in check_cell(part)[0].message
    assert told(of={**guarded, "attacker_options": {"steps": 8, "backward": "bpda"}}) == [
        ("settings", False)
    ]


WEAK = to_columns([row(i, 0, 0, 0, 0) for i in range(20)])
STRONG = to_columns([row(i, 0, 0, 1, 0) for i in range(20)])
BLIND = to_columns([row(i, 0, 0, 1, 0, backwards=0.0) for i in range(20)])
BEHIND = {"purifier": "gap", "purifier_options": {"steps": 8}, "attacker_options": {"steps": 8}}


def test_a_black_box_attack_that_beats_a_white_box_one_in_the_same_ball_is_told():
    white, black = cell(name="white"), cell(name="black", attack="square")
    (finding,) = check_across_cells([CellResult(white, WEAK), CellResult(black, BLIND)])
    assert finding.cell == "white" and "black, which takes no gradient" in finding.message
    assert "20 of 20" in finding.message
    other_ball = replace(black, options={"norm": "Linf", "eps": 0.2})
    assert not [*check_across_cells([CellResult(white, WEAK), CellResult(other_ball, BLIND)])]
    assert not [*check_across_cells([CellResult(white, STRONG), CellResult(black, BLIND)])]
    fewer = to_columns([row(i, 0, 0, 1, 0, backwards=0.0) for i in range(2)])
    assert not [
        *check_across_cells([CellResult(white, WEAK), CellResult(black, fewer)])
    ]  # two images show nothing


def test_only_the_strongest_of_several_rivals_is_told():
    some = to_columns([row(i, 0, 0, int(i < 15), 0, backwards=0.0) for i in range(20)])
    rivals = [CellResult(cell(name="fifteen"), some), CellResult(cell(name="twenty"), BLIND)]
    (finding,) = check_across_cells([CellResult(cell(name="white"), WEAK), *rivals])
    assert finding.message.startswith("twenty,")


@pytest.mark.parametrize(
    "of",
    [
        {"component": "stadv", "options": {"max_displacement": 0.3}},
        {"component": "foolbox", "options": {"eps": 0.1}},
        {"component": "fgsm"},
        {"component": "low_frequency"},
    ],
)
def test_an_attack_of_no_known_ball_or_of_a_part_of_it_is_not_held_to_another(of):
    white = cell(name="white", **of)
    black = replace(cell(name="black"), options=white.options)
    assert not [*check_across_cells([CellResult(white, WEAK), CellResult(black, BLIND)])]


def test_attacks_without_a_choice_of_norm_are_compared_in_theirs():
    white, black = cell(name="white"), cell(component="di_fgsm", options={"eps": 0.1})
    assert [*check_across_cells([CellResult(white, WEAK), CellResult(black, BLIND)])]
    other_norm = replace(white, options={"norm": "L2", "eps": 0.1})
    assert not [*check_across_cells([CellResult(other_norm, WEAK), CellResult(black, BLIND)])]


@pytest.mark.parametrize("backward", ["bpda", "none"])
def test_false_gradients_that_beat_exact_ones_on_one_defence_are_told(backward):
    """The purifiers have two names, and are judged alike."""
    exact = cell(name="exact", purifier_name="gap", **BEHIND)
    copy = BEHIND["attacker_options"] | {"backward": backward}
    false = cell(name="false", purifier_name="gap_too", **BEHIND | {"attacker_options": copy})
    (finding,) = check_across_cells([CellResult(exact, WEAK), CellResult(false, STRONG)])
    told = {"bpda": "differentiates the purifier by 'bpda'", "none": "does not know of the purif"}
    assert finding.cell == "exact" and told[backward] in finding.message
    assert not [*check_across_cells([CellResult(exact, STRONG), CellResult(false, WEAK)])]
    shorter = replace(exact, name="shorter", attacker_options={"steps": 2})
    assert not [
        *check_across_cells([CellResult(shorter, WEAK), CellResult(false, STRONG)])
    ]  # it is told as such
    longer = replace(false, purifier_options={"steps": 9})
    assert not [*check_across_cells([CellResult(exact, WEAK), CellResult(longer, STRONG)])]


def test_images_made_against_another_classifier_that_do_more_than_ones_own_are_told():
    own, foreign = (
        cell(name="own"),
        cell(name="foreign", classifier="other", transfer_targets=("net",)),
    )
    fooled = {"net": {"count": 15, "total": 20, "of": "images right before"}}
    (finding,) = check_across_cells(
        [CellResult(own, WEAK), CellResult(foreign, STRONG, transfer=fooled)]
    )
    assert (
        finding.cell == "own"
        and "foreign made against other succeeds on 15 of 20" in finding.message
    )
    assert not [
        *check_across_cells([CellResult(own, STRONG), CellResult(foreign, STRONG, transfer=fooled)])
    ]
    behind = replace(own, purifier_name="gap", **BEHIND)
    assert not [
        *check_across_cells(
            [CellResult(behind, WEAK), CellResult(foreign, STRONG, transfer=fooled)]
        )
    ]


def test_a_frechet_distance_of_few_images_is_noted():
    assert told(n_features=64, metrics={"frechet": {}}) == [("Frechet", False)]
    many = to_columns(four() * 200)
    assert not check_cell(CellResult(cell(), many, n_features=64, metrics={"frechet": {}}))
