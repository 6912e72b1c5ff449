"""What a file that is given as a classifier holds, and what to do about one that is not read."""

import zipfile
from pathlib import Path
from typing import NoReturn

from scoreag.io.bounded import get_file_size, open_zip_archive

STATE_DICT, TORCH_EXPORT, TORCHSCRIPT, ONNX, SCORE_CHECKPOINT, UNKNOWN_FORMAT = (
    "state dict",
    "torch.export",
    "torch.jit",
    "onnx",
    "score model",
    "other",
)
WEIGHT_SUFFIXES = (
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
FORMAT_HINTS = {
    TORCHSCRIPT: "a program of torch.jit, which would be run as it is: save the module's state_dict() "
    "and give its network; or load it in a function of your own with torch.jit.load, and name "
    "that: package.module:factory",
    TORCH_EXPORT: "a program of torch.export, and no program in a file is run: save the module's "
    "state_dict() and give its network; or load a file that you trust in a function of your own "
    "with torch.export.load(FILE).module(), and name that: package.module:factory",
    ONNX: "an ONNX file: save the state_dict() of the module that it was made from and give its "
    "network; or turn the file into a module in a function of your own (pip install onnx2torch; "
    "onnx2torch.convert(FILE).eval()), and name that: package.module:factory",
    SCORE_CHECKPOINT: "the checkpoint of a score model: give it as --model, and a classifier here",
    UNKNOWN_FORMAT: "no file of a kind that is read: state dicts (torch.save, safetensors)",
}


def detect_file_format(file: Path) -> str:
    """What a file holds, by its bytes.

    A file of torch.save may still hold more than tensors: who reads it refuses that.
    """
    get_file_size(file)
    if zipfile.is_zipfile(file):
        with open_zip_archive(file) as opened:
            return _detect_zip_format(opened.namelist())
    with file.open("rb") as content:
        head = content.read(64)
    if head[8:9] == b"{":
        return STATE_DICT if file.suffix == ".safetensors" else UNKNOWN_FORMAT
    if file.suffix == ".onnx" or (head[:1] == b"\x08" and b"torch" in head):
        return ONNX
    return SCORE_CHECKPOINT if file.suffix == ".pkl" else STATE_DICT


def reject_format(file: Path, kind: str) -> NoReturn:
    """Say what the file is, and what to give instead."""
    raise ValueError(f"{file} is {FORMAT_HINTS.get(kind, f'a file of the kind {kind}')}")


def _detect_zip_format(names: list[str]) -> str:
    inside = {name.partition("/")[2] for name in names}
    if "archive_format" in inside or "serialized_exported_program.json" in names:
        return TORCH_EXPORT
    if "constants.pkl" in inside:
        return TORCHSCRIPT
    return STATE_DICT if "data.pkl" in inside else UNKNOWN_FORMAT
