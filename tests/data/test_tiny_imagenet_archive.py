"""The zip is read as the standard library writes it; a damaged one is refused."""

import struct
import zipfile
from pathlib import Path

import pytest

from official_files import tiny, write_tiny_zip
from scoreag.data import loading as data
from scoreag.data.tiny_imagenet import MAX_MEMBER_BYTES
from scoreag.io.bounded import open_zip_archive, read_zip_member

MEMBERS = {"a/ä.txt": b"first" * 100, "b": b"", "c/d": bytes(range(256))}


def read(archive: zipfile.ZipFile, name: str) -> bytearray:
    return read_zip_member(archive, name, MAX_MEMBER_BYTES)


def write(path: Path, method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.comment = comment
        for name, data in MEMBERS.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("comment", [b"", b"x" * 0xFFFF])
def test_members_are_those_that_were_written(tmp_path: Path, method: int, comment: bytes) -> None:
    archive = open_zip_archive(write(tmp_path / "a.zip", method, comment))
    assert {name: read(archive, name) for name in archive.namelist()} == MEMBERS


def test_a_member_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no item named 'e'"):
        read(open_zip_archive(write(tmp_path / "a.zip")), "e")


def test_members_written_to_a_pipe_are_read(tmp_path: Path) -> None:
    """Their sizes are not before them, only in the list."""

    class Pipe:
        def __init__(self, path: Path) -> None:
            self.file = path.open("wb")
            self.write, self.flush = self.file.write, self.file.flush

    pipe = Pipe(tmp_path / "a.zip")
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[call-overload]
        archive.writestr("a", b"content")
    pipe.file.close()
    assert read(open_zip_archive(tmp_path / "a.zip"), "a") == b"content"


def test_more_than_65535_members_are_all_listed(tmp_path: Path) -> None:
    """Their count has 16 bits; an entry is 46 bytes and the name, here of empty files at 0."""
    names = [b"%d" % i for i in range(66_000)]
    head = [b"PK\1\2", 20, 20, *[0] * 7]
    whole = b"".join(struct.pack("<4s6H3I5H2I", *head, len(n), *[0] * 6) + n for n in names)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(whole), 0, 0)
    (tmp_path / "a.zip").write_bytes(whole + end)
    archive = open_zip_archive(tmp_path / "a.zip")
    assert archive.namelist() == [name.decode() for name in names]


def test_a_list_whose_place_is_told_in_64_bits_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip")
    raw = path.read_bytes()
    end = raw.rfind(b"PK\5\6")
    length, place = struct.unpack_from("<II", raw, end + 12)
    long = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 3, 3, length, place)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    short = raw[end : end + 8] + b"\xff" * 12 + raw[end + 20 :]
    path.write_bytes(raw[:end] + long + locator + short)
    archive = open_zip_archive(path)
    assert {name: read(archive, name) for name in archive.namelist()} == MEMBERS


@pytest.mark.parametrize(
    "spoil, fault",
    [
        (lambda raw: b"", "File is not a zip file"),
        (lambda raw: raw[:-40], "File is not a zip file"),
        (lambda raw: raw[-60:], "Bad (offset|magic number) for central directory"),
        (lambda raw: raw.replace(b"PK\1\2", b"PK\1\3"), "Bad magic number for central directory"),
        (
            lambda raw: raw[:-12] + b"\xff" * 8 + raw[-4:],
            "Bad (offset|magic number) for central directory",
        ),
    ],
)
@pytest.mark.usefixtures("offline")
def test_a_damaged_archive_is_refused_in_one_line(tmp_path: Path, spoil, fault: str) -> None:
    path = tmp_path / "tiny-imagenet-200.zip"
    path.write_bytes(spoil(write(path).read_bytes()))
    match = rf"^{path} is no whole zip archive: [^\n]*{fault}; remove it, and it is fetched again$"
    with pytest.raises(ValueError, match=match):
        data.load_dataset("tiny-imagenet:val", tmp_path)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.usefixtures("offline")
def test_a_member_whose_checksum_does_not_hold_is_refused(tmp_path: Path, method: int) -> None:
    write_tiny_zip(tmp_path, tiny(), method)
    path = tmp_path / "tiny-imagenet-200.zip"
    raw = bytearray(path.read_bytes())
    name = b"val/images/val_0.JPEG"
    raw[raw.index(name) + len(name) + 300] ^= 1
    path.write_bytes(raw)
    with pytest.raises(
        ValueError, match=rf"^{path}: its member \S+val_0\.JPEG' is damaged: [^\n]+$"
    ):
        data.load_dataset("tiny-imagenet:val", tmp_path)
    assert len(data.load_dataset("tiny-imagenet:val[1:]", tmp_path)) == 2


def test_another_packing_is_refused(tmp_path: Path) -> None:
    archive = open_zip_archive(write(tmp_path / "a.zip", zipfile.ZIP_BZIP2))
    with pytest.raises(ValueError, match=r"member 'c/d' is damaged: it is packed by method 12"):
        read(archive, "c/d")
