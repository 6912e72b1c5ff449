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

from scoreag.io.filesystem import file_hash

FileCheck = Callable[[Path], Any]
_ATTEMPTS = 5  # at one download, before the user is asked to start it again
_TIMEOUT = 30.0  # seconds without a byte that count as a broken connection
_CHUNK_BYTES = 1 << 18  # bytes


class _ConnectionLost(Exception):
    """The connection ended before the file did."""


@dataclass(frozen=True)
class _Download:
    """What is asked for, and how it will be known.

    Args:
        part: what has come of it.
        has_digest: whether a digest decides in the end.
        max_bytes: that it has at most; None: not known.
    """

    url: str
    part: Path
    has_digest: bool
    max_bytes: int | None
    progress: bool

    @property
    def metadata_file(self) -> Path:
        return self.part.with_name(f"{self.part.name}.json")

    def discard(self) -> None:
        """Leave nothing of what had come."""
        for file in (self.part, self.metadata_file):
            file.unlink(missing_ok=True)


def download_file(
    url: str,
    path: Path,
    expected: str,
    progress: bool = True,
    check: FileCheck | None = None,
    max_bytes: int | None = None,
) -> None:
    """Download ``url`` to ``path``, which appears whole and with its digest, or not at all.

    What had come before an interruption stays in ``path.part``; the next call goes on from there.

    Args:
        expected: "sha256:HEX" or "md5:HEX", or "" where no digest is published: then a file that
            is there is taken as it is.
        check: reads what came, and raises ValueError where it is not whole or another thing.
            Needed where there is no digest.
        max_bytes: that the file has at most.

    Raises:
        ConnectionError: the address is not reached, or the connection broke; what came is kept.
        ValueError: what came is something else, or the address is none of https.
    """
    algorithm, _, value = expected.partition(":")
    if algorithm not in ("sha256", "md5", ""):
        raise ValueError(f"digest {expected!r}: write 'sha256:...' or 'md5:...'")
    if not algorithm and check is None:
        raise ValueError(f"{url}: without a digest what comes has to be checked; give check")
    if path.exists() and (not algorithm or file_hash(path, algorithm) == value):
        return
    check_url(url, path)
    wanted = _Download(
        url, path.with_name(f"{path.name}.part"), bool(algorithm), max_bytes, progress
    )
    _download_with_retries(wanted, algorithm, value, check)
    os.replace(wanted.part, path)
    wanted.discard()


def check_url(url: str, path: Path) -> None:
    """Refuse an address whose answer anybody on the way could change.

    Raises:
        ValueError: it is not of https, nor of a server on this machine.
    """
    if not _is_safe_url(url):
        raise ValueError(
            f"{url:.200} is no address of https, so anybody on the way could change the file; "
            f"write https://..., or fetch it elsewhere and put it at {path}"
        )


def _is_safe_url(url: str, local: bool = True) -> bool:
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


class _SafeRedirects(HTTPRedirectHandler):
    """From https to https only; a server of this machine may name another of this machine."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if not _is_safe_url(newurl, local=not req.full_url.startswith("https:")):
            raise ValueError(
                f"{req.full_url:.150} leads to {newurl:.150}, which is no address of https"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _make_opener() -> OpenerDirector:
    """It knows http and https, and no files or ftp."""
    made = OpenerDirector()
    for handler in (
        ProxyHandler(), UnknownHandler(), HTTPHandler(), HTTPSHandler(), HTTPDefaultErrorHandler(),
        _SafeRedirects(), HTTPErrorProcessor(),
    ):  # fmt: skip
        made.add_handler(handler)
    return made


def _download_with_retries(
    target: _Download, algorithm: str, value: str, check: FileCheck | None
) -> None:
    """Have the file whole and checked in ``wanted.part``."""
    old = target.part.exists()  # of an earlier call, perhaps of another file
    for attempt in range(_ATTEMPTS):
        time.sleep(0.1 * attempt)
        if not _request_rest(target):
            continue
        try:
            _verify(target, algorithm, value, check)
            return
        except ValueError:
            target.discard()
            if not old:
                raise
            old = False
    came = target.part.stat().st_size if target.part.exists() else 0
    raise ConnectionError(
        f"the connection to {target.url} broke after {came:,} bytes; they are kept: "
        "give the same command again and it goes on from there"
    )


def _verify(target: _Download, algorithm: str, value: str, check: FileCheck | None) -> None:
    if algorithm:
        _check_digest(target.url, target.part, algorithm, value)
    if check is not None:
        try:
            check(target.part)
        except ValueError as error:
            told = f"what came from {target.url} is not whole, or something else: {error}"
            raise ValueError(f"{told:.400}. Nothing was kept: try again") from error


def _request_rest(target: _Download) -> bool:
    """Whether the part is as long as the server says, after what it lacks was asked for."""
    notes = _read_metadata(target)
    offset = _resume_offset(target, notes)
    headers = {"User-Agent": "scoreag", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if "is" in notes:
            headers["If-Range"] = notes["is"]
    try:
        answer = _make_opener().open(Request(target.url, headers=headers), timeout=_TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == 416 and offset:
            return _is_complete(target, offset, error.headers)
        raise ConnectionError(f"{target.url} answers {error.code} {error.reason}") from error
    except (URLError, HTTPException, OSError) as error:
        reason = getattr(error, "reason", error)
        raise ConnectionError(
            f"cannot reach {target.url} ({reason}); check the network, or fetch the file elsewhere "
            f"and put it at {target.part.with_suffix('')}"
        ) from error
    with answer:
        if answer.headers.get_content_type() == "text/html":
            raise ValueError(
                f"{target.url} gives a web page instead of the file; check the address"
            )
        return _receive(target, answer, offset, notes)


def _read_metadata(target: _Download) -> dict[str, Any]:
    """What is known of the part, if it is of this address."""
    with suppress(OSError, ValueError):
        found = json.loads(target.metadata_file.read_text("utf-8"))
        if isinstance(found, dict) and found.get("url") == target.url:
            return found
    return {}


def _resume_offset(target: _Download, metadata: Mapping[str, Any]) -> int:
    """How much has come; nothing, where neither server nor digest could say that it is of this."""
    if not target.part.exists() or not (target.has_digest or "is" in metadata):
        return 0
    return target.part.stat().st_size


def _is_complete(target: _Download, offset: int, headers: Message) -> bool:
    """Nothing lies behind what has come: is that the end of the file, or is it another one?"""
    match = re.fullmatch(r"bytes \*/(\d+)", headers.get("Content-Range") or "")
    if int(match[1]) == offset if match else target.has_digest:  # which decides
        return True
    target.discard()
    return False


def _receive(target: _Download, response: Any, offset: int, metadata: Mapping[str, Any]) -> bool:
    """Put the answer where it belongs, if that is clear; the rest of another file starts afresh."""
    length = response.headers.get("Content-Length")
    total = int(length) if length and length.isdigit() else None
    start = 0
    if response.status == 206:
        told = response.headers.get("Content-Range") or ""
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", told)
        whole = int(match[2]) if match and match[2] != "*" else None
        fits = offset and match and int(match[1]) == offset and whole is not None
        if not fits or (metadata.get("total") or whole) != whole:
            target.discard()
            return False
        start, total = offset, whole
    elif response.status != 200:
        raise ConnectionError(f"{target.url} answers {response.status} {response.reason}")
    return _append_chunks(target, response, start, total)


def _append_chunks(target: _Download, response: Any, start: int, total: int | None) -> bool:
    target.part.parent.mkdir(parents=True, exist_ok=True)  # not before: it may be mistyped
    _check_size(target, total)
    if not start:
        _write_metadata(target, response.headers, total)
    bar = tqdm(
        total=total, initial=start, unit="B", unit_scale=True, desc=target.part.stem,
        disable=None if target.progress else True,
    )  # fmt: skip
    with bar, target.part.open("r+b" if start else "wb") as file:
        file.seek(start)
        try:
            for piece in _iter_chunks(response):
                file.write(piece)
                bar.update(len(piece))
                _check_size(target, file.tell())
        except _ConnectionLost:
            return False
        return total is None or file.tell() == total


def _write_metadata(target: _Download, headers: Message, total: int | None) -> None:
    """Keep what the server calls the file; where it says nothing, nothing is kept."""
    tag = headers.get("ETag") or ""
    name = tag if tag.startswith('"') else headers.get("Last-Modified")
    target.metadata_file.unlink(missing_ok=True)
    if name:
        known = {"url": target.url, "is": name, "total": total}
        target.metadata_file.write_text(json.dumps(known), encoding="utf-8")


def _check_size(target: _Download, size: int | None) -> None:
    if size is not None and target.max_bytes is not None and size > target.max_bytes:
        target.discard()
        raise ValueError(
            f"{target.url} sends {size:,} bytes or more, and {target.max_bytes:,} are the most "
            "that it can have; nothing was kept"
        )


def _iter_chunks(response: Any) -> Iterator[bytes]:
    """The bytes of an answer.

    Raises:
        _Broken: the connection ends or is silent before they do.
    """
    while True:
        try:
            piece = response.read(_CHUNK_BYTES)
        except (OSError, HTTPException) as error:
            raise _ConnectionLost from error
        if not piece:
            return
        yield piece


def _check_digest(url: str, part: Path, algorithm: str, value: str) -> None:
    if (came := file_hash(part, algorithm)) == value:
        return
    with part.open("rb") as file:
        page = file.read(512).lstrip().lower().startswith((b"<!doctype", b"<html"))
    what = "is a web page" if page else f"has the {algorithm} {came}"
    raise ValueError(
        f"what came from {url} {what}; expected the {algorithm} {value}. Nothing was kept: "
        "try again, or another address"
    )
