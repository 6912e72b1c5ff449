"""The front door to classifiers: any of their names, or a module, as one of images in [0, 1].

A name is resolved to a module and what is known of its normalization, which is said once: by the
file, or by the caller.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scoreag.classifiers import build, gradient_masking, rejection, robustbench
from scoreag.classifiers.checks import check_classifier as check_classifier
from scoreag.classifiers.normalized import NormalizedClassifier
from scoreag.classifiers.state_dict import (
    STATE_DICT,
    WEIGHT_SUFFIXES,
    detect_file_format,
    open_state_dict,
)
from scoreag.data.source import lacks_class_names
from scoreag.diffusion.prior import Prior
from scoreag.io.filesystem import file_sha256
from scoreag.models.trust import limit_network_size
from scoreag.models.loading import check_name, load_card_of_kind, resolve_device
from scoreag.models.model_cards import Card, load_card, load_weights, read_weights
from scoreag.registry import describe_value, load_component

WRAPPERS = (*gradient_masking.MASKING_WRAPPERS, rejection.PREFIX)  # before a classifier's name
PREFIXES = (*WRAPPERS, robustbench.PREFIX)
PARALLEL_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)  # they split a batch


@dataclass(frozen=True)
class ResolvedClassifier:
    """A classifier as its name was resolved, before it is normalized.

    Args:
        mean, std: of its normalization; None where only who trained it knows.
        normalization_source: why they are known; empty where the caller may say them.
    """

    module: nn.Module
    metadata: Mapping[str, Any]
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    normalization_source: str = ""
    image_shape: tuple[int, int, int] | None = None


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
        "obfuscated:cifar10-resnet20"          any of these, with its gradients hidden
        "bpda:cifar10-resnet20"                the same, to an attacker who knows how
        "with-detector:cifar10-resnet20,NAME"  any of these, behind a detector of generated images

    Args:
        mean, std: as in ``wrap_classifier``; files do not know them, cards and RobustBench do.
        network: a file of ``scoreag.classifiers.networks``, "timm:NAME", "torchvision:NAME", or
            "my_module:function".
        trust_code: whether code that a card names may be run; what ``name`` and ``network`` name
            is run in any case, since you wrote it.

    Raises:
        ValueError: there is none, it cannot be read, or its normalization is said twice or not.
    """
    hint = "; for a module write scoreag.wrap_classifier(module, mean, std)"
    check_name(name, "a classifier", "load_classifier", hint)
    if not isinstance(network, str | None) or not isinstance(config, Mapping | None):
        raise ValueError(
            f"network is {describe_value(network)} and config {describe_value(config)}; expected a "
            'name and a table, e.g. "cifar_resnet" and {"depth": 20}'
        )
    place = resolve_device(device)
    resolved = with_normalization(
        _resolve_classifier(name, network, config, trust_code), str(name), mean, std
    )
    assert resolved.mean is not None and resolved.std is not None
    return wrap_classifier(
        resolved.module, resolved.mean, resolved.std, resolved.metadata, resolved.image_shape
    ).to(place)


def class_names(name: str | Path) -> tuple[str, ...]:
    """The names of a classifier's classes by number, as its card says; empty where nothing does."""
    bare = str(name)
    for prefix in WRAPPERS:
        bare = bare.removeprefix(prefix)
    bare = bare.partition(",")[0]
    try:
        if bare.startswith(robustbench.PREFIX):
            dataset = load_component("datasets", robustbench.parse_name(bare)[0])
            return getattr(dataset, "CLASSES", ())
        if find_weights_file(bare):
            return ()
        classes = load_card(bare, trust_code=True).classes  # it is only read
    except ValueError:  # a factory, or no classifier, which is refused elsewhere
        return ()
    return () if lacks_class_names(classes) else classes


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
            f"mean {describe_value(mean)} and std {describe_value(std)}: expected one number a "
            "channel, e.g. (0.5,), std above 0"
        )
    if not isinstance(metadata, Mapping | None):
        raise ValueError(
            f"metadata is {describe_value(metadata)}; expected a table, e.g. {{'name': 'mine'}}"
        )
    shape = _validate_image_shape(image_shape)
    return NormalizedClassifier(module, means, stds, metadata, shape).eval()


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
            f"image_shape is {describe_value(image_shape)}; expected (channels, height, width), "
            "or None"
        )
    return image_shape[0], image_shape[1], image_shape[2]


def _unwrap_module(module: Any) -> nn.Module:
    """The module, without what splits its batch over devices.

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
        expected = "an instance of it" if isinstance(module, type) else "a torch.nn.Module"
        is_function = not isinstance(module, type) and callable(module)
        fix = "; tasks, attacks and defend take a function as it is" if is_function else ""
        raise ValueError(f"the module is {describe_value(module)}; expected {expected}{fix}")
    return module


def _resolve_classifier(
    name: str | Path, network: str | None, config: Mapping[str, Any] | None, trust_code: bool
) -> ResolvedClassifier:
    if file := find_weights_file(name):
        return from_file(file, network, config)
    if network or config:
        raise ValueError(f"{name} is no file of weights; leave out network and config")
    for prefix, wrapper in gradient_masking.MASKING_WRAPPERS.items():
        if str(name).startswith(prefix):
            return _resolve_masked(str(name), prefix, wrapper, trust_code)
    if str(name).startswith(rejection.PREFIX):
        return _resolve_guarded(str(name), trust_code)
    if ":" in str(name):
        return from_name(str(name))
    return from_card(load_card_of_kind(name, "classifier", trust_code))


def _resolve_masked(
    name: str, prefix: str, wrapper: Callable[[nn.Module], nn.Module], trust_code: bool
) -> ResolvedClassifier:
    """A classifier whose own name follows, with its gradients hidden, or with the trick known."""
    bare = load_classifier(name.removeprefix(prefix), "cpu", trust_code=trust_code)
    source = "a masked classifier is normalized as the one that it hides"
    metadata = {**bare.metadata, "name": name}
    return ResolvedClassifier(
        wrapper(bare).eval(), metadata, (0.0,), (1.0,), source, bare.image_shape
    )


def _resolve_guarded(name: str, trust_code: bool) -> ResolvedClassifier:
    """A classifier and a detector of two classes, each by its own name, as one that may reject."""
    names = rejection.parse_prefix(name)
    bare, detector = (load_classifier(each, "cpu", trust_code=trust_code) for each in names)
    shape = bare.image_shape or detector.image_shape
    if detector.image_shape and shape != detector.image_shape:
        raise ValueError(
            f"{name}: the classifier takes images of {shape} and the detector of "
            f"{detector.image_shape}; give a detector of the classifier's images"
        )
    if shape:
        rejection.validate_detector(
            check_classifier(detector, torch.full((1, *shape), 0.5)), names[1]
        )
    source = "a guarded classifier is normalized as its parts are"
    metadata = {"name": name, "classifier": bare.metadata, "detector": detector.metadata}
    module = rejection.WithDetector(bare, detector).eval()
    return ResolvedClassifier(module, metadata, (0.0,), (1.0,), source, shape)


def from_card(card: Card) -> ResolvedClassifier:
    """The classifier of a card, which says its normalization."""
    source = "its card says its normalization"
    return ResolvedClassifier(
        load_card_classifier(card), card.identity, card.mean, card.std, source, card.image_shape
    )


def load_card_classifier(card: Card) -> nn.Module:
    """The network as it was trained: from normalized images to logits.

    Raises:
        ValueError: it cannot be built, or its weights are missing, altered, or do not fit.
    """
    tensors = read_weights(card)
    try:
        with limit_network_size(tensors):
            module = build.build(card.network, card.options)
    except ValueError as error:
        raise ValueError(f"{card.name}: {error}") from error
    load_weights(module, tensors, card.name)
    return module.eval().requires_grad_(False)


def from_name(name: str) -> ResolvedClassifier:
    """A model of RobustBench, or what a factory makes."""
    if name.startswith(robustbench.PREFIX):
        source = "a model of RobustBench normalizes its images itself"
        module = robustbench.load_robustbench(name)
        return ResolvedClassifier(module, {"name": name}, (0.0,), (1.0,), source)
    if name.partition(":")[0] in build.MODEL_LIBRARIES:
        raise ValueError(
            f"{name} is an architecture without weights; make a card of it and a state dict: "
            f"scoreag convert FILE FOLDER --network {name} --mean ... --std ..."
        )
    try:
        module = (
            build.call_factory_file(name)
            if build.is_factory_file(name)
            else build.call_factory(name)
        )
    except ValueError as error:
        before, _, rest = name.partition(":")
        if near := get_close_matches(f"{before}:", PREFIXES, n=1):
            raise ValueError(f"{error}; or did you mean {near[0]}{rest}?") from error
        raise
    if isinstance(module, NormalizedClassifier):
        source = "its factory says its normalization"
        return ResolvedClassifier(
            module.module, module.metadata, module.mean, module.std, source, module.image_shape
        )
    return ResolvedClassifier(module, {"name": name}, (0.0,), (1.0,))


def from_file(
    file: Path, network: str | None, config: Mapping[str, Any] | None
) -> ResolvedClassifier:
    """A state dict in its network."""
    if file.suffix == ".safetensors" and (file.parent / "card.toml").is_file():
        raise ValueError(f"{file} is the weights of a card; give its folder, {file.parent}")
    if not network and detect_file_format(file) == STATE_DICT:
        raise ValueError(
            f"{file} may hold weights, but no network to put them in; {_usage_hint(file)}"
        )
    origin = {"network": network, "config": dict(config or {})} if network else {}
    module = open_state_dict(file, network, config)
    return ResolvedClassifier(module, {"name": file.name, "sha256": file_sha256(file), **origin})


def find_weights_file(name: str | Path) -> Path | None:
    """The file that a name is of, if it is one of weights.

    Raises:
        ValueError: it ends like one, and is not there.
    """
    file = Path(name)
    if file.is_file() and file.suffix != ".toml":
        return file
    if file.suffix in WEIGHT_SUFFIXES and not file.is_dir() and ":" not in str(name):
        raise ValueError(f"there is no file {file}")
    return None


def with_normalization(
    resolved: ResolvedClassifier, name: str, mean: Any, std: Any
) -> ResolvedClassifier:
    """The classifier with the caller's normalization, where no file says it.

    Raises:
        ValueError: it is not known, or said although it is known.
    """
    given = [word for word, value in (("mean", mean), ("std", std)) if value is not None]
    if given and resolved.normalization_source:
        fix = f"leave out {' and '.join(given)}"
        raise ValueError(f"{name}: {resolved.normalization_source}; {fix}")
    if resolved.mean is None and len(given) < 2:
        raise ValueError(
            f"{name}: normalization is explicit, and no file tells it; {_usage_hint(name)}"
        )
    if len(given) == 1:
        raise ValueError(f"{name}: {given[0]} came alone; mean and std belong together")
    return replace(resolved, mean=mean, std=std) if given else resolved


def _usage_hint(name: str | Path) -> str:
    """What to write instead of a bare file, at the prompt and in Python."""
    return (
        f"make a card of it, and give that: scoreag convert {name} FOLDER --network cifar_resnet "
        '--mean 0.5,0.5,0.5 --std 0.5,0.5,0.5; in Python network="cifar_resnet", '
        "mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), as it was trained (0 and 1 if it takes images "
        "in [0, 1])"
    )
