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
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import Request

import pytest

from scoreag.io.download import _SafeRedirects, download_file

CONTENT = hashlib.shake_128(b"an archive").digest(300_000)
CHUNKS = ("Transfer-Encoding", "chunked")
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """Sends ``content``; breaks the first ``breaks`` connections after ``after`` bytes.

    Args:
        says: how long the answer is: its "length", "chunks", or "nothing", as HTTP/1.0 may.
        tag: the ETag; what is asked for under another one is sent whole.
        shift: by how much the range that is sent is another one than was asked for.
        to: where every request is sent on to.
    """

    content: bytes = CONTENT
    kind: str | None = "application/gzip"
    status: int = 200
    breaks: int = 0
    after: int = 100_000
    resumes: bool = True
    url: str = ""
    ranges: list[str | None] = field(default_factory=list)
    says: str = "length"
    tag: str | None = None
    shift: int = 0
    to: str = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.ranges.append(wanted)
        if self.to:
            request.send_response(302)
            request.send_header("Location", self.to)
            request.end_headers()
            return
        other = request.headers.get("If-Range") not in (None, self.tag)
        start = int(wanted[6:-1]) if wanted and self.resumes and not other else 0
        if start and start >= len(self.content):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(self.content)}")
            request.end_headers()
            return
        self.send(request, start)

    def send(self, request: BaseHTTPRequestHandler, start: int) -> None:
        request.send_response(206 if start and self.status == 200 else self.status)
        if start:
            place = f"bytes {start + self.shift}-{len(self.content) - 1}/{len(self.content)}"
            request.send_header("Content-Range", place)
        sent = self.content[start + self.shift * bool(start) :]
        told = {"length": ("Content-Length", str(len(sent))), "chunks": CHUNKS}
        known = [told.get(self.says), self.tag and ("ETag", self.tag)]
        for name, value in [*filter(None, known), ("Content-Type", self.kind)]:
            if value:
                request.send_header(name, value)
        request.end_headers()
        part = sent[: self.after] if self.breaks > 0 else sent
        self.breaks -= 1
        if self.says == "chunks":
            part = b"%x\r\n%b\r\n" % (len(part), part) if part else b""
            part += b"0\r\n\r\n" if self.breaks < 0 else b""
        request.wfile.write(part)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"

    def __init__(self, server: Server, *args: object) -> None:
        self.plan = server
        if server.says == "chunks":
            self.protocol_version = "HTTP/1.1"
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        with suppress(ConnectionError):  # who asked may have seen enough
            self.plan.answer(self)
        self.close_connection = True

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
    download_file(server.url, tmp_path / "new" / "a", expected, progress=False)
    assert (tmp_path / "new" / "a").read_bytes() == CONTENT
    assert os.listdir(tmp_path / "new") == ["a"]


def test_a_file_that_is_there_is_not_fetched(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    download_file(server.url, tmp_path / "a", MD5)
    assert server.ranges == []


def test_a_damaged_file_that_is_there_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT[:-1])
    download_file(server.url, tmp_path / "a", MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_broken_connection_is_taken_up_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.breaks = 2
    download_file(server.url, tmp_path / "a", MD5)
    assert server.ranges == [None, "bytes=100000-", "bytes=200000-"]
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_what_came_is_kept_for_the_next_time(server: Server, tmp_path: Path) -> None:
    server.breaks, server.after = 99, 20_000
    with pytest.raises(ConnectionError, match=r"broke after 100,000 bytes.*same command again"):
        download_file(server.url, tmp_path / "a", MD5)
    assert os.listdir(tmp_path) == ["a.part"]

    server.breaks = 0
    download_file(server.url, tmp_path / "a", MD5)
    assert server.ranges[-1] == "bytes=100000-"
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_server_that_cannot_resume_sends_all_again(server: Server, tmp_path: Path) -> None:
    server.resumes = False
    (tmp_path / "a.part").write_bytes(b"x" * 1000)
    download_file(server.url, tmp_path / "a", MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT


def right(path: Path) -> None:
    """What a reader of the file would say, where no digest is known."""
    if path.read_bytes() != CONTENT:
        raise ValueError("its checksum is wrong")


def bare(server: Server, path: Path) -> None:
    download_file(server.url, path, "", progress=False, check=right)


@pytest.mark.parametrize("says", ["length", "chunks", "nothing"])
@pytest.mark.parametrize("after", [0, 1000])
@pytest.mark.parametrize("expected", [SHA256, ""])
def test_a_download_that_is_cut_is_never_taken(
    server: Server, tmp_path: Path, says: str, after: int, expected: str
) -> None:
    server.says, server.after, server.breaks = says, after, 99
    told = "nothing" if says == "nothing" else "broke after"
    match = "has the sha256|its checksum is wrong" if told == "nothing" else told
    with pytest.raises((ConnectionError, ValueError), match=match):
        download_file(server.url, tmp_path / "a", expected, progress=False, check=right)
    assert not (tmp_path / "a").exists()

    server.breaks = 0
    download_file(server.url, tmp_path / "a", expected, progress=False, check=right)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("says", ["length", "chunks", "nothing"])
def test_a_whole_answer_is_taken_however_its_length_is_told(
    server: Server, tmp_path: Path, says: str
) -> None:
    server.says = says
    bare(server, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_without_a_digest_a_check_is_needed(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without a digest what comes has to be checked"):
        download_file(server.url, tmp_path / "a", "")
    assert server.ranges == []


def test_without_a_digest_the_rest_is_asked_for_where_the_server_names_the_file(
    server: Server, tmp_path: Path
) -> None:
    server.tag, server.breaks = '"one"', 1
    bare(server, tmp_path / "a")
    assert server.ranges == [None, "bytes=100000-"]
    assert (tmp_path / "a").read_bytes() == CONTENT and os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("tag", [None, 'W/"weak"'])
def test_without_a_digest_and_a_name_all_is_asked_for_again(
    server: Server, tmp_path: Path, tag: str | None
) -> None:
    server.tag, server.breaks = tag, 1
    bare(server, tmp_path / "a")
    assert server.ranges == [None, None]
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_the_rest_of_another_file_is_not_put_behind_what_had_come(
    server: Server, tmp_path: Path
) -> None:
    """The file changes between two calls, and so does its tag."""
    server.after = 20_000
    server.tag, server.breaks, server.content = '"old"', 99, bytes(len(CONTENT))
    with pytest.raises(ConnectionError):
        bare(server, tmp_path / "a")
    server.tag, server.breaks, server.content = '"new"', 0, CONTENT
    server.ranges.clear()
    bare(server, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.ranges == ["bytes=100000-"]  # the answer was the whole of the new one at once


@pytest.mark.parametrize("expected", [SHA256, ""])
@pytest.mark.parametrize("size", [1000, len(CONTENT), len(CONTENT) + 1000])
def test_a_part_of_another_file_costs_nothing_but_time(
    server: Server, tmp_path: Path, size: int, expected: str
) -> None:
    """Also one that is longer than the file, to which the server answers 416."""
    (tmp_path / "a.part").write_bytes(b"x" * size)
    download_file(server.url, tmp_path / "a", expected, progress=False, check=right)
    assert (tmp_path / "a").read_bytes() == CONTENT and os.listdir(tmp_path) == ["a"]


def test_the_notes_of_another_address_are_not_used(server: Server, tmp_path: Path) -> None:
    server.tag = '"one"'
    (tmp_path / "a.part").write_bytes(CONTENT[:1000])
    (tmp_path / "a.part.json").write_text('{"url": "https://other.invalid/a", "is": "\\"one\\""}')
    bare(server, tmp_path / "a")
    assert server.ranges == [None]


@pytest.mark.parametrize("expected", [SHA256, ""])
def test_another_range_than_was_asked_for_is_not_taken(
    server: Server, tmp_path: Path, expected: str
) -> None:
    server.tag, server.breaks, server.shift = '"one"', 1, 5000
    download_file(server.url, tmp_path / "a", expected, progress=False, check=right)
    assert server.ranges == [None, "bytes=100000-", None]
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_more_than_a_file_can_have_is_not_taken(server: Server, tmp_path: Path) -> None:
    for says in ("length", "chunks"):
        server.says = says
        with pytest.raises(ValueError, match="and 1,000 are the most that it can have"):
            download_file(server.url, tmp_path / "a", MD5, progress=False, max_bytes=1000)
        assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/a",
        "ftp://127.0.0.1/a",
        "file:///etc/passwd",
        "http://127.0.0.1.example.org/a",
        "http://localhost.example.org/a",
        "https:///a",
        "/etc/passwd",
    ],
)
def test_an_address_that_is_none_of_https_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match="is no address of https, so anybody on the way"):
        download_file(url, tmp_path / "a", MD5)


@pytest.mark.parametrize("to", ["http://example.org/a", "ftp://127.0.0.1/a"])
def test_an_address_that_leads_away_from_https_is_refused(
    server: Server, tmp_path: Path, to: str
) -> None:
    server.to = to
    with pytest.raises(ValueError, match=r"leads to .*, which is no address of https"):
        download_file(server.url, tmp_path / "a", MD5)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "start, to, fine",
    [
        ("https://example.org/a", "https://other.org/a", True),
        ("https://example.org/a", "http://example.org/a", False),
        ("https://example.org/a", "http://127.0.0.1/a", False),
        ("http://127.0.0.1/a", "http://127.0.0.1/b", True),
        ("http://127.0.0.1/a", "https://example.org/a", True),
    ],
)
def test_https_leads_to_https(start: str, to: str, fine: bool) -> None:
    given = (Request(start), None, 302, "Found", HTTPMessage(), to)
    if fine:
        assert _SafeRedirects().redirect_request(*given).full_url == to
    else:
        with pytest.raises(ValueError, match="no address of https"):
            _SafeRedirects().redirect_request(*given)


def test_a_full_disk_is_no_broken_connection(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        download_file(server.url, tmp_path / "a", "", progress=False, check=right)


def test_a_part_that_lacks_nothing_is_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(CONTENT)
    download_file(server.url, tmp_path / "a", MD5)
    assert os.listdir(tmp_path) == ["a"]


def test_a_wrong_digest_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + b"?"
    came = hashlib.md5(server.content).hexdigest()
    with pytest.raises(ValueError, match=rf"has the md5 {came}; expected the {MD5[:3]} {MD5[4:]}"):
        download_file(server.url, tmp_path / "a", MD5)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", None])
def test_a_web_page_is_refused(server: Server, tmp_path: Path, kind: str | None) -> None:
    server.content, server.kind = b"\n<!DOCTYPE html><html>Sign in</html>", kind
    with pytest.raises(ValueError, match="web page"):
        download_file(server.url, tmp_path / "a", MD5)
    assert os.listdir(tmp_path) == []


def test_a_web_page_does_not_cost_what_had_come(server: Server, tmp_path: Path) -> None:
    server.content, server.kind, server.resumes = b"<html>Sign in</html>", "text/html", False
    (tmp_path / "a.part").write_bytes(CONTENT[:1000])
    with pytest.raises(ValueError, match="web page"):
        download_file(server.url, tmp_path / "a", MD5)
    assert (tmp_path / "a.part").read_bytes() == CONTENT[:1000]


def test_a_missing_address_says_so(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(ConnectionError, match=r"/archive\.tar\.gz answers 404 Not Found"):
        download_file(server.url, tmp_path / "a", MD5)
    assert os.listdir(tmp_path) == []


def test_without_a_network_the_way_by_hand_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(ConnectionError, match=rf"cannot reach .*put it at {tmp_path}/a\.gz$"):
        download_file(
            "http://127.0.0.1:9/a.gz", tmp_path / "a.gz", MD5
        )  # nobody listens at "discard"


def test_an_unknown_digest_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="write 'sha256:"):
        download_file("http://127.0.0.1:9/a", tmp_path / "a", "crc32:00")


def test_a_bar_is_not_drawn_where_nobody_watches(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    download_file(server.url, tmp_path / "a", MD5, progress=True)
    assert capfd.readouterr() == ("", "")


def test_a_bar_is_drawn_on_a_terminal(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = pty.openpty()
    fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with os.fdopen(far, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        download_file(server.url, tmp_path / "a", MD5, progress=True)
        download_file(server.url, tmp_path / "b", MD5, progress=False)
    shown = os.read(near, 10_000)
    os.close(near)
    assert b"a: 100%" in shown
    assert b"300k/300k" in shown
    assert b"b:" not in shown
