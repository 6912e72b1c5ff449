"""A server of files on this machine, which can be made to break off or to send web pages."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path


@dataclass
class Served:
    """A folder whose files are sent; the first ``breaks`` answers break off in the middle."""

    folder: Path
    breaks: int = 0
    kind: str = "application/octet-stream"
    ranges: list[str | None] = field(default_factory=list)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = self.folder / request.path.rpartition("/")[2]
        if not path.is_file():
            request.send_error(404)
            return
        wanted = request.headers.get("Range")
        self.ranges.append(wanted)
        whole, start = path.read_bytes(), int(wanted[6:-1]) if wanted else 0
        left = whole[start:]
        request.send_response(206 if wanted else 200)
        request.send_header("Content-Type", self.kind)
        request.send_header("ETag", f'"{hashlib.sha256(whole).hexdigest()}"')
        if wanted:
            told = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
            request.send_header("Content-Range", told)
        request.send_header("Content-Length", str(len(left)))
        request.end_headers()
        self.breaks -= 1
        request.wfile.write(left[: len(left) // 2] if self.breaks >= 0 else left)


class Handler(BaseHTTPRequestHandler):
    def __init__(self, served: Served, *args: object) -> None:
        self.served = served
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        with suppress(ConnectionError):  # who asked may have seen enough
            self.served.answer(self)

    def log_message(self, *args: object) -> None:
        pass
