"""The front door to models: a score model or a classifier, from a name, a folder, or an object."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from scoreag.classifiers import detector_wrapper, gradient_masking, robustbench
from scoreag.classifiers.checks import check_classifier as check_classifier
from scoreag.classifiers.normalized import NormalizedClassifier
from scoreag.classifiers.resolve import (
    ResolvedClassifier,
    find_weights_file,
    from_card,
    from_file,
    from_name,
    with_normalization,
)
from scoreag.data.source import lacks_class_names
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.prior import Prior
from scoreag.models.convert.checkpoint import convert_checkpoint
from scoreag.models.convert.diffusers import is_folder
from scoreag.models.convert.hub import fetch_card_folder, list_checkpoints
from scoreag.models.model_cards import Card, list_cards, load_card
from scoreag.registry import UnknownNameError, describe_value, load_component

DEVICES: dict[str, Callable[[], bool]] = {  # and whether there is one
    "cpu": lambda: True,
    "cuda": torch.cuda.is_available,
    "mps": torch.backends.mps.is_available,
}
DEVICE_NAMES = {"cuda": "GPU", "mps": "GPU of Apple's"}
PARALLEL_WRAPPERS = (
    nn.DataParallel,
    nn.parallel.DistributedDataParallel,
)  # which split a batch themselves


def load_prior(
    name: str | Path, device: str | torch.device = "auto", trust_code: bool = False
) -> Prior:
    """The score model of a name, of a folder with card.toml and weights, or of a checkpoint.

    Names are those of the zoo, and of public checkpoints, which are fetched on first use.

    Args:
        trust_code: whether code that the card names may be run; see SECURITY.md.

    Raises:
        ValueError: no such card, one of another kind, or a checkpoint that is not read; or the
            card names code, and it is not trusted.
        ConnectionError: a public checkpoint cannot be fetched.
    """
    _check_name(name, "a score model", "load_prior")
    file = Path(name)
    if (file.is_file() and file.suffix != ".toml") or is_folder(file):
        with TemporaryDirectory() as aside:
            convert_checkpoint(file, Path(aside) / file.stem)
            return load_prior(Path(aside) / file.stem, device)
    if str(name) in (public := list_checkpoints()):
        return load_prior(fetch_card_folder(public[str(name)]), device)
    found = _load_card(name, "score-model", trust_code)
    place = resolve_device(device)
    model = _build_score_model(found)
    if torch.get_default_dtype() != torch.float32:  # whose layers were made in another precision
        model = model.to(torch.float32)
    return Prior(
        model=model.to(place).eval().requires_grad_(False),
        sampler=load_component("samplers", "heun").sample,
        sigmas=karras(18).to(place, torch.float32 if place.type == "mps" else torch.float64),
        image_shape=found.image_shape,
        classes=found.classes,
        sigma_data=found.sigma_data,
        defaults=found.defaults,
        metadata=found.identity,
        judge=_resolve_judge(found),
    )


def _build_score_model(model_card: Card) -> nn.Module:
    """The network of a card, as its family is used."""
    model = load_component("score_models", model_card.family).load(model_card)
    if not isinstance(model, nn.Module):
        got = type(model).__name__
        raise ValueError(
            f"the family {model_card.family} returned {got}; expected a torch.nn.Module"
        )
    return model


def _resolve_judge(model_card: Card) -> str:
    """The judge of a score model's card: a folder beside it, or a name of the zoo.

    Nothing else, as a function would be run because somebody's card says so.
    """
    beside = model_card.folder / str(model_card.judge or "")
    if not model_card.judge or model_card.judge in list_cards("classifier"):
        return model_card.judge or ""
    if not (beside / "card.toml").is_file():
        raise ValueError(
            f"the card of {model_card.name} names the judge {model_card.judge!r:.60}; expected a folder "
            f"beside the card, or one of {', '.join(list_cards('classifier'))}"
        )
    return str(beside)


def load_classifier(
    name: str | Path,
    device: str | torch.device = "auto",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    network: str | None = None,
    config: Mapping[str, Any] | None = None,
    trust_code: bool = False,
) -> NormalizedClassifier:
    """A classifier from images in [0, 1] to logits, by any of its names.

        "cifar10-resnet20", "models/mine"      a card's name, or its folder
        "package.module:factory"               a function that returns the module
        "robustbench:cifar10/Linf/NAME"        a model of RobustBench, where that is installed
        "net.pth", "net.safetensors"           a state dict; ``network`` and its ``config``
        "obfuscated:cifar10-resnet20"              any of these, with its gradients hidden
        "bpda:cifar10-resnet20"            the same, to an attacker who knows how
        "with-detector:cifar10-resnet20,DETECTOR"    any of these, behind a detector of generated images

    Args:
        mean, std: as in ``wrap_classifier``; files do not know them, cards and RobustBench do.
        network: a file of ``scoreag.classifiers.networks``, "timm:NAME", "torchvision:NAME", or
            "my_module:function".
        trust_code: whether code that a card names may be run; what ``name`` and ``network`` name
            is run in any case, since you wrote it.

    Raises:
        ValueError: there is none, it cannot be read, or its normalization is said twice or not.
    """
    _check_name(name, "a classifier", "load_classifier")
    if not isinstance(network, str | None) or not isinstance(config, Mapping | None):
        raise ValueError(
            f"network is {describe_value(network)} and config {describe_value(config)}; "
            'expected a name and a table, e.g. "cifar_resnet" and {"depth": 20}'
        )
    place = resolve_device(device)
    found = with_normalization(
        _resolve_classifier(name, network, config, trust_code), str(name), mean, std
    )
    assert found.mean is not None and found.std is not None
    known = (found.mean, found.std, found.metadata, found.image_shape)
    return wrap_classifier(found.module, *known).to(place)


def class_names(name: str | Path) -> tuple[str, ...]:
    """The names of a classifier's classes by number, as its card says; empty where nothing does."""
    bare = str(name)
    for prefix in (*gradient_masking.MASKING_WRAPPERS, detector_wrapper.PREFIX):
        bare = bare.removeprefix(prefix)
    bare = bare.partition(",")[0]
    try:
        if bare.startswith(robustbench.PREFIX):
            return getattr(
                load_component("datasets", robustbench.parse_name(bare)[0]), "CLASSES", ()
            )
        known = (
            () if find_weights_file(bare) else load_card(bare, trust_code=True).classes
        )  # it is only read
    except ValueError:  # of a factory, and of what is no classifier, which is told elsewhere
        return ()
    return () if lacks_class_names(known) else known


def _resolve_classifier(
    name: str | Path,
    network: str | None,
    config: Mapping[str, Any] | None,
    trust_code: bool,
) -> ResolvedClassifier:
    if file := find_weights_file(name):
        return from_file(file, network, config)
    if network or config:
        raise ValueError(f"{name} is no file of weights; leave out network and config")
    for prefix, kind in gradient_masking.MASKING_WRAPPERS.items():
        if str(name).startswith(prefix):
            return _resolve_masked(str(name), prefix, kind, trust_code)
    if str(name).startswith(detector_wrapper.PREFIX):
        return _resolve_guarded(str(name), trust_code)
    if ":" in str(name):
        return from_name(str(name))
    return from_card(_load_card(name, "classifier", trust_code))


def _resolve_masked(
    name: str, prefix: str, wrapper: Callable[[nn.Module], nn.Module], trust_code: bool
) -> ResolvedClassifier:
    """A classifier whose own name follows, with its gradients hidden, or with the trick known."""
    bare = load_classifier(name.removeprefix(prefix), "cpu", trust_code=trust_code)
    because = "a masked classifier is normalized as the one that it hides"
    origin = {**bare.metadata, "name": name}
    module = wrapper(bare).eval()
    return ResolvedClassifier(module, origin, (0.0,), (1.0,), because, bare.image_shape)


def _resolve_guarded(name: str, trust_code: bool) -> ResolvedClassifier:
    """A classifier and a detector of two classes, each by its own name, as one that may reject."""
    word, guard = detector_wrapper.parse_prefix(name)
    bare, detector = (load_classifier(each, "cpu", trust_code=trust_code) for each in (word, guard))
    shape = bare.image_shape or detector.image_shape
    if detector.image_shape and shape != detector.image_shape:
        raise ValueError(
            f"{name}: the classifier takes images of {shape} and the detector of "
            f"{detector.image_shape}; give a detector of the classifier's images"
        )
    if shape:
        detector_wrapper.validate_detector(
            check_classifier(detector, torch.full((1, *shape), 0.5)), guard
        )
    because = "a guarded classifier is normalized as its parts are"
    origin = {"name": name, "classifier": bare.metadata, "detector": detector.metadata}
    module = detector_wrapper.WithDetector(bare, detector).eval()
    return ResolvedClassifier(module, origin, (0.0,), (1.0,), because, shape)


def wrap_classifier(
    module: nn.Module,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    metadata: Mapping[str, Any] | None = None,
    image_shape: tuple[int, int, int] | None = None,
) -> NormalizedClassifier:
    """Any module that returns logits, as a classifier of images in [0, 1].

    Args:
        mean, std: what the module expects its input to be normalized with, a number a channel;
            without them it sees [0, 1].
        metadata: what a manifest says of it, e.g. its name and where it is from.
        image_shape: the (channels, height, width) that it was trained on, where that is known.

    Raises:
        ValueError: the module is in train mode, or the normalization cannot be meant.
    """
    module = _unwrap_module(module)
    if any(part.training for part in module.modules()):
        raise ValueError(
            f"the classifier {type(module).__name__} is in train mode, so its answers would "
            "change from call to call; call its .eval() first"
        )
    means, stds = _to_floats(mean), _to_floats(std)
    if not means or len(means) != len(stds) or not all(s > 0 for s in stds):
        raise ValueError(
            f"mean {describe_value(mean)} and std {describe_value(std)}: expected one number a channel, "
            "e.g. (0.5,), std above 0"
        )
    if not isinstance(metadata, Mapping | None):
        raise ValueError(
            f"metadata is {describe_value(metadata)}; expected a table, e.g. {{'name': 'mine'}}"
        )
    return NormalizedClassifier(
        module, means, stds, metadata, _validate_image_shape(image_shape)
    ).eval()


def _to_floats(values: Any) -> tuple[float, ...]:
    """A number a channel, of a tuple, a tensor or an array; nothing where there are none."""
    try:
        return () if isinstance(values, str | bytes) else tuple(float(number) for number in values)
    except (TypeError, ValueError, RuntimeError):
        return ()


def _validate_image_shape(image_shape: Any) -> tuple[int, int, int] | None:
    if image_shape is None:
        return None
    if not isinstance(image_shape, Sequence) or [type(size) for size in image_shape] != [int] * 3:
        raise ValueError(
            f"image_shape is {describe_value(image_shape)}; expected (channels, height, width), or None"
        )
    return image_shape[0], image_shape[1], image_shape[2]


def _unwrap_module(module: Any) -> nn.Module:
    """What was given as a module, without what splits its batch over devices.

    Raises:
        ValueError: it is something else; says which function is meant.
    """
    if isinstance(module, str | Path):
        raise ValueError(
            f"the module is {str(module)!r:.60}, a name; write scoreag.load_classifier(...) for a "
            "name, a folder or a file"
        )
    if isinstance(module, Prior):
        raise ValueError("the module is a score model, a Prior; give a classifier, a torch module")
    while isinstance(module, PARALLEL_WRAPPERS):
        module = module.module
    if not isinstance(module, nn.Module):
        more = "an instance of it" if isinstance(module, type) else "a torch.nn.Module"
        function = not isinstance(module, type) and callable(module)
        fix = "; tasks, attacks and defend take a function as it is" if function else ""
        raise ValueError(f"the module is {describe_value(module)}; expected {more}{fix}")
    return module


def _check_name(name: Any, expected: str, function: str) -> None:
    """Refuse what is no name and no path."""
    if isinstance(name, str | Path):
        return
    if isinstance(name, Prior | NormalizedClassifier):
        raise ValueError(
            f"{function} was given {describe_value(name)}, which is loaded already; use it"
        )
    fix = "; for a module write scoreag.wrap_classifier(module, mean, std)"
    raise ValueError(
        f"{function} was given {describe_value(name)}; expected the name or the path of {expected}"
        + (fix if callable(name) and function == "load_classifier" else "")
    )


def resolve_device(name: str | torch.device) -> torch.device:
    """``auto`` is the GPU where there is one."""
    name = str(name) if isinstance(name, torch.device) else name
    if not isinstance(name, str):
        raise UnknownNameError(
            f"the device is {describe_value(name)}; write auto, cpu, cuda, or cuda:0"
        )
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.split(":")[0] not in DEVICES:
        raise UnknownNameError(f"no device {name!r}; there are: auto, {', '.join(DEVICES)}")
    try:
        found = torch.device(name)
    except RuntimeError as error:
        raise UnknownNameError(f"no device {name!r}; write auto, cpu, cuda, or cuda:0") from error
    if found.type != "cpu" and not DEVICES[found.type]():
        raise ValueError(
            f"device {name!r}, but torch sees no {DEVICE_NAMES[found.type]} here; write --device cpu"
        )
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"no device {name!r}; torch sees {torch.cuda.device_count()} GPUs here")
    return found


def _load_card(name: str | Path, kind: str, trust_code: bool) -> Card:
    found = load_card(name, trust_code)
    if found.kind != kind:
        raise ValueError(f"{name} is a {found.kind}, and a {kind} is wanted here")
    return found
