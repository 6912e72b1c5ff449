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
    [options]                              # arguments of the network's ``build``
    [defaults.transform]                   # score model: the tuned settings of a task
    [recipe]                               # how it was trained: seed, images seen, minutes, ...
    [figures.test]                         # value, count, total, of, low, high; written by commands
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as packed
from torch import Tensor, nn

from scoreag.files import replace_file, sha256, write_text
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
    options: Mapping[str, Any] = field(default_factory=dict)
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


def card(name: str | Path) -> Card:
    """The card of that name in the zoo, or the one in that folder.

    A name of the zoo means the zoo; a folder that is called so is written ``./name``.

    Raises:
        ValueError: there is none; says which name was probably meant.
    """
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


def weights(card: Card) -> dict[str, Tensor]:
    """The tensors of a card's file, in float32 where they were stored in half precision.

    Raises:
        ValueError: the file is missing, something else, cut short, or not the one of the card.
    """
    file = card.folder / card.file
    if not file.is_file():
        raise ValueError(f"{card.name}: its weights {file} are missing")
    data = file.read_bytes()
    if wrong := _defect(data):
        raise ValueError(f"{card.name}: {file} {wrong}; get the file again")
    if (found := sha256(file)) != card.sha256:
        raise ValueError(
            f"{card.name}: {file} was altered: its sha256 is {found}, the card says {card.sha256}"
        )
    try:
        tensors = read_tensors(data)
    except SafetensorError as error:
        raise ValueError(f"{card.name}: {file} is no safetensors file ({error})") from error
    return {n: t.float() if t.is_floating_point() else t for n, t in tensors.items()}


def fill(network: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Put ``tensors`` into ``network``, all of them and nothing else.

    Raises:
        ValueError: a tensor is missing, surplus, or of another shape; names the first such.
    """
    wanted = network.state_dict()
    for tensor in wanted:
        if tensor not in tensors and not tensor.endswith(UNUSED):
            raise ValueError(f"{name}: the weights lack {tensor!r}, which the network has")
    for tensor, value in tensors.items():
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
    network.load_state_dict(dict(tensors), strict=False)


def write_card(card: Card, tensors: Mapping[str, Tensor], half: bool = False) -> Card:
    """Write the weights and the card into ``card.folder``; the card with its sha256.

    Args:
        half: store floating-point tensors in half the space, with 11 significant bits.
    """
    kept = {
        name: (t.half() if half and t.is_floating_point() else t).detach().cpu().contiguous()
        for name, t in tensors.items()
    }
    file = card.folder / card.file
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_file(file, lambda aside: aside.write_bytes(packed(kept)))  # save_file: owner only
    return rewrite(card, sha256=sha256(file))


def network(card: Card) -> nn.Module:
    """The network of a card with its weights; it wants normalised images.

    Raises:
        ValueError: it names no network or wrong options, or its weights do not fit.
    """
    build = load("networks", card.network).build
    check_options(build, dict(card.options), f"{card.name}: the network {card.network}")
    made: nn.Module = build(**card.options)
    fill(made, weights(card), card.name)
    return made


def rewrite(card: Card, **changes: Any) -> Card:
    """Write the card again with other entries, e.g. ``figures``."""
    entries = {f.name: getattr(card, f.name) for f in fields(card)} | changes
    changed = Card(**entries)
    name = f"{card.name}.toml" if card.folder == ZOO else "card.toml"
    plain = {key: value for key, value in asdict(changed).items() if key != "folder"}
    write_text(card.folder / name, to_toml(plain))
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


def _defect(data: bytes) -> str:
    """What is wrong with bytes that should be a safetensors file: 8 for the header's length, ..."""
    if data.startswith(b"version https://git-lfs"):
        return "is a pointer of git-lfs, not the weights (run: git lfs pull)"
    if data.lstrip()[:1] == b"<":
        return "is an HTML page, not weights"
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > 100_000_000:
        return "is no safetensors file"
    if len(data) < 8 + length:
        return f"is cut short: {len(data)} bytes, its header alone has {length + 8}"
    try:
        header = json.loads(data[8 : 8 + length])
        ends = [of["data_offsets"][1] for name, of in header.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return "is no safetensors file"
    whole = 8 + length + max(ends, default=0)
    return f"is cut short: {len(data)} of {whole} bytes" if len(data) < whole else ""
