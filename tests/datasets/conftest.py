"""What the tests of CIFAR-10 share."""

from pathlib import Path

import pytest

from scoreag.datasets import cifar10


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cifar10, "_IMAGES", 4)
    monkeypatch.setenv("SCOREAG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SCOREAG_CIFAR10_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("SCOREAG_DATA", raising=False)
