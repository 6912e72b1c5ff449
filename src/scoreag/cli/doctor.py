"""doctor: is a classifier what it seems to be?"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from scoreag.cli import options as o
from scoreag.cli.inputs import check_classes, load_source
from scoreag.registry import UnknownNameError

if TYPE_CHECKING:
    from scoreag.classifiers.diagnose import Finding


@dataclass(frozen=True, kw_only=True)
class DoctorOptions:
    classifier: o.ClassifierName
    source: o.ImageOptions
    output: o.OutputOptions
    compute: o.DeviceOptions
    batch_size: Annotated[int, o.Opt("Images per forward pass.", check=o.at_least(1))] = 250


def doctor(options: DoctorOptions) -> None:
    """Check a classifier: input range, normalization, logits or softmax, randomness, accuracy.

    scoreag doctor --classifier fashion-cnn --data fashion-mnist:sample
    """
    findings = diagnose_classifier(options)
    options.output.show([one.to_dict() for one in findings], "\n".join(map(str, findings)))
    failed = [one.check for one in findings if one.ok is False]
    if failed:
        raise ValueError(f"{options.classifier}: something is wrong with its {', '.join(failed)}")


def diagnose_classifier(options: DoctorOptions) -> "list[Finding]":
    """What all checks find; where the classifier cannot be loaded, that."""
    from scoreag.classifiers.diagnose import Finding, diagnose
    from scoreag.classifiers.loading import class_names

    name, compute = options.classifier, options.compute
    classes = class_names(name)
    data = load_source(options.source, classes, options.output.progress)
    options.output.say(f"read {data.summary}")
    try:
        classifier = compute.load_classifier(name)
    except UnknownNameError:
        raise
    except ValueError as error:
        return [Finding("loading", False, str(error))]
    shape = None if ":" in name else compute.load_card(name).image_shape
    findings = diagnose(classifier, data.images, data.labels, options.batch_size, shape)
    try:
        check_classes(data, classes)
    except ValueError as error:
        findings.append(Finding("classes", False, str(error)))
    return findings
