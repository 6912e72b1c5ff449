"""What the tests of data sets share: no way out of this machine, and a server on it."""

import functools
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from file_server import Handler, Served
from scoreag.data import cifar, fashion_mnist

ADDRESSES = [f"SCOREAG_{name}_URL" for name in ("CIFAR10", "CIFAR100", "TINY_IMAGENET")]
ADDRESSES += [f"SCOREAG_{name}_URL" for name in ("FASHION_MNIST", "CIFAR10H", "CIFAR10N")]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Official files are nowhere: not in a cache, not from a package, at no address."""
    monkeypatch.setenv("SCOREAG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SCOREAG_DATA", raising=False)
    monkeypatch.setattr(fashion_mnist, "_DEBIAN_FOLDER", tmp_path / "package")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for variable in ADDRESSES:
        monkeypatch.setenv(variable, "http://127.0.0.1:9/")  # nobody listens at "discard"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, offline: None) -> None:
    """CIFAR-10 with 4 images in a file."""
    monkeypatch.setattr(cifar, "_IMAGES_PER_FILE", 4)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: None) -> Iterator[Served]:
    """A server on this machine, which every data set takes for its own."""
    plan = Served(tmp_path / "served")
    plan.folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, plan)) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        for variable in ADDRESSES:
            monkeypatch.setenv(variable, f"http://127.0.0.1:{http.server_port}/files")
        yield plan
        http.shutdown()
        thread.join()
