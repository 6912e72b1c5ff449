"""Files that hold many pictures: tar archives as WebDataset reads them, and Parquet tables.

A shard grows as a tar archive, ``000012.part``.  Each image has a member 000123.png, then perhaps
000123.original.png, then its row, 000123.json.  When it is complete, it becomes ``000012.tar`` or
``000012.parquet``.
"""

import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Protocol, runtime_checkable

from scoreag.io.filesystem import atomic_write

BLOCK = 512  # bytes of a tar header; contents are padded to whole blocks
END = bytes(2 * BLOCK)  # of a tar archive
EXTENSIONS = {"": "png", "original_": "original.png", "row": "json"}  # of members, by their role
PARQUET_COLUMNS = {"": "image", "original_": "original", "row": "row"}
_PLAIN = {"compression": "none", "use_dictionary": False, "write_statistics": False}
GROUP_ROWS = 128  # lines of a Parquet table that are read together
PARQUET_HINT = "pip install 'scoreag[parquet]'"


def member_name(image_id: int, role: str) -> str:
    """The name of a member: its key up to the first dot is the image id."""
    return f"{image_id:06d}.{EXTENSIONS[role]}"


def tar_member(name: str, data: bytes) -> bytes:
    """A member of a tar archive: its header and its padded content, always the same bytes."""
    about = tarfile.TarInfo(name)
    about.size = len(data)
    header = about.tobuf(tarfile.USTAR_FORMAT)
    return b"".join((header, data, bytes(-len(data) % BLOCK)))


def read_header(header: bytes) -> tuple[str, int]:
    """The name and the bytes of a plain member; ValueError for anything else."""
    if len(header) != BLOCK or header[257:262] != b"ustar" or header[156:157] not in (b"0", b"\0"):
        raise ValueError("there is no member of a tar archive")
    return header[:100].rstrip(b"\0").decode("ascii"), int(header[124:135], 8)


def iter_members(file: BinaryIO) -> Iterator[tuple[str, int, int]]:
    """The name, the offset and the bytes of each whole plain member, up to the first damage."""
    end = os.fstat(file.fileno()).st_size
    place = 0
    while place + BLOCK <= end:
        try:
            name, size = read_header(os.pread(file.fileno(), BLOCK, place))
        except ValueError:
            return
        place += BLOCK
        if place + size > end:
            return
        yield name, place, size
        place += size + -size % BLOCK


def read_shard(file: Path, offset: int, role: str) -> bytes:
    """The picture at ``offset``: a byte of a tar archive, or a line of a Parquet table."""
    if file.suffix == ".parquet":
        group, line = divmod(offset, GROUP_ROWS)
        try:
            cells = _read_group(file, file.stat().st_mtime_ns, group, PARQUET_COLUMNS[role])
            return picture_bytes(cells[line])
        except (IndexError, KeyError) as error:
            raise ValueError(f"{file} has no picture in line {offset}") from error
    with file.open("rb") as archive:
        try:
            archive.seek(offset - BLOCK)
            _, size = read_header(archive.read(BLOCK))
        except (ValueError, OSError, OverflowError) as error:
            raise ValueError(f"{file} has no picture at byte {offset}") from error
        return archive.read(min(size, os.fstat(archive.fileno()).st_size))


@lru_cache(maxsize=2)
def _read_group(file: Path, time: int, group: int, column: str) -> list[Any]:
    """A column of a group of lines; ``time`` is that of the last change of the file."""
    with open_parquet(file) as table:
        if not 0 <= group < table.num_row_groups:
            raise IndexError(f"there is no group {group}")
        cells: list[Any] = table.read_row_group(group, [column])[column].to_pylist()
        return cells


def picture_bytes(cell: Any) -> bytes:
    """The encoded picture of a cell: bytes, or, as in Hugging Face data sets, a table of bytes."""
    data = cell.get("bytes") if isinstance(cell, Mapping) else cell
    if not isinstance(data, bytes):
        raise ValueError(f"a cell is {cell!r:.60}; expected the bytes of a picture")
    return data


def import_pyarrow() -> Any:
    """The package pyarrow with its Parquet part; ValueError says how to install it."""
    try:
        import_module("pyarrow.parquet")
        return import_module("pyarrow")
    except ModuleNotFoundError as error:
        raise ValueError(f"Parquet needs the package pyarrow: {PARQUET_HINT}") from error


def open_parquet(file: Path) -> Any:
    """A Parquet file, to be closed; ValueError where it is damaged."""
    arrow = import_pyarrow()
    try:
        return arrow.parquet.ParquetFile(file)
    except (arrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = " ".join(str(error).split())
        raise ValueError(f"{file} is no whole Parquet file: {reason:.200}") from error


def finish_tar(part: Path, file: Path) -> None:
    """Make a complete part a tar archive."""
    with part.open("ab") as archive:
        archive.write(END)
        archive.flush()
        os.fsync(archive.fileno())
    os.replace(part, file)


def finish_parquet(part: Path, file: Path) -> None:
    """Make a complete part a Parquet table: image_id, label, the pictures, and the row as JSON."""
    arrow = import_pyarrow()
    columns = read_columns(part)
    rows = [json.loads(text) for text in columns["row"]]
    arrays = {
        "image_id": arrow.array([row["image_id"] for row in rows], arrow.int64()),
        "label": arrow.array([row["label"] for row in rows], arrow.int64()),
        **{name: arrow.array(columns[name], arrow.binary()) for name in ("image", "original")
           if columns[name]},
        "row": arrow.array([text.decode() for text in columns["row"]], arrow.string()),
    }  # fmt: skip
    table = arrow.table(arrays)
    atomic_write(
        file,
        lambda temp: arrow.parquet.write_table(table, temp, row_group_size=GROUP_ROWS, **_PLAIN),
    )
    part.unlink()


def read_columns(part: Path) -> dict[str, list[bytes]]:
    """The members of a part by their role, in the order of its images."""
    columns: dict[str, list[bytes]] = {name: [] for name in PARQUET_COLUMNS.values()}
    roles = {EXTENSIONS[role]: name for role, name in PARQUET_COLUMNS.items()}
    with part.open("rb") as archive:
        for name, offset, size in iter_members(archive):
            data = os.pread(archive.fileno(), size, offset)
            columns[roles[name.partition(".")[2]]].append(data)
    return columns


def encode_members(
    rows: Sequence[Mapping[str, Any]], pictures: Sequence[Mapping[str, bytes]]
) -> tuple[bytes, list[list[int]]]:
    """The members of some images, and the offsets of the pictures of each in these bytes."""
    parts: list[bytes] = []
    offsets: list[list[int]] = []
    length = 0
    for row, images in zip(rows, pictures, strict=True):
        offsets.append([])
        text = json.dumps(row, allow_nan=False).encode()
        for role, data in {**images, "row": text}.items():
            member = tar_member(member_name(row["image_id"], role), data)
            if role != "row":
                offsets[-1].append(length + BLOCK)
            parts.append(member)
            length += len(member)
    return b"".join(parts), offsets


def match_members(members: Iterator[tuple[str, int, int]], ids: Sequence[int]) -> int | None:
    """The byte behind the members of these images, if they come next; None if they do not."""
    end = None
    for image_id in ids:
        for name, offset, size in members:
            end = offset + size + -size % BLOCK
            if name == member_name(image_id, "row"):
                break
            if name not in (member_name(image_id, ""), member_name(image_id, "original_")):
                return None
        else:
            return None
    return end


@runtime_checkable
class ShardReader(Protocol):
    """An open shard."""

    def read(self, row: Mapping[str, Any], role: str) -> bytes:
        """A picture of a row; an error of any kind where the shard has none."""
        ...

    def close(self) -> None: ...


def open_shard(file: Path, is_table: bool) -> ShardReader:
    """A shard, or the part that it grows from.

    Args:
        is_table: whether rows name lines of a table, and not bytes of an archive.
    """
    if file.is_symlink():
        raise ValueError(f"{file} is a link, and a run keeps its own files there")
    if file.suffix == ".parquet":
        return TableReader(file)
    return PartReader(file) if is_table else TarReader(file)


class TarReader:
    """A tar archive, whose pictures are at the bytes that rows name."""

    def __init__(self, file: Path) -> None:
        self.descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))

    def read(self, row: Mapping[str, Any], role: str) -> bytes:
        offset = row[f"{role}offset"]
        name, size = read_header(os.pread(self.descriptor, BLOCK, offset - BLOCK))
        if name != member_name(row["image_id"], role):
            raise ValueError(f"byte {offset} is of {name}")
        return os.pread(self.descriptor, size, offset)

    def close(self) -> None:
        os.close(self.descriptor)


class TableReader:
    """A Parquet table in memory, whose pictures are in the lines that rows name."""

    def __init__(self, file: Path) -> None:
        with open_parquet(file) as table:
            names = [n for n in ("image_id", "image", "original") if n in table.schema_arrow.names]
            self.columns = table.read(names).to_pydict()

    def read(self, row: Mapping[str, Any], role: str) -> bytes:
        line = row[f"{role}offset"]
        if line < 0 or self.columns["image_id"][line] != row["image_id"]:
            raise ValueError(f"line {line} is of another image")
        data: bytes = self.columns[PARQUET_COLUMNS[role]][line]
        return data

    def close(self) -> None:
        self.columns.clear()


class PartReader:
    """The pictures of a part that becomes a table."""

    def __init__(self, file: Path) -> None:
        columns = read_columns(file)
        ids = [json.loads(text)["image_id"] for text in columns["row"]]
        self.lines = {image_id: line for line, image_id in enumerate(ids)}
        self.columns = columns

    def read(self, row: Mapping[str, Any], role: str) -> bytes:
        line = row[f"{role}offset"]
        if self.lines[row["image_id"]] != line:
            raise ValueError(f"line {line} is of another image")
        return self.columns[PARQUET_COLUMNS[role]][line]

    def close(self) -> None:
        self.columns.clear()
