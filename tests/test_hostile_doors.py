"""Small files that would take the memory, or hang, end in one line at the doors that users take."""

import json
import os
import struct
import time
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scoreag.assess import plan
from scoreag.classifiers.loading import load_classifier
from scoreag.classifiers.networks.cifar_resnet import ResNet
from scoreag.cli import app
from scoreag.data import loading
from scoreag.io.images import read_picture
from scoreag.models.convert.checkpoint import open_checkpoint
from scoreag.models.model_cards import Card, load_card, write_card


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_messages_of_the_command_line_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["doctor", "--classifier", "x" * 70_000, "--data", "foolbox-samples"],
        ["x" * 70_000],
    ):
        assert app.main(words) in (1, 2)
        told = capsys.readouterr().err
        assert told.count("\n") == 1 and 400 < len(told) <= 501 and told.startswith("scoreag: ")


@pytest.mark.parametrize(
    "error", [MemoryError(), RecursionError("x"), RuntimeError("Symlink loop from 'a'")]
)
def test_what_a_file_can_cause_is_foreseen(error: Exception) -> None:
    code, told = app.explain_error(error)
    assert code == 1 and "unexpected" not in told
    assert "unexpected" in app.explain_error(RuntimeError("x"))[1]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1j])
def test_weights_that_no_network_computes_with_are_refused(
    here: Path, capsys: pytest.CaptureFixture[str], value: complex
) -> None:
    state = ResNet(8, width=4).state_dict()
    kind = torch.complex64 if isinstance(value, complex) else torch.float32
    state["bn1.bias"] = torch.full((4,), value, dtype=kind)
    torch.save(state, here / "net.pth")
    words = ["convert", "net.pth", "mine", "--network", "cifar_resnet", "--mean", "0", "--std", "1"]
    more = ["--config", '{"depth": 8, "width": 4}', "--shape", "3x32x32"]
    assert app.main([*words, *more]) == 1
    told = capsys.readouterr().err
    assert "'bn1.bias'" in told and told.count("\n") == 1 and not (here / "mine").exists()


def test_numbers_beyond_half_precision_are_not_halved(here: Path) -> None:
    given = Card("a", "classifier", "cifar_resnet", "a.safetensors", "MIT", (3, 8, 8), folder=here)
    write_card(given, {"a": torch.tensor([7e4])})
    with pytest.raises(ValueError, match="a: the tensor 'a' holds NaN or infinity; leave out --fp"):
        write_card(given, {"a": torch.tensor([7e4])}, fp16=True)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_a_picture_of_169_megapixels_in_a_few_bytes_is_refused_by_its_header(here: Path) -> None:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 13_000, 13_000, 1, 0, 0, 0, 0))
    rows = zlib.compress(b"\0" * 13_000 * 1626)
    whole = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    (here / "a.png").write_bytes(whole)
    with pytest.raises(ValueError, match=r"a\.png is no whole .*: it is 13000 x 13000 pixels in"):
        read_picture(here / "a.png")


def test_packed_arrays_are_refused_by_what_they_claim(here: Path) -> None:
    np.savez_compressed(here / "a.npz", images=np.zeros((9000, 3, 40, 40), np.uint8))
    with pytest.raises(ValueError, match=r"unpacks to 43,200,128 bytes, too many .* np\.savez"):
        loading.load_dataset(here / "a.npz")
    np.savez(here / "b.npz", images=np.zeros((9000, 3, 40, 40), np.uint8))
    assert len(loading.load_dataset(here / "b.npz[0:9]")) == 9


@pytest.mark.parametrize("name", ["images", "labels", "classes"])
def test_arrays_without_dimensions_are_refused(here: Path, name: str) -> None:
    given: dict[str, Any] = {"images": np.zeros((2, 3, 8, 8)), "labels": np.array([0, 1])}
    np.savez(here / "a.npz", **{**given, name: np.array(0.5)})
    with pytest.raises(ValueError, match=rf"a\.npz: {name} .*\(1?,?\)"):
        loading.load_dataset(here / "a.npz")


def test_encrypted_arrays_are_refused(here: Path) -> None:
    np.savez(here / "a.npz", images=np.zeros((2, 3, 8, 8)))
    data = bytearray((here / "a.npz").read_bytes())
    struct.pack_into("<H", data, data.index(b"PK\1\2") + 8, 1)
    (here / "a.npz").write_bytes(data)
    with pytest.raises(ValueError, match=r"damaged or holds objects.*encrypted"):
        loading.load_dataset(here / "a.npz")


def test_a_member_of_tiny_imagenet_unpacks_to_no_more_than_any_published(here: Path) -> None:
    with zipfile.ZipFile(here / "tiny-imagenet-200.zip", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("tiny-imagenet-200/wnids.txt", b"\n" * (1 << 25))
    with pytest.raises(ValueError, match=r"wnids\.txt' is damaged: it unpacks to 33,554,432 bytes"):
        loading.load_dataset("tiny-imagenet:val", here, progress=False)


CLAIMS = {
    "image_shape": [3, 10**6, 10**6],
    "mean": [float("nan")],
    "std": [0.0],
    "classes": "cat",
    "schedule_kwargs": {"steps": 10**12},
    "sigma_data": True,
    "options": [1],
    "weight_files": {"a": 7},
    "metrics": 3,
}


@pytest.mark.parametrize("entry", CLAIMS)
def test_entries_of_a_card_of_another_kind_are_refused(here: Path, entry: str) -> None:
    from scoreag.models.model_cards import to_toml

    given = {
        "name": "a", "kind": "classifier", "network": "cifar_resnet", "file": "a", "license": "MIT",
        "image_shape": [3, 8, 8],
    }  # fmt: skip
    (here / "card.toml").write_text(to_toml(given))
    assert load_card(here).name == "a"
    (here / "card.toml").write_text(to_toml({**given, entry: CLAIMS[entry]}))
    with pytest.raises(ValueError, match=rf"card\.toml: {entry} is .*; expected "):
        load_card(here)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            '"cifar10-robust"]',
            ", ".join(f'"w{i}"' for i in range(100_000)) + "]",
            "100,001 entries",
        ),
        ("images = 50", "\n".join(f"o{i} = [1, 2, 3, 4, 5]" for i in range(20)), "crosses to"),
        ("images = 50", "deep = " + "[" * 9000, "nests too deeply"),
    ],
)
def test_plans_of_more_than_anybody_computes_are_refused(
    here: Path, old: str, new: str, told: str
) -> None:
    text = (plan.PLAN_DIR / "quick.toml").read_text()
    assert old in text
    (here / "p.toml").write_text(text.replace(old, new, 1))
    began = time.process_time()
    with pytest.raises(ValueError, match=told):
        plan.load_plan(here / "p.toml")
    assert time.process_time() - began < 10


def test_a_pipe_is_no_file(here: Path) -> None:
    for name in ("a.pkl", "a.npz", "a.png", "card.toml", "p.toml", "a.pth"):
        os.mkfifo(here / name)
    (here / "folder").mkdir()
    os.mkfifo(here / "folder" / "labels.csv")
    reads: list[Any] = [
        lambda: open_checkpoint(here / "a.pkl"),
        lambda: loading.load_dataset(here / "a.npz"),
        lambda: loading.load_dataset(here / "a.png"),
        lambda: load_classifier(here),
        lambda: plan.load_plan(here / "p.toml"),
        lambda: load_classifier(here / "a.pth", network="cifar_resnet"),
        lambda: loading.load_dataset(here / "folder"),
    ]
    for read in reads:
        with pytest.raises(ValueError, match=r"pipe|no plan|no picture|no file|has no"):
            read()


def test_arguments_that_nest_without_end_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["convert", "a.pt", "mine", "--config", "[" * 100_000]
    assert app.main(words) in (1, 2)
    assert "nests too deeply" in (told := capsys.readouterr().err) and len(told) <= 501
    assert app.main([*words[:-1], json.dumps(["x" * 90_000])]) in (1, 2)
    assert len(capsys.readouterr().err) <= 501
