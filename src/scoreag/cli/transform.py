"""transform: adversarial examples near given images, along the image manifold (GAT)."""

from dataclasses import dataclass

from scoreag.cli import options as o
from scoreag.cli.inputs import check_labeled, describe_data, load_images, load_reference
from scoreag.cli.outputs import run_and_report
from scoreag.cli.parsing import parse_target


@dataclass(frozen=True, kw_only=True)
class TransformOptions:
    model: o.ModelName
    classifier: o.ClassifierName
    source: o.ImageOptions
    target: o.TargetName = "runner-up"
    reference_classifier: o.ReferenceName = None
    run: o.RunOptions
    output: o.OutputOptions
    compute: o.DeviceOptions
    sampling: o.SamplingOptions


def transform(options: TransformOptions) -> None:
    r"""GAT: change given images until a classifier takes them for something else.

    scoreag transform --model cifar10 --classifier cifar10-resnet20 \
        --data cifar10:test[0:64] --out runs/gat
    """
    from scoreag.methods.transformation import build_transformation

    compute, run = options.compute, options.run
    prior = compute.load_prior(options.model)
    target = parse_target(options.target, prior.classes)
    classifier = compute.load_classifier(options.classifier)
    data = load_images(options.source, prior, options.classifier, run.out, options.output.progress)
    check_labeled(data)
    judge, accuracy = load_reference(options.reference_classifier, prior, options.compute)
    job = build_transformation(
        prior, classifier, data.images, data.labels, target, run.seed, data.image_ids, judge,
        **o.sampling_kwargs(options.sampling),
    )  # fmt: skip
    provenance = {"target": options.target, **describe_data(data), **accuracy}
    run_and_report(job, run, options.output, provenance, data)
