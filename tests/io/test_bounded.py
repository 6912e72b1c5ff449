"""What a file claims is checked before room is made for it."""

import os
import socket
import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from scoreag.io.bounded import (
    get_file_size,
    inflate,
    open_zip_archive,
    parse_json,
    parse_toml,
    read_bytes,
    read_text,
    read_zip_member,
)
from scoreag.registry import did_you_mean, short_repr, truncate_text


def special(kind: str, path: Path) -> Path:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with socket.socket(socket.AF_UNIX) as made:
            os.chdir(path.parent)
            made.bind(path.name)
    return path


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "socket"])
def test_what_is_no_plain_file_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = special(kind, tmp_path / "a")
    for read in (get_file_size, read_bytes, read_text, open_zip_archive):
        with pytest.raises(ValueError, match=rf"^\S+/a is a {kind}; expected a plain file$"):
            read(path)


def test_files_longer_than_expected_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bytes(tmp_path / "a", 5) == b"12345"
    with pytest.raises(ValueError, match="a has 5 bytes; expected 4 at most"):
        read_bytes(tmp_path / "a", 4)
    (tmp_path / "a").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="a is no text in UTF-8: invalid start byte at 0"):
        read_text(tmp_path / "a")


def test_text_that_nests_without_end_is_refused() -> None:
    for text in ("[" * 100_000, '{"a":' * 100_000):
        with pytest.raises(ValueError, match="nests too deeply"):
            parse_json(text)
    with pytest.raises(ValueError, match="nests too deeply"):
        parse_toml("a = " + "[" * 100_000)
    assert parse_toml("[a.b]\nc = [1.5]") == {"a": {"b": {"c": [1.5]}}}


@pytest.mark.parametrize(
    "text",
    [
        ".".join(["a"] * 200_000) + " = 1",
        "\n".join(f"[{'a.' * 300}x{i}]" for i in range(900)),
        f"[{'a.' * 300}x]\n" + "\n".join(f"k{i} = 1" for i in range(90_000)),
    ],
    ids=["key", "heads", "below a head"],
)
def test_keys_of_thousands_of_parts_are_refused_before_hours_of_work(text: str) -> None:
    with pytest.raises(ValueError, match="lines with too many dots"):
        parse_toml(text)


def test_packed_bytes_unpack_within_their_bound() -> None:
    machine = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = machine.compress(b"\0" * 100_000) + machine.flush()
    assert inflate(packed, 100_000) == b"\0" * 100_000
    for data, at_most, told in (
        (packed, 99_999, "it unpacks to more than 99,999 bytes"),
        (packed[:-5], 100_000, "break off"),
        (b"\xff" * 9, 100, "invalid"),
    ):
        with pytest.raises(ValueError, match=told):
            inflate(data, at_most)


def written(path: Path, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    with zipfile.ZipFile(path, "w", method) as made:
        made.writestr("a", b"\0" * 1_000_000)
    return path.read_bytes()


def test_a_member_is_read_within_its_bound(tmp_path: Path) -> None:
    written(tmp_path / "a.zip")
    with open_zip_archive(tmp_path / "a.zip") as opened:
        assert read_zip_member(opened, "a", 1_000_000) == b"\0" * 1_000_000
        with pytest.raises(ValueError, match="'a' is damaged: it unpacks to 1,000,000 bytes; exp"):
            read_zip_member(opened, "a", 999_999)
        with pytest.raises(ValueError, match="'b' is damaged"):
            read_zip_member(opened, "b", 10)


@pytest.mark.parametrize(
    ("what", "at", "value"),
    [("encrypted", 8, 1), ("of another method", 10, 14), ("of another method", 10, 99)],
)
def test_members_that_are_not_read_are_refused(
    tmp_path: Path, what: str, at: int, value: int
) -> None:
    """The flags and the method stand at 8 and 10 of an entry in the list of members."""
    data = bytearray(written(tmp_path / "a.zip"))
    struct.pack_into("<H", data, data.index(b"PK\1\2") + at, value)
    (tmp_path / "a.zip").write_bytes(data)
    with (
        open_zip_archive(tmp_path / "a.zip") as opened,
        pytest.raises(ValueError, match="or encrypted"),
    ):
        read_zip_member(opened, "a", 1_000_000)


def test_a_member_that_unpacks_to_more_than_it_says_is_refused(tmp_path: Path) -> None:
    data = bytearray(written(tmp_path / "a.zip"))
    struct.pack_into("<I", data, data.index(b"PK\1\2") + 24, 10)
    (tmp_path / "a.zip").write_bytes(data)
    with (
        open_zip_archive(tmp_path / "a.zip") as opened,
        pytest.raises(ValueError, match="'a' is damaged"),
    ):
        read_zip_member(opened, "a", 1_000_000)


def test_messages_are_one_line_whatever_they_quote() -> None:
    bomb: list[object] = ["x" * 10_000]
    for _ in range(60):
        bomb = [bomb, bomb]
    assert len(short_repr(bomb)) <= 100
    assert len(short_repr("x" * 1_000_000)) <= 100 and short_repr([1, "a"]) == "[1, 'a']"
    told = truncate_text("begins\n" + "x" * 1_000_000 + "\x1b[2J ends", 500)
    assert len(told) <= 500 and told.startswith("begins x") and told.endswith("\\x1b[2J ends")
    assert truncate_text(" a \n b ", 500) == "a b"
    words = [f"word{i}" * 100 for i in range(20_000)]
    assert len(did_you_mean("x" * 100_000, words)) <= 320
    assert did_you_mean("pgb", ["pgd", "fgsm"]) == "did you mean 'pgd'?"
