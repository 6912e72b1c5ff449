"""Folders of the package diffusers: a UNet2DModel and the scheduler that says its noise levels."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoreag.io.bounded import MAX_TEXT_BYTES, parse_json, read_text
from scoreag.io.safe_unpickler import load_tensors
from scoreag.models.convert.conversion import CheckpointSpec
from scoreag.models.convert.diffusers_scheduler import find_x0_limit, parse_scheduler
from scoreag.models.safetensors import read_any_safetensors
from scoreag.models.trust import limit_network_size
from scoreag.registry import load_component, short_repr, truncate_text

LATENT_PARTS = ("vae", "vqvae", "movq")  # of pipelines in a latent space, as Stable Diffusion
NULL_LABEL = "null_label"
MAX_SIDE = 1 << 14  # pixels
BUILD_ERRORS = (RuntimeError, ValueError, TypeError, ZeroDivisionError, AttributeError, IndexError)
SIZE_SETTINGS = ("layers_per_block", "block_out_channels", "down_block_types", "up_block_types")
UNET_CONFIG_KEYS = frozenset((  # all settings of a UNet2DModel
    "sample_size", "in_channels", "out_channels", "center_input_sample", "time_embedding_type",
    "time_embedding_dim", "freq_shift", "flip_sin_to_cos", "down_block_types", "mid_block_type",
    "up_block_types", "block_out_channels", "layers_per_block", "mid_block_scale_factor",
    "downsample_padding", "downsample_type", "upsample_type", "dropout", "act_fn",
    "attention_head_dim", "norm_num_groups", "attn_norm_num_groups", "norm_eps",
    "resnet_time_scale_shift", "add_attention", "class_embed_type", "num_class_embeds",
    "num_train_timesteps",
    # and what training writes beside them into the folder of an average
    "decay", "min_decay", "optimization_step", "update_after_step", "use_ema_warmup", "inv_gamma",
    "power",
))  # fmt: skip
WEIGHTS_NAME = "diffusion_pytorch_model"
FILE_PATTERNS = [  # lists of shards and single files, of a variant such as "fp16" or of none
    re.escape(WEIGHTS_NAME) + shape.replace("END", end)
    for end in ("safetensors", "bin")
    for shape in (r"\.END\.index(?:\.([^.]+))?\.json", r"(?:\.([^.-]+))?\.END")
]
LEGACY_KEYS = {  # layers of attention before diffusers 0.17, which still reads them
    "query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"
}  # fmt: skip


def is_folder(path: Path) -> bool:
    """Whether there is a model of diffusers, alone or in the folder of a pipeline."""
    return (_part_folder(path, "unet") / "config.json").is_file()


def open_folder(
    path: Path, overrides: Mapping[str, Any] | None = None, class_count: int = 0
) -> CheckpointSpec:
    """The network of a folder, and its family by the scheduler beside it.

    Args:
        overrides: ``{"null_label": true}``, if the last label stands for "no label".
        class_count: the number of class names; one less than there are labels implies the same.
    """
    file = _part_folder(path, "unet") / "config.json"
    _check_pipeline(path)
    config = _read_config(file)
    _check_network(config, path)
    shape, labels = _image_shape(config, file), config.get("num_class_embeds") or 0
    null = _has_null_label(labels, class_count, overrides or {}, path)
    scheduler = _find_scheduler(path)
    settings = _read_config(scheduler)
    family, schedule_kwargs, sigma_data = parse_scheduler(settings, str(scheduler))
    time = config.get("time_embedding_type", "positional")
    if time != "positional" and (time, family) != ("fourier", "unit_score"):
        raise ValueError(
            f"{path}: its time_embedding_type is {str(time)[:80]!r}; read are positional, and "
            "fourier with ScoreSdeVeScheduler or KarrasVeScheduler"
        )
    options = {
        "image_shape": list(shape),
        "classes": labels - null,
        "config": json.dumps({n: v for n, v in config.items() if not n.startswith("_")}),
        **({NULL_LABEL: True} if null else {}),
        **({"unit": True} if family == "unit_score" else {}),
    }
    tensors = _read_weights(file.parent)
    _try_network(options, config, tensors, path)
    return CheckpointSpec(
        format="diffusers, UNet2DModel",
        family=family,
        schedule_kwargs=schedule_kwargs,
        sigma_data=sigma_data,
        x0_limit=find_x0_limit(settings, str(scheduler)),
        network="diffusers_unet",
        options=options,
        tensors={f"unet.{name}": tensor for name, tensor in tensors.items()},
        image_shape=shape,
        classes=labels - null,
    )


def _part_folder(path: Path, part: str) -> Path:
    """A pipeline has a folder for each part; a model alone is in the folder itself."""
    return path / part if (path / part).is_dir() else path


def _pipeline_folder(path: Path) -> Path:
    """The folder of the pipeline that ``path`` is, or is a part of."""
    parent = path.resolve().parent
    if (path / "model_index.json").is_file() or (path / "unet").is_dir():
        return path
    return parent if (parent / "model_index.json").is_file() else path


def _read_config(file: Path) -> dict[str, Any]:
    try:
        config = parse_json(read_text(file, MAX_TEXT_BYTES))
    except FileNotFoundError as error:
        raise ValueError(f"{file} is missing; get the whole folder") from error
    except ValueError as error:
        raise ValueError(f"{file} is no JSON: {truncate_text(str(error), 200)}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{file} holds no table of settings")
    return config


def _check_pipeline(path: Path) -> None:
    folder = _pipeline_folder(path)
    index = folder / "model_index.json"
    listed = _read_config(index) if index.is_file() else {}
    if parts := [part for part in LATENT_PARTS if (folder / part).is_dir() or listed.get(part)]:
        raise ValueError(
            f"{path} draws codes of an autoencoder, its {parts[0]!r}, not images; a score model of "
            "images is wanted, such as google/ddpm-cifar10-32"
        )


def _check_network(config: Mapping[str, Any], path: Path) -> None:
    """Refuse what is no denoiser of images by class, or has unknown settings."""
    if (kind := config.get("_class_name")) != "UNet2DModel":
        raise ValueError(f"{path} holds a {str(kind)[:80]!r}; read are folders of UNet2DModel")
    for name, value in config.items():
        if not name.startswith("_") and name not in UNET_CONFIG_KEYS and value not in (None, False):
            raise ValueError(f"{path}: a setting {name[:80]!r} of UNet2DModel, which is not known")
    if kind := config.get("class_embed_type"):
        raise ValueError(
            f"{path}: its class_embed_type is {str(kind)[:80]!r}, so it takes no numbers of "
            "classes; read are networks with num_class_embeds alone, or without classes"
        )
    labels = config.get("num_class_embeds")
    if labels is not None and (type(labels) is not int or not 1 <= labels <= 1_000_000):
        raise ValueError(f"{path}: num_class_embeds is {str(labels)[:80]}; expected 1 or more")


def _image_shape(config: Mapping[str, Any], file: Path) -> tuple[int, int, int]:
    size, colors = config.get("sample_size"), config.get("in_channels", 3)
    sides: list[Any] = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or not all(type(n) is int and 0 < n <= MAX_SIDE for n in (*sides, colors)):
        raise ValueError(
            f"{file} tells no sample_size and in_channels; add them, e.g. "
            '"sample_size": 32, or [32, 64], and "in_channels": 3'
        )
    if (out := config.get("out_channels", 3)) not in (colors, 2 * colors):
        raise ValueError(
            f"{file}: in_channels is {colors} and out_channels {str(out)[:80]}, so its input is "
            "more than a noisy image; read are as many, and twice as many, with a variance"
        )
    return int(colors), sides[0], sides[1]


def _has_null_label(
    labels: int, class_count: int, overrides: Mapping[str, Any], path: Path
) -> bool:
    """Whether the last label means "no label": by the user, the class names, or 10 k + 1 labels."""
    if unknown := [name for name in overrides if name != NULL_LABEL]:
        raise ValueError(
            f"{path} says itself what it is of; leave out --config, or its "
            f'{short_repr(unknown[0])}: only {{"{NULL_LABEL}": true}} is allowed'
        )
    explicit = overrides.get(NULL_LABEL)
    if explicit is not None and not isinstance(explicit, bool):
        raise ValueError(f"{NULL_LABEL} is {short_repr(explicit)}; expected true or false")
    if explicit and labels < 2:
        raise ValueError(f"{path} knows {labels} labels, of which none can be a null label")
    if explicit is None and class_count:
        return labels == class_count + 1
    return labels > 10 and labels % 10 == 1 if explicit is None else explicit


def _find_scheduler(path: Path) -> Path:
    folders = [_part_folder(place, "scheduler") for place in (path, _pipeline_folder(path))]
    files = [folder / "scheduler_config.json" for folder in folders]
    return next((file for file in files if file.is_file()), files[0])


def _try_network(
    options: Mapping[str, Any], config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path
) -> None:
    """Refuse a network that cannot be built, or does not map images to images; by shapes alone."""
    shape = options["image_shape"]
    for name in SIZE_SETTINGS:
        value = config.get(name)
        count = len(value) if isinstance(value, list) else value
        if type(count) is int and count > len(tensors):
            raise ValueError(
                f"{path}: its {name} claims more layers than its {len(tensors)} tensors"
            )
    try:
        with torch.device("meta"), limit_network_size(tensors):
            network = load_component("networks", "diffusers_unet").build(**options)
            labels = torch.zeros(1, dtype=torch.int64) if options["classes"] else None
            out = network(torch.zeros(1, *shape), torch.ones(1), labels)
    except BUILD_ERRORS as error:
        if isinstance(error.__cause__, ModuleNotFoundError):  # the package diffusers
            raise
        reason = truncate_text(str(error), 200)
        raise ValueError(
            f"{path}: a network of its config.json cannot take images of {shape}: {reason}"
        ) from error
    if list(out.shape[1:]) != shape:
        raise ValueError(f"{path}: its network makes {list(out.shape[1:])} of images of {shape}")


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of a folder under today's names."""
    file = _find_weights(folder)
    tensors = _read_shards(file) if file.suffix == ".json" else _read_tensors(file)
    renamed = {}
    for name, tensor in tensors.items():
        parts = name.split(".")
        if len(parts) > 1:
            parts[-2] = LEGACY_KEYS.get(parts[-2], parts[-2])
        renamed[".".join(parts)] = tensor
    if (frequencies := renamed.pop("time_proj.W", None)) is not None:  # once under both names
        renamed.setdefault("time_proj.weight", frequencies)
    return renamed


def _find_weights(folder: Path) -> Path:
    """The file of the weights, or the list of their shards, preferably of no variant."""
    found: dict[str, Path] = {}
    for pattern in FILE_PATTERNS:  # in the order that diffusers prefers
        for file in sorted(folder.glob(f"{WEIGHTS_NAME}.*")):
            if match := re.fullmatch(pattern, file.name):
                found.setdefault(match[1] or "", file)
    if "" in found or len(found) == 1:
        return found.get("") or next(iter(found.values()))
    if found:
        raise ValueError(
            f"{folder} has weights of the variants {', '.join(found)[:200]}; leave only one there"
        )
    raise ValueError(
        f"{folder} has none of {WEIGHTS_NAME}.safetensors, {WEIGHTS_NAME}.bin; get the whole folder"
    )


def _read_shards(index: Path) -> dict[str, Tensor]:
    try:
        listed = parse_json(read_text(index))["weight_map"]
        pairs = [(str(name), str(tensor)) for tensor, name in listed.items()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is no list of shards; get the whole folder") from error
    shards: dict[str, set[str]] = {}
    for name, tensor in pairs:
        if Path(name).name != name or "\\" in name:
            raise ValueError(f"{index} lists {name[:200]!r}, which is not a file beside it")
        shards.setdefault(name, set()).add(tensor)
    found: dict[str, Tensor] = {}
    for name, wanted in shards.items():
        if not (shard := index.parent / name).is_file():
            raise ValueError(f"{shard} is missing, and {index.name} lists it; get the whole folder")
        tensors = _read_tensors(shard)
        if missing := sorted(wanted - tensors.keys()):
            raise ValueError(f"{shard} lacks {missing[0]!r}, which {index.name} lists")
        found |= {tensor: tensors[tensor] for tensor in wanted}
    return found


def _read_tensors(file: Path) -> dict[str, Tensor]:
    tree: Any = read_any_safetensors(file) if file.suffix == ".safetensors" else load_tensors(file)
    if not isinstance(tree, Mapping) or not all(isinstance(t, Tensor) for t in tree.values()):
        raise ValueError(f"{file} holds no tensors by name; get the file again")
    return {str(name): tensor for name, tensor in tree.items()}
