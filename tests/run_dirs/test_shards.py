"""Shards of a run, joined, are the run that was never split."""

import json
from pathlib import Path
from shutil import copytree

import pytest

import tiny
from scoreag.cli.app import main
from scoreag.io.run_shards import RunShard, parse_shard

PLAN = """\
description = "an attack"
images = 6
batch_size = 2
eval_draws = 1

[datasets.tiny]
data = "image-folder:images"
classifiers = ["net"]

[attacks.pgd]
eps = "64/255"
steps = 2
classifiers = "net"
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.write_score_model(folder / "prior")
    tiny.write_classifier(folder / "net")
    tiny.write_images(folder / "images", 6)
    (folder / "plan.toml").write_text(PLAN)
    return folder


@pytest.fixture(autouse=True)
def there(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)


def transform(out: Path, *words: str) -> int:
    return main(
        ["transform", "--model", "prior", "--classifier", "net", "--data", "image-folder:images",
         "--batch-size", "2", "--reference-classifier", "none", "--steps", "2", "--max-restarts",
         "0", "--attack-scale", "20", "--out", str(out), "--quiet", *words]
    )  # fmt: skip


def assess(out: Path, *words: str) -> int:
    return main(["assess", "plan.toml", "--out", str(out), "--quiet", "--device", "cpu", *words])


def merge(out: Path, *shards: Path) -> int:
    return main(["merge", str(out), *map(str, shards), "--quiet"])


@pytest.fixture(scope="module")
def split(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three batches in whole, and as two shards of two and one batches."""
    place = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(models)
        assert transform(place / "whole") == 0
        for number in (1, 2):
            assert transform(place / f"part{number}", "--shard", f"{number}/2") == 0
    return place


def rows(folder: Path) -> list[dict]:
    """The rows of a folder without the digest, which is of the folder's own seal."""
    lines = (folder / "rows.jsonl").read_text().splitlines()
    return [{n: v for n, v in json.loads(line).items() if n != "digest"} for line in lines]


def test_merged_shards_are_bit_identical_to_the_whole_run(split: Path, tmp_path: Path) -> None:
    parts = [split / "part2", split / "part1"]
    assert merge(tmp_path / "joined", *parts) == 0
    assert tiny.contents(tmp_path / "joined") == tiny.contents(split / "whole")


def test_each_shard_has_every_other_batch(split: Path) -> None:
    ids = [[row["image_id"] for row in rows(split / name)] for name in ("part1", "part2")]
    assert ids == [[0, 1, 4, 5], [2, 3]]


def test_the_command_without_shards_finds_nothing_left_to_do(split: Path, tmp_path: Path) -> None:
    merge(tmp_path / "joined", split / "part1", split / "part2")
    times = {f: f.stat().st_mtime_ns for f in (tmp_path / "joined" / "images").iterdir()}
    assert transform(tmp_path / "joined") == 0
    assert {f: f.stat().st_mtime_ns for f in times} == times
    assert rows(tmp_path / "joined") == rows(split / "whole")


def refusal(capsys: pytest.CaptureFixture[str], out: Path, *shards: Path) -> str:
    capsys.readouterr()
    assert merge(out, *shards) == 1
    assert not out.exists()
    return capsys.readouterr().err


def test_incomplete_sets_of_shards_are_refused(
    split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, one = tmp_path / "joined", split / "part1"
    assert "shard 2/2 is missing" in refusal(capsys, out, one)
    assert "shard 1/2 was given twice" in refusal(capsys, out, one, one, split / "part2")
    assert "whole is no shard of a run" in refusal(capsys, out, one, split / "whole")


def test_shards_of_different_runs_are_refused(
    split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    transform(tmp_path / "other", "--shard", "2/2", "--seed", "1")
    error = refusal(capsys, tmp_path / "joined", split / "part1", tmp_path / "other")
    assert "are of different runs: seed was 0 and is now 1" in error


def test_changed_picture_of_a_shard_is_refused(
    split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    transform(tmp_path / "part2", "--shard", "2/2")
    pictures = tmp_path / "part2" / "images"
    (pictures / "000002.png").write_bytes((pictures / "000003.png").read_bytes())
    error = refusal(capsys, tmp_path / "joined", split / "part1", tmp_path / "part2")
    assert "the pictures of image 2 are not what its run wrote" in error


def test_shard_is_no_run_of_its_own(
    split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert transform(split / "part1") == 1
    assert "part1 holds a run with other settings: shard." in capsys.readouterr().err


@pytest.fixture(scope="module")
def assessed(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The assessment in whole, and in two shards."""
    place = tmp_path_factory.mktemp("assessments")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(models)
        assert assess(place / "whole") == 0
        for number in (1, 2):
            assert assess(place / f"part{number}", "--shard", f"{number}/2") == 0
    return place


def test_assessment_of_merged_shards_is_the_whole_one(assessed: Path, tmp_path: Path) -> None:
    assert merge(tmp_path / "joined", assessed / "part1", assessed / "part2") == 0
    assert stored(tmp_path / "joined") == stored(assessed / "whole")
    assert summary(tmp_path / "joined") == summary(assessed / "whole")
    assert assess(tmp_path / "joined") == 0  # it is complete, and of the same plan


def stored(folder: Path) -> dict[tuple[str, int], dict]:
    """The rows of all cells, with the bytes of their pictures."""
    found = {}
    for file in folder.glob("cells/*/*.jsonl"):
        for line in file.read_text().splitlines():
            row = json.loads(line)
            row["bytes"] = (folder / row["file"]).read_bytes()
            found[file.parent.name, row["position"]] = row
    assert len(found) == 2 * 6
    return found


def summary(folder: Path) -> dict:
    """The summary without what was measured by the clock."""
    found = json.loads((folder / "summary.json").read_text())
    for cell in found["cells"].values():
        for name in [n for n in cell.get("cost", {}) if "second" in n or "memory" in n]:
            del cell["cost"][name]
    return found


def test_unfinished_shard_of_an_assessment_is_named(
    assessed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copytree(assessed / "part2", tmp_path / "part2")
    next((tmp_path / "part2").glob("cells/*/images/*.png")).unlink()
    parts = (assessed / "part1", tmp_path / "part2")
    assert "shard 2/2 is not finished: " in refusal(capsys, tmp_path / "joined", *parts)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/2/3", "-1/2"])
def test_wrong_shard_is_a_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    assert transform(tmp_path / "out", "--shard", text) == 2
    assert "write NUMBER/COUNT, from 1/4 to 4/4" in capsys.readouterr().err


def test_more_shards_than_batches_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there are 3 batches in all"):
        RunShard(1, 4).select([range(2), range(2, 4), range(4, 6)])
    assert parse_shard("2/3").select("abcdefg") == "be"
