"""certify: randomized smoothing of given images, or a bound on how often a generator fools."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from scoreag.cli import options as o
from scoreag.cli.inputs import check_labeled, describe_data, load_images
from scoreag.cli.outputs import command_line, format_rate, format_table, say_where
from scoreag.cli.parsing import UsageError, parse_labels, parse_target

if TYPE_CHECKING:
    from scoreag.certify.generator_risk import GeneratorSpec
    from scoreag.certify.smoothing import SmoothingConfig
    from scoreag.data.loading import Dataset

_BATCH_HELP = "Images per forward pass."
_BATCH_DEFAULT = "100; with --generative 50"


@dataclass(frozen=True, kw_only=True)
class SmoothingOptions:
    """Options of smoothing alone; None is the default of ``SmoothingConfig``."""

    data: Annotated[str | None, o.Opt("Smoothing: images with labels.")] = None
    data_dir: o.DataDir = None
    class_: o.ClassName = None
    size: o.Size = None
    sigma: Annotated[float | None, o.Opt("Smoothing: deviation of the noise.", "0.25")] = None
    n0: Annotated[int | None, o.Opt("Smoothing: copies that choose the class.", "100")] = None
    n: Annotated[int | None, o.Opt("Smoothing: copies that bound its rate.", "10000")] = None
    dtype: Annotated[str | None, o.Opt("Smoothing: float32 or bf16.", "float32")] = None
    compile: Annotated[bool, o.switch("Smoothing: compile by torch.compile.")] = False


@dataclass(frozen=True, kw_only=True)
class GeneratorSampling:
    """How the generator samples."""

    attack_scale: Annotated[float | None, o.Opt("Generator: s_y.", "0, no guidance")] = None
    steps: o.Steps = None
    sampler: o.Sampler = None
    sampler_option: o.SamplerOption = None


@dataclass(frozen=True, kw_only=True)
class GeneratorOptions:
    """Options of the bound on a generator alone."""

    classes: Annotated[str | None, o.Opt("Generator: as for synthesize.", "all")] = None
    per_class: Annotated[int | None, o.Opt("Images of each class.", "1000", o.at_least(1))] = None
    target: Annotated[str | None, o.Opt("Generator: as for synthesize.", "none")] = None
    sampling: GeneratorSampling
    purifier: Annotated[str | None, o.Opt("Judge the classifier behind this.", "none")] = None
    purifier_draws: Annotated[
        int | None, o.Opt("Purified images per prediction.", "1", o.at_least(1))
    ] = None
    aggregate: Annotated[str | None, o.Opt("Over these: mean or majority.", "mean")] = None
    max_memory: o.MaxMemory = None


@dataclass(frozen=True, kw_only=True)
class CertifyOptions:
    model: o.ModelName
    classifier: o.ClassifierName
    generative: Annotated[bool, o.switch("Bound how often generated images fool.")] = False
    alpha: Annotated[float, o.Opt("Probability that a certificate is wrong.")] = 0.001
    smoothing: SmoothingOptions
    generator: GeneratorOptions
    seed: o.Seed = 0
    out: o.Out
    overwrite: o.Overwrite = False
    batch_size: Annotated[int | None, o.Opt(_BATCH_HELP, _BATCH_DEFAULT, o.at_least(1))] = None
    output: o.OutputOptions
    compute: o.DeviceOptions


def certify(options: CertifyOptions) -> None:
    r"""Certify: L2 radii by smoothing, or with --generative, how often generated images fool.

    scoreag certify --model cifar10 --classifier cifar10-resnet20 \
        --data cifar10:test[0:100] --out runs/certify
    """
    other: SmoothingOptions | GeneratorOptions
    other = options.smoothing if options.generative else options.generator
    for name, value in o.flatten(other).items():
        if value is not None and value is not False:  # 0 was given, too
            flag = "--" + name.strip("_").replace("_", "-")
            has = "with --generative there is" if options.generative else "without --generative is"
            raise UsageError(f"{has} no {flag}; leave it out")
    (_certify_generator if options.generative else _certify_images)(options)


def _certify_images(options: CertifyOptions) -> None:
    from scoreag.certify.run import SMOOTHING_TASK, run_certification
    from scoreag.certify.smoothing import SmoothingConfig, certify_image, summarize
    from scoreag.io.images import to_float
    from scoreag.report.certification import render_smoothing_page

    chosen, output = options.smoothing, options.output
    if chosen.data is None:
        raise UsageError("--data is missing; name images, e.g. cifar10:test[0:100]")
    source = o.ImageOptions(
        data=chosen.data, data_dir=chosen.data_dir, class_=chosen.class_, size=chosen.size
    )
    given = {n: v for n in ("sigma", "n0", "n", "dtype") if (v := getattr(chosen, n)) is not None}
    config = SmoothingConfig(alpha=options.alpha, seed=options.seed, **given)
    config = replace(
        config, batch_size=options.batch_size or config.batch_size, compiled=chosen.compile
    )
    prior = options.compute.load_prior(options.model)
    classifier = options.compute.load_classifier(options.classifier)
    data = load_images(source, prior, options.classifier, options.out, output.progress)
    check_labeled(data)
    assert data.labels is not None
    smoothed = _smooth(output, prior, classifier, config)
    images, labels, ids = to_float(data.images), data.labels.tolist(), data.image_ids

    def compute_rows(number: int, on_progress: Any) -> list[dict[str, Any]]:
        image = images[number].to(prior.sigmas.device)
        return [certify_image(smoothed, image, ids[number], labels[number], config, on_progress)]

    summary = run_certification(
        Path(options.out),
        _build_manifest(
            options, SMOOTHING_TASK, {n: v for n, v in asdict(config).items() if n != "seed"},
            prior, classifier, _identify_rows(data),
        ),
        [[i] for i in ids],
        compute_rows,
        lambda rows: summarize(rows, config),
        render_smoothing_page,
        unit="copy",
        units_per_image=config.n0 + config.n,
        progress=output.progress,
        overwrite=options.overwrite,
        on_start=lambda: output.say(f"read {data.summary}"),
    )  # fmt: skip
    lines = [(name, format_rate(entry)) for name, entry in summary["rates"].items()]
    for radius, entry in summary["certified"].items():
        lines.append((f"certified at {radius}", format_rate(entry) if entry else "beyond N"))
    lines.append(("largest radius", f"{summary['largest_radius']:g}"))
    output.show(summary, format_table(lines))
    say_where(output, options.out)


def _smooth(output: o.OutputOptions, prior: Any, classifier: Any, config: "SmoothingConfig") -> Any:
    """What is smoothed; one image before the work begins: is it logits that come out?"""
    import torch

    from scoreag.certify.smoothing import compile_classifier, denoised_smoothing
    from scoreag.classifiers.checks import check_classifier

    base = denoised_smoothing(prior, classifier, config.sigma, config.dtype)
    blank = torch.full((1, *prior.image_shape), 0.5, dtype=prior.dtype).to(prior.sigmas.device)
    check_classifier(base, blank, require_grad=False)
    if not config.compiled:
        return base
    output.say("torch.compile makes a program of the networks, which takes a minute or more")
    return compile_classifier(base, blank.repeat(config.batch_size, 1, 1, 1))


def _identify_rows(data: "Dataset") -> dict[str, Any]:
    """Whose bytes they are: the data set's, and the rows that were asked for."""
    import torch

    from scoreag.models.identity import tensors_sha256

    rows = {"ids": torch.tensor(data.image_ids), "images": data.images, "labels": data.labels}
    return {"data": {**describe_data(data)["data"], "rows_sha256": tensors_sha256(rows)}}


def _certify_generator(options: CertifyOptions) -> None:
    from scoreag.certify.generator_risk import classify_draws, summarize
    from scoreag.certify.run import GENERATOR_TASK, run_certification
    from scoreag.core.batching import batch_ranges
    from scoreag.report.certification import render_generator_page

    spec, batch_size, output = _build_spec(options), options.batch_size or 50, options.output
    job = spec.job
    batches = list(batch_ranges(len(job), batch_size))

    def compute_rows(number: int, on_progress: Any) -> list[dict[str, Any]]:
        rows = classify_draws(spec, batches[number], batch_size)
        on_progress(len(rows))
        return rows

    summary = run_certification(
        Path(options.out),
        _generator_manifest(options, spec, GENERATOR_TASK, batch_size),
        [[job.image_ids[i] for i in batch] for batch in batches],
        compute_rows,
        lambda rows: summarize(rows, spec.alpha),
        render_generator_page,
        unit="image",
        progress=output.progress,
        overwrite=options.overwrite,
    )
    lines = [
        (job.prior.classes[int(label)], f"at most {100 * e['upper']:.2f} %; {format_rate(e)}")
        for label, e in summary["classes"].items()
    ]
    lines.append(("mean of classes", f"at most {100 * summary['upper_mean']:.2f} %"))
    output.show(summary, format_table(lines))
    say_where(output, options.out)


def _build_spec(options: CertifyOptions) -> "GeneratorSpec":
    """The generator and the classifier; by default, unguided images of all classes."""
    from scoreag.certify.generator_risk import GeneratorSpec
    from scoreag.defenses.defend import defend
    from scoreag.methods.synthesis import build_synthesis

    chosen = options.generator
    prior = options.compute.load_prior(options.model)
    classifier = options.compute.load_classifier(options.classifier)
    labels = parse_labels(chosen.classes or "all", prior.classes, chosen.per_class or 1000)
    target = parse_target(chosen.target or "none", prior.classes)
    sampling = {"attack_scale": 0.0, **o.sampling_kwargs(chosen.sampling), "max_restarts": 0}
    job = build_synthesis(prior, classifier, labels, target, options.seed, **sampling)
    given = {
        "draws": chosen.purifier_draws,
        "aggregate": chosen.aggregate,
        "max_memory": chosen.max_memory,
    }
    given = {name: value for name, value in given.items() if value is not None}
    defended = None
    if chosen.purifier:
        defended = defend(classifier, prior, chosen.purifier, seed=options.seed, **given)  # type: ignore[arg-type]
    elif given:
        raise UsageError(
            "--purifier-draws, --aggregate and --max-memory are of a purifier; name --purifier"
        )
    return GeneratorSpec(job, defended, options.alpha)


def _generator_manifest(
    options: CertifyOptions, spec: "GeneratorSpec", task: str, batch_size: int
) -> dict[str, Any]:
    from scoreag.methods.run_task import rows_sha256, target_word
    from scoreag.registry import load_component

    job, defended = spec.job, spec.evaluated_classifier
    config: dict[str, Any] = {
        **job.config.to_dict("synthesize"), "alpha": spec.alpha, "batch_size": batch_size
    }  # fmt: skip
    if defended is not None:
        purifier = str(options.generator.purifier)
        config["purifier"] = {
            "name": purifier,
            "draws": defended.config.draws,
            "aggregate": defended.config.aggregate,
            "max_memory": defended.config.max_memory,
            **defended.config.sampling.subset(load_component("purifiers", purifier).CONFIG_FIELDS),
        }
    data = {"target": target_word(job.target), "data": {"rows_sha256": rows_sha256(job)}}
    return _build_manifest(options, task, config, job.prior, job.classifier, data)


def _build_manifest(
    options: CertifyOptions,
    task: str,
    config: Mapping[str, Any],
    prior: Any,
    classifier: Any,
    data: Mapping[str, Any],
) -> dict[str, Any]:
    from scoreag.io.manifest import to_jsonable
    from scoreag.models.identity import describe_models

    return {
        "command": command_line(),
        "task": task,
        "config": to_jsonable(config),
        "seed": options.seed,
        **to_jsonable(data),
        **describe_models(prior, classifier),
    }
