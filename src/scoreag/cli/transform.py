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
    """GAT: change given images until a classifier takes them for something else."""
    from scoreag.classifiers.loading import load_classifier
    from scoreag.methods.transformation import build_transformation
    from scoreag.models.loading import load_prior

    device, trust_code, run = options.compute.device, options.compute.trust_code, options.run
    prior = load_prior(options.model, device, trust_code)
    target = parse_target(options.target, prior.classes)
    classifier = load_classifier(options.classifier, device, trust_code=trust_code)
    data = load_images(options.source, prior, options.classifier, run.out, options.output.progress)
    check_labeled(data)
    judge, accuracy = load_reference(options.reference_classifier, prior, options.compute)
    job = build_transformation(
        prior, classifier, data.images, data.labels, target, run.seed, data.image_ids, judge,
        **o.sampling_kwargs(options.sampling),
    )  # fmt: skip
    provenance = {"target": options.target, **describe_data(data), **accuracy}
    run_and_report(job, run, options.output, provenance, data)
