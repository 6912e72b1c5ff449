"""Files of torch.save come back as torch reads them, and claim no more than they have."""

import io
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from scoreag.io.safe_unpickler import load_pickle, load_tensors

BOTH = pytest.mark.parametrize("new", [True, False], ids=["archive", "before 2020"])
DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
    torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64,
]  # fmt: skip


def tree() -> dict[str, Any]:
    base = torch.arange(24.0).reshape(4, 6)
    state = OrderedDict(weight=base, turned=base.t(), part=base[1:3, ::2], empty=torch.empty(0, 3))
    state["parameter"] = torch.nn.Parameter(torch.ones(2))
    adam = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))])
    adam.param_groups[0]["params"][0].grad = torch.ones(2)
    adam.step()
    return {
        "state_dict": state, "optimizer": adam.state_dict(), "epoch": 3, "losses": [(1, 0.5)],
        "none": None, "flag": True, "words": {"a", "b"}, "size": torch.Size([1, 2]), "raw": b"\xff",
        "dtype": torch.float16, "number": torch.tensor(2.5), "large": 1 << 80, "complex": 1j,
        **{str(dtype): torch.arange(3).to(dtype) for dtype in DTYPES},
    }  # fmt: skip


EIGHT_BITS = torch.float8_e4m3fn  # which torch itself cannot read from the older layout


def alike(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, torch.Tensor):
        same = ours.dtype == theirs.dtype and ours.shape == theirs.shape
        return same and bool((ours.float() == theirs.float()).all())
    if isinstance(theirs, dict):
        return list(ours) == list(theirs) and all(alike(ours[k], theirs[k]) for k in theirs)
    if isinstance(theirs, list | tuple):
        both = zip(ours, theirs, strict=True)
        return type(ours) is type(theirs) and all(alike(a, b) for a, b in both)
    return bool(ours == theirs)


@BOTH
@pytest.mark.filterwarnings("ignore:Casting complex")
def test_all_that_torch_saves_comes_back_as_torch_reads_it(tmp_path: Path, new: bool) -> None:
    given = tree() | ({"f8": torch.arange(3).to(EIGHT_BITS)} if new else {})
    torch.save(given, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    theirs = torch.load(tmp_path / "a.pt", weights_only=True)
    assert alike(load_tensors(tmp_path / "a.pt"), theirs)


@BOTH
def test_every_cut_file_is_refused(tmp_path: Path, new: bool) -> None:
    torch.save(tree(), tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    whole = (tmp_path / "a.pt").read_bytes()
    for place in range(0, len(whole) - 1, 37):
        (tmp_path / "b.pt").write_bytes(whole[:place])
        with pytest.raises(ValueError, match=r"b\.pt is no whole file of tensors: \S"):
            load_tensors(tmp_path / "b.pt")


@BOTH
def test_tensors_that_repeat_their_numbers_are_refused(tmp_path: Path, new: bool) -> None:
    """Three thousand of one storage, or one that has a trillion places for a number."""
    base = torch.zeros(1 << 16)
    for name, given in (
        ("many", {str(i): base[:] for i in range(3000)}),
        ("one, named often", {str(i): base for i in range(3000)}),
        ("one, listed often", [{"a": [base] * 3000}]),
        ("one", {"a": torch.zeros(1).expand(10**6, 10**6)}),
    ):
        torch.save(given, tmp_path / f"{name}.pt", _use_new_zipfile_serialization=new)
        assert (tmp_path / f"{name}.pt").stat().st_size < 1 << 20
        with pytest.raises(ValueError, match="is no whole file of tensors"):
            load_tensors(tmp_path / f"{name}.pt")
    torch.save({"a": base, "tied": base}, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    assert load_tensors(tmp_path / "a.pt").keys() == {"a", "tied"}


def test_a_packed_archive_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1 << 24)}, tmp_path / "a.pt")
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as plain,
        zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    assert (tmp_path / "b.pt").stat().st_size < 200_000
    with pytest.raises(ValueError, match=r"it unpacks to .* bytes, which torch\.save does not do"):
        load_tensors(tmp_path / "b.pt")


LAUGHS = b"]q\0" + b"".join(b"]q%c(h%ch%ce" % (i + 1, i, i) for i in range(40))
HARMFUL = {  # what would take hours or all of the memory
    "a place": (b"Nr\xff\xff\xff\x7f.", None),
    "bytes": (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".", None),
    "a key of keys": (
        b"}K\1\x85q\0" + b"".join(b"0h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60)) + b"Ns.",
        "has a tuple as a key",
    ),
    "keys that collide": (b"}(\x8a\x09" + b"\1" * 9 + b"Nu.", "has a int as a key"),
    "dictionaries": (b"(" + b"}" * 1100 + b"l.", "more than 1,000 steps"),
}


@pytest.mark.parametrize("name", HARMFUL)
def test_a_pickle_takes_no_more_room_than_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("scoreag.io.safe_unpickler.MAX_STEPS", 1000)  # of a million
    program, told = HARMFUL[name]
    assert len(list(pickletools.genops(program))) > 1 if name != "bytes" else True
    (tmp_path / "a").write_bytes(program)
    if name == "a place":  # in a dictionary, a far place is as good as any
        assert load_pickle(tmp_path / "a") is None
        return
    with pytest.raises(ValueError, match=told or "is no plain pickle"):
        load_pickle(tmp_path / "a")


def test_what_is_listed_twice_again_and_again_is_made_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(LAUGHS + b".")
    came, depth = load_pickle(tmp_path / "a"), 0
    while came:
        assert len(came) == 2 and came[0] is came[1]
        came, depth = came[0], depth + 1
    assert depth == 40


def test_a_storage_that_claims_more_than_the_file_has_is_refused(tmp_path: Path) -> None:
    held = io.BytesIO()
    torch.save({"a": torch.zeros(4)}, held, _use_new_zipfile_serialization=False)
    whole = held.getvalue()
    place = whole.index(b"K\x04Nt")  # how many numbers the storage has
    claims = whole[:place] + pickle.dumps(1 << 40, 2)[2:-1] + whole[place + 2 :]
    (tmp_path / "a.pt").write_bytes(claims)
    with pytest.raises(ValueError, match="is no whole file of tensors: it is damaged"):
        load_tensors(tmp_path / "a.pt")
