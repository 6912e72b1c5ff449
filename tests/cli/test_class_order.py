"""Every command numbers the classes of the same data alike: by the names of the model's card."""

import numpy as np
import pytest
import torch

import tiny
from assess.worlds_of_plans import write_net
from scoreag.assess.experiments import ModelCache
from scoreag.assess.plan import load_plan
from scoreag.assess.resolve import resolve_plan
from scoreag.assess.threat_model import build_context
from scoreag.classifiers.loading import class_names, load_classifier
from scoreag.cli import evaluate, runs, train
from scoreag.cli.app import main
from scoreag.cli.options import DeviceOptions, ImageOptions, TableOutputOptions
from scoreag.data import loading
from scoreag.io.images import write_png
from scoreag.models.loading import load_prior

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = ("ship", "cat", "dog")  # not in the order of the alphabet
COUNT = 6
SPECS = ["image-folder:named", "image-folder:listed", "npz:a.npz"]


@pytest.fixture
def answers(tmp_path, monkeypatch):
    """What a classifier says of images that lie there under these names, in three forms."""
    monkeypatch.chdir(tmp_path)
    write_net(tmp_path / "net", 15, CLASSES)
    pixels = tiny.images(40)
    with torch.no_grad():
        said = load_classifier("net", "cpu")(pixels.float() / 255).argmax(1)
    some = torch.cat([(said == label).nonzero()[:3, 0] for label in range(3)])
    pixels, said = pixels[some], said[some].tolist()
    assert len(said) == COUNT and set(said) == {0, 1, 2}
    (tmp_path / "listed").mkdir()
    rows = ["file,label"]
    for i, (image, label) in enumerate(zip(pixels, said, strict=True)):
        name = CLASSES[label]
        (tmp_path / "named" / name).mkdir(parents=True, exist_ok=True)
        for file in (f"listed/{i}.png", f"named/{name}/{i}.png"):
            write_png(tmp_path / file, image)
        rows.append(f"{i}.png,{name}")
    (tmp_path / "listed" / "labels.csv").write_text("\n".join(rows))
    by_name = sorted(CLASSES)
    numbers = [by_name.index(CLASSES[label]) for label in said]
    np.savez(tmp_path / "a.npz", images=pixels.numpy(), labels=numbers, classes=by_name)
    return said


QUIET = {"output": TableOutputOptions(quiet=True), "compute": DeviceOptions()}


def training(spec):
    return train.TrainOptions(preset="tiny", data=spec, out="out", **QUIET)


@pytest.mark.parametrize("spec", SPECS)
def test_doctor_finds_a_classifier_right_by_the_names_of_its_card(answers, capsys, spec):
    main(["doctor", "--classifier", "net", "--data", spec])
    out, err = capsys.readouterr()
    assert f"it is right on {COUNT} of {COUNT} images" in out
    assert err.startswith("read ")
    counts = ", ".join(f"{name} {answers.count(i)}" for i, name in enumerate(CLASSES))
    assert f"{COUNT} images, by class: {counts}" in err.splitlines()[0]


def test_doctor_takes_the_label_of_a_picture_by_name(answers, capsys):
    label = CLASSES[answers[0]]
    words = ["doctor", "--classifier", "net", "--data", "listed/0.png", "--class", label]
    main(words)
    assert "it is right on 1 of 1 image" in capsys.readouterr().out


def test_doctor_says_that_data_count_other_classes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_net(tmp_path / "net", 15, ("ship", "cat", "cow"))
    assert main(["doctor", "--classifier", "net", "--data", "foolbox-samples"]) == 1
    assert "WRONG  classes" in capsys.readouterr().out


def test_of_data_with_more_classes_those_of_the_model_are_read(answers, capsys):
    main(["doctor", "--classifier", "net", "--data", "foolbox-samples"])
    err = capsys.readouterr().err
    assert "foolbox-samples, 3 classes: 8 images, by class: ship 4, cat 2, dog 2" in err


@pytest.mark.parametrize("spec", SPECS)
def test_a_plan_without_a_score_model_numbers_by_the_cards_of_its_victims(answers, tmp_path, spec):
    plan = f"""
        feature_extractor = "none"
        images = {COUNT}
        [datasets.a]
        data = "{spec}"
        classifiers = "net"
        [attacks.pgd]
        steps = 1
    """
    (tmp_path / "p.toml").write_text(plan)
    kit = ModelCache(device="cpu")
    clean = resolve_plan(load_plan(tmp_path / "p.toml"), kit)[0]
    shown = build_context(clean, kit)
    assert clean.classes == CLASSES
    with torch.no_grad():
        said = load_classifier("net", "cpu")(shown.images).argmax(1)
    assert len(said) == COUNT and shown.labels.tolist() == said.tolist()


def test_members_of_a_plan_whose_cards_number_otherwise_are_refused(answers, tmp_path):
    write_net(tmp_path / "other", 11, tuple(sorted(CLASSES)))
    sets = '[datasets.a]\ndata = "image-folder:named"\nclassifiers = ["net", "other"]\n'
    (tmp_path / "p.toml").write_text(
        f'feature_extractor = "none"\n{sets}[attacks.pgd]\nsteps = 1\n'
    )
    with pytest.raises(
        ValueError, match=r"the classes of other are cat, dog, ship, .*in one order"
    ):
        resolve_plan(load_plan(tmp_path / "p.toml"), ModelCache(device="cpu"))


def right(data, answers):
    """Whether the labels are those by the classifier's names; ids tell which image is which."""
    with torch.no_grad():
        said = load_classifier("net", "cpu")(data.images.float() / 255).argmax(1)
    return len(data) == COUNT and data.labels.tolist() == said.tolist()


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("classes", [(), ("0", "1", "2")])
def test_a_score_model_without_names_leaves_the_numbering_to_the_classifier(
    answers, tmp_path, spec, classes
):
    tiny.write_score_model(tmp_path / "prior", classes=classes)
    source, prior = ImageOptions(data=spec), load_prior("prior", "cpu")
    net = load_classifier("net", "cpu")
    assert right(runs.load_images(source, prior, net, "out", False), answers)


@pytest.mark.parametrize("spec", SPECS)
def test_evaluation_and_training_from_a_card_number_by_it(answers, spec):
    from scoreag.models.model_cards import load_card

    options = evaluate.EvaluateOptions(card="net", **QUIET)
    assert right(evaluate.load_labeled(options, spec, load_card("net")), answers)
    found = train.load_labeled(training(spec), 1, load_card("net").classes)
    assert right(found, answers) and found.classes == CLASSES


def test_training_from_a_card_on_other_classes_numbers_them_by_the_alphabet(answers):
    found = train.load_labeled(training("image-folder:named"), 1, ("car", "bus"))
    assert found.classes == tuple(sorted({CLASSES[label] for label in answers}))


def test_the_names_of_classes_are_known_of_cards_and_data_sets_only(answers, tmp_path):
    write_net(tmp_path / "numbers", 11, ("0", "1", "2"))
    found = {word: class_names(word) for word in ("net", "obfuscated:net", "bpda:net")}
    assert set(found.values()) == {CLASSES}
    assert class_names("robustbench:Standard")[:2] == ("airplane", "automobile")
    for word in ("numbers", "robustbench:imagenet/Linf/Any", "mine:factory", "nothing", "no.pth"):
        assert class_names(word) == ()


def test_a_range_of_a_sorted_table_is_balanced_in_a_plan_and_kept_elsewhere(tmp_path):
    (tmp_path / "x").mkdir()
    for i in range(6):
        image = torch.full((3, 2, 2), i, dtype=torch.uint8)
        write_png(tmp_path / "x" / f"{i}.png", image)
    rows = [f"{i}.png,{'aab'[i // 2]}{i // 4}" for i in range(6)]
    (tmp_path / "x" / "labels.csv").write_text("\n".join(["file,label", *rows]))
    word = f"image-folder:{tmp_path / 'x'}"
    assert loading.load_dataset(f"{word}[0:2]").image_ids == (0, 1)
    assert ModelCache(device="cpu").data(word)[:2].counts == {"a0": 1, "b1": 1}
    assert ModelCache(device="cpu").data(word).image_ids == (0, 4, 1, 5, 2, 3)


def test_images_at_even_distances_are_of_all_classes_where_classes_take_turns(tmp_path):
    from scoreag.evaluation.score_model import subsample

    for i in range(20):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        write_png(tmp_path / "ab"[i % 2] / f"{i:02d}.png", torch.zeros(3, 2, 2, dtype=torch.uint8))
    found = subsample(loading.load_dataset(tmp_path), 10)
    assert found.counts == {"a": 5, "b": 5} and len(set(found.image_ids)) == 10


def test_official_data_in_another_order_are_numbered_by_the_classifier():
    own = loading.load_dataset("foolbox-samples")
    turned = loading.load_dataset("foolbox-samples", classes=[n.upper() for n in own.classes[::-1]])
    assert turned.labels.tolist() == [9 - label for label in own.labels.tolist()]
    assert torch.equal(turned.images, own.images) and turned.name == own.name
