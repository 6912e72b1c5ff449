"""A study's folder appears whole or not at all, and only its texts change afterwards."""

import re
from pathlib import Path

import pytest

from scoreag.study import build
from scoreag.study.manifest import PAGE, read_study
from study.made_studies import make_study, read_pool


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return read_pool(tmp_path_factory.mktemp("runs"))


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_has_the_manifest_the_page_and_the_texts(pool, tmp_path):
    summary = build.write_study_folder(make_study(pool), tmp_path / "deep" / "study")
    folder = tmp_path / "deep" / "study"
    assert {str(path) for path in contents(folder)} == {
        "manifest.json", PAGE, "texts/consent.txt", "texts/debrief.txt", "texts/withdrawal.txt"
    }  # fmt: skip
    manifest = read_study(folder)
    assert {**manifest, "created": None} == {**make_study(pool).manifest, "created": None}
    assert summary["images"] == {"clean": 8, "gat-gat": 8, "gat-strong": 8, "gas": 8}
    assert summary["lists"] == 3 and summary["answers_per_image"] == [2, 2]


def test_the_same_command_again_writes_the_page_with_the_edited_texts(pool, tmp_path):
    build.write_study_folder(make_study(pool), tmp_path)
    before = (tmp_path / "manifest.json").read_bytes()
    for name in ("consent", "debrief", "withdrawal"):
        (tmp_path / "texts" / f"{name}.txt").write_text(f"This is the {name}.")
    summary = build.write_study_folder(make_study(pool), tmp_path)
    assert summary["placeholders"] == []
    assert "<p>This is the consent.</p>" in (tmp_path / PAGE).read_text()
    assert (tmp_path / "manifest.json").read_bytes() == before


def test_another_study_is_not_overwritten(pool, tmp_path):
    build.write_study_folder(make_study(pool), tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"holds another study.*give another --out"):
        build.write_study_folder(make_study(pool, seed=1), tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["notes.txt", "manifest.json"])
def test_a_folder_of_something_else_is_left_alone(pool, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=re.escape(str(tmp_path))):
        build.write_study_folder(make_study(pool), tmp_path)
    assert contents(tmp_path) == {Path(name): b"mine"}


def test_a_failed_write_leaves_nothing(pool, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device", "manifest.json")

    monkeypatch.setattr(build, "write_study", fail)
    with pytest.raises(OSError, match="No space left"):
        build.write_study_folder(make_study(pool), tmp_path / "study")
    assert not [*tmp_path.iterdir()]


def edit(old, new):
    return lambda text: text.replace(old, new)


@pytest.mark.parametrize(
    "change, says",
    [
        (edit('"raters": 6', '"raters": 7'), "its hash differs"),
        (edit('"fooled": true', '"fooled": false'), "its hash differs"),
        (edit('"lists": [', '"list": ['), "entry 'lists' is missing"),
        (edit('"task": "study"', '"task": "transform"'), "a run of 'transform', no study"),
        (edit('"format": 1', '"format": 9'), "format 9; this version reads 1"),
        (lambda text: text[:-9], "is no manifest of a study"),
        (lambda text: "[1]", "is no manifest of a study"),
    ],
)
def test_a_manifest_that_was_changed_is_refused(pool, tmp_path, change, says):
    build.write_study_folder(make_study(pool), tmp_path)
    file = tmp_path / "manifest.json"
    file.write_text(change(file.read_text()))
    with pytest.raises(ValueError, match=says):
        read_study(tmp_path)


def test_a_text_that_is_no_utf8_is_refused(pool, tmp_path):
    build.write_study_folder(make_study(pool), tmp_path)
    (tmp_path / "texts" / "consent.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="is no UTF-8 text"):
        build.write_study_folder(make_study(pool), tmp_path)
