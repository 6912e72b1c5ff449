"""Files of ``torch.export.save`` (.pt2), read without running anything that they hold.

``torch.export.load`` runs code: pickles in the file are loaded whole, and its symbolic sizes are
evaluated as Python.  Here the file is a zip of JSON and of raw numbers, and nothing else is read:
the operations that its graph names are looked up in a list, and followed one by one.
"""

import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoreag.classifiers.operations import operation
from scoreag.classifiers.program import DTYPES, Node, Program, argument_kind

SCHEMA = 8  # the major version of the graph's format, of torch 2.8 and later
AGAIN = 'torch.export.export(module, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))'


def load(file: Path) -> Program:
    """The program in ``file``, of any batch size, whose gradients go through as in the module.

    Raises:
        ValueError: it is damaged, was exported for one batch size or in train mode, takes or gives
            anything but one tensor, or does what is not run here.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            return _program(_Archive(archive))
    except (KeyError, TypeError, AttributeError, IndexError, RuntimeError, StopIteration) as error:
        what = " ".join(f"{type(error).__name__} {error}".split())
        raise ValueError(f"{file} is a damaged program, or one of another torch ({what})") from None
    except (OSError, zipfile.BadZipFile, NotImplementedError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} is no whole program of torch.export: {error}") from None
    except ValueError as error:
        raise ValueError(f"the program {file}: {error}") from None


class _Archive:
    """The parts of a .pt2 file by their names below its folder."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        root = next(name for name in archive.namelist() if name.endswith("archive_format"))
        self.archive, self.root = archive, root.removesuffix("archive_format")

    def read(self, name: str) -> bytes:
        return self.archive.read(self.root + name)

    def table(self, name: str) -> Any:
        return json.loads(self.read(name))

    def tensors(self, kind: str) -> dict[str, Tensor]:
        """The weights, or the constants, by the names that the signature calls them."""
        entries = self.table(f"data/{kind}/model_{kind}_config.json")["config"]
        return {name: self._tensor(kind, name, entry) for name, entry in entries.items()}

    def _tensor(self, kind: str, name: str, entry: Mapping[str, Any]) -> Tensor:
        if entry["use_pickle"] or entry["tensor_meta"] is None:
            raise ValueError(
                f"its tensor {name!r} is stored as a pickle, which can run code; save the "
                "module's state_dict(), and give the network with it"
            )
        about, raw = entry["tensor_meta"], self.read(f"data/{kind}/{entry['path_name']}")
        shape = [int(size["as_int"]) for size in about["sizes"]]
        strides = [int(stride["as_int"]) for stride in about["strides"]]
        dtype = DTYPES[about["dtype"]]
        if not math.prod(shape):
            return torch.empty(shape, dtype=dtype)
        stored = torch.frombuffer(bytearray(raw), dtype=dtype)
        start = int(about["storage_offset"]["as_int"])
        return stored.as_strided(shape, strides, start).clone()  # torch checks the bounds


def _program(archive: _Archive) -> Program:
    if archive.read("archive_format") != b"pt2":
        raise ValueError("it is no program of torch.export")
    whole = archive.table("models/model.json")
    if (found := whole["schema_version"]["major"]) != SCHEMA:
        raise ValueError(f"its format is {found}, and {SCHEMA} is read; save it with torch >= 2.8")
    about, graph = whole["graph_module"]["signature"], whole["graph_module"]["graph"]
    stored = archive.tensors("weights") | archive.tensors("constants")
    tensors, trained, entries = _inputs(about["input_specs"], stored)
    if len(entries) != 1 or "as_tensor" not in entries[0]:
        raise ValueError(f"it takes {len(entries)} inputs; expected images alone")
    entry = entries[0]["as_tensor"]["name"]
    taken = graph["tensor_values"][entry]
    return Program(
        list(_nodes(graph["nodes"])),
        tensors,
        trained,
        _shape(taken["sizes"]),
        DTYPES[taken["dtype"]],
        entry,
        _result(about["output_specs"]),
    )


def _inputs(
    specs: list[Mapping[str, Any]], stored: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str], list[Mapping[str, Any]]]:
    """The tensors by the graph's names, those of them that are parameters, and what is given."""
    fields = {
        "parameter": "parameter_name",
        "buffer": "buffer_name",
        "tensor_constant": "tensor_constant_name",
    }
    tensors, trained, entries = {}, [], []
    for spec in specs:
        ((kind, about),) = spec.items()
        if kind == "user_input":
            entries.append(about["arg"])
        elif kind in fields:
            name = about["arg"]["name"]
            tensors[name] = stored[about[fields[kind]]]
            trained += [name] if kind == "parameter" else []
        else:
            raise ValueError(f"it takes a {kind.replace('_', ' ')}; expected images alone")
    return tensors, trained, entries


def _shape(sizes: list[Mapping[str, Any]]) -> list[int | None]:
    """Of an image; the number of images must be free."""
    if len(sizes) != 4:
        raise ValueError(f"it takes tensors of {len(sizes)} dimensions; expected images, N C H W")
    if "as_int" in sizes[0]:
        raise ValueError(
            f"it takes {sizes[0]['as_int']} images at a time and no other number; export it with "
            f"{AGAIN}"
        )
    return [size.get("as_int") for size in sizes[1:]]


def _result(specs: list[Mapping[str, Any]]) -> str:
    """The name of the logits."""
    for spec in specs:
        if "user_output" not in spec:
            kind = next(iter(spec)).replace("_", " ")
            raise ValueError(f"it has a {kind}: it changes as it runs; call .eval() and export it")
    if len(specs) != 1 or "as_tensor" not in specs[0]["user_output"]["arg"]:
        raise ValueError(f"it returns {len(specs)} values, or none; expected logits alone")
    name: str = specs[0]["user_output"]["arg"]["as_tensor"]["name"]
    return name


def _nodes(written: list[Mapping[str, Any]]) -> Iterator[Node]:
    for node in written:
        function = operation(node["target"])
        if function is None:
            continue
        for one in node["inputs"]:
            argument_kind(one["arg"])
            if one["name"] in ("training", "train") and one["arg"].get("as_bool"):
                raise ValueError(
                    f"it was exported in train mode ({node['target']}); call .eval() before "
                    "torch.export.export"
                )
        by_name = [one for one in node["inputs"] if one.get("kind") == 2]
        yield Node(
            function,
            [one["arg"] for one in node["inputs"] if one.get("kind") != 2],
            {one["name"]: one["arg"] for one in by_name},
            [_names(output) for output in node["outputs"]],
        )


def _names(output: Mapping[str, Any]) -> str | tuple[str, ...]:
    """What a result is called; of a list of tensors, what each is called."""
    ((kind, value),) = output.items()
    if kind == "as_tensors":
        return tuple(one["name"] for one in value)
    return str(value["as_name"] if "as_name" in value else value["name"])
