"""CIFAR-10's official layouts, with other images and only 4 in a file."""

import struct
from pathlib import Path

import numpy as np

FILES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]


def batch(number: int) -> tuple[list[int], bytes]:
    """Labels and pixels of 4 images, other ones for each file."""
    pixels = np.random.default_rng(number).integers(0, 256, (4, 3072), np.uint8)
    return [(number + i) % 10 for i in range(4)], pixels.tobytes()


def write_binary(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number, name in enumerate(FILES):
        labels, pixels = batch(number)
        records = [bytes([y]) + pixels[i * 3072 : (i + 1) * 3072] for i, y in enumerate(labels)]
        (folder / f"{name}.bin").write_bytes(b"".join(records))
    (folder / "batches.meta.txt").write_text("airplane\n")


def python2(labels: list[int], pixels: bytes) -> bytes:
    """{"labels": [...], "data": array} as Python 2 pickled it, in the official files' opcodes."""
    numbers = b"".join(b"K" + bytes([label]) for label in labels)
    shape = struct.pack("<cHcHc", b"M", len(labels), b"M", 3072, b"\x86")
    unset = b"J\xff\xff\xff\xff"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN" + unset * 2 + b"K\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    content = b"T" + struct.pack("<i", len(pixels)) + pixels
    state = b"(K\x01" + shape + dtype + b"\x89" + content + b"tb"
    return b"\x80\x02}(U\x06labels](" + numbers + b"eU\x04data" + array + state + b"u."


def write_python(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number, name in enumerate(FILES):
        (folder / name).write_bytes(python2(*batch(number)))


WRITERS = {"cifar-10-batches-bin": write_binary, "cifar-10-batches-py": write_python}
