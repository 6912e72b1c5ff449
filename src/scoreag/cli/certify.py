"""certify: randomized smoothing of given images, or a bound on the errors on a generator.

Smoothing is by noise of the pixels, behind a denoiser, or over the parameters of a transform.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from scoreag.cli import options as o
from scoreag.cli.certify_options import CertifyOptions
from scoreag.cli.certify_smoothing import certify_l2, certify_transform
from scoreag.cli.options import UsageError
from scoreag.cli.runs import command_line, format_rate, format_table, say_where
from scoreag.cli.tasks import parse_request

if TYPE_CHECKING:
    from scoreag.certify.generator_risk import GeneratorSpec


def certify(options: CertifyOptions) -> None:
    r"""Certify L2 radii or transforms, or bound errors on generated images.

    scoreag certify --model cifar10 --classifier cifar10-resnet20 \
        --data cifar10:test[0:100] --out runs/certify
    """
    other: Any = options.smoothing if options.generative else options.generator
    for name, value in o.flatten(other).items():
        if value is not None and value is not False:  # 0 is a value, too
            flag = "--" + name.strip("_").replace("_", "-")
            form = "with --generative there is" if options.generative else "without --generative is"
            raise UsageError(f"{form} no {flag}; leave it out")
    _check_transform_options(options)
    if options.generative:
        _certify_generator(options)
    elif options.smoothing.transform is not None:
        certify_transform(options)
    else:
        certify_l2(options)


def _check_transform_options(options: CertifyOptions) -> None:
    """Refuse a transform with options of L2 smoothing, and anything else without its model."""
    chosen = options.smoothing
    if chosen.transform is None:
        if chosen.transform_sigma is not None:
            raise UsageError(
                f"--transform-sigma {chosen.transform_sigma} is without --transform; name it, e.g. "
                "--transform blur, or write --sigma for L2 noise"
            )
        if options.model is None:
            raise UsageError("--model is missing; name a score model, e.g. cifar10")
        return
    fixes = {
        "model": "the classifier is smoothed without one: leave it out",
        "sigma": "write --transform-sigma",
        "dtype": "leave it out",
        "compile": "leave it out",
    }
    values = {"model": options.model, **o.flatten(chosen)}
    for name, fix in fixes.items():
        if values[name] is not None and values[name] is not False:
            raise UsageError(f"with --transform there is no --{name}; {fix}")


def _certify_generator(options: CertifyOptions) -> None:
    from scoreag.certify.generator_risk import classify_draws, summarize
    from scoreag.certify.run import describe_generator, run_certification
    from scoreag.core.batching import batch_ranges
    from scoreag.report.certification import render_generator_page

    spec, batch_size, output = _build_spec(options), options.batch_size or 50, options.output
    task, purifier = spec.task, options.generator.purification.purifier
    batches = list(batch_ranges(len(task), batch_size))

    def compute_rows(number: int, on_progress: Any) -> list[dict[str, Any]]:
        rows = classify_draws(spec, batches[number], batch_size)
        on_progress(len(rows))
        return rows

    summary = run_certification(
        Path(options.out),
        {"command": command_line(), **describe_generator(spec, purifier, batch_size)},
        [[task.image_ids[i] for i in batch] for batch in batches],
        compute_rows,
        lambda rows: summarize(rows, spec.alpha),
        render_generator_page,
        progress=output.progress,
        overwrite=options.overwrite,
    )
    lines = [
        (task.prior.classes[int(label)], f"at most {100 * e['upper']:.2f} %; {format_rate(e)}")
        for label, e in summary["classes"].items()
    ]
    lines.append(("mean of classes", f"at most {100 * summary['upper_mean']:.2f} %"))
    output.show(summary, format_table(lines))
    say_where(output, options.out)


def _build_spec(options: CertifyOptions) -> "GeneratorSpec":
    """The generator and the classifier; by default, images of all classes without an attack."""
    from scoreag.certify.generator_risk import GeneratorSpec
    from scoreag.defenses.defend import defend
    from scoreag.methods.synthesis import build_synthesis

    chosen, defense = options.generator, options.generator.purification
    prior = options.compute.load_prior(str(options.model))
    classifier = options.compute.load_classifier(options.classifier)
    labels, target = parse_request(
        chosen.classes or "all", chosen.target or "none", chosen.per_class or 1000, prior,
        classifier,
    )  # fmt: skip
    sampling = {"attack_scale": 0.0, **o.sampling_kwargs(chosen.sampling), "max_restarts": 0}
    task = build_synthesis(prior, classifier, labels, target, options.seed, **sampling)
    if not defense.purifier:
        if any(value is not None for value in o.flatten(defense).values()):
            raise UsageError(
                "--purifier-draws, --aggregate and --max-memory need a purifier; name --purifier"
            )
        return GeneratorSpec(task, alpha=options.alpha)
    defended = defend(
        classifier, prior, defense.purifier, seed=options.seed, draws=defense.purifier_draws or 1,
        aggregate=defense.aggregate or "mean", max_memory=defense.max_memory,
    )  # fmt: skip
    return GeneratorSpec(task, defended, options.alpha)
