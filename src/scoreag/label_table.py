"""labels.csv: which picture of a folder has which label, as spreadsheets and scripts write it."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from scoreag.bounded import TABLE, read_bytes
from scoreag.load import shown

HEAD = {"file", "label"}  # columns that it must have
_SEPARATORS = ",;\t"  # Excel's, by the country and by "save as"


@dataclass(frozen=True)
class Entry:
    """A picture's path, relative to the folder, its label, and where that is written."""

    file: str
    label: str
    place: str


def read_table(table: Path) -> list[Entry]:
    """The entries of a labels.csv, in its order.

    Its first line names the columns, ``file`` and ``label`` among them.  The text is UTF-8, UTF-16
    with its mark, or else Windows-1252; columns are separated by commas, semicolons or tabs.

    Raises:
        ValueError: it is no such table, or an entry has no label, two labels, or no picture that
            is inside the folder; says the line.
    """
    entries = [_checked(table, entry) for entry in _rows(table)]
    first: dict[str, Entry] = {}
    for entry in entries:
        other = first.setdefault(entry.file, entry)
        if other.label != entry.label:
            raise ValueError(
                f"{entry.place}: {shown(entry.file)} has the label {shown(entry.label)}, and "
                f"{shown(other.label)} in {other.place.rpartition(', ')[2]}; keep one of them"
            )
    return entries


def _rows(table: Path) -> list[Entry]:
    text = io.StringIO(_text(table), newline="")
    head = text.readline().strip()
    separator = next((s for s in _SEPARATORS if set(_cells(head, s)) >= HEAD), None)
    if separator is None:
        raise ValueError(f"{table} begins with {head[:80]!r}; its first line must be 'file,label'")
    rows = csv.DictReader(text, _cells(head, separator), delimiter=separator)
    found = []
    try:
        for row in rows:
            file, label = ((row[name] or "").strip() for name in ("file", "label"))
            found.append(Entry(file, label, f"{table}, line {rows.line_num + 1}"))
    except csv.Error as error:
        raise ValueError(f"{table}, line {rows.line_num + 1}: {error}") from error
    return found


def _cells(line: str, separator: str) -> list[str]:
    return [cell.strip().strip('"') for cell in line.split(separator)]


def _text(table: Path) -> str:
    data = read_bytes(table, TABLE)
    marked = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    for encoding in ["utf-16"] if marked else ["utf-8-sig", "cp1252"]:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise ValueError(f"{table} is no text in UTF-8, UTF-16 or Windows-1252; save it as UTF-8")


def _checked(table: Path, entry: Entry) -> Entry:
    file = entry.file
    if not entry.label:
        raise ValueError(f"{entry.place}, has no label")
    if PurePosixPath(file).is_absolute() or PureWindowsPath(file).drive or ".." in _parts(file):
        raise ValueError(
            f"{entry.place}: {shown(file)} is not a path inside the folder; write it relative to "
            f"{table.parent}"
        )
    if not (table.parent / file).is_file():
        fix = f"; write {shown(file.replace(chr(92), '/'))}" if "\\" in file else ""
        raise ValueError(f"{entry.place}, names {shown(file)}, which is not there{fix}")
    return entry


def _parts(file: str) -> list[str]:
    return file.replace("\\", "/").split("/")
