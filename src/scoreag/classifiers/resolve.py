"""A classifier by whatever name it is given: its module, and what is known of its normalization."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import nn

from scoreag.classifiers import (
    build,
    detector_wrapper,
    gradient_masking,
    import_factory,
    robustbench,
)
from scoreag.classifiers.convert import open_state_dict
from scoreag.classifiers.file_formats import STATE_DICT, WEIGHT_SUFFIXES, detect_file_format
from scoreag.classifiers.normalized import NormalizedClassifier
from scoreag.io.filesystem import file_sha256
from scoreag.models.build import limit_network_size
from scoreag.models.model_cards import Card, load_weights, read_weights


def load_card_classifier(card: Card) -> nn.Module:
    """The network as it was trained: it wants normalized images, and returns logits.

    Raises:
        ValueError: it cannot be built, or its weights are missing, altered, or do not fit.
    """
    given = read_weights(card)
    try:
        with limit_network_size(given):
            module = build.build(card.network, card.options)
    except ValueError as error:
        raise ValueError(f"{card.name}: {error}") from error
    load_weights(module, given, card.name)
    return module.eval().requires_grad_(False)


PREFIXES = (*gradient_masking.MASKING_WRAPPERS, detector_wrapper.PREFIX, robustbench.PREFIX)


@dataclass(frozen=True)
class ResolvedClassifier:
    """A classifier as its name was resolved, before it is normalized.

    Args:
        mean, std: what it is normalized with; None where nobody knows but who trained it.
        because: why they are known and not to be said again; empty where they may be said.
        image_shape: the (channels, height, width) that it was trained on, where that is known.
    """

    module: nn.Module
    metadata: Mapping[str, Any]
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    normalization_source: str = ""
    image_shape: tuple[int, int, int] | None = None


def from_card(card: Card) -> ResolvedClassifier:
    """What a card tells."""
    because = "its card says its normalization"
    return ResolvedClassifier(
        load_card_classifier(card), card.identity, card.mean, card.std, because, card.image_shape
    )


def from_name(name: str) -> ResolvedClassifier:
    """A model of RobustBench, or what a factory makes; see these files."""
    if name.startswith(robustbench.PREFIX):
        because = "a model of RobustBench normalizes its images itself"
        return ResolvedClassifier(
            robustbench.load_robustbench(name), {"name": name}, (0.0,), (1.0,), because
        )
    if name.partition(":")[0] in build.MODEL_LIBRARIES:
        raise ValueError(
            f"{name} is an architecture without weights; make a card of it and a state dict: "
            f"scoreag convert FILE FOLDER --network {name} --mean ... --std ..."
        )
    try:
        made = (
            import_factory.call_factory_file(name)
            if import_factory.is_factory_file(name)
            else import_factory.call_factory(name)
        )
    except ValueError as error:
        before, _, rest = name.partition(":")
        if near := get_close_matches(f"{before}:", PREFIXES, n=1):
            raise ValueError(f"{error}; or did you mean {near[0]}{rest}?") from error
        raise
    if isinstance(made, NormalizedClassifier):
        because = "its factory says its normalization"
        return ResolvedClassifier(
            made.module, made.metadata, made.mean, made.std, because, made.image_shape
        )
    return ResolvedClassifier(made, {"name": name}, (0.0,), (1.0,))


def from_file(
    file: Path, network: str | None, config: Mapping[str, Any] | None
) -> ResolvedClassifier:
    """A state dict in its network."""
    _check_file(file, network)
    about = {"network": network, "config": dict(config or {})} if network else {}
    module = open_state_dict(file, network, config)
    return ResolvedClassifier(module, {"name": file.name, "sha256": file_sha256(file), **about})


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
    """``found`` with a normalization, which is said once.

    Raises:
        ValueError: it is not known, or said although it is known.
    """
    said = [word for word, value in (("mean", mean), ("std", std)) if value is not None]
    if said and resolved.normalization_source:
        raise ValueError(f"{name}: {resolved.normalization_source}; leave out {' and '.join(said)}")
    if resolved.mean is None and len(said) < 2:
        raise ValueError(
            f"{name}: normalization is explicit, and no file tells it; {_usage_hint(name)}"
        )
    if len(said) == 1:
        raise ValueError(f"{name}: {said[0]} came alone; mean and std belong together")
    return replace(resolved, mean=mean, std=std) if said else resolved


def _check_file(file: Path, network: str | None) -> None:
    """Refuse what a card beside it describes, and a state dict whose network nobody names."""
    if file.suffix == ".safetensors" and (file.parent / "card.toml").is_file():
        raise ValueError(f"{file} is the weights of a card; give its folder, {file.parent}")
    if not network and detect_file_format(file) == STATE_DICT:
        raise ValueError(
            f"{file} may hold weights, but no network to put them in; {_usage_hint(file)}"
        )


def _usage_hint(name: str | Path) -> str:
    """What to write instead of a bare file, at the prompt and in Python."""
    return (
        f"make a card of it, and give that: scoreag convert {name} FOLDER --network cifar_resnet "
        '--mean 0.5,0.5,0.5 --std 0.5,0.5,0.5; in Python network="cifar_resnet", mean=(0.5, 0.5, 0.5), '
        "std=(0.5, 0.5, 0.5), as it was trained (0 and 1 if it takes images in [0, 1])"
    )
