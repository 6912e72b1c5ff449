"""A checkpoint of other people's making: what it is, and the card and the weights made of it."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from scoreag.io.bounded import get_file_size, parse_json
from scoreag.io.safe_unpickler import UnsupportedCheckpoint, load_tensors
from scoreag.models.build import infer_shapes
from scoreag.models.convert import (
    ddpm_pytorch,
    diffusers,
    edm,
    guided_diffusion,
    score_sde,
)
from scoreag.models.convert.spec import CheckpointSpec
from scoreag.models.model_cards import Card, check_state_dict, write_card
from scoreag.models.safetensors import read_any_safetensors
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
    """What a file or a folder holds; nothing of it is run.

    Args:
        config: that the network was trained with, where the file does not say it.
        class_count: how many classes are named, if they are.

    Raises:
        ValueError: it is of no kind that is known, or damaged.
    """
    try:
        return _open(path, config, class_count)
    except (ValueError, OSError, MemoryError):
        raise
    except Exception as error:  # a file that was tampered with can raise anything
        told = truncate_text(f"{type(error).__name__} {error}", 200)
        raise UnsupportedCheckpoint(f"{path} is damaged, or no checkpoint: {told}") from error


def _open(path: Path, config: Mapping[str, Any] | None, class_count: int) -> CheckpointSpec:
    head = _read_magic(path)
    if head[:2] == b"PK" or head[:4] == LEGACY_TORCH_MAGIC:
        return open_torch_file(path, config)
    if diffusers.is_folder(path):
        return diffusers.open_folder(path, config, class_count)
    if config:
        raise ValueError(f"{path} says itself what it is of; leave out --config")
    if head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        return edm.open_pickle(path)
    if head[8:9] == b"{":
        return _open_safetensors(path)
    raise ValueError(f"{path} is no checkpoint of a kind that is read: {SUPPORTED_FORMATS}")


def _read_magic(path: Path) -> bytes:
    """The first bytes of a file; of a folder none."""
    if not path.exists():
        raise ValueError(f"there is no file {path}")
    if path.is_dir():
        return b""
    get_file_size(path)
    with path.open("rb") as file:
        return file.read(9)


def _open_safetensors(path: Path) -> CheckpointSpec:
    tensors = read_any_safetensors(path)
    try:
        with safe_open(path, "pt") as opened:
            about = opened.metadata() or {}
    except SafetensorError as error:
        raise ValueError(
            f"{path} is no safetensors file ({truncate_text(str(error), 200)})"
        ) from error
    if about.get("class") not in edm.FAMILIES or "arguments" not in about:
        seen = describe_format(tensors)
        said = seen if seen.startswith("looks") else "does not say what network it is of"
        raise ValueError(f"{path} {said}; read are {SUPPORTED_FORMATS}")
    try:
        told = parse_json(about["arguments"])
    except ValueError as error:
        raise UnsupportedCheckpoint(f"{path}: its arguments are no JSON: {error}") from error
    if not isinstance(told, dict):
        raise UnsupportedCheckpoint(
            f"{path}: its arguments are {short_repr(told)}; expected a table"
        )
    return edm.build_spec(about["class"], told, tensors, str(path))


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
        class_names: by number; without them the numbers themselves.
        license: of the weights; by default what the format says.
        fp16: store the weights with 11 significant bits.
        config: as in ``open_checkpoint``.

    Raises:
        ValueError: the file is not read, or does not fit the network that it names.
    """
    found = open_checkpoint(path, config, len(class_names))
    if class_names and len(class_names) != found.classes:
        raise ValueError(f"{path} knows {found.classes} classes, and {len(class_names)} names came")
    names = class_names or [str(number) for number in range(found.classes)]
    build = load_component("networks", found.network).build
    try:
        wanted = infer_shapes(build, found.options, found.tensors)
    except ValueError as error:
        raise UnsupportedCheckpoint(f"{path.name}: {error}") from error
    check_state_dict(wanted, found.tensors, path.name)
    card = _make_card(found, path.name, folder, names, license)
    return found, write_card(card, found.tensors, fp16)


def _make_card(
    spec: CheckpointSpec, file: str, folder: Path, class_names: Sequence[str], license: str
) -> Card:
    return Card(
        name=folder.resolve().name,
        kind="score-model",
        network=spec.network,
        file="model.safetensors",
        license=license or spec.license,
        image_shape=spec.image_shape,
        source=f"converted from {file} ({spec.format})",
        classes=tuple(class_names),
        family=spec.family,
        sigma_data=spec.sigma_data,
        schedule_kwargs=spec.schedule_kwargs,
        options=spec.options,
        folder=folder,
    )


def summarize(spec: CheckpointSpec) -> dict[str, object]:
    """What was found, for the person who asked."""
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


def open_torch_file(path: Path, config: Mapping[str, Any] | None = None) -> CheckpointSpec:
    """The network of a file of tensors.

    Args:
        config: that it was trained with, where neither the file nor its name tells it.

    Raises:
        ValueError: nothing says what the network is, or the tensors are not those of such a one.
    """
    if (whole := _unpacked_size(path)) > path.stat().st_size:  # a thousand times its size, perhaps
        raise UnsupportedCheckpoint(
            f"{path} unpacks to {whole:,} bytes, which torch.save does not do"
        )
    tree = load_tensors(path)
    if score_sde.is_training_checkpoint(tree) and _is_state_dict(tree["model"]):
        return score_sde.open_state_dict(tree, path, config)
    given, left = _select_state_dict(tree) if isinstance(tree, list) else (tree, ())
    if not _is_state_dict(given):
        raise UnsupportedCheckpoint(f"{path} {describe_format(given)}; read are {TORCH_FORMATS}")
    if all(name.startswith("module.") for name in given):
        given = {name.removeprefix("module."): tensor for name, tensor in given.items()}
    if ddpm_pytorch.FIRST_KEY in given:
        return ddpm_pytorch.open_state_dict(given, path, config, left)
    if guided_diffusion.FIRST_KEY in given and any(
        name.startswith("output_blocks.") for name in given
    ):
        return guided_diffusion.open_state_dict(given, path, config)
    if any(name.startswith(score_sde.FIRST_KEY) for name in given):
        return score_sde.open_state_dict(given, path, config)
    raise UnsupportedCheckpoint(f"{path} {describe_format(given)}; read are {TORCH_FORMATS}")


def _unpacked_size(path: Path) -> int:
    """How many bytes an archive unpacks to; 0 of what is none, or damaged: its reading says so."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(one.file_size for one in archive.infolist())
    except Exception:  # a damaged archive can raise anything
        return 0


def _select_state_dict(states: list[Any]) -> tuple[Any, tuple[str, ...]]:
    """What the training of ermongroup/ddim writes: network, optimizer, epoch, step, average."""
    if not states:
        return states, ()
    averaged = len(states) > 4 and _is_state_dict(states[-1])
    what = "the optimizer and the step" + (", and the weights of that step" if averaged else "")
    return states[-1 if averaged else 0], (what,)


def _is_state_dict(value: Any) -> bool:
    """Whether this is a state dict."""
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(n, str) and isinstance(t, Tensor) for n, t in value.items())
    )


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
SIGNATURES = (  # how a name of such a file begins, and what is said of it; the first that fits
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
    """The predicate of a sentence about what ``torch.save`` wrote."""
    if not isinstance(tree, Mapping):
        return f"holds a {type(tree).__name__}, not a state dict"
    if isinstance(tree.get("param_groups"), list) and isinstance(tree.get("state"), Mapping):
        return OPTIMIZER
    inner = next((key for key in WRAPPER_KEYS if isinstance(tree.get(key), Mapping)), "")
    tree = tree[inner] if inner else tree
    names = [str(name).removeprefix("module.") for name in tree]
    for starts, said in SIGNATURES:
        for name in names:
            if name.startswith(starts):
                return said.format(name=name)
    if not any(isinstance(value, Tensor) for value in tree.values()):
        return "holds no tensors by name"
    return f"is of a network that is not known here (its first tensor is {names[0]!r})"
