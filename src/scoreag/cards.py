"""Cards: what is known of a model, in a file beside its weights.

A card is ``zoo/NAME.toml`` of this package, or ``card.toml`` in a folder of one's own:

    name = "cifar10-resnet20"
    kind = "classifier"                    # or "score-model"
    network = "resnet"                     # a file of networks/, which has ``build``
    file = "cifar10-resnet20.safetensors"  # the weights, beside the card; half precision is widened
    sha256 = "..."                         # of that file; another one is refused
    licence = "MIT"
    source = "trained by: scoreag train classifier --preset cifar10-resnet20"
    image_shape = [3, 32, 32]
    classes = ["airplane", ...]            # none: the model knows no classes
    mean = [0.4914, 0.4822, 0.4465]        # classifier: it sees (image - mean) / std, images in
    std = [0.2470, 0.2435, 0.2616]         #   [0, 1]
    family = "edm"                         # score model: a file of score_models/
    sigma_data = 0.5                       #   and the deviation of the data in [-1, 1]
    [levels]                               #   if not 1000: steps; pace: t is told as pace * t
    [options]                              # arguments of the network's ``build``
    [shards]                               # where there are several files in place of ``file``:
    "NAME-1-of-2.safetensors" = "..."      #   each with its sha256; the one above is of these
    [defaults.transform]                   # score model: the tuned settings of a task
    [recipe]                               # how it was trained: seed, images seen, minutes, ...
    [figures.test]                         # value, count, total, of, low, high; written by commands
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from scoreag import tensors, trust
from scoreag.files import write_text
from scoreag.load import UnknownName, check_options, hint, load

ZOO = Path(__file__).parent / "zoo"
KINDS = ("score-model", "classifier")
UNUSED = "num_batches_tracked"  # of normalisations; files from before 2018 lack it


@dataclass(frozen=True)
class Card:
    """The entries of a card, in the order in which they are written; see the top of this file."""

    name: str
    kind: str
    network: str
    file: str
    licence: str
    image_shape: tuple[int, int, int]
    sha256: str = ""
    source: str = ""
    classes: tuple[str, ...] = ()
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    family: str = ""
    sigma_data: float = 0.5
    levels: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    shards: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    folder: Path = ZOO

    @property
    def identity(self) -> dict[str, str]:
        """What a manifest says of the model."""
        return {name: getattr(self, name) for name in ("name", "sha256", "licence", "source")}


def cards(kind: str | None = None) -> list[str]:
    """The names in the zoo, of one kind or of all."""
    files = sorted(ZOO.glob("*.toml"), key=lambda file: file.stem)
    found = (_read(file) for file in files)
    return [card.name for card in found if kind in (None, card.kind)]


def card(name: str | Path, trust_code: bool = False) -> Card:
    """The card of that name in the zoo, or the one in that folder.

    A name of the zoo means the zoo; a folder that is called so is written ``./name``.

    Args:
        trust_code: whether a network or a component of the card may be somebody else's function,
            ``package.module:function``, which is called to load it.

    Raises:
        ValueError: there is none; says which name was probably meant. Or it names code.
    """
    found = _found(name)
    _check_trusted(found, trust_code)
    return found


def _found(name: str | Path) -> Card:
    folder = Path(name)
    known = sorted(file.stem for file in ZOO.glob("*.toml"))
    if str(name) in known and (isinstance(name, str) or not folder.is_dir()):
        return _read(ZOO / f"{name}.toml")
    if folder.is_dir():
        if not (folder / "card.toml").exists():
            raise ValueError(f"the folder {folder} has no card.toml")
        return _read(folder / "card.toml")
    if folder.suffix == ".toml" and folder.is_file():
        return _read(folder)
    raise UnknownName(f"no folder and no card {str(name)!r}; {hint(str(name), known)}")


def _check_trusted(found: Card, trust_code: bool) -> None:
    place = str(found.folder / _file_of(found))
    if found.network == "torch.export":  # of version 0.1
        raise ValueError(
            f"{place} is of a program of torch.export, and no program in a file is run: make a "
            "card anew of the module's state_dict() and its network, by scoreag convert"
        )
    trust.check(trust.network(found.network), found.network, f"{place}, network", trust_code)
    trust.check(trust.component(found.family), found.family, f"{place}, family", trust_code)
    for task, table in found.defaults.items():
        for key, value in table.items():
            code = isinstance(value, str) and trust.component(value)
            trust.check(code, str(value), f"{place}, defaults.{task}.{key}", trust_code)


def weights(card: Card) -> dict[str, Tensor]:
    """The tensors of a card, in float32 where they were stored in half precision.

    Raises:
        ValueError: a file is missing, something else, cut short, or not the one of the card.
    """
    return tensors.widened(stored(card))


def stored(card: Card) -> dict[str, Tensor]:
    """The tensors of a card as they are stored, from its file or from all its shards."""
    if not card.shards:
        return tensors.read(card.folder / card.file, card.sha256, card.name)
    if (found := _of_all(card.shards)) != card.sha256:
        raise ValueError(
            f"{card.name}: its list of shards was altered: their sha256 together is {found}, "
            f"the card says {card.sha256}"
        )
    whole: dict[str, Tensor] = {}
    for name, digest in card.shards.items():
        whole |= tensors.read(card.folder / name, digest, card.name)
    return whole


def fill(network: nn.Module, given: Mapping[str, Tensor], name: str) -> None:
    """Put ``given`` into ``network``, all of them and nothing else.

    Raises:
        ValueError: a tensor is missing, surplus, or of another shape; names the first such.
    """
    wanted = network.state_dict()
    for tensor in wanted:
        if tensor not in given and not tensor.endswith(UNUSED):
            raise ValueError(f"{name}: the weights lack {tensor!r}, which the network has")
    for tensor, value in given.items():
        if tensor not in wanted:
            raise ValueError(
                f"{name}: the weights hold {tensor!r}, which the network lacks; "
                f"{hint(tensor, list(wanted))}"
            )
        if value.shape != wanted[tensor].shape:
            raise ValueError(
                f"{name}: {tensor!r} has shape {tuple(value.shape)} in the weights, "
                f"{tuple(wanted[tensor].shape)} in the network; check the card's options"
            )
    network.load_state_dict(dict(given), strict=False)


def write_card(
    card: Card, weights: Mapping[str, Tensor], half: bool = False, at_most: int | None = None
) -> Card:
    """Write the weights and the card into ``card.folder``; the card with its sha256.

    Args:
        half: store floating-point tensors in half the space, with 11 significant bits.
        at_most: bytes of numbers in a file; what is more comes in shards.
    """
    kept = tensors.halved(weights) if half else weights
    pieces = tensors.parts(kept, at_most) if at_most else [kept]
    if len(pieces) == 1:
        return _renewed(card, tensors.write(card.folder / card.file, kept), {})
    stem = Path(card.file).stem
    names = [f"{stem}-{i}-of-{len(pieces)}.safetensors" for i in range(1, len(pieces) + 1)]
    shards = {
        name: tensors.write(card.folder / name, piece)
        for name, piece in zip(names, pieces, strict=True)
    }
    return _renewed(card, _of_all(shards), shards)


def _renewed(card: Card, digest: str, shards: Mapping[str, str]) -> Card:
    """The card of new weights; where they are those that were there, their figures stay."""
    place, figures = card.folder / _file_of(card), card.figures
    if not figures and place.is_file() and (before := _read(place)).sha256 == digest:
        figures = before.figures
    return rewrite(card, sha256=digest, shards=shards, figures=figures)


def _file_of(card: Card) -> str:
    return f"{card.name}.toml" if card.folder == ZOO else "card.toml"


def _of_all(shards: Mapping[str, str]) -> str:
    """One digest of all the shards' digests, in their order."""
    return hashlib.sha256("".join(shards.values()).encode()).hexdigest()


def network(card: Card) -> nn.Module:
    """The network of a card with its weights; it wants normalised images.

    Raises:
        ValueError: it names no network or wrong options, or its weights do not fit.
    """
    build = load("networks", card.network).build
    check_options(build, dict(card.options), f"{card.name}: the network {card.network}")
    made = build(**card.options)
    if not isinstance(made, nn.Module):
        got = type(made).__name__
        raise ValueError(f"{card.name}: {card.network} returned {got}; expected a torch.nn.Module")
    fill(made, weights(card), card.name)
    return made


def rewrite(card: Card, **changes: Any) -> Card:
    """Write the card again with other entries, e.g. ``figures``."""
    entries = {f.name: getattr(card, f.name) for f in fields(card)} | changes
    changed = Card(**entries)
    plain = {key: value for key, value in asdict(changed).items() if key != "folder"}
    write_text(card.folder / _file_of(card), to_toml(plain))
    return changed


def to_toml(entries: Mapping[str, Any], above: str = "") -> str:
    """Text that ``tomllib`` reads back as ``entries``: values first, then tables."""
    values = {k: v for k, v in entries.items() if not isinstance(v, Mapping) and v is not None}
    tables = {k: v for k, v in entries.items() if isinstance(v, Mapping) and v}
    lines = [f"{_key(name)} = {_value(value)}\n" for name, value in values.items()]
    for name, table in tables.items():
        path = f"{above}{_key(name)}"
        head = f"\n[{path}]\n" if any(not isinstance(v, Mapping) for v in table.values()) else ""
        lines.append(head + to_toml(table, f"{path}."))
    return "".join(lines)


def _key(name: str) -> str:
    return name if name.replace("-", "").replace("_", "").isalnum() else json.dumps(name)


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(v) for v in value)}]"
    if isinstance(value, Path):
        value = str(value)
    return repr(value) if isinstance(value, float) else json.dumps(value)


def _read(file: Path) -> Card:
    try:
        entries = tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is no card: {error}") from error
    known = {f.name: f for f in fields(Card) if f.name != "folder"}
    for entry in entries:
        if entry not in known:
            raise ValueError(f"{file} has an entry {entry!r}; {hint(entry, list(known))}")
    for entry, of in known.items():
        if of.default is MISSING and of.default_factory is MISSING and entry not in entries:
            raise ValueError(f"{file} lacks the entry {entry!r}")
    if entries["kind"] not in KINDS:
        raise ValueError(
            f"{file} is of kind {entries['kind']!r}; {hint(entries['kind'], [*KINDS])}"
        )
    listed: dict[str, Any]
    listed = {k: tuple(v) if isinstance(v, list) else v for k, v in entries.items()}
    return Card(**listed, folder=file.parent)
