"""Classifiers by name: a card, a file of weights, a function, RobustBench, or a wrapper of these.

A name is resolved to a module and its normalization, which is stated once: by the source, or by the
caller.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scoreag.classifiers import build, class_groups, efficientnet, rejection
from scoreag.classifiers.checks import check_classifier
from scoreag.classifiers.gradient_masking import MASKING_WRAPPERS
from scoreag.classifiers.normalized import NormalizedClassifier, wrap_classifier
from scoreag.classifiers.state_dict import (
    STATE_DICT,
    WEIGHT_SUFFIXES,
    detect_file_format,
    open_state_dict,
)
from scoreag.core.class_names import Groups, lacks_class_names
from scoreag.data import imagenet
from scoreag.data.cifar import COARSE_CLASSES
from scoreag.io.filesystem import file_sha256
from scoreag.models.hub import is_hub_name
from scoreag.models.loading import check_name, load_card_of_kind, resolve_device
from scoreag.models.model_cards import Card, load_card, load_weights, read_weights
from scoreag.models.trust import limit_network_size
from scoreag.registry import describe_value, load_component

WRAPPERS = (*MASKING_WRAPPERS, rejection.PREFIX)  # before a classifier's name
PREFIXES = (*WRAPPERS, class_groups.PREFIX, build.ROBUSTBENCH)


@dataclass(frozen=True)
class _Resolved:
    """A classifier before it is normalized.

    Args:
        mean, std: of its normalization; None where the source does not state it.
        fixed: why the caller may not state another normalization; "" where that is allowed.
    """

    module: nn.Module
    metadata: Mapping[str, Any]
    mean: Sequence[float] | None = (0.0,)
    std: Sequence[float] | None = (1.0,)
    fixed: str = ""
    image_shape: tuple[int, int, int] | None = None
    classes: tuple[str, ...] = ()
    groups: Groups = field(default_factory=dict)


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
        "efficientnet-lite0"                   ImageNet's classes, by the packages that hold it
        "hf://OWNER/NAME@REVISION"             a card at the Hugging Face Hub
        "package.module:factory"               a function that returns the module
        "path/to/file.py:factory"              the same, of a file
        "robustbench:cifar10/Linf/NAME"        a model of RobustBench, where that is installed
        "net.pth", "net.safetensors"           a state dict; ``network`` and its ``config``
        "obfuscated:cifar10-resnet20"          any of these, with its gradients hidden
        "bpda:cifar10-resnet20"                the same, to an attacker who knows how
        "coarse:models/mine"                   the superclasses of CIFAR-100, by a fine one
        "with-detector:cifar10-resnet20,NAME"  any of these, behind a detector of generated images

    Args:
        mean, std: as in ``wrap_classifier``, for files; cards and RobustBench state their own.
        network: a file of ``scoreag.classifiers.networks``, "timm:NAME", "torchvision:NAME", or
            "my_module:function".
        trust_code: whether code that a card names may be run; code in ``name`` and ``network`` is
            run in any case, since you wrote it.

    Raises:
        ValueError: there is none, it cannot be read, or its normalization is stated twice or never.
    """
    hint = "; for a module write scoreag.wrap_classifier(module, mean, std)"
    check_name(name, "a classifier", "load_classifier", hint)
    if not isinstance(network, str | None) or not isinstance(config, Mapping | None):
        raise ValueError(
            f"network is {describe_value(network)} and config {describe_value(config)}; expected a "
            'name and a table, e.g. "cifar_resnet" and {"depth": 20}'
        )
    place = resolve_device(device)
    found = _with_normalization(_resolve(name, network, config, trust_code), str(name), mean, std)
    assert found.mean is not None and found.std is not None
    return wrap_classifier(
        found.module, found.mean, found.std, found.metadata, found.image_shape, found.classes,
        found.groups,
    ).to(place)  # fmt: skip


def class_names(name: str | Path) -> tuple[str, ...]:
    """The names of a classifier's classes by number, from its card; () where they are unknown."""
    bare = str(name)
    if bare.startswith(class_groups.PREFIX):
        return COARSE_CLASSES
    if bare == efficientnet.NAME:
        return imagenet.CLASSES
    for prefix in WRAPPERS:
        bare = bare.removeprefix(prefix)
    bare = bare.partition(",")[0]
    try:
        if bare.startswith(build.ROBUSTBENCH):
            dataset = load_component("datasets", build.parse_robustbench(bare)[0])
            return getattr(dataset, "CLASSES", ())
        if _find_weights_file(bare):
            return ()
        classes = load_card(bare, trust_code=True).classes  # the card is only read
    except ValueError:  # a factory, or no classifier, which is refused elsewhere
        return ()
    return () if lacks_class_names(classes) else classes


def _resolve(
    name: str | Path, network: str | None, config: Mapping[str, Any] | None, trust_code: bool
) -> _Resolved:
    if file := _find_weights_file(name):
        return _from_file(file, network, config)
    if network or config:
        raise ValueError(f"{name} is no file of weights; leave out network and config")
    for prefix, resolve in _BY_PREFIX.items():
        if str(name).startswith(prefix):
            return resolve(str(name), trust_code)
    if ":" in str(name) and not is_hub_name(name):
        return _from_name(str(name))
    if str(name) == efficientnet.NAME:
        return _efficientnet()
    card = load_card_of_kind(name, "classifier", trust_code)
    fixed, module = "its card says its normalization", load_card_classifier(card)
    return _Resolved(
        module, card.identity, card.mean, card.std, fixed, card.image_shape, card.classes
    )


def _masked(name: str, trust_code: bool) -> _Resolved:
    kind, colon, inner = name.partition(":")
    bare = load_classifier(inner, "cpu", trust_code=trust_code)
    fixed = "a masked classifier is normalized as the one that it hides"
    module = MASKING_WRAPPERS[kind + colon](bare).eval()
    return _describe_wrapped(module, {**bare.metadata, "name": name}, fixed, bare)


def _coarse(name: str, trust_code: bool) -> _Resolved:
    fine = load_classifier(name.removeprefix(class_groups.PREFIX), "cpu", trust_code=trust_code)
    grouped = class_groups.coarse_classifier(fine, name)
    fixed = "a coarse classifier is normalized as the one of the fine classes"
    return _describe_wrapped(grouped.module, {**fine.metadata, "name": name}, fixed, grouped)


def _efficientnet() -> _Resolved:
    module = efficientnet.EnlargedInput(efficientnet.load_network()).eval()
    fixed = f"{efficientnet.NAME} has a normalization of its own"
    return _Resolved(
        module, {"name": efficientnet.NAME}, (efficientnet.SHIFT,) * 3,
        (efficientnet.SCALE,) * 3, fixed, classes=imagenet.CLASSES,
    )  # fmt: skip


def _describe_wrapped(
    module: nn.Module, metadata: Mapping[str, Any], fixed: str, inner: NormalizedClassifier
) -> _Resolved:
    """A module around a classifier, of its images and classes."""
    return _Resolved(
        module, metadata, fixed=fixed, image_shape=inner.image_shape, classes=inner.classes,
        groups=inner.groups,
    )  # fmt: skip


def _with_detector(name: str, trust_code: bool) -> _Resolved:
    """A classifier and a detector of two classes, each by its own name."""
    names = rejection.parse_prefix(name)
    bare, detector = (load_classifier(each, "cpu", trust_code=trust_code) for each in names)
    shape = bare.image_shape or detector.image_shape
    if detector.image_shape and shape != detector.image_shape:
        raise ValueError(
            f"{name}: the classifier takes images of {shape} and the detector of "
            f"{detector.image_shape}; give a detector of the classifier's images"
        )
    if shape and (count := check_classifier(detector, torch.full((1, *shape), 0.5))) != 2:
        raise ValueError(
            f"{names[1]} tells {count} classes apart; a detector has two: real, then generated"
        )
    fixed = "a guarded classifier is normalized as its parts are"
    metadata = {"name": name, "classifier": bare.metadata, "detector": detector.metadata}
    module = rejection.WithDetector(bare, detector).eval()
    return replace(_describe_wrapped(module, metadata, fixed, bare), image_shape=shape)


_BY_PREFIX: dict[str, Callable[[str, bool], _Resolved]] = {
    **dict.fromkeys(MASKING_WRAPPERS, _masked),
    class_groups.PREFIX: _coarse,
    rejection.PREFIX: _with_detector,
}


def load_card_classifier(card: Card) -> nn.Module:
    """The network of a card as it was trained: from normalized images to logits."""
    tensors = read_weights(card)
    try:
        with limit_network_size(tensors):
            module = build.build(card.network, card.options)
    except ValueError as error:
        raise ValueError(f"{card.name}: {error}") from error
    load_weights(module, tensors, card.name)
    return module.eval().requires_grad_(False)


def _from_name(name: str) -> _Resolved:
    """A model of RobustBench, or of a function."""
    if name.startswith(build.ROBUSTBENCH):
        fixed = "a model of RobustBench normalizes its images itself"
        return _Resolved(build.load_robustbench(name), {"name": name}, fixed=fixed)
    before, _, rest = name.partition(":")
    if before in build.MODEL_LIBRARIES:
        raise ValueError(
            f"{name} is an architecture without weights; make a card of it and a state dict: "
            f"scoreag convert FILE FOLDER --network {name} --mean ... --std ..."
        )
    is_file = build.is_factory_file(name)
    try:
        module = build.call_factory_file(name) if is_file else build.call_factory(name)
    except ValueError as error:
        if near := get_close_matches(f"{before}:", PREFIXES, n=1):
            raise ValueError(f"{error}; or did you mean {near[0]}{rest}?") from error
        raise
    if not isinstance(module, NormalizedClassifier):
        return _Resolved(module, {"name": name})
    fixed, inner = "its factory says its normalization", module.module
    return _Resolved(
        inner, module.metadata, module.mean, module.std, fixed, module.image_shape, module.classes,
        module.groups,
    )  # fmt: skip


def _from_file(file: Path, network: str | None, config: Mapping[str, Any] | None) -> _Resolved:
    if file.suffix == ".safetensors" and (file.parent / "card.toml").is_file():
        raise ValueError(f"{file} is the weights of a card; give its folder, {file.parent}")
    if not network and detect_file_format(file) == STATE_DICT:
        raise ValueError(
            f"{file} may hold weights, but no network to put them in; {_usage_hint(file)}"
        )
    origin = {"network": network, "config": dict(config or {})} if network else {}
    module = open_state_dict(file, network, config)
    metadata = {"name": file.name, "sha256": file_sha256(file), **origin}
    return _Resolved(module, metadata, mean=None, std=None)


def _find_weights_file(name: str | Path) -> Path | None:
    """The file that a name is of, if it is a file of weights; it must exist then."""
    file = Path(name)
    if file.is_file() and file.suffix != ".toml":
        return file
    if file.suffix in WEIGHT_SUFFIXES and not file.is_dir() and ":" not in str(name):
        raise ValueError(f"there is no file {file}")
    return None


def _with_normalization(found: _Resolved, name: str, mean: Any, std: Any) -> _Resolved:
    """The classifier with the caller's normalization, which must be stated exactly once."""
    stated = [word for word, value in (("mean", mean), ("std", std)) if value is not None]
    if stated and found.fixed:
        raise ValueError(f"{name}: {found.fixed}; leave out {' and '.join(stated)}")
    if found.mean is None and len(stated) < 2:
        raise ValueError(
            f"{name}: normalization is explicit, and no file tells it; {_usage_hint(name)}"
        )
    if len(stated) == 1:
        raise ValueError(f"{name}: {stated[0]} came alone; mean and std belong together")
    return replace(found, mean=mean, std=std) if stated else found


def _usage_hint(name: str | Path) -> str:
    """How to use a file of weights, in the shell and in Python."""
    return (
        f"make a card of it, and give that: scoreag convert {name} FOLDER --network cifar_resnet "
        '--mean 0.5,0.5,0.5 --std 0.5,0.5,0.5; in Python network="cifar_resnet", '
        "mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), as it was trained (0 and 1 if it takes images "
        "in [0, 1])"
    )
