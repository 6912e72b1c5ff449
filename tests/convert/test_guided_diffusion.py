"""Checkpoints of guided-diffusion, against what its code computes."""

import json
import os
import re
from importlib import import_module
from pathlib import Path

import pytest
import torch

from scoreag.cli.app import main
from scoreag.io.safe_unpickler import UnsupportedCheckpoint
from scoreag.models.convert.checkpoint import open_checkpoint

GOLDEN = json.loads((Path(__file__).parent / "guided_golden.json").read_text())["cases"]
NORMS = ("in_layers.0.weight", "out_layers.0.weight", "norm.weight", "out.0.weight")


def invented(shapes) -> dict[str, torch.Tensor]:
    """Weights from one stream of random numbers, under the released names."""
    source, tensors = torch.Generator().manual_seed(0), {}
    for name, shape in shapes.items():
        scale = 0.3 if len(shape) < 2 else (1 / torch.Size(shape[1:]).numel()) ** 0.5
        center = 1.0 if name.endswith(NORMS) else 0.0
        tensors[name] = torch.randn(shape, generator=source) * scale + center
    return tensors


def saved(case, path, **changes):
    torch.save({**invented(GOLDEN[case]["shapes"]), **changes}, path)
    return path


@torch.no_grad()
@pytest.mark.parametrize("case", GOLDEN)
def test_the_network_computes_what_the_released_one_does(case, tmp_path):
    """Every 16th number of two images, at steps 3 and 700."""
    told = GOLDEN[case]["arguments"]
    found = open_checkpoint(saved(case, tmp_path / "model.pt"), told)
    network = (
        import_module(f"scoreag.diffusion.networks.{found.network}").build(**found.options).eval()
    )
    network.load_state_dict(dict(found.tensors))
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([1, 4]) if told["class_cond"] else None
    got = network(x, torch.tensor([3.0, 700.0]), labels).flatten()[::16]
    expected = torch.tensor(GOLDEN[case]["output"])
    assert (got - expected).norm() <= 1e-5 * expected.norm()
    assert found.family == "ddpm" and found.classes == (5 if told["class_cond"] else 0)


def test_a_checkpoint_is_converted_by_the_arguments_of_its_training(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    saved("legacy", tmp_path / "model.pt")
    told = GOLDEN["legacy"]["arguments"] | {"noise_schedule": "cosine"}
    words = ["convert", "model.pt", "mine", "--config", json.dumps(told), "--json", "--quiet"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["family"] == "ddpm_cosine"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"num_res_blocks": 2}, "the tensor 'input_blocks.3.1.* has no place in a network"),
        ({"channel_mult": [1]}, "the tensor 'input_blocks.2.0.* has no place in a network"),
        ({"image_sise": 3}, "an argument 'image_sise'; did you mean 'image_size'"),
        ({"resblock_updown": False}, "the tensor 'input_blocks.2.0.* has no place in a network"),
        ({"num_channels": 64}, r"'time_embed.0.weight' has shape \(512, 128\); .* \(256, 64\)"),
        ({"diffusion_steps": 500}, "of other diffusion_steps than 1000, say rescale_timesteps"),
        ({"noise_schedule": "sqrt"}, "a noise_schedule 'sqrt'; there are: linear, cosine"),
    ],
)
def test_arguments_that_do_not_fit_are_named(tmp_path, monkeypatch, capsys, change, message):
    monkeypatch.chdir(tmp_path)
    saved("legacy", tmp_path / "model.pt")
    told = json.dumps(GOLDEN["legacy"]["arguments"] | change)
    assert main(["convert", "model.pt", "mine", "--config", told]) == 1
    err = capsys.readouterr().err
    assert re.search(message, err) and err.count("\n") == 1
    assert not (tmp_path / "mine").exists()


def test_a_file_of_another_name_asks_for_its_arguments(tmp_path):
    path = saved("legacy", tmp_path / "model.pt")
    with pytest.raises(
        UnsupportedCheckpoint, match=r"does not say how it was trained; write --config"
    ):
        open_checkpoint(path)


def test_a_hostile_file_of_torch_is_refused_and_nothing_is_run(tmp_path, monkeypatch):
    class Hostile:
        def __reduce__(self):
            return os.system, ("touch trace",)

    monkeypatch.chdir(tmp_path)
    for name, old in (("64x64_diffusion.pt", False), ("256x256_diffusion.pt", True)):
        torch.save({"x": Hostile()}, name, _use_new_zipfile_serialization=not old)
        with pytest.raises(ValueError, match=r"it holds (posix|nt)\.system, not only tensors"):
            open_checkpoint(tmp_path / name)
    assert not (tmp_path / "trace").exists()
