"""convert: weights from other projects, to a card and a safetensors file."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from scoreag.cli.options import Opt, OutputOptions, Overwrite, UsageError, split_words, switch
from scoreag.cli.runs import format_table
from scoreag.registry import class_lists, did_you_mean, short_repr

if TYPE_CHECKING:
    from scoreag.models.model_cards import Card

_CHECKPOINT_HELP = (
    "A score model's file or folder, as docs/checkpoints.md lists them; or a classifier's state "
    "dict."
)
_CONFIG_HELP = "Configuration as JSON: of a score model's training, or the options of --network."
_NETWORK_HELP = (
    "Classifier: network of the state dict: cifar_resnet or another of scoreag list networks, "
    "timm:NAME, torchvision:NAME, my_module:function."
)
SHAPES = {"cifar10": (3, 32, 32), "cifar100": (3, 32, 32), "fashion-mnist": (1, 28, 28)}


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    checkpoint: Annotated[str, Opt(_CHECKPOINT_HELP, positional=True)]
    folder: Annotated[str, Opt("Folder for the card and the weights.", positional=True)]
    class_names: Annotated[str | None, Opt("Of a data set, e.g. cifar10, or cat,dog,...")] = None
    config: Annotated[str | None, Opt(_CONFIG_HELP, "by the file's or folder's name")] = None
    network: Annotated[str | None, Opt(_NETWORK_HELP)] = None
    mean: Annotated[str | None, Opt("Classifier: its input is (image - mean) / std.")] = None
    std: Annotated[str | None, Opt("Classifier: a number per channel, e.g. 0.5,0.5,0.5.")] = None
    strip: Annotated[str | None, Opt("Classifier: prefix to remove from its keys: model.")] = None
    shape: Annotated[str | None, Opt("Classifier: of images, 3x32x32.", "--class-names'")] = None
    license: Annotated[str | None, Opt("Of the weights.", "from the format")] = None
    fp16: Annotated[bool, switch("Store the weights as float16.")] = False
    overwrite: Overwrite = False
    output: OutputOptions


def convert(options: ConvertOptions) -> None:
    r"""Convert a checkpoint to a card, running none of its code.

    scoreag convert edm-cifar10-32x32-cond-vp.pkl models/edm --class-names cifar10
    scoreag convert resnet20.th models/mine --network cifar_resnet --config '{"depth": 20}' \
        --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --class-names cifar10
    """
    folder, output = Path(options.folder), options.output
    if (folder / "card.toml").exists() and not options.overwrite:
        raise ValueError(f"{folder} has a card; give another folder, or --overwrite")
    if is_classifier(options):
        card = convert_classifier(options)
        summary = {
            "network": card.network,
            **{f"network.{name}": value for name, value in card.options.items()},
            "images": f"{' x '.join(map(str, card.image_shape))}, in [0, 1]",
            "normalization": f"mean {list(card.mean)}, std {list(card.std)}",
            "classes": len(card.classes),
        }
    else:
        summary, card = convert_score_model(options)
    summary |= {"license": card.license, "sha256": card.sha256}
    output.show(summary, format_table([(f"{n:<22}", str(v)) for n, v in summary.items()]))
    flag = "--model" if card.kind == "score-model" else "--classifier"
    output.say(f"the card is {folder / 'card.toml'}; use it as {flag} {folder}")
    if card.kind == "classifier":
        _advise(output, card, folder)


def convert_score_model(options: ConvertOptions) -> "tuple[dict[str, Any], Card]":
    """Write the card of a score model; returns its summary and the card."""
    from scoreag.models.convert.checkpoint import convert_checkpoint, summarize

    found, card = convert_checkpoint(
        Path(options.checkpoint), Path(options.folder), parse_class_names(options.class_names),
        options.license or "", options.fp16, parse_config(options.config),
    )  # fmt: skip
    return dict(summarize(found)), card


def is_classifier(options: ConvertOptions) -> bool:
    """Whether the checkpoint is a classifier, by the options or by the format of the file."""
    from scoreag.classifiers.state_dict import ONNX, TORCH_EXPORT, TORCHSCRIPT, detect_file_format

    path = Path(options.checkpoint)
    classifier_options = (options.network, options.mean, options.std, options.shape, options.strip)
    return any(value is not None for value in classifier_options) or (
        path.is_file() and detect_file_format(path) in (ONNX, TORCH_EXPORT, TORCHSCRIPT)
    )


def convert_classifier(options: ConvertOptions) -> "Card":
    """Write the card of a classifier."""
    from scoreag.classifiers.state_dict import convert_state_dict

    config, class_names = parse_config(options.config), parse_class_names(options.class_names)
    file = Path(options.checkpoint)
    if not file.is_file():
        raise ValueError(f"there is no file {file}")
    known = SHAPES.get(options.class_names or "")
    return convert_state_dict(
        file,
        Path(options.folder),
        parse_channels(options.mean, "--mean"),
        parse_channels(options.std, "--std"),
        options.network,
        config,
        class_names,
        parse_shape(options.shape) if options.shape else known,
        options.license or "",
        options.fp16,
        options.strip,
    )


def _advise(output: OutputOptions, card: "Card", folder: Path) -> None:
    """Print how to use and check the card of a classifier."""
    from scoreag.models import trust

    trusted = ""
    if trust.is_custom_network(card.network):
        trusted = " --trust-code"
        output.say(f"it names code, {card.network}: give --trust-code to each command that uses it")
    output.say(f"check it: scoreag doctor --classifier {folder}{trusted} --data ...")


def parse_config(text: str | None) -> dict[str, Any] | None:
    """The table of --config, which is JSON."""
    if text is None:
        return None
    from scoreag.io.bounded import parse_json

    try:
        table = parse_json(text)
    except ValueError as error:
        raise UsageError(f"--config is no JSON: {error}") from error
    if not isinstance(table, dict):
        raise UsageError(
            f"--config is {short_repr(table)}; expected a table, e.g. " + '{"image_size": 64}'
        )
    return table


def parse_class_names(word: str | None) -> list[str]:
    """The classes of a data set, by its name, or the names themselves."""
    if word is None:
        return []
    if "," in word:
        return split_words(word)
    known = class_lists()
    if (name := word.replace("_", "-")) not in known:
        hint = did_you_mean(name, [*known])
        raise UsageError(f"--class-names {word}: no such data set; {hint}, or cat,dog,...")
    return known[name]


def parse_channels(text: str | None, flag: str) -> tuple[float, ...]:
    """``0.485,0.456,0.406``: a number per channel."""
    if text is None:
        raise UsageError(
            f"{flag} is missing: normalization is explicit. Write what the classifier was trained "
            "with, e.g. --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225; --mean 0 --std 1 if it "
            "takes images in [0, 1]"
        )
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"{flag} is {text!r}; write a number per channel, e.g. 0.5,0.5,0.5"
        ) from error


def parse_shape(text: str) -> tuple[int, int, int]:
    """``3x32x32``: channels, height and width."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)x([1-9]\d*)", text, re.ASCII)
    if not match:
        raise UsageError(f"--shape {text}: write CHANNELSxHEIGHTxWIDTH, e.g. 3x32x32")
    return int(match[1]), int(match[2]), int(match[3])
