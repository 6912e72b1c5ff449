"""Public checkpoints: fetched once, pinned, converted; from a server of this machine."""

import functools
import hashlib
import io
import json
import pickle
import threading
from dataclasses import replace
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

import made_edm
import made_states
from file_server import Handler, Served
from scoreag import load_prior
from scoreag.cli.app import main
from scoreag.io.filesystem import cache_folder
from scoreag.models.convert.hub import (
    HubCheckpoint,
    check_complete,
    download_files,
    fetch_card_folder,
    list_checkpoints,
)
from scoreag.models.model_cards import load_card
from scoreag.registry import class_lists

MODEL = HubCheckpoint("mine", "http://nowhere.invalid/", ("edm.pkl",), 1, "MIT")


@pytest.fixture
def served(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    made_edm.write(tmp_path / "there" / "edm.pkl")
    served = Served(tmp_path / "there")
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, served))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("SCOREAG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SCOREAG_MODELS_URL", f"http://127.0.0.1:{server.server_port}")
    yield served
    server.shutdown()
    server.server_close()


def test_a_public_model_is_fetched_once_and_then_kept(served):
    made = load_card(fetch_card_folder(MODEL, progress=False))
    assert made.license == "MIT" and made.classes == ("0", "1", "2") and served.ranges == [None]
    expected = made_edm.network().state_dict()
    assert torch.equal(
        load_prior(made.folder).model.state_dict()["network.map_label.weight"],
        expected["map_label.weight"],
    )
    fetch_card_folder(MODEL, progress=False)
    assert served.ranges == [None]


def test_a_broken_download_goes_on_where_it_broke(served):
    served.breaks = 1
    fetch_card_folder(MODEL, progress=False)
    half = (served.folder / "edm.pkl").stat().st_size // 2
    assert served.ranges == [None, f"bytes={half}-"]


def test_what_is_no_checkpoint_is_not_pinned_and_is_fetched_anew(served):
    """It ends as a pickle does, so that only reading it finds out."""
    right = (served.folder / "edm.pkl").read_bytes()
    (served.folder / "edm.pkl").write_bytes(pickle.dumps({"ema": 1}))
    with pytest.raises(ValueError, match=r"no pickle of EDM.*; what was fetched was removed"):
        fetch_card_folder(MODEL, progress=False)
    place = cache_folder() / "models" / "mine"
    assert not [file for file in place.rglob("*") if file.is_file()]
    (served.folder / "edm.pkl").write_bytes(right)
    assert load_card(fetch_card_folder(MODEL, progress=False)).license == "MIT"
    pins = json.loads((place / "sha256.json").read_text())
    assert pins == {"edm.pkl": hashlib.sha256(right).hexdigest()}


def test_what_was_cut_at_the_source_is_not_taken(served):
    right = (served.folder / "edm.pkl").read_bytes()
    (served.folder / "edm.pkl").write_bytes(right[:1000])
    with pytest.raises(ValueError, match="not whole, or something else: it breaks off"):
        fetch_card_folder(MODEL, progress=False)
    assert not [file for file in cache_folder().rglob("*") if file.is_file()]


def whole(kind):
    """The bytes of a file of each kind."""
    out = io.BytesIO()
    if kind in (".pth", ".old"):
        state = {"a": torch.arange(99.0)}
        torch.save(state, out, _use_new_zipfile_serialization=kind == ".pth")
    elif kind == ".safetensors":
        return save({"a": torch.arange(99.0)})
    elif kind == ".json":
        return b'{"sample_size": 32}'
    else:
        return pickle.dumps([*range(99)])
    return out.getvalue()


@pytest.mark.parametrize("kind", [".pth", ".old", ".safetensors", ".json", ".pkl"])
@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_file_of_each_kind_is_known_to_be_cut(tmp_path, kind, share):
    data = whole(kind)
    (tmp_path / "whole").write_bytes(data)
    check_complete(tmp_path / "whole", kind)
    (tmp_path / "cut").write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError):
        check_complete(tmp_path / "cut", kind)


def test_a_file_that_is_far_larger_than_the_model_is_not_taken(served):
    (served.folder / "edm.pkl").write_bytes(bytes(10 << 20))
    with pytest.raises(ValueError, match=r"10,485,760 bytes or more, and 8,388,608 are the most"):
        fetch_card_folder(MODEL, progress=False)


def test_a_missing_package_does_not_cost_the_download(served, monkeypatch):
    def lacking(*given, **more):
        try:
            raise ModuleNotFoundError("diffusers")
        except ModuleNotFoundError as error:
            raise ValueError("write pip install diffusers") from error

    monkeypatch.setattr("scoreag.models.convert.hub.convert_checkpoint", lacking)
    with pytest.raises(ValueError, match=r"pip install diffusers$"):
        fetch_card_folder(MODEL, progress=False)
    assert (cache_folder() / "models" / "mine" / "edm.pkl").is_file()


def test_a_file_that_changed_after_the_first_download_is_refused(served, tmp_path):
    made = fetch_card_folder(MODEL, progress=False)
    (made / "card.toml").unlink()
    kept = made.parent / "edm.pkl"
    kept.write_bytes(kept.read_bytes() + b"x")
    with pytest.raises(ValueError, match=r"and the first that came had .* remove it to fetch it"):
        fetch_card_folder(MODEL, progress=False)
    kept.unlink()
    assert fetch_card_folder(MODEL, progress=False) == made


def test_an_address_that_is_not_reached_is_one_line(served, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SCOREAG_MODELS_URL", "http://127.0.0.1:1/")
    words = ["synthesize", "--model", "edm-cifar10-cond-vp", "--classifier", "cifar10-resnet20"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 1
    err = capsys.readouterr().err
    assert "cannot reach http://127.0.0.1:1/edm-cifar10-32x32-cond-vp.pkl" in err
    assert err.count("\n") == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize("model", list_checkpoints().values(), ids=list_checkpoints())
def test_an_entry_names_a_data_set_that_there_is_a_licence_and_an_address(model):
    assert not model.classes or len(class_lists()[model.classes]) in (10, 100, 1000)
    assert model.license and model.megabytes > 0 and model.url.startswith("https://")
    assert model.manual or model.url.endswith("/") or "?" in model.url
    assert len(model.files) == 1 or not (model.digest or model.manual)


def test_a_file_that_only_a_browser_gets_is_asked_for_and_then_taken(tmp_path, monkeypatch):
    """As score-SDE's, with the configuration that its folder was named after."""
    monkeypatch.setenv("SCOREAG_CACHE", str(tmp_path))
    monkeypatch.delenv("SCOREAG_MODELS_URL", raising=False)
    told = made_states.arguments("ddpmpp_continuous")
    page = "https://drive.google.com/x"
    model = HubCheckpoint(
        "sde", page, ("checkpoint.pth",), 1, "Apache-2.0", config=told, manual=True
    )
    with pytest.raises(ValueError, match=r"with a browser only, from https://drive.* put the file"):
        fetch_card_folder(model)
    place = tmp_path / "models" / "sde" / "checkpoint.pth"
    place.parent.mkdir(parents=True)
    made_states.write("ddpmpp_continuous", place)
    made = load_card(fetch_card_folder(model))
    assert (made.family, made.license) == ("vp", "Apache-2.0")


def test_a_published_digest_is_asked_for(served, tmp_path):
    kept = (served.folder / "edm.pkl").read_bytes()
    right = f"md5:{hashlib.md5(kept).hexdigest()}"
    wrong = replace(MODEL, digest="md5:" + "0" * 32)
    with pytest.raises(ValueError, match="expected the md5 0000"):
        fetch_card_folder(wrong, progress=False)
    assert fetch_card_folder(replace(MODEL, digest=right), progress=False).name == "card"


def test_an_address_with_a_query_is_that_of_the_file(monkeypatch):
    known_file = list_checkpoints()["ddpm-cifar10-ema"]
    asked = []
    monkeypatch.delenv("SCOREAG_MODELS_URL", raising=False)
    monkeypatch.setattr(
        "scoreag.models.convert.hub.download_file", lambda url, *rest: asked.append(url)
    )
    download_files(known_file, Path("/nowhere"), progress=False)
    assert asked == [known_file.url]


def test_the_list_of_models_says_what_would_be_fetched(capsys):
    assert main(["list", "models"]) == 0
    out = capsys.readouterr().out
    assert "edm-cifar10-cond-vp" in out and "fetched on first use, 223 MB, CC BY-NC-SA" in out
