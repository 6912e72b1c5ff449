"""Arrays of .npz files, without objects, in as much room as the file or its packing allows."""

import ast
import io
import math
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scoreag.io.bounded import get_file_size, open_zip_archive, read_zip_member
from scoreag.registry import truncate_text

EXTRA_BYTES, SIZE_FACTOR = (
    1 << 25,
    4,
)  # bytes that packed arrays may have, and more for each byte of the file
_MAX_HEADER = 10_000  # characters of what stands before an array


def read_npz(path: Path, wanted: Iterable[str]) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Those of the ``wanted`` arrays that a file has, and the names of all of its arrays.

    Raises:
        ValueError: it is damaged, holds objects, or unpacks to far more than its own size.
    """
    room = EXTRA_BYTES + SIZE_FACTOR * get_file_size(path)
    with open_zip_archive(path) as opened:
        names = [name.removesuffix(".npy") for name in opened.namelist() if name.endswith(".npy")]
        found = {}
        for name in wanted:
            if name in names:
                found[name] = _read_array(opened, f"{name}.npy", room)
                room -= found[name].nbytes
    return found, names


def _read_array(archive_file: zipfile.ZipFile, name: str, max_bytes: int) -> NDArray[Any]:
    size = archive_file.getinfo(name).file_size
    if size > max_bytes:
        raise ValueError(
            f"its member {name!r} unpacks to {size:,} bytes, too many for its size; write it by "
            "np.savez, which packs nothing"
        )
    return parse_npy(read_zip_member(archive_file, name, max_bytes))


def parse_npy(data: bytearray) -> NDArray[Any]:
    """The array of a .npy file, which may be written to.

    Raises:
        ValueError: it is none, is cut short, or holds objects.
    """
    file = io.BytesIO(data[: _MAX_HEADER + 12])
    try:
        version = np.lib.format.read_magic(file)
        length = int.from_bytes(file.read(2 if version == (1, 0) else 4), "little")
        if length > _MAX_HEADER:
            raise ValueError(f"its header has {length:,} characters")
        header = ast.literal_eval(file.read(length).decode("latin1"))
        kind, shape = np.lib.format.descr_to_dtype(header["descr"]), tuple(header["shape"])
        start = file.tell()
        if kind.hasobject:
            raise ValueError("it holds objects, not numbers")
        if not all(type(side) is int and side >= 0 for side in shape) or len(shape) > 32:
            raise ValueError(f"its shape is {truncate_text(str(shape), 80)}")
        if (whole := math.prod(shape) * kind.itemsize) != len(data) - start:
            raise ValueError(f"it has {len(data) - start:,} bytes, not {whole:,}")
        flat = np.frombuffer(data, kind, math.prod(shape), start)
        return flat.reshape(shape, order="F") if header["fortran_order"] else flat.reshape(shape)
    except MemoryError:
        raise ValueError("its header nests too deeply") from None
    except Exception as error:  # a damaged header can raise anything
        raise ValueError(truncate_text(str(error), 200) or type(error).__name__) from error
