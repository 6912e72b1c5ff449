"""The command line, as a user meets it: one line for a mistake, and nothing half-written."""

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
import warnings
from dataclasses import fields
from importlib.metadata import version

import numpy as np
import pytest
import torch
import typer

import tiny
from scoreag.cli import app
from scoreag.cli.app import main
from scoreag.cli.options import (
    AttackOptions,
    ChainOptions,
    RunOptions,
    SimilarityOptions,
    option_fields,
)
from scoreag.io.records import read_rows
from scoreag.methods.config import SamplingConfig

OWN = """
from torch import nn

class Flat(nn.Module):
    def __init__(self, softmax=False):
        super().__init__()
        self.linear = nn.Linear(192, 3)
        self.softmax = softmax

    def forward(self, x):
        logits = self.linear(x.flatten(1))
        return logits.softmax(1) if self.softmax else logits

def sound():
    return Flat().eval()

def training():
    return Flat()

def probabilities():
    return Flat(softmax=True).eval()
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a score model, a classifier, and six images in class folders."""
    folder = tmp_path_factory.mktemp("made")
    tiny.write_score_model(folder / "prior")
    tiny.write_classifier(folder / "net")
    tiny.write_images(folder / "images", 6)
    (folder / "own_classifiers.py").write_text(OWN)
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    """A copy of it as the working directory."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(before)
    sys.modules.pop("own_classifiers", None)


MODELS = ["--model", "prior", "--classifier", "net"]
TRANSFORM = ["transform", *MODELS, "--data", "image-folder:images", "--out", "out"]
SYNTHESIZE = ["synthesize", *MODELS, "--per-class", "1", "--out", "out"]
CHURN = [*TRANSFORM, "--sampler", "edm_stochastic"]
PURIFY = ["purify", "--model", "prior", "--data", "image-folder:images", "--out", "out"]


def refused(capsys, words, code=1):
    """The only line on stderr; the exit code is checked, and that nothing was written."""
    assert main(words) == code
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("scoreag: ") and err.count("\n") == 1, err
    assert not os.path.exists("out")
    return err


def test_transform_writes_a_run_and_a_table(here, capsys):
    assert main([*TRANSFORM, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    names = {path.name for path in (here / "out").iterdir()}
    assert names == {
        "manifest.json", "rows.jsonl", "summary.json", "report.html", "images", "originals",
        "tables", "figures",
    }  # fmt: skip
    assert main(TRANSFORM) == 0
    out, err = capsys.readouterr()
    assert "images classified correctly before" in out and "out/report.html" in err
    assert err.startswith("read image-folder:images: 6 images, by class: cat 5, dog 1, ship 0\n")


def test_synthesize_draws_the_classes_that_were_asked_for(here):
    assert main([*SYNTHESIZE, "--classes", "ship,cat", "--quiet"]) == 0
    assert [row["label"] for row in read_rows(here / "out")] == [2, 0]


def test_a_file_system_without_locks_is_warned_of_once_in_one_line(here, capsys, monkeypatch):
    def no_locks(*given):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main([*TRANSFORM, "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith("scoreag: warning: the file system of out has no locks")


def test_all_may_have_spaces_around_it(here):
    assert main([*SYNTHESIZE, "--classes", " all ", "--quiet"]) == 0
    assert [row["label"] for row in read_rows(here / "out")] == [0, 1, 2]


def test_an_image_does_not_depend_on_which_others_are_drawn(here):
    assert main([*SYNTHESIZE, "--classes", "all", "--quiet"]) == 0
    assert main([*SYNTHESIZE[:-1], "one", "--classes", "2", "--quiet"]) == 0
    file = "images/2000000.png"
    assert (here / "out" / file).read_bytes() == (here / "one" / file).read_bytes()


def test_purify_takes_the_run_that_transform_wrote(here, capsys):
    assert main([*TRANSFORM, "--quiet"]) == 0
    words = ["purify", *MODELS, "--data", "out", "--out", "clean", "--json"]
    assert main(words) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["rates"]["accuracy_before"]["total"] == 6
    before, after = read_rows(here / "out"), read_rows(here / "clean")
    assert [row["image_id"] for row in after] == [row["image_id"] for row in before]
    assert [r["predictions"]["before"] for r in after] == [
        r["predictions"]["saved"] for r in before
    ]


def test_every_setting_reaches_the_manifest(here):
    given = {
        "attack_scale": 2.5, "similarity": 7.0, "sigma_start": 0.9, "steps": 4,
        "sampler": "edm_stochastic", "jacobian": "identity", "x0_estimate": "ode_euler",
        "likelihood_variance": "damped", "attack_loss": "margin", "stop_margin": 3.0,
        "max_restarts": 0, "guidance_scale": 1.5, "guide": "null", "momentum": 0.25,
        "x0_steps": 1, "augmentations": 2, "energy_budget": 4.0, "energy_pace": "uniform",
    }  # fmt: skip
    flags = {f"--{name.replace('_', '-')}": str(value) for name, value in given.items()}
    words = [word for pair in flags.items() for word in pair]
    more = [
        "--attack-interval",
        "0.1,5",
        "--guidance-interval",
        "0.2,4",
        "--no-normalize-gradient",
        "--polyak-step",
        "--tangent-projection",
        "--sampler-option",
        "s_churn=10.5",
    ]
    assert main([*TRANSFORM, *words, *more, "--quiet"]) == 0
    kept = json.loads((here / "out" / "manifest.json").read_text())["config"]
    expected = {
        "attack_interval": [0.1, 5.0],
        "guidance_interval": [0.2, 4.0],
        "normalize_gradient": False,
        "polyak_step": True,
        "tangent_projection": True,
        "sampler_options": {"s_churn": 10.5},
    }
    assert kept == given | expected


def test_every_setting_is_an_option_of_the_same_name():
    known = {f.name for f in fields(SamplingConfig)} - {"sampler_options"} | {"sampler_option"}
    groups = (ChainOptions, SimilarityOptions, AttackOptions)
    assert {option.name for group in groups for option in option_fields(group)} == known


@pytest.mark.parametrize("option", ["--similarity", "--likelihood-variance"])
def test_a_synthesis_has_no_image_to_stay_close_to(option, capsys):
    assert main([*SYNTHESIZE, option, "1"]) == 2
    assert "No such option" in capsys.readouterr().err


def test_the_documented_batch_size_is_that_of_the_functions():
    from scoreag.methods.run_task import DEFAULT_BATCH_SIZE as THEIRS

    assert RunOptions.batch_size == THEIRS


def test_a_single_picture_with_a_label_by_name(here):
    picture = next((here / "images").glob("*/*.png"))
    words = ["transform", *MODELS, "--data", str(picture), "--class", "dog", "--out", "out"]
    assert main([*words, "--quiet"]) == 0
    assert read_rows(here / "out")[0]["label"] == 1


@pytest.mark.parametrize(
    "words, told",
    [
        (["--atack-scale", "3"], "--attack-scale"),
        (["--steps", "many"], "--steps"),
        (["--attack-interval", "wide"], "write two noise levels, e.g. 0.1,10"),
        (["--sampler-option", "noise"], "write NAME=VALUE"),
        (["--size", "big"], "HEIGHTxWIDTH"),
    ],
)
def test_wrong_usage_ends_with_2_and_one_line(here, capsys, words, told):
    assert told in refused(capsys, [*TRANSFORM, *words], code=2)


@pytest.mark.parametrize(
    "words, told",
    [
        ([*TRANSFORM, "--strength", "3"], "--strength is now --attack-scale; write that"),
        ([*TRANSFORM, "--precision", "3"], "--precision is now --similarity; write that"),
        ([*TRANSFORM, "--no-normalized"], "--no-normalized is now --no-normalize-gradient"),
        ([*PURIFY, "--micro-batch", "3"], "--micro-batch is now --batch-size; write that"),
        (["train", "classifier", "--precision", "bf16"], "--precision is now --dtype; write that"),
        (["certify", "--samples", "9"], "--samples is now --n; write that"),
        (["convert", "a", "b", "--classes", "cifar10"], "--classes is now --class-names"),
        (["assess", "quick", "--batch-size", "9"], "--batch-size is now --write-every"),
        (["evaluate", "--under", "pgd40_8"], "is now --attack pgd --attack-steps 40 --eps 8/255"),
        (["evaluate-model", "cifar10"], "evaluate-model is now evaluate; write that"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_a_word_of_version_0_1_is_answered_with_the_new_one(here, capsys, words, told):
    assert told in refused(capsys, words, code=2)


@pytest.mark.parametrize(
    "words, told",
    [
        (["synthesize", "--class", "cat"], "no option --class; write --classes"),
        (["synthesize", "--images", "2"], "no option --images; write --per-class"),
        (["attack", "pgd", "--epsilon", "0.1"], "no option --epsilon; write --eps"),
        ([*TRANSFORM, "--attack_scale", "3"], "no option --attack_scale; write --attack-scale"),
        ([*TRANSFORM, "--output", "x"], "no option --output; write --out"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[-2],
)
def test_a_word_of_elsewhere_is_answered_with_ours(here, capsys, words, told):
    assert told in refused(capsys, words, code=2)


def test_every_word_for_another_option_leads_to_one_that_a_command_has():
    top = typer.main.get_command(app.app)
    nested = [one for one in top.commands.values() if hasattr(one, "commands")]
    commands = [*top.commands.values(), *(c for one in nested for c in one.commands.values())]
    flags = {flag for one in commands for p in one.params for flag in (*p.opts, *p.secondary_opts)}
    words = {word.split()[0] for table in (app.SYNONYMS, app.RENAMED) for n in table.values()
             for word in n}  # fmt: skip
    assert {f"--{word}" for word in words} <= flags


def test_a_missing_option_is_wrong_usage(here, capsys):
    assert "--out" in refused(capsys, TRANSFORM[:-2], code=2)
    assert "transfrom" in refused(capsys, ["transfrom"], code=2)


@pytest.mark.parametrize(
    "words, told",
    [
        ([*TRANSFORM, "--sampler-option", "order=2"], "heun takes no option 'order'"),
        ([*CHURN, "--quiet", "--sampler-option", "s_churn=-1"], "edm_stochastic's s_churn is -1"),
        ([*TRANSFORM, "--likelihood-variance", "constant", "--sigma-start", "80"],
         "explodes from sigma_start 80"),
        ([*TRANSFORM, "--attack-scale", "-1"],
         "attack_scale is -1.0; expected a number of at least 0"),
        ([*TRANSFORM, "--target", "0"], "target equals the label 0"),
        ([*TRANSFORM, "--target", "9"], "expected 0..2"),
        ([*TRANSFORM, "--size", "16"], "the model takes 3 x 8 x 8"),
        ([*TRANSFORM, "--data", "nowhere.png"], "nowhere.png"),
        ([*TRANSFORM, "--data", "image-folder:images[0:99]"], "has 6 images"),
        ([*SYNTHESIZE, "--classes", "1", "--target", "dog"], "target equals the label 1"),
        ([*TRANSFORM, "--classifier", "own_classifiers:training"], "is in train mode"),
        ([*TRANSFORM, "--classifier", "own_classifiers:probabilities"], "returned probabilities"),
        ([*TRANSFORM, "--classifier", "own_classifiers:sond"], "did you mean 'sound'?"),
        ([*TRANSFORM, "--classifier", "prior"], "a classifier is wanted here"),
        ([*PURIFY, "--write-every", "0"], "write-every is 0"),
        (["report", "images"], "holds no run"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)  # fmt: skip
def test_a_mistake_is_told_in_one_line(here, capsys, words, told):
    assert told in refused(capsys, words)


TRAIN = [
    "train",
    "score-model",
    "--preset",
    "tiny",
    "--data",
    "image-folder:images",
    "--out",
    "out",
]


@pytest.mark.parametrize(
    "words, told",
    [
        ([*TRANSFORM, "--model", "priro"], "no folder and no card 'priro'"),
        ([*TRANSFORM, "--sampler", "hean"], "did you mean 'heun'?"),
        ([*TRANSFORM, "--jacobian", "exakt"], "did you mean 'exact'?"),
        ([*TRANSFORM, "--target", "runer-up"], "did you mean 'runner-up'?"),
        ([*TRANSFORM, "--device", "gpu"], "no device 'gpu'; there are: auto, cpu, cuda"),
        ([*SYNTHESIZE, "--classes", "0-7"], "--classes 0-7, but the classes are 0..2"),
        ([*SYNTHESIZE, "--classes", "cta"], "did you mean 'cat'?"),
        ([*SYNTHESIZE, "--classes", "all,0"],
         "--classes all,0: 'all' is every class; write all alo"),
        ([*SYNTHESIZE, "--classes", "cat, all"], "write all alone, or leave it"),
        ([*SYNTHESIZE, "--classes", "alll"], "did you mean 'all'?"),
        (["list", "samplres"], "did you mean 'samplers'?"),
        (["train", "classifier", "--preset", "resnet", "--data", "image-folder:images",
          "--out", "out"],
         "no preset 'resnet'"),
        ([*TRANSFORM, "--sampler", "no.such"], "the sampler 'no.such' cannot be imported"),
        ([*TRANSFORM, "--device", "cpu:x"], "no device 'cpu:x'; write auto, cpu, cuda"),
        ([*TRANSFORM, "--size", "0"], "--size 0: write pixels, 32, or HEIGHTxWIDTH, 32x48"),
        ([*TRANSFORM[:-1], ""], "--out is empty; write a folder's name"),
        ([*SYNTHESIZE, "--per-class", "1000001"], "expected at most 1000000"),
        ([*PURIFY, "--attack-scale", "3"], "--attack-scale"),
        ([*TRAIN, "--sample-every-images", "0"], "--sample-every-images is 0; expected 1 or more"),
        ([*TRAIN, "--lr", "nan"], "--lr is nan; expected a number above 0"),
        (["doctor", "--classifier", "net", "--data", "image-folder:images", "--batch-size", "0"],
         "--batch-size is 0; expected 1 or more"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)  # fmt: skip
def test_a_word_that_means_nothing_is_wrong_usage(here, capsys, words, told):
    assert told in refused(capsys, words, code=2)


@pytest.mark.parametrize(
    "words, told",
    [
        (
            ["--batch-size", "7"],
            "--batch-size is 7, and there are 6 images; write --batch-size 6 or fewer",
        ),
        (["--batch-size", "2", "--init", "net"], "is a classifier; start from a score-model"),
    ],
    ids=["batch", "init"],
)
def test_a_training_that_cannot_be_is_refused_before_its_folder(here, capsys, words, told):
    assert told in refused(capsys, [*TRAIN, *words])


def test_a_missing_option_has_no_stray_dot(here, capsys):
    assert "'--out'; see --help" in refused(capsys, TRANSFORM[:-2], code=2)


def test_a_training_says_what_it_made_and_goes_on_from_it(here, capsys):
    words = [*TRAIN, "--batch-size", "2", "--train-images", "4", "--json"]
    assert main(words) == 0
    made = json.loads(capsys.readouterr().out)
    kept = json.loads((here / "out" / "manifest.json").read_text())
    assert kept["finished"] and kept["seed"] == 0 and kept["card"]["sha256"] == made["sha256"]
    assert kept["config"]["schedule"]["dtype"] in ("float32", "bf16")
    assert "--preset tiny --data image-folder:images" in kept["card"]["source"]
    assert main(words) == 0
    assert main(["report", "out"]) == 1
    assert "holds a training, which has no report" in capsys.readouterr().err


def test_a_damaged_checkpoint_says_what_to_do(here, capsys):
    words = [*TRAIN, "--batch-size", "2", "--train-images", "4", "--quiet"]
    assert main(words) == 0
    (here / "out" / "checkpoint.pt").write_bytes(b"nothing")
    assert main(words) == 1
    err = capsys.readouterr().err
    assert (
        "remove it or give --overwrite to start from scratch" in err and "weights_only" not in err
    )


def test_doctor_names_the_size_that_a_card_was_trained_on(here, capsys):
    words = ["doctor", "--classifier", "net", "--data", "image-folder:images"]
    assert main([*words, "--size", "16"]) == 1
    assert "was trained on 3 x 8 x 8; write --size 8" in capsys.readouterr().out


def test_a_reports_figures_come_as_json_and_a_quiet_list_is_silent(here, capsys):
    assert main([*TRANSFORM, "--quiet"]) == 0
    assert main(["report", "out", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 6
    assert main(["list", "--quiet"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("verb", ["score-model", "classifier"])
def test_a_training_has_data_of_its_own_choice(verb):
    import typer

    from scoreag.cli.app import app

    command = typer.main.get_command(app).commands["train"].commands[verb]
    example = command.epilog.split("scoreag train " + verb)[1].split()
    assert command.make_context(verb, example).params["data"] == "cifar10:train[0:45000]"
    short = ["--preset", "tiny", "--out", "models/mine"]
    assert command.make_context(verb, short).params["data"] == "cifar10:train[0:45000]"


def test_a_model_without_classes_cannot_be_asked_for_one(here, capsys):
    tiny.write_score_model(here / "prior", classes=())
    assert "this score model has no classes" in refused(capsys, SYNTHESIZE)


@pytest.mark.parametrize("values, told", [(2.0, "[0, 1]"), (np.nan, "NaN")])
def test_arrays_outside_0_to_1_are_refused(here, capsys, values, told):
    images = np.full((2, 3, 8, 8), values, dtype=np.float32)
    np.savez("bad.npz", images=images, labels=np.array([0, 1]))
    assert told in refused(capsys, [*TRANSFORM, "--data", "npz:bad.npz"])


def test_unlabeled_images_cannot_be_transformed(here, capsys):
    picture = next((here / "images").glob("*/*.png"))
    assert "write --class" in refused(capsys, [*TRANSFORM, "--data", str(picture)])


def cut(path):
    path.write_bytes(path.read_bytes()[:-30])


def a_picture(here):
    cut(next((here / "images").glob("*/*.png")))
    return "is no whole PNG"


def an_archive(here):
    np.savez(here / "cut.npz", images=np.zeros((2, 3, 8, 8), np.uint8), labels=np.array([0, 1]))
    cut(here / "cut.npz")
    return "cut.npz"


def some_weights(here):
    cut(here / "prior" / "model.safetensors")
    return "is cut short"


def other_weights(here):
    file = here / "net" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    return "was altered"


def a_web_page(here):
    (here / "net" / "model.safetensors").write_text("<!doctype html><title>not found</title>")
    return "is an HTML page, not weights"


@pytest.mark.parametrize("spoil", [a_picture, an_archive, some_weights, other_weights, a_web_page])
def test_a_spoilt_file_is_told_in_one_line(here, capsys, spoil):
    told = spoil(here)
    data = ["--data", "npz:cut.npz"] if spoil is an_archive else []
    assert told in refused(capsys, [*TRANSFORM, *data])


def test_a_changed_setting_with_the_same_out_is_refused(here, capsys):
    assert main([*TRANSFORM, "--quiet"]) == 0
    before = tiny.contents(here / "out")
    assert main([*TRANSFORM, "--steps", "4"]) == 1
    err = capsys.readouterr().err
    assert "config.steps was 3 and is now 4" in err and err.count("\n") == 1
    assert tiny.contents(here / "out") == before
    assert main([*TRANSFORM, "--steps", "4", "--overwrite", "--quiet"]) == 0


def test_an_output_that_cannot_be_written_is_told_in_one_line(here, capsys):
    (here / "file").write_text("")
    for out in ("file", "file/below"):
        assert main([*TRANSFORM[:-1], out]) == 1
        err = capsys.readouterr().err
        assert err.startswith("scoreag: file") and err.count("\n") == 1


def test_a_read_only_folder_is_told_in_one_line(here, locked, capsys):
    assert main([*TRANSFORM[:-1], "locked/out"]) == 1
    assert "locked/out: Permission denied" in capsys.readouterr().err
    assert not list(locked.iterdir())


def test_debug_shows_the_traceback(here):
    with pytest.raises(ValueError, match="did you mean 'heun'"):
        main([*TRANSFORM, "--sampler", "hean", "--debug"])


def test_an_interruption_says_how_to_go_on(here, capsys, monkeypatch):
    def interrupted(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr("scoreag.models.loading.load_prior", interrupted)
    assert main(TRANSFORM) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_doctor_ends_with_1_when_something_is_wrong(here, capsys):
    words = ["doctor", "--data", "image-folder:images", "--classifier"]
    assert main([*words, "own_classifiers:probabilities"]) == 1
    assert "WRONG  logits" in capsys.readouterr().out
    assert main([*words, "own_classifiers:training"]) == 1
    assert "is in train mode" in capsys.readouterr().out


def test_list_shows_each_component_with_its_first_line(capsys):
    assert main(["list", "samplers"]) == 0
    assert "  heun " in (out := capsys.readouterr().out) and "Karras" in out
    assert main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) >= {"models", "classifiers", "attacks", "samplers", "metrics"}


def shown(*words):
    """The output of Python in a process of its own."""
    done = subprocess.run(
        [sys.executable, *words], env=tiny.ENVIRONMENT, capture_output=True, check=True, text=True
    )
    return done.stdout


def test_importing_the_command_line_imports_no_torch():
    code = "import sys, scoreag.cli.app; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    assert shown("-c", code) == "[]\n"


@pytest.mark.parametrize("words", [["--help"], ["transform", "--help"], ["train", "--help"]])
def test_help_takes_less_than_half_a_second(words):
    """Processor time, which is what it takes on a machine with nothing else to do."""

    def spent():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    times = []
    for _ in range(3):
        before = spent()
        assert "Example:\n  " in shown("-m", "scoreag", *words)
        times.append(spent() - before)
    assert sorted(times)[1] < 0.5


@pytest.mark.parametrize("verb", ["demo", "synthesize", "transform", "purify", "doctor", "list"])
def test_the_example_of_a_verb_is_one_line_that_can_be_pasted(verb, capsys):
    assert main([verb, "--help"]) == 0
    example = capsys.readouterr().out.rstrip().splitlines()[-1]
    assert example.startswith(f"    scoreag {verb}")


@pytest.mark.skipif(
    tuple(map(int, version("click").split(".")[:2])) < (8, 2), reason="click 8.1 calls it success"
)
@pytest.mark.parametrize("words", [[], ["train"]])
def test_a_command_that_is_missing_is_answered_by_the_help_as_it_is_laid_out(words, capsys):
    assert main(words) == 2
    told = capsys.readouterr().err
    assert told.startswith("Usage: ") and told.count("\n") > 8 and "\nCommands:\n" in told
