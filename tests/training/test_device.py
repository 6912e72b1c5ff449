"""Training elsewhere than on the CPU; "meta", which mixes with no other, stands for a GPU."""

from dataclasses import replace

import pytest
import torch

import tiny
from scoreag.cli.app import main
from scoreag.core.rng import Stream
from scoreag.training import classifier_training, losses, schedule
from scoreag.training.checkpoint import init_state
from scoreag.training.loop import fit
from scoreag.training.losses import build_denoising_loss, edm
from scoreag.training.recipes import SCORE_PRESETS as PRESETS
from scoreag.training.recipes import Recipe
from scoreag.training.schedule import TrainingSchedule
from scoreag.training.score_model_training import train_score_model

META = torch.device("meta")
PLAN = TrainingSchedule(total_images=8, batch_size=4)


class Arrived(Exception):
    """Where a batch came: enough is known."""


class Placed(torch.nn.Module):
    """Wants all that it is given in one place; "meta" alone would let labels of the CPU pass."""

    def forward(self, x, sigma, labels):
        assert x.device == sigma.device == labels.device
        return x


def stop(network, images, labels, *rest, **options):
    raise Arrived({next(network.parameters()).device, images.device, labels.device})


@pytest.mark.parametrize(
    "change",
    [
        schedule.random_flip,
        lambda x, source: schedule.alternating_flip(x, torch.arange(4), 0),
        lambda x, source: schedule.random_shift(x, 1, source),
        lambda x, source: schedule.random_crop(x, (5, 6), source),
    ],
    ids=["flip", "alternating_flip", "shift", "crop"],
)
def test_a_changed_image_is_where_the_image_was(change):
    assert change(torch.empty(4, 3, 8, 8, device=META), Stream(0)).device == META


@pytest.mark.parametrize("labels_at", ["cpu", "meta"])
def test_the_denoising_loss_is_where_the_images_are(labels_at):
    images = torch.empty(4, 3, 8, 8, device=META)
    labels = torch.zeros(4, dtype=torch.int64, device=labels_at)
    assert (
        build_denoising_loss(edm(), null_label=3)(Placed(), images, labels, Stream(0)).device
        == META
    )


def test_a_batch_goes_where_the_network_is(tmp_path):
    network = torch.nn.Linear(1, 1, device=META)
    state = init_state(network, torch.optim.SGD(network.parameters(), lr=1.0))
    with pytest.raises(Arrived) as came:
        fit(state, stop, tiny.images(8), torch.zeros(8, dtype=torch.int64), PLAN, tmp_path / "x.pt")
    assert came.value.args == ({META},)


def test_a_score_model_is_trained_on_the_device_that_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("scoreag.training.score_model_training.build_loss", lambda *_: stop)
    recipe = replace(PRESETS["tiny"], schedule=PLAN)
    data = tiny.images(8), torch.zeros(8, dtype=torch.int64), tiny.CLASSES
    with pytest.raises(Arrived) as came:
        train_score_model(recipe, *data, tmp_path, progress=False, device=META)
    assert came.value.args == ({META},)


def test_a_classifier_is_trained_on_the_device_that_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(losses, "classification_loss", stop)
    recipe = Recipe(network="small_cnn", options=tiny.CNN, schedule=PLAN, crop_schedule=((1.0, 8),))
    data = tiny.images(8), torch.zeros(8, dtype=torch.int64)
    with pytest.raises(Arrived) as came:
        classifier_training.train(recipe, *data, tmp_path / "state.pt", device=META)
    assert came.value.args == ({META},)


@pytest.mark.parametrize(
    "kind, preset", [("score-model", "tiny"), ("classifier", "cifar10-resnet20")]
)
def test_a_device_that_does_not_exist_is_refused(tmp_path, capsys, kind, preset):
    out = tmp_path / "out"
    words = ["--preset", preset, "--data", "foolbox-samples", "--device", "gpu", "--out", str(out)]
    assert main(["train", kind, *words]) != 0
    assert "no device 'gpu'; there are: auto, cpu, cuda" in capsys.readouterr().err
    assert not out.exists()
