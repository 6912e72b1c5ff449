"""Requests to the Hugging Face Hub: errors in one line, and files with their digest."""

import hashlib
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from scoreag.io.download import is_safe_url
from scoreag.io.filesystem import file_sha256
from scoreag.registry import truncate_text

PREFIX = "hf://"
DEFAULT_REVISION, DEFAULT_ENDPOINT = "main", "https://huggingface.co"
NETWORK_MODULES = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")
COMMIT_LENGTH = 40  # hexadecimal digits of a full commit
T = TypeVar("T")


@dataclass(frozen=True)
class HubName:
    """A repository of models, and a branch, tag or commit of it."""

    repo: str
    revision: str = DEFAULT_REVISION

    def at(self, commit: str) -> str:
        """The name with the commit, which always means the same files."""
        return f"{PREFIX}{self.repo}@{commit}"


def get_endpoint() -> str:
    """The address of the Hub, which must be of https, or of this machine."""
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or DEFAULT_ENDPOINT
    if not is_safe_url(endpoint):
        raise ValueError(f"HF_ENDPOINT is {endpoint:.100}; write an address of https")
    return endpoint


def import_hub() -> Any:
    """The package huggingface_hub."""
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise ValueError(
            "names hf://... need the package huggingface_hub: pip install 'scoreag[hub]'"
        ) from error


def library_name() -> dict[str, str]:
    """How requests name this package."""
    version: str = importlib.import_module("scoreag").__version__
    return {"library_name": "scoreag", "library_version": version}


def ask_hub(model: HubName, endpoint: str, call: Callable[[], T]) -> T:
    """The answer of the Hub, or one line that says why there is none.

    Raises:
        FileNotFoundError: the repository, or offline the cache, has no such file.
    """
    errors = importlib.import_module("huggingface_hub.errors")
    name = f"{PREFIX}{model.repo}"
    try:
        return call()
    except errors.EntryNotFoundError as error:
        if isinstance(error, errors.LocalEntryNotFoundError) and not is_offline():
            raise _unreachable(name, endpoint, error.__cause__ or error) from error
        raise FileNotFoundError(str(error)) from error
    except errors.GatedRepoError as error:
        raise ValueError(
            f"{name} is gated: accept its terms at {endpoint}/{model.repo}, then give a token: "
            "hf auth login, or HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ValueError(
            f"there is no {name} at {endpoint}, or it is private; check the name, and for a "
            "private one give a token: hf auth login, or HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ValueError(
            f"{name} has no revision {model.revision!r}; write a branch, a tag or a full commit"
        ) from error
    except Exception as error:
        known_absent = type(error) is FileNotFoundError
        if known_absent or not (_is_of_network(error) or _is_of_network(error.__cause__)):
            raise
        raise _unreachable(name, endpoint, error) from error


def _is_of_network(error: BaseException | None) -> bool:
    """Whether an error is of the network: the client's own are no OSError."""
    return isinstance(error, OSError) or type(error).__module__.split(".")[0] in NETWORK_MODULES


def _unreachable(name: str, endpoint: str, error: BaseException) -> ConnectionError:
    reason = truncate_text(" ".join(str(error).split()), 150)
    return ConnectionError(
        f"cannot get {name} from {endpoint} ({reason}); check the network, or HF_ENDPOINT"
    )


def download_hub_file(model: HubName, file: str, endpoint: str) -> Path:
    """A file of a repository, from the cache or the Hub; FileNotFoundError where it has none."""
    hub = import_hub()

    def call() -> str:
        known = hub.try_to_load_from_cache(model.repo, file, revision=model.revision)
        if known is hub._CACHED_NO_EXIST and len(model.revision) == COMMIT_LENGTH:
            raise FileNotFoundError(file)  # an answer of before, which holds for a commit
        path: str = hub.hf_hub_download(
            model.repo, file, revision=model.revision, endpoint=endpoint,
            local_files_only=is_offline(), **library_name(),
        )  # fmt: skip
        return path

    path = Path(ask_hub(model, endpoint, call))
    _verify(path)
    return path


def is_offline() -> bool:
    """Whether only the cache may be used."""
    constants = importlib.import_module("huggingface_hub.constants")
    word = os.environ.get("HF_HUB_OFFLINE", "").upper()
    return bool(constants.HF_HUB_OFFLINE) or word in ("1", "ON", "YES", "TRUE")


def _verify(path: Path) -> None:
    """Compare a file with the digest that the Hub stated, which is its name among the blobs.

    Without links in the cache there are no such names; a card has the digest of its weights.
    """
    if not path.is_symlink():
        return
    digest = Path(os.readlink(path)).name
    if len(digest) == 64:
        found = file_sha256(path)
    else:
        data = path.read_bytes()
        found = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    if found != digest:
        raise ValueError(
            f"{path.name} of the Hub has the digest {found}, and the Hub states {digest}; delete "
            f"{path.resolve()} and try again"
        )
