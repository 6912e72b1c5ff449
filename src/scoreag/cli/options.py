"""The options of the command line, each with one help line that all commands share.

A command is a function of one frozen dataclass.  Its fields are the options: ``batch_size:
Annotated[int, Opt("Images per forward pass.")] = 16`` is ``--batch-size``.  A field that is itself
a dataclass is a group of options that several commands share.
"""

import json as jsonlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from inspect import Parameter, Signature, getdoc, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, get_args

import typer

from scoreag.core.memory_errors import explain_out_of_memory, is_out_of_memory
from scoreag.core.signals import CommandInterrupted
from scoreag.registry import did_you_mean

if TYPE_CHECKING:
    import torch

    from scoreag.classifiers.normalized import NormalizedClassifier
    from scoreag.data.loading import Dataset
    from scoreag.diffusion.prior import Prior
    from scoreag.io.ray_tasks import RayOptions
    from scoreag.io.run_shards import RunShard
    from scoreag.models.model_cards import Card
    from scoreag.report.table_export import Table

PLAIN = "table"  # text, to be read in a terminal
TABLE_FORMATS = (PLAIN, "csv", "json", "latex", "markdown")
ROBUSTBENCH = "robustbench"  # the JSON of its leaderboards, of a run of attacks
RUN_FORMATS = (*TABLE_FORMATS, ROBUSTBENCH)
FLOAT32, DTYPES = "float32", ("float32", "bf16")  # of the score model's maps
CARD = "the card's"  # the default if the score model's card decides
Check: TypeAlias = Callable[[str, Any], None]  # of a flag and its value


class UsageError(ValueError):
    """A wrong value on the command line, whatever the model."""


@dataclass(frozen=True)
class Opt:
    """The help of an option, and how its value is checked.

    Args:
        default: shown in the help if the default is not a value of its own; False shows none.
        check: raises ``UsageError``; not called with None.
        metavar: placeholder of the value in the help; by default the last word of the flag.
        positional: an argument without a flag.
    """

    help: str
    default: str | bool = True
    check: Check | None = None
    metavar: str | None = None
    positional: bool = False

    def to_parameter(self, field: "Field[Any]") -> Parameter:
        """The parameter of a typer command for this field of a dataclass."""
        type_, name = get_args(field.type)[0], field.name.strip("_").replace("_", "-")
        flag = name if self.positional else f"--{name}"
        default = ... if field.default is MISSING else field.default
        shown = False if default is ... else self.default

        def checked(value: Any) -> Any:
            if self.check is not None and value is not None:
                self.check(flag, value)
            return value

        # typer 0.15 cannot convert a list that went through a callback
        callback = None if self.check is None else checked
        if self.positional:
            info = typer.Argument(default, help=self.help, show_default=shown, callback=callback)
        else:
            has_off_switch = type_ in (bool, bool | None) and self.default is not False
            metavar = self.metavar or (name.split("-")[-1].upper() if "str" in str(type_) else None)
            info = typer.Option(
                default, f"{flag}/--no-{name}" if has_off_switch else flag, help=self.help,
                show_default=shown, callback=callback, metavar=metavar,
            )  # fmt: skip
        return Parameter(field.name, Parameter.KEYWORD_ONLY, default=info, annotation=type_)


def switch(help: str) -> Opt:
    """An option without a value, off by default."""
    return Opt(help, default=False)


def at_least(minimum: int) -> Check:
    """Refuse a smaller number."""

    def check(flag: str, value: Any) -> None:
        if value < minimum:
            raise UsageError(f"{flag} is {value}; expected {minimum} or more")

    return check


def one_of(*known: str) -> Check:
    """Refuse any other word."""

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
    "robustbench:MODEL. To use a file of weights, convert it first: scoreag convert."
)
_DATA_HELP = (
    "Images: cifar10:test[0:256], fashion-mnist:sample, image-folder:PATH, npz:FILE.npz, cat.png, "
    "or a run's folder."
)
_REFERENCE_HELP = "Checks whether the image still shows its class: a classifier, or none."
_TARGET_HELP = "Class to be predicted: runner-up, random, a class, or none (any wrong one)."
_FORMAT_HELP = f"Print the main table as {', '.join(TABLE_FORMATS)}."
_RUN_FORMAT_HELP = f"Print the main table as {', '.join(RUN_FORMATS)}."
_INFO_HELP = "Of --format robustbench: authors, link, venue, and so on; repeatable."
_BATCH_HELP = "Images per forward pass; 0: --write-every, unpadded, not bit-identical."

PICTURES = ("png", "webdataset", "parquet")
_PICTURES_HELP = "Pictures: png, one file each; webdataset or parquet, a thousand in a file."
RayAddress = Annotated[str | None, Opt("Run on a Ray cluster: auto, local, or ADDRESS.", "none")]

ModelName = Annotated[str, Opt("Score model: a card's name or folder, e.g. cifar10.")]
ClassifierName = Annotated[str, Opt(_CLASSIFIER_HELP)]
DataDir = Annotated[str | None, Opt("Folder of the data set's official files.", "SCOREAG_DATA")]
ClassName = Annotated[str | None, Opt("Class of a single image, by name or number.")]
Size = Annotated[str | None, Opt("Resize images: 32, or HEIGHTxWIDTH.", "as they are")]
TargetName = Annotated[str, Opt(_TARGET_HELP)]
ReferenceName = Annotated[str | None, Opt(_REFERENCE_HELP, CARD)]
Seed = Annotated[int, Opt("Seed of all random numbers, 0 or more.")]
Out = Annotated[str, Opt("Folder of the run; the same command resumes it.", check=not_empty)]
Overwrite = Annotated[bool, switch("Start over and replace the run in --out.")]
DryRun = Annotated[bool, switch("Measure a batch, and estimate the cost; write nothing.")]
Shard = Annotated[
    str | None,
    Opt("Part of the run, e.g. 2/4, to be joined by: scoreag merge.", "all", metavar="I/N"),
]
Device = Annotated[str, Opt("auto, cpu, cuda, a specific one such as cuda:1, or mps.")]
Dtype = Annotated[
    str, Opt("Of the score model: float32, or bf16, which is faster.", check=one_of(*DTYPES))
]
Compile = Annotated[bool, switch("Compile the score model by torch.compile: a minute at first.")]
MaxMemory = Annotated[str | None, Opt("Memory for a purifier's parallel draws, 4GiB.", "2GiB")]
GuidanceScale = Annotated[
    float | None, Opt("w of the prior's own guidance: 1 is none, more shows the class.", CARD)
]
Guide = Annotated[str | None, Opt("null (no label), head (inner output), or weaker:MODEL.", CARD)]
GuidanceInterval = Annotated[
    str | None, Opt("Noise levels of the prior's guidance.", CARD, metavar="LOW,HIGH")
]
Steps = Annotated[int | None, Opt("Number of noise levels above 0, 1 or more.", CARD)]
Sampler = Annotated[str | None, Opt("Sampler; see: scoreag list samplers.", CARD)]
SamplerOption = Annotated[
    list[str] | None, Opt("Option of the sampler; repeatable.", CARD, metavar="NAME=VALUE")
]


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What a command prints: the result on stdout, everything else on stderr."""

    quiet: Annotated[bool, switch("Suppress progress bars and the summary table.")] = False
    json: Annotated[bool, switch("Print the summary as JSON on stdout.")] = False
    debug: Annotated[bool, switch("Show the traceback of an error.")] = False

    @property
    def progress(self) -> bool:
        return not self.quiet

    def say(self, text: str) -> None:
        """Print a line on stderr, unless quiet."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def show(self, result: Any, text: str, main: "Table | Path | None" = None) -> None:
        """Print the result, as JSON or as text.

        Args:
            main: its table for other formats, or the table's files without their suffix.
        """
        if self.json:
            print(jsonlib.dumps(result, indent=2, ensure_ascii=False))
        elif not self.quiet:
            print(text)


@dataclass(frozen=True, kw_only=True)
class TableOutputOptions(OutputOptions):
    """The same for commands whose result is a table: ``main``, or the entries of the result."""

    format: Annotated[str, Opt(_FORMAT_HELP, check=one_of(*TABLE_FORMATS))] = PLAIN

    def __post_init__(self) -> None:
        if self.json and self.format != PLAIN:
            raise UsageError(
                f"--json prints the whole summary, --format {self.format} the main table; write "
                "one of them"
            )

    def show(self, result: Any, text: str, main: "Table | Path | None" = None) -> None:
        if self.format == PLAIN:
            return super().show(result, text)
        from scoreag.report.table_export import FORMATS, to_table

        suffix, convert = FORMATS[self.format]
        if isinstance(main, Path):
            print(main.with_suffix(f".{suffix}").read_text(encoding="utf-8"), end="")
        else:
            print(convert(main or to_table(result)), end="")


@dataclass(frozen=True, kw_only=True)
class RunOutputOptions(TableOutputOptions):
    """The same for the folder of a run, whose attacks may be an entry of RobustBench, too."""

    format: Annotated[str, Opt(_RUN_FORMAT_HELP, check=one_of(*RUN_FORMATS))] = PLAIN
    model_info: Annotated[
        list[str] | None, Opt(_INFO_HELP, "blank", metavar="NAME=VALUE")
    ] = None  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model_info and self.format != ROBUSTBENCH:
            raise UsageError(f"--model-info is of --format {ROBUSTBENCH}; write both")

    def read_model_info(self) -> dict[str, Any]:
        """The fields of --model-info, checked before any work."""
        if not self.model_info:
            return {}
        from scoreag.report.robustbench import INFO, check_info

        given = parse_pairs("--model-info", self.model_info)
        texts = {pair.partition("=")[0].strip(): pair.partition("=")[2] for pair in self.model_info}
        found = {n: texts[n].strip() if INFO.get(n) is str else v for n, v in given.items()}
        try:
            return check_info(found)
        except ValueError as error:
            raise UsageError(f"--model-info: {error}") from error

    def show(self, result: Any, text: str, main: "Table | Path | None" = None) -> None:
        if self.format == ROBUSTBENCH:
            raise UsageError(f"--format {ROBUSTBENCH} is of a run that is done; leave it out here")
        super().show(result, text, main)


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """Where the networks run and whether code in cards may run; loads models accordingly."""

    device: Device = "auto"
    trust_code: Annotated[
        bool, switch("Run code that a card or plan names, module:function.")
    ] = False  # fmt: skip

    def load_prior(self, name: str, dtype: str = FLOAT32, compile: bool = False) -> "Prior":
        from scoreag.models.loading import load_prior

        return load_prior(name, self.device, self.trust_code, dtype, compile)

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
    dry_run: DryRun = False
    shard: Shard = None
    write_every: Annotated[int, Opt("Images between two writes, rounded to whole batches.")] = 64
    batch_size: Annotated[int, Opt(_BATCH_HELP)] = 16
    format: Annotated[str, Opt(_PICTURES_HELP, check=one_of(*PICTURES))] = "png"


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """Whether Ray computes the batches of a run."""

    ray: RayAddress = None
    workers: Annotated[
        int | None, Opt("Tasks of Ray at a time.", "its processors", at_least(1))
    ] = None

    def connect(self, device: "torch.device") -> "RayOptions | None":
        """Where Ray computes; None: this process does."""
        if self.ray is None:
            if self.workers is not None:
                raise UsageError("--workers is of Ray; write --ray local, auto or HOST:PORT")
            return None
        from scoreag.io.ray_tasks import RayOptions

        return RayOptions(self.ray, self.workers, device.type == "cuda")


def split_words(text: str) -> list[str]:
    """cat, dog -> ["cat", "dog"]"""
    return [word.strip() for word in text.split(",")]


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How images are read; ``load`` reads them."""

    data_dir: DataDir = None
    size: Size = None

    def load(
        self,
        spec: str,
        progress: bool,
        classes: Sequence[str] = (),
        label: str | None = None,
        select: bool = True,
    ) -> "Dataset":
        """The images of ``spec``, with labels numbered by ``classes``.

        Args:
            label: the class of a single image.
            select: whether the images of other classes of an official data set are left out.
        """
        from scoreag.data.loading import load_dataset

        size = parse_size(self.size) if self.size else None
        return load_dataset(spec, self.data_dir, label, size, progress, tuple(classes), select)


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """The input images of a command."""

    data: Annotated[str, Opt(_DATA_HELP)]
    class_: ClassName = None
    reading: ReadOptions = field(default_factory=ReadOptions)

    def load(self, progress: bool, classes: Sequence[str]) -> "Dataset":
        """The images of --data, with labels numbered by ``classes``."""
        return self.reading.load(self.data, progress, classes, self.class_)


@dataclass(frozen=True, kw_only=True)
class ChainOptions:
    """How a task samples; None: the card decides."""

    sigma_start: Annotated[
        float | None, Opt("Noise level at which sampling starts, 0.002 to 1000.", CARD)
    ] = None
    steps: Steps = None
    sampler: Sampler = None
    sampler_option: SamplerOption = None
    guidance_scale: GuidanceScale = None
    guide: Guide = None
    guidance_interval: GuidanceInterval = None
    jacobian: Annotated[str | None, Opt("exact, identity or finite_difference.", CARD)] = None
    x0_estimate: Annotated[str | None, Opt("denoiser, ode_euler or sde_euler.", CARD)] = None


@dataclass(frozen=True, kw_only=True)
class SimilarityOptions:
    """How closely a task keeps to the given image."""

    similarity: Annotated[
        str | None,
        Opt(
            "s_x: inverse variance around the given image, in [-1, 1]; auto, beside a fixed "
            "--attack-scale: the largest that fools, for each image.",
            CARD,
        ),
    ] = None
    likelihood_variance: Annotated[str | None, Opt("constant, widened, damped or exact.", CARD)] = (
        None
    )


@dataclass(frozen=True, kw_only=True)
class AttackOptions:
    """How a classifier guides a task."""

    attack_scale: Annotated[
        str | None,
        Opt(
            "s_y: weight of the classifier's guidance, 0 (none) or more; auto: the smallest that "
            "fools, for each image.",
            CARD,
        ),
    ] = None
    attack_interval: Annotated[
        str | None, Opt("Noise levels of guidance; 0,inf: all.", CARD, metavar="LOW,HIGH")
    ] = None
    attack_loss: Annotated[str | None, Opt("likelihood or margin.", CARD)] = None
    normalize_gradient: Annotated[
        bool | None, Opt("Give the gradient the length --attack-scale.", CARD)
    ] = None
    polyak_step: Annotated[
        bool | None, Opt("Give it the length that reaches the goal, times --attack-scale.", CARD)
    ] = None
    momentum: Annotated[
        float | None, Opt("Momentum of the gradient over the calls of a chain.", CARD)
    ] = None
    tangent_projection: Annotated[
        bool | None, Opt("Leave out the gradient's part along the score.", CARD)
    ] = None
    x0_steps: Annotated[
        int | None, Opt("Further steps on the x0-estimate at every call.", CARD)
    ] = None
    augmentations: Annotated[
        int | None, Opt("Random views of the x0-estimate that guide on average.", CARD)
    ] = None
    stop_margin: Annotated[
        float | None, Opt("Margin of logits at which guidance pauses; inf: never.", CARD)
    ] = None
    max_restarts: Annotated[
        int | None,
        Opt("Restarts of an image that failed at a fixed scale, each at twice the scale.", CARD),
    ] = None
    energy_budget: Annotated[
        float | None, Opt("R: shifts of the sampler's noise never exceed R in all.", "no limit")
    ] = None
    energy_pace: Annotated[str | None, Opt("greedy, uniform or proportional.", "greedy")] = None


def sampling_kwargs(*groups: Any) -> dict[str, Any]:
    """The sampling options that are not None, under the names of ``SamplingConfig``."""
    every = [pair for group in groups for pair in flatten(group).items()]
    kwargs = {name: value for name, value in every if value is not None}
    if pairs := kwargs.pop("sampler_option", None):
        kwargs["sampler_options"] = parse_pairs("--sampler-option", pairs)
    for name in ("attack_scale", "similarity"):
        if isinstance(kwargs.get(name), str):
            kwargs[name] = parse_strength(name, kwargs[name])
    for name in ("attack_interval", "guidance_interval"):
        if kwargs.get(name) is not None:
            kwargs[name] = parse_interval(name, kwargs[name])
    return kwargs


def parse_shard(text: str | None) -> "RunShard | None":
    """``2/4`` as a shard; None without one."""
    from scoreag.io.run_shards import parse_shard

    try:
        return parse_shard(text) if text else None
    except ValueError as error:
        raise UsageError(str(error)) from error


def parse_size(text: str) -> tuple[int, int]:
    """``32`` or ``32x48``: height and width in pixels."""
    match = re.fullmatch(r"0*([1-9]\d*)(?:x0*([1-9]\d*))?", text, re.ASCII)
    if not match:
        raise UsageError(f"--size {text}: write pixels, 32, or HEIGHTxWIDTH, 32x48")
    return int(match[1]), int(match[2] or match[1])


def parse_strength(name: str, text: str) -> float | str:
    """A number, or ``auto``."""
    try:
        return "auto" if text == "auto" else float(text)
    except ValueError as error:
        flag = f"--{name.replace('_', '-')}"
        raise UsageError(f"{flag} {text!r}: write a number, or auto") from error


def parse_interval(name: str, text: str) -> tuple[float, float]:
    """``LOW,HIGH`` as two noise levels."""
    try:
        low, high = map(float, text.split(","))
    except ValueError as error:
        raise UsageError(
            f"--{name.replace('_', '-')} {text!r}: write two noise levels, e.g. 0.1,10"
        ) from error
    return low, high


def parse_pairs(flag: str, pairs: Sequence[str]) -> dict[str, int | float | bool | str]:
    """The pairs NAME=VALUE of a repeatable option."""
    return dict(_parse_pair(flag, pair) for pair in pairs)


def _parse_pair(flag: str, pair: str) -> tuple[str, int | float | bool | str]:
    """``name=value``, with the value as a number or boolean if it is one."""
    name, equals, text = (part.strip() for part in pair.partition("="))
    if not equals or not name:
        raise UsageError(f"{flag} {pair!r}: write NAME=VALUE")
    value: int | float | bool | str = text
    if text.lower() in ("true", "false"):
        value = text.lower() == "true"
    else:
        for kind in (float, int):  # an integer last, as it is also a float
            try:
                value = kind(text)
            except ValueError:
                continue
    return name.replace("-", "_"), value


def option_fields(kind: Any) -> Iterator["Field[Any]"]:
    """The fields of a dataclass of options, including those of its groups."""
    for member in fields(kind):
        if is_dataclass(member.type):
            yield from option_fields(member.type)
        else:
            yield member


def build(kind: Any, values: dict[str, Any]) -> Any:
    """A dataclass of options from the values of all its fields, including its groups."""
    return kind(
        **{
            f.name: build(f.type, values) if is_dataclass(f.type) else values[f.name]
            for f in fields(kind)
        }
    )


def flatten(options: Any) -> dict[str, Any]:
    """The values of all options, by name."""
    values: dict[str, Any] = {}
    for member in fields(options):
        value = getattr(options, member.name)
        values |= flatten(value) if is_dataclass(value) else {member.name: value}
    return values


def add_command(app: typer.Typer, name: str, run: Callable[[Any], None]) -> None:
    """Make a command of a function whose only parameter is a dataclass of options.

    The first paragraph of its docstring is the help; the rest are examples, one per line.
    """
    kind = next(iter(signature(run).parameters.values())).annotation
    parameters = [get_args(f.type)[1].to_parameter(f) for f in option_fields(kind)]

    def command(**values: Any) -> None:
        try:
            run(build(kind, values))
        except KeyboardInterrupt as error:
            raise CommandInterrupted(error) from error
        except Exception as error:
            if is_out_of_memory(error) and not values["debug"]:
                raise explain_out_of_memory(error, values) from error
            raise

    command.__dict__["__signature__"] = Signature(parameters)
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    text, _, examples = (getdoc(run) or "").partition("\n\n")
    lines = re.sub("^", "  ", examples.replace("\\\n    ", ""), flags=re.MULTILINE)
    app.command(name, help=text, epilog=f"\b\nExample:\n{lines}")(command)
