"""What cannot be trained, or gone on with, is said in one line, and nothing is lost."""

import os
from dataclasses import replace

import pytest
import torch

import tiny
from scoreag.cli.app import main
from scoreag.training.checkpoint import init_state, load_checkpoint, save_checkpoint
from scoreag.training.recipes import SCORE_PRESETS as PRESETS
from scoreag.training.schedule import OMIT_IF_DEFAULT, TrainingSchedule, to_config_dict
from scoreag.training.score_model_training import train_score_model

PLAN = replace(PRESETS["tiny"].schedule, total_images=8, batch_size=4)
RECIPE = replace(PRESETS["tiny"], schedule=PLAN)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.write_images(tmp_path / "images", 12)
    return tmp_path


def words(*more):
    return [
        "train", "score-model", "--preset", "tiny", "--data", "image-folder:images",
        "--batch-size", "4", "--train-images", "8", "--quiet", "--out", "out", *more,
    ]  # fmt: skip


def trained(folder, recipe=RECIPE, labels=None, classes=tiny.CLASSES, **options):
    given = tiny.labels(8) if labels is None else labels
    return train_score_model(
        recipe, tiny.images(8), given, classes, folder, progress=False, **options
    )


@pytest.mark.parametrize("wrong, low, high", [([3, 0], 0, 3), ([-1, 2], -1, 2)])
def test_labels_that_have_no_name_are_refused(tmp_path, wrong, low, high):
    with pytest.raises(ValueError, match=rf"go from {low} to {high}, and there are 3 names"):
        trained(tmp_path / "out", labels=torch.tensor(wrong * 4))
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_another_network_is_refused_and_kept(tmp_path):
    trained(tmp_path)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    other = replace(RECIPE, options={**RECIPE.options, "channels": 32})
    with pytest.raises(ValueError, match=r"checkpoint\.pt is no checkpoint of this training"):
        trained(tmp_path, other)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_a_checkpoint_with_other_averages_is_refused(tmp_path):
    trained(tmp_path)
    plan = replace(PLAN, ema_rampup_ratio=0.0, ema_widths=(0.05, 0.1))
    with pytest.raises(ValueError, match=r"it has 1 averages, not 2"):
        trained(tmp_path, replace(RECIPE, schedule=plan))


def test_a_checkpoint_that_is_cut_short_is_refused(tmp_path):
    trained(tmp_path)
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ValueError, match="remove it or give --overwrite"):
        trained(tmp_path)


@pytest.mark.parametrize(
    "more, told_",
    [
        (["--lr", "0.5"], "config.lr was 0.001 and is now 0.5"),
        (["--seed", "7"], "config.schedule.seed was 0 and is now 7"),
        (["--preset", "cifar10-small"], "and is now"),
    ],
)
def test_a_folder_with_other_settings_is_refused(here, capsys, more, told_):
    assert main(words()) == 0
    before = tiny.contents(here / "out")
    assert main(words(*more)) == 1
    err = capsys.readouterr().err
    assert told_ in err and "give another --out, or --overwrite" in err and err.count("\n") == 1
    assert tiny.contents(here / "out") == before


def test_a_folder_from_before_a_setting_goes_on(here):
    """What a manifest does not tell is at its default, which was the only way then."""
    assert {"family", "hflip"} & to_config_dict(RECIPE).keys() == set()
    assert {"ema_widths", "n_snapshots"} & to_config_dict(RECIPE)["schedule"].keys() == set()
    changed = to_config_dict(replace(RECIPE, family="ddpm", schedule=replace(PLAN, n_snapshots=3)))
    assert changed["family"] == "ddpm" and changed["schedule"]["n_snapshots"] == 3
    assert (
        OMIT_IF_DEFAULT["later"]
        and to_config_dict(TrainingSchedule(total_images=8, batch_size=2))["batch_size"] == 2
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_checkpoint_without_space_says_so_and_the_old_one_is_kept(tmp_path, monkeypatch):
    """Every write to /dev/full fails as on a full disk."""
    network = torch.nn.Linear(3000, 1)
    state = init_state(network, torch.optim.SGD(network.parameters(), lr=1.0))
    file = tmp_path / "checkpoint.pt"
    save_checkpoint(state, file)
    state.images_seen = 8
    (tmp_path / f".checkpoint.pt.{os.getpid()}").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device.*checkpoint\.pt"):
        save_checkpoint(state, file)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert load_checkpoint(init_state(network, state.optimizer), file).images_seen == 0


def test_images_of_other_channels_than_the_card_are_refused(here, capsys):
    tiny.write_score_model(here / "prior", image_shape=(1, 8, 8))
    assert main(words("--init", "prior")) == 1
    assert "is for images of 1 channels, and the data have 3" in capsys.readouterr().err
    assert not (here / "out").exists()


@pytest.mark.parametrize(
    "more, told_",
    [
        (["--grad-accum-steps", "0"], "--grad-accum-steps is 0; expected 1 or more"),
        (["--grad-accum-steps", "5"], "cannot be cut into 5 pieces"),
        (["--ema-width", "0.5"], "the width of an average is 0.5; expected above 0 to 0.28"),
        (["--ema-width", "0.1"], "choose one that has ema_widths"),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_folder(here, capsys, more, told_):
    assert main(words(*more)) != 0
    err = capsys.readouterr().err
    assert told_ in err and err.count("\n") == 1 and not (here / "out").exists()


def test_tensorboard_that_is_not_there_is_told(here, capsys, monkeypatch):
    monkeypatch.setattr("scoreag.training.outputs.find_spec", lambda name: None)
    assert main(words("--tensorboard")) == 1
    assert "pip install 'scoreag[train]'" in capsys.readouterr().err
    assert not (here / "out").exists()


@pytest.mark.filterwarnings("ignore")  # of TensorBoard's own imports
def test_tensorboard_gets_the_curve(here):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert main(words("--tensorboard")) == 0
    found = EventAccumulator(str(here / "out" / "tensorboard")).Reload()
    (entry,) = found.Scalars("loss")
    row = (here / "out" / "loss.csv").read_text().split("\n")[1]
    assert f"{entry.step},{entry.value:.6f}" == row


def test_overwriting_leaves_nothing_of_what_was_there(here):
    assert main(words()) == 0
    (here / "out" / "snapshots").mkdir()
    (here / "out" / "snapshots" / "000000004.safetensors").write_bytes(b"")
    assert main(words("--overwrite")) == 0
    assert not (here / "out" / "snapshots").exists()
