"""The options of the command line: one plain line each, and the same wherever it appears."""

import sys
from collections.abc import Callable
from inspect import Parameter, Signature
from keyword import iskeyword
from types import SimpleNamespace
from typing import Annotated, Any, TypeAlias

import typer

from scoreag.cli.parsing import UsageError
from scoreag.core.memory_errors import explain_out_of_memory, is_out_of_memory
from scoreag.core.signals import CommandInterrupted

Given: TypeAlias = SimpleNamespace  # what the user gave, an attribute an option
Verb: TypeAlias = Callable[[Given], None]

AUTO_TASK = "default: the model card's"


def option(
    flag: str, kind: Any, text: str, default: Any = None, metavar: str | None = None
) -> Parameter:
    """``--flag``; required where the default is ``...``, absent where it is None."""
    name = flag.lstrip("-").split("/")[0].replace("-", "_")
    name += "_" * iskeyword(name)
    taken = kind if default not in (None, ...) else kind | None if default is None else kind
    told = typer.Option(flag, help=text, metavar=metavar, show_default=default is not None)
    value = Parameter.empty if default is ... else default
    return Parameter(name, Parameter.KEYWORD_ONLY, default=value, annotation=Annotated[taken, told])


def argument(name: str, text: str, default: Any = ...) -> Parameter:
    """A word without a flag."""
    told = typer.Argument(help=text, show_default=False)
    kind = str if default is ... else str | None
    value = Parameter.empty if default is ... else default
    return Parameter(name, Parameter.KEYWORD_ONLY, default=value, annotation=Annotated[kind, told])


def verb(app: typer.Typer, name: str, *taken: Parameter, example: str) -> Callable[[Verb], Verb]:
    """Offer a function of what was given as a verb that takes these options and --debug."""
    options = [*taken, DEBUG]

    def offer(function: Verb) -> Verb:
        def command(**values: Any) -> None:
            if values.get("out") == "":
                raise UsageError("--out is empty; write a folder's name")
            unoffered = {setting.name: None for setting in SETTINGS}
            try:
                function(Given(**{**unoffered, **values}))
            except KeyboardInterrupt as error:
                raise CommandInterrupted(error) from error
            except Exception as error:
                if is_out_of_memory(error) and not values["debug"]:
                    raise explain_out_of_memory(error, values) from error
                raise

        command.__signature__ = Signature(options)  # type: ignore[attr-defined]
        command.__annotations__ = {o.name: o.annotation for o in options}
        app.command(name, help=function.__doc__, epilog=f"\b\nExample:\n  {example}")(command)
        return function

    return offer


def loud(given: Given) -> bool:
    """Whether bars and tables may be shown."""
    return not given.quiet


def say(given: Given, text: str) -> None:
    """A line for the person who waits: on stderr, so that stdout is the answer alone."""
    if not given.quiet:
        print(text, file=sys.stderr, flush=True)


DEBUG = option("--debug", bool, "Show the traceback of an error.", False)
MODEL = option("--model", str, "Score model: a card's name or folder, e.g. cifar10.", ...)
CLASSIFIER = option(
    "--classifier", str,
    "Classifier: a card's name or folder, package.module:factory, path/to/file.py:factory, or "
    "robustbench:MODEL; "
    "a file of weights becomes a folder by: scoreag convert.", ...,
)  # fmt: skip
JUDGED_BY = option("--classifier", str, "Classifier asked before and after; default: none.")
DATA = option(
    "--data", str,
    "Images: cifar10:test[0:256], fashion-mnist:sample, image-folder:PATH, npz:FILE.npz, "
    "cat.png, a run's folder.",
    ...,
)  # fmt: skip
DATA_DIR = option(
    "--data-dir", str, "Folder of the data set's official files; default: SCOREAG_DATA."
)
CLASS = option("--class", str, "Class of a single picture, by name or number.")
SIZE = option("--size", str, "Resize pictures to this: 32 or HEIGHTxWIDTH; default: as they are.")
CLASSES = option(
    "--classes", str, "Classes to draw: all, 3, 0,3,5, 0-4, or names such as cat,dog.", "all"
)
PER_CLASS = option("--per-class", int, "Images of each class.", 10)
TARGET = option(
    "--target", str,
    "What the classifier shall say: runner-up, random, none (anything wrong), or a class.",
    "runner-up",
)  # fmt: skip
JUDGE = option(
    "--reference-classifier",
    str,
    "Says whether the class is still shown: a classifier, or none; default: the model card's.",
)
SEED = option("--seed", int, "Seed of all random numbers, 0 or more.", 0)
OUT = option("--out", str, "Folder of the run; the same command goes on where it was.", ...)
OVERWRITE = option("--overwrite", bool, "Start afresh, whatever run is in --out.", False)
QUIET = option("--quiet", bool, "No bars and no table.", False)
JSON = option("--json", bool, "Print the summary as JSON on stdout.", False)
DEVICE = option("--device", str, "auto, cpu, cuda, a certain one such as cuda:1, or mps.", "auto")
TRUST_CODE = option(
    "--trust-code", bool, "Run code that a card or plan names, module:function.", False
)
WRITE_EVERY = option(
    "--write-every", int, "Images between two writes; whole batches are written.", 64
)
BATCH_SIZE = option(
    "--batch-size", int,
    "Images a forward pass; 0: --write-every, unpadded, not bit-identical.", 16,
)  # fmt: skip
COMMON = (SEED, OUT, OVERWRITE, QUIET, JSON, DEVICE, WRITE_EVERY, BATCH_SIZE, TRUST_CODE)

SETTINGS = tuple(
    option(flag, kind, f"{text}; {AUTO_TASK}.", metavar=metavar)
    for flag, kind, text, metavar in (
        ("--attack-scale", float, "s_y, pull of the classifier's verdict, 0 (none) or more", None),
        ("--similarity", float, "s_x, inverse variance in [-1, 1] of the given image", None),
        ("--sigma-start", float, "Noise level at which the chain begins, 0.002 to 1000", None),
        ("--steps", int, "Noise levels before 0, 1 or more", None),
        ("--sampler", str, "How a level leads to the next; see: scoreag list samplers", None),
        ("--sampler-option", list[str], "An option of the sampler, may be repeated", "NAME=VALUE"),
        ("--jacobian", str, "Of guidance: exact, identity or finite_difference", None),
        ("--x0-estimate", str, "x0-estimate: denoiser, ode_euler or sde_euler", None),
        (
            "--attack-interval",
            str,
            "Noise levels at which the classifier acts, 0,inf: all",
            "LOW,HIGH",
        ),
        ("--likelihood-variance", str, "Of an estimate: damped, exact, widened or constant", None),
        ("--attack-loss", str, "likelihood or margin", None),
        (
            "--normalize-gradient/--no-normalize-gradient",
            bool,
            "Gradient has length --attack-scale",
            None,
        ),
        (
            "--stop-margin",
            float,
            "Lead of the error in logits that is enough, below 0: none; inf: never",
            None,
        ),
        ("--max-restarts", int, "Further draws of a failure, each at doubled scale", None),
    )
)
UNGUIDED = tuple(  # purify asks no classifier on its way
    o for o in SETTINGS
    if o.name not in (
        "attack_scale", "attack_interval", "attack_loss", "normalize_gradient", "stop_margin",
        "max_restarts",
    )
)  # fmt: skip

TOUR = (
    option("--out", str, "Folder of the report.", "runs/demo"),
    option("--data", str, "Real images, as for transform; default: 20 that come with foolbox."),
    DATA_DIR,
    SEED,
    OVERWRITE,
    QUIET,
    JSON,
    DEVICE,
)
ASSESSED = (
    argument("plan", "quick, paper, full, or a file PLAN.toml; see: scoreag list plans."),
    option("--out", str, "Folder of the assessment; the same command goes on where it was."),
    option("--workers", int, "Processes, or actors of Ray; default: this process alone."),
    option("--ray", str, "Work on a cluster of Ray: auto, local, or its ADDRESS."),
    option("--dry-run", bool, "Measure a few images and say what all would cost.", False),
    option("--only", str, "One cell, by its name or key, or those that fit a pattern: '*/pgd*'."),
    option("--lpips-weights", str, "Weights of LPIPS: FEATURES.npz,HEADS.npz; default: none."),
    option("--download-lpips", bool, "Download the weights of LPIPS, where they lack.", False),
    option("--max-memory", str, "Of purifiers: draws of a gradient taken at once, e.g. 4GiB."),
    DATA_DIR,
    WRITE_EVERY,
    OVERWRITE,
    QUIET,
    JSON,
    DEVICE,
    TRUST_CODE,
)
REPORTED = (argument("folder", "Folder of a run."), QUIET, JSON)
EXAMINED = (
    QUIET, JSON, DEVICE, option("--batch-size", int, "Images asked about at once.", 250),
    TRUST_CODE,
)  # fmt: skip
LISTED = (
    argument(
        "kind",
        "models, classifiers, attacks, purifiers, samplers, networks, metrics, datasets, plans or "
        "presets.",
        None,
    ),
    QUIET,
    JSON,
)
TRAINED = (
    option("--preset", str, "The recipe, by name; see: scoreag list presets.", ...),
    option("--data", str, "Training images, which have labels.", "cifar10:train[0:45000]"),
    DATA_DIR,
    SIZE,
    OUT,
    option("--train-images", int, "Images to see, each time counted; default: the preset's."),
    option("--batch-size", int, "Images a step; default: the preset's."),
    option("--lr", float, "Full learning rate; default: the preset's."),
    option("--dtype", str, "float32, bf16, or auto: bf16 where it is fast.", "auto"),
    option("--seed", int, "Seed of weights, order and noise; default: the preset's."),
    option("--checkpoint-seconds", float, "Seconds between two checkpoints.", 60.0),
    option("--license", str, "Of the weights; default: unspecified, with the data's terms."),
    OVERWRITE,
    QUIET,
    JSON,
    DEVICE,
    TRUST_CODE,
)
SCORE_MODEL = (
    option("--init", str, "Card whose weights to go on from, with a fresh optimizer."),
    option("--grow-resolution", bool, "Put a level of finer maps around the network of --init.", False),
    option(
        "--sample-every-images", int, "Images between two sample grids; default: a tenth of all."
    ),
    option("--grad-accum-steps", int, "Pieces of a batch that are seen one after the other.", 1),
    option("--ema-width", float, "Width of the average, made of snapshots; default: the preset's."),
    option("--tensorboard", bool, "Write curves for TensorBoard, too.", False),
    option("--compile", bool, "Compile the network with torch.compile.", False),
    option(
        "--channels-last/--no-channels-last", bool, "Colors of a pixel side by side in memory.",
        True,
    ),
)  # fmt: skip
CLASSIFIER_TRAINED = (
    option("--init", str, "Card whose weights to go on from, with a fresh optimizer."),
    option("--extra-data", str, "Further labelled images, such as a score model's samples."),
    option("--extra-fraction", float, "Share of each batch that is --extra-data, e.g. 0.7."),
)
CONVERTED = (
    argument(
        "checkpoint",
        "A score model's, as docs/checkpoints.md lists them: a file, or a folder. "
        "A classifier's: a state dict.",
    ),
    argument("folder", "Folder of the card and the weights that are written."),
    option(
        "--class-names", str, "Names of its classes: a data set's, e.g. cifar10, or cat,dog,..."
    ),
    option(
        "--config",
        str,
        "Of a score model's training, as JSON; default: by the name of file or folder. "
        "Of a classifier: those of --network.",
    ),
    option(
        "--network",
        str,
        "Of a classifier's state dict: cifar_resnet or another of the package, "
        "timm:NAME, torchvision:NAME, my_module:function.",
    ),
    option("--mean", str, "Of a classifier: it sees (image - mean) / std, images in [0, 1]."),
    option("--std", str, "A number a channel, as for --mean, e.g. 0.5,0.5,0.5."),
    option("--strip", str, "Of a classifier's names of weights: a prefix to take off, e.g. model."),
    option(
        "--shape", str, "Of a classifier's images, e.g. 3x32x32; default: that of --class-names."
    ),
    option("--license", str, "Of the weights; default: what the format tells."),
    option("--fp16", bool, "Store the weights with 11 significant bits.", False),
    OVERWRITE,
    QUIET,
    JSON,
)
EVALUATED = (
    argument("card", "A card's name or folder."),
    option("--data", str, "Test images; default: those of the data that the card names."),
    option("--train-data", str, "Images that it was trained on; default: as the card says."),
    DATA_DIR,
    SIZE,
    option("--images", int, "Draws, and images of a set; default: 10000, or a classifier's all."),
    option("--sampler", str, "Draws by this one of scoreag list samplers.", "ancestral"),
    option("--nfe", int, "Denoiser calls a draw; of heun and edm_stochastic an odd number.", 35),
    option(
        "--reference-classifier", str,
        "Says what a draw shows; default: the bundled judge of its classes.",
    ),
    option(
        "--feature-extractor", list[str],
        "Judge (default), efficientnet, inception:FILE, package.module:factory; may be repeated.",
    ),
    option(
        "--compare-with", list[str],
        "A card to set beside it, or a share of its training, e.g. 0.5; may be repeated.",
    ),
    option("--attack", str, "Of a classifier, accuracy under this attack, too: pgd."),
    option("--attack-steps", int, "Steps of --attack; default: 40."),
    option(
        "--eps", list[str], "Radius of --attack in Linf; default: 8/255; may be repeated."
    ),
    option("--update-card", bool, "Write the figures into the card.", False),
    SEED,
    option("--out", str, "Folder of the figures; default: runs/evaluation-NAME."),
    OVERWRITE,
    QUIET,
    JSON,
    DEVICE,
    option("--batch-size", int, "Images a forward pass; default: 16, a classifier's 250."),
    option(
        "--feature-batch-size", int,
        "Images that reference classifier and feature extractors see at once.", 250,
    ),
    TRUST_CODE,
)  # fmt: skip
