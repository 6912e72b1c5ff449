"""Public checkpoints by name: fetched on first use, kept, and converted once.

Nobody publishes their digests, so the first download pins them: a file that has another one later
is refused.
"""

import json
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

from scoreag.files import cache_folder, fetch, sha256, write_text
from scoreag.foreign.checkpoint import convert
from scoreag.load import load

PINS = "sha256.json"


@dataclass(frozen=True)
class Public:
    """Args:
    address: of the folder of its files; SCOREAG_MODELS_URL in its place names a mirror.
    megabytes: of all files, about.
    classes: the data set whose classes it knows; "" are numbers.
    """

    name: str
    address: str
    files: tuple[str, ...]
    megabytes: int
    licence: str
    classes: str = ""


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
        convert(source, card, names, model.licence)
    return card


def fetched(model: Public, place: Path, progress: bool = True) -> Path:
    """Its file, or the folder of its files where there are several."""
    address = os.environ.get("SCOREAG_MODELS_URL") or model.address
    pins: dict[str, str] = json.loads(_read(place / PINS) or "{}")
    for name in model.files:
        file = place / name
        fetch(f"{address.rstrip('/')}/{name}", file, "", progress)
        came = sha256(file)
        if pins.setdefault(name, came) != came:
            raise ValueError(
                f"{file} has the sha256 {came}, and the first that came had {pins[name]}; "
                f"remove it to fetch it again, or {place / PINS} if you trust the new one"
            )
        write_text(place / PINS, json.dumps(pins, indent=1))
    return place / model.files[0] if len(model.files) == 1 else place


def _read(file: Path) -> str:
    return file.read_text("utf-8") if file.exists() else ""
