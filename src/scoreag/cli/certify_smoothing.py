"""The two randomized smoothings of certify: of the pixels, and over a transform's parameters."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scoreag.cli import options as o
from scoreag.cli.certify_options import CertifyOptions
from scoreag.cli.options import UsageError
from scoreag.cli.runs import (
    check_labeled,
    command_line,
    format_rate,
    format_table,
    load_classifier_images,
    load_images,
    show_certificate,
    show_seconds,
)

if TYPE_CHECKING:
    from scoreag.certify.smoothing import SmoothingConfig
    from scoreag.certify.transform_smoothing import TransformConfig
    from scoreag.data.loading import Dataset


def certify_l2(options: CertifyOptions) -> None:
    """Randomized smoothing by noise of the pixels, behind one-shot denoising."""
    from scoreag.certify.run import describe_smoothing
    from scoreag.certify.smoothing import SmoothingConfig, certify_image, summarize

    source, output, chosen = _read_source(options), options.output, options.smoothing
    changes = {n: v for n in ("sigma", "dtype") if (v := getattr(chosen, n)) is not None}
    config = SmoothingConfig(**_vote_options(options), **changes, compiled=chosen.compile)
    prior = options.compute.load_prior(str(options.model))
    classifier = options.compute.load_classifier(options.classifier)
    data = load_images(source, prior, classifier, options.out, output.progress)
    check_labeled(data)
    smoothed = _build_base_classifier(output, prior, classifier, config)
    summary = _run_smoothing(
        options,
        describe_smoothing(config, prior, classifier, data),
        data,
        config,
        lambda image, i, label, on_progress: certify_image(
            smoothed, image.to(prior.sigmas.device), i, label, config, on_progress
        ),
        lambda rows: summarize(rows, config),
    )
    if summary is None:
        return
    lines = _certified_lines("certified at", summary["certified"])
    _show_summary(options, summary, [*lines, ("largest radius", f"{summary['largest_radius']:g}")])


def certify_transform(options: CertifyOptions) -> None:
    """Randomized smoothing of the bare classifier over the parameters of a transform."""
    from scoreag.certify.run import describe_transform
    from scoreag.certify.transform_smoothing import TransformConfig, certify_image, summarize

    source, sigma = _read_source(options), _parse_deviations(options.smoothing.transform_sigma)
    classifier = options.compute.load_classifier(options.classifier)
    data = load_classifier_images(source, classifier, options.out, options.output.progress)
    height, width = data.images.shape[2:]
    name = str(options.smoothing.transform)
    config = TransformConfig(name, (height, width), sigma, **_vote_options(options))
    device = options.compute.resolve()
    _check_outputs(classifier, data, device)
    summary = _run_smoothing(
        options,
        describe_transform(config, classifier, data, device),
        data,
        config,
        lambda image, i, label, on_progress: certify_image(
            classifier, image.to(device), i, label, config, on_progress
        ),
        lambda rows: summarize(rows, config),
    )
    if summary is None:
        return
    lines = []
    for quantity, largest in summary["largest"].items():
        lines += _certified_lines(f"certified {quantity}", summary["certified"][quantity])
        lines.append((f"largest {quantity}", f"{largest:g}"))
    _show_summary(options, summary, lines)


def _read_source(options: CertifyOptions) -> o.ImageOptions:
    chosen = options.smoothing
    if chosen.data is None:
        raise UsageError("--data is missing; name images, e.g. cifar10:test[0:100]")
    return o.ImageOptions(data=chosen.data, class_=chosen.class_, reading=chosen.reading)


def _vote_options(options: CertifyOptions) -> dict[str, Any]:
    """The options that every smoothing has, under the names of its config."""
    chosen, size = options.smoothing, options.batch_size
    given = {"n0": chosen.n0, "n": chosen.n, "batch_size": size}
    votes = {name: value for name, value in given.items() if value is not None}
    return {"alpha": options.alpha, "seed": options.seed, **votes}


def _parse_deviations(text: str | None) -> tuple[float, ...]:
    """The numbers of --transform-sigma; none: those of the transform."""
    try:
        return tuple(map(float, o.split_words(text))) if text is not None else ()
    except ValueError as error:
        raise UsageError(
            f"--transform-sigma {text!r}: write a number, or two with a comma, e.g. 0.2,0.2"
        ) from error


def _check_outputs(classifier: Any, data: "Dataset", device: Any) -> None:
    """Refuse a classifier without logits, or with fewer classes than the labels."""
    from scoreag.classifiers.checks import check_classifier
    from scoreag.io.images import to_float

    assert data.labels is not None
    images = to_float(data.images[:1]).to(device)
    count = check_classifier(classifier, images, require_grad=False)
    if (largest := int(data.labels.max())) >= count:
        raise ValueError(
            f"{data.name} has a label {largest}, and the classifier tells {count} classes apart; "
            "give data with the same classes, or another classifier"
        )


def _run_smoothing(
    options: CertifyOptions,
    manifest: Mapping[str, Any],
    data: "Dataset",
    config: "SmoothingConfig | TransformConfig",
    certify_image: Callable[..., Any],
    summarize: Callable[..., Any],
) -> dict[str, Any] | None:
    """The summary of the run in --out, which has a row for each image; None: a dry run."""
    from scoreag.certify.run import run_certification, seconds_per_unit
    from scoreag.io.images import to_float

    assert data.labels is not None
    images, labels, ids = to_float(data.images), data.labels.tolist(), data.image_ids

    def compute_rows(number: int, on_progress: Any) -> list[dict[str, Any]]:
        return [certify_image(images[number], ids[number], labels[number], on_progress)]

    copies = config.n0 + config.n
    if options.dry_run:
        seconds = seconds_per_unit(compute_rows, 0) * copies * len(ids)
        show_seconds(
            options.output,
            len(ids),
            seconds,
            options.compute.resolve(),
            ("copies of an image", copies),
        )
        return None
    return run_certification(
        Path(options.out),
        {"command": command_line(), **manifest},
        [[i] for i in ids],
        compute_rows,
        summarize,
        unit="copy",
        units_per_image=copies,
        progress=options.output.progress,
        overwrite=options.overwrite,
        on_start=lambda: options.output.say(f"read {data.summary}"),
        ray=options.cluster.connect(options.compute.resolve()),
    )


def _certified_lines(text: str, certified: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (f"{text} {threshold}", format_rate(entry) if entry else "beyond N")
        for threshold, entry in certified.items()
    ]


def _show_summary(
    options: CertifyOptions, summary: Mapping[str, Any], lines: list[tuple[str, str]]
) -> None:
    rates = [(name, format_rate(entry)) for name, entry in summary["rates"].items()]
    show_certificate(options.output, Path(options.out), summary, format_table([*rates, *lines]))


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
