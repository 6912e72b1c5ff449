"""certify --generative: a bound on the errors on generated images, and for whoever steers them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scoreag.cli import options as o
from scoreag.cli.certify_options import CertifyOptions
from scoreag.cli.options import UsageError
from scoreag.cli.runs import (
    command_line,
    format_rate,
    format_table,
    label_names,
    show_certificate,
    show_seconds,
)
from scoreag.cli.tasks import parse_request

if TYPE_CHECKING:
    from scoreag.certify.generator_risk import GeneratorSpec
    from scoreag.classifiers.normalized import NormalizedClassifier
    from scoreag.core.types import Classifier
    from scoreag.defenses.purified_classifier import PurifiedClassifier
    from scoreag.diffusion.prior import Prior

ATTACK_PER_CLASS, ATTACK_SCALE, ATTACK_PACE = 20, 100.0, "uniform"  # of our attack
ATTACK_INTERVAL = (
    "1,30"  # noise levels at which little energy still moves an image to another class
)
MOST_ATTACKED = 10_000  # images of a class at one budget: the ids of each budget are its own


def certify_generator(options: CertifyOptions) -> None:
    """Bound the errors on the images of a generator, and of whoever steers it."""
    from scoreag.certify.generator_risk import classify_draws, summarize
    from scoreag.certify.run import describe_generator, run_certification
    from scoreag.core.batching import batch_ranges

    spec, *attacks = specs = _build_specs(options)
    batch_size, output = options.batch_size or 50, options.output
    task, purifier = spec.task, options.generator.purification.purifier
    batches = [(one, rows) for one in specs for rows in batch_ranges(len(one.task), batch_size)]

    def compute_rows(number: int, on_progress: Any) -> list[dict[str, Any]]:
        one, chosen = batches[number]
        rows = classify_draws(one, chosen, batch_size)
        on_progress(len(rows))
        return rows

    if options.dry_run:
        _show_cost(output, specs, batches, compute_rows)
        return
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
        progress=output.progress,
        overwrite=options.overwrite,
        ray=options.cluster.connect(options.compute.resolve()),
    )
    names = task.prior.classes
    show_certificate(output, Path(options.out), summary, format_table(_bound_lines(summary, names)))


def _show_cost(
    output: o.OutputOptions,
    specs: "Sequence[GeneratorSpec]",
    batches: "Sequence[tuple[GeneratorSpec, range]]",
    compute_rows: Any,
) -> None:
    """Print the cost, measured on a batch without an attack and on one with it."""
    from scoreag.certify.run import seconds_per_unit

    seconds, images = 0.0, sum(len(one.task) for one in specs)
    for kind in (specs[:1], specs[1:]):  # attacks at other energies cost as much
        if kind:
            number = next(i for i, (one, _) in enumerate(batches) if one is kind[0])
            seconds += seconds_per_unit(compute_rows, number) * sum(len(one.task) for one in kind)
    show_seconds(output, images, seconds, specs[0].task.prior.sigmas.device)


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
    """The numbers of --energy from small to large, each above 0 and named once."""
    from scoreag.methods.config import MAX_BUDGET

    if text is None:
        return []
    try:
        budgets = [float(word) for word in o.split_words(text)]
    except ValueError:
        budgets = []
    if not budgets or not all(0 < budget <= MAX_BUDGET for budget in budgets):
        raise UsageError(
            f"--energy is {text!r}; expected lengths above 0 and at most {MAX_BUDGET:g}, in "
            "deviations of the noise, e.g. 0.5,1,2"
        )
    if len({f"{budget:g}" for budget in budgets}) < len(budgets):
        raise UsageError(f"--energy {text} names a length twice, to six digits; write each once")
    return sorted(budgets)


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
    prior = options.compute.load_prior(str(options.model))
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
    if scale == 0:
        raise UsageError(
            "--attack-scale is 0, and --energy compares bounds with an attack; write a number "
            "above 0, or --attack-per-class 0 for the bounds alone"
        )
    spec = build(chosen.per_class or 1000, attack_scale=0.0, energy_budget=None)
    check_draws_noise(spec.task.config, "--energy is")
    many = ATTACK_PER_CLASS if steering.attack_per_class is None else steering.attack_per_class
    interval = o.parse_interval("attack_interval", steering.attack_interval or ATTACK_INTERVAL)
    attack = {
        "attack_scale": ATTACK_SCALE if scale is None else scale,
        "energy_pace": steering.energy_pace or ATTACK_PACE,
        "attack_interval": interval,
        "x0_steps": 0,  # further steps help where the x0-estimate is sharp
    }
    attacks = [
        build(many, IDS_PER_CLASS - number * MOST_ATTACKED, energy_budget=budget, **attack)
        for number, budget in enumerate(_budgets(steering.energy) if many else [], 1)
    ]
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
