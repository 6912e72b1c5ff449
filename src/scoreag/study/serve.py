"""A server of one study: it shows the page, hands out lists in turn, and keeps answers.

It has three addresses: ``/`` sends everyone to ``/study`` with a list, and ``/answers`` takes
answers by POST.  An answer file appears whole, and none is ever replaced.
"""

import os
import secrets
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlencode, urlsplit

from scoreag.io.bounded import parse_json, read_text
from scoreag.io.filesystem import check_regular_file, write_json
from scoreag.study.answers import CODE, Participant, check_participant, read_file
from scoreag.study.lists import trial_order
from scoreag.study.manifest import ANSWERS, PAGE, read_study

MAX_ANSWER_BYTES = 1_000_000
HANDED_OUT = "handed-out.json"  # the list of each participant, and when it was given
HOLD_SECONDS = 3600.0  # that someone is expected to answer a list; then another may get it
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
    now: Callable[[], float] = time.time
    lock: threading.Lock = field(default_factory=threading.Lock)
    _known_answers: dict[str, int | None] = field(default_factory=dict)

    @property
    def answers(self) -> Path:
        return self.folder / ANSWERS

    def hand_out(self, participant: str) -> int:
        """The list of a participant: the same again, else the one with the fewest people.

        These are who answered all of it, and who got it within the last ``HOLD_SECONDS`` and has
        not handed in: lists of people who stop are handed out again.
        """
        with self.lock:
            known, now = self._read_handed_out(), self.now()
            entry = known.get(participant)
            if entry is None or now - entry["time"] >= HOLD_SECONDS:
                number = self._choose_list(known, now) if entry is None else entry["list"]
                known[participant] = {"list": number, "time": round(now, 3)}
                write_json(self.folder / HANDED_OUT, known)
            return int(known[participant]["list"])

    def _choose_list(self, known: Mapping[str, Mapping[str, Any]], now: float) -> int:
        handed_in = self._handed_in()
        people = Counter(number for number in handed_in.values() if number is not None)
        people.update(
            entry["list"]
            for name, entry in known.items()
            if name not in handed_in and now - entry["time"] < HOLD_SECONDS
        )
        given = Counter(entry["list"] for entry in known.values())
        numbers = range(len(self.manifest["lists"]))
        return min(numbers, key=lambda i: (people[i], given[i], i))

    def take_in(self, data: bytes) -> bool:
        """Keep answers; whether they are new.

        Raises:
            AnswerError: they are none of this study, or others of the same participant are there.
        """
        person = parse_answers(data, self.manifest)
        file = self.answers / f"{person.name}.json"
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

    def _handed_in(self) -> dict[str, int | None]:
        """Who handed in, with the list where all of it is answered; each file is read once."""
        names = {file.stem for file in self.answers.glob("*.json")}
        for name in names - self._known_answers.keys():
            self._known_answers[name] = self._completed_list(self.answers / f"{name}.json")
        return {name: self._known_answers[name] for name in names}

    def _completed_list(self, file: Path) -> int | None:
        try:
            (fields,) = read_file(file)
            person = check_participant(self.manifest, file, fields)
        except (ValueError, RecursionError, OSError):
            return None  # the analysis says what is wrong
        return person.list_number if person.complete else None

    def _read_handed_out(self) -> dict[str, dict[str, Any]]:
        file = self.folder / HANDED_OUT
        check_regular_file(file)
        try:
            known = parse_json(read_text(file)) if file.is_file() else {}
            if not _is_table(known, len(self.manifest["lists"])):
                raise ValueError("it is no table of people")
        except ValueError as error:
            raise ValueError(f"{file} is damaged; delete it to begin anew") from error
        return dict(known)


def _is_table(known: Any, n_lists: int) -> bool:
    """Whether it is a table of participants, each with a list and a time."""
    return isinstance(known, dict) and all(
        isinstance(entry, dict)
        and type(entry.get("time")) in (int, float)
        and type(entry.get("list")) is int
        and 0 <= entry["list"] < n_lists
        for entry in known.values()
    )


def open_desk(folder: Path) -> Desk:
    """The desk of the study in ``folder``.

    Raises:
        ValueError: there is no study, its page is missing, or a file of it is damaged.
    """
    manifest = read_study(folder)
    if not (folder / PAGE).is_file():
        raise ValueError(f"{folder} has no {PAGE}; give the command that built the study again")
    desk = Desk(folder, manifest)
    desk._read_handed_out()  # refuses a damaged one
    return desk


def parse_answers(data: bytes, manifest: Mapping[str, Any]) -> Participant:
    """Answers as the page of this study writes them: what the analysis reads, in the page's order.

    Raises:
        AnswerError: says what is wrong.
    """
    nothing = AnswerError(HTTPStatus.BAD_REQUEST, "these are no answers of a study")
    try:
        answers = parse_json(data.decode("utf-8"))
    except ValueError as error:
        raise nothing from error
    if not isinstance(answers, dict) or sorted(answers) != sorted(_NAMES):
        raise nothing
    try:
        person = check_participant(manifest, "the file", answers)
    except (ValueError, RecursionError) as error:
        raise AnswerError(HTTPStatus.BAD_REQUEST, str(error)) from error
    if not person.consent:
        raise AnswerError(HTTPStatus.BAD_REQUEST, "there is no consent")
    if not _is_in_order(person, trial_order(manifest, person.name, person.list_number)):
        raise AnswerError(HTTPStatus.BAD_REQUEST, "the trials are not those of this list")
    return person


def _is_in_order(person: Participant, order: list[dict[str, Any]]) -> bool:
    """Whether the trials are the first of the order, and all of it if they are complete."""
    asked = [(trial.trial, trial.item, trial.kind) for trial in person.trials]
    wanted = [(number, trial["item"], trial["kind"]) for number, trial in enumerate(order)]
    return asked == wanted[: len(asked)] and person.complete == (asked == wanted)


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


def make_server(desk: Desk, host: str = "127.0.0.1", port: int = 0) -> "StudyServer":
    """The server of a study; port 0 takes a free one."""

    class Handler(StudyHandler):
        pass

    Handler.desk = desk
    return StudyServer((host, port), Handler)


def _warn(text: str) -> None:
    """A line for who runs the study; it names no participant and no address."""
    print(f"scoreag: {text}", file=sys.stderr, flush=True)


@contextmanager
def _at_disk(text: str) -> Iterator[None]:
    """Tell a participant ``text``, and who runs the study why, where a file cannot be used."""
    try:
        yield
    except AnswerError:
        raise
    except (OSError, ValueError) as error:
        # the message of an OSError has the file's name, and so the participant's code
        why = error.strerror if isinstance(error, OSError) else str(error)
        _warn(f"{text}: {why or type(error).__name__}")
        raise AnswerError(HTTPStatus.INTERNAL_SERVER_ERROR, text) from error


class StudyServer(ThreadingHTTPServer):
    """A server that logs no address, also where a request fails."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        frame = traceback.extract_tb(error.__traceback__ if error else None)[-1:]
        where = "".join(f" at {Path(one.filename).name}:{one.lineno}" for one in frame)
        _warn(f"a request broke off: {type(error).__name__}{where}")


class StudyHandler(BaseHTTPRequestHandler):
    """Requests to the three addresses; everything else is not there."""

    desk: Desk
    timeout = _TIMEOUT
    server_version, sys_version = "scoreag", ""

    def do_GET(self) -> None:
        with self._refusing():
            parts = self._split_path()
            if parts.path == "/":
                self._redirect(parse_qs(parts.query))
            elif parts.path == "/study":
                with _at_disk("the page cannot be read"):
                    page = (self.desk.folder / PAGE).read_bytes()
                self._reply(HTTPStatus.OK, page, "text/html; charset=utf-8")
            else:
                raise AnswerError(HTTPStatus.NOT_FOUND, "there is nothing here")

    def do_POST(self) -> None:
        with self._refusing():
            data = self._read_body()
            with _at_disk("the answers could not be stored"):
                is_new = self.desk.take_in(data)
            self._say(HTTPStatus.CREATED if is_new else HTTPStatus.OK, "received")

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Reply with what is wrong."""
        try:
            yield
        except AnswerError as error:
            self.close_connection = True  # a body may be left unread
            self._say(error.status, str(error))

    def _split_path(self) -> SplitResult:
        try:
            return urlsplit(self.path)
        except ValueError as error:
            raise AnswerError(HTTPStatus.BAD_REQUEST, "this is no address") from error

    def _redirect(self, query: Mapping[str, list[str]]) -> None:
        """To the page with a list; a participant without a code gets one."""
        words = {name: values[0] for name, values in query.items()}
        code = words.get("PROLIFIC_PID") or words.get("participant") or ""
        if not code:
            code = words["participant"] = f"p-{secrets.token_hex(6)}"
        if not CODE.fullmatch(code):
            raise AnswerError(
                HTTPStatus.BAD_REQUEST, "the participant's code has letters that none has"
            )
        with _at_disk("no list could be handed out; try again later"):
            words |= {"list": str(self.desk.hand_out(code)), "send": "1"}
        self.send_response(HTTPStatus.FOUND)
        self.send_header("Location", f"/study?{urlencode(words)}")
        self.send_header("Content-Length", "0")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()

    def _read_body(self) -> bytes:
        """The body of a request, of the right address, kind and size."""
        if self._split_path().path != "/answers":
            raise AnswerError(HTTPStatus.NOT_FOUND, "answers go to /answers")
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip()
        if kind != "application/json":  # which another site's page cannot send unasked
            raise AnswerError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "answers are application/json")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise AnswerError(HTTPStatus.LENGTH_REQUIRED, "answers come with their length")
        if len(length) > 9 or int(length) > MAX_ANSWER_BYTES:
            raise AnswerError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "answers are at most 1 MB")
        try:
            data = self.rfile.read(int(length))
        except TimeoutError as error:
            raise AnswerError(
                HTTPStatus.REQUEST_TIMEOUT, "the answers did not arrive in time"
            ) from error
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
