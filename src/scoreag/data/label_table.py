"""labels.csv: which picture of a folder has which label, as spreadsheets and scripts write it."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from scoreag.io.bounded import MAX_TABLE_BYTES, read_bytes
from scoreag.registry import short_repr

REQUIRED_COLUMNS = {"file", "label"}  # columns that it must have
_SEPARATORS = ",;\t"  # Excel's, by the country and by "save as"


@dataclass(frozen=True)
class LabelEntry:
    """A picture's path, relative to the folder, its label, and where that is written."""

    file: str
    label: str
    location: str


def read_labels_csv(table: Path) -> list[LabelEntry]:
    """The entries of a labels.csv, in its order.

    Its first line names the columns, ``file`` and ``label`` among them.  The text is UTF-8, UTF-16
    with its mark, or else Windows-1252; columns are separated by commas, semicolons or tabs.

    Raises:
        ValueError: it is no such table, or an entry has no label, two labels, or no picture that
            is inside the folder; says the line.
    """
    entries = [_check_entry(table, entry) for entry in _read_rows(table)]
    first: dict[str, LabelEntry] = {}
    for entry in entries:
        other = first.setdefault(entry.file, entry)
        if other.label != entry.label:
            raise ValueError(
                f"{entry.location}: {short_repr(entry.file)} has the label {short_repr(entry.label)}, and "
                f"{short_repr(other.label)} in {other.location.rpartition(', ')[2]}; keep one of them"
            )
    return entries


def _read_rows(table: Path) -> list[LabelEntry]:
    text = io.StringIO(_read_text(table), newline="")
    head = text.readline().strip()
    separator = next(
        (s for s in _SEPARATORS if set(_split_line(head, s)) >= REQUIRED_COLUMNS), None
    )
    if separator is None:
        raise ValueError(f"{table} begins with {head[:80]!r}; its first line must be 'file,label'")
    rows = csv.DictReader(text, _split_line(head, separator), delimiter=separator)
    found = []
    try:
        for row in rows:
            file, label = ((row[name] or "").strip() for name in ("file", "label"))
            found.append(LabelEntry(file, label, f"{table}, line {rows.line_num + 1}"))
    except csv.Error as error:
        raise ValueError(f"{table}, line {rows.line_num + 1}: {error}") from error
    return found


def _split_line(line: str, separator: str) -> list[str]:
    return [cell.strip().strip('"') for cell in line.split(separator)]


def _read_text(table: Path) -> str:
    data = read_bytes(table, MAX_TABLE_BYTES)
    marked = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    for encoding in ["utf-16"] if marked else ["utf-8-sig", "cp1252"]:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise ValueError(f"{table} is no text in UTF-8, UTF-16 or Windows-1252; save it as UTF-8")


def _check_entry(table: Path, entry: LabelEntry) -> LabelEntry:
    file = entry.file
    if not entry.label:
        raise ValueError(f"{entry.location}, has no label")
    if (
        PurePosixPath(file).is_absolute()
        or PureWindowsPath(file).drive
        or ".." in _path_parts(file)
    ):
        raise ValueError(
            f"{entry.location}: {short_repr(file)} is not a path inside the folder; write it relative to "
            f"{table.parent}"
        )
    if not (table.parent / file).is_file():
        fix = f"; write {short_repr(file.replace(chr(92), '/'))}" if "\\" in file else ""
        raise ValueError(f"{entry.location}, names {short_repr(file)}, which is not there{fix}")
    return entry


def _path_parts(file: str) -> list[str]:
    return file.replace("\\", "/").split("/")
