"""Answers of people: published files by name, one's own by path, and faulty ones in one line."""

import hashlib
import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from file_server import Served
from scoreag.data import humans
from scoreag.data.humans import HumanAnswers, load_human_answers, match_answers

COUNTS = np.array([[5.0, 0, 1], [0, 3, 0], [1, 1, 4], [0, 0, 7]])
LABELS = [0, 1, 2, 2]
ANSWERS = np.array([[0, 0, 1], [1, 1, 1], [2, 0, 2], [2, 2, 2]])  # of three people
CLASSES = ("cat", "dog", "ship")


def write_archive(path: Path, **columns: np.ndarray) -> None:
    """Arrays of numpy in a dictionary, as torch.save wrote CIFAR-10N."""
    torch.save(columns, path, pickle_protocol=2)


def write_table(path: Path, **changes: np.ndarray) -> None:
    people = {f"random_label{i}": ANSWERS[:, i - 1] for i in (1, 2, 3)}
    write_archive(path, **{"clean_label": np.array(LABELS), **people, **changes})


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with small files of both kinds, whose digests are taken for the published ones."""
    folder = tmp_path / "there"
    folder.mkdir()
    np.save(folder / "cifar10h-counts.npy", COUNTS)
    write_table(folder / "CIFAR-10_human.pt")
    publish(folder, monkeypatch)
    return folder


def publish(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {}
    for name in ("cifar10h", "cifar10n"):
        entry = humans.PUBLISHED[name]
        digest = hashlib.sha256((folder / entry.file).read_bytes()).hexdigest()
        small[name] = replace(entry, sha256=digest, classes=CLASSES, count=4)
    monkeypatch.setattr(humans, "PUBLISHED", small)


@pytest.mark.parametrize("word", ["cifar10h", "humans:cifar10h"])
def test_counts_are_those_of_the_file(published: Path, word: str) -> None:
    answers = load_human_answers(word, published)
    assert answers.counts.tolist() == COUNTS.tolist()
    assert answers.shares[0].tolist() == pytest.approx([5 / 6, 0, 1 / 6])
    assert answers.share_of(torch.tensor(LABELS)).tolist() == pytest.approx([5 / 6, 1, 2 / 3, 1])
    assert (answers.data, answers.license) == ("cifar10:test", "CC BY-NC-SA 4.0")


def test_three_answers_an_image_become_counts_and_labels(published: Path) -> None:
    answers = load_human_answers("cifar10n", published)
    assert answers.counts.tolist() == [[2, 1, 0], [0, 3, 0], [1, 0, 2], [0, 0, 3]]
    assert answers.labels is not None
    assert answers.labels.tolist() == LABELS


def test_a_file_can_be_given_itself(published: Path) -> None:
    there = published / "cifar10h-counts.npy"
    assert load_human_answers("cifar10h", there).counts.tolist() == COUNTS.tolist()


def test_own_counts_are_read_by_their_path(tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", COUNTS.astype(np.int16))
    answers = load_human_answers(tmp_path / "mine.npy")
    assert answers.counts.tolist() == COUNTS.tolist()
    assert (answers.data, answers.license) == ("", "unspecified")


def test_the_license_is_shown_before_the_file_is_fetched(
    published: Path, served: Served, tmp_path: Path
) -> None:
    (served.folder / "cifar10h-counts.npy").write_bytes(
        (published / "cifar10h-counts.npy").read_bytes()
    )
    (root := tmp_path / "empty").mkdir()
    asked: list[tuple[str, int]] = []
    answers = load_human_answers(
        "cifar10h", root, False, lambda text: asked.append((text, len(served.ranges)))
    )
    assert [(("CC BY-NC-SA 4.0" in text), before) for text, before in asked] == [(True, 0)]
    assert answers.counts.tolist() == COUNTS.tolist()
    load_human_answers("cifar10h", root, False, lambda text: asked.append((text, -1)))
    assert len(asked) == len(served.ranges) == 1


def test_another_file_is_refused_by_its_digest(published: Path) -> None:
    np.save(published / "cifar10h-counts.npy", COUNTS + 1)
    with pytest.raises(ValueError, match=r"is not CIFAR-10H .* as published: its sha256 is"):
        load_human_answers("cifar10h", published)


@pytest.mark.parametrize(
    "table, message",
    [
        (COUNTS[:3], r"shape \(3, 3\); expected 4 x 3"),
        (COUNTS[:, :2], r"shape \(4, 2\); expected 4 x 3"),
        (COUNTS - 1, "whole numbers of 0 or more"),
        (COUNTS / 2, "whole numbers of 0 or more"),
        (COUNTS * np.nan, "whole numbers of 0 or more"),
        (COUNTS * [[0], [1], [1], [1]], "image 0 has 0 answers"),
        (COUNTS.astype(str), "expected whole numbers"),
    ],
)
def test_a_table_that_is_no_counts_is_refused(
    published: Path, monkeypatch: pytest.MonkeyPatch, table: np.ndarray, message: str
) -> None:
    np.save(published / "cifar10h-counts.npy", table)
    monkeypatch.undo()
    publish(published, monkeypatch)
    with pytest.raises(ValueError, match=message):
        load_human_answers("cifar10h", published)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"random_label2": np.arange(3)}, "no column 'random_label2' of 4 classes"),
        ({"random_label3": np.array([0, 1, 2, 3])}, r"outside of 0\.\.2"),
        ({"clean_label": np.array([0.0, 1, 2, 2])}, "not of integers"),
    ],
)
def test_a_table_without_the_columns_is_refused(
    published: Path, monkeypatch: pytest.MonkeyPatch, changes: dict, message: str
) -> None:
    write_table(published / "CIFAR-10_human.pt", **changes)
    monkeypatch.undo()
    publish(published, monkeypatch)
    with pytest.raises(ValueError, match=message):
        load_human_answers("cifar10n", published)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('it ran')",))


@pytest.mark.parametrize("cut", [0, 100])
def test_nothing_of_a_hostile_or_damaged_file_is_run(
    published: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    file = io.BytesIO()
    torch.save({"clean_label": Bomb()}, file)
    (published / "CIFAR-10_human.pt").write_bytes(file.getvalue()[cut:])
    monkeypatch.undo()
    publish(published, monkeypatch)
    with pytest.raises(ValueError, match=r"human\.pt.*(damaged|nothing of it was run)"):
        load_human_answers("cifar10n", published)


def test_an_unknown_name_is_answered_by_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no human answers 'cifar10hh'.*'cifar10h'"):
        load_human_answers("cifar10hh", tmp_path)


def made() -> HumanAnswers:
    return HumanAnswers(torch.from_numpy(COUNTS).long(), "made", "", "unspecified", "", CLASSES)


def test_answers_are_picked_by_the_ids_of_the_images() -> None:
    found = match_answers(made(), torch.tensor([2, 0]), [3, 0], CLASSES)
    assert found.counts.tolist() == [COUNTS[3].tolist(), COUNTS[0].tolist()]


@pytest.mark.parametrize(
    "labels, ids, classes, message",
    [
        ([1, 2, 0, 0], [0, 1, 2, 3], CLASSES, "different orders: .* label of 0%"),
        ([0, 1], [3, 4], CLASSES, "ids up to 4"),
        ([0, 1], [0, 1], ("a", "b", "c"), "classes are a, b, c"),
        ([0, 3], [0, 1], (), "have 4 classes, and made 3"),
    ],
)
def test_answers_about_other_images_are_refused(
    labels: list[int], ids: list[int], classes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        match_answers(made(), torch.tensor(labels), ids, classes)


def test_a_column_beside_the_classes_is_refused() -> None:
    counts = torch.tensor(np.c_[COUNTS, [1, 0, 0, 0]].astype(np.int64))  # "cannot tell"
    answers = HumanAnswers(counts, "mine", "", "", "", (), None)
    with pytest.raises(ValueError, match="the images have 3 classes, and mine 4"):
        match_answers(answers, torch.tensor(LABELS), range(4), CLASSES)


def test_labels_of_the_file_must_be_those_of_the_images(published: Path) -> None:
    answers = load_human_answers("cifar10n", published)
    assert len(match_answers(answers, torch.tensor(LABELS), range(4), CLASSES)) == 4
    with pytest.raises(ValueError, match="different orders"):
        match_answers(answers, torch.tensor([0, 1, 2, 0]), range(4), CLASSES)


@pytest.mark.skipif("SCOREAG_SHARED" not in os.environ, reason="needs the published files")
def test_published_files_agree_with_the_official_labels() -> None:
    shared = Path(os.environ["SCOREAG_SHARED"])
    labels = load_human_answers("cifar10n", shared / "humans").labels
    assert labels is not None
    folder = shared / "data" / "cifar-10-batches-bin"
    records = [np.fromfile(folder / f"data_batch_{i}.bin", np.uint8) for i in range(1, 6)]
    assert labels.tolist() == np.concatenate(records).reshape(-1, 3073)[:, 0].tolist()
    shown = np.fromfile(folder / "test_batch.bin", np.uint8).reshape(-1, 3073)[:, 0]
    answers = load_human_answers("cifar10h", shared / "humans")
    agreement = (answers.counts.argmax(1).numpy() == shown).mean()
    assert agreement == pytest.approx(0.992, abs=5e-4)  # as Peterson et al. report
