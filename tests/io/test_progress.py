"""Progress without a terminal: lines with the count, the rate and the time left."""

import io

import pytest

from scoreag.io.progress import LogLines, progress_bar


@pytest.fixture(autouse=True)
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of the bars, which only ``work`` moves."""
    clock = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: clock[0])
    return clock


def work(seconds: list[float], each: float, **options) -> None:
    """Four images, of ``each`` seconds."""
    with progress_bar(total=4, desc="attack", unit="image", **options) as bar:
        for _ in range(4):
            seconds[0] += each
            bar.update()


def test_each_line_states_count_rate_and_time_left(
    seconds: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    work(seconds, 32.0)
    assert capsys.readouterr() == (
        "",
        "scoreag: attack: 1 of 4, 32.00s/image, 01:36 left\n"
        "scoreag: attack: 2 of 4, 32.00s/image, 01:04 left\n"
        "scoreag: attack: 3 of 4, 32.00s/image, 00:32 left\n"
        "scoreag: attack: 4 of 4, 32.00s/image, 00:00 left\n",
    )


def test_lines_are_half_a_minute_apart(
    seconds: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    work(seconds, 16.0)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        "scoreag: attack: 2 of 4", "scoreag: attack: 4 of 4"
    ]  # fmt: skip


def test_short_work_and_quiet_work_print_nothing(
    seconds: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    work(seconds, 7.0)
    work(seconds, 1000.0, show=False)
    assert capsys.readouterr() == ("", "")


def test_iterating_counts(seconds: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    for _ in progress_bar("ab", desc="attack", unit="image"):
        seconds[0] += 31.0
    assert "attack: 1 of 2," in capsys.readouterr().err


def test_terminal_gets_a_bar(seconds: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stderr", terminal)
    work(seconds, 1.0, delay=0)
    assert "\r" in terminal.getvalue() and "attack: 100%" in terminal.getvalue()


def test_moves_of_the_cursor_are_no_lines() -> None:
    stream = io.StringIO()
    for text in ("\r", "\rhalf", "\n", "\x1b[A", ""):
        LogLines(stream).write(text)
    assert stream.getvalue() == "scoreag: half\n"
