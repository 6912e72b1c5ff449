"""The options of the command line: one line of help each, the same wherever they appear.

A command is a function of one frozen dataclass.  Its fields are the options, and a field that is
itself a dataclass is a group of options that several commands share.
"""

import json as jsonlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, TypeAlias, TypeVar

import typer

from scoreag.cli.parsing import UsageError, parse_interval, parse_pairs, parse_size
from scoreag.core.memory_errors import explain_out_of_memory, is_out_of_memory
from scoreag.core.signals import CommandInterrupted
from scoreag.registry import did_you_mean

CARD = "the card's"  # the default where the score model's card decides
Check: TypeAlias = Callable[[str, Any], None]  # of a flag and its value
T = TypeVar("T")


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


def option(
    flag: str,
    text: str,
    default: str | bool = True,
    check: Check | None = None,
    metavar: str | None = None,
) -> Any:
    """``--flag`` with its help.

    Args:
        default: what decides where nothing is given, if that is no value of its own.
        check: refuses values; it is not asked about None.
    """

    def checked(value: Any) -> Any:
        if check is not None and value is not None:
            check(flag, value)
        return value

    callback = checked if check else None
    return typer.Option(flag, help=text, show_default=default, callback=callback, metavar=metavar)


ModelName = Annotated[
    str, option("--model", "Score model: a card's name or folder, e.g. cifar10.", metavar="CARD")
]
ClassifierName = Annotated[
    str,
    option(
        "--classifier",
        "Classifier: a card's name or folder, package.module:factory, path/to/file.py:factory, or "
        "robustbench:MODEL. A file of weights becomes a folder by: scoreag convert.",
        metavar="CLASSIFIER",
    ),
]
DATA_HELP = (
    "Images: cifar10:test[0:256], fashion-mnist:sample, image-folder:PATH, npz:FILE.npz, cat.png, "
    "or a run's folder."
)
DataDir = Annotated[
    str | None,
    option(
        "--data-dir", "Folder of the data set's official files.", "SCOREAG_DATA", metavar="FOLDER"
    ),
]
ClassName = Annotated[
    str | None, option("--class", "Class of a single image, by name or number.", metavar="CLASS")
]
Size = Annotated[
    str | None,
    option("--size", "Resize images to this: 32, or HEIGHTxWIDTH.", "as they are", metavar="SIZE"),
]
Classes = Annotated[
    str,
    option(
        "--classes",
        "Classes to generate: all, 3, 0,3,5, 0-4, or names such as cat,dog.",
        metavar="CLASSES",
    ),
]
TargetName = Annotated[
    str,
    option(
        "--target",
        "Class that the classifier shall predict: runner-up, random, a class, or none (any wrong).",
        metavar="TARGET",
    ),
]
ReferenceName = Annotated[
    str | None,
    option(
        "--reference-classifier",
        "Checks whether the image still shows its class: a classifier, or none.",
        CARD,
        metavar="CLASSIFIER",
    ),
]
Seed = Annotated[int, option("--seed", "Seed of all random numbers, 0 or more.")]
Out = Annotated[
    str,
    option(
        "--out",
        "Folder of the run; the same command resumes it.",
        check=not_empty,
        metavar="FOLDER",
    ),
]
OptionalOut = Annotated[
    str | None, option("--out", "Folder of the results.", check=not_empty, metavar="FOLDER")
]
Overwrite = Annotated[bool, option("--overwrite", "Start afresh, whatever run is in --out.")]
Quiet = Annotated[bool, option("--quiet", "Suppress progress bars and the summary table.")]
Json = Annotated[bool, option("--json", "Print the summary as JSON on stdout.")]
Device = Annotated[
    str, option("--device", "auto, cpu, cuda, a certain one such as cuda:1, or mps.")
]
TrustCode = Annotated[
    bool, option("--trust-code", "Run code that a card or plan names, module:function.")
]
WriteEvery = Annotated[
    int, option("--write-every", "Images between two writes; whole batches are written.")
]
BatchSize = Annotated[
    int,
    option(
        "--batch-size", "Images per forward pass; 0: --write-every, unpadded, not bit-identical."
    ),
]
MaxMemory = Annotated[
    str | None,
    option("--max-memory", "Memory for a purifier's parallel draws, e.g. 4GiB.", "2GiB"),
]
Debug = Annotated[bool, option("--debug", "Show the traceback of an error.", default=False)]
Dtype = Annotated[str, option("--dtype", "float32 or bf16.", check=one_of("float32", "bf16"))]
Steps = Annotated[int | None, option("--steps", "Noise levels before 0, 1 or more.", CARD)]
Sampler = Annotated[str | None, option("--sampler", "Sampler; see: scoreag list samplers.", CARD)]
SamplerOption = Annotated[
    list[str] | None,
    option("--sampler-option", "Option of the sampler; repeatable.", CARD, metavar="NAME=VALUE"),
]
Similarity = Annotated[
    float | None,
    option("--similarity", "s_x: inverse variance around the given image, in [-1, 1].", CARD),
]
SigmaStart = Annotated[
    float | None,
    option("--sigma-start", "Noise level at which sampling starts, 0.002 to 1000.", CARD),
]
Jacobian = Annotated[
    str | None,
    option("--jacobian", "Of the guidance: exact, identity or finite_difference.", CARD),
]
X0Estimate = Annotated[
    str | None, option("--x0-estimate", "denoiser, ode_euler or sde_euler.", CARD)
]
LikelihoodVariance = Annotated[
    str | None,
    option("--likelihood-variance", "constant, widened, damped or exact.", CARD),
]
AttackScale = Annotated[
    float | None,
    option("--attack-scale", "s_y: weight of the classifier's guidance, 0 (none) or more.", CARD),
]


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
    """Where the networks run, and whether a card's code may."""

    device: Device = "auto"
    trust_code: TrustCode = False


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """A run's folder, and what its images are computed by."""

    seed: Seed = 0
    out: Out
    overwrite: Overwrite = False
    write_every: WriteEvery = 64
    batch_size: BatchSize = 16


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """The images that a command is given."""

    data: Annotated[str, option("--data", DATA_HELP, metavar="DATA")]
    data_dir: DataDir = None
    class_: ClassName = None
    size: Size = None

    @property
    def height_width(self) -> tuple[int, int] | None:
        return parse_size(self.size) if self.size else None


@dataclass(frozen=True, kw_only=True)
class PurifyOptions:
    """How a task samples, where no classifier guides; None is what the card says."""

    similarity: Similarity = None
    sigma_start: SigmaStart = None
    steps: Steps = None
    sampler: Sampler = None
    sampler_option: SamplerOption = None
    jacobian: Jacobian = None
    x0_estimate: X0Estimate = None
    likelihood_variance: LikelihoodVariance = None


@dataclass(frozen=True, kw_only=True)
class GuidanceOptions:
    """How the classifier guides; None is what the card says."""

    attack_scale: AttackScale = None
    attack_interval: Annotated[
        str | None,
        option("--attack-interval", "Noise levels at which the classifier guides; 0,inf: all.",
               CARD, metavar="LOW,HIGH"),
    ] = None  # fmt: skip
    attack_loss: Annotated[str | None, option("--attack-loss", "likelihood or margin.", CARD)] = (
        None
    )
    normalize_gradient: Annotated[
        bool | None,
        option("--normalize-gradient/--no-normalize-gradient",
               "Give the gradient the length --attack-scale.", CARD),
    ] = None  # fmt: skip
    stop_margin: Annotated[
        float | None,
        option("--stop-margin",
               "Margin of logits at which guidance pauses; inf: never.", CARD),
    ] = None  # fmt: skip
    max_restarts: Annotated[
        int | None,
        option("--max-restarts", "Restarts of an image that failed, each at twice the scale.",
               CARD),
    ] = None  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """How a task samples."""

    unguided: PurifyOptions
    guidance: GuidanceOptions


def sampling_kwargs(options: Any) -> dict[str, Any]:
    """The sampling options that were given, under the names of ``SamplingConfig``."""
    values = flatten(options)
    found = {name: values[name] for name in map(_name, parameters(type(options)))}
    if pairs := found.pop("sampler_option"):
        found["sampler_options"] = parse_pairs(pairs)
    if interval := found.get("attack_interval"):
        found["attack_interval"] = parse_interval(interval)
    return {name: value for name, value in found.items() if value is not None}


def _name(parameter: Parameter) -> str:
    return parameter.name


def parameters(kind: Any) -> Iterator[Parameter]:
    """The options of a dataclass and of the groups in it, as parameters of a function."""
    for field in fields(kind):
        if is_dataclass(field.type):
            yield from parameters(field.type)
        else:
            default = Parameter.empty if field.default is MISSING else field.default
            yield Parameter(
                field.name, Parameter.KEYWORD_ONLY, default=default, annotation=field.type
            )


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
    found: dict[str, Any] = {}
    for field in fields(options):
        value = getattr(options, field.name)
        found |= flatten(value) if is_dataclass(value) else {field.name: value}
    return found


def add_command(app: typer.Typer, name: str, run: Callable[[Any], None], *examples: str) -> None:
    """Offer a function of a dataclass of options as a command."""
    kind = next(iter(signature(run).parameters.values())).annotation
    debug = Parameter("debug", Parameter.KEYWORD_ONLY, default=False, annotation=Debug)
    options = [*parameters(kind), debug]

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
    lines = "\n".join(f"  {example}" for example in examples)
    app.command(name, help=run.__doc__, epilog=f"\b\nExample:\n{lines}")(command)
