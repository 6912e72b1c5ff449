"""Files of score-SDE, improved-diffusion, guided-diffusion and DDPM, against the released code."""

import hashlib
import json
import re

import pytest
import torch

import made_states
from made_states import GOLDEN
from scoreag import load_prior
from scoreag.cli.app import main
from scoreag.io.safe_unpickler import UnsupportedCheckpoint
from scoreag.models.convert import ddpm_pytorch, guided_diffusion, score_sde
from scoreag.models.convert.checkpoint import convert_checkpoint, open_checkpoint
from scoreag.models.convert.score_sde import CONFIGS
from scoreag.models.model_cards import update_card
from scoreag.registry import load_component


def denoised(prior, case, sigma):
    """Every 16th number of D(x; sigma), at the states that the golden numbers are of."""
    told, side = GOLDEN[case]["arguments"], prior.image_shape[1]
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    spread = 0.25 if told.get("sde") == "vesde" else 1.0
    labels = torch.tensor([1, 4]) if told.get("class_cond") else None
    level = torch.tensor(sigma)
    return prior.model(x * (sigma**2 + spread) ** 0.5, level, labels).flatten()[::16]


@torch.no_grad()
@pytest.mark.parametrize("case", GOLDEN)
def test_a_converted_file_denoises_as_the_released_code_does(case, tmp_path):
    """At three levels; differences are below 2e-6."""
    path = made_states.write(case, tmp_path / "model.pt")
    convert_checkpoint(path, tmp_path / "mine", config=made_states.arguments(case))
    prior = load_prior(tmp_path / "mine")
    for sigma, wanted in GOLDEN[case]["denoised"].items():
        got, expected = denoised(prior, case, float(sigma)), torch.tensor(wanted)
        assert (got - expected).norm() <= 1e-5 * expected.norm()


FOLDERS = {
    "ddpmpp": "vp/cifar10_ddpmpp",
    "ddpmpp_continuous": "vp/cifar10_ddpmpp_continuous",
    "ncsnpp": "ve/cifar10_ncsnpp",
    "ncsnpp_continuous": "ve/cifar10_ncsnpp_continuous",
    "ncsnpp_large": "ve/ffhq_256_ncsnpp_continuous",
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_tells_the_configuration(case, tmp_path):
    """Here of smaller networks; all published files are called checkpoint_N.pth."""
    (folder := tmp_path / FOLDERS[case]).mkdir(parents=True)
    path = made_states.write(case, folder / "checkpoint_8.pth")
    told = GOLDEN[case]["arguments"]
    smaller = ("image_size", "nf", "ch_mult", "num_res_blocks", "attn_resolutions")
    found = open_checkpoint(path, {name: told[name] for name in smaller})
    family = {"vpsde": ("ddpm", "vp"), "vesde": ("smld", "ncsn")}[told["sde"]]
    assert found.format == f"score-SDE, {FOLDERS[case]} with other arguments"
    assert found.family == family[told["continuous"]]
    assert found.unused_keys == ("optimizer", "model", "step")


def shapes_of(network, options):
    with torch.device("meta"):
        tensors = load_component("networks", network).build(**options).state_dict()
    return {n: t.shape for n, t in tensors.items() if "resample_filter" not in n}


def published(name):
    """The network of a published file, and where its tensors come from."""
    if name in CONFIGS:
        told = CONFIGS[name]
        return shapes_of("song_unet", score_sde.network_options(told)), score_sde.key_map(told)
    if name in guided_diffusion.PUBLISHED:
        told = guided_diffusion.complete_config(name, guided_diffusion.PUBLISHED[name], {})
        options = guided_diffusion.network_options(told, 3, 1000 if told["class_cond"] else 0)
        return shapes_of("adm_unet", options), guided_diffusion.key_map(told)
    return shapes_of("adm_unet", ddpm_pytorch.network_options(HO)), ddpm_pytorch.key_map(HO)


HO = {
    "colors": 3, "channels": 128, "multipliers": [1, 2, 2, 2], "blocks": 2, "attention_at": [16],
    "sides": [32, 16, 8, 4],
}  # fmt: skip


@pytest.mark.parametrize("name", made_states.PUBLISHED)
def test_a_published_network_has_the_released_tensors_and_as_many_numbers(name):
    """By the released code at full size: names, how many, and parameters."""
    known = made_states.PUBLISHED[name]
    shapes, places = published(name)
    names = sorted(n for ours, theirs in places if ours in shapes for n in theirs)
    assert sum(shape.numel() for shape in shapes.values()) == known["parameters"]
    assert hashlib.sha256("\n".join(names).encode()).hexdigest() == known["names"]


def test_all_configurations_are_those_of_the_release():
    for name, told in CONFIGS.items():
        known = made_states.PUBLISHED[name]
        entries = ("sde", "continuous", "fir", "image_size")
        assert {n: told[n] for n in entries} == {n: known[n] for n in entries}


def test_a_file_of_no_known_folder_is_asked_for_its_configuration(tmp_path):
    path = made_states.write("ddpmpp_continuous", tmp_path / "checkpoint_8.pth")
    with pytest.raises(
        UnsupportedCheckpoint, match=r'write --config as JSON, e.g. \{"config": "vp/cifar10'
    ):
        open_checkpoint(path)


@pytest.mark.parametrize("averaged", [True, False])
def test_a_list_of_states_gives_its_average_where_it_has_one(averaged, tmp_path):
    path = made_states.write("", tmp_path / "ckpt.pth", made_states.ddim("ho", averaged))
    alone = open_checkpoint(made_states.write("ho", tmp_path / "model-790000.ckpt"))
    found = open_checkpoint(path)
    assert all(torch.equal(found.tensors[n], alone.tensors[n]) for n in alone.tensors)
    assert (found.options, found.family) == (alone.options, "ddpm")
    assert found.image_shape == (3, 32, 32) and found.unused_keys[0].startswith("the optimizer")


def shortened(tree):
    del tree["ema"]["shadow_params"][-1]


def reshaped(tree):
    tree["ema"]["shadow_params"][4] = torch.zeros(3)


def without_average(tree):
    tree["ema"] = {"decay": 0.9}


def renamed(tree):
    tree["model"]["module.all_modules.99.weight"] = torch.zeros(1)
    tree["ema"]["shadow_params"].append(torch.zeros(1))


@pytest.mark.parametrize(
    "change, message",
    [
        (shortened, r"for \d+ parameters; the first without a partner is 'all_modules.\d+.bias'"),
        (reshaped, r"the average of 'all_modules.2.weight' has shape \(3,\)"),
        (without_average, "its 'ema' has no list of tensors 'shadow_params'"),
        (renamed, "the tensor 'all_modules.99.weight' has no place"),
    ],
)
def test_an_average_that_does_not_fit_is_refused_by_the_name_of_a_tensor(tmp_path, change, message):
    tree = made_states.score_sde("ddpmpp_continuous")
    change(tree)
    path = made_states.write("", tmp_path / "x.pth", tree)
    with pytest.raises(UnsupportedCheckpoint, match=message):
        open_checkpoint(path, made_states.arguments("ddpmpp_continuous"))


@pytest.mark.parametrize(
    "case, change, message",
    [
        ("ddpmpp", {"config": "vp/cifar10_ddpmp"}, "did you mean 'vp/cifar10_ddpmpp'"),
        ("ddpmpp", {"num_res_block": 3}, "did you mean 'num_res_blocks'"),
        ("ddpmpp", {"sde": "subvpsde"}, "sde is 'subvpsde'; read are vpsde and vesde"),
        ("ddpmpp", {"progressive": "residual"}, "progressive is 'residual'"),
        ("ddpmpp", {"embedding_type": "fourier"}, "is 'fourier'; of vpsde .* read is 'positional'"),
        ("ddpmpp", {"sde": "vesde", "continuous": True}, "is 'positional'; of vesde .* 'fourier'"),
        ("ddpmpp", {"nf": "wide"}, "nf is 'wide'"),
        ("ho", {"image_sice": 3}, "did you mean 'image_size'"),
        ("ho", {"image_size": "large"}, "image_size is 'large'; expected one as 64"),
        ("improved_hybrid", {"rescale_timesteps": None}, "rescale_timesteps is None"),
        ("improved_hybrid", {"predict_xstart": True}, "predict_xstart is True"),
        ("improved_hybrid", {"num_channels": "many"}, "num_channels is 'many'"),
        ("improved_hybrid", {"num_heads": 7}, "'input_blocks.3.1.qkv.weight' has shape"),
        ("improved_hybrid", {"num_channels": 48}, "48 channels make no 32 equal groups"),
    ],
)  # fmt: skip
def test_an_argument_that_does_not_fit_is_named(tmp_path, capsys, case, change, message):
    path = made_states.write(case, tmp_path / "model.pt")
    told = {**(made_states.arguments(case) or {}), **change}
    words = ["convert", str(path), str(tmp_path / "mine"), "--config", json.dumps(told)]
    assert main(words) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and not (tmp_path / "mine").exists()
    assert re.search(message, err), err


def test_the_steps_of_a_training_are_kept_by_the_card_and_checked(tmp_path):
    path = made_states.write("improved_hybrid", tmp_path / "model.pt")
    told = made_states.arguments("improved_hybrid")
    _, made = convert_checkpoint(path, tmp_path / "mine", config=told)
    assert dict(made.schedule_kwargs) == {"steps": 4000, "time_scale": 0.25}
    update_card(made, schedule_kwargs={"step": 4000})
    with pytest.raises(ValueError, match=r"its schedule_kwargs takes no option 'step'; did you"):
        load_prior(tmp_path / "mine")


def test_the_scripts_of_guided_diffusion_write_lists_as_words(tmp_path):
    path = made_states.write("improved_hybrid", tmp_path / "model.pt")
    told = made_states.arguments("improved_hybrid")
    words = {**told, "attention_resolutions": "8", "channel_mult": "1,2", "dropout": 0.3}
    assert open_checkpoint(path, words).options == open_checkpoint(path, told).options
