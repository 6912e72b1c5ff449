"""Progress without a terminal: lines with the count, the rate and the time left."""

import io
import re
import time

import pytest

from scoreag.io import progress
from scoreag.io.progress import LogLines, progress_bar

LINE = r"scoreag: attack: (\d+) of 4, +\d+\.\d+ image/s, \d\d:\d\d left"


def work(interval: float, pause: float, **options) -> None:
    progress.LOG_SECONDS = interval
    with progress_bar(total=4, desc="attack", unit="image", **options) as bar:
        for _ in range(4):
            time.sleep(pause)
            bar.update()


@pytest.fixture(autouse=True)
def unchanged_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOG_SECONDS", progress.LOG_SECONDS)


def test_each_line_states_count_rate_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    work(0.02, 0.03)
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert [re.fullmatch(LINE, line)[1] for line in lines] == ["1", "2", "3", "4"]
    assert captured.out == "" and "\r" not in captured.err


def test_lines_are_as_far_apart_as_the_interval(capsys: pytest.CaptureFixture[str]) -> None:
    work(0.1, 0.04)
    done = [re.fullmatch(LINE, line)[1] for line in capsys.readouterr().err.splitlines()]
    assert "1" not in done and "2" not in done and done[-1] == "4"


def test_short_work_and_quiet_work_print_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    work(30.0, 0.001)
    work(0.0, 0.001, show=False)
    assert capsys.readouterr() == ("", "")


def test_iterating_counts(capsys: pytest.CaptureFixture[str]) -> None:
    progress.LOG_SECONDS = 0.0
    assert list(progress_bar("abcd", desc="attack", unit="image")) == [*"abcd"]
    assert " 4 of 4, " in capsys.readouterr().err.splitlines()[-1]


def test_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stderr", terminal)
    work(30.0, 0.001, delay=0)
    assert "\r" in terminal.getvalue() and "attack: 100%" in terminal.getvalue()


def test_moves_of_the_cursor_are_no_lines() -> None:
    stream = io.StringIO()
    for text in ("\r", "\rhalf", "\n", "\x1b[A", ""):
        LogLines(stream).write(text)
    assert stream.getvalue() == "scoreag: half\n"
