"""Read files in a child process, and say of each what it cost and what it tried.

The child is told a case at a time; when it dies, the case that it was at is to blame, and another
child goes on with the next one.
"""

import gc
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

SECONDS = 20  # of a core, for one case
WAIT = 90  # seconds of the clock until a child is taken to hang
ROOM, TIMES = 200 << 20, 20  # bytes that a case may take, and more for each byte of its files
CEILING = 6 << 30  # bytes that the child may ask for beyond what it has
LONGEST = 500  # characters of a message
ACTS = (
    "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile",
    "subprocess.Popen", "pty.spawn", "socket.connect", "socket.bind", "ctypes.dlopen",
    "shutil.rmtree", "os.kill", "os.putenv", "os.chmod", "webbrowser.open", "urllib.Request",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """``read`` is given the folder in which ``files`` lie, bytes or who makes them at a path."""

    name: str
    family: str
    read: Callable[[Path], Any]
    files: dict[str, bytes | Callable[[Path], None]] = field(hash=False)


@dataclass(frozen=True)
class Outcome:
    """What a case came to; ``error`` is its type, "" where the file was read."""

    name: str
    family: str
    error: str = ""
    told: str = ""
    seconds: float = 0.0
    growth: int = 0
    size: int = 0
    acts: tuple[str, ...] = ()

    @property
    def faults(self) -> list[str]:
        found = [f"it did {act}" for act in self.acts]
        if "(unexpected: " in self.told:
            found.append(f"not foreseen: {self.error}")
        if self.error in ("MemoryError", "died"):
            found.append(f"{self.error}: {self.told}")
        if "\n" in self.told or len(self.told) > LONGEST:
            found.append(f"a message of {len(self.told)} characters")
        if self.seconds > SECONDS:
            found.append(f"{self.seconds:.0f} s")
        if self.growth > ROOM + TIMES * self.size:
            found.append(f"{self.growth >> 20} MB for a file of {self.size} bytes")
        return found


def run(cases: Sequence[Case], place: Path, known: frozenset[str]) -> Iterator[Outcome]:
    """The outcomes of all cases, in their order.

    Args:
        place: a folder for their files.
        known: acts that reading whole files takes, such as importing a decoder.
    """
    at = 0
    while at < len(cases):
        came = 0
        for line in _child(cases[at:], place, known):
            came += 1
            yield line
        at += came


def _child(cases: Sequence[Case], place: Path, known: frozenset[str]) -> Iterator[Outcome]:
    """What a child says, until it has done all or dies."""
    ours, theirs = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        os.close(ours)
        _work(cases, place, known, theirs)
    os.close(theirs)
    done = 0
    with os.fdopen(ours, "rb") as pipe:
        for line in _lines(pipe, pid):
            done += 1
            yield Outcome(**{**line, "acts": tuple(line["acts"])})
    _, status = os.waitpid(pid, 0)
    if done < len(cases):
        case = cases[done]
        how = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else str(status)
        yield Outcome(case.name, case.family, "died", how)


def _lines(pipe: Any, pid: int) -> Iterator[dict[str, Any]]:
    while True:
        ready, _, _ = select.select([pipe], [], [], WAIT)
        if not ready:
            os.kill(pid, signal.SIGKILL)
            return
        line = pipe.readline()
        if not line.endswith(b"\n"):
            return
        yield json.loads(line)


def _work(cases: Sequence[Case], place: Path, known: frozenset[str], pipe: int) -> None:
    """In the child, which does not come back."""
    acts: list[str] = []
    try:
        gc.collect()
        gc.freeze()  # what the parent has is not looked through again for each case
        os.chdir(place)
        sys.addaudithook(_watcher(acts, known, place))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        asked = _status("VmSize") + CEILING
        resource.setrlimit(resource.RLIMIT_AS, (asked, asked))
        for number, case in enumerate(cases):
            found = _tried(case, place / f"{os.getpid()}-{number}", place / "canary", acts)
            os.write(pipe, (json.dumps(found) + "\n").encode())
    except BaseException as error:
        os.write(2, f"the trial itself failed: {error!r}\n".encode())
    finally:
        os._exit(0)


def _tried(case: Case, folder: Path, canary: Path, acts: list[str]) -> dict[str, Any]:
    folder.mkdir()
    acts.clear()
    size = 0
    for name, content in case.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
            size += len(content)
        else:
            content(path)
    limit, (_, hard) = (
        int(time.process_time()) + SECONDS + 2,
        resource.getrlimit(resource.RLIMIT_CPU),
    )
    resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))
    environment = dict(os.environ)
    Path("/proc/self/clear_refs").write_text("5")  # the highest size begins again
    before, began = _status("VmRSS"), time.process_time()
    acts.clear()
    error, told = _read(case, folder)
    seconds, growth = time.process_time() - began, _status("VmHWM") - before
    if canary.exists():
        acts.append("code: the canary is there")
        canary.unlink()
    if dict(os.environ) != environment:
        acts.append("code: the environment is another")
    return {
        "name": case.name, "family": case.family, "error": error, "told": told,
        "seconds": round(seconds, 2), "growth": growth, "size": size, "acts": sorted({*acts}),
    }  # fmt: skip


def _read(case: Case, folder: Path) -> tuple[str, str]:
    """The type of the error, and what the command line says of it; "" where there is none."""
    from scoreag.cli import app

    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            case.read(folder)
    except Exception as error:
        raw = str(error)
        with redirect_stderr(StringIO()) as told:
            app.print_line(app.explain_error(error)[1])
        plain = not isinstance(error, OSError)  # whose file has the name that it has
        long = plain and (len(raw) > LONGEST or "\n" in raw)  # in Python it is shown as it is
        return type(error).__name__, raw if long else told.getvalue().removesuffix("\n")
    return "", ""


def _status(name: str) -> int:
    """A size of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    raise AssertionError(f"the system does not tell {name}")


def _watcher(acts: list[str], known: frozenset[str], place: Path) -> Callable[[str, Any], None]:
    def watch(event: str, given: tuple[Any, ...]) -> None:
        act = ""
        if event in ACTS:
            act = event
        elif event == "import":
            act = f"import {given[0]}"
        elif event == "exec":
            file = getattr(given[0], "co_filename", "?")
            act = "" if file.startswith("<@beartype(") else f"exec of {file}"
        elif event == "open" and isinstance(given[0], str | bytes):
            writes = given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            path = os.path.abspath(os.fsdecode(given[0]))
            if writes and not path.startswith((f"{place}/", "/proc/self/", "/dev/null")):
                act = f"write {path}"
        if act and act not in known:
            acts.append(act)

    return watch
