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

from scoreag.download import fetch
from scoreag.files import cache_folder, load_tensors, sha256, write_text
from scoreag.foreign.checkpoint import convert
from scoreag.load import load
from scoreag.tensors import read_any

PINS = "sha256.json"
ROOM = 8 << 20  # bytes of a file for each megabyte of the parameters; optimizers take four


@dataclass(frozen=True)
class Public:
    """A public checkpoint: where its files are, and what they do not say of themselves.

    Args:
        address: of the folder of its files, or, with a query ("?dl=1"), of its only file;
            SCOREAG_MODELS_URL in its place names a mirror, a folder.
        megabytes: of all files, about.
        classes: the data set whose classes it knows; "" are numbers.
        arguments: of its training, where neither the file nor its name tells them.
        digest: that its publishers tell of its only file, as "md5:HEX".
        by_hand: the address is a page for browsers, and the file is put into the cache by its
            reader.
    """

    name: str
    address: str
    files: tuple[str, ...]
    megabytes: int
    licence: str
    classes: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""
    by_hand: bool = False


def known() -> dict[str, Public]:
    """All of them, by name."""
    table = tomllib.loads(Path(__file__).with_name("public.toml").read_text("utf-8"))
    return {
        name: Public(name, **{**entries, "files": tuple(entries["files"])})
        for name, entries in table.items()
    }


def folder_of(model: Public, progress: bool = True) -> Path:
    """The folder of its card, made from its files; these are fetched where they are not kept.

    Raises:
        ConnectionError: the address cannot be reached, or the connection broke; what came is kept.
        ValueError: a file is not the one that came first, or is no checkpoint.
    """
    place = cache_folder() / "models" / model.name
    card = place / "card"
    if not (card / "card.toml").exists():
        source, came = fetched(model, place, progress)
        names = load("datasets", model.classes).CLASSES if model.classes else ()
        try:
            convert(source, card, names, model.licence, arguments=model.arguments or None)
        except ValueError as error:
            raise ValueError(f"{error}{_dropped(place, came, error)}") from error
        _pin(model, place)
    return card


def fetched(model: Public, place: Path, progress: bool = True) -> tuple[Path, list[str]]:
    """Its file, or the folder of its files where there are several; the names of those that came.

    Each is checked for being whole, and against the digest that was pinned, if there is one.
    """
    mirror = os.environ.get("SCOREAG_MODELS_URL", "")
    pins, came = _pins(place), []
    for name in model.files:
        file = place / name
        came += [] if file.exists() else [name]
        if model.by_hand and not mirror and not file.exists():
            raise ValueError(
                f"{model.name} is to be had with a browser only, from {model.address}; put the "
                f"file at {file}, or name a mirror by SCOREAG_MODELS_URL"
            )
        most = ROOM * model.megabytes
        address = _url(mirror or model.address, name)
        fetch(address, file, model.digest, progress, partial(check_whole, kind=file.suffix), most)
        if name in pins and (found := sha256(file)) != pins[name]:
            raise ValueError(
                f"{file} has the sha256 {found}, and the first that came had {pins[name]}; "
                f"remove it to fetch it again, or {place / PINS} if you trust the new one"
            )
    return (place / model.files[0] if len(model.files) == 1 else place), came


def check_whole(file: Path, kind: str) -> None:
    """Refuse a file that was cut, whatever it says besides; its content is read later.

    Args:
        kind: how its name ends.

    Raises:
        ValueError: it is no whole JSON, safetensors, archive, or pickle.
    """
    if kind == ".json":
        json.loads(file.read_text("utf-8"))
    elif kind == ".safetensors":
        read_any(file)
    elif zipfile.is_zipfile(file):
        _check_members(file)
    elif kind == ".pkl" and not _ends_a_pickle(file):
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


def _ends_a_pickle(file: Path) -> bool:
    with file.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(0, size - 1))
        return opened.read() == pickle.STOP


def _pins(place: Path) -> dict[str, str]:
    pins: dict[str, str] = json.loads(_read(place / PINS) or "{}")
    return pins


def _pin(model: Public, place: Path) -> None:
    """Remember the digests of files that were read whole."""
    pins = {name: sha256(place / name) for name in model.files} | _pins(place)
    write_text(place / PINS, json.dumps(pins, indent=1))


def _dropped(place: Path, names: list[str], error: BaseException | None) -> str:
    """Remove what came and could not be read, so that it is fetched anew, and say so."""
    while error is not None:
        if isinstance(error, ImportError):
            return ""  # a package is missing: nothing is wrong with the files
        error = error.__cause__
    for name in names:
        (place / name).unlink(missing_ok=True)
    return "; what was fetched was removed" if names else ""


def _url(address: str, name: str) -> str:
    """Of a file; an address that has a query is its own."""
    return address if "?" in address else f"{address.rstrip('/')}/{name}"


def _read(file: Path) -> str:
    return file.read_text("utf-8") if file.exists() else ""
