"""certify: randomised smoothing of given images, or the bound on a generator."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scoreag.cli import parsing
from scoreag.cli.options import Given, loud, say
from scoreag.cli.parsing import UsageError
from scoreag.cli.tasks import about, check_labelled, command, images, settings

if TYPE_CHECKING:
    from scoreag.certify.generator_risk import GeneratorSpec
    from scoreag.certify.smoothing import SmoothingConfig
    from scoreag.data.loading import Dataset

OF_SMOOTHING = (
    "data", "data_dir", "class_", "size", "sigma", "n0", "n", "dtype", "compile",
)  # fmt: skip
OF_GENERATOR = (
    "classes", "per_class", "target", "purifier", "purifier_draws", "aggregate", "max_memory", "attack_scale",
    "steps", "sampler", "sampler_option",
)  # fmt: skip


def certify(given: Given) -> None:
    """Certify: L2 radii of images by smoothing, or --generative, how often draws fool at most."""
    for name in OF_SMOOTHING if given.generative else OF_GENERATOR:
        value = getattr(given, name)
        if value is not None and value is not False:  # 0 was given, too
            flag = "--" + name.strip("_").replace("_", "-")
            has = "with --generative there is" if given.generative else "without --generative is"
            raise UsageError(f"{has} no {flag}; leave it out")
    for name in ("batch_size", "per_class", "purifier_draws"):
        if (count := getattr(given, name)) is not None and count < 1:
            raise UsageError(f"--{name.replace('_', '-')} is {count}; expected at least 1")
    (_generator if given.generative else _smoothing)(given)


def _smoothing(given: Given) -> None:
    from scoreag.certify.run import SMOOTHING_TASK, run_certification
    from scoreag.certify.smoothing import SmoothingConfig, certify_image, summarize
    from scoreag.classifiers.loading import load_classifier, load_prior
    from scoreag.classifiers.normalized import NormalizedClassifier
    from scoreag.io.images import to_float
    from scoreag.report.certification import render_smoothing_page

    if given.data is None:
        raise UsageError("--data is missing; name images, e.g. cifar10:test[0:100]")
    names = ("sigma", "n0", "n", "alpha", "seed", "dtype")
    chosen = {n: getattr(given, n) for n in names}
    batch = given.batch_size or SmoothingConfig.batch_size
    known = {n: v for n, v in chosen.items() if v is not None}
    plan = SmoothingConfig(batch_size=batch, compiled=given.compile, **known)
    prior = load_prior(given.model, given.device, given.trust_code)
    victim: NormalizedClassifier = load_classifier(
        given.classifier, given.device, trust_code=given.trust_code
    )
    data = images(given, prior)
    check_labelled(data)
    assert data.labels is not None
    base = _base(given, prior, victim, plan)
    pixels, labels, ids = to_float(data.images), data.labels.tolist(), data.image_ids

    def work(number: int, tick: Any) -> list[dict[str, Any]]:
        image = pixels[number].to(prior.sigmas.device)
        return [certify_image(base, image, ids[number], labels[number], plan, tick)]

    figures = run_certification(
        Path(given.out),
        _manifest(given, SMOOTHING_TASK, _plain(plan), prior, victim, _images(data)),
        [[i] for i in ids],
        work,
        lambda rows: summarize(rows, plan),
        render_smoothing_page,
        unit="copy",
        units_per_image=plan.n0 + plan.n,
        progress=loud(given),
        overwrite=given.overwrite,
        on_start=lambda: say(given, f"read {data.summary}"),
    )
    _tell(given, figures, _smoothing_table(figures))


def _generator(given: Given) -> None:
    from scoreag.certify.generator_risk import classify_draws, summarize
    from scoreag.certify.run import GENERATOR_TASK, run_certification
    from scoreag.methods.task import batch_ranges
    from scoreag.report.certification import render_generator_page

    question, batch = _question(given), given.batch_size or 50
    job = question.job
    cut = list(batch_ranges(len(job), batch))

    def work(number: int, tick: Any) -> list[dict[str, Any]]:
        rows = classify_draws(question, cut[number], batch)
        tick(len(rows))
        return rows

    figures = run_certification(
        Path(given.out),
        _generator_manifest(given, question, GENERATOR_TASK, batch),
        [[job.image_ids[i] for i in piece] for piece in cut],
        work,
        lambda rows: summarize(rows, question.alpha),
        render_generator_page,
        unit="draw",
        progress=loud(given),
        overwrite=given.overwrite,
    )
    _tell(given, figures, _generator_table(figures, job.prior.classes))


def _question(given: Given) -> "GeneratorSpec":
    """The generator and the classifier; where nothing is said, unguided draws of all classes."""
    from scoreag.certify.generator_risk import GeneratorSpec
    from scoreag.classifiers.loading import load_classifier, load_prior
    from scoreag.defenses.purified_classifier import defend
    from scoreag.methods.synthesis import build_synthesis

    prior = load_prior(given.model, given.device, given.trust_code)
    victim = load_classifier(given.classifier, given.device, trust_code=given.trust_code)
    labels = parsing.labels(given.classes or "all", prior.classes, given.per_class or 1000)
    aim = parsing.target(given.target or "none", prior.classes)
    told = {"attack_scale": 0.0, **settings(given), "max_restarts": 0}
    job = build_synthesis(prior, victim, labels, aim, given.seed, **told)
    asked = None
    if given.purifier:
        more = {
            "draws": given.purifier_draws,
            "aggregate": given.aggregate,
            "max_memory": given.max_memory,
        }
        known = {n: v for n, v in more.items() if v is not None}
        asked = defend(victim, prior, given.purifier, seed=given.seed, **known)
    elif given.purifier_draws or given.aggregate or given.max_memory:
        raise UsageError(
            "--purifier-draws, --aggregate and --max-memory are of a purifier; name --purifier"
        )
    return GeneratorSpec(job, asked, 0.001 if given.alpha is None else given.alpha)


def _base(given: Given, prior: Any, victim: Any, plan: "SmoothingConfig") -> Any:
    """What is smoothed; one image before the work begins: is it logits that come out?"""
    import torch

    from scoreag.certify.smoothing import compile_classifier, denoised_smoothing
    from scoreag.classifiers.loading import check_classifier

    base = denoised_smoothing(prior, victim, plan.sigma, plan.dtype)
    blank = torch.full((1, *prior.image_shape), 0.5, dtype=prior.dtype).to(prior.sigmas.device)
    check_classifier(base, blank, require_grad=False)
    if not plan.compiled:
        return base
    say(given, "torch.compile makes a program of the networks, which takes a minute or more")
    return compile_classifier(base, blank.repeat(plan.batch_size, 1, 1, 1))


def _plain(plan: "SmoothingConfig") -> dict[str, Any]:
    from dataclasses import asdict

    return {name: value for name, value in asdict(plan).items() if name != "seed"}


def _images(data: "Dataset") -> dict[str, Any]:
    """Whose bytes they are: the data set's, and the rows that were asked for."""
    import torch

    from scoreag.models.identity import tensors_sha256

    rows = {"ids": torch.tensor(data.image_ids), "images": data.images, "labels": data.labels}
    return {"data": {**about(data)["data"], "rows_sha256": tensors_sha256(rows)}}


def _generator_manifest(
    given: Given, question: "GeneratorSpec", task: str, batch: int
) -> dict[str, Any]:
    from scoreag.methods.run_task import rows_sha256, target_word
    from scoreag.registry import load_component

    job, asked = question.job, question.evaluated_classifier
    found: dict[str, Any] = {
        **job.config.to_dict("synthesize"), "alpha": question.alpha, "batch_size": batch
    }  # fmt: skip
    if asked is not None:
        takes = load_component("purifiers", given.purifier).CONFIG_FIELDS
        found["purifier"] = {
            "name": given.purifier,
            "draws": asked.config.draws,
            "aggregate": asked.config.aggregate,
            "max_memory": asked.config.max_memory,
            **asked.config.sampling.subset(takes),
        }
    more = {"target": target_word(job.target), "data": {"rows_sha256": rows_sha256(job)}}
    return _manifest(given, task, found, job.prior, job.classifier, more)


def _manifest(
    given: Given,
    task: str,
    found: Mapping[str, Any],
    prior: Any,
    victim: Any,
    more: Mapping[str, Any],
) -> dict[str, Any]:
    from scoreag.io.manifest import to_jsonable
    from scoreag.models.identity import describe_models

    return {
        "command": command(),
        "task": task,
        "config": to_jsonable(found),
        "seed": given.seed,
        **to_jsonable(more),
        **describe_models(prior, victim),
    }


def _tell(given: Given, figures: Mapping[str, Any], table: str) -> None:
    if given.json:
        print(json.dumps(figures, indent=2, ensure_ascii=False))
    elif not given.quiet:
        print(table)
    say(given, f"everything is in {given.out}; open {Path(given.out) / 'report.html'}")


def _smoothing_table(figures: Mapping[str, Any]) -> str:
    lines = [(name, _share(entry)) for name, entry in figures["rates"].items()]
    for far, entry in figures["certified"].items():
        lines.append((f"certified at {far}", "beyond N" if entry is None else _share(entry)))
    lines.append(("largest radius", f"{figures['largest_radius']:g}"))
    return _columns(lines)


def _generator_table(figures: Mapping[str, Any], classes: tuple[str, ...]) -> str:
    lines = [
        (classes[int(label)], f"at most {100 * entry['upper']:.2f} %; {_share(entry)}")
        for label, entry in figures["classes"].items()
    ]
    lines.append(("mean of classes", f"at most {100 * figures['upper_mean']:.2f} %"))
    return _columns(lines)


def _share(entry: Mapping[str, Any]) -> str:
    from scoreag.stats.proportion import Proportion

    return str(Proportion(entry["count"], entry["total"], entry["of"]))


def _columns(lines: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines)
