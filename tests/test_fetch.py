"""A download is whole or absent, and goes on where it broke: against a server of this machine."""

import fcntl
import functools
import hashlib
import os
import pty
import struct
import sys
import termios
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from scoreag.files import fetch

CONTENT = hashlib.shake_128(b"an archive").digest(300_000)
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """Sends ``content``; breaks the first ``breaks`` connections after ``after`` bytes."""

    content: bytes = CONTENT
    kind: str | None = "application/gzip"
    status: int = 200
    breaks: int = 0
    after: int = 100_000
    resumes: bool = True
    url: str = ""
    ranges: list[str | None] = field(default_factory=list)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.resumes else 0
        if start >= len(self.content):
            request.send_error(416)
            return
        request.send_response(206 if start and self.status == 200 else self.status)
        if self.kind:
            request.send_header("Content-Type", self.kind)
        request.send_header("Content-Length", str(len(self.content) - start))
        request.end_headers()
        stop = start + self.after if self.breaks > 0 else len(self.content)
        self.breaks -= 1
        request.wfile.write(self.content[start:stop])


class Handler(BaseHTTPRequestHandler):
    def __init__(self, server: Server, *args: object) -> None:
        self.plan = server
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self.plan.answer(self)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    plan = Server()
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, plan)) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        plan.url = f"http://127.0.0.1:{http.server_port}/archive.tar.gz"
        yield plan
        http.shutdown()
        thread.join()


@pytest.mark.parametrize("expected", [MD5, SHA256])
def test_a_file_arrives_whole(server: Server, tmp_path: Path, expected: str) -> None:
    fetch(server.url, tmp_path / "new" / "a", expected, progress=False)
    assert (tmp_path / "new" / "a").read_bytes() == CONTENT
    assert os.listdir(tmp_path / "new") == ["a"]


def test_a_file_that_is_there_is_not_fetched(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    fetch(server.url, tmp_path / "a", MD5)
    assert server.ranges == []


def test_a_damaged_file_that_is_there_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT[:-1])
    fetch(server.url, tmp_path / "a", MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_broken_connection_is_taken_up_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.breaks = 2
    fetch(server.url, tmp_path / "a", MD5)
    assert server.ranges == [None, "bytes=100000-", "bytes=200000-"]
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_what_came_is_kept_for_the_next_time(server: Server, tmp_path: Path) -> None:
    server.breaks, server.after = 99, 20_000
    with pytest.raises(ConnectionError, match=r"broke after 100,000 bytes.*same command again"):
        fetch(server.url, tmp_path / "a", MD5)
    assert os.listdir(tmp_path) == ["a.part"]

    server.breaks = 0
    fetch(server.url, tmp_path / "a", MD5)
    assert server.ranges[-1] == "bytes=100000-"
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_server_that_cannot_resume_sends_all_again(server: Server, tmp_path: Path) -> None:
    server.resumes = False
    (tmp_path / "a.part").write_bytes(b"x" * 1000)
    fetch(server.url, tmp_path / "a", MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_part_that_lacks_nothing_is_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(CONTENT)
    fetch(server.url, tmp_path / "a", MD5)
    assert os.listdir(tmp_path) == ["a"]


def test_a_wrong_digest_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + b"?"
    came = hashlib.md5(server.content).hexdigest()
    with pytest.raises(ValueError, match=rf"has the md5 {came}; expected the {MD5[:3]} {MD5[4:]}"):
        fetch(server.url, tmp_path / "a", MD5)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", None])
def test_a_web_page_is_refused(server: Server, tmp_path: Path, kind: str | None) -> None:
    server.content, server.kind = b"\n<!DOCTYPE html><html>Sign in</html>", kind
    with pytest.raises(ValueError, match="web page"):
        fetch(server.url, tmp_path / "a", MD5)
    assert os.listdir(tmp_path) == []


def test_a_web_page_does_not_cost_what_had_come(server: Server, tmp_path: Path) -> None:
    server.content, server.kind, server.resumes = b"<html>Sign in</html>", "text/html", False
    (tmp_path / "a.part").write_bytes(CONTENT[:1000])
    with pytest.raises(ValueError, match="web page"):
        fetch(server.url, tmp_path / "a", MD5)
    assert (tmp_path / "a.part").read_bytes() == CONTENT[:1000]


def test_a_missing_address_says_so(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(ConnectionError, match=r"/archive\.tar\.gz answers 404 Not Found"):
        fetch(server.url, tmp_path / "a", MD5)
    assert os.listdir(tmp_path) == []


def test_without_a_network_the_way_by_hand_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(ConnectionError, match=rf"cannot reach .*put it at {tmp_path}/a\.gz$"):
        fetch("http://127.0.0.1:9/a.gz", tmp_path / "a.gz", MD5)  # nobody listens at "discard"


def test_an_unknown_digest_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="write 'sha256:"):
        fetch("http://127.0.0.1:9/a", tmp_path / "a", "crc32:00")


def test_a_bar_is_not_drawn_where_nobody_watches(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fetch(server.url, tmp_path / "a", MD5, progress=True)
    assert capfd.readouterr() == ("", "")


def test_a_bar_is_drawn_on_a_terminal(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = pty.openpty()
    fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with os.fdopen(far, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        fetch(server.url, tmp_path / "a", MD5, progress=True)
        fetch(server.url, tmp_path / "b", MD5, progress=False)
    shown = os.read(near, 10_000)
    os.close(near)
    assert b"a: 100%" in shown
    assert b"300k/300k" in shown
    assert b"b:" not in shown
