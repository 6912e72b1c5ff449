"""A training that is stopped anywhere, and given again, leaves the files of one that was not.

Left out of the comparison is what tells the time: time.json, and ``minutes`` of the card.
"""

import hashlib
import random
import signal
import subprocess
import sys
import tomllib
from dataclasses import replace

import pytest
import torch
from matplotlib.figure import Figure

import tiny
from scoreag.cli.app import main
from scoreag.diffusion.noise_schedules import karras
from scoreag.io.safe_unpickler import load_tensors
from scoreag.training import loop, score_model_training
from scoreag.training.classifier_training import train_classifier
from scoreag.training.recipes import SCORE_PRESETS as PRESETS
from scoreag.training.recipes import Recipe
from scoreag.training.schedule import TrainingSchedule
from scoreag.training.score_model_training import train_score_model

pytestmark = pytest.mark.usefixtures("one_thread")

PLAN = TrainingSchedule(
    total_images=24, batch_size=2, warmup_fraction=0.1, decay_fraction=0.5, max_grad_norm=1.0
)
SCORE = replace(
    PRESETS["tiny"], schedule=replace(PLAN, ema_widths=(0.05, 0.1), n_snapshots=4), optimizer="muon"
)
CLASSIFIER = Recipe(
    network="small_cnn", options=tiny.CNN, schedule=PLAN, crop_schedule=((0.5, 8),),
    random_shift=1, lookahead=3, mean=(), std=(),
)  # fmt: skip
DATA = tiny.images(12), tiny.labels(12), tiny.CLASSES


class Killed(BaseException):
    """As by SIGKILL: nothing that follows is done."""


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Many entries of the curve, cheap samples and drawings, and Ctrl-C as at a terminal."""

    def saved(drawing, aside, **options):
        aside.write_text(str(drawing.axes[0].lines[0].get_xydata().tolist()))

    monkeypatch.setattr(loop, "CURVE_STEPS", 3)
    monkeypatch.setattr(score_model_training, "SAMPLES_PER_CLASS", 1)
    monkeypatch.setattr(score_model_training, "karras", lambda steps: karras(2))
    monkeypatch.setattr(Figure, "savefig", saved)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def score_model(folder, save_every=0.0):
    folder.mkdir(exist_ok=True, parents=True)
    about = {"preset": "tiny", "data": "noise"}
    train_score_model(SCORE, *DATA, folder, None, about, 8, save_every, progress=False)


def classifier(folder, save_every=0.0):
    folder.mkdir(exist_ok=True, parents=True)
    train_classifier(CLASSIFIER, *DATA, folder, {"data": "noise"}, save_every, progress=False)


def traced(work, happen):
    """Do ``work``, and ``happen(name, event)`` at each call and return in the package."""

    def seen(frame, event, argument):
        if event in ("call", "return") and "/scoreag/" in frame.f_code.co_filename:
            happen(frame.f_code.co_name, event)

    sys.setprofile(seen)
    try:
        work()
    finally:
        sys.setprofile(None)


def events(work):
    """The names of all points at which ``work`` can be stopped."""
    found = []
    traced(work, lambda name, event: found.append((name, event)))
    return found


def stopped(work, point, by_signal):
    """Do ``work`` up to a point: an index, or a name, "call" or "return", and how often before."""
    count = [0]

    def happen(name, event):
        if isinstance(point, int) or (name, event) == point[:2]:
            count[0] += 1
        if count[0] > (point if isinstance(point, int) else point[2]):
            sys.setprofile(None)
            if not by_signal:
                raise Killed
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt if by_signal else Killed):
        traced(work, happen)


def contents(folder):
    """All that a training leaves, but the time that it took."""
    found = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = file.relative_to(folder).as_posix()
        found[name] = file.read_bytes()
        if name == "card.toml":
            found[name] = tomllib.loads(file.read_text())
            assert found[name]["training_config"].pop("minutes") >= 0
        elif name == "checkpoint.pt":
            found[name] = flat(load_tensors(file))
    assert found.pop("time.json")
    return found


def flat(value, name=""):
    """A checkpoint as text that is equal only where every bit is."""
    if isinstance(value, dict | list | tuple):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return [line for key, inner in pairs for line in flat(inner, f"{name}.{key}")]
    if isinstance(value, torch.Tensor):
        value = hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
    return [f"{name} {value!r}"]


KINDS = {"score-model": score_model, "classifier": classifier}


@pytest.fixture(scope="module")
def known():
    """For each kind, what an uninterrupted training leaves, and the points that it passes."""
    return {}


@pytest.fixture(params=list(KINDS))
def kind(request, known, tmp_path):
    train = KINDS[request.param]
    if request.param not in known:
        points = events(lambda: train(tmp_path / "whole" / "mine"))
        known[request.param] = train, contents(tmp_path / "whole" / "mine"), points
    return known[request.param]


def check(kind, folder, stops, save_every=0.0):
    """Stop it at each of ``stops`` in turn, then let it end."""
    train, whole, _ = kind
    for point, by_signal in stops:
        stopped(lambda: train(folder, save_every), point, by_signal)
    train(folder, save_every)
    again = contents(folder)
    assert again.keys() == whole.keys()
    for name in whole:
        assert again[name] == whole[name], name


def test_a_whole_training_leaves_all_that_is_compared(kind):
    _, files, points = kind
    assert {"checkpoint.pt", "card.toml", "loss.csv", "loss.svg", "model.safetensors"} <= {*files}
    assert files["loss.csv"].count(b"\n") > 4 and len(points) > 1000
    if any(name.startswith("samples") for name in files):
        assert sum(name.startswith("samples") for name in files) == 3
        assert sum(name.startswith("snapshots") for name in files) == 4


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_any_call_or_return(kind, tmp_path, seed):
    """Twice, so that the second process begins where the first one was killed."""
    source = random.Random(seed)
    first = source.randrange(len(kind[2]))
    check(
        kind,
        tmp_path / "mine",
        [(first, False), (source.randrange((len(kind[2]) - first) // 2), False)],
    )


@pytest.mark.parametrize("seed", range(2))
def test_interrupted_at_any_call_or_return(kind, tmp_path, seed):
    """Without checkpoints but the one that the interruption leaves."""
    point = random.Random(100 + seed).randrange(len(kind[2]) * 9 // 10)
    check(kind, tmp_path / "mine", [(point, True)], save_every=1e9)


POINTS = [
    ("_optimizer_step", "call", 2),  # in a step whose entry of the curve is due
    ("_optimizer_step", "return", 2),
    ("_record_entry", "return", 1),
    ("save_checkpoint", "call", 2),
    ("save_checkpoint", "return", 2),  # between a checkpoint and what the step leaves
    ("on_step", "return", 2),
    ("save_checkpoint", "return", 11),  # the last of all
    ("write_curve", "call", 0),
    ("write_text", "return", 1),
    ("write_curve", "return", 0),
    ("export", "call", 0),
]


@pytest.mark.parametrize("point, by_signal", [(p, i % 2 == 0) for i, p in enumerate(POINTS)])
def test_stopped_where_it_matters(kind, tmp_path, point, by_signal):
    """Killed or interrupted, in turns."""
    check(kind, tmp_path / "mine", [(point, by_signal)])


@pytest.mark.parametrize(
    "point",
    [
        ("write_snapshot", "call", 1),  # of snapshots
        ("to_half", "return", 1),
        ("write_snapshot", "return", 1),
        ("save_samples", "call", 1),  # of samples
        ("write_png", "call", 1),
        ("write_png", "return", 1),
        ("write_snapshot", "call", 3),  # at the end
        ("write_card", "return", 0),
    ],
    ids=lambda point: "-".join(map(str, point)),
)
def test_stopped_where_a_score_model_leaves_files(known, tmp_path, point):
    """Snapshots and samples of the step at hand are there in the end."""
    if "score-model" not in known:
        score_model(tmp_path / "whole" / "mine")
        known["score-model"] = score_model, contents(tmp_path / "whole" / "mine"), []
    for by_signal in (False, True):
        check(known["score-model"], tmp_path / str(by_signal) / "mine", [(point, by_signal)])


KILLED = """
import os, signal, sys
from scoreag.training import loop
save, count = loop.save_checkpoint, [0]

def saved(*given):
    save(*given)
    count[0] += 1
    if count[0] == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)

loop.save_checkpoint = saved
from scoreag.cli.app import main
sys.exit(main(sys.argv[2:]))
"""
WORDS = {
    "score-model": ["train", "score-model", "--preset", "fashion-edm"],
    "classifier": ["train", "classifier", "--preset", "fashion-robust"],
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(WORDS))
def test_a_process_that_is_killed_between_checkpoint_and_samples(kind, tmp_path, monkeypatch):
    """By SIGKILL, at the third of eight steps, and after the last one."""
    monkeypatch.undo()  # what is small above is as it is for a user
    more = ["--batch-size", "4", "--train-images", "32", "--checkpoint-seconds", "0", "--quiet"]
    words = [*WORDS[kind], *more, "--data", "image-folder:images", "--out", "out"]
    for place in ("whole", "killed"):
        tiny.write_images(tmp_path / place / "images", 12)
    for moment in (3, 6):  # five steps are left, and a checkpoint after them
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(moment), *words], cwd=tmp_path / "killed",
            env=tiny.ENVIRONMENT, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == -signal.SIGKILL, done.stderr
    found = []
    for place in ("whole", "killed"):
        monkeypatch.chdir(tmp_path / place)
        assert main(words) == 0
        found.append(contents(tmp_path / place / "out"))
        assert found[-1].pop("manifest.json")
    assert found[0].keys() == found[1].keys()
    for name in found[0]:
        assert found[0][name] == found[1][name], name
