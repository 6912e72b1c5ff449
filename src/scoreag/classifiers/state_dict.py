"""A classifier from a state dict and the network that it belongs to, as a module or as a card."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scoreag.classifiers.build import accepts_option, build, validate_architecture
from scoreag.classifiers.normalized import NormalizedClassifier
from scoreag.io.bounded import get_file_size, open_zip_archive
from scoreag.io.safe_unpickler import load_tensors
from scoreag.models.convert.conversion import UNKNOWN_LICENSE
from scoreag.models.model_cards import OPTIONAL_KEY, Card, load_weights, write_card
from scoreag.models.safetensors import read_any_safetensors
from scoreag.models.trust import limit_network_size

STATE_DICT, TORCH_EXPORT, TORCHSCRIPT = "state dict", "torch.export", "torch.jit"
ONNX, SCORE_CHECKPOINT, UNKNOWN_FORMAT = "onnx", "score model", "other"
WEIGHT_SUFFIXES = (
    ".pt", ".pth", ".th", ".pt2", ".ckpt", ".bin", ".model", ".safetensors", ".onnx", ".pkl"
)  # fmt: skip
FORMAT_HINTS = {
    TORCHSCRIPT: "a program of torch.jit, which would be run as it is: save the module's "
    "state_dict() and give its network; or load it in a function of your own with torch.jit.load, "
    "and name that: package.module:factory",
    TORCH_EXPORT: "a program of torch.export, and no program in a file is run: save the module's "
    "state_dict() and give its network; or load a file that you trust in a function of your own "
    "with torch.export.load(FILE).module(), and name that: package.module:factory",
    ONNX: "an ONNX file: save the state_dict() of the module that it was made from and give its "
    "network; or turn the file into a module in a function of your own (pip install onnx2torch; "
    "onnx2torch.convert(FILE).eval()), and name that: package.module:factory",
    SCORE_CHECKPOINT: "the checkpoint of a score model: give it as --model, and a classifier here",
    UNKNOWN_FORMAT: "no file of a kind that is read: state dicts (torch.save, safetensors)",
}
DIFFUSION_PREFIXES = ("temb.dense.", "all_modules.", "input_blocks.", "model.diffusion_model.")
SCORE_MODEL_MESSAGE = (
    "looks like a score model, and a classifier is wanted here; score models are --model"
)
STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model", "net", "network")
AVERAGING_COUNTERS = ("n_averaged",)  # of AveragedModel; not a weight


def detect_file_format(file: Path) -> str:
    """The format of a file by its first bytes; torch.save may have written more than tensors."""
    get_file_size(file)
    if zipfile.is_zipfile(file):
        with open_zip_archive(file) as archive:
            names = archive.namelist()
        inside = {name.partition("/")[2] for name in names}
        if "archive_format" in inside or "serialized_exported_program.json" in names:
            return TORCH_EXPORT
        if "constants.pkl" in inside:
            return TORCHSCRIPT
        return STATE_DICT if "data.pkl" in inside else UNKNOWN_FORMAT
    with file.open("rb") as content:
        head = content.read(64)
    if head[8:9] == b"{":
        return STATE_DICT if file.suffix == ".safetensors" else UNKNOWN_FORMAT
    if file.suffix == ".onnx" or (head[:1] == b"\x08" and b"torch" in head):
        return ONNX
    return SCORE_CHECKPOINT if file.suffix == ".pkl" else STATE_DICT


def load_checkpoint(
    file: str | Path,
    network: str | nn.Module,
    strip: str | Sequence[str] | None = None,
    **options: Any,
) -> nn.Module:
    """The network with the tensors of ``file``, in eval mode; no code in the file is run.

        module = load_checkpoint("resnet20.th", "cifar_resnet", depth=20, shortcut="A")
        classifier = scoreag.wrap_classifier(module, mean=(0.485, 0.456, 0.406), std=...)

    Args:
        network: an architecture's name, as in ``build``, built with ``options``, or a module.
        strip: a prefix of the tensor names to remove, or several, the outermost first; tensors
            without it are left out. By default the common prefix of DataParallel, torch.compile,
            AveragedModel, Lightning and the like is found and removed.
    """
    file = Path(file)
    if not isinstance(network, str):
        module, tensors = network, _read_state_dict(file)
    else:
        validate_architecture(network, options)
        tensors = _read_state_dict(file)
        with limit_network_size(tensors):
            module = build(network, options)
    if strip is None:
        tensors = _strip_common_prefix(tensors, module.state_dict())
    else:
        tensors = _strip_prefixes(tensors, [strip] if isinstance(strip, str) else strip, file)
    try:
        load_weights(module, tensors, str(file))
    except ValueError as error:
        if any(name.removeprefix("module.").startswith(DIFFUSION_PREFIXES) for name in tensors):
            raise ValueError(f"{file} {SCORE_MODEL_MESSAGE}") from error
        raise
    return module.eval()


def _read_state_dict(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise ValueError(f"no file {file}")
    kind = detect_file_format(file)
    if kind == SCORE_CHECKPOINT:
        raise ValueError(f"{file} {SCORE_MODEL_MESSAGE}")
    if kind != STATE_DICT:
        raise ValueError(f"{file} is {FORMAT_HINTS[kind]}")
    tree: Any = read_any_safetensors(file) if file.suffix == ".safetensors" else load_tensors(file)
    for key in STATE_DICT_KEYS:
        if isinstance(tree, dict) and isinstance(tree.get(key), dict):
            tree = tree[key]
    if not isinstance(tree, dict) or not all(isinstance(t, Tensor) for t in tree.values()):
        raise ValueError(
            f"{file} holds no state_dict, neither alone nor as one of {STATE_DICT_KEYS}"
        )
    return tree


def _strip_prefixes(
    tensors: dict[str, Tensor], prefixes: Sequence[str], file: Path
) -> dict[str, Tensor]:
    for prefix in prefixes:
        inner = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        if not inner:
            firsts = ", ".join(sorted(tensors)[:3])
            raise ValueError(f"{file}: no name begins with {prefix!r}; names are {firsts}, ...")
        tensors = inner
    return tensors


def _strip_common_prefix(
    tensors: dict[str, Tensor], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors by the expected names, where all have the same prefix; several are an error."""
    weights = {n: t for n, t in tensors.items() if n not in AVERAGING_COUNTERS or n in expected}
    needed = [name for name in expected if not name.endswith(OPTIONAL_KEY)]
    if not needed or all(name in weights for name in needed):
        return weights
    first = needed[0]
    candidates = [name.removesuffix(first) for name in weights if name.endswith(f".{first}")]
    prefixes = [p for p in candidates if all(p + name in weights for name in needed)]
    if not prefixes:
        return tensors
    prefix = prefixes[0]
    others = [name for name in weights if not name.startswith(prefix)]
    if len(prefixes) > 1 or others:
        beside = f" beside others such as {others[0]!r}" if len(prefixes) == 1 else ""
        raise ValueError(
            f"the weights of this network have {' or '.join(map(repr, prefixes))} before their "
            f"names{beside}; write strip={prefix!r}, or --strip {prefix}, to take these alone"
        )
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items()}


def open_state_dict(
    file: Path,
    network: str | None = None,
    config: Mapping[str, Any] | None = None,
    strip: str | None = None,
) -> nn.Module:
    """The module of a file, in the network of that name, which is required for a state dict."""
    if (kind := detect_file_format(file)) != STATE_DICT:
        raise ValueError(f"{file} is {FORMAT_HINTS[kind]}")
    if not network:
        raise ValueError(
            f"{file} holds tensors; say which network they are of: a file of scoreag.classifiers."
            "networks such as cifar_resnet, timm:NAME, torchvision:NAME, or my_module:function"
        )
    return load_checkpoint(file, network, strip, **(config or {})).requires_grad_(False)


def convert_state_dict(
    file: Path,
    folder: Path,
    mean: Sequence[float],
    std: Sequence[float],
    network: str | None = None,
    config: Mapping[str, Any] | None = None,
    class_names: Sequence[str] = (),
    image_shape: tuple[int, int, int] | None = None,
    license: str = "",
    fp16: bool = False,
    strip: str | None = None,
) -> Card:
    """Write the card and the weights of a classifier into ``folder``, which every command takes.

    Args:
        network, config: as in ``build``; classes and shape are added where it takes them.
        image_shape: by default that of the config.
        strip: as in ``load_checkpoint``.
    """
    options = dict(config or {})
    if network:
        count, sides = len(class_names), image_shape and list(image_shape)
        known = {"classes": count, "num_classes": count, "image_shape": sides}
        options = {n: v for n, v in known.items() if v and accepts_option(network, n)} | options
    module = open_state_dict(file, network, options, strip)
    assert network is not None  # else the file was refused
    if len(mean) != len(std) or not all(one > 0 for one in std):
        raise ValueError(
            f"mean {[*mean]} and std {[*std]}: expected one number a channel, std above 0"
        )
    shape = image_shape or _infer_image_shape(options)
    count = _count_logits(NormalizedClassifier(module, mean, std).eval(), shape, file)
    if class_names and len(class_names) != count:
        raise ValueError(
            f"{file} tells {count} classes apart, and {len(class_names)} names came; give the "
            "names of its own, or leave out --class-names"
        )
    card = Card(
        name=folder.resolve().name,
        kind="classifier",
        network=network,
        file="model.safetensors",
        license=license or UNKNOWN_LICENSE,
        image_shape=shape,
        source=f"converted from {file.name}",
        classes=tuple(class_names or map(str, range(count))),
        mean=tuple(mean),
        std=tuple(std),
        options=options,
        folder=folder,
    )
    return write_card(card, module.state_dict(), fp16)


def _infer_image_shape(options: Mapping[str, Any]) -> tuple[int, int, int]:
    shape: Any = options.get("image_shape") or ()
    if len(shape) != 3 or None in shape:
        raise ValueError("nothing says what its images are like; write --shape, e.g. 3x32x32")
    channels, height, width = (size or 0 for size in shape)
    return channels, height, width


@torch.no_grad()
def _count_logits(classifier: NormalizedClassifier, shape: tuple[int, int, int], file: Path) -> int:
    try:
        logits = classifier(torch.full((2, *shape), 0.5))
    except Exception as error:  # a third-party network may raise anything
        reason, size = " ".join(str(error).split()), " x ".join(map(str, shape))
        raise ValueError(f"{file} does not take images of {size}: {reason}") from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 2:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"{file} gives {found} for 2 images; expected a row of logits an image")
    return int(logits.shape[1])
