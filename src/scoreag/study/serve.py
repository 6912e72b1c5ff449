"""A server of one study: it shows the page, hands out lists in turn, and keeps answers.

It has three addresses: ``/`` sends everyone to ``/study`` with a list, and ``/answers`` takes
answers by POST.  An answer file appears whole, and none is ever replaced.
"""

import json
import os
import re
import secrets
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from scoreag.io.filesystem import check_regular_file, write_json
from scoreag.study.lists import trial_order
from scoreag.study.manifest import ANSWERS, PAGE, answers_digest, read_study

MAX_ANSWER_BYTES = 1_000_000
HANDED_OUT = "handed-out.json"  # the list of each participant
CODE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TIMEOUT = 30.0  # seconds in which a request must arrive
_NAMES = ("format", "study", "participant", "list", "consent", "started", "finished", "complete",
          "screen", "resumed", "trials", "digest")  # fmt: skip


class AnswerError(ValueError):
    """Answers that are not kept, with the status of the reply."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, eq=False)
class Desk:
    """Hands out the lists of a study, and takes its answers in."""

    folder: Path
    manifest: Mapping[str, Any]
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def answers(self) -> Path:
        return self.folder / ANSWERS

    def hand_out(self, participant: str) -> int:
        """The list of a participant: the same again, else the one with the fewest people.

        People who handed in count first, so that lists of dropouts are handed out again.
        """
        with self.lock:
            known = self._read_handed_out()
            if participant not in known:
                finished = Counter(known.get(name, -1) for name in self._finished())
                given = Counter(known.values())
                numbers = range(len(self.manifest["lists"]))
                known[participant] = min(numbers, key=lambda i: (finished[i], given[i], i))
                write_json(self.folder / HANDED_OUT, known)
            return known[participant]

    def take_in(self, data: bytes) -> bool:
        """Keep answers; whether they are new.

        Raises:
            AnswerError: they are none of this study, or others of the same participant are there.
        """
        answers = parse_answers(data, self.manifest)
        file = self.answers / f"{answers['participant']}.json"
        with self.lock:
            self.answers.mkdir(exist_ok=True)
            if file.exists():
                if file.read_bytes() == data:
                    return False  # sent twice
                raise AnswerError(
                    HTTPStatus.CONFLICT, "answers of this participant are here already"
                )
            _write_new(file, data)
        return True

    def _finished(self) -> list[str]:
        return [file.stem for file in self.answers.glob("*.json")]

    def _read_handed_out(self) -> dict[str, int]:
        file = self.folder / HANDED_OUT
        check_regular_file(file)
        return dict(json.loads(file.read_text("utf-8"))) if file.is_file() else {}


def open_desk(folder: Path) -> Desk:
    """The desk of the study in ``folder``.

    Raises:
        ValueError: there is no study, or its page is missing.
    """
    manifest = read_study(folder)
    if not (folder / PAGE).is_file():
        raise ValueError(f"{folder} has no {PAGE}; give the command that built the study again")
    desk = Desk(folder, manifest)
    try:
        desk._read_handed_out()
    except (ValueError, TypeError) as error:
        raise ValueError(f"{folder / HANDED_OUT} is damaged; delete it to begin anew") from error
    return desk


def parse_answers(data: bytes, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Answers as the page of this study writes them.

    Raises:
        AnswerError: says what is wrong.
    """
    try:
        answers: dict[str, Any] = json.loads(data)
        fault = _find_fault(answers, manifest)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise AnswerError(HTTPStatus.BAD_REQUEST, "these are no answers of a study") from error
    if fault:
        raise AnswerError(HTTPStatus.BAD_REQUEST, fault)
    return answers


def _find_fault(answers: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """What is wrong with answers; "" if nothing is."""
    if not isinstance(answers, dict) or sorted(answers) != sorted(_NAMES):
        return "these are no answers of a study"
    if answers["study"] != manifest["study"]:
        return "these are answers of another study"
    participant, number = answers["participant"], answers["list"]
    if not isinstance(participant, str) or not CODE.fullmatch(participant):
        return "the participant's code has letters that no code has"
    if type(number) is not int or not 0 <= number < len(manifest["lists"]):
        return "the list is none of this study"
    if answers["consent"] is not True:
        return "there is no consent"
    if answers["digest"] != answers_digest(answers):
        return "the answers were changed after they were given"
    return _find_wrong_trial(answers, trial_order(manifest, participant, number), manifest)


def _find_wrong_trial(
    answers: Mapping[str, Any], order: list[dict[str, Any]], manifest: Mapping[str, Any]
) -> str:
    """Whether the trials are the first of the order, with answers that the page offers."""
    trials = answers["trials"]
    asked = [{"item": trial["item"], "kind": trial["kind"]} for trial in trials]
    if asked != order[: len(trials)] or (answers["complete"] is True) != (asked == order):
        return "the trials are not those of this list"
    known: Mapping[str, tuple[int | str, ...]] = {
        "name": tuple(range(len(manifest["classes"]))),
        "choose": ("left", "right"),
        "real": ("real", "fake"),
    }
    allowed = [*known[manifest["design"]], "unsure"]
    for number, trial in enumerate(trials):
        is_fine = trial["answer"] in allowed and type(trial["answer"]) in (int, str)
        if trial["trial"] != number or not is_fine or type(trial["ms"]) is not int:
            return f"trial {number} is not as the page writes it"
    return ""


def _write_new(file: Path, data: bytes) -> None:
    """Write a file that must not exist yet; it appears whole."""
    temp = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with temp.open("wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
        os.link(temp, file)  # fails where the name is taken, unlike a rename
    finally:
        temp.unlink(missing_ok=True)


def make_server(desk: Desk, host: str = "127.0.0.1", port: int = 0) -> ThreadingHTTPServer:
    """The server of a study; port 0 takes a free one."""

    class Handler(StudyHandler):
        pass

    Handler.desk = desk
    return ThreadingHTTPServer((host, port), Handler)


class StudyHandler(BaseHTTPRequestHandler):
    """Requests to the three addresses; everything else is not there."""

    desk: Desk
    timeout = _TIMEOUT
    server_version, sys_version = "scoreag", ""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/":
            self._redirect(parse_qs(parts.query))
        elif parts.path == "/study":
            page = (self.desk.folder / PAGE).read_bytes()
            self._reply(HTTPStatus.OK, page, "text/html; charset=utf-8")
        else:
            self._say(HTTPStatus.NOT_FOUND, "there is nothing here")

    def do_POST(self) -> None:
        try:
            is_new = self.desk.take_in(self._read_body())
        except AnswerError as error:
            self.close_connection = True  # a body may be left unread
            self._say(error.status, str(error))
        except OSError as error:
            self._say(HTTPStatus.INTERNAL_SERVER_ERROR, "the answers could not be stored")
            self.log_error("answers were not stored: %s", error)
        else:
            self._say(HTTPStatus.CREATED if is_new else HTTPStatus.OK, "received")

    def _redirect(self, query: Mapping[str, list[str]]) -> None:
        """To the page with a list; a participant without a code gets one."""
        words = {name: values[0] for name, values in query.items()}
        code = words.get("PROLIFIC_PID") or words.get("participant") or ""
        if not code:
            code = words["participant"] = f"p-{secrets.token_hex(6)}"
        if not CODE.fullmatch(code):
            self._say(HTTPStatus.BAD_REQUEST, "the participant's code has letters that none has")
            return
        words |= {"list": str(self.desk.hand_out(code)), "send": "1"}
        self.send_response(HTTPStatus.FOUND)
        self.send_header("Location", f"/study?{urlencode(words)}")
        self.send_header("Content-Length", "0")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()

    def _read_body(self) -> bytes:
        """The body of a request, of the right address, kind and size."""
        if urlsplit(self.path).path != "/answers":
            raise AnswerError(HTTPStatus.NOT_FOUND, "answers go to /answers")
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip()
        if kind != "application/json":  # which another site's page cannot send unasked
            raise AnswerError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "answers are application/json")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise AnswerError(HTTPStatus.LENGTH_REQUIRED, "answers come with their length")
        if len(length) > 9 or int(length) > MAX_ANSWER_BYTES:
            raise AnswerError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "answers are at most 1 MB")
        data = self.rfile.read(int(length))
        if len(data) != int(length):
            raise AnswerError(HTTPStatus.BAD_REQUEST, "the answers are cut off")
        return data

    def _say(self, status: HTTPStatus, text: str) -> None:
        self._reply(status, f"{text}\n".encode(), "text/plain; charset=utf-8")

    def _reply(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: an address has the code of a person."""
