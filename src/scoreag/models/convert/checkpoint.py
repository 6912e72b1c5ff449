"""Checkpoints of other projects: recognize the format, and write the card and the weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from scoreag.io.bounded import get_file_size, parse_json
from scoreag.io.safe_unpickler import UnsupportedCheckpoint, load_tensors
from scoreag.models.convert import ddpm_pytorch, diffusers, edm, guided_diffusion, score_sde
from scoreag.models.convert.conversion import CheckpointSpec
from scoreag.models.model_cards import Card, check_state_dict, write_card
from scoreag.models.safetensors import read_any_safetensors
from scoreag.models.trust import infer_shapes
from scoreag.registry import load_component, short_repr, truncate_text

TORCH_FORMATS = (
    "score-SDE (.pth), guided-diffusion and improved-diffusion (.pt), and Ho et al.'s network in "
    "PyTorch (.ckpt)"
)
SUPPORTED_FORMATS = (
    f"pickles of EDM (.pkl), {TORCH_FORMATS}, safetensors whose metadata has the class of EDM and "
    "its arguments, and folders of diffusers with a UNet2DModel"
)
LEGACY_TORCH_MAGIC = b"\x80\x02\x8a\x0a"  # how files of torch.save began before they were archives


def open_checkpoint(
    path: Path, config: Mapping[str, Any] | None = None, class_count: int = 0
) -> CheckpointSpec:
    """What a file or a folder holds; nothing in it is executed.

    Args:
        config: the network's training arguments, where the file does not have them.
        class_count: the number of class names that the user gives, 0 for none.
    """
    try:
        return _open(path, config, class_count)
    except (ValueError, OSError, MemoryError):
        raise
    except Exception as error:  # a file that was tampered with can raise anything
        reason = truncate_text(f"{type(error).__name__} {error}", 200)
        raise UnsupportedCheckpoint(f"{path} is damaged, or no checkpoint: {reason}") from error


def _open(path: Path, config: Mapping[str, Any] | None, class_count: int) -> CheckpointSpec:
    if not path.exists():
        raise ValueError(f"there is no file {path}")
    head = b""
    if not path.is_dir():
        get_file_size(path)  # refuses pipes and devices
        with path.open("rb") as file:
            head = file.read(9)
    if head[:2] == b"PK" or head[:4] == LEGACY_TORCH_MAGIC:
        return _open_torch_file(path, config)
    if diffusers.is_folder(path):
        return diffusers.open_folder(path, config, class_count)
    if config:
        raise ValueError(f"{path} says itself what it is of; leave out --config")
    if head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        return edm.open_pickle(path)
    if head[8:9] == b"{":
        return _open_safetensors(path)
    raise ValueError(f"{path} is no checkpoint of a kind that is read: {SUPPORTED_FORMATS}")


def _open_safetensors(path: Path) -> CheckpointSpec:
    tensors = read_any_safetensors(path)
    with safe_open(path, "pt") as opened:
        metadata = opened.metadata() or {}
    if metadata.get("class") not in edm.FAMILIES or "arguments" not in metadata:
        description = describe_format(tensors)
        if not description.startswith("looks"):
            description = "does not say what network it is of"
        raise ValueError(f"{path} {description}; read are {SUPPORTED_FORMATS}")
    try:
        arguments = parse_json(metadata["arguments"])
    except ValueError as error:
        raise UnsupportedCheckpoint(f"{path}: its arguments are no JSON: {error}") from error
    if not isinstance(arguments, dict):
        raise UnsupportedCheckpoint(
            f"{path}: its arguments are {short_repr(arguments)}; expected a table"
        )
    return edm.build_spec(metadata["class"], arguments, tensors, str(path))


def _open_torch_file(path: Path, config: Mapping[str, Any] | None) -> CheckpointSpec:
    tree, unused_keys = load_tensors(path), tuple[str, ...]()
    if score_sde.is_training_checkpoint(tree) and _is_state_dict(tree["model"]):
        return score_sde.open_state_dict(tree, path, config)
    if isinstance(tree, list) and tree:  # ermongroup/ddim: network, optimizer, epoch, step, average
        averaged = len(tree) > 4 and _is_state_dict(tree[-1])
        unused = "the optimizer and the step"
        unused_keys = (unused + ", and the weights of that step" if averaged else unused,)
        tree = tree[-1 if averaged else 0]
    if _is_state_dict(tree):
        if all(name.startswith("module.") for name in tree):
            tree = {name.removeprefix("module."): tensor for name, tensor in tree.items()}
        if ddpm_pytorch.FIRST_KEY in tree:
            return ddpm_pytorch.open_state_dict(tree, path, config, unused_keys)
        if guided_diffusion.FIRST_KEY in tree and any(
            name.startswith("output_blocks.") for name in tree
        ):
            return guided_diffusion.open_state_dict(tree, path, config)
        if any(name.startswith(score_sde.FIRST_KEY) for name in tree):
            return score_sde.open_state_dict(tree, path, config)
    raise UnsupportedCheckpoint(f"{path} {describe_format(tree)}; read are {TORCH_FORMATS}")


def _is_state_dict(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(n, str) and isinstance(t, Tensor) for n, t in value.items())
    )


def convert_checkpoint(
    path: Path,
    folder: Path,
    class_names: Sequence[str] = (),
    license: str = "",
    fp16: bool = False,
    config: Mapping[str, Any] | None = None,
) -> tuple[CheckpointSpec, Card]:
    """Write the card and the weights of a checkpoint into ``folder``.

    Args:
        class_names: by number; by default the numbers themselves.
        license: of the weights; by default what the format implies.
        fp16: store the weights with 11 significant bits.
        config: as in ``open_checkpoint``.
    """
    spec = open_checkpoint(path, config, len(class_names))
    if class_names and len(class_names) != spec.classes:
        raise ValueError(f"{path} knows {spec.classes} classes, and {len(class_names)} names came")
    try:
        build = load_component("networks", spec.network).build
        shapes = infer_shapes(build, spec.options, spec.tensors)
    except ValueError as error:
        raise UnsupportedCheckpoint(f"{path.name}: {error}") from error
    check_state_dict(shapes, spec.tensors, path.name)
    card = Card(
        name=folder.resolve().name,
        kind="score-model",
        network=spec.network,
        file="model.safetensors",
        license=license or spec.license,
        image_shape=spec.image_shape,
        source=f"converted from {path.name} ({spec.format})",
        classes=tuple(class_names or map(str, range(spec.classes))),
        family=spec.family,
        sigma_data=spec.sigma_data,
        x0_limit=spec.x0_limit,
        schedule_kwargs=spec.schedule_kwargs,
        options=spec.options,
        folder=folder,
    )
    return spec, write_card(card, spec.tensors, fp16)


def summarize(spec: CheckpointSpec) -> dict[str, object]:
    """What was found, as a table to print."""
    return {
        "format": spec.format,
        "family": spec.family,
        "network": spec.network,
        **{f"network.{name}": value for name, value in spec.options.items()},
        "parameters": sum(t.numel() for t in spec.tensors.values()),
        "images": f"{' x '.join(map(str, spec.image_shape))}, in [-1, 1]",
        "classes": spec.classes,
        "license": spec.license,
        "left out": ", ".join(spec.unused_keys) or "nothing",
    }


LATENT_MODEL = (
    "looks like a model of latent codes ({name!r}), as Stable Diffusion: it draws the codes of an "
    "autoencoder, not images, and a score model of images is wanted"
)
CLASSIFIER = (
    "looks like a classifier ({name!r}), and a score model is wanted; a classifier is given by "
    "--classifier FOLDER, which scoreag convert makes of it with --network, --mean and --std"
)
NOISY_CLASSIFIER = (
    "looks like guided-diffusion's classifier of noisy images, and a score model is wanted"
)
OPTIMIZER = (
    "looks like the state of an optimizer, which holds no network; take the file of the averaged "
    "weights that was saved beside it, such as ema_0.9999_010000.pt or model010000.pt"
)
LUCIDRAINS = (
    "looks like a U-Net of denoising-diffusion-pytorch ({name!r}), which is not read; train one "
    "with scoreag train score-model, or take one of scoreag list models"
)
K_DIFFUSION = "looks like a network of k-diffusion ({name!r}), which is not read"
PATCH_TRANSFORMER = (
    "looks like a transformer of patches ({name!r}), as DiT or U-ViT, which is not read"
)
SIGNATURES = (  # prefixes of names, and the description of such a file
    (("model.diffusion_model.", "first_stage_model.", "cond_stage_model."), LATENT_MODEL),
    (("quant_conv.", "post_quant_conv.", "encoder.conv_in.", "decoder.conv_in."), LATENT_MODEL),
    (("input_blocks.",), NOISY_CLASSIFIER),
    (("model.init_conv.", "init_conv.", "ema_model.model.init_conv."), LUCIDRAINS),
    (("inner_model.mapping.", "inner_model.patch_in.", "inner_model.proj_in."), K_DIFFUSION),
    (("x_embedder.", "t_embedder.", "in_blocks.0."), PATCH_TRANSFORMER),
    (("fc.", "linear.", "classifier.", "head.", "logits.", "heads."), CLASSIFIER),
)
WRAPPER_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "ema", "params_ema")


def describe_format(tree: Any) -> str:
    """The predicate of a sentence about an unsupported file, by its content."""
    if not isinstance(tree, Mapping):
        return f"holds a {type(tree).__name__}, not a state dict"
    if isinstance(tree.get("param_groups"), list) and isinstance(tree.get("state"), Mapping):
        return OPTIMIZER
    inner = next((key for key in WRAPPER_KEYS if isinstance(tree.get(key), Mapping)), "")
    tree = tree[inner] if inner else tree
    names = [str(name).removeprefix("module.") for name in tree]
    for prefixes, description in SIGNATURES:
        if found := next((name for name in names if name.startswith(prefixes)), ""):
            return description.format(name=found)
    if not any(isinstance(value, Tensor) for value in tree.values()):
        return "holds no tensors by name"
    return f"is of a network that is not known here (its first tensor is {names[0]!r})"
