"""Cards: what is known of a model, in a file beside its weights.

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
    classes = ["airplane", ...]            # none: the model knows no classes
    mean = [0.4914, 0.4822, 0.4465]        # classifier: it sees (image - mean) / std, images in
    std = [0.2470, 0.2435, 0.2616]         #   [0, 1]
    family = "edm"                         # score model: a name of score_models.py
    sigma_data = 0.5                       #   and the deviation of the data in [-1, 1]
    judge = "cifar10-judge"                #   a classifier that may judge its images: a name, or a
                                           #   folder beside this one
    [schedule_kwargs]                      #   arguments of its family, e.g. steps, time_scale
    [options]                              # arguments of the network's ``build``
    [weight_files]                         # where there are several files in place of ``file``:
    "NAME-1-of-2.safetensors" = "..."      #   each with its sha256; the one above is of these
    [defaults.transform]                   # score model: the tuned settings of a task
    [training_config]                      # how it was trained: seed, images seen, minutes, ...
    [metrics.test]                         # value, count, total, of, low, high; written by commands
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import tomli_w
import torch
from torch import Tensor, nn

from scoreag.io.bounded import MAX_TEXT_BYTES, parse_toml, read_text
from scoreag.io.filesystem import write_text
from scoreag.models import safetensors, trust
from scoreag.models.build import build_bounded
from scoreag.registry import (
    UnknownNameError,
    check_options,
    did_you_mean,
    load_component,
    short_repr,
    truncate_text,
)

ZOO = Path(__file__).parent / "zoo"
KINDS = ("score-model", "classifier")
MAX_SIDE, MAX_PIXELS = 1 << 14, 1 << 26  # of an image that a card may claim
MAX_STEPS = 100_000  # noise levels that a card may claim
OLD_ENTRIES = ("licence", "levels", "shards", "recipe", "figures")  # of version 0.1
OLD_NETWORKS = ("plain_cnn", "resnet", "whitened_cnn")
OPTIONAL_KEY = "num_batches_tracked"  # of normalizations; files from before 2018 lack it


@dataclass(frozen=True)
class Card:
    """The entries of a card, in the order in which they are written; see the top of this file."""

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
    judge: str | None = None
    schedule_kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    weight_files: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    training_config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    folder: Path = ZOO

    @property
    def identity(self) -> dict[str, str]:
        """What a manifest says of the model."""
        return {name: getattr(self, name) for name in ("name", "sha256", "license", "source")}


def list_cards(kind: str | None = None) -> list[str]:
    """The names in the zoo, of one kind or of all."""
    files = sorted(ZOO.glob("*.toml"), key=lambda file: file.stem)
    found = (_read_card(file) for file in files)
    return [card.name for card in found if kind in (None, card.kind)]


def load_card(name: str | Path, trust_code: bool = False) -> Card:
    """The card of that name in the zoo, or the one in that folder.

    A name of the zoo means the zoo; a folder that is called so is written ``./name``.

    Args:
        trust_code: whether a network or a component of the card may be somebody else's function,
            ``package.module:function``, which is called to load it.

    Raises:
        ValueError: there is none; says which name was probably meant. Or it names code.
    """
    found = _find_card(name)
    _check_trusted(found, trust_code)
    return found


def _find_card(name: str | Path) -> Card:
    folder = Path(name)
    known = sorted(file.stem for file in ZOO.glob("*.toml"))
    if str(name) in known and (isinstance(name, str) or not folder.is_dir()):
        return _read_card(ZOO / f"{name}.toml")
    if folder.is_dir():
        if not (folder / "card.toml").exists():
            raise ValueError(f"the folder {folder} has no card.toml")
        return _read_card(folder / "card.toml")
    if folder.suffix == ".toml" and folder.is_file():
        return _read_card(folder)
    raise UnknownNameError(f"no folder and no card {str(name)!r}; {did_you_mean(str(name), known)}")


def _check_trusted(found: Card, trust_code: bool) -> None:
    place = str(found.folder / _card_filename(found))
    if found.network == "torch.export":  # of version 0.1
        raise ValueError(
            f"{place} is of a program of torch.export, and no program in a file is run: make a "
            "card anew of the module's state_dict() and its network, by scoreag convert"
        )
    trust.check_trusted(
        trust.is_custom_network(found.network), found.network, f"{place}, network", trust_code
    )
    trust.check_trusted(
        trust.is_custom_component(found.family), found.family, f"{place}, family", trust_code
    )
    judge = found.judge or ""  # a folder may be called like a function
    trust.check_trusted(trust.is_custom_classifier(judge), judge, f"{place}, judge", trust_code)
    for task, table in found.defaults.items():
        for key, value in table.items():
            code = isinstance(value, str) and trust.is_custom_component(value)
            trust.check_trusted(code, str(value), f"{place}, defaults.{task}.{key}", trust_code)


def read_weights(card: Card) -> dict[str, Tensor]:
    """The tensors of a card, in float32 where they were stored in half precision.

    Raises:
        ValueError: a file is missing, something else, cut short, or not the one of the card.
    """
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
    whole: dict[str, Tensor] = {}
    for name, digest in card.weight_files.items():
        whole |= safetensors.read_safetensors(card.folder / name, digest, card.name)
    return whole


def load_weights(network: nn.Module, state_dict: Mapping[str, Tensor], name: str) -> None:
    """Put the tensors into the network, all of them and nothing else.

    Raises:
        ValueError: a tensor is missing, surplus, or of another shape; names the first such.
    """
    wanted = {tensor: value.shape for tensor, value in network.state_dict().items()}
    check_state_dict(wanted, state_dict, name)
    network.load_state_dict(dict(state_dict), strict=False)


def check_state_dict(
    shapes: Mapping[str, torch.Size], state_dict: Mapping[str, Tensor], name: str
) -> None:
    """Refuse tensors that are not those of a network of these shapes.

    Raises:
        ValueError: a tensor is missing, surplus, or of another shape; names the first such.
    """
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

    Args:
        fp16: store floating-point tensors in half the space, with 11 significant bits.
        max_shard_size: bytes of numbers in a file; what is more comes in shards.
    """
    safetensors.check_tensors(weights, card.name)
    kept = safetensors.to_half(weights) if fp16 else weights
    safetensors.check_tensors(kept, card.name, fp16)
    pieces = safetensors.split_shards(kept, max_shard_size) if max_shard_size else [kept]
    if len(pieces) == 1:
        return _update_weights(
            card, safetensors.write_safetensors(card.folder / card.file, kept), {}
        )
    stem = Path(card.file).stem
    names = [f"{stem}-{i}-of-{len(pieces)}.safetensors" for i in range(1, len(pieces) + 1)]
    shards = {
        name: safetensors.write_safetensors(card.folder / name, piece)
        for name, piece in zip(names, pieces, strict=True)
    }
    return _update_weights(card, _combine_digests(shards), shards)


def _update_weights(card: Card, digest: str, shards: Mapping[str, str]) -> Card:
    """The card of new weights; where they are those that were there, their figures stay."""
    place, figures = card.folder / _card_filename(card), card.metrics
    if not figures and place.is_file() and (before := _read_card(place)).sha256 == digest:
        figures = before.metrics
    return update_card(card, sha256=digest, weight_files=shards, metrics=figures)


def _card_filename(card: Card) -> str:
    return f"{card.name}.toml" if card.folder == ZOO else "card.toml"


def _combine_digests(shards: Mapping[str, str]) -> str:
    """One digest of all the shards' digests, in their order."""
    return hashlib.sha256("".join(shards.values()).encode()).hexdigest()


def build_network(card: Card) -> nn.Module:
    """The network of a card with its weights; it wants normalized images.

    Raises:
        ValueError: it names no network or wrong options, or its weights do not fit.
    """
    build = load_component("networks", card.network).build
    check_options(build, dict(card.options), f"{card.name}: the network {card.network}")
    given = read_weights(card)
    try:
        made = build_bounded(build, card.options, given)
    except ValueError as error:
        raise ValueError(f"{card.name}: {error}") from error
    if not isinstance(made, nn.Module):
        got = type(made).__name__
        raise ValueError(f"{card.name}: {card.network} returned {got}; expected a torch.nn.Module")
    load_weights(made, given, card.name)
    return made


def update_card(card: Card, **changes: Any) -> Card:
    """Write the card again with other entries, e.g. ``metrics``."""
    entries = {f.name: getattr(card, f.name) for f in fields(card)} | changes
    changed = Card(**entries)
    plain = {key: value for key, value in asdict(changed).items() if key != "folder"}
    write_text(card.folder / _card_filename(card), to_toml(plain))
    return changed


def to_toml(entries: Mapping[str, Any]) -> str:
    """Text that ``tomllib`` reads back as ``entries``, without what is None and empty tables."""
    return tomli_w.dumps(_to_toml_value(entries))


def _to_toml_value(value: Any) -> Any:
    """As TOML has it: text that can be written in UTF-8, lists, and tables with entries."""
    if isinstance(value, Mapping):
        kept = {
            _to_utf8(name): _to_toml_value(item) for name, item in value.items() if item is not None
        }
        return {name: item for name, item in kept.items() if item != {}}
    if isinstance(value, list | tuple):
        return [_to_toml_value(item) for item in value]
    return _to_utf8(value) if isinstance(value, str | Path) else value


def _to_utf8(value: str | Path) -> str:
    """Text without the halves of characters that a file's name may hold."""
    return str(value).encode("utf-8", "backslashreplace").decode()


def _check_version(file: Path, entries: Mapping[str, Any]) -> None:
    """Refuse a card in the words of version 0.1."""
    words = [entry for entry in OLD_ENTRIES if entry in entries]
    words += [repr(entries["network"])] if entries.get("network") in OLD_NETWORKS else []
    if words:
        raise ValueError(
            f"{file} is a card of version 0.1, which says {words[0]}; write it in today's words: "
            f"python benchmarks/migrate_0_2.py {file}"
        )


def _check_entries(file: Path, entries: Mapping[str, Any]) -> None:
    """Refuse entries whose values are of another kind than theirs."""
    for entry, value in entries.items():
        wanted, fits = _ENTRY_TYPES.get(entry, ("", lambda value: True))
        if not fits(value):
            raise ValueError(f"{file}: {entry} is {short_repr(value)}; expected {wanted}")
    if entries["kind"] not in KINDS:
        kind = entries["kind"]
        raise ValueError(f"{file} is of kind {short_repr(kind)}; {did_you_mean(kind, [*KINDS])}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_shape(value: Any) -> bool:
    sides = value if isinstance(value, list) and len(value) == 3 else [0]
    whole = all(type(side) is int and 1 <= side <= MAX_SIDE for side in sides)
    return whole and math.prod(sides) <= MAX_PIXELS


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e30  # which NaN is not


def _is_count(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MAX_STEPS


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_number, value)) and bool(value)


def _are_words(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _are_tables(value: Any) -> bool:
    return _is_table(value) and all(map(_is_table, value.values()))


_ENTRY_TYPES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **{n: ("a word in quotes", _is_text) for n in ("name", "kind", "network", "file", "license")},
    **{n: ("a word in quotes", _is_text) for n in ("sha256", "source", "family", "judge")},
    "image_shape": ("[channels, height, width] of images", _is_shape),
    "classes": ("a list of words", _are_words),
    "mean": ("a number a channel, e.g. [0.5]", _are_numbers),
    "std": (
        "a number a channel above 0, e.g. [0.5]",
        lambda value: _are_numbers(value) and min(value) > 0,
    ),
    "sigma_data": ("a number above 0", lambda value: _is_number(value) and value > 0),
    "schedule_kwargs": (
        f"a table, of at most {MAX_STEPS} steps",
        lambda value: _is_table(value) and _is_count(value.get("steps", 1)),
    ),
    "algorithm": ("a whole number", lambda value: type(value) is int),
    "options": ("a table", _is_table),
    "training_config": ("a table", _is_table),
    "weight_files": (
        "a table of digests",
        lambda value: _is_table(value) and all(map(_is_text, value.values())),
    ),
    "defaults": ("tables such as [defaults.transform]", _are_tables),
    "metrics": ("tables such as [metrics.test]", _are_tables),
}


def _read_card(file: Path) -> Card:
    text = read_text(file, MAX_TEXT_BYTES)
    try:
        entries = parse_toml(text)
    except ValueError as error:
        raise ValueError(f"{file} is no card: {truncate_text(str(error), 200)}") from error
    known = {f.name: f for f in fields(Card) if f.name != "folder"}
    _check_version(file, entries)
    for entry in entries:
        if entry not in known:
            raise ValueError(
                f"{file} has an entry {short_repr(entry)}; {did_you_mean(entry, list(known))}"
            )
    for entry, of in known.items():
        if of.default is MISSING and of.default_factory is MISSING and entry not in entries:
            raise ValueError(f"{file} lacks the entry {entry!r}")
    _check_entries(file, entries)
    listed: dict[str, Any]
    listed = {k: tuple(v) if isinstance(v, list) else v for k, v in entries.items()}
    return Card(**listed, folder=file.parent)
