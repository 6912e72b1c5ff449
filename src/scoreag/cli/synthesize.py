"""synthesize: unrestricted adversarial examples from nothing (GAS)."""

from dataclasses import dataclass
from typing import Annotated

from scoreag.cli import options as o
from scoreag.cli.inputs import load_reference
from scoreag.cli.outputs import run_and_report
from scoreag.cli.parsing import parse_labels, parse_target


@dataclass(frozen=True, kw_only=True)
class SynthesizeOptions:
    model: o.ModelName
    classifier: o.ClassifierName
    classes: Annotated[str, o.Opt("all, 3, 0,3,5, 0-4, or names such as cat,dog.")] = "all"
    per_class: Annotated[int, o.Opt("Images of each class.", check=o.at_least(1))] = 10
    target: o.TargetName = "runner-up"
    reference_classifier: o.ReferenceName = None
    run: o.RunOptions
    output: o.OutputOptions
    compute: o.DeviceOptions
    sampling: o.SamplingOptions


def synthesize(options: SynthesizeOptions) -> None:
    r"""GAS: generate images of a class that a classifier takes for another one, from nothing.

    scoreag synthesize --model cifar10 --classifier cifar10-resnet20 \
        --classes cat,dog --out runs/gas
    """
    from scoreag.methods.synthesis import build_synthesis

    prior = options.compute.load_prior(options.model)
    labels = parse_labels(options.classes, prior.classes, options.per_class)
    target = parse_target(options.target, prior.classes)
    classifier = options.compute.load_classifier(options.classifier)
    judge, accuracy = load_reference(options.reference_classifier, prior, options.compute)
    job = build_synthesis(
        prior, classifier, labels, target, options.run.seed, judge=judge,
        **o.sampling_kwargs(options.sampling),
    )  # fmt: skip
    provenance = {"target": options.target, **accuracy}
    run_and_report(job, options.run, options.output, provenance)
