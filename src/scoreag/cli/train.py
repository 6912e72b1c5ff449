"""train: train a score model or a classifier by a preset, and export it as a card."""

import atexit
import math
import os
import shlex
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Annotated, Any

from scoreag.cli import options as o
from scoreag.cli.options import UsageError
from scoreag.cli.runs import command_line, format_table, show_seconds

if TYPE_CHECKING:
    import torch

    from scoreag.data.loading import Dataset
    from scoreag.diffusion.prior import Prior
    from scoreag.models.model_cards import Card
    from scoreag.training.execution import DistContext
    from scoreag.training.recipes import Recipe, ScoreRecipe
    from scoreag.training.schedule import TrainingSchedule

PRESET = "the preset's"
NOT_IN_COMMAND = ("overwrite", "dry_run", "quiet", "json", "debug")  # no effect on the training
DEFAULT_DATA = "cifar10:train[0:45000]"
_OUT_HELP = "Folder of the training and its card; the same command resumes it."
DTYPE_HELP = "float32, bf16, or auto: bf16 where it is fast."
_ACCUM_HELP = "Parts of a batch whose gradients are accumulated."


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """The options of both kinds of training."""

    preset: Annotated[str, o.Opt("Training recipe; see: scoreag list presets.")]
    data: Annotated[str, o.Opt("Training images, with labels.")] = DEFAULT_DATA
    classes: Annotated[str | None, o.Opt("Only images of these: lion,pizza.", "all")] = None
    reading: o.ReadOptions = field(default_factory=o.ReadOptions)
    out: Annotated[str, o.Opt(_OUT_HELP, check=o.not_empty)]
    train_images: Annotated[
        int | None, o.Opt("Training images in total, with repetition.", PRESET, o.at_least(1))
    ] = None
    batch_size: Annotated[int | None, o.Opt("Images per step.", PRESET, o.at_least(1))] = None
    lr: Annotated[float | None, o.Opt("Peak learning rate.", PRESET)] = None
    dtype: Annotated[str, o.Opt(DTYPE_HELP, check=o.one_of("auto", "float32", "bf16"))] = "auto"
    seed: Annotated[int | None, o.Opt("Seed of weights, order and noise.", PRESET)] = None
    checkpoint_seconds: Annotated[float, o.Opt("Seconds between two checkpoints.")] = 60.0
    license: Annotated[str | None, o.Opt("Of the weights.", "the data's terms are noted")] = None
    overwrite: o.Overwrite = False
    dry_run: o.DryRun = False
    output: o.OutputOptions
    compute: o.DeviceOptions


Init = Annotated[str | None, o.Opt("Card to start from, with a new optimizer.")]


@dataclass(frozen=True, kw_only=True)
class ScoreModelOptions:
    training: TrainOptions
    init: Init = None
    grow_resolution: Annotated[bool, o.switch("Add a finer level around --init's network.")] = False
    sample_every_images: Annotated[
        int | None, o.Opt("Images between two sample grids.", "a tenth of all", o.at_least(1))
    ] = None
    keep_others: Annotated[bool, o.switch("Other --classes' images, too, with the null label.")] = (
        False
    )
    grad_accum_steps: Annotated[int, o.Opt(_ACCUM_HELP, check=o.at_least(1))] = 1
    ema_width: Annotated[float | None, o.Opt("Width of the post-hoc average.", PRESET)] = None
    tensorboard: Annotated[bool, o.switch("Also write TensorBoard curves.")] = False
    compile: Annotated[bool, o.switch("Compile the network with torch.compile.")] = False
    max_shard_mb: Annotated[
        int | None,
        o.Opt(
            "Megabytes of a weight file; more are written in several.", "one file", o.at_least(1)
        ),
    ] = None
    channels_last: Annotated[bool, o.Opt("Channels of a pixel together in memory.")] = True


@dataclass(frozen=True, kw_only=True)
class ClassifierOptions:
    training: TrainOptions
    init: Init = None
    humans: Annotated[
        str | None, o.Opt("Learn the shares of people's answers: cifar10n, or a table.", "labels")
    ] = None
    humans_dir: Annotated[str | None, o.Opt("Folder or file of --humans.", "as --data-dir")] = None
    extra_data: Annotated[str | None, o.Opt("Additional labeled images, e.g. samples.")] = None
    extra_fraction: Annotated[float | None, o.Opt("Of a batch, from --extra-data.", PRESET)] = None
    denoised: Annotated[
        str | None,
        o.Opt("Learn to read what this score model makes of whole, noisy images.", "none"),
    ] = None
    noise: Annotated[float | None, o.Opt("Deviation of that noise, pixels in [0, 1].")] = None
    clean_fraction: Annotated[float | None, o.Opt("Of a batch, without noise.", "0.25")] = None
    consistency: Annotated[
        float | None, o.Opt("Weight of the disagreement of two noisy copies.", "0")
    ] = None
    confident: Annotated[bool, o.switch("Leave out copies that are read wrongly.")] = False


def score_model(options: ScoreModelOptions) -> None:
    """Train a score model and export it as a card.

    scoreag train score-model --preset cifar10-small --out models/mine
    """
    from scoreag.training.execution import join_process_group, local_device
    from scoreag.training.recipes import SCORE_PRESETS as PRESETS

    training = options.training
    device = local_device(training.compute.resolve())
    recipe = select_recipe(training, PRESETS, device.type)
    with join_process_group(device, options.grad_accum_steps) as group:
        if not group.is_main:
            silent = o.OutputOptions(quiet=True)
            options = replace(options, training=replace(training, output=silent))
        _train_score_model(options, recipe, group, device)


def _train_score_model(
    options: ScoreModelOptions, recipe: "ScoreRecipe", group: "DistContext", device: "torch.device"
) -> None:
    """Train as one of several processes; only the main one claims the folder and prints."""
    from scoreag.training.execution import ExecutionConfig
    from scoreag.training.outputs import require_tensorboard
    from scoreag.training.score_model_training import (
        check_recipe,
        resolve_options,
        train_score_model,
    )

    training, folder = options.training, Path(options.training.out)
    if options.tensorboard:
        require_tensorboard()
    execution = ExecutionConfig(group, options.compile, options.channels_last, options.tensorboard)
    init = load_init(options, recipe)
    classes, batch_size = init.classes if init else (), recipe.schedule.batch_size
    # only one process downloads
    data = group.main_process_first(
        lambda: load_labeled(training, batch_size, classes, options.keep_others)
    )
    assert data.labels is not None
    recipe = _fit_sigma_data(recipe, training.preset, data, init)
    resolve_options(recipe, data.images, data.classes, init)
    check_recipe(
        recipe, data.labels, data.classes, folder, group, options.ema_width, options.keep_others
    )
    if training.dry_run:
        return show_training_cost(training, recipe, data, device, init)
    provenance = _provenance(training, data)
    if options.grow_resolution:
        provenance["grow_resolution"] = True
    with ExitStack() as stack:
        if group.is_main:
            claim_folder(stack, training, "score-model", recipe, data, init)
        group.main_process_first(lambda: None)
        training.output.say(f"read {data.summary}")
        card = train_score_model(
            recipe, data.images, data.labels, data.classes, folder, init, provenance,
            options.sample_every_images, training.checkpoint_seconds, training.output.progress,
            device, execution, options.ema_width, training.license or "",
            format_command("score-model", options, recipe.schedule),
            options.max_shard_mb * 1_000_000 if options.max_shard_mb else None,
            options.keep_others,
        )  # fmt: skip
    if group.is_main:
        finish(training, card)


def load_init(options: ScoreModelOptions, recipe: "ScoreRecipe") -> "Card | None":
    """The card of --init, at a higher resolution with --grow-resolution."""
    from scoreag.training.initialization import grow_resolution

    if not options.init:
        if options.grow_resolution:
            raise UsageError("--grow-resolution extends another network; give it as --init CARD")
        return None
    init = options.training.compute.load_card(options.init)
    if not options.grow_resolution:
        return init
    folder = Path(mkdtemp(prefix="scoreag-"))
    atexit.register(rmtree, folder, ignore_errors=True)
    return grow_resolution(init, folder, recipe.schedule.seed)


def classifier(options: ClassifierOptions) -> None:
    """Train a classifier and export it as a card.

    scoreag train classifier --preset cifar10-resnet20 --out models/resnet
    """
    from scoreag.training.classifier_training import (
        check_prior,
        complete_recipe,
        train_classifier,
    )
    from scoreag.training.presets import adapt_recipe
    from scoreag.training.recipes import CLASSIFIER_PRESETS as PRESETS
    from scoreag.training.schedule import check_extra

    training, output = options.training, options.training.output
    _check_targets(options)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            "train classifier runs in one process: batch normalization needs the whole batch; "
            "start it without torchrun or accelerate"
        )
    device = training.compute.resolve()
    recipe = select_recipe(training, PRESETS, device.type)
    if options.extra_fraction is not None:
        recipe = replace(recipe, extra_fraction=options.extra_fraction)
    recipe = _denoising_recipe(options, recipe)
    prior = training.compute.load_prior(options.denoised) if options.denoised else None
    init = training.compute.load_card(options.init) if options.init else None
    data = load_labeled(training, recipe.schedule.batch_size, init.classes if init else ())
    assert data.labels is not None
    recipe, extra = adapt_recipe(recipe, training.preset, data), None
    if options.extra_data:
        extra = training.reading.load(options.extra_data, output.progress, data.classes)
    check_prior(complete_recipe(recipe, data.images, data.classes, init), prior, data.images)
    check_extra(extra, data.images, len(data.classes), recipe.schedule, recipe.extra_fraction)
    if training.dry_run:
        return show_training_cost(
            training, recipe, data, device, init, extra_data=extra, prior=prior
        )
    labels, humans = human_targets(options, data)
    with ExitStack() as stack:
        claim_folder(stack, training, "classifier", recipe, data, init, extra, prior, humans)
        output.say(f"read {data.summary}")
        card = train_classifier(
            recipe, data.images, labels, data.classes, Path(training.out),
            _provenance(training, data) | humans, training.checkpoint_seconds, output.progress,
            device, extra, init, training.license or "",
            format_command("classifier", options, recipe.schedule), prior,
        )  # fmt: skip
    finish(training, card)


def show_training_cost(
    training: TrainOptions,
    recipe: "Recipe | ScoreRecipe",
    data: "Dataset",
    device: "torch.device",
    init: "Card | None",
    **inputs: Any,
) -> None:
    """Print how long the training takes, from a few steps; nothing is written."""
    from scoreag.training.pace import seconds_per_image

    images = recipe.schedule.total_images
    seconds = images * seconds_per_image(recipe, data, device, init, **inputs)
    show_seconds(training.output, images, seconds, device)


def _check_targets(options: ClassifierOptions) -> None:
    """Refuse --humans beside an option that learns from labels, before anything is loaded."""
    for name in ("extra_data", "denoised"):
        if options.humans is not None and getattr(options, name):
            flag = name.replace("_", "-")
            raise UsageError(f"--{flag} learns from labels, and --humans from people; give one")


def human_targets(
    options: ClassifierOptions, data: "Dataset"
) -> tuple["torch.Tensor", dict[str, str]]:
    """What the network learns of each image: its label, or the shares of people's answers."""
    from scoreag.data.humans import load_human_answers, match_answers

    assert data.labels is not None
    if options.humans is None:
        return data.labels, {}
    output, root = options.training.output, options.humans_dir or options.training.reading.data_dir
    answers = load_human_answers(options.humans, root, output.progress, output.say)
    answers = match_answers(answers, data.labels, data.image_ids, data.classes)
    about = {"humans": answers.name, "humans_sha256": answers.sha256}
    return answers.shares.float(), {**about, "humans_license": answers.license}


def _denoising_recipe(options: ClassifierOptions, recipe: "Recipe") -> "Recipe":
    """The recipe with what the command says of denoised copies, which are whole images."""
    names = ("denoised", "noise", "clean_fraction", "consistency")
    changes = {n: value for n in names if (value := getattr(options, n)) is not None}
    if options.confident:
        changes["confident"] = True
    if options.denoised:
        changes["crop_schedule"] = ()
    elif options.clean_fraction is not None:
        raise UsageError("--clean-fraction is of denoised copies; write --denoised, too, or none")
    return replace(recipe, **changes) if changes else recipe


def _fit_sigma_data(
    recipe: "ScoreRecipe", preset: str, data: "Dataset", init: "Card | None"
) -> "ScoreRecipe":
    """The recipe with sigma_data of --init, or of the data if the preset is for other data."""
    from scoreag.training.presets import estimate_sigma_data, is_other_dataset

    if init is not None:
        return replace(recipe, sigma_data=init.sigma_data)
    if not is_other_dataset(preset, data):
        return recipe
    return replace(recipe, sigma_data=estimate_sigma_data(data.images))


def select_recipe(training: TrainOptions, presets: Mapping[str, Any], device: str) -> Any:
    """The preset with the options of the command; dtype "auto" is resolved for the device."""
    from scoreag.training.execution import resolve_dtype
    from scoreag.training.presets import get_preset

    recipe = get_preset(training.preset, presets)
    lr = recipe.lr if training.lr is None else training.lr
    if not 0 < lr < math.inf:
        raise UsageError(f"--lr is {lr}; expected a number above 0, e.g. {recipe.lr:g}")
    dtype = resolve_dtype(training.dtype, device)
    changes = {
        "total_images": training.train_images,
        "batch_size": training.batch_size,
        "seed": training.seed,
    }
    changes = {name: value for name, value in changes.items() if value is not None}
    return replace(recipe, lr=lr, schedule=replace(recipe.schedule, **changes, dtype=dtype))


def load_labeled(
    training: TrainOptions,
    batch_size: int,
    known: tuple[str, ...] = (),
    keep_others: bool = False,
) -> "Dataset":
    """The training images, with labels and named classes.

    Args:
        known: the classes of --init, which number the labels if the data has no others.
        keep_others: whether images of other classes than --classes stay, with the null label.
    """
    if keep_others and not training.classes:
        raise UsageError("--keep-others is about classes beside --classes; write those, too")
    progress, known = training.output.progress, () if training.classes else known
    try:
        data = training.reading.load(training.data, progress, known, select=False)
    except ValueError:  # the data has other classes, or it cannot be read, which fails again
        if not known:
            raise
        data = training.reading.load(training.data, progress)
    if data.labels is None:
        raise ValueError(f"{data.name} has no labels; training needs them")
    if training.classes is not None:
        data = data.select_classes(o.split_words(training.classes), keep_others)
    if batch_size > len(data):
        raise ValueError(
            f"--batch-size is {batch_size}, and there are {len(data)} images; "
            f"write --batch-size {len(data)} or fewer"
        )
    if not data.classes and data.labels is not None:
        count = int(data.labels.max()) + 1
        data = replace(data, classes=tuple(str(i) for i in range(count)))
    return data


def _provenance(training: TrainOptions, data: "Dataset") -> dict[str, Any]:
    return {"preset": training.preset, "data": data.name, "data_sha256": data.sha256}


def claim_folder(
    stack: ExitStack,
    training: TrainOptions,
    kind: str,
    recipe: Any,
    data: "Dataset",
    init: "Card | None" = None,
    extra: "Dataset | None" = None,
    prior: "Prior | None" = None,
    humans: Mapping[str, str] | None = None,
) -> None:
    """Lock --out until ``stack`` closes; refuse a training with other options."""
    from scoreag.io.manifest import to_jsonable
    from scoreag.io.run_dir import open_run_dir
    from scoreag.training.outputs import TRAINING_FILES
    from scoreag.training.schedule import to_config_dict

    manifest = {
        "command": command_line(),
        "task": f"train {kind}",
        "preset": training.preset,
        "config": to_jsonable(to_config_dict(recipe)),
        "data": {"name": data.name, "sha256": data.sha256},
        **({"extra": {"name": extra.name, "sha256": extra.sha256}} if extra else {}),
        "seed": recipe.schedule.seed,
        "init": init.identity if init else None,
        **({"denoised": to_jsonable(dict(prior.metadata))} if prior else {}),
        **(humans or {}),
    }
    folder = Path(training.out)
    stack.enter_context(open_run_dir(folder, manifest, TRAINING_FILES, training.overwrite))


def format_command(kind: str, options: Any, schedule: "TrainingSchedule") -> str:
    """The command of a training with all options that it depends on, ready to paste.

    It always has the number of images and the resolved dtype.
    """
    resolved = {"train_images": schedule.total_images, "dtype": schedule.dtype}
    values = o.flatten(options) | resolved
    words = ["scoreag", "train", kind]
    for option in o.option_fields(type(options)):
        name, value = option.name, values[option.name]
        included = name == "data" or name in resolved or value != option.default
        if value is None or name in NOT_IN_COMMAND or not included:
            continue
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", str(value)]
    return shlex.join(words)


def finish(training: TrainOptions, card: "Card") -> None:
    """Add the card to the manifest, print its summary, and say how to use it."""
    from scoreag.io.manifest import read_manifest, to_jsonable
    from scoreag.io.run_dir import RunDir

    RunDir(card.folder, read_manifest(card.folder)).finish(card=to_jsonable(card.identity))
    config = {
        name: value
        for name, value in card.training_config.items()
        if not isinstance(value, Mapping | list | tuple)
    }
    training.output.show(
        {"name": card.name, "sha256": card.sha256, **config},
        format_table([(f"{name:<12}", str(value)) for name, value in config.items()]),
    )
    flag = "--model" if card.kind == "score-model" else "--classifier"
    training.output.say(f"the card is in {card.folder}; use it as {flag} {card.folder}")
