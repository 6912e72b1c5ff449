"""CIFAR-10's archive is fetched where there is none: from a server of this machine."""

import functools
import hashlib
import io
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cifar_files import FILES, write_binary
from scoreag import dataset as data
from scoreag.datasets import cifar10


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


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: None) -> Iterator[Path]:
    """A folder that a server on this machine offers as CIFAR-10's address."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("SCOREAG_CIFAR10_URL", f"http://127.0.0.1:{http.server_port}/")
        yield folder
        http.shutdown()
        thread.join()


def serve(archive: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "cifar-10-binary.tar.gz").write_bytes(archive)
    monkeypatch.setattr(cifar10, "DIGEST", "md5:" + hashlib.md5(archive).hexdigest())


def test_the_archive_is_fetched_where_there_is_none(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(official(lambda member: member, tmp_path / "made"), served, monkeypatch)
    fetched = data.read("cifar10:train", tmp_path / "root")
    assert fetched.sha256 == data.read("cifar10:train", tmp_path / "made").sha256
    names = [*(f"{name}.bin" for name in FILES), "batches.meta.txt"]
    assert os.listdir(tmp_path / "root") == ["cifar-10-batches-bin"]
    assert sorted(os.listdir(tmp_path / "root" / "cifar-10-batches-bin")) == sorted(names)
    assert not (tmp_path / "escaped.bin").exists()


def test_without_a_root_it_goes_to_the_cache(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(official(lambda member: member, tmp_path / "made"), served, monkeypatch)
    assert len(data.read("cifar10:test")) == 4
    assert (tmp_path / "cache" / "cifar-10-batches-bin" / "test_batch.bin").is_file()


def test_an_archive_brought_by_hand_is_unpacked_and_kept(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(official(lambda member: member, tmp_path / "made"), served, monkeypatch)
    (served / "cifar-10-binary.tar.gz").rename(tmp_path / "root" / "cifar-10-binary.tar.gz")
    assert len(data.read("cifar10:test", tmp_path / "root")) == 4
    assert (tmp_path / "root" / "cifar-10-binary.tar.gz").exists()


def test_an_archive_of_other_content_is_refused(served: Path, tmp_path: Path) -> None:
    (served / "cifar-10-binary.tar.gz").write_bytes(b"another")
    with pytest.raises(ValueError, match="expected the md5 c32a1d4ab5d03f1284b67883e8d87530"):
        data.read("cifar10:test", tmp_path / "root")
    assert os.listdir(tmp_path / "root") == []


def test_links_in_an_archive_are_not_followed(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def linked(member: tarfile.TarInfo) -> tarfile.TarInfo:
        if member.name.endswith("test_batch.bin"):
            member.type, member.linkname, member.size = tarfile.SYMTYPE, "/etc/passwd", 0
        return member

    serve(official(linked, tmp_path / "made"), served, monkeypatch)
    with pytest.raises(ValueError, match=r"lacks test_batch\.bin"):
        data.read("cifar10:test", tmp_path / "root")
    assert not os.path.lexists(tmp_path / "root" / "cifar-10-batches-bin" / "test_batch.bin")


@pytest.mark.usefixtures("small")
def test_without_a_network_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(
        ConnectionError,
        match=r"^no CIFAR-10 files in \S+root, .* put it at \S+/root/cifar-10-b",
    ):
        data.read("cifar10:test", tmp_path / "root")
    assert os.listdir(tmp_path / "root") == []


@pytest.mark.usefixtures("small")
def test_a_mistyped_root_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no folder '\S+/rot'; give as --root"):
        data.read("cifar10:test", tmp_path / "rot")
    assert not (tmp_path / "rot").exists()


@pytest.mark.usefixtures("small")
def test_a_cache_is_not_made_before_anything_comes(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        data.read("cifar10:test")
    assert not (tmp_path / "cache").exists()
