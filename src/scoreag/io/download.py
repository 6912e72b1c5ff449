"""Downloads: a file arrives complete and with its digest, or not at all.

An interrupted download stays in ``NAME.part``, and is resumed where the rest is known to be of the
same file: by ``If-Range``, or by a digest in the end.  ``NAME.part.json`` has the address and what
the server calls this version of the file: its ETag, or its date.
"""

import json
import os
import re
import time
from collections.abc import Callable, Mapping
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

from scoreag.io.filesystem import file_hash
from scoreag.io.progress import tqdm

FileCheck = Callable[[Path], Any]
_ATTEMPTS = 5  # at one download, before the user is asked to start it again
_TIMEOUT = 30.0  # seconds without a byte after which a connection counts as broken
_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True)
class _Download:
    """A file to download: its address, the partial file, its digest, and the most it can have."""

    url: str
    part: Path
    algorithm: str
    digest: str
    max_bytes: int | None
    progress: bool

    @property
    def metadata_file(self) -> Path:
        return self.part.with_name(f"{self.part.name}.json")

    def discard(self) -> None:
        """Delete the partial file."""
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
    """Download ``url`` to ``path``, which appears complete and with its digest, or not at all.

    After an interruption the next call resumes.

    Args:
        expected: "sha256:HEX" or "md5:HEX", or "" where no digest is published: then an existing
            file is not checked.
        check: reads the file, and raises ValueError where it is incomplete or another thing;
            required where there is no digest.

    Raises:
        ConnectionError: the address is not reached, or the connection broke; the part is kept.
        ValueError: the file is another one, or the address is not of https.
    """
    algorithm, _, digest = expected.partition(":")
    if algorithm not in ("sha256", "md5", ""):
        raise ValueError(f"digest {expected!r}: write 'sha256:...' or 'md5:...'")
    if not algorithm and check is None:
        raise ValueError(f"{url}: without a digest what comes has to be checked; give check")
    if path.exists() and (not algorithm or file_hash(path, algorithm) == digest):
        return
    if not _is_safe_url(url):
        raise ValueError(
            f"{url:.200} is no address of https, so anybody on the way could change the file; "
            f"write https://..., or fetch it elsewhere and put it at {path}"
        )
    part = path.with_name(f"{path.name}.part")
    target = _Download(url, part, algorithm, digest, max_bytes, progress)
    _download_with_retries(target, check)
    os.replace(part, path)
    target.discard()


def _is_safe_url(url: str, local: bool = True) -> bool:
    """Whether it is of https, or, where ``local``, of a server on this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    is_local = host == "localhost"
    with suppress(ValueError):
        is_local = ip_address(host).is_loopback
    return bool(host) and (
        parts.scheme == "https" or (local and parts.scheme == "http" and is_local)
    )


class _SafeRedirects(HTTPRedirectHandler):
    """From https to https only; a server of this machine may redirect to this machine."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if not _is_safe_url(newurl, local=not req.full_url.startswith("https:")):
            raise ValueError(
                f"{req.full_url:.150} leads to {newurl:.150}, which is no address of https"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _make_opener() -> OpenerDirector:
    """An opener for http and https, but not for files and ftp."""
    opener = OpenerDirector()
    for handler in (
        ProxyHandler, UnknownHandler, HTTPHandler, HTTPSHandler, HTTPDefaultErrorHandler,
        _SafeRedirects, HTTPErrorProcessor,
    ):  # fmt: skip
        opener.add_handler(handler())
    return opener


def _download_with_retries(target: _Download, check: FileCheck | None) -> None:
    resumed = target.part.exists()  # from an earlier call, perhaps of another file
    for attempt in range(_ATTEMPTS):
        time.sleep(0.1 * attempt)
        if not _request_rest(target):
            continue
        try:
            _verify(target, check)
            return
        except ValueError:
            target.discard()
            if not resumed:
                raise
            resumed = False
    size = target.part.stat().st_size if target.part.exists() else 0
    raise ConnectionError(
        f"the connection to {target.url} broke after {size:,} bytes; they are kept: "
        "give the same command again and it goes on from there"
    )


def _verify(target: _Download, check: FileCheck | None) -> None:
    url, part, algorithm = target.url, target.part, target.algorithm
    if algorithm and (found := file_hash(part, algorithm)) != target.digest:
        with part.open("rb") as file:
            is_page = file.read(512).lstrip().lower().startswith((b"<!doctype", b"<html"))
        what = "is a web page" if is_page else f"has the {algorithm} {found}"
        raise ValueError(
            f"what came from {url} {what}; expected the {algorithm} {target.digest}. Nothing was "
            "kept: try again, or another address"
        )
    if check is not None:
        try:
            check(part)
        except ValueError as error:
            message = f"what came from {url} is not whole, or something else: {error}"
            raise ValueError(f"{message:.400}. Nothing was kept: try again") from error


def _request_rest(target: _Download) -> bool:
    """Download what the part lacks; whether it is complete then."""
    metadata = _read_metadata(target)
    is_resumable = target.part.exists() and (target.algorithm or "is" in metadata)
    offset = target.part.stat().st_size if is_resumable else 0
    headers = {"User-Agent": "scoreag", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if "is" in metadata:
            headers["If-Range"] = metadata["is"]
    try:
        response = _make_opener().open(Request(target.url, headers=headers), timeout=_TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == 416 and offset:
            return _ends_at(target, offset, error.headers)
        raise ConnectionError(f"{target.url} answers {error.code} {error.reason}") from error
    except (URLError, HTTPException, OSError) as error:
        reason = getattr(error, "reason", error)
        raise ConnectionError(
            f"cannot reach {target.url} ({reason}); check the network, or fetch the file elsewhere "
            f"and put it at {target.part.with_suffix('')}"
        ) from error
    with response:
        return _receive(target, response, offset, metadata)


def _ends_at(target: _Download, offset: int, headers: Message) -> bool:
    """Whether the file ends where the part does, as there is nothing behind; else start again."""
    match = re.fullmatch(r"bytes \*/(\d+)", headers.get("Content-Range") or "")
    if int(match[1]) == offset if match else bool(target.algorithm):  # the digest decides
        return True
    target.discard()
    return False


def _receive(target: _Download, response: Any, offset: int, metadata: Mapping[str, Any]) -> bool:
    """Write the response at its place; the rest of another file is not used."""
    if response.headers.get_content_type() == "text/html":
        raise ValueError(f"{target.url} gives a web page instead of the file; check the address")
    length = response.headers.get("Content-Length")
    total = int(length) if length and length.isdigit() else None
    start = 0
    if response.status == 206:
        content_range = response.headers.get("Content-Range") or ""
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", content_range)
        whole = int(match[2]) if match and match[2] != "*" else None
        fits = offset and match and int(match[1]) == offset and whole is not None
        if not fits or (metadata.get("total") or whole) != whole:
            target.discard()
            return False
        start, total = offset, whole
    elif response.status != 200:
        raise ConnectionError(f"{target.url} answers {response.status} {response.reason}")
    target.part.parent.mkdir(parents=True, exist_ok=True)  # not before: it may be mistyped
    _check_size(target, total)
    if not start:
        _write_metadata(target, response.headers, total)
    return _write_chunks(target, response, start, total)


def _write_chunks(target: _Download, response: Any, start: int, total: int | None) -> bool:
    bar = tqdm(
        total=total, initial=start, unit="B", unit_scale=True, desc=target.part.stem,
        disable=None if target.progress else True,
    )  # fmt: skip
    with bar, target.part.open("r+b" if start else "wb") as file:
        file.seek(start)
        while True:
            try:
                chunk = response.read(_CHUNK_BYTES)
            except (OSError, HTTPException):  # the connection broke
                return False
            if not chunk:
                return total is None or file.tell() == total
            file.write(chunk)
            bar.update(len(chunk))
            _check_size(target, file.tell())


def _read_metadata(target: _Download) -> dict[str, Any]:
    """The server's name of the part's version, if the part is of this address."""
    with suppress(OSError, ValueError):
        found = json.loads(target.metadata_file.read_text("utf-8"))
        if isinstance(found, dict) and found.get("url") == target.url:
            return found
    return {}


def _write_metadata(target: _Download, headers: Message, total: int | None) -> None:
    tag = headers.get("ETag") or ""
    name = tag if tag.startswith('"') else headers.get("Last-Modified")
    target.metadata_file.unlink(missing_ok=True)
    if name:
        metadata = {"url": target.url, "is": name, "total": total}
        target.metadata_file.write_text(json.dumps(metadata), encoding="utf-8")


def _check_size(target: _Download, size: int | None) -> None:
    if size is not None and target.max_bytes is not None and size > target.max_bytes:
        target.discard()
        raise ValueError(
            f"{target.url} sends {size:,} bytes or more, and {target.max_bytes:,} are the most "
            "that it can have; nothing was kept"
        )
