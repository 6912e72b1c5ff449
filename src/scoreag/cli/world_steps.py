"""The steps of world: size and train three models, measure, attack; what is done is skipped."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scoreag.cli import options as o
from scoreag.cli.evaluate import EvaluateOptions, evaluate
from scoreag.cli.runs import command_line, write_report

if TYPE_CHECKING:
    import torch

    from scoreag.data.loading import Dataset
    from scoreag.models.model_cards import Card
    from scoreag.training.sizing import SizedTraining

DATA, PLAN, ASSESSMENT, TRAININGS = "data", "plan.toml", "assessment", "trainings.json"
EPS: dict[int, float | str] = {1: 0.1, 3: "8/255"}  # of PGD, by the number of channels


@dataclass(frozen=True, kw_only=True)
class World:
    """What the steps share.

    Args:
        source: the name of the data that the parts were split from.
        parts: train, held-out and test.
        flip: whether training images are mirrored.
    """

    out: Path
    source: str
    parts: "Mapping[str, Dataset]"
    minutes: float
    seed: int
    flip: bool
    license: str | None
    overwrite: bool
    output: o.OutputOptions
    compute: o.DeviceOptions

    @property
    def device(self) -> "torch.device":
        return self.compute.resolve()

    def path(self, *names: str) -> str:
        """The full path of something in --out, which is right wherever a plan is run."""
        return str(self.out.resolve().joinpath(*names))

    def data_word(self, part: str) -> str:
        """The word by which other commands read a part."""
        return f"npz:{self.path(DATA, f'{part}.npz')}"


def size_training(world: World, role: str, spent: float = 0.0) -> "SizedTraining":
    """A training of a size and a length that fit the rest of the time, by this machine's pace.

    Args:
        spent: seconds of earlier steps.
    """
    from scoreag.training.execution import bf16_is_fast
    from scoreag.training.pace import seconds_per_image
    from scoreag.training.sizing import choose_training, time_for

    device, data = world.device, world.parts["train"]
    dtype = "bf16" if device.type == "cuda" or bf16_is_fast() else "float32"
    measure = partial(seconds_per_image, data=data, device=device)
    seconds = time_for(role, 60 * world.minutes, spent)
    return choose_training(role, data, seconds, measure, world.seed, world.flip, dtype)


def load_training(world: World, role: str, spent: float) -> "SizedTraining":
    """The training of trainings.json, to which it is added first if it is not there."""
    from scoreag.io.filesystem import write_json
    from scoreag.training.sizing import SizedTraining

    file = world.out / TRAININGS
    try:
        table = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        if role in table:
            return SizedTraining(**table[role])
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{file} is damaged ({error}); give --overwrite to start from scratch"
        ) from error
    training = size_training(world, role, spent)
    write_json(file, {**table, role: asdict(training)})
    return training


def describe_training(world: World, training: "SizedTraining") -> str:
    """How long it takes, how many images it sees, and its network."""
    recipe = training.recipe(world.parts["train"], world.seed, world.flip)
    options = {name: value for name, value in recipe.options.items() if value not in ([], False)}
    network = ", ".join([recipe.network, *(f"{name} {value}" for name, value in options.items())])
    return (
        f"{training.seconds / 60:.1f} minutes: {training.train_images:,} images, "
        f"{1 / training.seconds_per_image:.3g} a second; {network}"
    )


def train_model(world: World, training: "SizedTraining") -> "Card":
    """The card of a role, trained unless it is there."""
    from scoreag.io.manifest import to_jsonable
    from scoreag.io.run_dir import open_run_dir
    from scoreag.models.model_cards import load_card, update_card
    from scoreag.training.outputs import TRAINING_FILES
    from scoreag.training.schedule import to_config_dict
    from scoreag.training.sizing import SCORE_MODEL, default_settings

    data, folder = world.parts["train"], world.out / training.role
    recipe = training.recipe(data, world.seed, world.flip)
    manifest = {
        "command": command_line(),
        "task": f"train {training.role}",
        "config": to_jsonable(to_config_dict(recipe)),
        "data": {"name": data.name, "sha256": data.sha256},
        "seed": recipe.schedule.seed,
    }
    with open_run_dir(folder, manifest, TRAINING_FILES, world.overwrite) as run:
        if run.manifest.get("finished") and (folder / "card.toml").is_file():
            return load_card(folder)
        world.output.say(f"{training.role}: {describe_training(world, training)}")
        card = _run_training(world, recipe, folder)
        if training.role == SCORE_MODEL:
            card = update_card(card, defaults=default_settings(card.sigma_data), judge="../judge")
        run.finish(card=to_jsonable(card.identity))
        return card


def _run_training(world: World, recipe: Any, folder: Path) -> "Card":
    from scoreag.training.classifier_training import train_classifier
    from scoreag.training.outputs import resolve_license
    from scoreag.training.recipes import Recipe
    from scoreag.training.score_model_training import train_score_model

    data = world.parts["train"]
    assert data.labels is not None
    given: dict[str, Any] = {
        "provenance": {"data": world.data_word("train"), "data_sha256": data.sha256},
        "progress": world.output.progress,
        "device": world.device,
        "license": resolve_license(world.license, world.source),
        "command": command_line(),
    }
    if isinstance(recipe, Recipe):
        return train_classifier(recipe, data.images, data.labels, data.classes, folder, **given)
    return train_score_model(
        recipe, data.images, data.labels, data.classes, folder,
        sample_every_images=recipe.schedule.total_images, **given,
    )  # fmt: skip


def measure_accuracy(world: World, role: str) -> None:
    """Write the accuracy on the test images to the card of a role, unless it has one."""
    from scoreag.models.model_cards import load_card

    folder = world.out / role
    if "test" not in load_card(folder).metrics:
        evaluate(EvaluateOptions(
            card=str(folder), data=world.data_word("test"), update_card=True, overwrite=True,
            out=str(world.out / f"evaluation-{role}"), output=o.TableOutputOptions(quiet=True),
            compute=world.compute,
        ))  # fmt: skip


def attack(world: World, seconds: float) -> Path:
    """Run the plan in --out, written first if it is not there; the page of the assessment.

    Args:
        seconds: for which a new plan has work.
    """
    from scoreag.assess import executors, runner
    from scoreag.assess.experiments import ModelCache
    from scoreag.assess.plan import load_plan
    from scoreag.assess.resolve import resolve_plan
    from scoreag.assess.timed_plan import fit_images, plan_table
    from scoreag.io.filesystem import write_text
    from scoreag.models.model_cards import to_toml

    file, folder = world.out / PLAN, world.out / ASSESSMENT
    cache = ModelCache(None, world.compute.device, "", world.output.progress)
    if not file.is_file():
        world.output.say(f"evaluation: {seconds / 60:.1f} minutes")
        members = _members(world)
        images = fit_images(members, len(world.parts["test"]), seconds, cache)
        write_text(file, to_toml(plan_table(members, images)))
    plan = load_plan(file)
    cells = resolve_plan(plan, cache)
    status = runner.assess(
        cells, folder, runner.build_manifest(plan, cache, assess_command(world)),
        partial(executors.run_serial, cache=cache), overwrite=world.overwrite,
        progress=world.output.progress, probes=runner.probe_classifiers(cells, cache),
    )  # fmt: skip
    page = write_report(folder)
    for name, message in status.failed.items():
        raise ValueError(f"{name} failed: {message}; the same command tries again")
    return page


def _members(world: World) -> Any:
    from scoreag.assess.timed_plan import Members
    from scoreag.training.sizing import CLASSIFIER, JUDGE, SCORE_MODEL

    test = world.parts["test"]
    return Members(
        data=world.data_word("test"), prior=world.path(SCORE_MODEL),
        classifier=world.path(CLASSIFIER), judge=world.path(JUDGE), n_classes=len(test.classes),
        eps=EPS[test.images.shape[1]],
    )  # fmt: skip


def assess_command(world: World) -> str:
    """The command that runs the plan again."""
    plan, folder = world.out / PLAN, world.out / ASSESSMENT
    return shlex.join(["scoreag", "assess", str(plan), "--out", str(folder)])
