"""A study has equally many images of each condition, and its manifest says all of it."""

import hashlib
import json
from collections import Counter

import pytest
import torch

from scoreag.data.loading import Dataset
from scoreag.io.images import decode_png
from scoreag.study.answers import UNSURE, Participant, Trial
from scoreag.study.design import Settings, design_study
from scoreag.study.exclusions import exclusion_reasons
from scoreag.study.lists import trial_order
from scoreag.study.manifest import compute_study_id, fix_exclusions
from scoreag.study.pictures import Pool, dataset_pictures, read_runs, sample_positions
from scoreag.study.selection import shuffle_blocks
from study.made_studies import make_study, read_pool, write_run


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return read_pool(tmp_path_factory.mktemp("runs"))


def main_items(manifest):
    return [item for item in manifest["items"] if item["purpose"] == "main"]


def test_conditions_have_equally_many_images_of_each_label(pool):
    counts = Counter((i["condition"], i["label"]) for i in main_items(make_study(pool).manifest))
    assert len(counts) == 16 and set(counts.values()) == {2}


def test_conditions_of_the_same_runs_share_their_sources(pool):
    """So that the difference of two conditions is one within images."""
    items = main_items(make_study(pool).manifest)
    sources = {
        name: {i["source"] for i in items if i["condition"] == name}
        for name in ("clean", "gat-gat", "gat-strong")
    }
    assert sources["clean"] == sources["gat-gat"] == sources["gat-strong"]


@pytest.mark.parametrize("design", ["name", "real"])
def test_nobody_sees_two_versions_of_a_source(pool, design):
    manifest = make_study(pool, design).manifest
    assert sorted(i for one in manifest["lists"] for i in one) == [
        item["item"] for item in main_items(manifest)
    ]
    for one in manifest["lists"]:
        sources = [manifest["items"][i]["source"] for i in one]
        assert len(set(sources)) == len(sources)


def test_checks_and_practice_show_no_source_of_the_study(pool):
    manifest = make_study(pool).manifest
    shown = {item["source"] for item in main_items(manifest)}
    easy = [item for item in manifest["items"] if item["purpose"] != "main"]
    assert Counter(item["purpose"] for item in easy) == {"check": 10, "practice": 5}
    assert not shown & {item["source"] for item in easy}
    assert [item["right"] for item in easy] == [item["label"] for item in easy]


def test_the_manifest_has_the_digests_of_the_images_and_of_itself(pool):
    study = make_study(pool)
    assert [hashlib.sha256(png).hexdigest() for png in study.pngs] == [
        item["sha256"] for item in study.manifest["items"]
    ]
    hashed = {k: v for k, v in study.manifest.items() if k not in ("study", "created")}
    text = json.dumps(hashed, sort_keys=True, separators=(",", ":"))
    assert study.manifest["study"] == hashlib.sha256(text.encode()).hexdigest()
    assert compute_study_id({**study.manifest, "created": "later"}) == study.manifest["study"]
    assert compute_study_id({**study.manifest, "raters": 7}) != study.manifest["study"]


def test_a_seed_gives_the_same_study_again_and_another_one_other_images(pool):
    one, again, other = (make_study(pool, seed=seed).manifest for seed in (0, 0, 1))
    assert one == again
    assert {i["sha256"] for i in main_items(one)} != {i["sha256"] for i in main_items(other)}


def test_the_order_of_the_rows_of_a_run_does_not_matter(pool):
    turned = {name: list(reversed(some)) for name, some in pool.pictures.items()}
    other = Pool(pool.classes, turned, pool.runs)
    assert make_study(other).manifest == make_study(pool).manifest


def test_a_choice_is_between_an_image_and_its_own_untouched_one(pool):
    manifest = make_study(pool, "choose").manifest
    items, lists = manifest["items"], manifest["lists"]
    asked = [items[i] for one in lists for i in one]
    assert len(asked) == 3 * 8 and all(item["condition"] != "clean" for item in asked)
    partners = [items[item["pair"]] for item in asked]
    assert all(partner["condition"] == "clean" for partner in partners)
    for item, partner in zip(asked, partners, strict=True):
        assert item["label"] == partner["label"]
        assert item["condition"] == "gas" or item["source"] == partner["source"]
    assert {item["side"] for item in asked} == {"left", "right"}
    for one in lists:
        shown = [items[items[i]["pair"]]["source"] for i in one]
        assert len(set(shown)) == len(shown)


def test_checks_of_a_choice_are_beside_an_image_of_another_class(pool):
    items = make_study(pool, "choose").manifest["items"]
    checks = [i for i in items if i["purpose"] == "check" and i["right"] is not None]
    assert len(checks) == 10
    for item in checks:
        assert item["right"] == item["side"] and items[item["pair"]]["label"] != item["label"]


def person_who_says(manifest, answers):
    """The first list, each trial answered by ``answers(trial number, item)``, slowly."""
    asked = [one for one in trial_order(manifest, "p", 0) if one["kind"] != "practice"]
    trials = tuple(
        Trial(k, one["item"], one["kind"], answers(k, manifest["items"][one["item"]]), 900)
        for k, one in enumerate(asked)
    )
    return Participant("p", "p.json", 0, True, True, trials)


@pytest.mark.parametrize("design", ["name", "choose", "real"])
def test_who_always_says_that_they_cannot_tell_is_left_out_by_the_checks(pool, design):
    manifest = make_study(pool, design).manifest
    person = person_who_says(manifest, lambda k, item: UNSURE)
    assert "checks_wrong" in exclusion_reasons(manifest, person)


@pytest.mark.parametrize("word", ["real", "fake"])
def test_who_presses_one_key_throughout_is_left_out(pool, word):
    """Also where seven of eight images are fake."""
    manifest = make_study(pool, "real").manifest
    person = person_who_says(manifest, lambda k, item: word)
    assert exclusion_reasons(manifest, person) == ["checks_wrong"]


@pytest.mark.parametrize("word", ["real", "fake"])
def test_who_takes_all_images_for_the_same_and_looks_is_kept(pool, word):
    """Attacks that nobody sees make long runs of "real", and crude ones of "fake"."""
    study = make_study(pool, "real", images=16, trials=300)
    manifest = study.manifest

    def look(number, item):
        return word if item["purpose"] == "main" else item["right"]

    person = person_who_says(manifest, look)
    assert exclusion_reasons(manifest, person) == []


def test_checks_of_photographs_are_whole_and_shuffled_ones(pool):
    study = make_study(pool, "real")
    checks = [i for i in study.manifest["items"] if i["purpose"] == "check"]
    kinds = Counter((i["condition"], i["right"]) for i in checks)
    assert kinds == {("shuffled", "fake"): 5, ("clean", "real"): 5}
    checks = [i for i in checks if i["right"] == "fake"]
    practice = [study.manifest["items"][i]["right"] for i in study.manifest["practice"]]
    assert Counter(practice) == {"real": 3, "fake": 2}
    untouched = {one.source: one.png for one in pool.pictures["clean"]}
    shuffled, whole = decode_png(study.pngs[checks[0]["item"]]), untouched[checks[0]["source"]]
    whole = decode_png(whole)
    assert not torch.equal(shuffled, whole)
    assert torch.equal(shuffled.flatten().sort()[0], whole.flatten().sort()[0])


def test_shuffled_blocks_are_those_of_the_image():
    image = torch.arange(64, dtype=torch.uint8).view(1, 8, 8)
    blocks = shuffle_blocks(image, 0)[0].unfold(0, 2, 2).unfold(1, 2, 2).reshape(16, 4).tolist()
    expected = image[0].unfold(0, 2, 2).unfold(1, 2, 2).reshape(16, 4).tolist()
    assert blocks != expected and sorted(blocks) == sorted(expected)


def test_a_judge_chooses_the_images_of_checks_and_is_recorded(pool):
    """Sure of images 40 to 47 alone."""
    numbers = {one.pixels: i for i, one in enumerate(pool.pictures["clean"])}

    def confidence(pictures):
        return [0.75 + numbers.get(one.pixels, -99) / 400 for one in pictures]

    study = design_study(
        pool, pool.pictures["clean"], Settings("name", images=2, raters=4), confidence
    )
    checks = [i for i in study.manifest["items"] if i["purpose"] in ("check", "practice")]
    used = {i["source"] for i in study.manifest["items"] if i["purpose"] == "main"}
    free = [i for i in range(48) if f"cifar10:test#{i}" not in used]
    by_label = [sorted((i for i in free if i % 4 == k), reverse=True)[:4] for k in range(4)]
    allowed = {f"cifar10:test#{i}" for some in by_label for i in some}
    assert {i["source"] for i in checks} <= allowed
    first = next(i for i in study.manifest["items"] if i["condition"] == "clean")
    number = int(first["source"].partition("#")[2])
    assert first["proxies"]["judge"] == pytest.approx(0.75 + number / 400, abs=1e-4)


@pytest.mark.parametrize(
    "share, trials, longest",
    [(0.1, 230, 30), (0.5, 230, 30), (0.75, 230, 43), (0.875, 230, 93)],
)
def test_the_longest_run_is_one_that_right_answers_hardly_have(share, trials, longest):
    """The smallest n of 30 or more with trials * share^n < 0.001, found by counting up."""
    count = round(share * (trials - 30))
    rest = (
        [f"other {k % 9}" for k in range(trials - 30 - count)]
        if share < 0.5
        else ["other"] * (trials - 30 - count)
    )
    limits = fix_exclusions("choose", [["one"] * count + rest], 30)
    share = count / (trials - 30)
    n = 30
    while trials * share**n >= 0.001:
        n += 1
    assert limits["same_answer_longest"] == n == longest


def test_limits_of_two_answers_do_not_depend_on_what_people_see(pool):
    limits = {name: make_study(pool, name).manifest["exclusions"] for name in ("choose", "real")}
    assert {one["repeats_equal_least"] for one in limits.values()} == {0}
    assert limits["real"]["checks_wrong_most"] == 4
    named = make_study(pool).manifest["exclusions"]
    assert (named["repeats_equal_least"], named["checks_wrong_most"]) == (0.25, 2)


def test_images_of_two_shapes_are_refused(pool):
    large = torch.randint(0, 256, (20, 3, 16, 16), dtype=torch.uint8)
    easy = dataset_pictures(
        Dataset(large, torch.arange(20) % 4, tuple(range(20)), pool.classes, "easy"), range(20),
        "clean",
    )  # fmt: skip
    says = r"differ in shape: clean 3x8x8, check images 3x16x16; give runs and data of one shape"
    with pytest.raises(ValueError, match=says):
        design_study(pool, easy, Settings("name", images=8, raters=6))


def test_positions_of_a_data_set_are_random_and_balanced():
    labels = [0] * 30 + [1] * 10 + [2] * 5
    chosen = sample_positions(labels, 12, seed=0)
    assert Counter(labels[i] for i in chosen) == {0: 4, 1: 4, 2: 4} and len(set(chosen)) == 12
    assert chosen == sample_positions(labels, 12, seed=0) != sample_positions(labels, 12, seed=1)
    assert sorted(sample_positions(labels, 99, seed=0)) == list(range(45))


def test_a_list_has_at_most_so_many_trials(pool):
    lists = make_study(pool, trials=5, raters=10).manifest["lists"]
    assert max(map(len, lists)) <= 5


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"design": "nam"}, "no design 'nam'"),
        ({"raters": 0}, "--raters is 0"),
        ({"raters": 2}, "--raters 2 people cannot fill 3 lists.*give --raters 3 or more"),
        ({"images": 49}, "condition clean has 48 images that count, fewer than 49"),
        ({"images": 40}, "checks and practice need 15 easy images.*there are 8; give --checks"),
    ],
)
def test_settings_that_do_not_fit_are_refused(pool, settings, says):
    with pytest.raises(ValueError, match=says):
        make_study(pool, **{"design": "name", **settings})


@pytest.mark.parametrize("design", ["choose", "real"])
def test_images_without_untouched_ones_have_nothing_to_be_compared_with(tmp_path, design):
    pool = read_runs([write_run(tmp_path, "synthesize")])
    with pytest.raises(ValueError, match=r"compares untouched images.*only gas; add a run"):
        make_study(pool, design)


def test_names_are_asked_for_at_most_ten_classes(tmp_path):
    many = tuple(f"class {i}" for i in range(11))
    pool = read_runs([write_run(tmp_path, "transform", classes=many)])
    with pytest.raises(ValueError, match=r"at most 10 classes, and these runs have 11; write"):
        make_study(pool)
