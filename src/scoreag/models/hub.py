"""Models of the Hugging Face Hub: ``hf://OWNER/NAME@REVISION`` as a folder of the Hub's own cache.

A revision is resolved once to a commit; all files come from that commit and are compared with the
digests that the Hub states: sha256 for large files, git's for others.  Only data is downloaded:
cards, JSON and weights.  Python files stay on the Hub.
"""

import fnmatch
import hashlib
import importlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from scoreag.io.bounded import MAX_TEXT_BYTES, parse_toml, read_text
from scoreag.io.download import is_safe_url
from scoreag.io.filesystem import file_sha256
from scoreag.registry import truncate_text

PREFIX = "hf://"
CARD_FILE = "card.toml"
DEFAULT_REVISION, DEFAULT_ENDPOINT = "main", "https://huggingface.co"
DIFFUSERS_FILES = (  # of a model alone, and of a pipeline
    "model_index.json", "config.json", "scheduler_config.json", "scheduler/scheduler_config.json",
    "unet/config.json",
)  # fmt: skip
DIFFUSERS_WEIGHTS = "diffusion_pytorch_model*"
NETWORK_MODULES = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")
_NAME = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_WORD = re.compile(r"hf://[^,\s]+")
T = TypeVar("T")


@dataclass(frozen=True)
class HubName:
    """A repository of models, and a branch, tag or commit of it."""

    repo: str
    revision: str = DEFAULT_REVISION

    def at(self, commit: str) -> str:
        """The name with the commit, which always means the same files."""
        return f"{PREFIX}{self.repo}@{commit}"


@dataclass(frozen=True)
class HubFolder:
    """The files of a model in the cache, and the name of their commit."""

    folder: Path
    pinned: str

    @property
    def model(self) -> str:
        """NAME of OWNER/NAME."""
        return parse_hub_name(self.pinned).repo.partition("/")[2]


def is_hub_name(name: Any) -> bool:
    """Whether a name is of the Hub."""
    return isinstance(name, str) and name.startswith(PREFIX)


def parse_hub_name(name: str) -> HubName:
    """The parts of ``hf://OWNER/NAME`` or ``hf://OWNER/NAME@REVISION``."""
    match = _NAME.fullmatch(name)
    if not match or ".." in name or "--" in match[1]:
        raise ValueError(
            f"{name[:100]!r} is no name of the Hub; write hf://OWNER/NAME, or hf://OWNER/NAME@COMMIT"
        )
    return HubName(match[1], match[2] or DEFAULT_REVISION)


def pin_names(text: str, pins: dict[str, str]) -> str:
    """A word for a model with every name of the Hub at its commit.

    Args:
        pins: the commits that are known; new ones are added.
    """

    def pin(match: re.Match[str]) -> str:
        if match[0] not in pins:
            pins[match[0]] = fetch_hub_folder(match[0]).pinned
        return pins[match[0]]

    return _HUB_WORD.sub(pin, text)


def fetch_hub_folder(name: str) -> HubFolder:
    """The folder of a model in the cache; what is missing there is downloaded.

    ``HF_ENDPOINT``, ``HF_HOME``, ``HF_HUB_OFFLINE`` and the token of ``hf auth login`` count as in
    every program that uses the Hub.

    Raises:
        ValueError: there is no such model, it needs a token, or a file is not what the Hub has.
        ConnectionError: the Hub is not reached, and the cache lacks a file.
    """
    model = parse_hub_name(name)
    endpoint = get_endpoint()
    try:
        card = _download(model, CARD_FILE, endpoint)
    except (FileNotFoundError, ConnectionError):  # of the second, listing the files says more
        return _fetch_diffusers(model, endpoint)
    commit = card.parent.name
    _fetch_card_files(HubName(model.repo, commit), card, endpoint, "")
    return HubFolder(card.parent, model.at(commit))


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
        if not _is_of_network(error) and not _is_of_network(error.__cause__):
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


def _download(model: HubName, file: str, endpoint: str) -> Path:
    """A file of a repository, from the cache or the Hub; FileNotFoundError where it has none."""
    hub = import_hub()

    def call() -> str:
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


def _fetch_card_files(model: HubName, card: Path, endpoint: str, prefix: str) -> None:
    """The weights of a card, and its judge where that is a folder beside it."""
    entries = parse_toml(read_text(card, MAX_TEXT_BYTES))
    for name in _weight_names(entries):
        try:
            _download(model, prefix + name, endpoint)
        except FileNotFoundError as error:
            raise _missing(model, endpoint, prefix + name) from error
    judge = entries.get("judge")
    if isinstance(judge, str) and re.fullmatch(r"[\w.-]+", judge) and not prefix:
        with suppress(FileNotFoundError):  # then it is a name of the zoo
            beside = _download(model, f"{judge}/{CARD_FILE}", endpoint)
            _fetch_card_files(model, beside, endpoint, f"{judge}/")


def _weight_names(entries: Mapping[str, Any]) -> Iterator[str]:
    """The files that a card names; its entries are checked when it is loaded."""
    shards = entries.get("weight_files")
    names = [*shards] if isinstance(shards, dict) and shards else [entries.get("file")]
    for name in names:
        if not isinstance(name, str) or not name.endswith(".safetensors"):
            raise ValueError(f"a card of the Hub names {str(name)[:80]!r}; expected .safetensors")
        yield name


def _fetch_diffusers(model: HubName, endpoint: str) -> HubFolder:
    """The folder of a UNet2DModel, alone or in a pipeline."""
    commit, files = _list_files(model, endpoint)
    pinned = HubName(model.repo, commit)
    part = "unet/" if "unet/config.json" in files else ""
    weights = _choose_weights([name for name in files if name.startswith(part)], part)
    if f"{part}config.json" not in files or not weights:
        held = truncate_text(", ".join(sorted(files)) or "nothing", 200)
        raise ValueError(
            f"{model.at(commit)} is no model that is read: expected {CARD_FILE} and its "
            f"weights, or a folder of diffusers' UNet2DModel; it has {held}"
        )
    paths = [
        _download(pinned, name, endpoint)
        for name in [*(name for name in DIFFUSERS_FILES if name in files), *weights]
    ]
    folder = next(path for path in paths[0].parents if path.parent.name == "snapshots")
    return HubFolder(folder, model.at(commit))


def _choose_weights(files: list[str], part: str) -> list[str]:
    """safetensors where there are any, else .bin; without variants where there are others."""
    found = [name for name in files if fnmatch.fnmatchcase(name, part + DIFFUSERS_WEIGHTS)]
    for end in ("safetensors", "bin"):
        plain = rf"{part}diffusion_pytorch_model(-\d+-of-\d+)?\.{end}(\.index\.json)?"
        if chosen := [name for name in found if re.fullmatch(plain, name)]:
            return chosen
    return [name for name in found if name.endswith((".safetensors", ".bin", ".json"))]


def _list_files(model: HubName, endpoint: str) -> tuple[str, list[str]]:
    """The commit of a revision and its files: of the Hub, or of the cache where it is offline."""
    hub = import_hub()

    def call() -> tuple[str, list[str]]:
        api = hub.HfApi(endpoint=endpoint, **library_name())
        info = api.model_info(model.repo, revision=model.revision)
        return info.sha, [one.rfilename for one in info.siblings]

    try:
        if not is_offline():
            return ask_hub(model, endpoint, call)
    except ConnectionError:
        if found := _list_cached(model):
            return found
        raise
    if found := _list_cached(model):
        return found
    raise _missing(model, endpoint, CARD_FILE)


def _list_cached(model: HubName) -> tuple[str, list[str]] | None:
    """The commit and the files of a revision in the cache."""
    constants = importlib.import_module("huggingface_hub.constants")
    place = Path(constants.HF_HUB_CACHE) / f"models--{model.repo.replace('/', '--')}"
    commit, ref = model.revision, place / "refs" / model.revision
    if not _COMMIT.fullmatch(commit):
        commit = ref.read_text("utf-8").strip() if ref.is_file() else ""
    folder = place / "snapshots" / commit
    if not commit or not folder.is_dir():
        return None
    return commit, [f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()]


def _missing(model: HubName, endpoint: str, file: str) -> ValueError:
    if is_offline():
        return ValueError(
            f"HF_HUB_OFFLINE is set, and the cache has no {file} of {model.at(model.revision)}; "
            "fetch it once with the network"
        )
    return ValueError(
        f"{model.at(model.revision)} at {endpoint} lacks {file}, which its card names"
    )
