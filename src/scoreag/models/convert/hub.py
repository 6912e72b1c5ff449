"""Public checkpoints by name: downloaded on first use, kept, and converted once.

Few publishers state digests, so the first complete download pins them: a file with another digest
is refused later.
"""

import json
import os
import pickle
import tomllib
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from scoreag.io.download import download_file
from scoreag.io.filesystem import cache_folder, file_sha256, write_text
from scoreag.io.safe_unpickler import load_tensors
from scoreag.models.convert.checkpoint import convert_checkpoint
from scoreag.models.safetensors import read_any_safetensors
from scoreag.registry import class_lists

PINS_FILE = "sha256.json"
MAX_BYTES_PER_MB = 8 << 20  # bytes of a file for each megabyte of weights; optimizers take four


@dataclass(frozen=True)
class HubCheckpoint:
    """A public checkpoint: where its files are, and what is not in them.

    Args:
        url: of the folder of its files, or, with a query ("?dl=1"), of its only file;
            the folder SCOREAG_MODELS_URL replaces it.
        megabytes: of all files, about.
        classes: the data set whose classes it knows, or "imagenet"; "" for numbers.
        config: of its training, where neither the file nor its name implies it.
        digest: of its only file, as "md5:HEX", where that is published.
        manual: only a browser can download it; the user puts the file into the cache.
    """

    name: str
    url: str
    files: tuple[str, ...]
    megabytes: int
    license: str
    classes: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""
    manual: bool = False


def list_checkpoints() -> dict[str, HubCheckpoint]:
    """All of them, by name."""
    table = tomllib.loads(Path(__file__).with_name("public.toml").read_text("utf-8"))
    return {
        name: HubCheckpoint(name, **{**entries, "files": tuple(entries["files"])})
        for name, entries in table.items()
    }


def fetch_card_folder(model: HubCheckpoint, progress: bool = True) -> Path:
    """The folder of its card, converted from its files; these are downloaded if necessary."""
    place = cache_folder() / "models" / model.name
    card = place / "card"
    if not (card / "card.toml").exists():
        source, downloaded = download_files(model, place, progress)
        names = class_lists()[model.classes] if model.classes else ()
        try:
            convert_checkpoint(source, card, names, model.license, config=model.config or None)
        except ValueError as error:
            raise ValueError(f"{error}{_remove_downloads(place, downloaded, error)}") from error
        pins = {name: file_sha256(place / name) for name in model.files} | _read_pins(place)
        write_text(place / PINS_FILE, json.dumps(pins, indent=1))
    return card


def download_files(
    model: HubCheckpoint, place: Path, progress: bool = True
) -> tuple[Path, list[str]]:
    """Its file, or the folder of its files where there are several; the names of new ones.

    Each must be complete, and have the pinned digest, if there is one.
    """
    mirror = os.environ.get("SCOREAG_MODELS_URL", "")
    pins, downloaded = _read_pins(place), []
    for name in model.files:
        file = place / name
        if not file.exists():
            downloaded.append(name)
            if model.manual and not mirror:
                raise ValueError(
                    f"{model.name} is to be had with a browser only, from {model.url}; put the "
                    f"file at {file}, or name a mirror by SCOREAG_MODELS_URL"
                )
        url = mirror or model.url
        url = url if "?" in url else f"{url.rstrip('/')}/{name}"
        check = partial(check_complete, kind=file.suffix)
        max_bytes = MAX_BYTES_PER_MB * model.megabytes
        download_file(url, file, model.digest, progress, check, max_bytes)
        if name in pins and (found := file_sha256(file)) != pins[name]:
            raise ValueError(
                f"{file} has the sha256 {found}, and the first that came had {pins[name]}; "
                f"remove it to fetch it again, or {place / PINS_FILE} if you trust the new one"
            )
    return (place / model.files[0] if len(model.files) == 1 else place), downloaded


def check_complete(file: Path, kind: str) -> None:
    """Refuse a file that was cut; its content is checked later.

    Args:
        kind: the suffix of its name.
    """
    if kind == ".json":
        json.loads(file.read_text("utf-8"))
    elif kind == ".safetensors":
        read_any_safetensors(file)
    elif zipfile.is_zipfile(file):
        try:
            with zipfile.ZipFile(file) as archive:
                damaged = archive.testzip()
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise ValueError(f"it is no whole archive: {error}") from error
        if damaged:
            raise ValueError(f"its member {damaged!r:.80} is damaged")
    elif kind == ".pkl":
        with file.open("rb") as opened:
            opened.seek(max(0, file.stat().st_size - 1))
            if opened.read() != pickle.STOP:
                raise ValueError("it breaks off before a pickle ends")
    else:
        load_tensors(file)  # as torch.save wrote before it wrote archives


def _read_pins(place: Path) -> dict[str, str]:
    file = place / PINS_FILE
    pins: dict[str, str] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    return pins


def _remove_downloads(place: Path, names: list[str], error: BaseException | None) -> str:
    """Remove new files that could not be read, so that they are downloaded again; says so."""
    while error is not None:
        if isinstance(error, ImportError):
            return ""  # a package is missing: nothing is wrong with the files
        error = error.__cause__
    for name in names:
        (place / name).unlink(missing_ok=True)
    return "; what was fetched was removed" if names else ""
