"""Public checkpoints: fetched once, pinned, converted; from a server of this machine."""

import functools
import threading
from http.server import ThreadingHTTPServer

import pytest
import torch

import made_edm
from file_server import Handler, Served
from scoreag import load_prior
from scoreag.cards import card
from scoreag.cli import main
from scoreag.foreign.public import Public, folder_of, known
from scoreag.load import load, names

MODEL = Public("mine", "http://nowhere.invalid/", ("edm.pkl",), 1, "MIT")


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
    made = card(folder_of(MODEL, progress=False))
    assert made.licence == "MIT" and made.classes == ("0", "1", "2") and served.ranges == [None]
    expected = made_edm.network().state_dict()
    assert torch.equal(
        load_prior(made.folder).model.state_dict()["network.map_label.weight"],
        expected["map_label.weight"],
    )
    folder_of(MODEL, progress=False)
    assert served.ranges == [None]


def test_a_broken_download_goes_on_where_it_broke(served):
    served.breaks = 1
    folder_of(MODEL, progress=False)
    half = (served.folder / "edm.pkl").stat().st_size // 2
    assert served.ranges == [None, f"bytes={half}-"]


def test_a_file_that_changed_after_the_first_download_is_refused(served, tmp_path):
    made = folder_of(MODEL, progress=False)
    (made / "card.toml").unlink()
    kept = made.parent / "edm.pkl"
    kept.write_bytes(kept.read_bytes() + b"x")
    with pytest.raises(ValueError, match=r"and the first that came had .* remove it to fetch it"):
        folder_of(MODEL, progress=False)
    kept.unlink()
    assert folder_of(MODEL, progress=False) == made


def test_an_address_that_is_not_reached_is_one_line(served, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SCOREAG_MODELS_URL", "http://127.0.0.1:1/")
    words = ["synthesize", "--model", "edm-cifar10-cond-vp", "--classifier", "cifar10-resnet20"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 1
    err = capsys.readouterr().err
    assert "cannot reach http://127.0.0.1:1/edm-cifar10-32x32-cond-vp.pkl" in err
    assert err.count("\n") == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize("model", known().values(), ids=known())
def test_an_entry_names_a_data_set_that_there_is_and_a_licence(model):
    assert not model.classes or len(load("datasets", model.classes).CLASSES) == 10
    assert model.licence and model.megabytes > 0 and model.address.endswith("/")
    assert not model.classes or model.classes in names("datasets")


def test_the_list_of_models_says_what_would_be_fetched(capsys):
    assert main(["list", "models"]) == 0
    out = capsys.readouterr().out
    assert "edm-cifar10-cond-vp" in out and "fetched on first use, 223 MB, CC BY-NC-SA" in out
