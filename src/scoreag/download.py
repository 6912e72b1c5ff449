"""Downloads: a file arrives whole and is the one that was meant, or it is not there.

What came before an interruption lies in ``NAME.part``, and the rest is asked for where that is of
the same file: the server says so by ``If-Range``, or a digest does in the end.  ``NAME.part.json``
keeps the address and what the server calls the file: its ETag, or when it was changed.
"""

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException, HTTPMessage
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from tqdm import tqdm

from scoreag.files import digest

Check = Callable[[Path], Any]
_ATTEMPTS = 5  # at one download, before the user is asked to start it again
_SILENCE = 30.0  # seconds without a byte that count as a broken connection
_PIECE = 1 << 18  # bytes


class _Broken(Exception):
    """The connection ended before the file did."""


@dataclass(frozen=True)
class _Wanted:
    """What is asked for, and how it will be known.

    Args:
        part: what has come of it.
        digest: whether a digest decides in the end.
        most: bytes that it has at most; None: not known.
    """

    url: str
    part: Path
    digest: bool
    most: int | None
    progress: bool

    @property
    def notes(self) -> Path:
        return self.part.with_name(f"{self.part.name}.json")

    def forget(self) -> None:
        """Leave nothing of what had come."""
        for file in (self.part, self.notes):
            file.unlink(missing_ok=True)


def fetch(
    url: str,
    path: Path,
    expected: str,
    progress: bool = True,
    check: Check | None = None,
    most: int | None = None,
) -> None:
    """Download ``url`` to ``path``, which appears whole and with its digest, or not at all.

    What had come before an interruption stays in ``path.part``; the next call goes on from there.

    Args:
        expected: "sha256:HEX" or "md5:HEX", or "" where no digest is published: then a file that
            is there is taken as it is.
        check: reads what came, and raises ValueError where it is not whole or another thing.
            Needed where there is no digest.
        most: bytes that the file has at most.

    Raises:
        ConnectionError: the address is not reached, or the connection broke; what came is kept.
        ValueError: what came is something else, or the address is none of https.
    """
    algorithm, _, value = expected.partition(":")
    if algorithm not in ("sha256", "md5", ""):
        raise ValueError(f"digest {expected!r}: write 'sha256:...' or 'md5:...'")
    if not algorithm and check is None:
        raise ValueError(f"{url}: without a digest what comes has to be checked; give check")
    if path.exists() and (not algorithm or digest(path, algorithm) == value):
        return
    check_address(url, path)
    wanted = _Wanted(url, path.with_name(f"{path.name}.part"), bool(algorithm), most, progress)
    _bring(wanted, algorithm, value, check)
    os.replace(wanted.part, path)
    wanted.forget()


def check_address(url: str, path: Path) -> None:
    """Refuse an address whose answer anybody on the way could change.

    Raises:
        ValueError: it is not of https, nor of a server on this machine.
    """
    if not _safe(url):
        raise ValueError(
            f"{url:.200} is no address of https, so anybody on the way could change the file; "
            f"write https://..., or fetch it elsewhere and put it at {path}"
        )


def _safe(url: str, local: bool = True) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (local and _is_local(parts.scheme, host)))


def _is_local(scheme: str, host: str) -> bool:
    with suppress(ValueError):
        return scheme == "http" and ip_address(host).is_loopback
    return scheme == "http" and host == "localhost"


class _Redirects(HTTPRedirectHandler):
    """From https to https only; a server of this machine may name another of this machine."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if not _safe(newurl, local=not req.full_url.startswith("https:")):
            raise ValueError(
                f"{req.full_url:.150} leads to {newurl:.150}, which is no address of https"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> OpenerDirector:
    """It knows http and https, and no files or ftp."""
    made = OpenerDirector()
    for handler in (
        ProxyHandler(), UnknownHandler(), HTTPHandler(), HTTPSHandler(), HTTPDefaultErrorHandler(),
        _Redirects(), HTTPErrorProcessor(),
    ):  # fmt: skip
        made.add_handler(handler)
    return made


def _bring(wanted: _Wanted, algorithm: str, value: str, check: Check | None) -> None:
    """Have the file whole and checked in ``wanted.part``."""
    old = wanted.part.exists()  # of an earlier call, perhaps of another file
    for attempt in range(_ATTEMPTS):
        time.sleep(0.1 * attempt)
        if not _received(wanted):
            continue
        try:
            _verify(wanted, algorithm, value, check)
            return
        except ValueError:
            wanted.forget()
            if not old:
                raise
            old = False
    came = wanted.part.stat().st_size if wanted.part.exists() else 0
    raise ConnectionError(
        f"the connection to {wanted.url} broke after {came:,} bytes; they are kept: "
        "give the same command again and it goes on from there"
    )


def _verify(wanted: _Wanted, algorithm: str, value: str, check: Check | None) -> None:
    if algorithm:
        _check_digest(wanted.url, wanted.part, algorithm, value)
    if check is not None:
        try:
            check(wanted.part)
        except ValueError as error:
            told = f"what came from {wanted.url} is not whole, or something else: {error}"
            raise ValueError(f"{told:.400}. Nothing was kept: try again") from error


def _received(wanted: _Wanted) -> bool:
    """Whether the part is as long as the server says, after what it lacks was asked for."""
    notes = _noted(wanted)
    offset = _usable(wanted, notes)
    headers = {"User-Agent": "scoreag", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if "is" in notes:
            headers["If-Range"] = notes["is"]
    try:
        answer = _opener().open(Request(wanted.url, headers=headers), timeout=_SILENCE)
    except HTTPError as error:
        error.close()
        if error.code == 416 and offset:
            return _is_all(wanted, offset, error.headers)
        raise ConnectionError(f"{wanted.url} answers {error.code} {error.reason}") from error
    except (URLError, HTTPException, OSError) as error:
        reason = getattr(error, "reason", error)
        raise ConnectionError(
            f"cannot reach {wanted.url} ({reason}); check the network, or fetch the file elsewhere "
            f"and put it at {wanted.part.with_suffix('')}"
        ) from error
    with answer:
        if answer.headers.get_content_type() == "text/html":
            raise ValueError(
                f"{wanted.url} gives a web page instead of the file; check the address"
            )
        return _taken(wanted, answer, offset, notes)


def _noted(wanted: _Wanted) -> dict[str, Any]:
    """What is known of the part, if it is of this address."""
    with suppress(OSError, ValueError):
        found = json.loads(wanted.notes.read_text("utf-8"))
        if isinstance(found, dict) and found.get("url") == wanted.url:
            return found
    return {}


def _usable(wanted: _Wanted, notes: Mapping[str, Any]) -> int:
    """How much has come; nothing, where neither server nor digest could say that it is of this."""
    if not wanted.part.exists() or not (wanted.digest or "is" in notes):
        return 0
    return wanted.part.stat().st_size


def _is_all(wanted: _Wanted, offset: int, headers: Message) -> bool:
    """Nothing lies behind what has come: is that the end of the file, or is it another one?"""
    match = re.fullmatch(r"bytes \*/(\d+)", headers.get("Content-Range") or "")
    if int(match[1]) == offset if match else wanted.digest:  # which decides
        return True
    wanted.forget()
    return False


def _taken(wanted: _Wanted, answer: Any, offset: int, notes: Mapping[str, Any]) -> bool:
    """Put the answer where it belongs, if that is clear; the rest of another file starts afresh."""
    length = answer.headers.get("Content-Length")
    total = int(length) if length and length.isdigit() else None
    start = 0
    if answer.status == 206:
        told = answer.headers.get("Content-Range") or ""
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", told)
        whole = int(match[2]) if match and match[2] != "*" else None
        fits = offset and match and int(match[1]) == offset and whole is not None
        if not fits or (notes.get("total") or whole) != whole:
            wanted.forget()
            return False
        start, total = offset, whole
    elif answer.status != 200:
        raise ConnectionError(f"{wanted.url} answers {answer.status} {answer.reason}")
    return _append(wanted, answer, start, total)


def _append(wanted: _Wanted, answer: Any, start: int, total: int | None) -> bool:
    wanted.part.parent.mkdir(parents=True, exist_ok=True)  # not before: it may be mistyped
    _check_size(wanted, total)
    if not start:
        _note(wanted, answer.headers, total)
    bar = tqdm(
        total=total, initial=start, unit="B", unit_scale=True, desc=wanted.part.stem,
        disable=None if wanted.progress else True,
    )  # fmt: skip
    with bar, wanted.part.open("r+b" if start else "wb") as file:
        file.seek(start)
        try:
            for piece in _pieces(answer):
                file.write(piece)
                bar.update(len(piece))
                _check_size(wanted, file.tell())
        except _Broken:
            return False
        return total is None or file.tell() == total


def _note(wanted: _Wanted, headers: Message, total: int | None) -> None:
    """Keep what the server calls the file; where it says nothing, nothing is kept."""
    tag = headers.get("ETag") or ""
    name = tag if tag.startswith('"') else headers.get("Last-Modified")
    wanted.notes.unlink(missing_ok=True)
    if name:
        known = {"url": wanted.url, "is": name, "total": total}
        wanted.notes.write_text(json.dumps(known), encoding="utf-8")


def _check_size(wanted: _Wanted, size: int | None) -> None:
    if size is not None and wanted.most is not None and size > wanted.most:
        wanted.forget()
        raise ValueError(
            f"{wanted.url} sends {size:,} bytes or more, and {wanted.most:,} are the most that it "
            "can have; nothing was kept"
        )


def _pieces(answer: Any) -> Iterator[bytes]:
    """The bytes of an answer.

    Raises:
        _Broken: the connection ends or is silent before they do.
    """
    while True:
        try:
            piece = answer.read(_PIECE)
        except (OSError, HTTPException) as error:
            raise _Broken from error
        if not piece:
            return
        yield piece


def _check_digest(url: str, part: Path, algorithm: str, value: str) -> None:
    if (came := digest(part, algorithm)) == value:
        return
    with part.open("rb") as file:
        page = file.read(512).lstrip().lower().startswith((b"<!doctype", b"<html"))
    what = "is a web page" if page else f"has the {algorithm} {came}"
    raise ValueError(
        f"what came from {url} {what}; expected the {algorithm} {value}. Nothing was kept: "
        "try again, or another address"
    )
