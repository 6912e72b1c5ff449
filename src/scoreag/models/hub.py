"""Models of the Hugging Face Hub: ``hf://OWNER/NAME@REVISION`` as a folder of the Hub's own cache.

A revision is resolved once to a commit; all files come from that commit and are compared with the
digests that the Hub states: sha256 for large files, git's for others.  Only data is downloaded:
cards, JSON and weights.  Python files stay on the Hub.
"""

import fnmatch
import importlib
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoreag.io.bounded import MAX_TEXT_BYTES, parse_toml, read_text
from scoreag.models.hub_requests import (
    DEFAULT_REVISION,
    PREFIX,
    HubName,
    ask_hub,
    download_hub_file,
    get_endpoint,
    import_hub,
    is_offline,
    library_name,
)
from scoreag.registry import truncate_text

CARD_FILE = "card.toml"
DIFFUSERS_FILES = (  # of a model alone, and of a pipeline
    "model_index.json", "config.json", "scheduler_config.json", "scheduler/scheduler_config.json",
    "unet/config.json",
)  # fmt: skip
DIFFUSERS_WEIGHTS = "diffusion_pytorch_model*"
_NAME = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_WORD = re.compile(r"hf://[^,\s]+")


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
        card = download_hub_file(model, CARD_FILE, endpoint)
    except (FileNotFoundError, ConnectionError):  # of the second, listing the files says more
        return _fetch_diffusers(model, endpoint)
    commit = card.parent.name
    _fetch_card_files(HubName(model.repo, commit), card, endpoint, "")
    return HubFolder(card.parent, model.at(commit))


def _fetch_card_files(model: HubName, card: Path, endpoint: str, prefix: str) -> None:
    """The weights of a card, and its judge where that is a folder beside it."""
    entries = parse_toml(read_text(card, MAX_TEXT_BYTES))
    for name in _weight_names(entries):
        try:
            download_hub_file(model, prefix + name, endpoint)
        except FileNotFoundError as error:
            raise _missing(model, endpoint, prefix + name) from error
    judge = entries.get("judge")
    if isinstance(judge, str) and re.fullmatch(r"[\w.-]+", judge) and not prefix:
        with suppress(FileNotFoundError, ConnectionError):  # then it is a name of the zoo
            beside = download_hub_file(model, f"{judge}/{CARD_FILE}", endpoint)
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
        download_hub_file(pinned, name, endpoint)
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
