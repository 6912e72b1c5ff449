"""The runs of a demo: attacks and tasks, each in a folder of its own that is resumed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from scoreag.attacks._attack import Attack
    from scoreag.attacks.pgd import PGD
    from scoreag.cli.demo_models import DemoModels
    from scoreag.core.types import Classifier
    from scoreag.data.loading import Dataset
    from scoreag.methods.task import TaskSpec
    from scoreag.report.demo_images import (
        AttackedClassifier,
        DemoReport,
        GeneratedImages,
        PredictedImages,
        PurifiedImages,
    )

BATCH_SIZE = 10  # divides the numbers of images, so that nothing is padded
N_FIRST = 10  # of the real images, for the stops that take longer
PER_CLASS = 1  # generated images of each class
WHITE_BOX_STEPS = 20  # of PGD through GAP
GAP_OPTIONS: dict[str, Any] = {"jacobian": "identity"}  # a third of the cost of an attack
RUNS = (  # folders
    "gas", "free", "pgd", "gat", "pgd-robust", "gat-robust", "gap", "gap-clean", "pgd-through-gap",
    "gap-white-box",
)  # fmt: skip


@dataclass(frozen=True)
class DemoRun:
    """Where a demo writes, and the options of all of its runs."""

    out: Path
    seed: int = 0
    progress: bool = True
    overwrite: bool = False

    def attack(
        self, name: str, attack: "Attack", classifier: "Classifier", models: "DemoModels",
        data: "Dataset",
    ) -> "Tensor":  # fmt: skip
        """The 8-bit images of an attack, from its folder if they are there already."""
        from scoreag import attack as attack_images
        from scoreag.io.images import check_images
        from scoreag.io.run_dir import open_run_dir
        from scoreag.methods.result import TASK_FILES

        folder = self.out / name
        manifest = _attack_manifest(attack, classifier, models, data, self.seed)
        with open_run_dir(folder, manifest, TASK_FILES, self.overwrite) as run:
            if (saved := _read_attack(folder, len(data))) is not None:
                return saved
            images = check_images(data.images, models.prior.image_shape)
            device = models.prior.sigmas.device
            assert data.labels is not None
            attack_images(
                attack, classifier, images.to(device), data.labels.to(device), seed=self.seed,
                image_ids=data.image_ids, judge=models.judge, batch_size=BATCH_SIZE,
                progress=self.progress,
            ).map_tensors(lambda values: values.cpu()).write(run)  # fmt: skip
        saved = _read_attack(folder, len(data))
        assert saved is not None
        return saved

    def task(
        self, name: str, task: "TaskSpec", models: "DemoModels", data: "Dataset | None" = None
    ) -> "TaskImages":
        """The saved images of a task with their predictions."""
        import torch

        from scoreag.io.records import read_complete_rows, read_picture
        from scoreag.methods.run_task import run_task
        from scoreag.report.task_run import read_run

        folder = self.out / name
        read = None if data is None else {"data": {"name": data.name, "sha256": data.sha256}}
        run_task(
            task, folder, read, batch_size=BATCH_SIZE, progress=self.progress,
            overwrite=self.overwrite,
        )  # fmt: skip
        run = read_run(folder)
        rows = read_complete_rows(folder)
        targets = [-1 if row["target"] is None else row["target"] for row in rows]
        saved = torch.stack([read_picture(folder, row) for row in rows])
        nfe = float(run.summary["nfe"]["per_image"])
        return TaskImages(models.predict(saved), torch.tensor(targets), nfe)


@dataclass(frozen=True)
class TaskImages:
    """The saved images of a task with their predictions, the target classes, and NFE per image."""

    images: "PredictedImages"
    targets: "Tensor"
    nfe: float


def run_demo(
    models: "DemoModels",
    data: "Dataset",
    run: DemoRun,
    *,
    attack: "PGD",
    generator: "DemoModels | None" = None,
    per_class: int = PER_CLASS,
    white_box_steps: int = WHITE_BOX_STEPS,
) -> "DemoReport":
    """The four stops: GAS; PGD and GAT; both on a robust classifier; GAP.

    Args:
        attack: PGD, also through GAP, with ``white_box_steps`` steps.
        generator: the models for the generated images; by default those for the real ones.
    """
    from scoreag.io.images import check_images
    from scoreag.report.demo_images import DemoReport

    if data.labels is None:
        raise ValueError(
            f"the images of {data.name} have no labels, which the demo needs; "
            "give class folders, a labels.csv, or a range such as cifar10:test[0:20]"
        )
    check_images(data.images, models.prior.image_shape)
    for folder in (run.out / name for name in RUNS if (run.out / name).is_symlink()):
        raise ValueError(f"{folder} is a link, and a run is kept there; remove it, or give --out")
    generator = generator or models
    generated = _generate(generator, per_class, run)
    plain = _attack_classifier(models, data, run, attack)
    first = data[:N_FIRST]
    robust = _attack_classifier(models.attack_robust(), first, run, attack, "-robust")
    purified = _purify(models, data, plain.pgd, run, attack, white_box_steps)
    location = f"Seed {run.seed}. The runs are in folders beside this page: {', '.join(RUNS)}."
    return DemoReport(
        classes=models.prior.classes,
        image_ids=data.image_ids,
        plain=plain,
        robust=robust,
        purified=purified,
        generated=generated,
        eps=attack.eps,
        pgd_steps=attack.steps,
        judge=models.names[1],
        footer=(*(str(one) for one in dict.fromkeys((models, generator))), location),
    )


def _generate(models: "DemoModels", per_class: int, run: DemoRun) -> "GeneratedImages":
    """GAS, and plain samples from the same noise."""
    import torch

    from scoreag.methods.synthesis import build_synthesis
    from scoreag.report.demo_images import GeneratedImages

    labels = torch.arange(len(models.prior.classes)).repeat_interleave(per_class)

    def synthesize(name: str, attack_scale: float | None) -> TaskImages:
        task = build_synthesis(
            models.prior, models.classifier, labels, seed=run.seed, judge=models.judge,
            attack_scale=attack_scale,
        )  # fmt: skip
        return run.task(name, task, models)

    gas, free = synthesize("gas", None), synthesize("free", 0.0)
    return GeneratedImages(
        classifier=models.names[0], classes=models.prior.classes, labels=labels,
        targets=gas.targets, unguided=free.images, gas=gas.images, nfe=(free.nfe, gas.nfe),
    )  # fmt: skip


def _attack_classifier(
    models: "DemoModels", data: "Dataset", run: DemoRun, attack: "PGD", suffix: str = ""
) -> "AttackedClassifier":
    """PGD and GAT on the classifier of ``models``; ``suffix`` ends the names of the folders."""
    from scoreag.io.images import to_float
    from scoreag.methods.transformation import build_transformation
    from scoreag.report.demo_images import AttackedClassifier

    assert data.labels is not None
    perturbed = run.attack(f"pgd{suffix}", attack, models.classifier, models, data)
    task = build_transformation(
        models.prior, models.classifier, to_float(data.images), data.labels, judge=models.judge,
        seed=run.seed, image_ids=data.image_ids,
    )  # fmt: skip
    gat = run.task(f"gat{suffix}", task, models, data)
    return AttackedClassifier(
        name=models.names[0], labels=data.labels, original=models.predict(data.images),
        pgd=models.predict(perturbed), gat=gat.images, nfe=gat.nfe,
    )  # fmt: skip


def _purify(
    models: "DemoModels", data: "Dataset", blind: "PredictedImages", run: DemoRun, attack: "PGD",
    steps: int,
) -> "PurifiedImages":  # fmt: skip
    """GAP of real images, of PGD's, and of those of PGD through GAP.

    The last ones are purified by a run of their own, so by draws that the attack did not see.
    """
    from dataclasses import replace

    from scoreag import defend
    from scoreag.io.images import to_float
    from scoreag.methods.purification import build_purification
    from scoreag.report.demo_images import PurifiedImages

    def purify(name: str, images: "Tensor") -> TaskImages:
        own = data[: len(images)]
        task = build_purification(
            models.prior, to_float(images), models.classifier, own.labels, seed=run.seed,
            image_ids=own.image_ids, **GAP_OPTIONS,
        )  # fmt: skip
        return run.task(name, task, models, own)

    first = data[:N_FIRST]
    repaired = purify("gap", blind.images)
    defense = defend(models.classifier, models.prior, "gap", seed=run.seed, **GAP_OPTIONS)
    through = replace(attack, steps=steps)
    white_box = run.attack("pgd-through-gap", through, defense, models, first)
    return PurifiedImages(
        blind=repaired.images,
        clean=purify("gap-clean", first.images).images,
        white_box=models.predict(white_box),
        white_box_purified=purify("gap-white-box", white_box).images,
        steps=steps,
        nfe=repaired.nfe,
    )


def _attack_manifest(
    attack: "Attack", classifier: "Classifier", models: "DemoModels", data: "Dataset", seed: int
) -> dict[str, Any]:
    """Everything that determines the images of an attack, except the environment."""
    import torch

    from scoreag.attacks._attack import attack_config
    from scoreag.io.manifest import format_spans, to_jsonable
    from scoreag.io.pictures import describe_pictures
    from scoreag.models.identity import describe_classifiers, tensors_sha256

    prior = models.prior
    like = torch.zeros(1, *prior.image_shape, dtype=prior.dtype, device=prior.sigmas.device)
    rows = {"ids": torch.tensor(data.image_ids), "labels": data.labels, "images": data.images}
    return {
        "command": None,
        "task": "attack",
        "config": to_jsonable(attack_config(attack)),
        "seed": seed,
        "batch_size": BATCH_SIZE,
        **describe_pictures("png", len(data)),
        "data": {"name": data.name, "sha256": data.sha256, "rows_sha256": tensors_sha256(rows)},
        "images": len(data),
        "image_ids": format_spans(data.image_ids),
        **describe_classifiers(like, prior.classes, classifier, models.judge),
    }


def _read_attack(folder: Path, count: int) -> "Tensor | None":
    """The saved 8-bit images of an attack; None unless all are there and unchanged."""
    import torch

    from scoreag.io.records import files_intact, read_picture, read_rows
    from scoreag.methods.result import ROW_FIELDS

    rows: list[Mapping[str, Any]] = [*read_rows(folder, ROW_FIELDS)]
    is_whole = len(rows) == count and all(files_intact(folder, dict(row)) for row in rows)
    is_whole &= (folder / "summary.json").is_file()
    return torch.stack([read_picture(folder, dict(row)) for row in rows]) if is_whole else None
