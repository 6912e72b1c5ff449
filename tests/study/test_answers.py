"""Answers are read as the page wrote them, or refused in one line that names the file."""

import json
from pathlib import Path
from typing import Any

import pytest

from scoreag.study.answers import read_answers
from scoreag.study.exclusions import exclusion_reasons
from study.answered_studies import (
    answer,
    make_manifest,
    seal,
    write_csv_answers,
    write_json_answers,
)

MANIFEST = make_manifest()


def change_trial(fields: dict[str, Any], number: int, **changes: Any) -> dict[str, Any]:
    """The same person with one trial changed, and a digest that fits."""
    trials = [dict(trial) for trial in fields["trials"]]
    trials[number] |= changes
    return seal({**fields, "trials": trials})


def refusal(tmp_path: Path, fields: Any, manifest: dict[str, Any] = MANIFEST) -> str:
    """The line that a file of these fields ends in."""
    path = tmp_path / "given.json"
    path.write_text(fields if isinstance(fields, str) else json.dumps(fields))
    with pytest.raises(ValueError) as caught:
        read_answers(manifest, [path])
    message = str(caught.value)
    assert "\n" not in message and len(message) <= 500 and "given.json" in message
    return message


def test_json_and_csv_of_the_same_person_are_equal(tmp_path):
    fields = answer(MANIFEST, "anna", [0, "unsure", 2])
    by_json = read_answers(MANIFEST, [write_json_answers(tmp_path, fields)])
    (tmp_path / "other").mkdir()
    by_csv = read_answers(MANIFEST, [write_csv_answers(tmp_path / "other" / "a.csv", [fields])])
    assert by_json[0].trials == by_csv[0].trials
    assert (by_csv[0].name, by_csv[0].list_number, by_csv[0].complete) == ("anna", 0, True)


def test_a_csv_file_may_hold_several_people(tmp_path):
    people = [answer(MANIFEST, name, [0, 1, 2], number) for name, number in (("b", 1), ("a", 0))]
    found = read_answers(MANIFEST, [write_csv_answers(tmp_path / "all.csv", people)])
    assert [(person.name, person.list_number) for person in found] == [("a", 0), ("b", 1)]


def test_a_participant_of_digits_stays_text(tmp_path):
    fields = answer(MANIFEST, "007", [0, 1, 2])
    (person,) = read_answers(MANIFEST, [write_csv_answers(tmp_path / "a.csv", [fields])])
    assert person.name == "007"


def test_a_folder_is_all_of_its_files_and_no_manifest(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps(MANIFEST))
    for name in ("anna", "bert"):
        write_json_answers(tmp_path, answer(MANIFEST, name, [0, 1, 2]))
    assert [person.name for person in read_answers(MANIFEST, [tmp_path])] == ["anna", "bert"]


def test_someone_with_the_code_manifest_is_read(tmp_path):
    for name in ("anna", "manifest"):
        write_json_answers(tmp_path, answer(MANIFEST, name, [0, 1, 2]))
    assert [person.name for person in read_answers(MANIFEST, [tmp_path])] == ["anna", "manifest"]


def test_a_damaged_file_with_the_name_manifest_is_not_passed_over(tmp_path):
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"manifest\.json cannot be read"):
        read_answers(MANIFEST, [tmp_path])


def test_who_stopped_before_the_first_answer_is_nobody_in_a_csv(tmp_path):
    """The page then writes the header alone; in JSON, the person is there, and left out."""
    nobody = seal({**answer(MANIFEST, "nobody", [0, 1, 2], complete=False), "trials": []})
    path = write_csv_answers(tmp_path / "nobody.csv", [nobody])
    assert path.read_text().count("\n") == 1
    write_json_answers(tmp_path, answer(MANIFEST, "anna", [0, 1, 2]))
    assert [person.name for person in read_answers(MANIFEST, [tmp_path])] == ["anna"]
    path.unlink()
    write_json_answers(tmp_path, nobody)
    assert len(read_answers(MANIFEST, [tmp_path])) == 2


@pytest.mark.parametrize("text", ["", "trial,item\n"])
def test_a_csv_without_the_columns_is_refused(tmp_path, text):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=r"a\.csv cannot be read: it has no column 'answer'"):
        read_answers(MANIFEST, [tmp_path])


def test_answers_of_another_study_are_refused(tmp_path):
    other = make_manifest(seed=1)
    assert "of another study" in refusal(tmp_path, answer(other, "anna", [0, 1, 2]))


@pytest.mark.parametrize("changes", [{"answer": 2}, {"ms": 9999}], ids=["answer", "time"])
def test_an_edited_file_is_refused(tmp_path, changes):
    fields = answer(MANIFEST, "anna", [0, 1, 2])
    fields["trials"][1] |= changes
    assert "was edited" in refusal(tmp_path, fields)


def test_a_renamed_participant_is_an_edit(tmp_path):
    fields = answer(MANIFEST, "anna", [0, 1, 2])
    assert "was edited" in refusal(tmp_path, {**fields, "participant": "bert"})


def test_an_edited_csv_is_refused(tmp_path):
    path = write_csv_answers(tmp_path / "a.csv", [answer(MANIFEST, "anna", [0, 1, 2])])
    path.write_text(path.read_text().replace(",main,1,", ",main,2,"))
    with pytest.raises(ValueError, match=r"a\.csv was edited"):
        read_answers(MANIFEST, [path])


def test_a_person_in_two_files_is_refused_by_both_names(tmp_path):
    fields = answer(MANIFEST, "anna", [0, 1, 2])
    first = write_json_answers(tmp_path / "one", fields)
    second = write_json_answers(tmp_path / "two", fields)
    with pytest.raises(ValueError) as caught:
        read_answers(MANIFEST, [first, second])
    assert str(first) in str(caught.value) and str(second) in str(caught.value)


def test_a_list_that_the_study_has_not_is_refused(tmp_path):
    fields = seal({**answer(MANIFEST, "anna", [0, 1, 2]), "list": 2})
    assert "list 2, and the study has lists 0 to 1" in refusal(tmp_path, fields)


def test_images_of_another_list_are_refused(tmp_path):
    fields = seal({**answer(MANIFEST, "anna", [0, 1, 2]), "list": 1})
    assert "is no main trial of list 1" in refusal(tmp_path, fields)


def test_items_that_the_study_has_not_are_refused(tmp_path):
    fields = change_trial(answer(MANIFEST, "anna", [0, 1, 2]), 1, item=99)
    assert "item 99" in refusal(tmp_path, fields)


@pytest.mark.parametrize("given", [3, -1, "cat", "real", None, 1.0, True, "left"])
def test_answers_that_are_no_class_are_refused(tmp_path, given):
    fields = change_trial(answer(MANIFEST, "anna", [0, 1, 2]), 1, answer=given)
    assert "expected a class from 0 to 2 or unsure" in refusal(tmp_path, fields)


@pytest.mark.parametrize(
    "design, right, wrong", [("choose", "left", "real"), ("real", "fake", "left")]
)
def test_answers_are_those_of_the_design(tmp_path, design, right, wrong):
    manifest = make_manifest(design)
    fields = answer(manifest, "anna", [right, "unsure", right])
    assert len(read_answers(manifest, [write_json_answers(tmp_path, fields)])) == 1
    assert wrong in refusal(tmp_path, change_trial(fields, 1, answer=wrong), manifest)


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "null", '"x"', "[" * 5000, '{"study": 1}', "\x00"]
)
def test_files_that_are_no_answers_are_refused(tmp_path, text):
    refusal(tmp_path, text)


@pytest.mark.parametrize(
    "changes",
    [
        {"participant": "a b"}, {"participant": 7}, {"participant": "x" * 65}, {"list": "0"},
        {"list": True}, {"consent": "yes"}, {"complete": 1}, {"trials": {}}, {"trials": [1]},
        {"format": 2},
    ],
    ids=str,
)  # fmt: skip
def test_fields_of_another_kind_are_refused(tmp_path, changes):
    refusal(tmp_path, {**answer(MANIFEST, "anna", [0, 1, 2]), **changes})


@pytest.mark.parametrize(
    "changes",
    [{"kind": "test"}, {"ms": -1}, {"ms": "fast"}, {"ms": 1e300}, {"item": "0"}, {"trial": 0}],
    ids=str,
)
def test_damaged_trials_are_refused(tmp_path, changes):
    refusal(tmp_path, change_trial(answer(MANIFEST, "anna", [0, 1, 2]), 2, **changes))


def test_an_image_answered_twice_is_refused(tmp_path):
    fields = change_trial(answer(MANIFEST, "anna", [0, 1, 2]), 2, item=0)
    assert "twice" in refusal(tmp_path, fields)


def test_nothing_and_missing_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="there are no answers"):
        read_answers(MANIFEST, [tmp_path])
    with pytest.raises(ValueError, match=r"there is no file .*gone\.json"):
        read_answers(MANIFEST, [tmp_path / "gone.json"])


def read_one(tmp_path, fields, manifest=MANIFEST):
    (person,) = read_answers(manifest, [write_json_answers(tmp_path, fields)])
    return exclusion_reasons(manifest, person)


def test_who_answers_with_care_is_kept(tmp_path):
    assert read_one(tmp_path, answer(MANIFEST, "anna", [0, 1, 2])) == []


@pytest.mark.parametrize("gone", [1, 4, 6], ids=["main", "check", "repeat"])
def test_missing_pages_leave_a_person_out(tmp_path, gone):
    fields = answer(MANIFEST, "anna", [0, 1, 2])
    trials = [trial for trial in fields["trials"] if trial["trial"] != gone]
    assert read_one(tmp_path, seal({**fields, "trials": trials})) == ["incomplete"]


def test_who_stops_or_does_not_consent_is_left_out(tmp_path):
    fields = answer(MANIFEST, "anna", [0, 1, 2])
    assert read_one(tmp_path, {**fields, "complete": False}) == ["incomplete"]
    assert read_one(tmp_path, {**fields, "consent": False}) == ["no_consent"]


def strict(**limits: float) -> dict[str, Any]:
    rules = {
        "checks_wrong_most": 2, "fast_share_most": 1.0, "minimal_ms": 200,
        "same_answer_longest": 100, "repeats_equal_least": 0.0,
    }  # fmt: skip
    return make_manifest(exclusions={**rules, **limits})


@pytest.mark.parametrize("most, reasons", [(0, ["checks_wrong"]), (1, [])])
def test_checks_may_be_wrong_as_often_as_the_manifest_says(tmp_path, most, reasons):
    manifest = strict(checks_wrong_most=most)
    fields = change_trial(answer(manifest, "anna", [0, 1, 2]), 4, answer="unsure")
    assert read_one(tmp_path, fields, manifest) == reasons


@pytest.mark.parametrize("share, reasons", [(0.16, ["too_fast"]), (1 / 6, []), (0.17, [])])
def test_one_fast_answer_of_six_is_a_sixth(tmp_path, share, reasons):
    """Practice is not among the six."""
    manifest = strict(fast_share_most=share)
    fields = change_trial(answer(manifest, "anna", [0, 1, 2]), 2, ms=199)
    fields = change_trial(fields, 0, ms=1)
    assert read_one(tmp_path, fields, manifest) == reasons


@pytest.mark.parametrize("longest, reasons", [(3, ["same_answer"]), (4, [])])
def test_four_equal_answers_in_a_row_are_four(tmp_path, longest, reasons):
    """Practice 1; main 0, 1, 1; checks 1, 1; repeat 0."""
    manifest = strict(same_answer_longest=longest)
    fields = answer(manifest, "anna", [0, 1, 1])
    assert read_one(tmp_path, fields, manifest) == reasons


def test_a_run_of_doubts_is_no_run(tmp_path):
    """Practice 1; main three doubts; checks 1, 1; repeat a doubt."""
    manifest = strict(same_answer_longest=2)
    assert read_one(tmp_path, answer(manifest, "anna", ["unsure"] * 3), manifest) == []


@pytest.mark.parametrize("least, reasons", [(0.5, ["repeats_unequal"]), (0.0, [])])
def test_a_repeat_answered_otherwise_counts(tmp_path, least, reasons):
    manifest = strict(repeats_equal_least=least)
    fields = change_trial(answer(manifest, "anna", [0, 1, 2]), 6, answer=2)
    assert read_one(tmp_path, fields, manifest) == reasons


def test_a_person_may_break_several_rules(tmp_path):
    manifest = strict(fast_share_most=0.1, checks_wrong_most=0)
    fields = change_trial(answer(manifest, "anna", [0, 1, 2]), 4, answer=0, ms=100)
    assert read_one(tmp_path, fields, manifest) == ["checks_wrong", "too_fast"]
