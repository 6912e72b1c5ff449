"""Folders of the package diffusers: a UNet2DModel and the scheduler that says its noise levels."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from scoreag.bounded import TEXT, parsed_json, read_text
from scoreag.files import load_tensors
from scoreag.foreign.found import Found
from scoreag.load import cut, hint, shown
from scoreag.tensors import read_any

WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
CODES = ("vae", "vqvae", "movq")  # parts of pipelines that draw codes, as Stable Diffusion
FAMILIES = {  # by beta_schedule and prediction_type
    ("linear", "epsilon"): "ddpm",
    ("squaredcos_cap_v2", "epsilon"): "ddpm_cosine",
    ("linear", "v_prediction"): "v_prediction",
}
LINEAR = {"num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02}


def is_folder(path: Path) -> bool:
    """Whether there is a model of diffusers, alone or in the folder of a pipeline."""
    return (_of(path, "unet") / "config.json").is_file()


def open_folder(path: Path) -> Found:
    """The network of a folder, and its family by the scheduler beside it.

    Raises:
        ValueError: it is another network, of a schedule that is not known, or a file is missing.
    """
    folder = _of(path, "unet")
    if parts := [part for part in CODES if (path / part).is_dir()]:
        raise ValueError(
            f"{path} draws codes of an autoencoder, its {parts[0]!r}, not images; a score model of "
            "images is wanted, such as google/ddpm-cifar10-32"
        )
    config = _table(folder / "config.json")
    if (kind := config.get("_class_name")) != "UNet2DModel":
        raise ValueError(f"{path} holds a {kind!r:.80}; read are folders of UNet2DModel")
    side, colours = config.get("sample_size"), config.get("in_channels")
    classes = config.get("num_class_embeds") or 0
    numbers = {"sample_size": side, "in_channels": colours, "num_class_embeds": classes}
    for name, number in numbers.items():
        least = 0 if name == "num_class_embeds" else 1
        if type(number) is not int or not least <= number <= 1 << 20:
            raise ValueError(
                f"{folder / 'config.json'} has a {name} of {shown(number)}; expected a number"
            )
    assert isinstance(side, int) and isinstance(colours, int)
    shape = (colours, side, side)
    if (
        config.get("class_embed_type") not in (None, "timestep")
        or config.get("time_embedding_type", "positional") != "positional"
    ):
        raise ValueError(f"{path}: its embeddings of time or class are of a kind that is not read")
    kept = {name: value for name, value in config.items() if not name.startswith("_")}
    return Found(
        format="diffusers, UNet2DModel",
        family=_family(path),
        network="diffusers_unet",
        options={"image_shape": list(shape), "classes": classes, "config": json.dumps(kept)},
        tensors={f"unet.{name}": tensor for name, tensor in _weights(folder).items()},
        image_shape=shape,
        classes=classes,
    )


def _of(path: Path, part: str) -> Path:
    """A pipeline has a folder for each part; a model alone lies in the folder itself."""
    return path / part if (path / part).is_dir() else path


def _table(file: Path) -> dict[str, Any]:
    try:
        found = parsed_json(read_text(file, TEXT))
    except FileNotFoundError as error:
        raise ValueError(f"{file} is missing; get the whole folder") from error
    except ValueError as error:
        raise ValueError(f"{file} is no JSON: {cut(str(error), 200)}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} holds no table of settings")
    return found


def _family(path: Path) -> str:
    """What the network predicts, at which levels."""
    file = _of(path, "scheduler") / "scheduler_config.json"
    told = _table(file)
    pair = told.get("beta_schedule", "linear"), told.get("prediction_type", "epsilon")
    if not all(isinstance(word, str) for word in pair) or pair not in FAMILIES:
        known = [" ".join(one) for one in FAMILIES]
        raise ValueError(
            f"{file}: {cut(' '.join(map(str, pair)), 80)}; {hint(' '.join(map(str, pair)), known)}"
        )
    wanted = LINEAR if pair[0] == "linear" else {"num_train_timesteps": 1000}
    for name, value in wanted.items():
        if told.get(name, value) != value:
            raise ValueError(f"{file}: {name} is {shown(told[name])}, and {value} is known here")
    if told.get("trained_betas") is not None:
        raise ValueError(f"{file}: it has trained_betas, which are not known here")
    return FAMILIES[pair]


def _weights(folder: Path) -> dict[str, Tensor]:
    for name in WEIGHTS:
        if (file := folder / name).is_file():
            return read_any(file) if name.endswith(".safetensors") else load_tensors(file)
    raise ValueError(f"{folder} has none of {', '.join(WEIGHTS)}; get the whole folder")
