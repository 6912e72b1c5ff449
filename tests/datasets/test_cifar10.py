"""CIFAR-10's two official layouts give the same images; its archive is fetched where there is none.

The files here are the test's own: batches of 4 images, but for those that are sparse.
"""

import functools
import hashlib
import io
import os
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from scoreag import data
from scoreag.datasets import cifar10

FILES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
RED, GREEN, BLUE = 0, 1024, 2048  # where the planes of an image begin


def batch(number: int) -> tuple[list[int], bytes]:
    """Labels and pixels of 4 images, other ones for each file."""
    pixels = np.random.default_rng(number).integers(0, 256, (4, 3072), np.uint8)
    return [(number + i) % 10 for i in range(4)], pixels.tobytes()


def write_binary(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number, name in enumerate(FILES):
        labels, pixels = batch(number)
        records = [bytes([y]) + pixels[i * 3072 : (i + 1) * 3072] for i, y in enumerate(labels)]
        (folder / f"{name}.bin").write_bytes(b"".join(records))
    (folder / "batches.meta.txt").write_text("airplane\n")


def python2(labels: list[int], pixels: bytes) -> bytes:
    """{"labels": [...], "data": array} as Python 2 pickled it, in the official files' opcodes."""
    numbers = b"".join(b"K" + bytes([label]) for label in labels)
    shape = struct.pack("<cHcHc", b"M", len(labels), b"M", 3072, b"\x86")
    unset = b"J\xff\xff\xff\xff"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN" + unset * 2 + b"K\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    content = b"T" + struct.pack("<i", len(pixels)) + pixels
    state = b"(K\x01" + shape + dtype + b"\x89" + content + b"tb"
    return b"\x80\x02}(U\x06labels](" + numbers + b"eU\x04data" + array + state + b"u."


def write_python(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number, name in enumerate(FILES):
        (folder / name).write_bytes(python2(*batch(number)))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cifar10, "_IMAGES", 4)
    monkeypatch.setenv("SCOREAG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SCOREAG_CIFAR10_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("SCOREAG_DATA", raising=False)


WRITERS = {"cifar-10-batches-bin": write_binary, "cifar-10-batches-py": write_python}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("inside", ["", "official"])
@pytest.mark.usefixtures("small")
def test_both_layouts_hold_the_planes_and_labels_as_written(
    tmp_path: Path, name: str, inside: str
) -> None:
    WRITERS[name](tmp_path / "root" / (name if inside else ""))
    train = data.read("cifar10:train", tmp_path / "root")
    assert train.images.shape == (20, 3, 32, 32)
    assert train.labels is not None
    assert train.labels.tolist() == [0, 1, 2, 3, 1, 2, 3, 4, 2, 3, 4, 5, 3, 4, 5, 6, 4, 5, 6, 7]
    image = batch(2)[1][3 * 3072 : 4 * 3072]  # the last of the third file
    assert train.images[11, :, 1, 2].tolist() == [image[p + 32 + 2] for p in (RED, GREEN, BLUE)]


@pytest.mark.usefixtures("small")
def test_both_layouts_give_the_same_tensors(tmp_path: Path) -> None:
    for name, write in WRITERS.items():
        write(tmp_path / name[-3:] / name)
    binary, python = (data.read("cifar10:train[2:11]", tmp_path / n) for n in ("bin", "-py"))
    assert torch.equal(binary.images, python.images)
    assert binary.sha256 == python.sha256
    assert binary.image_ids == python.image_ids == tuple(range(2, 11))


@pytest.mark.usefixtures("small")
def test_only_the_files_of_the_range_are_read(tmp_path: Path) -> None:
    write_binary(tmp_path / "root")
    for name in ("data_batch_1", "data_batch_3", "data_batch_4"):
        (tmp_path / "root" / f"{name}.bin").write_bytes(b"")
    assert data.read("cifar10:train[4:8]", tmp_path / "root").image_ids == (4, 5, 6, 7)


@pytest.mark.parametrize("first, last", [(0, 1), (3, 5), (9, 15), (14, 15), (17, 20)])
@pytest.mark.usefixtures("small")
def test_a_range_across_files_has_the_pixels_of_its_positions(
    tmp_path: Path, first: int, last: int
) -> None:
    write_binary(tmp_path / "root")
    came = data.read(f"cifar10:train[{first}:{last}]", tmp_path / "root")
    whole = b"".join(batch(number)[1] for number in range(5))
    assert came.images.numpy().tobytes() == whole[first * 3072 : last * 3072]


@pytest.mark.usefixtures("small")
def test_the_environment_says_where_the_files_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_binary(tmp_path / "cifar-10-batches-bin")
    monkeypatch.setenv("SCOREAG_DATA", str(tmp_path))
    assert len(data.read("cifar10")) == 4  # the test split, where none is named


def test_the_official_size_has_10_000_images_a_file(tmp_path: Path) -> None:
    with (tmp_path / "test_batch.bin").open("wb") as file:
        file.truncate(30_730_000)  # sparse: images of zeros
        file.seek(9_999 * 3073)
        file.write(b"\x07\xff")
    last = data.read("cifar10:test[9999]", tmp_path)
    assert last.labels is not None
    assert last.labels.tolist() == [7]
    assert last.images.nonzero().tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize("size", [0, 30_729_999, 30_730_000 - 3073, 30_730_001])
def test_a_file_of_another_size_is_refused_in_one_line(tmp_path: Path, size: int) -> None:
    with (tmp_path / "test_batch.bin").open("wb") as file:
        file.truncate(size)
    fault = rf"^\S+test_batch\.bin has {size:,} bytes, not 30,730,000 [^\n]*remove it[^\n]*$"
    with pytest.raises(ValueError, match=fault):
        data.read("cifar10:test[0:2]", tmp_path)


@pytest.mark.usefixtures("small")
def test_a_label_above_9_is_refused_with_its_place(tmp_path: Path) -> None:
    write_binary(tmp_path / "root")
    with (tmp_path / "root" / "test_batch.bin").open("r+b") as file:
        file.seek(2 * 3073)
        file.write(b"\x0b")
    with pytest.raises(ValueError, match=r"its image 2 has the label 11, not 0\.\.9"):
        data.read("cifar10:test[1:4]", tmp_path / "root")


def _spoiled(kind: str) -> bytes:
    labels, pixels = batch(5)
    return {
        "cut": python2(labels, pixels)[:-500],
        "short": python2(labels[:3], pixels[: 3 * 3072]),
        "code": python2(labels, pixels)[:-1] + b"cposix\nsystem\nU\x04true\x85R.",
        "list": b"].",
    }[kind]


@pytest.mark.parametrize(
    "kind, fault",
    [
        ("cut", "is no plain pickle"),
        ("short", r"is no official batch: data \(3, 3072\) uint8"),
        ("code", r"it asks for posix\.system; nothing of it was run"),
        ("list", "is no official batch"),
    ],
)
@pytest.mark.usefixtures("small")
def test_a_spoiled_pickle_is_refused_in_one_line(tmp_path: Path, kind: str, fault: str) -> None:
    (tmp_path / "test_batch").write_bytes(_spoiled(kind))
    with pytest.raises(ValueError, match=rf"^\S+test_batch [^\n]*{fault}[^\n]*$"):
        data.read("cifar10:test", tmp_path)


@pytest.mark.usefixtures("small")
def test_an_unknown_split_gets_a_hint(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no split 'tets'; did you mean 'test'"):
        data.read("cifar10:tets", tmp_path)


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
    (tmp_path / "root").mkdir()
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
    with pytest.raises(ConnectionError, match=r"put it at \S+/root/cifar-10-binary\.tar\.gz"):
        data.read("cifar10:test", tmp_path / "root")
    assert os.listdir(tmp_path / "root") == []
