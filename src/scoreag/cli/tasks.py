"""synthesize, transform and purify: the tasks of the paper, each as a run in a folder."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from scoreag.cli import options as o
from scoreag.cli.runs import (
    check_labeled,
    describe_data,
    label_names,
    load_images,
    load_reference,
    run_and_report,
)
from scoreag.registry import did_you_mean

if TYPE_CHECKING:
    from scoreag.classifiers.normalized import NormalizedClassifier
    from scoreag.diffusion.prior import Prior

ALL = "all"
_PER_CLASS_HELP = "Images of each class, or of a model without classes."
_FOOLED_HELP = "Classifier to be fooled: as for transform."


@dataclass(frozen=True, kw_only=True)
class SynthesizeOptions:
    model: o.ModelName
    classifier: Annotated[str | None, o.Opt(_FOOLED_HELP, "none: sample without an attack")] = None
    dtype: o.Dtype = o.FLOAT32
    compile: o.Compile = False
    classes: Annotated[str, o.Opt("all, 3, 0,3,5, 0-4, or names such as cat,dog.")] = ALL
    per_class: Annotated[
        int, o.Opt("Images of each class, or of a model without classes.", check=o.at_least(1))
    ] = 10
    target: o.TargetName = "runner-up"
    reference_classifier: o.ReferenceName = None
    run: o.RunOptions
    cluster: o.ClusterOptions
    output: o.OutputOptions
    compute: o.DeviceOptions
    chain: o.ChainOptions
    attack: o.AttackOptions


def synthesize(options: SynthesizeOptions) -> None:
    r"""GAS: generate images that a classifier gets wrong.

    scoreag synthesize --model cifar10 --classifier cifar10-resnet20 \
        --classes cat,dog --out runs/gas
    """
    from scoreag.methods.synthesis import build_synthesis

    prior = options.compute.load_prior(options.model, options.dtype, options.compile)
    if options.classifier is None:
        _sample(options, prior)
        return
    classifier = options.compute.load_classifier(options.classifier)
    labels, target = parse_request(
        options.classes, options.target, options.per_class, prior, classifier
    )
    names = label_names(prior, classifier) or prior.classes
    reference, accuracy = load_reference(
        options.reference_classifier, prior, names, options.compute
    )
    task = build_synthesis(
        prior, classifier, labels, target, options.run.seed, judge=reference,
        **o.sampling_kwargs(options.chain, options.attack),
    )  # fmt: skip
    run_and_report(
        task, options.run, options.output, {"target": options.target, **accuracy},
        cluster=options.cluster,
    )  # fmt: skip


def _sample(options: SynthesizeOptions, prior: "Prior") -> None:
    """Samples of the score model, without a classifier and without a target."""
    from scoreag.methods.synthesis import build_synthesis

    if options.target not in ("runner-up", "none"):
        raise o.UsageError(f"--target {options.target} needs --classifier, which predicts it")
    count, ids = options.per_class, None
    if prior.classes:
        labels: list[int] | None = parse_labels(options.classes, prior.classes, count)
    elif options.classes != ALL:
        raise o.UsageError(f"--classes {options.classes}, but {options.model} has no classes")
    else:
        labels, ids = None, range(count)
    reference, accuracy = load_reference(
        options.reference_classifier, prior, prior.classes, options.compute
    )
    task = build_synthesis(
        prior, None, labels, None, options.run.seed, ids, judge=reference,
        **o.sampling_kwargs(options.chain, options.attack),
    )  # fmt: skip
    run_and_report(task, options.run, options.output, {"target": None, **accuracy})


@dataclass(frozen=True, kw_only=True)
class TransformOptions:
    model: o.ModelName
    dtype: o.Dtype = o.FLOAT32
    compile: o.Compile = False
    classifier: o.ClassifierName
    source: o.ImageOptions
    target: o.TargetName = "runner-up"
    reference_classifier: o.ReferenceName = None
    run: o.RunOptions
    cluster: o.ClusterOptions
    output: o.OutputOptions
    compute: o.DeviceOptions
    chain: o.ChainOptions
    nearness: o.SimilarityOptions
    attack: o.AttackOptions


def transform(options: TransformOptions) -> None:
    r"""GAT: change given images until a classifier errs.

    scoreag transform --model cifar10 --classifier cifar10-resnet20 \
        --data cifar10:test[0:64] --out runs/gat
    """
    from scoreag.methods.transformation import build_transformation

    compute, run = options.compute, options.run
    prior = compute.load_prior(options.model, options.dtype, options.compile)
    classifier = compute.load_classifier(options.classifier)
    data = load_images(options.source, prior, classifier, run.out, options.output.progress)
    check_labeled(data)
    names = label_names(prior, classifier) or data.classes or prior.classes
    target = parse_target(options.target, names)
    reference, accuracy = load_reference(options.reference_classifier, prior, names, compute)
    task = build_transformation(
        prior, classifier, data.images, data.labels, target, run.seed, data.image_ids, reference,
        **o.sampling_kwargs(options.chain, options.nearness, options.attack),
    )  # fmt: skip
    provenance = {"target": options.target, **describe_data(data), **accuracy}
    run_and_report(task, run, options.output, provenance, data, options.cluster)


@dataclass(frozen=True, kw_only=True)
class PurificationOptions:
    model: o.ModelName
    dtype: o.Dtype = o.FLOAT32
    compile: o.Compile = False
    classifier: Annotated[str | None, o.Opt("Classifies images before and after.", "none")] = None
    source: o.ImageOptions
    run: o.RunOptions
    cluster: o.ClusterOptions
    output: o.OutputOptions
    compute: o.DeviceOptions
    chain: o.ChainOptions
    nearness: o.SimilarityOptions


def purify(options: PurificationOptions) -> None:
    """GAP: recover natural images from attacked ones.

    scoreag purify --model cifar10 --classifier cifar10-resnet20 --data runs/gat --out runs/gap
    """
    from scoreag.methods.purification import build_purification

    compute, run = options.compute, options.run
    prior = compute.load_prior(options.model, options.dtype, options.compile)
    classifier = compute.load_classifier(options.classifier) if options.classifier else None
    data = load_images(options.source, prior, classifier, run.out, options.output.progress)
    task = build_purification(
        prior, data.images, classifier, data.labels, run.seed, data.image_ids,
        **o.sampling_kwargs(options.chain, options.nearness),
    )  # fmt: skip
    run_and_report(task, run, options.output, describe_data(data), data, options.cluster)


def parse_request(
    classes: str, target: str, per_class: int, prior: "Prior", classifier: "NormalizedClassifier"
) -> tuple[list[int], int | str | None]:
    """The labels and the target of two words, numbered by the classifier's classes.

    ``all`` is every class of the classifier that the score model knows.
    """
    from scoreag.classifiers.class_groups import known_groups
    from scoreag.diffusion.class_labels import fit_classes, known_classes

    names = label_names(prior, classifier)
    fitted = fit_classes(prior, names, known_groups(classifier)) if names else prior
    known, names = known_classes(fitted), (names or fitted.classes) if prior.classes else ()
    if classes == ALL and ALL not in names and len(known) < len(names):
        classes = ",".join(map(str, known))
    return parse_labels(classes, names, per_class), parse_target(target, names)


def parse_labels(text: str, classes: Sequence[str], per_class: int) -> list[int]:
    """``all``, ``3``, ``0,3,5``, ``0-4`` or ``cat,dog``, each class ``per_class`` times."""
    if not classes:
        raise ValueError(
            "this score model has no classes, so it cannot synthesize images of one; "
            "use a class-conditional model, or transform given images"
        )
    from scoreag.methods.task import IDS_PER_CLASS  # here, so that --help needs no torch

    if per_class > IDS_PER_CLASS:
        raise o.UsageError(f"--per-class is {per_class}; expected at most {IDS_PER_CLASS}")
    words = o.split_words(text)
    if ALL in words and ALL not in classes:
        if len(words) > 1:
            raise o.UsageError(
                f"--classes {text}: 'all' is every class; write all alone, or leave it"
            )
        words = [f"0-{len(classes) - 1}"]
    labels = [number for word in words for number in _parse_range(word, classes)]
    repeated = [number for number in labels if labels.count(number) > 1]
    if repeated:
        raise o.UsageError(
            f"--classes {text} names class {repeated[0]} twice; use --per-class for more"
        )
    return [number for number in labels for _ in range(per_class)]


def _parse_range(word: str, classes: Sequence[str]) -> Sequence[int]:
    match = re.fullmatch(r"(\d+)-(\d+)", word)
    if not match:
        return [_parse_class("--classes", word, classes, [ALL])]
    first, last = int(match[1]), int(match[2])
    if last < first:
        raise o.UsageError(f"--classes {word}: the range ends before it begins")
    if last >= len(classes):
        raise o.UsageError(f"--classes {word}, but the classes are 0..{len(classes) - 1}")
    return range(first, last + 1)


def _parse_class(flag: str, word: str, classes: Sequence[str], other_words: Sequence[str]) -> int:
    """A class by number or name; numbers are checked against the model later."""
    if re.fullmatch(r"\d+", word):
        return int(word)
    if word not in classes:
        hint = did_you_mean(word, [*other_words, *classes])
        raise o.UsageError(f"{flag}: no class {word!r}; {hint}")
    return list(classes).index(word)


def parse_target(text: str, classes: Sequence[str]) -> int | str | None:
    """``runner-up``, ``random``, ``none``, or a class, as ``target`` of the Python functions."""
    words: dict[str, str | None] = {"runner-up": "runner_up", "random": "random", "none": None}
    return words[text] if text in words else _parse_class("--target", text, classes, [*words])
