"""A page ranks only what was treated alike, and says what it knows of its judges."""

import pytest

from assess.made_rows import cell, row
from report.test_assessment import write_cell
from scoreag.assess import runner
from scoreag.assess.results import aggregate
from scoreag.io.filesystem import write_json
from scoreag.io.manifest import FORMAT, MANIFEST
from scoreag.report.robustness import summary_sentences, write_report
from scoreag.report.robustness_tables import build_tables

DIGESTS = {"classifier": {"sha256": "v"}, "reference_classifiers": {"judge": {"sha256": "j"}}}


def rows(count, right, judge_right=None, **changes):
    """So many images of class 0, the first ``right`` of them still right after the attack."""
    seen = count if judge_right is None else judge_right
    return [
        row(i, 0, 0, 0 if i < right else 1, 0, **changes)
        | {"judges": {"judge": {"before": 0 if i < seen else 1, "saved": 0}}}
        for i in range(count)
    ]


def attacked(victim, made, purifier="none", attack="pgd", epsilon=0.1, **changes):
    options = {"norm": "Linf", "eps": epsilon, "steps": 10}
    behind = {} if purifier == "none" else {"purifier_name": purifier, "purifier": purifier}
    told = {
        "name": f"s/{victim}/{purifier}/{attack},{epsilon},{len(made)}", "classifier": victim,
        "attack": attack, "component": attack, "options": options, "images": len(made),
        "transfer_targets": (), "content": {**DIGESTS, "classifier": {"sha256": victim}}, **behind,
    }  # fmt: skip
    return cell(**{**told, **changes}), [one | {"transfer": {}} for one in made]


def assessed(folder, *cells, clean=None):
    clean = clean or rows(40, 40)
    steady = [one | {"is_deterministic": {"net": True, "robust": True}, "transfer": {
        "robust": {"before": 0, "saved": 0}}} for one in clean]  # fmt: skip
    first = cell(
        name="s/clean", attack="clean", component="clean", options={}, transfer_targets=("robust",),
        images=len(clean), content=DIGESTS,
    )  # fmt: skip
    cells = [(first, steady), *cells]
    for one in cells:
        write_cell(folder, *one)
    write_json(folder / runner.CELLS_FILE, {one.name: one.key for one, _ in cells})
    manifest = {"format": FORMAT, "task": "assess made up", "plan": {"images": 4}}
    write_json(folder / MANIFEST, manifest)
    return aggregate(folder)


def ranked(account):
    return [text for text in summary_sentences(account) if text.startswith("Under the same")]


def test_defenses_under_the_same_attacks_on_the_same_images_are_compared(tmp_path):
    account = assessed(
        tmp_path, attacked("net", rows(40, 2)), attacked("robust", rows(40, 30)),
    )  # fmt: skip
    (says,) = ranked(account)
    assert says == (
        "Under the same attack on the same 40 images, worst-case robust accuracy (95 % intervals): "
        "robust 30 of 40 (60 to 86 %); net 2 of 40 (1 to 16 %). The highest is that of robust."
    )


def test_a_difference_within_the_intervals_is_not_established(tmp_path):
    account = assessed(tmp_path, attacked("net", rows(16, 9)), attacked("robust", rows(16, 11)))
    (says,) = ranked(account)
    assert "The highest" not in says
    assert says.endswith(
        "The intervals of robust and net overlap: the difference is not established."
    )


WEAKER = {
    "a smaller radius": {"epsilon": 1 / 255},
    "another attack": {"attack": "fgsm"},
    "another seed": {"seed": 1},
    "fewer images": {},
    "false gradients": {"attacker_options": {"backward": "bpda"}},
    "a draw that the attacker knows": {"shared_draw": True},
    "a copy with other settings": {
        "attacker_options": {"steps": 1},
        "purifier_options": {"steps": 8},
    },
}


@pytest.mark.parametrize("how", WEAKER)
def test_a_defense_that_was_attacked_otherwise_is_not_compared(tmp_path, how):
    """The least attacked one keeps everything, and is not crowned for it."""
    spared = rows(8, 8) if how == "fewer images" else rows(40, 40)
    account = assessed(
        tmp_path, attacked("net", rows(40, 2)), attacked("net", spared, "gap", **WEAKER[how])
    )
    assert ranked(account) == []
    html = write_report(tmp_path).read_text()
    assert "the highest" not in html.lower()
    letters = {t.name: t for t in build_tables(account)}["worst_case"].rows
    assert [line[3] for line in letters] == ["alone", "alone"]


def test_of_three_defenses_those_are_compared_that_were_treated_alike(tmp_path):
    account = assessed(
        tmp_path, attacked("net", rows(40, 2)), attacked("robust", rows(40, 30)),
        attacked("net", rows(8, 8), "gap", attack="fgsm", epsilon=1 / 255),
    )  # fmt: skip
    (says,) = ranked(account)
    assert "gap" not in says and "robust 30 of 40" in says
    letters = {t.name: t for t in build_tables(account)}["worst_case"].rows
    assert [line[3] for line in letters] == ["A", "A", "alone"]


def test_attacks_are_compared_within_one_ball_only(tmp_path):
    account = assessed(
        tmp_path, attacked("net", rows(40, 30), epsilon=2 / 255), attacked("net", rows(40, 2)),
        attacked("net", rows(40, 8), attack="square"),
        attacked("net", rows(40, 8), attack="gat", options={"attack_scale": 10.0}),
    )  # fmt: skip
    (pair,) = account.differences
    assert ("square" in pair[0], "pgd,0.1," in pair[1]) == (True, True)


def test_the_attack_that_is_named_first_was_given_as_many_images_as_the_others(tmp_path):
    account = assessed(
        tmp_path, attacked("net", rows(40, 30)), attacked("net", rows(2, 0), attack="square")
    )
    first = next(iter(summary_sentences(account)))
    assert "pgd (eps 0.1) fools it on 10 of 40" in first


def test_the_judges_accuracy_stands_beside_what_it_says(tmp_path):
    account = assessed(tmp_path, attacked("net", rows(40, 2)))
    assert "(reference classifier judge: right on 40 of 40 untouched images, 91 to 100 %)" in next(
        iter(summary_sentences(account))
    )
    main = {table.name: table for table in build_tables(account)}["cells"]
    (line,) = [dict(zip(main.header, one, strict=True)) for one in main.rows]
    accuracy = line["reference classifier, clean accuracy"]
    assert (accuracy["count"], accuracy["total"]) == (40, 40)
    assert "no reference classifier is attacked" in main.caption
    assert not [finding for finding in account.findings if finding.check == "judge"]


def test_of_images_from_nothing_the_judges_accuracy_is_that_on_the_sets_images(tmp_path):
    made = [
        one | {"predictions": {**one["predictions"], "before": None},
               "judges": {"judge": {"saved": 0}}}
        for one in rows(10, 5)
    ]  # fmt: skip
    account = assessed(tmp_path, attacked("net", made, attack="gas", options={"attack_scale": 1.0}))
    main = {table.name: table for table in build_tables(account)}["cells"]
    line = dict(zip(main.header, main.rows[0], strict=True))
    assert line["reference classifier, clean accuracy"]["total"] == 40


@pytest.mark.parametrize(
    "right, told",
    [(24, "right on 24 of 40 untouched images"), (14, "not clearly better than chance (1 of 3)")],
)
def test_a_judge_of_low_accuracy_is_a_grave_doubt(tmp_path, right, told):
    account = assessed(
        tmp_path, attacked("net", rows(40, 2, right)), clean=rows(40, 40, right)
    )  # fmt: skip
    (finding,) = [finding for finding in account.findings if finding.check == "judge"]
    assert finding.is_error and told in finding.message
    assert any(text.startswith("Read this first") for text in summary_sentences(account))


def test_a_judge_with_the_weights_of_a_victim_is_a_grave_doubt_and_no_page_calls_it_apart(tmp_path):
    same = {"classifier": {"sha256": "v"}, "reference_classifiers": {"judge": {"sha256": "v"}}}
    account = assessed(tmp_path, attacked("net", rows(40, 2), content=same))
    (finding,) = [finding for finding in account.findings if finding.check == "judge"]
    assert finding.is_error and "the judge judge has the weights of net" in finding.message
    main = {table.name: table for table in build_tables(account)}["cells"]
    assert "a reference classifier is attacked itself" in main.caption


def test_independence_that_was_not_checked_is_not_asserted(tmp_path):
    account = assessed(tmp_path, attacked("net", rows(40, 2), content={}))
    main = {table.name: table for table in build_tables(account)}["cells"]
    assert (
        "whether a reference classifier is one of the attacked classifiers was not checked"
        in main.caption
    )
    html = write_report(tmp_path).read_text()
    assert "trained apart" not in html and "were not attacked" not in html
    assert "independent" not in html
