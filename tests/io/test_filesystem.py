"""Files are whole or absent, and nothing that is read runs code."""

import errno
import os
import pickle
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from scoreag.io.filesystem import (
    atomic_write,
    cache_folder,
    data_folder,
    file_hash,
    find_temp_files,
    write_text,
)
from scoreag.io.safe_unpickler import load_pickle, load_tensors


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The kernel refuses longer files, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_text_is_written_in_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "é ≤ 2\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xa9 \xe2\x89\xa4 2\n"


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with files_of_at_most(1000), pytest.raises(OSError) as raised:
        write_text(path, "x" * 100_000)
    assert raised.value.errno == errno.EFBIG
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def write(aside: Path) -> None:
        aside.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic_write(tmp_path / "a.txt", write)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("folder", ["missing", "a_file"])
def test_an_unwritable_folder_is_named_with_the_file_that_was_asked_for(
    tmp_path: Path, folder: str
) -> None:
    (tmp_path / "a_file").write_text("")
    path = tmp_path / folder / "a.txt"
    with pytest.raises(OSError) as raised:
        write_text(path, "x")
    assert raised.value.filename == str(path)
    assert "\n" not in str(raised.value)


def test_a_read_only_folder_is_refused(locked: Path) -> None:
    with pytest.raises(PermissionError, match=r"a\.txt"):
        write_text(locked / "a.txt", "x")
    assert not list(locked.iterdir())


def test_an_error_about_another_file_keeps_its_name(tmp_path: Path) -> None:
    def write(aside: Path) -> None:
        aside.write_bytes((tmp_path / "source").read_bytes())

    with pytest.raises(FileNotFoundError, match="source"):
        atomic_write(tmp_path / "a.txt", write)


def test_digests_are_those_of_the_standards(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")  # FIPS 180-2, appendix B.1; RFC 1321, appendix A.5
    assert file_hash(tmp_path / "a", "md5") == "900150983cd24fb0d6963f7d28e17f72"
    assert file_hash(tmp_path / "a", "sha256").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_the_cache_is_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCOREAG_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("SCOREAG_CACHE")
    monkeypatch.setenv("HOME", "/home/reader")
    assert cache_folder() == Path("/home/reader/.cache/scoreag")


class Harmful:
    """Unpickling it would make the folder ``came``."""

    def __init__(self, came: Path) -> None:
        self.came = came

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.came),)


def test_code_in_a_pickle_is_refused_by_name_and_not_run(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(pickle.dumps({"data": Harmful(tmp_path / "came")}))
    with pytest.raises(ValueError, match=r"asks for posix\.mkdir; nothing of it was run"):
        load_pickle(tmp_path / "a")
    assert not (tmp_path / "came").exists()


@pytest.mark.parametrize(
    "code",
    [
        b"cbuiltins\neval\n(U\x011tR.",
        b"(ibuiltins\ngetattr\n.",
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.",
        b"cnumpy\nload\n.",
        b"cnumpy\ndtype.type\n.",
        b"cscoreag.io.filesystem\nwrite_text\n.",
    ],
    ids=["global", "inst", "stack-global", "numpy-load", "dotted", "own"],
)
def test_every_way_to_name_a_function_is_refused(tmp_path: Path, code: bytes) -> None:
    (tmp_path / "a").write_bytes(code)
    with pytest.raises(ValueError, match="it asks for"):
        load_pickle(tmp_path / "a")


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", ["u1", "<i8", ">i4"])
def test_arrays_come_out_of_every_protocol_as_they_went_in(
    tmp_path: Path, protocol: int, kind: str
) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(kind)
    content = {"rows": array, "columns": np.asfortranarray(array), b"text": ["é", 7, None, b"\xff"]}
    (tmp_path / "a").write_bytes(pickle.dumps(content, protocol))
    came = load_pickle(tmp_path / "a")
    np.testing.assert_array_equal(came["rows"], array, strict=True)
    np.testing.assert_array_equal(came["columns"], array, strict=True)
    assert came[b"text"] == ["é", 7, None, b"\xff"]


def test_an_array_of_objects_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(pickle.dumps(np.array([1, "x", None], dtype=object)))
    with pytest.raises(ValueError, match="no plain pickle"):
        load_pickle(tmp_path / "a")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.99])
def test_a_cut_pickle_is_refused_in_one_line(tmp_path: Path, share: float) -> None:
    whole = pickle.dumps({"data": np.zeros((4, 5), np.uint8), "labels": [1, 2]}, 2)
    (tmp_path / "a").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"^\S+ is no plain pickle: [^\n]*$"):
        load_pickle(tmp_path / "a")


def test_tensors_come_back_as_saved(tmp_path: Path) -> None:
    torch.save({"weight": torch.arange(3.0)}, tmp_path / "a.pt")
    assert load_tensors(tmp_path / "a.pt")["weight"].tolist() == [0.0, 1.0, 2.0]


def _damaged(kind: str, folder: Path) -> bytes:
    torch.save({"weight": torch.zeros(1000)}, folder / "whole")
    whole = (folder / "whole").read_bytes()
    return {
        "cut": whole[:2000],
        "page": b"<!DOCTYPE html><html>404</html>",
        "empty": b"",
        "new": pickle.dumps({"weight": 1}, 4),
        "code": pickle.dumps(Harmful(folder / "came"), 2),
    }[kind]


REFUSALS = {
    "cut": "it is damaged; fetch it again",
    "page": "it was not written by torch.save; fetch it again",
    "empty": "it is damaged; fetch it again",
    "new": "it was not written by torch.save; fetch it again",
    "code": "it holds posix.mkdir, not only tensors; save its state_dict()",
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_damaged_file_of_tensors_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.pt").write_bytes(_damaged(kind, tmp_path))
    with pytest.raises(ValueError) as caught:
        load_tensors(tmp_path / "a.pt")
    said = f"{tmp_path / 'a.pt'} is no whole file of tensors: {REFUSALS[kind]}"
    assert str(caught.value) == said and caught.value.__suppress_context__
    assert not (tmp_path / "came").exists()


def test_official_files_are_where_root_says_else_the_variable_else_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("root", "variable"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("SCOREAG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SCOREAG_DATA", "")
    assert data_folder(None, "CIFAR-10") == tmp_path / "cache"
    monkeypatch.setenv("SCOREAG_DATA", str(tmp_path / "variable"))
    assert data_folder(None, "CIFAR-10") == tmp_path / "variable"
    assert data_folder(tmp_path / "root", "CIFAR-10") == tmp_path / "root"


@pytest.mark.parametrize("word", ["--data-dir", "SCOREAG_DATA"])
def test_a_folder_of_official_files_that_is_not_there_is_refused_by_who_named_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    missing = tmp_path / "typo"
    monkeypatch.setenv("SCOREAG_DATA", str(tmp_path if word == "--data-dir" else missing))
    with pytest.raises(ValueError, match=rf"^no folder '\S+/typo'; give as {word} the one with C"):
        data_folder(missing if word == "--data-dir" else None, "CIFAR-10")


def test_what_killed_writes_left_is_known_by_its_number(tmp_path):
    for name in (".a.png.123", ".a.png.x", "a.png", ".b.txt.7"):
        (tmp_path / name).touch()
    assert [path.name for path in find_temp_files(tmp_path, "*.png")] == [".a.png.123"]
    assert find_temp_files(tmp_path, "nowhere/*.png") == []
