"""Public checkpoints by name: fetched on first use, kept, and converted once.

Hardly anybody publishes their digests, so the first files that are read whole pin them: a file that
has another one later is refused.
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
from scoreag.registry import load_component

PINS_FILE = "sha256.json"
MAX_BYTES_PER_MB = 8 << 20  # bytes of a file for each megabyte of weights; optimizers take four


@dataclass(frozen=True)
class HubCheckpoint:
    """A public checkpoint: where its files are, and what they do not say of themselves.

    Args:
        url: of the folder of its files, or, with a query ("?dl=1"), of its only file;
            SCOREAG_MODELS_URL in its place names a mirror, a folder.
        megabytes: of all files, about.
        classes: the data set whose classes it knows; "" are numbers.
        config: of its training, where neither the file nor its name tells them.
        digest: that its publishers tell of its only file, as "md5:HEX".
        manual: the address is a page for browsers, and the file is put into the cache by its
            reader.
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
    """The folder of its card, made from its files; these are fetched where they are not kept.

    Raises:
        ConnectionError: the address cannot be reached, or the connection broke; what came is kept.
        ValueError: a file is not the one that came first, or is no checkpoint.
    """
    place = cache_folder() / "models" / model.name
    card = place / "card"
    if not (card / "card.toml").exists():
        source, came = download_files(model, place, progress)
        names = load_component("datasets", model.classes).CLASSES if model.classes else ()
        try:
            convert_checkpoint(source, card, names, model.license, config=model.config or None)
        except ValueError as error:
            raise ValueError(f"{error}{_remove_downloads(place, came, error)}") from error
        _write_pins(model, place)
    return card


def download_files(
    model: HubCheckpoint, place: Path, progress: bool = True
) -> tuple[Path, list[str]]:
    """Its file, or the folder of its files where there are several; the names of those that came.

    Each is checked for being whole, and against the digest that was pinned, if there is one.
    """
    mirror = os.environ.get("SCOREAG_MODELS_URL", "")
    pins, came = _read_pins(place), []
    for name in model.files:
        file = place / name
        came += [] if file.exists() else [name]
        if model.manual and not mirror and not file.exists():
            raise ValueError(
                f"{model.name} is to be had with a browser only, from {model.url}; put the "
                f"file at {file}, or name a mirror by SCOREAG_MODELS_URL"
            )
        most = MAX_BYTES_PER_MB * model.megabytes
        address = _file_url(mirror or model.url, name)
        download_file(
            address, file, model.digest, progress, partial(check_complete, kind=file.suffix), most
        )
        if name in pins and (found := file_sha256(file)) != pins[name]:
            raise ValueError(
                f"{file} has the sha256 {found}, and the first that came had {pins[name]}; "
                f"remove it to fetch it again, or {place / PINS_FILE} if you trust the new one"
            )
    return (place / model.files[0] if len(model.files) == 1 else place), came


def check_complete(file: Path, kind: str) -> None:
    """Refuse a file that was cut, whatever it says besides; its content is read later.

    Args:
        kind: how its name ends.

    Raises:
        ValueError: it is no whole JSON, safetensors, archive, or pickle.
    """
    if kind == ".json":
        json.loads(file.read_text("utf-8"))
    elif kind == ".safetensors":
        read_any_safetensors(file)
    elif zipfile.is_zipfile(file):
        _check_members(file)
    elif kind == ".pkl" and not _is_complete_pickle(file):
        raise ValueError("it breaks off before a pickle ends")
    elif kind != ".pkl":
        load_tensors(file)  # as torch.save wrote before it wrote archives


def _check_members(file: Path) -> None:
    """By the checksum that an archive has of each."""
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ValueError(f"it is no whole archive: {error}") from error
    if damaged:
        raise ValueError(f"its member {damaged!r:.80} is damaged")


def _is_complete_pickle(file: Path) -> bool:
    with file.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(0, size - 1))
        return opened.read() == pickle.STOP


def _read_pins(place: Path) -> dict[str, str]:
    pins: dict[str, str] = json.loads(_read_if_exists(place / PINS_FILE) or "{}")
    return pins


def _write_pins(model: HubCheckpoint, place: Path) -> None:
    """Remember the digests of files that were read whole."""
    pins = {name: file_sha256(place / name) for name in model.files} | _read_pins(place)
    write_text(place / PINS_FILE, json.dumps(pins, indent=1))


def _remove_downloads(place: Path, names: list[str], error: BaseException | None) -> str:
    """Remove what came and could not be read, so that it is fetched anew, and say so."""
    while error is not None:
        if isinstance(error, ImportError):
            return ""  # a package is missing: nothing is wrong with the files
        error = error.__cause__
    for name in names:
        (place / name).unlink(missing_ok=True)
    return "; what was fetched was removed" if names else ""


def _file_url(address: str, name: str) -> str:
    """Of a file; an address that has a query is its own."""
    return address if "?" in address else f"{address.rstrip('/')}/{name}"


def _read_if_exists(file: Path) -> str:
    return file.read_text("utf-8") if file.exists() else ""
