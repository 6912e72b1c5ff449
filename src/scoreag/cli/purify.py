"""purify: bring attacked images back to the image manifold (GAP)."""

from dataclasses import dataclass
from typing import Annotated

from scoreag.cli import options as o
from scoreag.cli.inputs import describe_data, load_images
from scoreag.cli.outputs import run_and_report


@dataclass(frozen=True, kw_only=True)
class PurificationOptions:
    model: o.ModelName
    classifier: Annotated[str | None, o.Opt("Asked before and after.", "none")] = None
    source: o.ImageOptions
    run: o.RunOptions
    output: o.OutputOptions
    compute: o.DeviceOptions
    sampling: o.UnguidedOptions


def purify(options: PurificationOptions) -> None:
    """GAP: bring attacked images back to the natural ones that they were made from.

    scoreag purify --model cifar10 --classifier cifar10-resnet20 --data runs/gat --out runs/gap
    """
    from scoreag.methods.purification import build_purification

    compute, run = options.compute, options.run
    prior = compute.load_prior(options.model)
    classifier = compute.load_classifier(options.classifier) if options.classifier else None
    data = load_images(options.source, prior, options.classifier, run.out, options.output.progress)
    job = build_purification(
        prior, data.images, classifier, data.labels, run.seed, data.image_ids,
        **o.sampling_kwargs(options.sampling),
    )  # fmt: skip
    run_and_report(job, run, options.output, describe_data(data), data)
