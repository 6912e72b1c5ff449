"""Weights of LPIPS: two files given, or fetched whole and as published, or refused."""

import hashlib
from functools import partial
from http.server import ThreadingHTTPServer
from threading import Thread

import pytest
import torch

from file_server import Handler, Served
from metrics.test_lpips import images, random_weights
from scoreag.metrics import lpips as lpips_weights
from scoreag.metrics.lpips import Lpips, load_lpips


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Addresses of both files."""
    convolutions, heads = random_weights()
    folder = tmp_path / "published"
    folder.mkdir()
    torch.save({**convolutions, "classifier.1.weight": torch.zeros(3)}, folder / "a.pth")
    torch.save(heads, folder / "alex.pth")
    digests = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in ("a.pth", "alex.pth")
    }
    (folder / "a.pth").rename(folder / "alexnet-x.pth")
    monkeypatch.setattr(lpips_weights, "ALEXNET_DIGEST", f"sha256:{digests['a.pth']}")
    monkeypatch.setattr(lpips_weights, "HEADS_DIGEST", f"sha256:{digests['alex.pth']}")
    handler = partial(Handler, Served(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{http.server_port}"
        yield f"{url}/alexnet-x.pth", f"{url}/alex.pth"
        http.shutdown()
        thread.join()


def test_fetched_weights_measure_as_the_published_ones_do(published, tmp_path):
    metric = load_lpips(*lpips_weights.download_lpips(tmp_path / "cache", False, *published))
    expected = Lpips(*random_weights())(images(), images(1))
    assert torch.equal(metric(images(), images(1)), expected)
    assert not list((tmp_path / "cache").glob("alexnet-*.pth"))


def test_another_file_under_that_name_is_refused(published, tmp_path):
    features, heads = published
    folder = tmp_path / "published"
    other = next(folder.glob("alexnet-*.pth"))
    other.write_bytes(other.read_bytes() + b"0")
    with pytest.raises(ValueError, match=r"has the sha256 .*; expected the sha256"):
        lpips_weights.download_lpips(tmp_path / "cache", False, features, heads)


def test_one_file_alone_is_refused_with_what_to_write(tmp_path):
    with pytest.raises(ValueError, match=r"FEATURES\.npz,HEADS\.npz; or write --download-lpips"):
        lpips_weights.resolve_weight_files(str(tmp_path / "a.npz"))
