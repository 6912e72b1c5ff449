"""demo: each task once with the bundled models, and a page with the results."""

import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from scoreag.cli import options as o
from scoreag.cli.runs import command_line

if TYPE_CHECKING:
    from torch import Tensor

    from scoreag.attacks.pgd import PGD
    from scoreag.core.types import Classifier
    from scoreag.data.loading import Dataset
    from scoreag.diffusion.prior import Prior
    from scoreag.methods.task import TaskSpec
    from scoreag.report.demo import DemoReport, PredictedImages

CIFAR10 = ("cifar10", "cifar10-resnet20", "cifar10-judge")  # score model, classifier, reference
FASHION = ("fashion-small", "fashion-cnn", "fashion-judge")
SAMPLE = "fashion-mnist:sample"  # real images in the package
N_REAL, PER_CLASS = 20, 2  # real images, and generated images of each class
BATCH_SIZE = 10  # divides both numbers of images, so that nothing is padded


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    out: Annotated[str, o.Opt("Folder of the report.", check=o.not_empty)] = "runs/demo"
    data: Annotated[str | None, o.Opt("Labeled CIFAR-10 images.", "bundled images")] = None
    data_dir: o.DataDir = None
    seed: o.Seed = 0
    overwrite: o.Overwrite = False
    output: o.TableOutputOptions
    device: o.Device = "auto"


def demo(options: DemoOptions) -> None:
    """Run all tasks on bundled models in 2 minutes.

    scoreag demo --out runs/demo
    """
    from scoreag.data.loading import interleave_classes
    from scoreag.data.source import interleave_groups
    from scoreag.io.filesystem import write_text
    from scoreag.io.manifest import describe_environment
    from scoreag.report.demo import format_demo_text, render_demo_page, summary_sentences

    start, out, output = time.monotonic(), Path(options.out), options.output
    is_text = output.progress and not output.json and output.format == o.PLAIN
    say = print if is_text else lambda text: None
    is_fashion = options.data is None or options.data.partition(":")[0] == "fashion-mnist"
    models = load_models(FASHION if is_fashion else CIFAR10, options.device)
    generator = load_models(CIFAR10, options.device) if options.data is None else models
    reading, classes = o.ReadOptions(data_dir=options.data_dir), models.prior.classes
    real = reading.load(options.data or SAMPLE, output.progress, classes)
    if options.data is None:
        assert real.labels is not None
        real, source = real.select(interleave_groups(real.labels.tolist())), "of Fashion-MNIST"
    else:
        real, source = interleave_classes(real), f"from {real.name}"
    real = real[:N_REAL]
    say(f"read {real.summary}")
    report = run_demo(
        models, real, out, generator=generator, seed=options.seed, progress=output.progress,
        overwrite=options.overwrite,
    )  # fmt: skip
    report = replace(
        report,
        source=source,
        footer=(*report.footer, _describe_duration(start)),
        provenance={"command": command_line(), "seed": options.seed, **describe_environment()},
    )
    page = out / "report.html"
    write_text(page, render_demo_page(report))
    text = [format_demo_text(report), "", *summary_sentences(report), "", f"To look at: {page}"]
    say("\n".join(text))
    _show_table(output, out, report, is_text)


def _show_table(
    output: o.TableOutputOptions, out: Path, report: "DemoReport", is_text: bool
) -> None:
    """Write the table; print it, or the summaries of all runs, unless the text was printed."""
    from scoreag.report.run_tables import demo_table
    from scoreag.report.table_export import write_tables

    table = demo_table(report)
    write_tables(out, [table])
    if not is_text:
        files = sorted(out.glob("*/summary.json"))
        runs = {file.parent.name: json.loads(file.read_text(encoding="utf-8")) for file in files}
        output.show(runs, "", table)


def _describe_duration(start: float) -> str:
    return f"Made in {time.monotonic() - start:.0f} s on {os.cpu_count()} cores."


@dataclass(frozen=True)
class DemoModels:
    """The models of a demo; the reference classifier (judge) only checks the results."""

    prior: "Prior"
    classifier: "Classifier"
    judge: "Classifier"
    names: tuple[str, str]

    def predict(self, images: "Tensor") -> "PredictedImages":
        """8-bit images with the predictions of both classifiers."""
        import torch

        from scoreag.classifiers.probabilities import softmax_probabilities
        from scoreag.io.images import to_float
        from scoreag.report.demo import PredictedImages

        with torch.no_grad():
            pixels = to_float(images).to(self.prior.sigmas.device)
            logits, judge = (net(pixels).cpu() for net in (self.classifier, self.judge))
            shares = softmax_probabilities(logits)
            return PredictedImages(images, logits.argmax(1), judge.argmax(1), shares)

    def __str__(self) -> str:
        prior = self.prior.metadata.get("name", "a score model")
        classifier, judge = self.names
        return f"Score model {prior}; classifier {classifier}; reference classifier {judge}."


def load_models(names: tuple[str, str, str], device: str) -> DemoModels:
    """The bundled models of these names."""
    from scoreag import load_classifier, load_prior

    prior, classifier, judge = names
    return DemoModels(
        load_prior(prior, device), load_classifier(classifier, device),
        load_classifier(judge, device), (classifier, judge),
    )  # fmt: skip


def run_demo(
    models: DemoModels,
    dataset: "Dataset",
    out: Path,
    *,
    generator: DemoModels | None = None,
    attack: "PGD | None" = None,
    per_class: int = PER_CLASS,
    seed: int = 0,
    progress: bool = True,
    overwrite: bool = False,
) -> "DemoReport":
    """Run PGD and the three tasks, each task in its own folder in ``out``.

    Args:
        generator: the models for the generated images; by default those for the real ones.
    """
    import torch

    from scoreag.attacks.pgd import PGD
    from scoreag.io.images import check_images, to_uint8
    from scoreag.report.demo import DemoReport

    if (labels := dataset.labels) is None:
        raise ValueError(
            f"the images of {dataset.name} have no labels, which the demo needs; "
            "give class folders, a labels.csv, or a range such as cifar10:test[0:20]"
        )
    attack, generator = attack or PGD(), generator or models
    device = models.prior.sigmas.device
    images = check_images(dataset.images, models.prior.image_shape).to(device)
    perturbed = attack(models.classifier, images, labels.to(device), seed, dataset.image_ids)
    pgd = to_uint8(perturbed).cpu()
    sample_labels = torch.arange(len(generator.prior.classes)).repeat_interleave(per_class)
    tasks = _build_tasks(models, generator, dataset, pgd, sample_labels, seed)
    for folder in (out / name for name in tasks if (out / name).is_symlink()):
        raise ValueError(f"{folder} is a link, and a run is kept there; remove it, or give --out")
    runs = {
        name: _run_task(
            generator if task.images is None else models, task, out / name, dataset, progress,
            overwrite,
        )
        for name, task in tasks.items()
    }  # fmt: skip
    differs = generator is not models
    location = (
        f"Seed {seed}. The runs, with their configuration, are in the folders gat, gap, gas and "
        "free beside this page."
    )
    return DemoReport(
        classes=models.prior.classes,
        image_ids=dataset.image_ids,
        labels=labels,
        original=models.predict(dataset.images),
        pgd=models.predict(pgd),
        gat=runs["gat"].images,
        gap=runs["gap"].images,
        sample_labels=sample_labels,
        targets=runs["gas"].targets,
        unguided=runs["free"].images,
        gas=runs["gas"].images,
        eps=attack.eps,
        pgd_steps=attack.steps,
        nfe={name: run.nfe for name, run in runs.items()},
        classifier=models.names[0],
        judge=models.names[1],
        generated_classes=generator.prior.classes if differs else (),
        generated_classifier=generator.names[0] if differs else "",
        footer=(*(str(one) for one in dict.fromkeys((models, generator))), location),
    )


def _build_tasks(
    models: DemoModels,
    generator: DemoModels,
    dataset: "Dataset",
    pgd: "Tensor",
    sample_labels: "Tensor",
    seed: int,
) -> "dict[str, TaskSpec]":
    from scoreag.io.images import to_float
    from scoreag.methods.purification import build_purification
    from scoreag.methods.synthesis import build_synthesis
    from scoreag.methods.transformation import build_transformation

    prior, classifier, labels = models.prior, models.classifier, dataset.labels
    keyed: dict[str, Any] = {"seed": seed, "image_ids": dataset.image_ids}

    def synthesis(attack_scale: float | None) -> "TaskSpec":
        return build_synthesis(
            generator.prior, generator.classifier, sample_labels, seed=seed, judge=generator.judge,
            attack_scale=attack_scale,
        )  # fmt: skip

    return {
        "gat": build_transformation(
            prior, classifier, to_float(dataset.images), labels, judge=models.judge, **keyed
        ),
        "gap": build_purification(prior, to_float(pgd), classifier, labels, **keyed),
        "gas": synthesis(None),
        "free": synthesis(0.0),
    }


@dataclass(frozen=True)
class DemoRun:
    """The saved images of a run with their predictions, the target classes, and NFE per image."""

    images: "PredictedImages"
    targets: "Tensor"
    nfe: float


def _run_task(
    models: DemoModels,
    task: "TaskSpec",
    folder: Path,
    dataset: "Dataset",
    progress: bool,
    overwrite: bool,
) -> DemoRun:
    import torch

    from scoreag.io.records import read_complete_rows, read_picture
    from scoreag.methods.run_task import run_task
    from scoreag.report.task_run import read_run

    provenance = {"data": {"name": dataset.name, "sha256": dataset.sha256}}
    run_task(
        task, folder, None if task.images is None else provenance, batch_size=BATCH_SIZE,
        progress=progress, overwrite=overwrite,
    )  # fmt: skip
    run = read_run(folder)
    rows = read_complete_rows(folder)
    targets = [-1 if row["target"] is None else row["target"] for row in rows]
    saved = torch.stack([read_picture(folder, row) for row in rows])
    nfe = float(run.summary["nfe"]["per_image"])
    return DemoRun(models.predict(saved), torch.tensor(targets), nfe)
