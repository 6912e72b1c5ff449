"""The analysis of a study: counted by hand, then on the command line, and of simulated people."""

import csv
import json
from dataclasses import replace

import pytest
import torch
from scipy import stats

from scoreag.cli.app import main
from scoreag.study import analysis as study_analysis
from scoreag.study import mixed
from scoreag.study.analysis import analyze
from scoreag.study.answers import read_answers
from scoreag.study.exclusions import exclusion_reasons
from scoreag.study.simulate import World, simulate
from study.answered_studies import (
    answer,
    make_manifest,
    write_json_answers,
    write_manifest,
)


@pytest.fixture(autouse=True)
def few_threads(one_thread):
    return


def read_rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def four_people(manifest):
    """List 0: clean 0 and 2, gat 4; list 1: gat 3 and 5, clean 1."""
    return [
        answer(manifest, "anna", [0, 1, 2], 0),  # sees all
        answer(manifest, "bert", [0, "unsure", 2], 0),
        answer(manifest, "cleo", [0, 1, 0], 1),  # takes item 5, a ship, for a cat
        answer(manifest, "dora", [2, 1, 2], 1),  # takes item 3, a cat, for a ship
    ]


@pytest.fixture
def study(tmp_path):
    manifest = make_manifest()
    folder = write_manifest(tmp_path / "study", manifest)
    for fields in four_people(manifest):
        write_json_answers(folder / "answers", fields)
    return folder


@pytest.fixture
def summary(study):
    manifest = json.loads((study / "manifest.json").read_text())
    return analyze(manifest, read_answers(manifest, [study / "answers"]), mixed=False).summary


def test_shares_by_hand(summary):
    """Clean: 6 of 6; gat: 3 of 6 (item 4: 1 of 2, item 3: 1 of 2, item 5: 1 of 2)."""
    clean, gat = (summary["conditions"][name] for name in ("clean", "gat"))
    assert (clean["sees_label"]["value"], clean["sees_label"]["total"]) == (1, 6)
    assert (gat["sees_label"]["value"], gat["sees_label"]["total"]) == (0.5, 6)
    assert gat["unsure"]["value"] == pytest.approx(1 / 6, abs=1e-6)
    assert gat["difference"]["value"] == -0.5


def test_validity_by_hand(summary):
    """Fooled: items 3 and 4, each seen by half: 1/3 of gat, over a ceiling of 1."""
    found = summary["conditions"]["gat"]["validity"]
    assert list(found) == ["1"]  # no image has three answers
    assert found["1"]["seen_success"]["value"] == pytest.approx(1 / 3, abs=1e-6)
    assert found["1"]["validity_corrected_success"]["value"] == pytest.approx(1 / 3, abs=1e-6)


def test_repeats_and_times_by_hand(summary):
    """All repeats are equal; trials 1 to 3 take 810, 820 and 830 ms."""
    assert summary["repeats_equal"]["value"] == 1 and summary["repeats_equal"]["total"] == 4
    assert summary["median_ms"]["value"] == 820


def test_few_images_have_no_proxy_figures(summary):
    assert summary["proxies"]["judge"]["all"]["spearman"]["value"] is None
    assert "semantic" not in summary["proxies"]


def test_chosen_sides_and_doubts_by_hand():
    """Items 0, 2 and 4 stand on the left, the others on the right; a doubt is half."""
    manifest = make_manifest("choose", lists=[[3, 4, 5]])
    ratings = study_analysis.rate(
        manifest,
        study_analysis.list_items(manifest),
        [
            (i, person.of_kind("main"))
            for i, person in enumerate(
                study_analysis_people(manifest, [["right", "left", "left"], ["unsure"] * 3])
            )
        ],
    )
    assert ratings.score.tolist() == [1, 1, 0, 0.5, 0.5, 0.5]


def study_analysis_people(manifest, answers):
    from pathlib import Path

    from scoreag.study.answers import check_participant

    given = [answer(manifest, f"p{i}", main) for i, main in enumerate(answers)]
    return [check_participant(manifest, Path(fields["participant"]), fields) for fields in given]


def test_real_images_are_the_base_of_d_prime():
    """Clean: 3 of 4 "real"; gat: a doubt of 2, which counts half."""
    manifest = make_manifest("real")
    people = study_analysis_people(manifest, [["real", "fake", "real"], ["real", "unsure", "fake"]])
    found = analyze(manifest, people).summary["conditions"]
    assert found["clean"]["says_real"]["value"] == 0.75
    assert found["gat"]["says_real"]["value"] == 0.25
    by_hand = stats.norm.ppf(3.5 / 5) - stats.norm.ppf(1 / 3)  # 3 of 4, 0.5 of 2
    assert found["gat"]["d_prime"]["value"] == pytest.approx(by_hand, abs=1e-6)


def test_the_command_writes_a_page_a_summary_and_tables(study, capsys):
    assert main(["study", "analyze", str(study)]) == 0
    out, err = capsys.readouterr()
    assert "gat: sees the label" in out and "4 of 4 analyzed" in out and "report.html" in err
    folder = study / "analysis"
    assert {one.name for one in folder.iterdir()} == {
        "report.html", "summary.json", "items.csv", "people.csv", "tables",
    }  # fmt: skip
    written = json.loads((folder / "summary.json").read_text())
    manifest = json.loads((study / "manifest.json").read_text())
    assert written["study"]["id"] == manifest["study"]
    assert len(written["provenance"]["answers_sha256"]) == 4
    rows = read_rows(folder / "items.csv")
    assert [(row["item"], row["answers"], row["share"]) for row in rows][3:] == [
        ("3", "2", "0.5"), ("4", "2", "0.5"), ("5", "2", "0.5"),
    ]  # fmt: skip
    page = (folder / "report.html").read_text()
    assert "Validity-corrected success" in page and "http:" not in page and "https:" not in page


def test_names_of_people_are_in_the_list_of_people_alone(study):
    assert main(["study", "analyze", str(study), "--quiet"]) == 0
    folder = study / "analysis"
    names = ["report.html", "summary.json", "items.csv", *folder.glob("tables/*")]
    public = [(folder / name).read_text() for name in names]
    assert len(public) > 10
    assert not any(name in text for text in public for name in ("anna", "bert", "cleo", "dora"))
    assert "anna" in (folder / "people.csv").read_text()


def test_files_that_are_named_for_people_are_not_in_the_command(study, tmp_path, monkeypatch):
    """A shell writes out answers/*.json."""
    files = sorted(map(str, (study / "answers").glob("*.json")))
    words = ["study", "analyze", str(study), *files, "--out", str(tmp_path / "out"), "--quiet"]
    monkeypatch.setattr("sys.argv", ["scoreag", *words])
    assert len(files) == 4 and main(words) == 0
    names = ("anna", "bert", "cleo", "dora")
    for file in ("report.html", "summary.json", "items.csv"):
        text = (tmp_path / "out" / file).read_text()
        assert not any(name in text for name in names)
    told = json.loads((tmp_path / "out" / "summary.json").read_text())["provenance"]
    assert told["command"] == f"scoreag study analyze {study} --out {tmp_path / 'out'}"
    assert len(told["answers_sha256"]) == 4


def run_folder(folder):
    folder.mkdir()
    (folder / "manifest.json").write_text('{"task": "transform"}')
    (folder / "summary.json").write_text('{"task": "study analysis"}')


def other_files(folder):
    folder.mkdir()
    (folder / "summary.json").write_text('{"task": "evaluate"}')


def a_file(folder):
    folder.write_text("")


@pytest.mark.parametrize(
    "make, says",
    [
        (run_folder, "holds a run or a study, no analysis; give another --out"),
        (other_files, "is not empty and holds no analysis; give another --out"),
        (a_file, "is a file; give another --out"),
    ],
)
def test_other_results_are_not_replaced_by_an_analysis(study, tmp_path, capsys, make, says):
    out = tmp_path / "out"
    make(out)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert main(["study", "analyze", str(study), "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert before == {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}


def test_an_analysis_is_written_again_in_its_place(study):
    for _ in range(2):
        assert main(["study", "analyze", str(study), "--quiet"]) == 0


def test_who_is_left_out_is_counted_and_named(study, capsys):
    manifest = json.loads((study / "manifest.json").read_text())
    late = answer(manifest, "emil", [0, 1, 2], 0, complete=False)
    write_json_answers(study / "answers", late)
    assert main(["study", "analyze", str(study), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["people"] == {
        "read": 5, "analyzed": 4,
        "excluded": {
            "no_consent": 0, "incomplete": 1, "checks_wrong": 0, "too_fast": 0, "same_answer": 0,
            "repeats_unequal": 0,
        },
    }  # fmt: skip
    rows = read_rows(study / "analysis" / "people.csv")
    assert [row["reasons"] for row in rows if row["participant"] == "emil"] == [
        "did not finish, or trials are missing"
    ]


def test_a_bad_file_stops_the_analysis_and_leaves_nothing(study, capsys):
    bad = study / "answers" / "anna.json"
    bad.write_text(bad.read_text().replace('"answer": 1', '"answer": 2', 1))
    assert main(["study", "analyze", str(study)]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "anna.json was edited" in err
    assert not (study / "analysis").exists()


def test_one_person_alone_is_refused(study, capsys):
    words = ["study", "analyze", str(study), str(study / "answers" / "anna.json")]
    assert main(words) == 1
    assert "1 of 1 people are left" in capsys.readouterr().err


def test_a_folder_without_a_study_is_refused(tmp_path, capsys):
    assert main(["study", "analyze", str(tmp_path)]) == 1
    assert "holds no study" in capsys.readouterr().err


def test_without_statsmodels_the_rest_is_there_and_the_gap_is_named(study, capsys, monkeypatch):
    monkeypatch.setattr(study_analysis, "has_statsmodels", lambda: False)
    assert main(["study", "analyze", str(study)]) == 0
    assert "pip install 'scoreag[study]'" in capsys.readouterr().out
    assert "pip install &#39;scoreag[study]&#39;" in (study / "analysis/report.html").read_text()


def test_power_on_the_command_line(capsys):
    assert main(["study", "power", "--raters", "5", "--difference", "0.05", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["people"]) == (247, 25)
    assert main(["study", "power", "--difference", "0.5"]) == 2
    assert "leaves 0 to 1" in capsys.readouterr().err


def test_the_mixed_model_finds_what_made_the_answers():
    """Sixty images, twenty people; the odds ratios are within their intervals of the truth."""
    pytest.importorskip("statsmodels")
    world = World(
        conditions={"clean": 2.0, "pgd": 0.5}, fooled={}, sd_source=1.0, sd_version=0.0,
        sd_person=0.7, lapses=(0.0, 0.0), raters=10, clickers=0,
    )  # fmt: skip
    manifest, people = simulate(world, 4)
    model = analyze(manifest, people).summary["mixed_model"]
    entry = model["odds_ratios"]["pgd"]
    assert entry["low"] < 2.718281828**-1.5 < entry["high"] < 1
    assert model["deviations"]["person"] == pytest.approx(0.7, abs=0.35)
    assert model["deviations"]["image"] == pytest.approx(1.0, abs=0.4)


def test_the_joint_mode_of_no_random_effects_is_logistic_regression():
    """Deviations of nearly 0 leave the fixed effects: statsmodels' own maximum likelihood."""
    sm = pytest.importorskip("statsmodels.api")
    source = torch.Generator().manual_seed(0)
    kind = torch.randint(2, (400,), generator=source).numpy()
    score = (torch.rand(400, generator=source).numpy() < [0.8, 0.6][0] - 0.3 * kind).astype(float)
    fixed = sm.add_constant(kind.astype(float))
    fit = sm.Logit(score, fixed).fit(disp=False)
    groups = [torch.arange(400).numpy() % 20]
    mean, error = mixed.fit_joint_mode(score, fixed, groups, torch.tensor([1e-4]).numpy())
    assert mean == pytest.approx(fit.params, abs=0.02)  # the prior of 5 logits
    assert error == pytest.approx(fit.bse, rel=0.01)


@pytest.mark.parametrize(
    "design, level",
    [("choose", 0.0), ("choose", 4.0), ("choose", -4.0), ("real", 0.0), ("real", 4.0)],
)
def test_who_looks_is_kept_where_images_cannot_be_told_apart(design, level):
    """Nobody remembers an image, so half of the repeats are answered otherwise (level 0)."""
    world = World(
        design=design, conditions=dict.fromkeys(["clean", "gat", "pgd"], level), fooled={},
        sd_source=0.0, sd_version=0.0, sd_person=0.0, again=0.0, clickers=0, raters=20,
    )  # fmt: skip
    manifest, people = simulate(world, 5)
    reasons = [reason for one in people for reason in exclusion_reasons(manifest, one)]
    assert not {"repeats_unequal", "same_answer"} & {*reasons}
    assert len(reasons) <= 0.1 * len(people)


def test_who_looks_is_kept_where_attacks_leave_nothing_to_see():
    """Of three conditions of four nobody sees the label, or remembers an image."""
    level = {"clean": 3.2, "gas": -4.0, "gat": -4.0, "pgd": -4.0}
    manifest, people = simulate(World(conditions=level, again=0.0, clickers=0, raters=10), 5)
    left_out = [one for one in people if exclusion_reasons(manifest, one)]
    assert len(people) == 40 and len(left_out) <= 2


WORLD = World(images=30)


@pytest.fixture(scope="module")
def analyses():
    """Eight studies, analyzed."""
    return [analyze(*simulate(WORLD, seed), mixed=False) for seed in range(8)]


@pytest.fixture
def simulated(analyses):
    return [one.summary for one in analyses]


def test_people_who_click_without_looking_are_found(analyses):
    """They come after the twenty who look, of whom at most 3 % may be left out."""
    planned = WORLD.raters * len(WORLD.conditions)
    rows = [row for one in analyses for row in one.people]
    kept = {True: 0, False: 0}
    for row in rows:
        kept[int(row["participant"][-3:]) < planned] += row["analyzed"]
    assert kept[False] == 0 and kept[True] >= 0.97 * planned * len(analyses)


def test_shares_of_simulated_people_are_recovered(simulated):
    """The truth is a mean over 200,000 fresh images and people, by numpy alone."""
    source = torch.Generator().manual_seed(1)
    spread = (WORLD.sd_source**2 + WORLD.sd_version**2 + WORLD.sd_person**2) ** 0.5
    for name, level in WORLD.conditions.items():
        logit = level + spread * torch.randn(200_000, generator=source).double()
        lapse = torch.tensor(WORLD.lapses).double()[torch.arange(200_000) % 2]
        truth = float(((1 - lapse) * torch.sigmoid(logit) + lapse / 10).mean())
        values = torch.tensor([s["conditions"][name]["sees_label"]["value"] for s in simulated])
        error = float(values.std()) / len(simulated) ** 0.5
        assert abs(float(values.mean()) - truth) < 5.41 * error  # Student's, 7 degrees: 99.9 %


def test_intervals_of_simulated_studies_hold_the_truth(simulated):
    """Of 32 shares, at least as many as a binomial with 95 % has with probability 99.9 %."""
    source = torch.Generator().manual_seed(1)
    spread = (WORLD.sd_source**2 + WORLD.sd_version**2 + WORLD.sd_person**2) ** 0.5
    inside = 0
    for name, level in WORLD.conditions.items():
        logit = level + spread * torch.randn(200_000, generator=source).double()
        truth = 0.9825 * float(torch.sigmoid(logit).mean()) + 0.00175
        entries = [s["conditions"][name]["sees_label"] for s in simulated]
        inside += sum(one["low"] <= truth <= one["high"] for one in entries)
    assert inside >= stats.binom.ppf(0.001, 4 * len(simulated), 0.95)


def test_order_of_people_and_files_changes_nothing():
    manifest, people = simulate(replace(WORLD, images=24, repeats=5), 3)
    one = analyze(manifest, people, mixed=False).summary
    other = analyze(manifest, people[::-1], mixed=False).summary
    for first, second in (
        (one["agreement"]["gwet_ac1"], other["agreement"]["gwet_ac1"]),
        (one["agreement"]["krippendorff_alpha"], other["agreement"]["krippendorff_alpha"]),
        (one["conditions"]["gat"]["sees_label"], other["conditions"]["gat"]["sees_label"]),
    ):
        assert first == pytest.approx(second)
