"""Of CIFAR-10's archive only the expected files are unpacked, whatever it holds."""

import hashlib
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cifar_files import FILES, write_binary
from file_server import Served
from scoreag.data import loading as data
from scoreag.data.cifar import CIFAR10


@pytest.fixture(autouse=True)
def root(tmp_path: Path) -> Path:
    """An empty folder for the files."""
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def official(change: Callable[[tarfile.TarInfo], tarfile.TarInfo | None], folder: Path) -> bytes:
    """An archive of the official names, beside one that leads out of its folder."""
    write_binary(folder)
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as tar:
        tar.add(folder, "cifar-10-batches-bin", filter=change)
        for name in ("../escaped.bin", "cifar-10-batches-bin/readme.html"):
            tar.addfile(tarfile.TarInfo(name))
    return held.getvalue()


def serve(archive: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "cifar-10-binary.tar.gz"
    (folder / name).write_bytes(archive)
    monkeypatch.setitem(CIFAR10.digests, name, "md5:" + hashlib.md5(archive).hexdigest())


def test_the_archive_is_fetched_where_there_is_none(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(official(lambda member: member, tmp_path / "made"), served.folder, monkeypatch)
    fetched = data.load_dataset("cifar10:train", tmp_path / "root")
    assert fetched.sha256 == data.load_dataset("cifar10:train", tmp_path / "made").sha256
    names = [*(f"{name}.bin" for name in FILES), "batches.meta.txt"]
    assert os.listdir(tmp_path / "root") == ["cifar-10-batches-bin"]
    assert sorted(os.listdir(tmp_path / "root" / "cifar-10-batches-bin")) == sorted(names)
    assert not (tmp_path / "escaped.bin").exists()


def test_without_a_root_it_goes_to_the_cache(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(official(lambda member: member, tmp_path / "made"), served.folder, monkeypatch)
    assert len(data.load_dataset("cifar10:test")) == 4
    assert (tmp_path / "cache" / "cifar-10-batches-bin" / "test_batch.bin").is_file()


def test_an_archive_brought_by_hand_is_unpacked_and_kept(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(official(lambda member: member, tmp_path / "made"), served.folder, monkeypatch)
    (served.folder / "cifar-10-binary.tar.gz").rename(tmp_path / "root" / "cifar-10-binary.tar.gz")
    assert len(data.load_dataset("cifar10:test", tmp_path / "root")) == 4
    assert (tmp_path / "root" / "cifar-10-binary.tar.gz").exists()


def test_links_in_an_archive_are_not_followed(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def linked(member: tarfile.TarInfo) -> tarfile.TarInfo:
        if member.name.endswith("test_batch.bin"):
            member.type, member.linkname, member.size = tarfile.SYMTYPE, "/etc/passwd", 0
        return member

    serve(official(linked, tmp_path / "made"), served.folder, monkeypatch)
    with pytest.raises(ValueError, match=r"lacks test_batch\.bin"):
        data.load_dataset("cifar10:test", tmp_path / "root")
    assert not os.path.lexists(tmp_path / "root" / "cifar-10-batches-bin" / "test_batch.bin")
