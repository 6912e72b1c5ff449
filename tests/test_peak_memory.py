"""The most memory of a process, in bytes, on systems that tell it in other units or not at all."""

import sys
from types import SimpleNamespace

import pytest

from scoreag.core.peak_memory import peak_memory


@pytest.mark.parametrize("platform, unit", [("linux", 1024), ("darwin", 1)])
def test_it_is_told_in_kibibytes_on_linux_and_in_bytes_on_macos(monkeypatch, platform, unit):
    told = SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda who: SimpleNamespace(ru_maxrss=7_000))
    monkeypatch.setitem(sys.modules, "resource", told)
    monkeypatch.setattr(sys, "platform", platform)
    assert peak_memory() == 7_000 * unit


def test_windows_has_no_such_figure(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_memory() == 0


def test_here_it_is_more_than_the_interpreter_alone_takes():
    assert peak_memory() > 10 * 2**20
