"""certify: randomized smoothing of given images, or a bound on the errors on a generator."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from scoreag.cli import options as o
from scoreag.cli.options import UsageError
from scoreag.cli.runs import (
    check_labeled,
    command_line,
    format_rate,
    format_table,
    label_names,
    load_images,
    say_where,
)
from scoreag.cli.tasks import parse_request

if TYPE_CHECKING:
    from scoreag.certify.generator_risk import GeneratorSpec
    from scoreag.certify.smoothing import SmoothingConfig
    from scoreag.classifiers.normalized import NormalizedClassifier
    from scoreag.core.types import Classifier
    from scoreag.defenses.purified_classifier import PurifiedClassifier
    from scoreag.diffusion.prior import Prior

ATTACK_PER_CLASS, ATTACK_SCALE, ATTACK_PACE = 20, 100.0, "uniform"  # of our attack
MOST_ATTACKED = 10_000  # images of a class at one budget: the ids of each budget are its own


@dataclass(frozen=True, kw_only=True)
class SmoothingOptions:
    """Options for smoothing only; None: the default of ``SmoothingConfig``."""

    data: Annotated[str | None, o.Opt("Smoothing: images with labels.")] = None
    class_: o.ClassName = None
    reading: o.ReadOptions
    sigma: Annotated[float | None, o.Opt("Smoothing: std. deviation of the noise.", "0.25")] = None
    n0: Annotated[int | None, o.Opt("Smoothing: copies that choose the class.", "100")] = None
    n: Annotated[int | None, o.Opt("Smoothing: copies that bound its rate.", "10000")] = None
    dtype: Annotated[str | None, o.Opt("Smoothing: float32 or bf16.", "float32")] = None
    compile: Annotated[bool, o.switch("Smoothing: compile by torch.compile.")] = False


@dataclass(frozen=True, kw_only=True)
class GeneratorSampling:
    """How the generator samples."""

    attack_scale: Annotated[
        float | None, o.Opt("Generator: s_y; of the attack under --energy.", "0; of the attack 100")
    ] = None
    guidance_scale: o.GuidanceScale = None
    guide: o.Guide = None
    guidance_interval: o.GuidanceInterval = None
    steps: o.Steps = None
    sampler: o.Sampler = None
    sampler_option: o.SamplerOption = None


@dataclass(frozen=True, kw_only=True)
class PurifierOptions:
    """The purifier before the classifier."""

    purifier: Annotated[str | None, o.Opt("Generator: purify before classifying.", "none")] = None
    purifier_draws: Annotated[
        int | None, o.Opt("Purified images per prediction.", "1", o.at_least(1))
    ] = None
    aggregate: Annotated[str | None, o.Opt("Over these: mean or majority.", "mean")] = None
    max_memory: o.MaxMemory = None


@dataclass(frozen=True, kw_only=True)
class SteeringOptions:
    """Who steers the generator, and how our own attack does."""

    energy: Annotated[
        str | None,
        o.Opt("Bounds for everyone who steers by at most R, e.g. 0.5,1,2.", "none", metavar="R,R"),
    ] = None
    attack_per_class: Annotated[
        int | None, o.Opt("Images of each class by our attack, at each R.", "20", o.at_least(0))
    ] = None
    energy_pace: Annotated[str | None, o.Opt("Of our attack: greedy or uniform.", "uniform")] = None
    reference_classifier: Annotated[
        list[str] | None, o.Opt("Also bounds errors on images that all of these see.", "none")
    ] = None


@dataclass(frozen=True, kw_only=True)
class GeneratorOptions:
    """Options for the bound on a generator only."""

    classes: Annotated[str | None, o.Opt("Generator: as for synthesize.", "all")] = None
    per_class: Annotated[int | None, o.Opt("Images of each class.", "1000", o.at_least(1))] = None
    target: Annotated[str | None, o.Opt("Generator: as for synthesize.", "none")] = None
    sampling: GeneratorSampling
    steering: SteeringOptions
    purification: PurifierOptions


@dataclass(frozen=True, kw_only=True)
class CertifyOptions:
    model: o.ModelName
    classifier: o.ClassifierName
    generative: Annotated[bool, o.switch("Bound the error rate on generated images.")] = False
    alpha: Annotated[float, o.Opt("Probability that a certificate is wrong.")] = 0.001
    smoothing: SmoothingOptions
    generator: GeneratorOptions
    seed: o.Seed = 0
    out: o.Out
    overwrite: o.Overwrite = False
    batch_size: Annotated[
        int | None, o.Opt("Images per forward pass.", "100; generator: 50", o.at_least(1))
    ] = None
    output: o.OutputOptions
    compute: o.DeviceOptions


def certify(options: CertifyOptions) -> None:
    r"""Certify L2 radii, or bound errors on generated images.

    scoreag certify --model cifar10 --classifier cifar10-resnet20 \
        --data cifar10:test[0:100] --out runs/certify
    """
    other: Any = options.smoothing if options.generative else options.generator
    for name, value in o.flatten(other).items():
        if value is not None and value is not False:  # 0 is a value, too
            flag = "--" + name.strip("_").replace("_", "-")
            form = "with --generative there is" if options.generative else "without --generative is"
            raise UsageError(f"{form} no {flag}; leave it out")
    (_certify_generator if options.generative else _certify_images)(options)


def _certify_images(options: CertifyOptions) -> None:
    from scoreag.certify.run import describe_smoothing, run_certification
    from scoreag.certify.smoothing import SmoothingConfig, certify_image, summarize
    from scoreag.io.images import to_float
    from scoreag.report.certification import render_smoothing_page

    chosen, output = options.smoothing, options.output
    if chosen.data is None:
        raise UsageError("--data is missing; name images, e.g. cifar10:test[0:100]")
    source = o.ImageOptions(data=chosen.data, class_=chosen.class_, reading=chosen.reading)
    changes = {n: v for n in ("sigma", "n0", "n", "dtype") if (v := getattr(chosen, n)) is not None}
    config = SmoothingConfig(alpha=options.alpha, seed=options.seed, **changes)
    config = replace(
        config, batch_size=options.batch_size or config.batch_size, compiled=chosen.compile
    )
    prior = options.compute.load_prior(options.model)
    classifier = options.compute.load_classifier(options.classifier)
    data = load_images(source, prior, classifier, options.out, output.progress)
    check_labeled(data)
    assert data.labels is not None
    smoothed = _build_base_classifier(output, prior, classifier, config)
    images, labels, ids = to_float(data.images), data.labels.tolist(), data.image_ids

    def compute_rows(number: int, on_progress: Any) -> list[dict[str, Any]]:
        image = images[number].to(prior.sigmas.device)
        return [certify_image(smoothed, image, ids[number], labels[number], config, on_progress)]

    summary = run_certification(
        Path(options.out),
        {"command": command_line(), **describe_smoothing(config, prior, classifier, data)},
        [[i] for i in ids],
        compute_rows,
        lambda rows: summarize(rows, config),
        render_smoothing_page,
        unit="copy",
        units_per_image=config.n0 + config.n,
        progress=output.progress,
        overwrite=options.overwrite,
        on_start=lambda: output.say(f"read {data.summary}"),
    )
    lines = [(name, format_rate(entry)) for name, entry in summary["rates"].items()]
    for radius, entry in summary["certified"].items():
        lines.append((f"certified at {radius}", format_rate(entry) if entry else "beyond N"))
    lines.append(("largest radius", f"{summary['largest_radius']:g}"))
    output.show(summary, format_table(lines))
    say_where(output, options.out)


def _build_base_classifier(
    output: o.OutputOptions, prior: Any, classifier: Any, config: "SmoothingConfig"
) -> Any:
    """The denoiser and classifier that are smoothed, checked on one image to return logits."""
    import torch

    from scoreag.certify.smoothing import compile_classifier, denoised_smoothing
    from scoreag.classifiers.checks import check_classifier

    base = denoised_smoothing(prior, classifier, config.sigma, config.dtype)
    blank = torch.full((1, *prior.image_shape), 0.5, dtype=prior.dtype).to(prior.sigmas.device)
    check_classifier(base, blank, require_grad=False)
    if not config.compiled:
        return base
    output.say("torch.compile compiles the networks, which takes a minute or more")
    return compile_classifier(base, blank.repeat(config.batch_size, 1, 1, 1))


def _certify_generator(options: CertifyOptions) -> None:
    from scoreag.certify.generator_risk import classify_draws, summarize
    from scoreag.certify.run import describe_generator, run_certification
    from scoreag.core.batching import batch_ranges
    from scoreag.report.certification import render_generator_page

    spec, *attacks = specs = _build_specs(options)
    batch_size, output = options.batch_size or 50, options.output
    task, purifier = spec.task, options.generator.purification.purifier
    batches = [(one, rows) for one in specs for rows in batch_ranges(len(one.task), batch_size)]

    def compute_rows(number: int, on_progress: Any) -> list[dict[str, Any]]:
        one, chosen = batches[number]
        rows = classify_draws(one, chosen, batch_size)
        on_progress(len(rows))
        return rows

    budgets = _budgets(options.generator.steering.energy)
    summary = run_certification(
        Path(options.out),
        {
            "command": command_line(),
            **describe_generator(spec, purifier, batch_size, budgets, attacks),
        },
        [[one.task.image_ids[i] for i in chosen] for one, chosen in batches],
        compute_rows,
        lambda rows: summarize(rows, spec.alpha, budgets),
        render_generator_page,
        progress=output.progress,
        overwrite=options.overwrite,
    )
    names = task.prior.classes
    output.show(summary, format_table(_bound_lines(summary, names)))
    say_where(output, options.out)


def _bound_lines(summary: Mapping[str, Any], names: Sequence[str]) -> list[tuple[str, str]]:
    """The bounds as lines: of each class, and where the generator is steered, of each budget."""
    lines = [
        (names[int(label)], f"at most {100 * e['upper']:.2f} %; {format_rate(e)}")
        for label, e in summary["classes"].items()
    ]
    lines.append(("mean of classes", f"at most {100 * summary['upper_mean']:.2f} %"))
    for event, parts in summary.get("steered", {}).items():
        words = event.replace("_", " ")
        for budget, entry in parts[""]["budgets"].items():
            reached = f"; our attack {format_rate(entry['attack'])}" if "attack" in entry else ""
            line = f"at most {100 * entry['bound']:.2f} %{reached}"
            lines.append((f"{words}, R = {budget}", line))
    return lines


def _budgets(text: str | None) -> list[float]:
    """The numbers of --energy, each above 0 and named once."""
    if text is None:
        return []
    try:
        budgets = [float(word) for word in o.split_words(text)]
    except ValueError:
        budgets = []
    if not budgets or not all(0 < budget < math.inf for budget in budgets):
        raise UsageError(
            f"--energy is {text!r}; expected lengths above 0, in deviations of the noise, e.g. "
            "0.5,1,2"
        )
    if len({*budgets}) < len(budgets):
        raise UsageError(f"--energy {text} names a length twice; write each once")
    return budgets


def _build_specs(options: CertifyOptions) -> "list[GeneratorSpec]":
    """The generator and the classifier, and our attack at each budget.

    By default the generator makes images of all classes, without an attack.
    """
    from scoreag.certify.generator_risk import GeneratorSpec
    from scoreag.methods.config import check_draws_noise
    from scoreag.methods.synthesis import build_synthesis
    from scoreag.methods.task import IDS_PER_CLASS

    chosen, steering = options.generator, options.generator.steering
    _check_steering(options)
    prior = options.compute.load_prior(options.model)
    classifier = options.compute.load_classifier(options.classifier)
    sampling = {**o.sampling_kwargs(chosen.sampling), "max_restarts": 0}
    scale = sampling.pop("attack_scale", None)
    judges, defended = _load_judges(options, prior, classifier), _defend(options, prior, classifier)

    def build(per_class: int, first: int = 0, **steered: Any) -> GeneratorSpec:
        labels, target = parse_request(
            chosen.classes or "all", chosen.target or "none", per_class, prior, classifier
        )
        ids = [label * IDS_PER_CLASS + first + i % per_class for i, label in enumerate(labels)]
        task = build_synthesis(
            prior, classifier, labels, target, options.seed, ids, **sampling, **steered
        )
        return GeneratorSpec(task, defended, options.alpha, judges)

    if steering.energy is None:
        return [build(chosen.per_class or 1000, attack_scale=scale or 0.0)]
    many = ATTACK_PER_CLASS if steering.attack_per_class is None else steering.attack_per_class
    attack = {
        "attack_scale": ATTACK_SCALE if scale is None else scale,
        "energy_pace": steering.energy_pace or ATTACK_PACE,
    }
    attacks = [
        build(many, IDS_PER_CLASS - number * MOST_ATTACKED, energy_budget=budget, **attack)
        for number, budget in enumerate(_budgets(steering.energy) if many else [], 1)
    ]
    spec = build(chosen.per_class or 1000, attack_scale=0.0)
    check_draws_noise(spec.task.config, "--energy is")
    return [spec, *attacks]


def _check_steering(options: CertifyOptions) -> None:
    """Refuse options of our attack without budgets, and more of its images than have an id."""
    from scoreag.methods.task import IDS_PER_CLASS

    chosen = options.generator.steering
    budgets = _budgets(chosen.energy)
    given = {**o.flatten(chosen), "energy": None}
    if chosen.energy is None and (idle := [n for n, v in given.items() if v is not None]):
        flag = "--" + idle[0].replace("_", "-")
        raise UsageError(f"{flag} is of steered generators; name lengths, e.g. --energy 0.5,1,2")
    most = IDS_PER_CLASS - MOST_ATTACKED * len(budgets)
    for flag, count, limit in (
        ("--attack-per-class", chosen.attack_per_class or 0, MOST_ATTACKED),
        ("--per-class", options.generator.per_class or 0, most),
    ):
        if count > limit:
            raise UsageError(f"{flag} is {count}; expected at most {limit}")


def _load_judges(
    options: CertifyOptions, prior: "Prior", classifier: "NormalizedClassifier"
) -> "tuple[Classifier, ...]":
    """The reference classifiers, among the classes of the classifier where these have names."""
    import torch

    from scoreag.classifiers.checks import validate_judge

    names = options.generator.steering.reference_classifier or ()
    if not names:
        return ()
    classes = label_names(prior, classifier) or prior.classes
    blank = torch.full((1, *prior.image_shape), 0.5, dtype=prior.dtype).to(prior.sigmas.device)
    judges = []
    for name in names:
        judge = options.compute.load_classifier(name)
        fitted = validate_judge(judge, classifier, blank, len(classes), classes)
        assert fitted is not None
        judges.append(fitted)
    return tuple(judges)


def _defend(
    options: CertifyOptions, prior: "Prior", classifier: "NormalizedClassifier"
) -> "PurifiedClassifier | None":
    """The classifier behind the purifier, if one is named."""
    from scoreag.defenses.defend import defend

    defense = options.generator.purification
    if defense.purifier:
        return defend(
            classifier, prior, defense.purifier, seed=options.seed,
            draws=defense.purifier_draws or 1, aggregate=defense.aggregate or "mean",
            max_memory=defense.max_memory,
        )  # fmt: skip
    if any(value is not None for value in o.flatten(defense).values()):
        raise UsageError(
            "--purifier-draws, --aggregate and --max-memory need a purifier; name --purifier"
        )
    return None
