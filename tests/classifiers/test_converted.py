"""A user's file becomes a card that every verb takes; a wrong normalization of it is found."""

import json
import os
from pathlib import Path

import pytest
import torch

import scoreag
import tiny
from scoreag.classifiers.diagnose import diagnose
from scoreag.classifiers.networks.cifar_resnet import ResNet
from scoreag.cli.app import main
from scoreag.models.model_cards import load_card

SHARED = Path(os.environ.get("SCOREAG_SHARED", "/nowhere"))
ARGUMENTS = {"depth": 8, "width": 4}
TELL = ["--mean", "0.4,0.5,0.6", "--std", "0.2,0.25,0.3"]
KNOWN = [
    "--network",
    "cifar_resnet",
    "--config",
    json.dumps(ARGUMENTS),
    "--class-names",
    "cat,dog,ship",
]
WHOLE = [*KNOWN, *TELL, "--shape", "3x8x8"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(net().state_dict(), tmp_path / "net.pth")
    return tmp_path


def net():
    return tiny.filled(ResNet(8, width=4, classes=3), 5, 0.3)


def images(count=3):
    return torch.rand(count, *tiny.SHAPE, generator=torch.Generator().manual_seed(1))


def convert(*words):
    return main(["convert", *words, "--quiet"])


def line(capsys, words, code):
    """The only line on stderr."""
    assert convert(*words) == code
    err = capsys.readouterr().err
    assert err.startswith("scoreag: ") and err.count("\n") == 1, err
    return err


def test_the_card_of_a_state_dict_says_what_the_network_says_in_its_own_normalization():
    assert convert("net.pth", "mine", *WHOLE, "--license", "MIT") == 0
    made, victim, x = load_card(Path("mine")), scoreag.load_classifier("mine"), images()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3)))
    assert torch.allclose(victim(x), net()((x - mean) / std), atol=1e-5)
    assert made.classes == ("cat", "dog", "ship") and made.image_shape == tiny.SHAPE
    assert made.license == "MIT" and made.source == "converted from net.pth"


def test_a_verb_takes_the_card(here, capsys):
    assert convert("net.pth", "mine", *WHOLE) == 0
    tiny.write_score_model(here / "prior")
    tiny.write_images(here / "data", 4)
    words = [
        "--model",
        "prior",
        "--classifier",
        "mine",
        "--data",
        "image-folder:data",
        "--out",
        "out",
    ]
    assert main(["transform", *words, "--steps", "2", "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 4
    told = json.loads((here / "out" / "manifest.json").read_text())["models"]["classifier"]
    assert told["mean"] == [0.4, 0.5, 0.6] and told["sha256"] == load_card(Path("mine")).sha256


def test_another_normalization_is_another_run(here, capsys):
    assert convert("net.pth", "mine", *WHOLE) == 0
    tiny.write_score_model(here / "prior")
    tiny.write_images(here / "data", 2)
    words = [
        "--model",
        "prior",
        "--classifier",
        "mine",
        "--data",
        "image-folder:data",
        "--out",
        "out",
    ]
    assert main(["transform", *words, "--steps", "2", "--quiet"]) == 0
    text = (here / "mine" / "card.toml").read_text()
    assert text.count("0.4,") == 1
    (here / "mine" / "card.toml").write_text(text.replace("0.4,", "0.1,"))
    assert main(["transform", *words, "--steps", "2", "--quiet"]) == 1
    assert "classifier.mean was [0.4, 0.5, 0.6] and is now [0.1," in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, code, told",
    [
        (["net.pth", "new", *KNOWN, "--shape", "3x8x8"], 2, "--mean is missing: normalization is"),
        (["net.pth", "new", *KNOWN, "--mean", "0.5"], 2, "--std is missing: normalization is"),
        (
            ["net.pth", "new", *WHOLE, "--mean", "a,b"],
            2,
            "--mean is 'a,b'; write a number per chan",
        ),
        (["net.pth", "new", *WHOLE, "--std", "0,1,1"], 1, "std above 0"),
        (["net.pth", "new", *WHOLE, "--mean", "0,0"], 1, "mean [0.0, 0.0] and std [0.2,"),
        (["net.pth", "new", *WHOLE, "--shape", "8x8"], 2, "--shape 8x8: write CHANNELSxHEIGHT"),
        (["net.pth", "new", *KNOWN, *TELL, "--class-names", "a,b"], 1, "'linear.weight' has shape"),
        (["net.pth", "new", *TELL], 1, "say which network they are of"),
        (["lost.pth", "new", *WHOLE], 1, "there is no file lost.pth"),
        (["net.pth", "new", *WHOLE, "--network", "cifar_resnt"], 1, "did you mean 'cifar_resnet'"),
        (["net.pth", "new", *WHOLE, "--config", '{"dept": 8}'], 1, "did you mean 'depth'"),
        (["net.pth", "new", *WHOLE, "--config", '{"depth": 14}'], 1, "weights lack"),
    ],
)
def test_a_mistake_gets_one_line_and_leaves_nothing(here, capsys, words, code, told):
    assert told in line(capsys, words, code)
    assert not (here / "new").exists()


def test_images_have_a_shape(here, capsys):
    bare = [
        "--network",
        "cifar_resnet",
        "--config",
        '{"depth": 8, "width": 4, "classes": 3}',
        *TELL,
    ]
    assert "write --shape, e.g. 3x32x32" in line(capsys, ["net.pth", "new", *bare], 1)


AKAMASTER = (
    "resnet20-12fca82f.th", "cifar_resnet", {"depth": 20, "shortcut": "A"},
    (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 0.9173,
)  # fmt: skip
ROBUST = (
    "cifar_cnn_a_adv4.model", "sequential",
    {"layers": [
        ["Conv2d", 3, 16, 4, 2, 1], ["ReLU"], ["Conv2d", 16, 32, 4, 2, 1], ["ReLU"],
        ["Flatten"], ["Linear", 2048, 100], ["ReLU"], ["Linear", 100, 10],
    ]},
    (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), 0.6007,
)  # fmt: skip


def examined(victim, count=200):
    """What doctor says of test images, by check."""
    pixels, labels = scoreag.load_data(f"cifar10:test[0:{count}]", data_dir=SHARED / "data")
    found = diagnose(victim, (pixels * 255).round().to(torch.uint8), labels)
    return {finding.check: finding for finding in found}


def public(name, network, arguments, mean, std):
    return scoreag.load_classifier(
        SHARED / "weights" / name, network=network, config=arguments, mean=mean, std=std
    )


@pytest.mark.weights
@pytest.mark.skipif(not SHARED.exists(), reason="needs SCOREAG_SHARED")
@pytest.mark.parametrize("file, network, arguments, mean, std, right", [AKAMASTER, ROBUST])
def test_public_weights_are_found_sound_in_their_own_normalization(
    file, network, arguments, mean, std, right
):
    """Their published accuracy, within five standard errors on 200 images."""
    found = examined(public(file, network, arguments, mean, std))
    assert not [f for f in found.values() if f.ok is False]
    count = int(found["accuracy"].message.split("right on ")[1].split()[0])
    assert count / 200 == pytest.approx(right, abs=5 * (right * (1 - right) / 200) ** 0.5)


@pytest.mark.weights
@pytest.mark.skipif(not SHARED.exists(), reason="needs SCOREAG_SHARED")
@pytest.mark.parametrize("mean, std", [((0.0,), (1.0,)), ((0.0,) * 3, (1 / 255,) * 3)])
@pytest.mark.parametrize(
    "given, better", [(AKAMASTER, "ImageNet"), (ROBUST, "CIFAR-10, the smaller std")]
)
def test_a_wrong_normalization_of_public_weights_is_found_and_the_right_one_named(
    given, better, mean, std
):
    """Where several do alike, all of them are named."""
    file, network, arguments, *_ = given
    found = examined(public(file, network, arguments, mean, std))["normalization"]
    assert found.ok is False and f"with that of {better}" in found.message
