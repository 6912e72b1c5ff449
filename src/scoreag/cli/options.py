"""The options of the command line: one line of help each, the same wherever they appear.

A command is a function of one frozen dataclass.  Its fields are the options: ``batch_size:
Annotated[int, Opt("Images per forward pass.")] = 16`` is ``--batch-size``.  A field that is itself
a dataclass is a group of options that several commands share.
"""

import json as jsonlib
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from inspect import Parameter, Signature, getdoc, signature
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar, get_args

import typer

from scoreag.cli.parsing import UsageError, parse_interval, parse_pairs, parse_size
from scoreag.core.memory_errors import explain_out_of_memory, is_out_of_memory
from scoreag.core.signals import CommandInterrupted
from scoreag.registry import did_you_mean

if TYPE_CHECKING:
    import torch

    from scoreag.classifiers.normalized import NormalizedClassifier
    from scoreag.diffusion.prior import Prior
    from scoreag.models.model_cards import Card

CARD = "the card's"  # the default where the score model's card decides
Check: TypeAlias = Callable[[str, Any], None]  # of a flag and its value
T = TypeVar("T")


@dataclass(frozen=True)
class Opt:
    """What the command line says of an option.

    Args:
        default: what decides where nothing is given, if that is no value of its own.
        check: refuses values; it is not asked about None.
        metavar: stands for the value in the help; by default the last word of the flag.
        positional: whether it is a word without a flag.
    """

    help: str
    default: str | bool = True
    check: Check | None = None
    metavar: str | None = None
    positional: bool = False

    def to_typer(self, name: str, kind: Any, has_default: bool) -> Any:
        """The option as typer describes it; ``name`` is the field's, ``kind`` its type."""
        flag = "--" + name.strip("_").replace("_", "-")
        shown = self.default if has_default else False
        if self.positional:
            return typer.Argument(help=self.help, show_default=shown, callback=self.checked(name))
        is_flag, is_text = kind in (bool, bool | None), "str" in str(kind)
        metavar = self.metavar or (flag.split("-")[-1].upper() if is_text else None)
        return typer.Option(
            f"{flag}/--no-{flag[2:]}" if is_flag and self.default is not False else flag,
            help=self.help, show_default=shown, callback=self.checked(flag), metavar=metavar,
        )  # fmt: skip

    def checked(self, flag: str) -> Any:
        """The check as a callback of typer."""
        if (check := self.check) is None:
            return None

        def callback(value: Any) -> Any:
            if value is not None:
                check(flag, value)
            return value

        return callback


def switch(help: str) -> Opt:
    """An option that is on where it is given."""
    return Opt(help, default=False)


def at_least(least: int) -> Check:
    """Refuse a smaller number."""

    def check(flag: str, value: Any) -> None:
        if value < least:
            raise UsageError(f"{flag} is {value}; expected {least} or more")

    return check


def one_of(*known: str) -> Check:
    """Refuse another word."""

    def check(flag: str, value: Any) -> None:
        if value not in known:
            raise UsageError(f"{flag} is {value!r}; {did_you_mean(value, [*known])}")

    return check


def not_empty(flag: str, value: Any) -> None:
    """Refuse a folder without a name."""
    if value == "":
        raise UsageError(f"{flag} is empty; write a folder's name")


_CLASSIFIER_HELP = (
    "Classifier: a card's name or folder, package.module:factory, path/to/file.py:factory, or "
    "robustbench:MODEL. A file of weights becomes a folder by: scoreag convert."
)
_DATA_HELP = (
    "Images: cifar10:test[0:256], fashion-mnist:sample, image-folder:PATH, npz:FILE.npz, cat.png, "
    "or a run's folder."
)
_REFERENCE_HELP = "Checks whether the image still shows its class: a classifier, or none."
_TARGET_HELP = "Class to be predicted: runner-up, random, a class, or none (any wrong one)."
_BATCH_HELP = "Images per forward pass; 0: --write-every, unpadded, not bit-identical."

ModelName = Annotated[str, Opt("Score model: a card's name or folder, e.g. cifar10.")]
ClassifierName = Annotated[str, Opt(_CLASSIFIER_HELP)]
DataDir = Annotated[str | None, Opt("Folder of the data set's official files.", "SCOREAG_DATA")]
ClassName = Annotated[str | None, Opt("Class of a single image, by name or number.")]
Size = Annotated[str | None, Opt("Resize images: 32, or HEIGHTxWIDTH.", "as they are")]
TargetName = Annotated[str, Opt(_TARGET_HELP)]
ReferenceName = Annotated[str | None, Opt(_REFERENCE_HELP, CARD)]
Seed = Annotated[int, Opt("Seed of all random numbers, 0 or more.")]
Out = Annotated[str, Opt("Folder of the run; the same command resumes it.", check=not_empty)]
Overwrite = Annotated[bool, switch("Start afresh, whatever run is in --out.")]
Quiet = Annotated[bool, switch("Suppress progress bars and the summary table.")]
Json = Annotated[bool, switch("Print the summary as JSON on stdout.")]
Device = Annotated[str, Opt("auto, cpu, cuda, a certain one such as cuda:1, or mps.")]
TrustCode = Annotated[bool, switch("Run code that a card or plan names, module:function.")]
WriteEvery = Annotated[int, Opt("Images between two writes; whole batches are written.")]
BatchSize = Annotated[int, Opt(_BATCH_HELP)]
MaxMemory = Annotated[str | None, Opt("Memory for a purifier's parallel draws, 4GiB.", "2GiB")]
Steps = Annotated[int | None, Opt("Noise levels before 0, 1 or more.", CARD)]
Sampler = Annotated[str | None, Opt("Sampler; see: scoreag list samplers.", CARD)]
SamplerOption = Annotated[
    list[str] | None, Opt("Option of the sampler; repeatable.", CARD, metavar="NAME=VALUE")
]
Debug = Annotated[bool, switch("Show the traceback of an error.")]


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What is printed: the answer on stdout, everything else on stderr."""

    quiet: Quiet = False
    json: Json = False

    @property
    def progress(self) -> bool:
        return not self.quiet

    def say(self, text: str) -> None:
        """A line for the person who waits."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def show(self, result: Any, table: str) -> None:
        """The answer: as JSON, or as a table."""
        if self.json:
            print(jsonlib.dumps(result, indent=2, ensure_ascii=False))
        elif not self.quiet:
            print(table)


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """Where the networks run, and whether a card's code may; what loads them accordingly."""

    device: Device = "auto"
    trust_code: TrustCode = False

    def load_prior(self, name: str) -> "Prior":
        from scoreag.models.loading import load_prior

        return load_prior(name, self.device, self.trust_code)

    def load_classifier(self, name: str) -> "NormalizedClassifier":
        from scoreag.classifiers.loading import load_classifier

        return load_classifier(name, self.device, trust_code=self.trust_code)

    def load_card(self, name: str) -> "Card":
        from scoreag.models.model_cards import load_card

        return load_card(name, self.trust_code)

    def resolve(self) -> "torch.device":
        from scoreag.models.loading import resolve_device

        return resolve_device(self.device)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """A run's folder, and how its images are computed."""

    seed: Seed = 0
    out: Out
    overwrite: Overwrite = False
    write_every: WriteEvery = 64
    batch_size: BatchSize = 16


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """The images that a command is given."""

    data: Annotated[str, Opt(_DATA_HELP)]
    data_dir: DataDir = None
    class_: ClassName = None
    size: Size = None

    @property
    def height_width(self) -> tuple[int, int] | None:
        return parse_size(self.size) if self.size else None


@dataclass(frozen=True, kw_only=True)
class UnguidedOptions:
    """How a task samples where no classifier guides; None is what the card says."""

    similarity: Annotated[
        float | None, Opt("s_x: inverse variance around the given image, in [-1, 1].", CARD)
    ] = None
    sigma_start: Annotated[
        float | None, Opt("Noise level at which sampling starts, 0.002 to 1000.", CARD)
    ] = None
    steps: Steps = None
    sampler: Sampler = None
    sampler_option: SamplerOption = None
    jacobian: Annotated[str | None, Opt("exact, identity or finite_difference.", CARD)] = None
    x0_estimate: Annotated[str | None, Opt("denoiser, ode_euler or sde_euler.", CARD)] = None
    likelihood_variance: Annotated[str | None, Opt("constant, widened, damped or exact.", CARD)] = (
        None
    )


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """How a task samples; None is what the card says."""

    unguided: UnguidedOptions
    attack_scale: Annotated[
        float | None, Opt("s_y: weight of the classifier's guidance, 0 (none) or more.", CARD)
    ] = None
    attack_interval: Annotated[
        str | None, Opt("Noise levels of guidance; 0,inf: all.", CARD, metavar="LOW,HIGH")
    ] = None
    attack_loss: Annotated[str | None, Opt("likelihood or margin.", CARD)] = None
    normalize_gradient: Annotated[
        bool | None, Opt("Give the gradient the length --attack-scale.", CARD)
    ] = None
    stop_margin: Annotated[
        float | None, Opt("Margin of logits at which guidance pauses; inf: never.", CARD)
    ] = None
    max_restarts: Annotated[
        int | None, Opt("Restarts of an image that failed, each at twice the scale.", CARD)
    ] = None


def sampling_kwargs(options: Any) -> dict[str, Any]:
    """The sampling options that were given, under the names of ``SamplingConfig``."""
    given = {name: value for name, value in flatten(options).items() if value is not None}
    if pairs := given.pop("sampler_option", None):
        given["sampler_options"] = parse_pairs(pairs)
    if interval := given.get("attack_interval"):
        given["attack_interval"] = parse_interval(interval)
    return given


def parameters(kind: Any) -> Iterator[Parameter]:
    """The options of a dataclass and of the groups in it, as parameters of a typer command."""
    for field in fields(kind):
        if is_dataclass(field.type):
            yield from parameters(field.type)
        else:
            yield _parameter(field)


def _parameter(field: "Field[Any]") -> Parameter:
    type_, opt = get_args(field.type)
    has_default = field.default is not MISSING
    annotation = Annotated[type_, opt.to_typer(field.name, type_, has_default)]  # type: ignore[valid-type]
    default = field.default if has_default else Parameter.empty
    return Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def build(kind: Callable[..., T], values: dict[str, Any]) -> T:
    """The dataclass of these values, with its groups."""
    return kind(
        **{
            field.name: build(field.type, values)  # type: ignore[arg-type]
            if is_dataclass(field.type)
            else values[field.name]
            for field in fields(kind)  # type: ignore[arg-type]
        }
    )


def flatten(options: Any) -> dict[str, Any]:
    """The values of all options, by name."""
    values: dict[str, Any] = {}
    for field in fields(options):
        value = getattr(options, field.name)
        values |= flatten(value) if is_dataclass(value) else {field.name: value}
    return values


@dataclass(frozen=True, kw_only=True)
class DebugOptions:
    """What every command takes besides its own."""

    debug: Debug = False


def add_command(app: typer.Typer, name: str, run: Callable[[Any], None]) -> None:
    """Offer a function of a dataclass of options as a command.

    The first line of its docstring is the help; what follows are examples, one a line.
    """
    kind = next(iter(signature(run).parameters.values())).annotation
    options = [*parameters(kind), *parameters(DebugOptions)]

    def command(**values: Any) -> None:
        try:
            run(build(kind, values))
        except KeyboardInterrupt as error:
            raise CommandInterrupted(error) from error
        except Exception as error:
            if is_out_of_memory(error) and not values["debug"]:
                raise explain_out_of_memory(error, values) from error
            raise

    command.__signature__ = Signature(options)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in options}
    text, _, examples = (getdoc(run) or "").partition("\n\n")
    lines = re.sub("^", "  ", examples.replace("\\\n    ", ""), flags=re.MULTILINE)
    app.command(name, help=text, epilog=f"\b\nExample:\n{lines}")(command)
