"""A batch cut into pieces, over turns or over processes, is the batch."""

import csv
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

import tiny
from scoreag.cli.app import main
from scoreag.core.rng import Stream
from scoreag.training.checkpoint import init_state
from scoreag.training.execution import DistContext
from scoreag.training.loop import fit
from scoreag.training.losses import PerSampleLoss
from scoreag.training.recipes import SCORE_PRESETS as PRESETS
from scoreag.training.schedule import TrainingSchedule
from scoreag.training.score_model_training import build_loss, train_score_model

pytestmark = pytest.mark.usefixtures("one_thread")

WORKER = """
import os, signal, sys
from scoreag.training import loop

follow = loop.update_averages

def update_averages(state, plan):
    follow(state, plan)
    if os.environ["RANK"] == "1" and state.images_seen == 180:
        signal.raise_signal(signal.SIGTERM)

loop.update_averages = update_averages
from scoreag.cli.app import main
sys.exit(main(sys.argv[1:]))
"""  # only the second process is told to end, after 30 of 60 steps


def words(out):
    return [
        "train", "score-model", "--preset", "tiny", "--data", "image-folder:images",
        "--batch-size", "6", "--train-images", "360", "--sample-every-images", "360",
        "--device", "cpu", "--quiet", "--out", out,
        "--dtype", "float32",  # where bfloat16 is fast, its rounding would be compared
    ]  # fmt: skip


def squares(network, rows):
    return (network(rows[0]) - rows[1]).square().squeeze(1)


def question(images, labels, source):
    return images.flatten(1), source.normal((len(images), 1))


def fitted(team, batch, tmp_path, name):
    network = torch.nn.Linear(12, 1)
    torch.nn.init.ones_(network.weight)
    torch.nn.init.zeros_(network.bias)
    state = init_state(network, torch.optim.SGD(network.parameters(), lr=0.1))
    images = torch.arange(120).to(torch.uint8).reshape(10, 3, 2, 2)
    plan = TrainingSchedule(total_images=50 * batch, batch_size=batch, max_grad_norm=1.0)
    labels = torch.zeros(10, dtype=torch.int64)
    return fit(
        state,
        PerSampleLoss(question, squares),
        images,
        labels,
        plan,
        tmp_path / name,
        dist_context=team,
    )


@pytest.mark.parametrize("count, size, turns", [(8, 2, 2), (7, 2, 1), (10, 3, 3), (5, 1, 5)])
def test_the_pieces_of_all_processes_are_the_batch_once(count, size, turns):
    rows = torch.arange(count)
    found = [
        rows[p]
        for rank in range(size)
        for p in DistContext(rank, size, turns).micro_batch_slices(count)
    ]
    assert torch.equal(torch.cat(found), rows)
    assert max(map(len, found)) - min(map(len, found)) <= 1


@pytest.mark.parametrize("turns", [2, 3, 5])
def test_a_batch_in_turns_gives_the_same_curve(turns, tmp_path):
    """Also where the pieces are not alike: 5 images in 2 or 3 turns."""
    whole = fitted(DistContext(), 5, tmp_path, "whole.pt")
    cut = fitted(DistContext(grad_accum_steps=turns), 5, tmp_path, "cut.pt")
    for one, other in zip(whole.losses, cut.losses, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    torch.testing.assert_close(whole.network.weight, cut.network.weight, rtol=1e-5, atol=1e-6)


def test_a_score_model_in_turns_gets_the_same_weights(tmp_path):
    recipe = replace(
        PRESETS["tiny"], schedule=replace(PRESETS["tiny"].schedule, total_images=60, batch_size=6)
    )
    loss, found = build_loss(recipe, 3), []
    for turns in (1, 4):
        torch.manual_seed(0)
        network = tiny.prior().model.requires_grad_(True)
        state = init_state(network, torch.optim.SGD(network.parameters(), lr=0.01))
        fit(state, loss, tiny.images(12), tiny.labels(12), recipe.schedule,
            tmp_path / f"{turns}.pt", dist_context=DistContext(grad_accum_steps=turns))  # fmt: skip
        found.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    assert not torch.equal(
        found[0], torch.cat([p.flatten() for p in tiny.prior().model.parameters()])
    )
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


def test_the_mean_of_the_rows_is_the_loss_of_the_batch():
    loss = build_loss(PRESETS["tiny"], 3)
    images, labels = tiny.images(6) / 255, tiny.labels(6)
    asked = loss.prepare(images, labels, Stream(1))
    model = tiny.prior().model
    apart = [loss.per_sample(model, tuple(t[i : i + 1] for t in asked)).item() for i in range(6)]
    whole = loss(model, images, labels, Stream(1)).item()
    assert whole == pytest.approx(sum(apart) / 6, rel=1e-5)


def test_two_processes_stop_together_and_one_goes_on_to_the_same_end(tmp_path, monkeypatch):
    """The signal comes after step 30 to one of them; the next step is the last of both."""
    tiny.write_images(tmp_path / "images", 12)
    (tmp_path / "worker.py").write_text(WORKER)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    process = subprocess.run(
        [*launcher, "2", "worker.py", *words("two")], cwd=tmp_path, env=tiny.ENVIRONMENT,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert process.returncode == 1, process.stderr
    assert process.stderr.count("scoreag: stopped; what is done is kept") == 1
    saved = torch.load(tmp_path / "two" / "checkpoint.pt")
    assert saved["seen"] == 31 * 6 and not list((tmp_path / "two").rglob(".*"))
    monkeypatch.chdir(tmp_path)
    assert main(words("two")) == 0 and main(words("one")) == 0
    one, two = (torch.load(tmp_path / name / "checkpoint.pt") for name in ("one", "two"))
    for (seen, loss), (again, other) in zip(one["losses"], two["losses"], strict=True):
        assert seen == again and loss == pytest.approx(other, rel=1e-5)
    for kind in ("network", "average"):
        for name, weights in one[kind].items():
            torch.testing.assert_close(weights, two[kind][name], rtol=1e-4, atol=2e-6)
    with (tmp_path / "two" / "loss.csv").open() as file:
        assert [row["images_seen"] for row in csv.DictReader(file)] == ["300", "360"]


def test_more_pieces_than_images_are_refused(tmp_path):
    data = tiny.images(4), tiny.labels(4), tiny.CLASSES
    from scoreag.training.execution import ExecutionConfig

    plan = replace(PRESETS["tiny"].schedule, total_images=8, batch_size=4)
    with pytest.raises(ValueError, match="a batch of 4 cannot be cut into 5 pieces"):
        train_score_model(
            replace(PRESETS["tiny"], schedule=plan),
            *data,
            tmp_path,
            execution=ExecutionConfig(DistContext(grad_accum_steps=5)),
        )


def test_no_turn_is_refused():
    with pytest.raises(ValueError, match="grad_accum_steps is 0"):
        DistContext(grad_accum_steps=0)


def test_a_classifier_is_not_trained_by_several(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    out = tmp_path / "out"
    given = ["--preset", "cifar10-resnet20", "--data", "foolbox-samples", "--out", str(out)]
    assert main(["train", "classifier", *given]) == 2
    assert "runs in one process" in capsys.readouterr().err and not out.exists()
