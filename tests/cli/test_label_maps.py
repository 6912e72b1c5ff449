"""The commands with a score model of ImageNet's 1,000 classes and a classifier of others."""

import json
from dataclasses import replace

import numpy as np
import pytest

import official_files
import tiny
from scoreag.assess.experiments import ModelCache
from scoreag.assess.plan import load_plan
from scoreag.assess.resolve import resolve_plan
from scoreag.cli.app import main
from scoreag.data.imagenet import CLASSES
from scoreag.diffusion.networks.adm_unet import build as adm_unet
from scoreag.io.manifest import read_manifest
from scoreag.io.records import read_rows
from scoreag.models.convert.hub import list_checkpoints
from scoreag.models.model_cards import Card, load_card, write_card
from scoreag.registry import class_lists

pytestmark = pytest.mark.usefixtures("one_thread")

WNIDS = ("n01443537", "n02129165", "n03126707")
NAMES = ("goldfish", "lion", "crane (n03126707)")
ADM = {  # the architecture of the public ImageNet-64 model, thinner
    "image_shape": [3, 64, 64], "classes": 1000, "channels": 16, "multipliers": [1, 1, 1, 1],
    "blocks": 1, "attention_at": [8], "head": 16, "min_channels_per_group": 4,
}  # fmt: skip
FACTORY = """
import torch, scoreag

class Means(torch.nn.Module):
    def forward(self, x):
        return 9 * x.mean((2, 3))

def named():
    return scoreag.wrap_classifier(Means().eval(), classes={names})

def unnamed():
    return Means().eval()
"""
QUICK = ["--steps", "2", "--attack-scale", "1", "--batch-size", "3", "--max-restarts", "0",
         "--reference-classifier", "none", "--quiet", "--out", "out"]  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("SCOREAG_DATA", str(tmp_path))
    (tmp_path / "own_labels.py").write_text(FACTORY.format(names=NAMES))
    card = Card(
        name="imagenet64", kind="score-model", network="adm_unet", file="model.safetensors",
        license="MIT", image_shape=(3, 64, 64), classes=CLASSES, family="edm", options=ADM,
        folder=tmp_path / "imagenet64",
    )  # fmt: skip
    write_card(card, tiny.filled(adm_unet(**ADM), 0).state_dict())
    files = {}
    for i, wnid in enumerate(WNIDS):
        files[f"train/{wnid}/images/{wnid}_0.JPEG"] = official_files.jpeg(40 * i)
        files[f"val/images/val_{i}.JPEG"] = official_files.jpeg(30 + 40 * i)
    table = "".join(f"val_{i}.JPEG\t{wnid}\t0\t0\t63\t63\n" for i, wnid in enumerate(WNIDS))
    words = "n01443537\tgoldfish, x\nn02129165\tlion, king\nn03126707\tcrane\n"
    texts = {"wnids.txt": "\n".join(WNIDS), "words.txt": words, "val/val_annotations.txt": table}
    files |= {name: text.encode() for name, text in texts.items()}
    official_files.write_tiny_folder(tmp_path, files)
    return tmp_path


def embedding_rows(monkeypatch):
    """The labels with which the network is called."""
    from scoreag.diffusion.networks import adm_unet as module

    seen, own = [], module.one_hot_labels

    def record(labels, classes, like):
        seen.append(None if labels is None else labels.tolist())
        return own(labels, classes, like)

    monkeypatch.setattr(module, "one_hot_labels", record)
    return seen


def test_synthesis_asks_for_the_classes_by_their_place_in_imagenet(here, monkeypatch):
    seen = embedding_rows(monkeypatch)
    words = ["synthesize", "--model", "imagenet64", "--classifier", "own_labels:named"]
    assert main([*words, "--classes", "lion,goldfish", "--per-class", "1", *QUICK]) == 0
    assert {tuple(labels[:2]) for labels in seen} == {(291, 1)}
    assert [row["label"] for row in read_rows(here / "out")] == [1, 0]
    assert read_manifest(here / "out")["classes"] == list(NAMES)


@pytest.mark.parametrize("classifier", ["named", "unnamed"])
def test_transformation_numbers_the_images_by_the_classifier(here, monkeypatch, classifier):
    seen = embedding_rows(monkeypatch)
    words = ["transform", "--model", "imagenet64", "--classifier", f"own_labels:{classifier}"]
    assert main([*words, "--data", "tiny-imagenet:val", *QUICK]) == 0
    assert {tuple(labels[:3]) for labels in seen} == {(1, 291, 517)}
    assert [row["label"] for row in read_rows(here / "out")] == [0, 1, 2]


def test_purification_needs_no_labels_and_numbers_by_the_classifier(here, monkeypatch):
    seen = embedding_rows(monkeypatch)
    words = ["purify", "--model", "imagenet64", "--classifier", "own_labels:named", "--steps", "2"]
    words += ["--data", "tiny-imagenet:val", "--quiet", "--out", "out"]
    assert main(words) == 0 and seen and set(map(str, seen)) == {"None"}
    assert [row["label"] for row in read_rows(here / "out")] == [0, 1, 2]


def test_a_plan_takes_the_same_members(here, monkeypatch):
    seen = embedding_rows(monkeypatch)
    plan = """
        images = 2
        feature_extractor = "none"
        [datasets.tiny]
        data = "tiny-imagenet:val[1:3]"
        prior = "imagenet64"
        classifiers = "own_labels:named"
        [attacks.gat]
        steps = 2
        attack_scale = 1.0
        purifiers = []
        [attacks.gas]
        steps = 2
        attack_scale = 1.0
        purifiers = []
    """
    (here / "plan.toml").write_text(plan)
    assert main(["assess", "plan.toml", "--out", "out", "--quiet", "--trust-code"]) == 0
    called = {tuple(labels[:2]) for labels in seen if labels}
    assert {(291, 517), (1, 291)} <= called  # of images, and of the first two classes


def test_without_names_the_error_says_how_to_name(here, capsys):
    words = ["synthesize", "--model", "imagenet64", "--classifier", "own_labels:unnamed"]
    assert main([*words, *QUICK]) == 1
    err = capsys.readouterr().err
    assert "the classifier has 3 classes, and the score model 1000" in err
    assert "wrap_classifier(module, mean, std, classes=[...])" in err


def test_names_that_do_not_map_are_refused_with_the_near_ones(here, capsys):
    text = FACTORY.format(names=("goldfsh", "lion", "crane (n03126707)"))
    (here / "own_wrong.py").write_text(text)
    words = ["synthesize", "--model", "imagenet64", "--classifier", "own_wrong:named"]
    assert main([*words, *QUICK]) == 1
    err = capsys.readouterr().err
    assert "'goldfsh', and the score model no class 'goldfsh'; did you mean 'goldfish'?" in err
    assert not (here / "out").exists()


def test_the_public_checkpoints_of_imagenet_have_its_names_and_so_has_convert():
    conditional = [m for m in list_checkpoints().values() if m.classes == "imagenet"]
    assert {m.name for m in conditional} >= {"edm-imagenet64-cond-adm", "guided-imagenet64-cond"}
    assert tuple(class_lists()["imagenet"]) == CLASSES


def test_superclasses_are_told_apart_by_a_fine_classifier(tmp_path, monkeypatch):
    """GAS asks a fine model for a class of the superclass; success is another superclass."""
    monkeypatch.chdir(tmp_path)
    fine = ("beaver", "dolphin", "trout", "shark")
    tiny.write_score_model(tmp_path / "prior", classes=fine)
    write_fine(tmp_path / "net", fine)
    np.savez("a.npz", images=tiny.images(4).numpy(), labels=[0, 0, 1, 1],
             classes=["aquatic_mammals", "fish"])  # fmt: skip
    from scoreag.classifiers import class_groups

    groups = {"aquatic_mammals": fine[:2], "fish": fine[2:]}
    monkeypatch.setattr(class_groups, "COARSE_CLASSES", tuple(groups))
    monkeypatch.setattr(class_groups, "COARSE_GROUPS", groups)
    words = ["synthesize", "--model", "prior", "--classifier", "coarse:net", "--per-class", "2"]
    assert main([*words, *QUICK]) == 0
    rows = read_rows(tmp_path / "out")
    assert [row["label"] for row in rows] == [0, 0, 1, 1]
    assert read_manifest(tmp_path / "out")["classes"] == list(groups)
    words = ["transform", "--model", "prior", "--classifier", "coarse:net", "--data", "npz:a.npz"]
    assert main([*words, *QUICK, "--overwrite"]) == 0
    assert [row["label"] for row in read_rows(tmp_path / "out")] == [0, 0, 1, 1]


def write_fine(folder, classes):
    tiny.write_classifier(folder)
    card = load_card(str(folder))
    options = {**card.options, "classes": len(classes)}
    from scoreag.classifiers.networks.small_cnn import build

    card = replace(card, classes=classes, options=options)
    write_card(card, tiny.filled(build(**options), 10, 0.4).state_dict())


def test_a_target_by_name_is_numbered_by_the_classifier(here):
    pixels = np.zeros((2, 64, 64, 3), np.uint8)
    np.savez("numbers.npz", images=pixels, labels=[0, 2])
    words = ["transform", "--model", "imagenet64", "--classifier", "own_labels:named"]
    assert main([*words, "--data", "npz:numbers.npz", "--target", "lion", *QUICK]) == 0
    assert [row["target"] for row in read_rows(here / "out")] == [1, 1]


def test_a_plan_of_a_model_without_classes_numbers_by_its_classifier(here):
    tiny.write_score_model(here / "prior", classes=())
    write_fine(here / "net", ("wolf", "cat", "dog", "ant"))
    tiny.write_images(here / "images", 6)  # of cat, dog and ship
    sorted((here / "images").iterdir())[-1].rename(here / "images" / "ant")
    plan = """
        feature_extractor = "none"
        [datasets.a]
        data = "image-folder:images"
        prior = "prior"
        classifiers = "net"
        [attacks.gat]
        steps = 1
    """
    (here / "plan.toml").write_text(plan)
    cell = resolve_plan(load_plan(here / "plan.toml"), ModelCache(device="cpu"))[0]
    assert cell.classes == ("wolf", "cat", "dog", "ant")


def test_json_of_a_subset_counts_its_images(here, capsys):
    words = ["transform", "--model", "imagenet64", "--classifier", "own_labels:named", "--json"]
    assert main([*words, "--data", "tiny-imagenet:val[0:2]", *QUICK]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 2
