"""A classifier by whatever name it is given: its module, and what is known of its normalisation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import nn

from scoreag.cards import Card
from scoreag.classifiers import architecture, bundled, factory, guarded, masked, robustbench
from scoreag.classifiers.converted import opened
from scoreag.classifiers.kinds import STATE, SUFFIXES, kind_of
from scoreag.core.frozen import Frozen
from scoreag.files import sha256

PREFIXES = (*masked.KINDS, guarded.PREFIX, robustbench.PREFIX)


@dataclass(frozen=True)
class Given:
    """A classifier as its name was resolved, before it is normalized.

    Args:
        mean, std: what it is normalised with; None where nobody knows but who trained it.
        because: why they are known and not to be said again; empty where they may be said.
        image_shape: the (channels, height, width) that it was trained on, where that is known.
    """

    module: nn.Module
    origin: Mapping[str, Any]
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    because: str = ""
    image_shape: tuple[int, int, int] | None = None


def of_card(card: Card) -> Given:
    """What a card tells."""
    because = "its card says its normalisation"
    return Given(bundled.load(card), card.identity, card.mean, card.std, because, card.image_shape)


def of_name(name: str) -> Given:
    """A model of RobustBench, or what a factory makes; see these files."""
    if name.startswith(robustbench.PREFIX):
        because = "a model of RobustBench normalises its images itself"
        return Given(robustbench.load(name), {"name": name}, (0.0,), (1.0,), because)
    if name.partition(":")[0] in architecture.PACKAGES:
        raise ValueError(
            f"{name} is an architecture without weights; make a card of it and a state dict: "
            f"scoreag convert FILE FOLDER --network {name} --mean ... --std ..."
        )
    try:
        made = factory.load_file(name) if factory.is_file(name) else factory.load(name)
    except ValueError as error:
        before, _, rest = name.partition(":")
        if near := get_close_matches(f"{before}:", PREFIXES, n=1):
            raise ValueError(f"{error}; or did you mean {near[0]}{rest}?") from error
        raise
    if isinstance(made, Frozen):
        because = "its factory says its normalisation"
        return Given(made.module, made.origin, made.mean, made.std, because, made.image_shape)
    return Given(made, {"name": name}, (0.0,), (1.0,))


def of_file(file: Path, network: str | None, arguments: Mapping[str, Any] | None) -> Given:
    """A state dict in its network."""
    _check_whole(file, network)
    about = {"network": network, "arguments": dict(arguments or {})} if network else {}
    module = opened(file, network, arguments)
    return Given(module, {"name": file.name, "sha256": sha256(file), **about})


def file_of(name: str | Path) -> Path | None:
    """The file that a name is of, if it is one of weights.

    Raises:
        ValueError: it ends like one, and is not there.
    """
    file = Path(name)
    if file.is_file() and file.suffix != ".toml":
        return file
    if file.suffix in SUFFIXES and not file.is_dir() and ":" not in str(name):
        raise ValueError(f"there is no file {file}")
    return None


def normalised(found: Given, name: str, mean: Any, std: Any) -> Given:
    """``found`` with a normalisation, which is said once.

    Raises:
        ValueError: it is not known, or said although it is known.
    """
    said = [word for word, value in (("mean", mean), ("std", std)) if value is not None]
    if said and found.because:
        raise ValueError(f"{name}: {found.because}; leave out {' and '.join(said)}")
    if found.mean is None and len(said) < 2:
        raise ValueError(f"{name}: normalisation is explicit, and no file tells it; {_ways(name)}")
    if len(said) == 1:
        raise ValueError(f"{name}: {said[0]} came alone; mean and std belong together")
    return replace(found, mean=mean, std=std) if said else found


def _check_whole(file: Path, network: str | None) -> None:
    """Refuse what a card beside it describes, and a state dict whose network nobody names."""
    if file.suffix == ".safetensors" and (file.parent / "card.toml").is_file():
        raise ValueError(f"{file} is the weights of a card; give its folder, {file.parent}")
    if not network and kind_of(file) == STATE:
        raise ValueError(f"{file} may hold weights, but no network to put them in; {_ways(file)}")


def _ways(name: str | Path) -> str:
    """What to write instead of a bare file, at the prompt and in Python."""
    return (
        f"make a card of it, and give that: scoreag convert {name} FOLDER --network resnet "
        '--mean 0.5,0.5,0.5 --std 0.5,0.5,0.5; in Python network="resnet", mean=(0.5, 0.5, 0.5), '
        "std=(0.5, 0.5, 0.5), as it was trained (0 and 1 if it takes images in [0, 1])"
    )
