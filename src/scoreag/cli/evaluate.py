"""evaluate: recompute a card's metrics, and measure how good its model is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from scoreag.cli import options as o
from scoreag.cli.options import UsageError
from scoreag.cli.runs import (
    check_classes,
    check_not_overwritten,
    command_line,
    find_judge,
    say_where,
    show_seconds,
)

if TYPE_CHECKING:
    from scoreag.classifiers.normalized import NormalizedClassifier
    from scoreag.data.loading import Dataset
    from scoreag.evaluation.score_model import EvalContext, Model
    from scoreag.evaluation.storage import MetricComparison
    from scoreag.models.model_cards import Card

    Page: TypeAlias = Callable[[dict[str, Any]], str]
    Computed: TypeAlias = tuple[dict[str, Any], list[MetricComparison], Page]

DEFAULT_OUT = "runs/evaluation-NAME"
SECTION = "evaluation"  # of a score model's metrics, in its card
N_IMAGES, MIN_IMAGES = 10_000, 4  # fewer than four have no standard error
BATCH_SIZES = {"score-model": 16, "classifier": 250}
UNSPLIT = ("image-folder", "npz", "run-dir", "single-image")  # kinds of data without a test split
_IMAGES = "10000; a classifier's all"
_REFERENCE_HELP = "Classifier that checks which class an image shows."
_EXTRACTOR_HELP = "judge, efficientnet, inception:FILE, or package.module:factory; repeatable."
_COMPARE_HELP = "Another card, or the same after a fraction of its training, e.g. 0.5; repeatable."
_ATTACK_HELP = "Classifier: also accuracy under this attack: pgd."
_GUIDANCE_HELP = "Score model: w of its own guidance; a call takes two evaluations, of a head one."
_FEATURE_BATCH_HELP = "The same for the reference classifier and feature extractors."


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    card: Annotated[str, o.Opt("A card's name or folder.", positional=True)]
    data: Annotated[str, o.Opt("Test images.", "the test split of the card's data")] = ""
    train_data: Annotated[str, o.Opt("Training images of the card's model.", o.CARD)] = ""
    reading: o.ReadOptions = field(default_factory=o.ReadOptions)
    images: Annotated[
        int | None,
        o.Opt("Images to generate and to use of a data set.", _IMAGES, o.at_least(MIN_IMAGES)),
    ] = None
    sampler: Annotated[str, o.Opt("Sampler; see: scoreag list samplers.")] = "ancestral"
    nfe: Annotated[int, o.Opt("Denoiser calls per image; heun, edm_stochastic: odd.")] = 35
    guidance_scale: Annotated[float | None, o.Opt(_GUIDANCE_HELP, "1")] = None
    guide: Annotated[str | None, o.Opt("null (no label), head, or weaker:MODEL.", "null")] = None
    guidance_interval: Annotated[
        str | None, o.Opt("Noise levels of this guidance.", "all", metavar="LOW,HIGH")
    ] = None
    reference_classifier: Annotated[str | None, o.Opt(_REFERENCE_HELP, "the bundled one")] = None
    feature_extractor: Annotated[list[str] | None, o.Opt(_EXTRACTOR_HELP, "judge")] = None
    compare_with: Annotated[list[str] | None, o.Opt(_COMPARE_HELP)] = None
    attack: Annotated[str | None, o.Opt(_ATTACK_HELP, "none", o.one_of("pgd"))] = None
    attack_steps: Annotated[int | None, o.Opt("Steps of --attack.", "40", o.at_least(1))] = None
    eps: Annotated[list[str] | None, o.Opt("Linf radius of --attack; repeatable.", "8/255")] = None
    update_card: Annotated[bool, o.switch("Write the metrics to the card.")] = False
    seed: o.Seed = 0
    out: Annotated[str, o.Opt("Folder of the results.", check=o.not_empty)] = DEFAULT_OUT
    overwrite: o.Overwrite = False
    dry_run: o.DryRun = False
    output: o.TableOutputOptions
    compute: o.DeviceOptions
    batch_size: Annotated[
        int | None, o.Opt("Images per forward pass.", "16; a classifier's 250", o.at_least(1))
    ] = None
    feature_batch_size: Annotated[int, o.Opt(_FEATURE_BATCH_HELP, check=o.at_least(1))] = 250


def evaluate(options: EvaluateOptions) -> None:
    """Recompute a card's metrics; measure how good its model is.

    scoreag evaluate cifar10 --images 100
    """
    card = options.compute.load_card(options.card)
    options = complete(options, card)
    specs = attack_specs(options)
    if card.kind == "score-model" and specs:
        raise UsageError("--attack is for classifiers; leave it out for a score model")
    if card.kind == "classifier" and (guided := guidance_kwargs(options)):
        raise UsageError(f"--{next(iter(guided)).replace('_', '-')} is for score models")
    if card.kind == "classifier" and options.compare_with:
        raise UsageError("--compare-with is for score models; evaluate one classifier at a time")
    check_not_overwritten(options.data, options.out)
    if card.kind == "score-model":
        _evaluate_score_model(options, card)
    else:
        _evaluate_classifier(options, card, specs)


def complete(options: EvaluateOptions, card: "Card") -> EvaluateOptions:
    """The options with the card's defaults: data, folder and batch size."""
    from scoreag.models import trust

    spec = str(card.training_config.get("data") or "")
    location = f"the card of {card.name}, training_config.data"
    trust.check_trusted(
        trust.is_custom_data(f"{spec}:"), spec, location, options.compute.trust_code
    )
    if card.kind == "score-model" and not options.train_data:
        _check_own_data(spec, card)
    train_data = options.train_data or spec
    kind, colon, _ = train_data.partition(":")
    data = options.data or (f"{kind}:test" if colon and kind not in UNSPLIT else "")
    required = {"data": data, **({"train-data": train_data} if card.kind == "score-model" else {})}
    for flag in (flag for flag, value in required.items() if not value):
        raise UsageError(
            f"{card.name} does not say what it was trained on; "
            f"write --{flag}, e.g. --{flag} image-folder:PATH"
        )
    default_out = options.out == DEFAULT_OUT
    return replace(
        options,
        data=data,
        train_data=train_data,
        out=f"runs/evaluation-{card.name}" if default_out else options.out,
        batch_size=options.batch_size or BATCH_SIZES[card.kind],
    )


def _check_own_data(spec: str, card: "Card") -> None:
    """Ask for the user's own training images, of which a card has the name, but not the path."""
    from scoreag.data.loading import USER_KINDS, source_path

    if spec.startswith(USER_KINDS) and source_path(spec) is None:
        kind = spec.partition(":")[0]
        raise UsageError(
            f"{card.name} was trained on {spec}, which is not here; write --train-data {kind}:PATH"
        )


def attack_specs(options: EvaluateOptions) -> list[str]:
    """The names of the attack metrics of --attack: pgd40_8 is PGD with 40 steps, 8/255."""
    if options.attack is None:
        if options.attack_steps is not None or options.eps:
            raise UsageError("--attack-steps and --eps need an attack; add --attack pgd")
        return []
    steps = options.attack_steps or 40
    radii = [parse_radius(text) for text in options.eps or ["8/255"]]
    return sorted({f"{options.attack}{steps}_{float(255 * radius):g}" for radius in radii})


def _evaluate_score_model(options: EvaluateOptions, card: "Card") -> None:
    from scoreag.evaluation import score_model
    from scoreag.evaluation.context import describe_context, probe_context
    from scoreag.evaluation.cost import estimate_score_model
    from scoreag.evaluation.storage import compare_with_card
    from scoreag.models.identity import classifier_identity
    from scoreag.report.model_evaluation import render_score_page

    model, context, others = build_context(options, card)
    if options.dry_run:
        images, seconds, calls = estimate_score_model(model, context, others)
        show_seconds(options.output, images, seconds, context.device, ("denoiser calls", calls))
        return
    config = describe_context(context)

    def compute() -> "Computed":
        for data in (context.test, context.train):
            options.output.say(f"read {data.summary}")
        found, pixels, pairs = score_model.evaluate(model, context, others)
        known = dict(card.metrics.get(SECTION, {}))
        if context.guidance_record != dict(known.get("config", {})).get("guidance", {}):
            known = {}  # of samples by other guidance
        compared = compare_with_card(known, found["metrics"], SECTION)
        score_model.write_sample_grids(Path(options.out), pixels, card.classes, pairs)
        return found, compared, lambda page: render_score_page(page, pixels, pairs, compared)

    models = {"judge": classifier_identity(context.judge)}
    known = {"models": models, "probe": probe_context(context)}
    found, compared = _run(options, card, config, known, compute)
    metrics = {SECTION: {**found["metrics"], "config": config}}
    _finish(options, card, found, found["metrics"], compared, metrics)


def _evaluate_classifier(options: EvaluateOptions, card: "Card", specs: list[str]) -> None:
    from scoreag.core import ALGORITHM
    from scoreag.evaluation.classifier import evaluate, plan_evaluation
    from scoreag.evaluation.cost import estimate_classifier
    from scoreag.evaluation.score_model import subsample
    from scoreag.evaluation.storage import compare_with_card
    from scoreag.report.model_evaluation import render_classifier_page

    def load(spec: str) -> "Dataset":
        data = load_labeled(options, spec, card)
        return subsample(data, options.images) if options.images else data

    test = load(options.data)
    parts, skipped = plan_evaluation(card, test, f"images of {test.name}", load, specs)
    if options.dry_run:
        size = options.batch_size or 1
        images, seconds = estimate_classifier(_load_on_device(options), parts, size)
        show_seconds(options.output, images, seconds, options.compute.resolve())
        return
    config = {
        "images": {name: len(part.data) for name, part in parts.items()},
        "data": {name: part.data.sha256 for name, part in parts.items()},
        **({"attacks": specs} if specs else {}),
        "algorithm": ALGORITHM,
    }

    def compute() -> "Computed":
        options.output.say(f"read {test.summary}")
        metrics = evaluate(_load_on_device(options), parts, options.batch_size or 1)
        compared = [
            one
            for name, entries in metrics.items()
            for one in compare_with_card(card.metrics.get(name, {}), entries, name)
        ]
        found = {"metrics": metrics, "skipped": skipped}
        return found, compared, lambda page: render_classifier_page(page, compared)

    found, compared = _run(options, card, config, {}, compute)
    flat = {f"{part}.{n}": e for part, one in found["metrics"].items() for n, e in one.items()}
    known = card.metrics  # of which some may be what is not computed here
    metrics = {part: {**known.get(part, {}), **one} for part, one in found["metrics"].items()}
    _finish(options, card, found, flat, compared, metrics)


def _run(
    options: EvaluateOptions,
    card: "Card",
    config: Mapping[str, Any],
    known: Mapping[str, Any],
    compute: "Callable[[], Computed]",
) -> "tuple[dict[str, Any], list[MetricComparison]]":
    """Compute in --out and write the page; the results, and the comparison with the card.

    Args:
        known: ``models`` and ``probe`` of the manifest: of networks other than the evaluated one.
    """
    from scoreag.evaluation.storage import run_in_folder
    from scoreag.io.filesystem import write_text
    from scoreag.io.manifest import describe_environment, flatten, to_jsonable
    from scoreag.report.figure_export import write_figures
    from scoreag.report.model_evaluation import plot_evaluation
    from scoreag.report.run_tables import evaluation_tables
    from scoreag.report.table_export import write_tables

    comparisons: list[MetricComparison] = []
    folder = Path(options.out)

    def compute_and_write() -> dict[str, Any]:
        metrics, compared, render = compute()
        comparisons.extend(compared)
        model = {"model": card.identity, "kind": card.kind, "classes": list(card.classes)}
        found = {**model, "config": dict(config), **metrics}
        found["compared"] = [one.to_dict() for one in compared]
        names = ("versions.scoreag", "versions.torch", "machine.processor", "machine.cores")
        environment = describe_environment()
        known = dict(flatten(environment))
        machine = ", ".join(f"{name.split('.')[-1]} {known[name]}" for name in names)
        shown = {"environment": {"command": command_line(), **environment}, "footer": [machine]}
        write_text(folder / "report.html", render({**found, **shown}))
        write_tables(folder, evaluation_tables(found))
        write_figures(folder, plot_evaluation(found))
        return found

    fixed = {name: value for name, value in config.items() if name != "feature_extractors"}
    manifest = {
        "command": command_line(),
        "config": to_jsonable(fixed),
        "models": to_jsonable({"evaluated": card.identity, **known.get("models", {})}),
        "probe": dict(known.get("probe", {})),
    }
    return run_in_folder(folder, manifest, options.overwrite, compute_and_write), comparisons


def _finish(
    options: EvaluateOptions,
    card: "Card",
    found: Mapping[str, Any],
    flat: Mapping[str, Any],
    compared: "list[MetricComparison]",
    metrics: Mapping[str, Mapping[str, Any]],
) -> None:
    """Print the result; write it to the card, or refuse what the card does not reproduce."""
    from scoreag.evaluation.storage import require_reproduced
    from scoreag.models.model_cards import update_card
    from scoreag.report.model_evaluation import format_text
    from scoreag.report.run_tables import evaluation_tables

    main, *_ = evaluation_tables(found)
    options.output.show(found, format_text(flat, compared), main)
    say_where(options.output, options.out)
    if options.update_card:
        update_card(card, metrics={**card.metrics, **metrics})
        options.output.say(f"the metrics are in the card of {card.name}")
    else:
        require_reproduced(compared, card.name)


def parse_radius(text: str) -> Fraction:
    """``8/255`` or ``0.03``: above 0 and at most 1."""
    try:
        numerator, slash, denominator = text.partition("/")
        value = Fraction(numerator) / (Fraction(denominator) if slash else 1)
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(f"--eps {text!r}: write a radius in [0, 1], e.g. 8/255") from error
    if not 0 < value <= 1:
        raise UsageError(f"--eps is {text}; expected a radius in (0, 1], e.g. 8/255")
    return value


def _load_on_device(options: EvaluateOptions) -> Any:
    """The classifier of a card on --device, for images on another device."""
    device, module = options.compute.resolve(), options.compute.load_classifier(options.card)
    return lambda images: module(images.to(device)).to(images.device)


def load_judge(options: EvaluateOptions, card: "Card", test: "Dataset") -> "NormalizedClassifier":
    """The reference classifier, among the classes of the card if it knows more."""
    from scoreag.classifiers.class_groups import known_names, select_classes
    from scoreag.data.source import selects_classes
    from scoreag.evaluation.context import check_reference

    name = options.reference_classifier or default_judge(card)
    reference = options.compute.load_classifier(name)
    classes = known_names(reference) or card.classes
    if selects_classes(classes, card.classes):
        reference, classes = select_classes(reference, card.classes), card.classes
    check_reference(name, reference, classes, card, test, options.compute.resolve())
    return reference


def build_context(
    options: EvaluateOptions, card: "Card"
) -> "tuple[Model, EvalContext, list[Model]]":
    """All inputs of a score model's evaluation: the model, the context, the compared models."""
    from scoreag.evaluation.context import check_comparable, load_compared_model
    from scoreag.evaluation.sampling import steps_for_nfe
    from scoreag.evaluation.score_model import EvalContext, Model
    from scoreag.methods.config import GUIDANCE_FIELDS
    from scoreag.metrics.feature_extractors import load_extractor

    try:
        steps_for_nfe(options.sampler, options.nfe)
    except ValueError as error:
        raise UsageError(f"--sampler {options.sampler} --nfe {options.nfe}: {error}") from error
    compute, device = options.compute, options.compute.resolve()
    model = Model(card, compute.load_prior(options.card))
    others = [
        load_compared_model(word, card, compute.load_card, compute.load_prior)
        for word in options.compare_with or ()
    ]
    check_comparable(card, [one.card for one in others])
    train, test = (load_labeled(options, s, card) for s in (options.train_data, options.data))
    reference = load_judge(options, card, test)
    words = list(dict.fromkeys(options.feature_extractor or ["judge"]))
    extractors = tuple(load_extractor(word, reference, card.image_shape, device) for word in words)
    names = [one.name for one in extractors]
    for repeated in (name for name in names if names.count(name) > 1):
        raise UsageError(
            f"--feature-extractor has two networks called {repeated}; rename one factory"
        )
    context = EvalContext(
        test, train, reference, extractors, Path(options.out), options.images or N_IMAGES,
        options.sampler, options.nfe, options.seed, options.batch_size or 1,
        options.feature_batch_size, device, options.output.progress, guidance_kwargs(options),
    )  # fmt: skip
    if context.guidance:  # what cannot be guided is refused now
        guided = [context.guided(one.prior) for one in (model, *others)]
        known = context.guidance_config(model.prior)
        resolved = {**known.subset(GUIDANCE_FIELDS), **guided[0].metadata.get("guide", {})}
        context = replace(context, guidance_record=resolved)
    return model, context, others


def guidance_kwargs(options: EvaluateOptions) -> dict[str, Any]:
    """The options of guidance that were given; none are for a classifier."""
    names = ("guidance_scale", "guide", "guidance_interval")
    given = {n: value for n in names if (value := getattr(options, n)) is not None}
    if interval := given.get("guidance_interval"):
        given["guidance_interval"] = o.parse_interval("guidance_interval", interval)
    return given


def default_judge(card: "Card") -> str:
    """The bundled reference classifier for the images and classes of a card."""
    if name := find_judge(card.image_shape, card.classes, any_classes=not card.classes):
        return name
    raise UsageError(
        f"no bundled reference classifier has the images and classes of {card.name}; "
        "give a classifier that does: --reference-classifier CARD, or efficientnet-lite0 for "
        "classes of ImageNet"
    )


def load_labeled(options: EvaluateOptions, spec: str, card: "Card") -> "Dataset":
    """Labeled images with the shape and the classes of a card."""
    data = options.reading.load(spec, options.output.progress, card.classes)
    shape = tuple(data.images.shape[1:])
    if shape != card.image_shape:
        has, takes = (" x ".join(map(str, sizes)) for sizes in (shape, card.image_shape))
        height, width = card.image_shape[1:]
        fix = f"write --size {height}x{width}, or give other data"
        raise ValueError(f"{data.name} has images of {has}, {card.name} is for {takes}; {fix}")
    if card.classes:
        check_classes(data, card.classes)
        if data.labels is None:
            raise ValueError(f"{data.name} has no labels, which the metrics of {card.name} need")
    if len(data) < MIN_IMAGES:
        raise ValueError(f"{data.name} has {len(data)} images; give at least {MIN_IMAGES}")
    return data
