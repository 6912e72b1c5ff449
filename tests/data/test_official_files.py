"""Every data set that is published as files is fetched where there are none, or nothing is."""

import hashlib
import io
import os
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from cifar_files import write_binary
from file_server import Served
from official_files import tiny, write_cifar100_binary, write_fashion, write_tiny_zip
from scoreag.data import loading as data
from scoreag.data.source import OfficialDataset
from scoreag.registry import load_component


@dataclass(frozen=True)
class Kind:
    """A data set: how its files are written, and what is fetched in which place of the root."""

    spec: str
    title: str
    write: Callable[[Path], None]
    places: dict[str, str]
    left: list[str]

    @property
    def official(self) -> OfficialDataset:
        return load_component("datasets", self.spec.partition(":")[0])


def _tar(write: Callable[[Path], None], name: str, archive: str) -> Callable[[Path], None]:
    def packed(folder: Path) -> None:
        write(folder / name)
        with tarfile.open(folder / archive, "w:gz") as tar:
            tar.add(folder / name, name)

    return packed


_TENS, _HUNDREDS = "cifar-10-binary.tar.gz", "cifar-100-binary.tar.gz"
_ZIP = "tiny-imagenet-200.zip"
_TEST = ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]
KINDS = [
    Kind(
        "cifar10:test", "CIFAR-10", _tar(write_binary, "cifar-10-batches-bin", _TENS),
        {_TENS: _TENS}, ["cifar-10-batches-bin"],
    ),
    Kind(
        "cifar100:test", "CIFAR-100",
        _tar(write_cifar100_binary, "cifar-100-binary", _HUNDREDS),
        {_HUNDREDS: _HUNDREDS}, ["cifar-100-binary"],
    ),
    Kind(
        "tiny-imagenet:val", "Tiny ImageNet",
        lambda folder: write_tiny_zip(folder, tiny()), {_ZIP: _ZIP}, [_ZIP],
    ),
    Kind(
        "fashion-mnist:test", "Fashion-MNIST",
        lambda folder: write_fashion(folder, packed=True),
        {name: f"fashion-mnist/{name}" for name in _TEST}, ["fashion-mnist"],
    ),
]  # fmt: skip


@pytest.fixture(params=KINDS, ids=lambda kind: kind.spec)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture
def offered(kind: Kind, served: Served, monkeypatch: pytest.MonkeyPatch) -> Served:
    """The server has the files, and their digests are taken for the official ones."""
    kind.write(served.folder)
    for name, place in kind.places.items():
        digest = hashlib.md5((served.folder / name).read_bytes()).hexdigest()
        assert place in kind.official.digests
        monkeypatch.setitem(kind.official.digests, place, f"md5:{digest}")
    return served


@pytest.fixture(autouse=True)
def root(tmp_path: Path) -> Path:
    """An empty folder for the files."""
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def test_files_are_fetched_where_there_are_none(kind: Kind, offered: Served, root: Path) -> None:
    fetched = data.load_dataset(kind.spec, root)
    assert fetched.sha256 == data.load_dataset(kind.spec, offered.folder).sha256
    assert os.listdir(root) == kind.left


def test_files_that_are_there_are_not_fetched_again(
    kind: Kind, offered: Served, root: Path
) -> None:
    data.load_dataset(kind.spec, root)
    asked = len(offered.ranges)
    data.load_dataset(kind.spec, root)
    assert len(offered.ranges) == asked == len(kind.places)


def test_a_broken_connection_is_taken_up_where_it_broke(
    kind: Kind, offered: Served, root: Path
) -> None:
    offered.breaks = 1
    fetched = data.load_dataset(kind.spec, root)
    assert offered.ranges[0] is None
    assert offered.ranges[1] is not None
    assert fetched.sha256 == data.load_dataset(kind.spec, offered.folder).sha256


def test_the_environment_says_where_the_files_go(
    kind: Kind, offered: Served, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCOREAG_DATA", str(root))
    data.load_dataset(kind.spec)
    assert os.listdir(root) == kind.left


def test_the_address_of_a_file_can_be_given_itself(
    kind: Kind, offered: Served, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if len(kind.places) > 1:
        pytest.skip("its files have one folder")
    variable = f"SCOREAG_{kind.spec.split(':')[0].replace('-', '_').upper()}_URL"
    monkeypatch.setenv(variable, f"{os.environ[variable]}/{next(iter(kind.places))}")
    assert len(data.load_dataset(kind.spec, root))


def test_other_content_is_refused_and_not_kept(kind: Kind, served: Served, root: Path) -> None:
    for name in kind.places:
        (served.folder / name).write_bytes(b"another")
    with pytest.raises(
        ValueError, match=r"^[^\n]* has the sha256 \w+; expected the sha256 \w{64}\.[^\n]*$"
    ):
        data.load_dataset(kind.spec, root)
    assert [path for path in root.rglob("*") if path.is_file()] == []


def test_a_web_page_is_refused(kind: Kind, offered: Served, root: Path) -> None:
    offered.kind = "text/html"
    with pytest.raises(ValueError, match=r"^http\S+ gives a web page instead of the file[^\n]*$"):
        data.load_dataset(kind.spec, root)
    assert [path for path in root.rglob("*") if path.is_file()] == []


@pytest.mark.usefixtures("offline")
def test_without_a_network_the_way_by_hand_is_told(kind: Kind, root: Path) -> None:
    place = "|".join(str(root / place) for place in kind.places.values())
    told = rf"^no {kind.title} files in {root}, and cannot reach [^\n]*put it at ({place})$"
    with pytest.raises(ConnectionError, match=told):
        data.load_dataset(kind.spec, root)
    assert os.listdir(root) == []


@pytest.mark.usefixtures("offline")
def test_a_mistyped_root_is_refused_and_not_made(kind: Kind, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no folder '\S+/rot'; give as --data-dir the one with"):
        data.load_dataset(kind.spec, tmp_path / "rot")
    assert not (tmp_path / "rot").exists()


@pytest.mark.usefixtures("offline")
def test_a_cache_is_not_made_before_anything_comes(kind: Kind, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        data.load_dataset(kind.spec)
    assert not (tmp_path / "cache").exists()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_what_comes_and_silence_is_kept(
    kind: Kind, offered: Served, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    data.load_dataset(kind.spec, tmp_path / "root")
    assert all(f"{name}: 100%" in sys.stderr.getvalue() for name in kind.places)

    monkeypatch.setattr(sys, "stderr", Terminal())
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("SCOREAG_DATA", str(tmp_path / "other"))
    data.load_dataset(kind.spec, progress=False)
    assert sys.stderr.getvalue() == ""


@pytest.mark.usefixtures("offline")
def test_an_unknown_split_gets_a_hint(kind: Kind) -> None:
    name, _, split = kind.spec.partition(":")
    wrong = split[:-1] + "r"
    with pytest.raises(
        ValueError, match=rf"^{name} has no split '{wrong}'; did you mean '{split}'\?$"
    ):
        data.load_dataset(f"{name}:{wrong}")
