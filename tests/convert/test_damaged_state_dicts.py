"""Files of tensors that are hostile, damaged, or something else: one clear line, nothing run."""

import os
import re
import zipfile

import pytest
import torch
from safetensors.torch import save_file

import made_edm
import made_states
from scoreag.classifiers.loading import load_classifier
from scoreag.classifiers.networks.cifar_resnet import ResNet
from scoreag.classifiers.state_dict import load_checkpoint
from scoreag.cli.app import main
from scoreag.models.convert.checkpoint import open_checkpoint

FORMATS = ["ddpmpp_continuous", "improved_hybrid", "ho_told"]


class Hostile:
    """Leaves a trace where its pickle is run."""

    def __reduce__(self):
        return os.system, ("touch trace",)


def nested(tree):
    """In the middle of what a release writes."""
    return {**tree, "ema": {**tree["ema"], "shadow_params": [torch.zeros(1), Hostile()]}}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("old", [True, False], ids=["before 2020", "zip"])
@pytest.mark.parametrize(
    "tree",
    [
        nested(made_states.score_sde("ddpmpp_continuous")),
        {**made_states.weights("improved_hybrid"), "input_blocks.0.0.weight": Hostile()},
        [*made_states.ddim("ho_told"), Hostile()],
    ],
    ids=FORMATS,
)
def test_a_hostile_file_is_refused_by_what_it_wanted_and_nothing_is_run(here, tree, old):
    torch.save(tree, here / "x.pth", _use_new_zipfile_serialization=not old)
    with pytest.raises(ValueError, match=r"it holds (posix|nt)\.system, not only tensors") as told:
        open_checkpoint(here / "x.pth", {"image_size": 8})
    assert "\n" not in str(told.value) and not (here / "trace").exists()


@pytest.mark.parametrize("old", [True, False], ids=["before 2020", "zip"])
@pytest.mark.parametrize("kind", ["cut", "flipped"])
@pytest.mark.parametrize("case", FORMATS)
def test_a_damaged_file_gives_one_clean_error_or_the_network(here, case, kind, old):
    """At 20 places, half of them among the first bytes and the last, where the pickle is."""
    tree = (made_states.score_sde if "pp" in case else made_states.weights)(case)
    torch.save(tree, here / "whole.pt", _use_new_zipfile_serialization=not old)
    whole, source = (here / "whole.pt").read_bytes(), torch.Generator().manual_seed(5)
    anywhere = torch.randint(2, len(whole), (10,), generator=source).tolist()
    ends = torch.randint(2, 20_000, (10,), generator=source).tolist()
    refused = 0
    for place in anywhere + [n if n % 2 else len(whole) - n for n in ends]:
        data = bytearray(whole[:place] if kind == "cut" else whole)
        if kind == "flipped":
            data[place] ^= 1 << (place % 8)
        (here / "x.pt").write_bytes(data)
        try:
            open_checkpoint(here / "x.pt", made_states.arguments(case))
        except ValueError as error:
            assert str(error) and "\n" not in str(error)
            refused += 1
    assert refused == 20 if kind == "cut" else refused > 0


def test_a_file_that_unpacks_to_more_than_itself_is_refused(here):
    """Ten million zeros packed into ten thousand bytes."""
    torch.save({"temb.dense.0.weight": torch.zeros(10_000_000)}, here / "plain.pt")
    with (
        zipfile.ZipFile(here / "plain.pt") as plain,
        zipfile.ZipFile(here / "packed.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    assert (here / "packed.pt").stat().st_size < 100_000
    with pytest.raises(ValueError, match=r"packed\.pt .*unpacks to .* which torch\.save does not"):
        open_checkpoint(here / "packed.pt")


def diffusion(prefix):
    return {f"{prefix}input_blocks.0.0.weight": torch.zeros(8, 4, 3, 3)}


@pytest.mark.parametrize(
    "tree, message",
    [
        (ResNet(8, width=4).state_dict(), r"looks like a classifier \('linear.weight'\)"),
        ({"state_dict": {"module.fc.weight": torch.zeros(10, 8)}, "epoch": 3},
         r"looks like a classifier \('fc.weight'\), and a score model is wanted"),
        ({"state_dict": diffusion("model.diffusion_model.")}, "looks like a model of latent codes"),
        ({"encoder.conv_in.weight": torch.zeros(8, 3, 3, 3)}, "looks like a model of latent codes"),
        (diffusion(""), "guided-diffusion's classifier of noisy images"),
        ({**diffusion(""), "output_blocks.0.0.x": torch.zeros(1)}, "takes 4 channels"),
        ({"blocks.0.attn.weight": torch.zeros(1)}, r"a network that is not known here \(its first"),
        (made_states.optimizer(), "looks like the state of an optimizer, .* take the file of"),
        ({"step": 1, "model": {"model.init_conv.weight": torch.zeros(8, 3, 7, 7)}, "opt": {},
          "ema": {"ema_model.model.init_conv.weight": torch.zeros(8, 3, 7, 7)}},
         r"denoising-diffusion-pytorch \('model.init_conv.weight'\), which is not read"),
        ({"model": {"inner_model.proj_in.weight": torch.zeros(8, 3, 1, 1)}, "model_ema": {}},
         "looks like a network of k-diffusion"),
        ({"x_embedder.proj.weight": torch.zeros(8, 4, 2, 2)}, "looks like a transformer of patch"),
        ({"model": {"fc.weight": torch.zeros(10, 8)}, "ema": {"fc.weight": torch.zeros(10, 8)}},
         "looks like a classifier"),
        ({"patch_embed.proj.weight": torch.zeros(1), "head.weight": torch.zeros(1)},
         "looks like a classifier"),
        ({"steps": 3}, "holds no tensors by name"),
        ([1, 2], "holds a int, not a state dict"),
        ([], "holds a list, not a state dict"),
        (torch.zeros(3), "holds a Tensor, not a state dict"),
    ],
    ids=["cifar_resnet", "wrapped", "latent", "autoencoder", "noisy", "channels", "transformer",
         "optimizer", "lucidrains", "k-diffusion", "patches", "averaged", "vit", "numbers",
         "list", "empty", "tensor"],
)  # fmt: skip
def test_another_file_of_torch_is_told_what_it_looks_like(here, capsys, tree, message):
    torch.save(tree, here / "x.pt")
    told = '{"image_size": 32, "num_channels": 32, "num_res_blocks": 1}'
    assert main(["convert", "x.pt", "mine", "--config", told]) == 1
    err = capsys.readouterr().err
    assert re.search(message, err), err
    assert err.count("\n") == 1 and not (here / "mine").exists()


def test_a_score_model_given_as_a_classifier_is_told_so(here):
    made_edm.write(here / "edm.pkl")
    made_states.write("ho", here / "ho.ckpt")
    made_states.write("", here / "sde.pth", made_states.score_sde("ddpmpp"))
    for name in ("edm.pkl", "ho.ckpt", "sde.pth"):
        with pytest.raises(
            ValueError, match=rf"{name} .*looks like a score model.* --model"
        ) as told:
            load_checkpoint(here / name, "cifar_resnet", depth=8)
        assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("edm.pkl", "the checkpoint of a score model.*--model"),
        ("net.pth", "--network cifar_resnet"),
    ],
)
def test_a_file_in_the_place_of_a_classifiers_name_is_told_what_it_is(here, capsys, name, told):
    made_edm.write(here / "edm.pkl")
    torch.save(ResNet(8, width=4).state_dict(), here / "net.pth")
    with pytest.raises(ValueError, match=f"{name} .*{told}"):
        load_classifier(name)
    words = ["synthesize", "--model", "fashion-small", "--classifier", name, "--out", "out"]
    assert main(words) in (1, 2) and not (here / "out").exists()
    assert name in (err := capsys.readouterr().err) and err.count("\n") == 1


def test_safetensors_of_something_else_are_told_what_they_look_like(here):
    for name, tensors, message in (
        ("sd", diffusion("model.diffusion_model."), "looks like a model of latent codes"),
        ("net", {"fc.weight": torch.zeros(10, 8)}, "looks like a classifier"),
    ):
        save_file(tensors, here / f"{name}.safetensors")
        with pytest.raises(ValueError, match=message):
            open_checkpoint(here / f"{name}.safetensors")


@pytest.mark.parametrize("part", ["vae", "vqvae"])
def test_a_pipeline_of_latent_codes_is_refused_though_its_network_could_be_read(here, part):
    """CompVis/ldm-celebahq-256 has a UNet2DModel with three channels, of codes."""
    (here / "ldm" / "unet").mkdir(parents=True)
    (here / "ldm" / part).mkdir()
    (here / "ldm" / "unet" / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(ValueError, match=f"draws codes of an autoencoder, its '{part}'"):
        open_checkpoint(here / "ldm")
