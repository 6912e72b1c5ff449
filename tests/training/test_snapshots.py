"""A score model as it was earlier in its training."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

import tiny
from scoreag import load_prior
from scoreag.cli.app import main
from scoreag.models.model_cards import load_card
from scoreag.training.optimization import checkpoint_at
from scoreag.training.recipes import SCORE_PRESETS as PRESETS
from scoreag.training.score_model_training import train_score_model

pytestmark = pytest.mark.usefixtures("one_thread")

PLAN = replace(
    PRESETS["tiny"].schedule,
    total_images=40,
    batch_size=4,
    ema_rampup_ratio=0.0,
    ema_widths=(0.05, 0.1),
    n_snapshots=5,
)
RECIPE = replace(PRESETS["tiny"], schedule=PLAN, warmup_images=20)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A score model that saw 40 images, with snapshots after 8, 16, 24, 32 and 40."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    folder.mkdir()
    data = tiny.images(16), tiny.labels(16), tiny.CLASSES
    return train_score_model(RECIPE, *data, folder, sample_every_images=40, progress=False)


@pytest.mark.parametrize("share, seen", [(0.5, 16), (0.25, 8), (0.85, 32)])
def test_it_is_the_running_average_of_that_time(trained, tmp_path, share, seen):
    """Which the snapshot holds: an average of its own width is made of itself alone."""
    made = checkpoint_at(trained, share, tmp_path)
    assert made.training_config["images_seen"] == seen and "loss" not in made.training_config
    snapshot = load_file(trained.folder / "snapshots" / f"{seen:09d}.safetensors")
    for name, tensor in load_prior(tmp_path).model.state_dict().items():
        torch.testing.assert_close(tensor, snapshot[f"0.05:{name}"].float(), atol=1e-6, rtol=2**-10)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5])
def test_a_share_that_is_none_is_refused(trained, tmp_path, share):
    with pytest.raises(ValueError, match="is no fraction of a training; expected one above 0"):
        checkpoint_at(trained, share, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("share", [0.95, 0.05])
def test_a_share_without_a_snapshot_near_it_is_refused(trained, tmp_path, share):
    """Neither the end itself, nor the first snapshot in place of almost nothing."""
    with pytest.raises(
        ValueError, match=r"no snapshot was kept near 0\.\d5; write .* 0\.2 to 0\.8"
    ):
        checkpoint_at(trained, share, tmp_path)


def test_a_card_without_snapshots_cannot_be_had_earlier(tmp_path):
    bundled = load_card("cifar10")
    with pytest.raises(ValueError, match="cifar10 has no snapshots beside its card"):
        checkpoint_at(bundled, 0.5, tmp_path)


def test_an_evaluation_sets_a_model_beside_itself_as_it_was(trained, tmp_path, monkeypatch):
    tiny.write_classifier(tmp_path / "net")
    tiny.write_images(tmp_path / "images", 12)
    monkeypatch.chdir(tmp_path)
    words = [
        "evaluate",
        str(trained.folder),
        "--reference-classifier",
        "net",
        "--data",
        "image-folder:images",
    ]
    words += ["--train-data", "image-folder:images", "--images", "4", "--nfe", "3", "--out", "out"]
    assert (
        main([*words, "--compare-with", "0.25", "--compare-with", "0.5", "--quiet", "--json"]) == 0
    )
    curve = json.loads((tmp_path / "out" / "figures.json").read_text())["curve"]
    assert [point["images_seen"] for point in curve] == [8, 16, 40]
    assert len({point["sha256"] for point in curve}) == 3
