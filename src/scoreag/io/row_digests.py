"""Lines of JSON, each with a digest of itself and of the run that it belongs to."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from scoreag.io.filesystem import check_regular_file

Row: TypeAlias = dict[str, Any]

DIGEST, SEAL = "digest", "seal"  # the names in a row and in a manifest


def seal_row(row: Mapping[str, Any], seal: str) -> bytes:
    """A row as a line, which ends with the digest of the run's ``seal`` and of all before it."""
    text = json.dumps(row, allow_nan=False)
    mark = hashlib.sha256(f"{seal}\n{text}".encode()).hexdigest()[:16]
    return (json.dumps({**row, DIGEST: mark}) + "\n").encode()


def read_sealed_rows(file: Path, seal: str) -> Iterator[tuple[int, Row | None]]:
    """The number and the row of each line; None where a line is not as ``line`` made it."""
    check_regular_file(file)
    for number, raw in enumerate(file.read_bytes().splitlines(keepends=True), start=1):
        yield number, _verify_row(raw, seal)


def _verify_row(raw: bytes, seal: str) -> Row | None:
    try:
        found = json.loads(raw)
        row = {name: value for name, value in found.items() if name != DIGEST}
        return row if seal_row(row, seal) == raw else None
    except (ValueError, AttributeError, RecursionError):
        return None


def read_seal(manifest: Mapping[str, Any], folder: Path) -> str:
    """The seal that a run's manifest holds.

    Raises:
        ValueError: an earlier version wrote the folder, whose rows have no digests.
    """
    seal = manifest.get(SEAL)
    if not isinstance(seal, str):
        raise ValueError(
            f"{folder} was written by an earlier version, whose rows have no digests; use that "
            "version, or give the command of the run again with --overwrite"
        )
    return seal
