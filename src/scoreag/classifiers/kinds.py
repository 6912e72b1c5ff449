"""What a file that is given as a classifier holds, and what to do about one that is not read."""

import zipfile
from pathlib import Path
from typing import NoReturn

from scoreag.bounded import archive, size_of

STATE, PROGRAM, SCRIPT, ONNX, SCORE, OTHER = (
    "state dict",
    "torch.export",
    "torch.jit",
    "onnx",
    "score model",
    "other",
)
SUFFIXES = (
    ".pt",
    ".pth",
    ".th",
    ".pt2",
    ".ckpt",
    ".bin",
    ".model",
    ".safetensors",
    ".onnx",
    ".pkl",
)
INSTEAD = {
    SCRIPT: "a program of torch.jit, which would be run as it is: save the module's state_dict() "
    "and give its network; or load it in a function of your own with torch.jit.load, and name "
    "that: package.module:factory",
    PROGRAM: "a program of torch.export, and no program in a file is run: save the module's "
    "state_dict() and give its network; or load a file that you trust in a function of your own "
    "with torch.export.load(FILE).module(), and name that: package.module:factory",
    ONNX: "an ONNX file: save the state_dict() of the module that it was made from and give its "
    "network; or turn the file into a module in a function of your own (pip install onnx2torch; "
    "onnx2torch.convert(FILE).eval()), and name that: package.module:factory",
    SCORE: "the checkpoint of a score model: give it as --model, and a classifier here",
    OTHER: "no file of a kind that is read: state dicts (torch.save, safetensors)",
}


def kind_of(file: Path) -> str:
    """What a file holds, by its bytes.

    A file of torch.save may still hold more than tensors: who reads it refuses that.
    """
    size_of(file)
    if zipfile.is_zipfile(file):
        with archive(file) as opened:
            return _zipped(opened.namelist())
    with file.open("rb") as content:
        head = content.read(64)
    if head[8:9] == b"{":
        return STATE if file.suffix == ".safetensors" else OTHER
    if file.suffix == ".onnx" or (head[:1] == b"\x08" and b"torch" in head):
        return ONNX
    return SCORE if file.suffix == ".pkl" else STATE


def refuse(file: Path, kind: str) -> NoReturn:
    """Say what the file is, and what to give instead."""
    raise ValueError(f"{file} is {INSTEAD.get(kind, f'a file of the kind {kind}')}")


def _zipped(names: list[str]) -> str:
    inside = {name.partition("/")[2] for name in names}
    if "archive_format" in inside or "serialized_exported_program.json" in names:
        return PROGRAM
    if "constants.pkl" in inside:
        return SCRIPT
    return STATE if "data.pkl" in inside else OTHER
