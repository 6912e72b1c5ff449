"""A server on this machine that speaks the Hub's protocol: repositories, commits, large files."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin")


@dataclass
class Repo:
    """A repository: files by commit, and commits by branch."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        before = self.commits.get(self.branches.get(branch, ""), {})
        listed = {**before, **files}
        digests = {name: hashlib.sha256(held).hexdigest() for name, held in listed.items()}
        text = json.dumps([len(self.commits), digests], sort_keys=True)
        sha = hashlib.sha1(text.encode()).hexdigest()
        self.commits[sha], self.branches[branch] = listed, sha
        return sha


@dataclass
class Hub:
    """All repositories, uploaded large files by sha256, and the requests that came."""

    repos: dict[str, Repo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    token: str = "hf_writes"
    url: str = ""
    corrupt: bool = False  # sends other bytes than it states the digest of


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, hub: Hub, *args: object) -> None:
        self.hub = hub
        super().__init__(*args)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        self.body = self.read_body()
        routes: list[tuple[str, Callable[..., None]]] = [
            (r"GET /api/models/([^/]+/[^/]+)(?:/revision/(.+))?", self.info),
            (r"(?:GET|HEAD) /([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.resolve),
            (r"POST /api/validate-yaml", self.validate),
            (r"POST /api/repos/create", self.create),
            (r"POST /api/models/([^/]+/[^/]+)/branch/(.+)", self.branch),
            (r"POST /api/models/([^/]+/[^/]+)/preupload/(.+)", self.preupload),
            (r"POST /([^/]+/[^/]+)\.git/info/lfs/objects/batch", self.batch),
            (r"PUT /upload/([0-9a-f]{64})", self.upload),
            (r"POST /api/models/([^/]+/[^/]+)/commit/(.+)", self.commit),
        ]
        with suppress(ConnectionError):
            for pattern, route in routes:
                if match := re.fullmatch(pattern, f"{self.command} {path}"):
                    return route(*match.groups())
            self.fail(404, "RouteNotFound")
        return None

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def say(self, table: object, status: int = 200) -> None:
        self.send(status, json.dumps(table).encode(), {"Content-Type": "application/json"})

    def fail(self, status: int, code: str, **headers: str) -> None:
        self.send(status, b"{}", {"X-Error-Code": code, **headers})

    def find(self, name: str, revision: str | None) -> tuple[Repo, str] | None:
        """The repository and its commit, or None after an error was sent."""
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and not self.writes()):
            self.fail(401, "RepoNotFound")
        elif repo.gated:
            self.fail(403, "GatedRepo")
        else:
            sha = repo.branches.get(revision or "main", revision or "")
            if sha in repo.commits:
                return repo, sha
            self.fail(404, "RevisionNotFound")
        return None

    def writes(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.hub.token}"

    def info(self, name: str, revision: str | None) -> None:
        if found := self.find(name, revision):
            repo, sha = found
            files = [{"rfilename": file} for file in repo.commits[sha]]
            self.say({"id": name, "modelId": name, "sha": sha, "siblings": files})

    def resolve(self, name: str, revision: str, file: str) -> None:
        if not (found := self.find(name, revision)):
            return
        repo, sha = found
        if file not in repo.commits[sha]:
            self.fail(404, "EntryNotFound", **{"X-Repo-Commit": sha})
            return
        held = repo.commits[sha][file]
        etag = (
            hashlib.sha256(held) if file.endswith(LARGE)
            else hashlib.sha1(b"blob %d\0" % len(held) + held)
        ).hexdigest()  # fmt: skip
        if self.hub.corrupt:
            held = held[:-1] + bytes([held[-1] ^ 1])
        self.send(200, held, {"ETag": f'"{etag}"', "X-Repo-Commit": sha})

    def validate(self) -> None:
        self.say({"errors": [], "warnings": []})

    def create(self) -> None:
        wanted = json.loads(self.body)
        name = f"{wanted['organization']}/{wanted['name']}"
        if not self.writes():
            self.fail(403, "Forbidden")
        elif name in self.hub.repos:
            self.say({"url": f"{self.hub.url}/{name}", "error": "it exists"}, 409)
        else:
            is_private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
            self.hub.repos[name] = repo = Repo(private=is_private)
            repo.commit({".gitattributes": b"*.safetensors filter=lfs\n"})
            self.say({"url": f"{self.hub.url}/{name}"})

    def branch(self, name: str, branch: str) -> None:
        repo = self.hub.repos[name]
        if branch in repo.branches:
            self.say({"error": "it exists"}, 409)
        else:
            repo.branches[branch] = repo.branches["main"]
            self.say({})

    def preupload(self, name: str, revision: str) -> None:
        files = [one["path"] for one in json.loads(self.body)["files"]]
        modes = {name: "lfs" if name.endswith(LARGE) else "regular" for name in files}
        self.say(
            {"files": [{"path": n, "uploadMode": m, "shouldIgnore": False}
                       for n, m in modes.items()]}
        )  # fmt: skip

    def batch(self, name: str) -> None:
        objects = [
            one | {"actions": {"upload": {"href": f"{self.hub.url}/upload/{one['oid']}"}}}
            for one in json.loads(self.body)["objects"]
        ]
        self.say({"transfer": "basic", "objects": objects})

    def upload(self, oid: str) -> None:
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.hub.objects[oid] = self.body
        self.say({})

    def commit(self, name: str, branch: str) -> None:
        if not self.writes():
            self.fail(403, "Forbidden")
            return
        files: dict[str, bytes] = {}
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
        sha = self.hub.repos[name].commit(files, branch)
        self.say({"commitUrl": f"{self.hub.url}/{name}/commit/{sha}", "commitOid": sha})

    def log_message(self, *args: object) -> None:
        pass
