"""The images of runs, as conditions of a study."""

from collections import Counter

import pytest
import torch

from assess.made_rows import cell, row
from scoreag.assess import runner
from scoreag.assess.score_batch import ScoredBatch
from scoreag.data.loading import Dataset
from scoreag.io.filesystem import file_sha256, write_json
from scoreag.io.images import to_uint8, write_png
from scoreag.io.manifest import FORMAT, MANIFEST
from scoreag.io.records import picture_path
from scoreag.study.design import Settings, design_study
from scoreag.study.pictures import dataset_pictures, pixel_digest, read_runs
from study.made_studies import CLASSES, images, write_run, write_runs


def labels_of(pictures):
    return [one.label for one in pictures]


def test_runs_become_conditions_by_their_task_and_the_untouched_images_one_of_their_own(tmp_path):
    pool = read_runs(write_runs(tmp_path))
    assert list(pool.pictures) == ["clean", "gat-gat", "gat-strong", "gas"]
    assert {name: len(some) for name, some in pool.pictures.items()} == dict.fromkeys(
        pool.pictures, 48
    )
    assert pool.classes == CLASSES
    assert read_runs([tmp_path / "gat"]).pictures.keys() == {"clean", "gat"}


def test_versions_of_an_image_share_its_source_and_generated_images_have_their_own(tmp_path):
    pool = read_runs(write_runs(tmp_path)).pictures
    by_source = {one.source_pixels: one for one in pool["clean"]}
    for name in ("gat-gat", "gat-strong"):
        assert [by_source[one.source_pixels].source for one in pool[name]] == [
            f"cifar10:test#{i}" for i in range(48)
        ]
    assert not by_source.keys() & {one.source_pixels for one in pool["gas"]}


def test_what_is_known_of_an_image_is_that_of_its_row(tmp_path):
    pool = read_runs([write_run(tmp_path / "gat", "transform")]).pictures
    assert [one.fooled for one in pool["gat"][:4]] == [True, False, True, False]
    assert [one.fooled for one in pool["clean"][:4]] == [False] * 4
    assert [one.proxies["judge"] for one in pool["gat"][3:6]] == [1.0, 0.0, 1.0]
    assert [one.proxies["judge"] for one in pool["clean"][3:6]] == [1.0, 1.0, 1.0]
    shown = (images(48, 1)[5] * 255).round().to(torch.uint8)
    assert pool["gat"][5].pixels == pixel_digest(shown)


def test_images_that_were_misclassified_before_the_attack_do_not_count(tmp_path):
    pool = read_runs([write_run(tmp_path / "gat", "transform", 12, wrong_before=5)]).pictures
    assert Counter(map(len, pool.values())) == {7: 2}
    assert pool["gat"][0].source == "cifar10:test#5"


def test_a_purified_image_of_another_run_has_the_source_of_its_origin(tmp_path):
    """The input of the purification is the output of the attack."""
    attacked = write_run(tmp_path / "gas", "synthesize", seed=0)  # images(48, 0): see result()
    pool = read_runs([attacked, write_run(tmp_path / "gap", "purify")]).pictures
    assert "clean" not in pool
    assert [one.source_pixels for one in pool["gap"]] == [one.pixels for one in pool["gas"]]


def write_assessment(folder):
    """Two attacks on two classifiers; pictures 0 to 7 of each are those of ``images``.

    The last one is on images of other data, whose labels are predictions.
    """
    cells = []
    for number, (attack, classifier) in enumerate(
        [("pgd", "net"), ("pgd", "robust"), ("stadv", "net"), ("far", "net")]
    ):
        one = cell(
            name=f"s/{classifier}/none/{attack}", attack=attack, classifier=classifier, images=8,
            options={"seed": number}, classes=CLASSES, data="cifar10:test",
            is_ood=attack == "far",
        )  # fmt: skip
        place = runner.cell_folder(folder, one)
        place.mkdir(parents=True)
        for parent, kind, seed in ((place, "images", number + 1), (folder, "originals", 0)):
            (parent / kind).mkdir(exist_ok=True)
            for i, image in enumerate(to_uint8(images(8, seed))):
                write_png(parent / picture_path(kind, i), image)
        rows = []
        for i in range(8):
            files = {
                "": f"cells/{one.key}/{picture_path('images', i)}",
                "original_": picture_path("originals", i),
            }
            entries = {f"{prefix}file": file for prefix, file in files.items()}
            entries |= {f"{p}sha256": file_sha256(folder / f) for p, f in files.items()}
            told = {"share": 0.5 + 0.01 * i, "in_set": True, "clear": True}
            semantic = {"saved": told, "before": {**told, "share": 0.75}}
            more = {"image_id": i, "lpips": 0.25, **entries}
            rows.append(row(i, i % 4, i % 4, 0, 0, **more, semantic=semantic))
        cells.append((one, rows))
    for one, rows in cells:
        runner.write_cell(folder, one)
        runner.write_shard(folder, one, ScoredBatch(rows, {}, None, 1.0, 0))
    write_json(folder / runner.CELLS_FILE, {one.name: one.key for one, _ in cells})
    write_json(folder / MANIFEST, {"format": FORMAT, "task": "assess made up", "seal": "0"})
    return folder


def test_an_assessment_has_a_condition_for_each_attack_with_the_shortest_unique_name(tmp_path):
    pool = read_runs([write_assessment(tmp_path)]).pictures
    assert list(pool) == ["clean", "net/pgd", "robust/pgd", "stadv"]
    assert labels_of(pool["stadv"]) == [0, 1, 2, 3] * 2
    assert pool["stadv"][0].proxies == {"judge": 1.0, "semantic": 0.5, "lpips": 0.25}
    assert [one.source_pixels for one in pool["stadv"]] == [one.pixels for one in pool["clean"]]


def test_what_the_measure_semantic_says_of_both_images_gets_into_the_study(tmp_path):
    pool = read_runs([write_assessment(tmp_path / "run")], ["clean", "stadv"])
    easy = dataset_pictures(
        Dataset((images(16, 9) * 255).round().byte(), torch.arange(16) % 4, tuple(range(16)),
                CLASSES, "easy"), range(16), "clean",
    )  # fmt: skip
    items = design_study(pool, easy, Settings("name", images=4, raters=4)).manifest["items"]
    told = {(i["condition"], i["source"]): i["proxies"]["semantic"] for i in items}
    stadv = {key[1]: value for key, value in told.items() if key[0] == "stadv"}
    assert len(stadv) == 4
    for source, value in stadv.items():
        assert value == 0.5 + 0.01 * int(source.partition("#")[2])
        assert told["clean", source] == 0.75
    assert told["clean", "easy#0"] is None


def test_images_of_other_data_have_no_label_to_ask_for(tmp_path):
    folder = write_assessment(tmp_path)
    assert any(cell.is_ood for cell in runner.list_cells(folder))
    with pytest.raises(ValueError, match="no condition 'far'"):
        read_runs([folder], ["far"])


def test_only_the_named_conditions_are_read(tmp_path):
    folder = write_assessment(tmp_path)
    assert list(read_runs([folder], ["stadv"]).pictures) == ["stadv"]
    assert list(read_runs([folder], ["clean", "stadv"]).pictures) == ["clean", "stadv"]
    assert list(read_runs([folder], ["clean"]).pictures) == ["clean"]


def test_untouched_images_that_no_run_has_are_not_left_out_silently(tmp_path):
    with pytest.raises(ValueError, match="no untouched images for the condition clean; give"):
        read_runs([write_run(tmp_path, "synthesize", 4)], ["clean", "gas"])


def empty(folder):
    folder.mkdir()
    return [folder]


def training(folder):
    folder.mkdir()
    write_json(folder / MANIFEST, {"format": FORMAT, "task": "train score-model"})
    return [folder]


def twice(folder):
    return [write_run(folder, "transform", 4)] * 2


def other_classes(folder):
    more = {"classes": ("a", "b", "c", "d")}
    return [
        write_run(folder / "1", "transform", 4),
        write_run(folder / "2", "transform", 4, **more),
    ]


def nameless(folder):
    return [write_run(folder, "transform", 4, classes=())]


def without_images(folder):
    write_assessment(folder)
    for file in folder.glob("cells/*/*.jsonl"):
        file.unlink()
    return [folder]


def changed(folder):
    write_run(folder, "transform", 4)
    (folder / "images" / "000002.png").write_bytes(b"")
    return [folder]


@pytest.mark.parametrize(
    "make, says",
    [
        (empty, "holds no run"),
        (training, "a run of 'train score-model', which has no images for people"),
        (twice, "is given twice"),
        (other_classes, "have different classes"),
        (nameless, "classes without names"),
        (without_images, "is an assessment without images of an attack"),
        (changed, "000002.png is not what the run wrote"),
    ],
)
def test_runs_that_cannot_be_shown_are_refused(make, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        read_runs(make(tmp_path / "run"))


def test_an_unknown_condition_is_refused_with_those_that_there_are(tmp_path):
    with pytest.raises(ValueError, match="no condition 'pdg'; they have clean, gat"):
        read_runs([write_run(tmp_path, "transform", 4)], ["pdg"])
