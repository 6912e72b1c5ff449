"""Public checkpoints by name: fetched on first use, kept, and converted once.

Hardly anybody publishes their digests, so the first download pins them: a file that has another one
later is refused.
"""

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scoreag.files import cache_folder, fetch, sha256, write_text
from scoreag.foreign.checkpoint import convert
from scoreag.load import load

PINS = "sha256.json"


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
        source = fetched(model, place, progress)
        names = load("datasets", model.classes).CLASSES if model.classes else ()
        convert(source, card, names, model.licence, arguments=model.arguments or None)
    return card


def fetched(model: Public, place: Path, progress: bool = True) -> Path:
    """Its file, or the folder of its files where there are several."""
    mirror = os.environ.get("SCOREAG_MODELS_URL", "")
    pins: dict[str, str] = json.loads(_read(place / PINS) or "{}")
    for name in model.files:
        file = place / name
        if model.by_hand and not mirror and not file.exists():
            raise ValueError(
                f"{model.name} is to be had with a browser only, from {model.address}; put the "
                f"file at {file}, or name a mirror by SCOREAG_MODELS_URL"
            )
        fetch(_url(mirror or model.address, name), file, model.digest, progress)
        came = sha256(file)
        if pins.setdefault(name, came) != came:
            raise ValueError(
                f"{file} has the sha256 {came}, and the first that came had {pins[name]}; "
                f"remove it to fetch it again, or {place / PINS} if you trust the new one"
            )
        write_text(place / PINS, json.dumps(pins, indent=1))
    return place / model.files[0] if len(model.files) == 1 else place


def _url(address: str, name: str) -> str:
    """Of a file; an address that has a query is its own."""
    return address if "?" in address else f"{address.rstrip('/')}/{name}"


def _read(file: Path) -> str:
    return file.read_text("utf-8") if file.exists() else ""
