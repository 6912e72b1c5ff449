"""Files made by hand, each to do harm in a way of its own."""

import gzip
import io
import json
import os
import pickle
import re
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import made_edm
import official_files
from hostile import readers
from hostile.readers import Files, card_files, npz, packed, saved, some_arrays
from hostile.trials import Case
from scoreag.io.records import seal_row

CANARY = "../canary"
COMMAND = f"touch {CANARY}"
TRUSTED = "names code to be run"  # F1, F2: closed where names in files are no longer called
LONG = 100_000  # bytes of a program that is tried in one way only
Read = Callable[[Path], None]


def integer(value: int) -> bytes:
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def word(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def nested(opening: bytes, closing: bytes, depth: int) -> bytes:
    return opening * depth + closing * depth


def doubled(first: bytes, pair: bytes, times: int = 60) -> bytes:
    """An object that has the one before it twice, again and again."""
    return first + b"".join(b"q%c" % i + b"h%c" % i + pair for i in range(times))


LAUGHS = b"".join(b"]q%c(h%ch%ce" % (i + 1, i, i) for i in range(60))
EXECUTE = f"__import__('os').system({COMMAND!r})"
CODE = {  # programs that would run something
    "system": b"cos\nsystem\n" + word(COMMAND) + b"\x85R.",
    "posix": b"cposix\nsystem\n(V" + COMMAND.encode() + b"\ntR.",
    "stack global": b"\x80\x04" + word("os") + word("system") + b"\x93" + word(COMMAND) + b"\x85R.",
    "inst": b"(V" + COMMAND.encode() + b"\nios\nsystem\n.",
    "obj": b"(cos\nsystem\nV" + COMMAND.encode() + b"\no.",
    "eval": b"cbuiltins\neval\n" + word(EXECUTE) + b"\x85R.",
    "exec": b"cbuiltins\nexec\n" + word(EXECUTE) + b"\x85R.",
    "newobj": b"csubprocess\nPopen\n" + word(COMMAND) + b"\x85\x81.",
    "getattr": b"cbuiltins\ngetattr\ncos\nsystem\nX\x01\0\0\0a\x86R.",
    "dotted": b"\x80\x04" + word("torch") + word("os.system") + b"\x93" + word(COMMAND) + b"\x85R.",
    "torch.load": b"ctorch.serialization\nload\n" + word("/etc/passwd") + b"\x85R.",
    "hub": b"ctorch.hub\nload\n" + word("x") + word("y") + b"\x86R.",
    "module": b"ctorch.nn.modules.linear\nLinear\n)\x81}" + word("forward") + b"cos\nsystem\nsb.",
    "partial": b"cfunctools\npartial\ncos\nsystem\n" + word(COMMAND) + b"\x86R)R.",
    "setstate": b"ccollections\nOrderedDict\n)R}" + word("__reduce__") + b"cos\nsystem\nsb.",
}
ROOM = {  # programs that take room or time without end
    "laughs": b"]q\0" + LAUGHS + b".",
    "laughs in tuples": b")q\0"
    + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60))
    + b".",
    "key": b"}"
    + b"K\1\x85q\0"
    + b"".join(b"0h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60))
    + b"Ns.",
    "keys": b"}("
    + b"K\1\x85q\0"
    + b"".join(b"0h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60))
    + b"Nu.",
    "set": b"\x80\x04\x8f("
    + b"K\1\x85q\0"
    + b"".join(b"0h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60))
    + b"\x90.",
    "frozen set": b"\x80\x04("
    + b"K\1\x85q\0"
    + b"".join(b"0h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60))
    + b"\x91.",
    "deep lists": nested(b"]", b"a", 200_000) + b".",
    "deep tuples": b")" + b"\x85" * 200_000 + b".",
    "deep key": b"}" + b")" + b"\x85" * 200_000 + b"Ns.",
    "memo": b"Nr\xff\xff\xff\x7f.",
    "memo collides": b"".join(b"Np%d\n" % (i * (2**61 - 1)) for i in range(1, 40_000)) + b".",
    "keys collide": b"}("
    + b"".join(integer(i * (2**61 - 1)) + b"N" for i in range(1, 40_000))
    + b"u.",
    "dictionaries": b"}" * 900_000 + b".",
    "many dictionaries": b"(" + b"}" * 3_000_000 + b"l.",
    "lists": b"(" + b"]" * 900_000 + b"l.",
    "sets": b"\x80\x04(" + b"\x8f" * 900_000 + b"l.",
    "marks": b"(" * 900_000 + b".",
    "kept": b"\x80\x04" + b"N\x94" * 450_000 + b".",
    "nothing": b"](" + b"N" * 1_000_000 + b"e.",
    "nothing, many": b"](" + b"N" * 4_000_000 + b"e.",
    "again": b"N" + b"2" * 900_000 + b".",
    "names": b"(" + b"".join(b"ctorch.nn.modules.linear\nL%d\n" % i for i in range(60_000)) + b"l.",
    "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x.",
    "long bytes": b"\x80\x04B" + struct.pack("<I", 0x7FFFFFFF) + b"x.",
    "byte array": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.",
    "text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"x.",
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"N.",
    "make bytes": b"c__builtin__\nbytearray\n" + integer(10**11) + b"\x85R.",
    "make bytes, 3": b"cbuiltins\nbytearray\n" + integer(10**11) + b"\x85R.",
    "make tensor": b"ctorch\nFloatTensor\n" + integer(10**11) + b"\x85R.",
    "sparse": b"ctorch._utils\n_rebuild_sparse_tensor\n(NNt" + b"R.",
    "number": b"I" + b"9" * 100_000 + b"\n.",
    "long number": b"L" + b"9" * 100_000 + b"L\n.",
    "longer number": b"\x8b" + struct.pack("<I", 200_000) + b"\x7f" * 200_000 + b".",
    "outside": b"\x80\x02" + word("x") + b"Q.",
    "extension": b"\x82\x01.",
    "no end": b"N",
    "no stack": b"0.",
    "unknown": b"\xfe.",
    "surrogate": b"V\\ud800\n.",
    "size": b"ctorch\nSize\n(" + integer(1 << 70) + b"tR.",
    "list of sizes": b"ccollections\nOrderedDict\n](](K\1\x85K\2\x85eeR.",
    "counter": b"ccollections\nCounter\n](K\1K\2e\x85R.",
    "codec": b"c_codecs\nencode\n](" + b"N" * 10 + b"e\x85R.",
    "codec of laughs": b"c_codecs\nencode\n]q\0" + LAUGHS + b"\x85R.",
}


def pickles() -> Iterator[Case]:
    """Each program as a file of EDM, as a batch of CIFAR, and as both layouts of torch."""
    for family, programs in (("code", CODE), ("pickle", ROOM)):
        for number, (name, program) in enumerate(programs.items()):
            ways = {
                "edm": (readers.score_model("x.pkl"), {"x.pkl": _proto(program)}),
                "cifar": (readers.data("cifar100:test", "."), {"test": program}),
                "torch": (readers.classifier("x.pth"), {"x.pth": _archive(program)}),
                "old torch": (readers.classifier("x.th"), {"x.th": _old(program)}),
            }
            some = list(ways) if len(program) < LONG else [list(ways)[number % len(ways)]]
            for way in some:
                yield Case(f"{name} as {way}", family, *ways[way])
        for name in ("system", "stack global", "eval") if family == "code" else ():
            inside = b"\x80\x02}" + word("ema") + programs[name][:-1] + b"s."
            yield Case(f"{name} in edm", family, readers.score_model("x.pkl"), {"x.pkl": inside})
            state = b"\x80\x02}" + word("data") + programs[name][:-1] + b"s."
            yield Case(
                f"{name} in cifar", family, readers.data("cifar100:test", "."), {"test": state}
            )


def _proto(program: bytes) -> bytes:
    return program if program[:1] == b"\x80" else b"\x80\x02" + program


def _archive(program: bytes, **more: bytes) -> bytes:
    return packed({"x/data.pkl": program, "x/byteorder": b"little", "x/version": b"3\n", **more})


def _old(program: bytes, tail: bytes = b"\x80\x02].") -> bytes:
    head = (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True})
    return b"".join(pickle.dumps(one, 2) for one in head) + program + tail


def _tensor(
    key: str, count: int, offset: int, size: Any, stride: Any, kind: str = "Float"
) -> bytes:
    """A tensor as torch.save writes it."""
    where = b"(" + word("storage") + f"ctorch\n{kind}Storage\n".encode() + word(key) + word("cpu")
    where += integer(count) + b"tQ"
    shape, steps = (b"(" + b"".join(map(integer, one)) + b"t" for one in (size, stride))
    head = b"ctorch._utils\n_rebuild_tensor_v2\n("
    return head + where + integer(offset) + shape + steps + b"\x89}tR"


def tensors() -> Iterator[Case]:
    kinds: dict[str, tuple[list[bytes], int]] = {
        "repeated": ([_tensor("0", 4, 0, (10**6, 10**6), (0, 0))], 16),
        "longer": ([_tensor("0", 10**12, 0, (10**12,), (1,))], 16),
        "beyond": ([_tensor("0", 4, 3, (4,), (1,))], 16),
        "before": ([_tensor("0", 4, -8, (4,), (1,))], 16),
        "backwards": ([_tensor("0", 4, 3, (4,), (-1,))], 16),
        "of no side": ([_tensor("0", 4, 0, (-2, -2), (1, 1))], 16),
        "huge side": ([_tensor("0", 4, 0, (1 << 70,), (1,))], 16),
        "dimensions": ([_tensor("0", 4, 0, (1,) * 50_000, (1,) * 50_000)], 16),
        "shared 3,000 times": ([_tensor("0", 1 << 18, 0, (1 << 18,), (1,))] * 3000, 1 << 20),
        "a few numbers of many": (
            [_tensor("0", 1 << 18, i, (1,), (1,)) for i in range(9000)],
            1 << 20,
        ),
        "negative": ([_tensor("0", -4, 0, (4,), (1,))], 16),
        "half a number": ([_tensor("0", 4, 0, (4,), (1,))], 15),
        "complex": ([_tensor("0", 2, 0, (2,), (1,), "ComplexFloat")], 16),
        "unknown": ([_tensor("0", 2, 0, (2,), (1,), "Strange")], 16),
        "of words": ([b"ctorch._utils\n_rebuild_tensor_v2\n(" + word("x") + b"K\0))\x89}tR"], 16),
        "parameter of words": (
            [b"ctorch._utils\n_rebuild_parameter\n" + word("x") + b"\x89}\x87R"],
            16,
        ),
    }
    for name, (parts, size) in kinds.items():
        entries = b"".join(word(f"t{i}") + part for i, part in enumerate(parts))
        program = b"\x80\x02}(" + entries + b"u."
        whole = _archive(program, **{"x/data/0": b"\0" * size})
        for way in ("improved.pt", "x.pth"):
            read = readers.score_model(way) if way == "improved.pt" else readers.classifier(way)
            yield Case(f"tensor {name} {way}", "tensors", read, {way: whole})
        tail = b"\x80\x02](" + word("0") + b"e." + struct.pack("<Q", size // 4) + b"\0" * size
        read = readers.classifier("x.th")
        yield Case(f"tensor {name} old", "tensors", read, {"x.th": _old(program, tail)})
        edm = b"\x80\x02}" + word("ema") + b"}(" + entries + b"us."
        yield Case(f"tensor {name} edm", "tensors", readers.score_model("x.pkl"), {"x.pkl": edm})
    yield _rebuilt()
    parts = [_tensor(str(i), 0, 0, (0,), (1,)) for i in range(9000)]
    program = b"\x80\x02}(" + b"".join(word(f"t{i}") + p for i, p in enumerate(parts)) + b"u."
    yield Case("9,000 storages", "tensors", readers.classifier("x.th"), {"x.th": _old(program)})


def _rebuilt() -> Case:
    """A pickle of EDM that makes 3,000 tensors of one storage."""
    whole = saved(torch.zeros(1 << 18).untyped_storage(), False)
    storage = torch.storage.TypedStorage(
        wrap_storage=torch.zeros(1 << 18).untyped_storage(), dtype=torch.float32, _internal=True
    )
    held = io.BytesIO()
    torch.save(storage, held, _use_new_zipfile_serialization=False)
    assert whole
    raw = held.getvalue()
    load = b"ctorch.storage\n_load_from_bytes\nB" + struct.pack("<I", len(raw)) + raw + b"\x85Rq\1"
    one = b"ctorch._utils\n_rebuild_tensor_v2\n(h\1K\0" + integer(1 << 18) + b"\x85K\1\x85\x89}tR"
    entries = b"".join(word(f"t{i}") + one for i in range(3000))
    program = b"\x80\x03" + load + b"0}(" + entries + b"u."
    return Case(
        "edm, one storage 3,000 times", "tensors", readers.score_model("x.pkl"), {"x.pkl": program}
    )


def zeros(count: int) -> bytes:
    """``count`` zeros, a multiple of 16 MB, deflated, without making them."""
    machine = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = machine.compress(b"\0" * (1 << 24)) + machine.flush(zlib.Z_FULL_FLUSH)
    return piece * (count >> 24) + zlib.compressobj(9, zlib.DEFLATED, -15).flush()


def zipped(*entries: tuple[str, int, bytes, int], flags: int = 0, checksum: int = 0) -> bytes:
    """An archive of members: name, method, packed bytes, and the size that they claim."""
    body, listing = b"", b""
    for name, method, data, size in entries:
        facts = struct.pack(
            "<HHHHIII", flags, method, 0, 0, checksum, len(data), min(size, 0xFFFFFFFF)
        )
        ends = struct.pack("<HH", len(name), 0)
        listing += b"PK\1\2" + struct.pack("<HH", 20, 20) + facts + ends
        listing += struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + name.encode()
        body += b"PK\3\4" + struct.pack("<H", 20) + facts + ends + name.encode() + data
    count = len(entries)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(listing), len(body), 0)
    return body + listing + end


def archives() -> Iterator[Case]:
    bomb, big = zeros(1 << 30), 1 << 30
    npy = np.lib.format.magic(1, 0)
    header = (
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (1, 3, 32768, 10922), }".ljust(117)
        + b"\n"
    )
    array = npy + struct.pack("<H", len(header)) + header
    machine = zlib.compressobj(9, zlib.DEFLATED, -15)
    array_bomb = machine.compress(array) + machine.flush(zlib.Z_FULL_FLUSH) + bomb
    folder = "tiny-imagenet-200/"
    targets: dict[str, tuple[Read, str, list[tuple[str, bytes]]]] = {
        "npz": (readers.data("a.npz"), "a.npz", [("images.npy", array_bomb)]),
        "pth": (readers.classifier("a.pth"), "a.pth", [("x/data.pkl", bomb)]),
        "pt": (readers.score_model("a.pt"), "a.pt", [("x/data.pkl", bomb)]),
        "tiny": (
            readers.data("tiny-imagenet:val", "."),
            "tiny-imagenet-200.zip",
            [(f"{folder}wnids.txt", bomb), (f"{folder}words.txt", bomb)],
        ),
    }
    claims = {
        "honest": (8, big, 0),
        "modest": (8, 1000, 0),
        "encrypted": (8, big, 1),
        "lzma": (14, big, 0),
        "bzip2": (12, big, 0),
        "stored": (0, 0xFFFFFFFE, 0),
        "method 99": (99, 10, 0),
    }
    for way, (read, file, entries) in targets.items():
        for name, (method, size, flags) in claims.items():
            data = zipped(*((n, method, d, size) for n, d in entries), flags=flags)
            yield Case(f"{name} bomb in {way}", "archives", read, {file: data})
        for name, data in (
            ("end only", struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0, 0, 0, 0, 0)),
            ("list elsewhere", struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 9, 9, 1 << 31, 1 << 31, 0)),
            ("64 bits", _list64()),
            ("two", packed({"a": b"1"}) + packed({"b": b"2"})),
            ("head only", b"PK\3\4" + b"\0" * 30),
            ("names of nothing", packed({f"{'a' * i}": b"" for i in range(1, 300)})),
        ):
            yield Case(f"{name} as {way}", "archives", read, {file: data})
    many = [(f"x{i}", 0, b"", 0) for i in range(20_000)]
    yield Case("many members", "archives", readers.classifier("a.pth"), {"a.pth": zipped(*many)})
    wide = {f"{folder}wnids.txt": "\n".join(f"n{i}" for i in range(4000)).encode()}
    wide |= {f"{folder}train/n{i}/images/n{i}_0.JPEG": b"" for i in range(4000)}
    wide |= {f"{folder}words.txt": b"".join(b"n%d\tcat\n" % i for i in range(4000))}
    yield Case(
        "tiny of 4,000 classes",
        "archives",
        readers.data("tiny-imagenet:train", "."),
        {"tiny-imagenet-200.zip": packed(wide)},
    )
    same = official_files.tiny() | {"words.txt": b"n03\ta, b\nn01\ta (n02)\nn02\ta\n"}
    same |= {"wnids.txt": b"n01\nn02\nn03"}
    yield Case(
        "tiny of one name",
        "archives",
        readers.data("tiny-imagenet:train", "."),
        {f"{folder}{name}": data for name, data in same.items()},
    )


def _list64() -> bytes:
    end64 = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, 1 << 62, 1 << 62)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, 1 << 62, 1)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return end64 + locator + end


def arguments() -> Iterator[Case]:
    """Arguments of EDM in safetensors, and of diffusers, that no network has."""
    values: list[Any] = [
        10**6,
        10**12,
        2**63,
        -1,
        0,
        1.5,
        1e308,
        None,
        "x",
        "x" * 100_000,
        [],
        [[1]],
        {"a": 1},
        [10**6] * 8,
        [1] * 100_000,
        [0],
        [-1],
        True,
    ]
    keys = (
        "num_blocks",
        "label_dim",
        "img_resolution",
        "img_channels",
        "model_channels",
        "channel_mult",
        "attn_resolutions",
        "augment_dim",
        "model_type",
        "sigma_data",
        "resample_filter",
    )
    for place, key in enumerate(keys):
        for value in values[place % 3 :: 3] + values[:3]:
            text = json.dumps({**made_edm.ARGUMENTS, key: value})
            read = readers.score_model("edm.safetensors")
            name = f"edm {key} {str(value)[:20]}"
            yield Case(name, "arguments", read, {"edm.safetensors": text.encode})
    for text in (
        "[" * 100_000,
        "[]",
        "{",
        '{"a": ' * 50_000,
        '{"img_resolution": 1e999}',
        "9" * 5000,
    ):
        read = readers.score_model("edm.safetensors")
        yield Case(f"edm arguments {text[:9]}", "arguments", read, {"edm.safetensors": text.encode})


def configs(given: Files) -> Iterator[Case]:
    config = json.loads(given["unet/config.json"])
    scheduler = json.loads(given["unet/scheduler_config.json"])
    changes: list[tuple[str, Any]] = [
        ("layers_per_block", 10**6),
        ("layers_per_block", "x"),
        ("block_out_channels", [10**7, 8]),
        ("block_out_channels", [8] * 10_000),
        ("sample_size", 10**12),
        ("sample_size", "8"),
        ("in_channels", 10**9),
        ("in_channels", [3]),
        ("num_class_embeds", 10**12),
        ("num_class_embeds", "x"),
        ("num_class_embeds", -1),
        ("norm_num_groups", 0),
        ("act_fn", "os.system"),
        ("down_block_types", ["X"] * 1000),
        ("down_block_types", 7),
        ("_class_name", ["UNet2DModel"]),
        ("_class_name", "x" * 100_000),
        ("attention_head_dim", 0),
        ("time_embedding_type", {}),
        ("dropout", "x"),
        ("unknown", [[]] * 1000),
        ("freq_shift", 1e999),
        ("out_channels", None),
        ("add_attention", "x"),
    ]
    for key, value in changes:
        text = json.dumps({**config, key: value}).encode()
        name = f"diffusers {key} {str(value)[:20]}"
        yield Case(
            name, "arguments", readers.score_model("unet"), {**given, "unet/config.json": text}
        )
    for key, value in (
        ("beta_schedule", ["linear"]),
        ("prediction_type", {"a": 1}),
        ("num_train_timesteps", 10**12),
        ("beta_start", "x" * 100_000),
        ("trained_betas", [0.1] * 100_000),
        ("beta_schedule", "x" * 9999),
    ):
        text = json.dumps({**scheduler, key: value}).encode()
        files = {**given, "unet/scheduler_config.json": text}
        yield Case(
            f"scheduler {key} {str(value)[:20]}", "arguments", readers.score_model("unet"), files
        )
    for name in ("unet/config.json", "unet/scheduler_config.json"):
        for text in (b"[" * 100_000, b"[]", b"\xff", b"null", b'{"a": ' * 60_000, b" " * 3_000_000):
            files = {**given, name: text}
            yield Case(f"{name} {text[:8]!r}", "arguments", readers.score_model("unet"), files)


def cards() -> Iterator[Case]:
    plain = card_files("fashion-cnn")
    text = plain["card.toml"].decode()

    def changed(name: str, pattern: str, line: str, family: str = "cards") -> Case:
        assert re.search(pattern, text, re.M), pattern
        made = re.sub(pattern, lambda found: line, text, count=1, flags=re.M)
        return Case(
            f"card {name}", family, readers.classifier_card, {**plain, "card.toml": made.encode()}
        )

    bad = [
        "7",
        '"x"',
        "[]",
        "[[]]",
        "{ a = 1 }",
        "nan",
        "inf",
        "-1",
        "1979-05-27",
        "true",
        "[1e400]",
    ]
    for key in (
        "name",
        "kind",
        "network",
        "file",
        "license",
        "sha256",
        "source",
        "classes",
        "mean",
        "std",
        "family",
        "sigma_data",
        "image_shape",
    ):
        for value in bad if key in ("image_shape", "mean", "std", "network") else bad[:4]:
            yield changed(f"{key} {value}", rf"^{key} = .*$", f"{key} = {value}")
    for key, value in (
        ("depth", 10**6 * 6 + 4),
        ("depth", 10**12 * 6 + 4),
        ("width", 10**7),
        ("width", 10**30),
        ("stem", 0),
        ("stem", 10**12),
        ("classes", 10**12),
        ("depth", '"x"'),
        ("width", "[[[]]]"),
        ("width", 0),
        ("width", -1),
        ("width", 0.5),
        ("depth", "nan"),
        ("image_shape", "[1]"),
        ("activation", '"x"'),
        ("activation", "[1]"),
        ("unknown", 1),
    ):
        top, options = text.split("[options]\n")
        rest = re.sub(rf"^{key} = .*\n", "", options, count=1, flags=re.M)
        card = f"{top}[options]\n{key} = {value}\n{rest}".encode()
        files = {**plain, "card.toml": card}
        yield Case(f"card options {key} {value}", "cards", readers.classifier_card, files)


def networks() -> Iterator[Case]:
    plain = card_files("fashion-cnn")
    text = plain["card.toml"].decode()
    layers = ", ".join(['["ReLU"]'] * 50_000)
    for name, network, options in (
        ("hidden", "small_cnn", "hidden = 10000000"),
        ("hidden, huge", "small_cnn", "hidden = 1000000000000"),
        ("stride 0", "small_cnn", "convolutions = [[8, 3, 0]]"),
        ("kernel", "small_cnn", "convolutions = [[8, 100000, 1]]"),
        ("layers", "sequential", f"layers = [{layers}]"),
        ("layer", "sequential", 'layers = [["Linear", 100000000, 100000]]'),
        ("no layer", "sequential", 'layers = [[], 7, "x"]'),
        ("layer of nothing", "sequential", 'layers = [["Conv2d"]]'),
        ("layer of lists", "sequential", 'layers = [[["Linear"], 1, 2]]'),
        ("cifar_resnet", "cifar_resnet", "depth = 6000002"),
        ("whitened", "airbench_cnn", "widths = [100000, 100000, 100000]"),
        ("widths", "airbench_cnn", "widths = []"),
        ("not there", "x" * 100_000, ""),
        ("upwards", "../../networks", ""),
        ("score model's", "unet", "channels = 64"),
    ):
        made = text[: text.index("[options]")] + f"[options]\n{options}\n"
        made = made.replace('"wide_resnet"', json.dumps(network))
        files = {**plain, "card.toml": made.encode()}
        yield Case(f"card network {name}", "cards", readers.classifier_card, files)


def trusted() -> Iterator[Case]:
    """Cards that name code: what they name must not be called."""
    plain = card_files("fashion-cnn")
    text = plain["card.toml"].decode()
    for name, network in (
        ("system", "os:system"),
        ("runpy", "runpy:run_path"),
        ("dotted", "antigravity"),
        ("module", "this.module"),
        ("popen", "subprocess:Popen"),
    ):
        made = text[: text.index("[options]")] + f'[options]\ncommand = "{COMMAND}"\n'
        made = made.replace('"wide_resnet"', json.dumps(network))
        files = {**plain, "card.toml": made.encode(), "evil.py": f"open({CANARY!r}, 'w')".encode()}
        yield Case(f"card runs {name}", TRUSTED, readers.classifier_card, files)


def toml() -> Iterator[Case]:
    whole = {
        "deep": b"a = " + b"[" * 100_000,
        "deep tables": b"a = " + b"{a=" * 50_000,
        "dots": b".".join([b"a"] * 200_000) + b" = 1",
        "dotted head": b"[" + b".".join([b"a"] * 9000) + b"]",
        "heads": b"".join(b"[" + b"a." * 300 + b"x%d]\n" % i for i in range(900)),
        "lines": b"a = 1\n" * 100_000,
        "long": b'a = "' + b"x" * 900_000 + b'"',
        "zeros": b"\0" * 9000,
        "number": b"a = " + b"9" * 10_000,
        "empty": b"",
        "large": b"#" * 5_000_000,
        "bytes": b"\xff\xfe",
        "key": b'"' + b"k" * 70_000 + b'" = 1',
        "twice": b"a = 1\na = 2",
        "many": b"".join(b"k%d = 1\n" % i for i in range(90_000)),
    }
    for name, content in whole.items():
        for read, file in (
            (readers.classifier_card, "card.toml"),
            (readers.read_plan, "plan.toml"),
        ):
            yield Case(f"{file} {name}", "toml", read, {file: content})


def priors() -> Iterator[Case]:
    prior = card_files("fashion-small")
    text = prior["card.toml"].decode()
    for name, line in (
        ("steps", "[schedule_kwargs]\nsteps = 1000000000000\n"),
        ("steps 0", "[schedule_kwargs]\nsteps = 0\n"),
        ("levels", "schedule_kwargs = 7\n"),
        ("time_scale", '[schedule_kwargs]\ntime_scale = "x"\n'),
        ("defaults", "defaults = []\n"),
        ("shards", '[weight_files]\n"a" = 7\n'),
        ("shards away", '[weight_files]\n"/dev/zero" = "aa"\n'),
        ("figures", "metrics = 1\n"),
        ("recipe", "training_config = 1\n"),
    ):
        top, rest = text.split("\n[", 1)
        made = f"{top}\n{line}\n" if "[" in line[:1] else f"{line}{top}\n[{rest}"
        yield Case(
            f"prior {name}", "cards", readers.prior_card, {**prior, "card.toml": made.encode()}
        )


def plans(given: bytes) -> Iterator[Case]:
    text = given.decode()
    classifiers = 'classifiers = ["cifar10-resnet20", "cifar10-robust"]'
    words = ", ".join(f'"w{i}"' for i in range(100_000))
    eps = 'eps = ["2/255", "8/255"]'
    sweep = "\n".join(f"o{i} = [{', '.join(map(str, range(9)))}]" for i in range(30))
    for name, old, new in (
        ("100,000 classifiers", classifiers, f"classifiers = [{words}]"),
        ("100,000 random", classifiers, f"{classifiers}\nstochastic = [{words}]"),
        ("100,000 values", eps, f"eps = [{words}]"),
        ("crossing", eps, sweep),
        ("100,000 sets", "[attacks.gat]", f"[attacks.gat]\ndatasets = [{words}]"),
        (
            "900 classifiers, crossed",
            classifiers,
            f"classifiers = [{', '.join(words.split(', ')[:900])}]",
        ),
        ("seeds", "images = 256", f"images = 256\nseeds = {[*range(100_000)]}"),
        ("seed", "images = 256", "images = 256\nseeds = [-1]"),
        ("seeds of words", "images = 256", f"images = 256\nseeds = [{words[:9000]}]"),
        ("images", "images = 256", "images = 0"),
        ("images of words", "images = 256", 'images = "x"'),
        ("fraction", eps, 'eps = ["1/0", "1e999/1e999", "a/b"]'),
        ("long fraction", eps, f'eps = "{"9" * 9000}/1"'),
        ("nested", eps, "eps = [[[[1]]]]"),
        ("no values", eps, "eps = []"),
        ("sets", "[datasets.cifar10]", "[datasets]\nx = 1\n[datasets.cifar10]"),
        ("set of a word", "[datasets.cifar10]", f"[datasets.{'x' * 70_000}]"),
        ("unknown", "[attacks.gas]", f'[attacks.gas]\nclassifiers = "{"y" * 70_000}"'),
        ("table", "steps = 10", "steps = { a = { b = 1 } }"),
        ("attack", "[attacks.gat]", "[attacks.gat]\nattack = 7"),
    ):
        assert old in text, old
        made = text.replace(old, new, 1).encode()
        yield Case(f"plan {name}", "plans", readers.read_plan, {"plan.toml": made})


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int,
    height: int,
    *more: bytes,
    depth: int = 1,
    color: int = 0,
    rows: bytes | None = None,
) -> bytes:
    if rows is None:
        machine = zlib.compressobj(1)
        row = b"\0" * (1 + (width * depth + 7) // 8)
        rows = b"".join(machine.compress(row) for _ in range(height)) + machine.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def pictures() -> Iterator[Case]:
    jpeg = readers.pictures()["a.jpg"]
    start = jpeg.index(b"\xff\xc2")  # height and width stand behind
    huge = jpeg[: start + 5] + struct.pack(">HH", 65500, 65500) + jpeg[start + 9 :]
    scan = jpeg.rindex(b"\xff\xda")
    exif = jpeg.index(b"Exif\0\0") + 6
    text = zlib.compress(b"\0" * (1 << 26), 9)
    profile = b"x\0\0" + zlib.compress(b"\0" * (1 << 26))
    small = png(8, 8)
    made = {
        "169 megapixels.png": png(13_000, 13_000),
        "64 megapixels.png": png(8000, 8000),
        "claims.png": png(0x7FFFFFFF, 0x7FFFFFFF, rows=b""),
        "no side.png": png(0, 0, rows=b""),
        "ztxt.png": png(8, 8, chunk(b"zTXt", b"a\0\0" + text)),
        "itxt.png": png(8, 8, chunk(b"iTXt", b"a\0\1\0\0\0" + text)),
        "iccp.png": png(8, 8, chunk(b"iCCP", profile)),
        "texts.png": png(8, 8, *[chunk(b"tEXt", b"a\0b")] * 60_000),
        "exif.png": png(8, 8, chunk(b"eXIf", b"MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 90)),
        "exif of nothing.png": png(8, 8, chunk(b"eXIf", b"")),
        "transparent.png": png(8, 8, chunk(b"tRNS", b"")),
        "16 bits.png": png(8, 8, depth=16),
        "palette.png": png(8, 8, depth=8, color=3),
        "bomb.png": png(8, 8, rows=zlib.compress(b"\0" * (1 << 28))),
        "animated.png": png(8, 8, chunk(b"acTL", struct.pack(">II", 0xFFFFFFFF, 0))),
        "header twice.png": png(
            8, 8, chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0))
        ),
        "short chunk.png": small[:8] + chunk(b"IHDR", b"") + small[33:],
        "huge.jpg": huge,
        "scans.jpg": jpeg[:scan] + jpeg[scan:-2] * 5000 + jpeg[-2:],
        "exif loops.jpg": jpeg[:exif]
        + b"II*\0\x08\0\0\0"
        + b"\1\0\x69\x87\4\0\1\0\0\0\x08\0\0\0"
        + jpeg[exif + 22 :],
        "exif of 0xff.jpg": jpeg[:exif] + b"\xff" * 60 + jpeg[exif + 60 :],
        "gif.png": b"GIF89a" + b"\xff" * 90,
        "tiff.jpg": b"II*\0" + b"\xff" * 90,
        "empty.png": b"",
        "page.png": b"<html>" * 9,
        "eps.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    }
    for name, content in made.items():
        yield Case(name, "pictures", readers.data(name), {name: content})
        yield Case(f"{name}, resized", "pictures", readers.data(name, size=(8, 8)), {name: content})


def _npy(descr: str, shape: str, body: bytes = b"", order: str = "False") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}".encode() + b"\n"
    return np.lib.format.magic(2, 0) + struct.pack("<I", len(text)) + text + body


def arrays() -> Iterator[Case]:
    some = some_arrays()
    for name, given in {
        "0-d images": {"images": np.array(3)},
        "0-d labels": {**some, "labels": np.array(3)},
        "0-d classes": {**some, "classes": np.array("cat")},
        "no images": {"x": np.zeros(3)},
        "objects": {"images": np.array([{}, None], object)},
        "words": {"images": np.array(["a" * 9999])},
        "fields": {"images": np.zeros(3, [(f"f{i}", "u1") for i in range(400)])},
        "times": {"images": np.zeros((2, 8, 8, 3), "M8[s]")},
        "none": {"images": np.zeros((0, 8, 8, 3), np.uint8)},
        "none of floats": {"images": np.zeros((0, 3, 8, 8))},
        "nan": {"images": np.full((2, 3, 8, 8), np.nan)},
        "infinite": {"images": np.full((2, 3, 8, 8), np.inf)},
        "complex": {"images": np.zeros((2, 3, 8, 8), complex)},
        "long double": {"images": np.zeros((2, 3, 8, 8), np.longdouble)},
        "half": {"images": np.zeros((2, 3, 8, 8), "f2")},
        "big end": {"images": np.zeros((2, 3, 8, 8), ">f4")},
        "negative": {**some, "labels": np.array([-1, 0, 0, 0])},
        "huge label": {**some, "labels": np.array([2**63] * 4, np.uint64)},
        "float labels": {**some, "labels": np.zeros(4)},
        "classes of floats": {**some, "classes": np.array([[1.5]])},
        "dimensions": {"images": np.zeros((1,) * 30)},
        "sides of 1": {"images": np.zeros((3, 3, 3, 3), np.uint8)},
        "thin": {"images": np.zeros((2, 8, 8, 7), np.uint8)},
        "label for none": {**some, "labels": np.zeros(3, int)},
        "bool": {"images": np.zeros((2, 3, 8, 8), bool)},
    }.items():
        yield Case(f"npz {name}", "arrays", readers.data("a.npz"), {"a.npz": npz(**given)})
    for name, content in {
        "claims": _npy("'|u1'", "(1000000000000, 3, 8, 8)"),
        "negative": _npy("'|u1'", "(-1, -3, 8, 8)"),
        "wide": _npy("'|S2000000000'", "(100,)"),
        "overflow": _npy("'|u1'", f"({2**62}, 4, 8, 8)"),
        "nested": _npy("'|u1'", "(" * 5000),
        "code": _npy("__import__('os').system('true')", "(1,)"),
        "deep": _npy("[" * 3000, "(1,)"),
        "words": _npy("'|u1'", "('a', 'b')"),
        "object": _npy("'|O'", "(1,)", b"cos\nsystem\n."),
        "void": _npy("'|V0'", "(1000000000,)"),
        "long": _npy("'|u1'", "(" + "1," * 50_000 + ")"),
        "not": b"\x93NUMPY\x09\x09" + b"\xff" * 20,
        "short": b"\x93NUMPY",
        "empty": b"",
        "length": np.lib.format.magic(3, 0) + b"\xff\xff\xff\xff",
        "sub": _npy("('|u1', (1000000000,))", "(10,)"),
        "order": _npy("'|u1'", "(1, 3, 2, 2)", b"\0" * 12, "'x'"),
        "no keys": np.lib.format.magic(1, 0) + b"\2\0{}",
    }.items():
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            data = packed({"images.npy": content}, method)
            yield Case(f"npy {name} {method}", "arrays", readers.data("a.npz"), {"a.npz": data})
    zero = npz(True, images=np.zeros((40_000, 40, 40, 3), np.uint8))
    yield Case("npz of 192 MB of zeros", "arrays", readers.data("a.npz"), {"a.npz": zero})
    floats = npz(images=np.zeros((3000, 3, 32, 32)))
    yield Case("npz of 74 MB of floats", "arrays", readers.data("a.npz"), {"a.npz": floats})


def tables() -> Iterator[Case]:
    """IDX files, labels.csv, rows and manifests."""
    clothes = {name: c for name, c in official_files.fashion().items() if name.startswith("t10k")}
    labels, images = "t10k-labels-idx1-ubyte", "t10k-images-idx3-ubyte"
    body, head10 = zeros(1 << 32), b"\x1f\x8b\x08\0\0\0\0\0\0\3"
    for name, changed in {
        "claims": {labels: struct.pack(">II", 0x801, 0xFFFFFFFF)},
        "none": {labels: struct.pack(">II", 0x801, 0)},
        "many": {labels: struct.pack(">II", 0x801, 60_000) + b"\0" * 60_000},
        "sides": {images: struct.pack(">IIII", 0x803, 4, 1 << 31, 1 << 31)},
        "short": {images: b"\0"},
    }.items():
        yield Case(
            f"idx {name}", "tables", readers.data("fashion-mnist:test", "."), {**clothes, **changed}
        )
    for name in (labels, images):
        head = zlib.compressobj(9, zlib.DEFLATED, -15)
        begun = struct.pack(">II", 0x801, 0xFFFFFFFF) if name == labels else clothes[name][:16]
        data = head10 + head.compress(begun) + head.flush(zlib.Z_FULL_FLUSH) + body
        files = {f"{n}.gz": data if n == name else _gz(c) for n, c in clothes.items()}
        yield Case(f"gz {name}", "tables", readers.data("fashion-mnist:test", "."), files)
    picture = {"a.png": readers.pictures()["a.png"]}
    for name, text in {
        "field": b"file,label\na.png," + b"x" * 200_000,
        "quote": b'file,label\n"' + b"a" * 200_000,
        "digits": b"file,label\na.png," + b"9" * 5000,
        "large": b"file,label\na.png,99999999999999999999",
        "nul": b"file,label\na.png\0,1",
        "long": b"file,label\n" + b"a" * 9000 + b",1",
        "bytes": b"\xff\xfe\0",
        "head": b"x" * 100_000,
        "columns": b"file,label" + b",x" * 100_000 + b"\na.png,1",
        "empty": b"",
        "more": b"file,label\na.png,1" + b",2" * 1000,
        "returns": b"file,label\r\ra.png,1\r",
        "up": b"file,label\n../../../etc,1",
        "device": b"file,label\n/dev/zero,1",
        "itself": b"file,label\n.,1",
        "signs": "file,label\na.png,\u00b2".encode(),
    }.items():
        yield Case(f"csv {name}", "tables", readers.data(""), {"labels.csv": text, **picture})


def _gz(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def runs(given: Files) -> Iterator[Case]:
    row = json.loads(given["rows.jsonl"].splitlines()[0])
    del row["digest"]
    mark = json.loads(given["manifest.json"])["seal"]
    for key, value in (
        ("image_id", "x"),
        ("image_id", 1e308),
        ("image_id", 10**400),
        ("image_id", [1]),
        ("image_id", None),
        ("label", 10**30),
        ("label", "x"),
        ("label", [1]),
        ("label", 1.5),
        ("file", 7),
        ("file", "x" * 100_000),
        ("file", "../../../../etc/passwd"),
        ("file", "/dev/zero"),
        ("file", "a\0b"),
        ("file", "."),
        ("sha256", None),
        ("sha256", ["x"] * 100_000),
    ):
        text = seal_row({**row, key: value}, mark)  # as whoever writes a row can write
        files = {**given, "rows.jsonl": text}
        yield Case(f"row {key} {str(value)[:20]}", "runs", readers.read_run, files)
    for name, text in {
        "deep": b"[" * 100_000 + b"\n",
        "deep row": b'{"a":' * 50_000 + b"\n",
        "infinite": b'{"image_id": 1e999}\n',
        "number": b'{"image_id": ' + b"9" * 9000 + b"}\n",
        "list": b"[1]\n",
        "null": b"null\n",
        "bytes": b"\xff\n",
    }.items():
        yield Case(f"rows {name}", "runs", readers.read_run, {**given, "rows.jsonl": text})
        yield Case(f"manifest {name}", "runs", readers.read_run, {**given, "manifest.json": text})


SPECIAL: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "socket": lambda path: _socket(path),
    "folder": lambda path: path.mkdir(),
    "zero": lambda path: path.symlink_to("/dev/zero"),
    "tty": lambda path: path.symlink_to("/dev/tty"),
    "loop": lambda path: path.symlink_to(path.name),
}


def _socket(path: Path) -> None:
    before = os.getcwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(before)


def special(wholes: dict[str, Any]) -> Iterator[Case]:
    """A pipe, a socket, a folder, an endless device, in the place of each file."""
    kinds = (
        "edm.pkl",
        "sde.pth",
        "net.pth",
        "net.safetensors",
        "diffusers",
        "a.npz",
        "a.png",
        "labels.csv",
        "tiny",
        "card",
        "plan",
        "run",
    )  # not those that would be fetched where there is no file
    for kind in kinds:
        read, files, names = wholes[kind]
        for name in [*names, *(n for n in files if n not in names)][:4]:
            for what, make in SPECIAL.items():
                others = {**files, name: make}
                yield Case(f"{what} for {name} of {kind}", "special", read, others)


def programs() -> Iterator[Case]:
    """Programs of torch.export, whose graph reaches out of torch."""

    def program(target: str, *given: Any) -> bytes:
        inputs = [{"name": f"a{i}", "arg": one, "kind": 1} for i, one in enumerate(given)]
        node = {
            "target": target,
            "inputs": inputs,
            "outputs": [{"as_tensor": {"name": "y"}}],
            "metadata": {},
        }
        sizes = [{"as_expr": {}}, {"as_int": 3}, {"as_int": 32}, {"as_int": 32}]
        graph = {"nodes": [node], "tensor_values": {"x": {"sizes": sizes, "dtype": 7}}}
        told = {
            "input_specs": [{"user_input": {"arg": {"as_tensor": {"name": "x"}}}}],
            "output_specs": [{"user_output": {"arg": {"as_tensor": {"name": "y"}}}}],
        }
        model = {
            "schema_version": {"major": 8},
            "graph_module": {"signature": told, "graph": graph},
        }
        empty = json.dumps({"config": {}}).encode()
        return packed(
            {
                "x/archive_format": b"pt2",
                "x/models/model.json": json.dumps(model).encode(),
                "x/data/weights/model_weights_config.json": empty,
                "x/data/constants/model_constants_config.json": empty,
            }
        )

    image = {"as_tensor": {"name": "x"}}
    for name, target, given in (
        ("setattr", "torch.ops.aten.relu.__setattr__", [{"as_string": "_op"}, image]),
        ("getattr", "torch.ops.aten.relu.__getattr__", [{"as_string": "__globals__"}]),
        ("class", "torch.ops.aten.relu.__class__", [image]),
        ("call", "torch.ops.aten.relu.__call__", [image]),
        ("reduce", "torch.ops.aten.relu.__reduce_ex__", [{"as_int": 2}]),
        ("eval", "builtins.eval", [{"as_string": EXECUTE}]),
        ("load", "torch.ops.aten.from_file.default", [{"as_string": "/etc/passwd"}]),
        ("huge", "torch.ops.aten.zeros.default", [{"as_ints": [10**6, 10**6]}]),
    ):
        files = {"x.pt2": program(target, *given)}

        def read(folder: Path) -> None:
            readers.state_dict.convert_state_dict(
                folder / "x.pt2", folder / "out", (0.5,), (0.5,), image_shape=(3, 32, 32)
            )

        yield Case(f"pt2 {name}", TRUSTED, read, files)


def every(wholes: dict[str, Any]) -> Iterator[Case]:
    yield from pickles()
    yield from tensors()
    yield from archives()
    for case in arguments():  # the weights are made here, once
        text = case.files["edm.safetensors"]
        data = readers.edm_safetensors(text().decode())  # type: ignore[operator, call-arg]
        yield Case(case.name, case.family, case.read, {"edm.safetensors": data})
    yield from configs(wholes["diffusers"][1])
    yield from cards()
    yield from networks()
    yield from trusted()
    yield from toml()
    yield from priors()
    yield from plans(wholes["plan"][1]["plan.toml"])
    yield from pictures()
    yield from arrays()
    yield from tables()
    yield from runs(wholes["run"][1])
    yield from special(wholes)
    yield from programs()
