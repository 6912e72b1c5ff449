"""evaluate, as a user meets it: figures that come out again, and what is told if not."""

import json
import re
import shutil
import sys

import pytest
import torch

import tiny
from scoreag.classifiers.networks.small_cnn import build as plain_cnn
from scoreag.cli.app import main
from scoreag.cli.evaluate import default_judge
from scoreag.diffusion.networks.unet import UNet
from scoreag.evaluation import sampling
from scoreag.models.model_cards import Card, list_cards, load_card, update_card, write_card

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Score models at two ages, a judge, and images to train and to test on."""
    folder = tmp_path_factory.mktemp("made")
    tiny.write_score_model(folder / "prior", training_config={"images_seen": 200})
    younger = tiny.write_score_model(folder / "younger", training_config={"images_seen": 100})
    write_card(load_card(younger), tiny.filled(UNet(**tiny.UNET), 5).state_dict())
    tiny.write_classifier(folder / "net")
    tiny.write_images(folder / "images", 24)
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sampling, "REPEATS", 1)
    return tmp_path


@pytest.fixture(scope="module")
def finished(made, tmp_path_factory):
    """The same with an evaluation."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(made, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sampling, "REPEATS", 1)
        assert main([*SCORE, "--quiet"]) == 0
    return folder


@pytest.fixture
def done(finished, here):
    """A copy of it as the working directory."""
    shutil.copytree(finished / "out", here / "out")
    return here


DATA = ["--data", "image-folder:images[0:12]", "--train-data", "image-folder:images[12:24]"]
SCORE = [
    "evaluate", "prior", *DATA, "--reference-classifier", "net", "--images", "9", "--nfe", "5",
    "--batch-size", "4", "--out", "out",
]  # fmt: skip
PGD = ["--attack", "pgd", "--attack-steps", "3", "--eps", "25.5/255"]
CLASSIFIER = ["evaluate", "net", "--data", "image-folder:images", "--out", "out"]


def figures(here):
    return json.loads((here / "out" / "figures.json").read_text())


def line(capsys, words, code):
    """The only line on stderr."""
    assert main(words) == code
    err = capsys.readouterr().err
    assert err.startswith("scoreag: ") and err.count("\n") == 1, err
    return err


def test_every_figure_has_its_denominator_and_its_interval(done, capsys):
    assert main(SCORE) == 0
    out, err = capsys.readouterr()
    assert "Fréchet distance, judge" in out and "out/report.html" in err
    found = figures(done)
    names = {"frechet_judge", "kernel_judge", "precision_judge", "recall_judge"}
    floors = {f"{name}_floor" for name in names}
    assert set(found["metrics"]) == names | floors | {"judge_accuracy", "judge_accuracy_test"}
    for entry in found["metrics"].values():
        assert entry["low"] <= entry["value"] <= entry["high"] and entry["total"] == 9
        assert entry["of"] and entry["interval"]
    assert set(found["per_class"]) == set(tiny.CLASSES)
    assert len(found["loss"]["levels"]) == len(found["loss"]["train"]) == 8
    assert set(found["speed"]["seconds"]) == {"18", "35", "64"} and found["speed"]["machine"]
    assert found["neighbors"]["pixels"]["samples"]["median"]["value"] > 0


def test_the_folder_holds_a_page_that_needs_nothing_else_and_grids(done):
    page = (done / "out" / "report.html").read_text()
    assert page.startswith("<!doctype html>") and "Nearest training images" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    names = {path.name for path in (done / "out" / "samples").iterdir()}
    assert names == {"class-000.png", "class-001.png", "class-002.png", "nearest.png"}
    written = {
        path.name for kind in ("tables", "figures") for path in (done / "out" / kind).iterdir()
    }
    assert {
        "metrics.tex",
        "metrics.csv",
        "per_class.md",
        "neighbors.csv",
        "throughput.json",
        "loss.svg",
    } <= written


def test_the_same_command_goes_on_and_ends_in_the_same_figures(done, capsys):
    assert main([*SCORE, "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole == figures(done)
    for path in sorted((done / "out" / "parts").iterdir()):
        if not path.name.startswith("speed"):
            path.unlink()
    (done / "out" / "figures.json").unlink()
    assert main([*SCORE, "--quiet"]) == 0
    assert figures(done) == whole


def test_other_settings_are_refused_in_the_same_folder(done, capsys):
    told = line(capsys, [*SCORE, "--seed", "1"], 1)
    assert "config.seed was 0 and is now 1" in told


def test_a_judge_whose_code_changed_is_refused_in_the_same_folder(here, monkeypatch, capsys):
    """It has the same weights: a number in its code was corrected."""
    code = """
import tiny
from torch import nn

class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = tiny.victim().module
    def forward(self, x):
        return self.net(x - BY)
    def features(self, x):
        return self.net.features(x - BY)

def own():
    return Own().eval()
"""
    words = ["own_judge.py:own" if word == "net" else word for word in SCORE]
    (here / "own_judge.py").write_text(f"BY = 0.5\n{code}")
    assert main([*words, "--quiet"]) == 0
    (here / "own_judge.py").write_text(f"BY = 0.0\n{code}")
    monkeypatch.delitem(sys.modules, "own_judge", raising=False)
    capsys.readouterr()
    assert "the judge answers otherwise than when it was begun" in line(capsys, words, 1)


def test_a_score_model_whose_card_was_corrected_is_sampled_again(done, capsys):
    """Its weights are the same, so nothing but the card shows it."""
    card = done / "prior" / "card.toml"
    before = figures(done)["loss"]["train"]
    card.write_text(card.read_text().replace("sigma_data = 0.5", "sigma_data = 0.25"))
    assert load_card("prior").sigma_data == 0.25
    assert main([*SCORE, "--quiet"]) in (0, 1)
    assert figures(done)["loss"]["train"] != before


def test_figures_that_were_written_are_reproduced_and_altered_ones_are_not(done, capsys):
    assert main([*SCORE, "--quiet", "--update-card"]) == 0
    kept = load_card("prior").metrics["evaluation"]
    assert kept["judge_accuracy"] == figures(done)["metrics"]["judge_accuracy"]
    assert main([*SCORE, "--quiet"]) == 0
    assert {one["reproduced"] for one in figures(done)["compared"]} == {True}
    file = done / "prior" / "card.toml"
    value = kept["frechet_judge"]["value"]
    file.write_text(file.read_text().replace(f"value = {value}", "value = 12345.0"))
    told = line(capsys, [*SCORE, "--quiet"], 1)
    assert "evaluation.frechet_judge is 12345 on the card" in told and f"{value:.6g} now" in told
    assert "interval" in told


def test_figures_of_older_checkpoints_stand_on_one_curve(done):
    assert main([*SCORE, "--quiet", "--compare-with", "younger"]) == 0
    curve = figures(done)["curve"]
    assert [point["images_seen"] for point in curve] == [100, 200]
    values = [point["metrics"]["frechet_judge"]["value"] for point in curve]
    assert values[0] != values[1] == figures(done)["metrics"]["frechet_judge"]["value"]
    assert "over the images seen in training" in (done / "out" / "report.html").read_text()


def test_a_copy_of_a_training_image_would_show(done):
    """Test images that are training images are at distance 0."""
    words = [*SCORE[:3], "image-folder:images[12:24]", *SCORE[4:]]
    assert main([*words, "--quiet", "--overwrite"]) == 0
    near = figures(done)["neighbors"]
    assert near["pixels"]["test images"]["median"]["value"] == 0
    assert near["judge"]["test images"]["median"]["value"] == pytest.approx(0, abs=1e-3)
    assert near["pixels"]["samples"]["lowest_5_percent"]["value"] > 0


def test_grey_images_are_evaluated_too(here):
    shape = (1, 8, 8)
    unet = {**tiny.UNET, "image_shape": list(shape)}
    cnn = {**tiny.CNN, "image_shape": list(shape)}
    plain = {"license": "MIT", "image_shape": shape, "classes": tiny.CLASSES}
    prior = Card(
        "grey", "score-model", "unet", "f", **plain, family="edm", options=unet,
        folder=here / "grey",
    )  # fmt: skip
    net = Card("net", "classifier", "small_cnn", "f", **plain, options=cnn, folder=here / "greynet")
    write_card(prior, tiny.filled(UNet(**unet), 0).state_dict())
    write_card(net, tiny.filled(plain_cnn(**cnn), 10, 0.4).state_dict())
    for i, image in enumerate(tiny.images(12)[:, :1]):
        folder = here / "greys" / tiny.CLASSES[i % 3]
        folder.mkdir(parents=True, exist_ok=True)
        tiny.write_png(folder / f"{i}.png", image)
    words = ["evaluate", "grey", "--reference-classifier", "greynet", "--images", "6", "--nfe", "3"]
    data = [
        "--data",
        "image-folder:greys",
        "--train-data",
        "image-folder:greys",
        "--out",
        "out",
        "--quiet",
    ]
    assert main([*words, *data]) == 0
    assert figures(here)["metrics"]["judge_accuracy"]["total"] == 6


def test_a_classifiers_accuracy_is_reproduced_or_told(here, capsys):
    other = {"accuracy_square": {"value": 0.1, "total": 24, "of": "images"}}
    update_card(load_card("net"), metrics={"test": other})
    assert main([*CLASSIFIER, "--quiet", "--update-card"]) == 0
    assert load_card("net").metrics["test"]["accuracy_square"]["value"] == 0.1
    with torch.no_grad():
        said = tiny.victim()(tiny.images(24).float() / 255).argmax(1)
    right = int((said == tiny.labels(24)).sum())
    assert load_card("net").metrics["test"]["accuracy"]["count"] == right == 23
    assert main(CLASSIFIER) == 0
    assert "reproduced: test.accuracy" in capsys.readouterr().out
    file = here / "net" / "card.toml"
    file.write_text(file.read_text().replace("value = 0.9583", "value = 0.3"))
    told = line(capsys, [*CLASSIFIER, "--quiet"], 1)
    assert "test.accuracy is 0.3 on the card, 0.9583 now, interval 0.7976 to 0.9926" in told


def test_a_classifier_is_attacked_where_that_is_asked_and_the_card_keeps_it(here, capsys):
    assert main([*CLASSIFIER, "--quiet", *PGD, "--update-card"]) == 0
    kept = load_card("net").metrics["test"]
    assert kept["accuracy_pgd3_25.5"]["count"] < kept["accuracy"]["count"] == 23
    assert main([*CLASSIFIER, "--overwrite"]) == 0
    assert "reproduced: test.accuracy_pgd3_25.5" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, told",
    [
        (["--attack", "fgsm"], "--attack is 'fgsm'; there are: pgd"),
        (["--attack", "pgd", "--attack-steps", "0"], "--attack-steps is 0; expected 1 or more"),
        (["--attack", "pgd", "--eps", "8"], "--eps is 8; expected a radius in (0, 1], e.g. 8/255"),
        (["--attack", "pgd", "--eps", "eight"], "--eps 'eight': write a radius in [0, 1], e.g. 8/"),
        (["--eps", "8/255"], "--attack-steps and --eps need an attack; add --attack pgd"),
    ],
)
def test_an_attack_that_is_none_gets_one_line(here, capsys, words, told):
    assert told in line(capsys, [*CLASSIFIER, *words], 2)


@pytest.mark.parametrize(
    "words, code, told",
    [
        (["--attack", "pgd"], 2, "--attack is for classifiers"),
        (["--sampler", "heun", "--nfe", "64"], 2, "64 denoiser calls are no whole number of"),
        (["--sampler", "huen"], 2, "no sampler 'huen'; did you mean 'heun'"),
        (["--nfe", "0"], 2, "0 denoiser calls draw nothing; write 1 or more"),
        (["--images", "3"], 2, "--images is 3; expected 4 or more"),
        (["--batch-size", "0"], 2, "--batch-size is 0; expected 1 or more"),
        (
            ["--reference-classifier", "cifar10-judge"],
            1,
            "--reference-classifier cifar10-judge: .*give another --reference-classifier",
        ),
        (["--feature-extractor", "inception:w.pth"], 1, "inception:w.pth: there is no such file"),
        (["--compare-with", "net"], 1, "net is a classifier|has no images_seen"),
        (["--data", "image-folder:images[0:3]"], 1, "has 3 images; give at least 4"),
        (["--data", "foolbox-samples"], 1, "images of 3 x 32 x 32, tiny is for 3 x 8 x 8"),
        (["--out", "images"], 1, "is read from --out images itself"),
    ],
)
def test_a_mistake_gets_one_line_and_leaves_nothing(here, capsys, words, code, told):
    assert re.search(told, line(capsys, [*SCORE, *words], code))
    assert not (here / "out").exists()


def test_a_card_that_does_not_say_its_data_asks_for_them(here, capsys):
    told = line(capsys, ["evaluate", "prior", "--reference-classifier", "net", "--out", "out"], 2)
    assert "tiny does not say what it was trained on; write --data" in told


@pytest.mark.parametrize(
    "name", [name for name in list_cards("score-model") if load_card(name).judge]
)
def test_each_bundled_score_model_has_a_judge_of_its_classes(name):
    judge = load_card(default_judge(load_card(name)))
    assert (judge.image_shape, judge.classes) == (
        load_card(name).image_shape,
        load_card(name).classes,
    )


def test_a_score_model_of_other_classes_asks_for_a_judge(here, capsys):
    told = line(capsys, ["evaluate", "prior", *DATA, "--out", "out"], 2)
    assert "reference classifier has the images and classes of tiny; give a classifier" in told


def test_the_folder_of_a_run_is_left_alone(here, capsys):
    words = ["synthesize", "--model", "prior", "--classifier", "net", "--per-class", "1"]
    assert main([*words, "--out", "out", "--quiet"]) == 0
    before = tiny.contents(here / "out")
    told = line(capsys, [*SCORE, "--overwrite"], 1)
    assert "out holds the files of 'synthesize'" in told
    assert tiny.contents(here / "out") == before
