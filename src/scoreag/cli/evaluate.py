"""evaluate: a card's metrics, computed again, and how good its model is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from scoreag.cli import options as o
from scoreag.cli.inputs import check_classes, check_not_overwritten, find_judge
from scoreag.cli.outputs import command_line, say_where
from scoreag.cli.parsing import UsageError, parse_radius, parse_size

if TYPE_CHECKING:
    from scoreag.classifiers.normalized import NormalizedClassifier
    from scoreag.data.loading import Dataset
    from scoreag.evaluation.reproducibility import MetricComparison
    from scoreag.evaluation.score_model import EvalContext, Model
    from scoreag.models.model_cards import Card

    Page: TypeAlias = Callable[[dict[str, Any]], str]
    Computed: TypeAlias = tuple[dict[str, Any], list[MetricComparison], Page]

DEFAULT_OUT = "runs/evaluation-NAME"
SECTION = "evaluation"  # of a score model's metrics, in its card
N_IMAGES, MIN_IMAGES = 10_000, 4  # fewer than four have no error
BATCH_SIZES = {"score-model": 16, "classifier": 250}
_IMAGES = "10000; a classifier's all"
_REFERENCE_HELP = "Judges which class an image shows."
_EXTRACTOR_HELP = "judge, efficientnet, inception:FILE, or package.module:factory; repeatable."
_COMPARE_HELP = "Another card, or the same after a share of its training, e.g. 0.5; repeatable."
_ATTACK_HELP = "Classifier: accuracy under this attack, too: pgd."
_FEATURE_BATCH_HELP = "The same of reference classifier and feature extractors."
UNSPLIT = ("image-folder", "npz", "run-dir", "single-image")  # kinds of data without a test split


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    card: Annotated[str, o.Opt("A card's name or folder.", positional=True)]
    data: Annotated[str, o.Opt("Test images.", "the test split of the card's data")] = ""
    train_data: Annotated[str, o.Opt("Images that it was trained on.", o.CARD)] = ""
    data_dir: o.DataDir = None
    size: o.Size = None
    images: Annotated[
        int | None, o.Opt("Images to generate, and of a set.", _IMAGES, o.at_least(MIN_IMAGES))
    ] = None
    sampler: Annotated[str, o.Opt("Sampler; see: scoreag list samplers.")] = "ancestral"
    nfe: Annotated[int, o.Opt("Denoiser calls per image; heun, edm_stochastic: odd.")] = 35
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
    output: o.OutputOptions
    compute: o.DeviceOptions
    batch_size: Annotated[
        int | None, o.Opt("Images per forward pass.", "16; a classifier's 250", o.at_least(1))
    ] = None
    feature_batch_size: Annotated[int, o.Opt(_FEATURE_BATCH_HELP, check=o.at_least(1))] = 250


def evaluate(options: EvaluateOptions) -> None:
    """Compute the metrics of a card again, and measure how good its model is.

    scoreag evaluate cifar10 --images 100
    """
    card = options.compute.load_card(options.card)
    options = complete(options, card)
    specs = attack_specs(options)
    if card.kind == "score-model" and specs:
        raise UsageError("--attack is for classifiers; a score model is not attacked here")
    if card.kind == "classifier" and options.compare_with:
        raise UsageError("--compare-with is for score models; evaluate one classifier at a time")
    check_not_overwritten(options.data, options.out)
    if card.kind == "score-model":
        _evaluate_score_model(options, card)
    else:
        _evaluate_classifier(options, card, specs)


def complete(options: EvaluateOptions, card: "Card") -> EvaluateOptions:
    """The options with what the card decides: its data, the folder, the batch size."""
    from scoreag.models import trust

    spec = str(card.training_config.get("data") or "")
    place = f"the card of {card.name}, training_config.data"
    trust.check_trusted(trust.is_custom_data(f"{spec}:"), spec, place, options.compute.trust_code)
    train_data = options.train_data or spec
    kind, colon, _ = train_data.partition(":")
    data = options.data or (f"{kind}:test" if colon and kind not in UNSPLIT else "")
    needed = {"data": data, **({"train-data": train_data} if card.kind == "score-model" else {})}
    for flag in (flag for flag, value in needed.items() if not value):
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


def attack_specs(options: EvaluateOptions) -> list[str]:
    """The attacks of --attack as the metrics are called: pgd40_8 is 40 steps, 8/255."""
    if options.attack is None:
        if options.attack_steps is not None or options.eps:
            raise UsageError("--attack-steps and --eps are of an attack; write --attack pgd, too")
        return []
    steps = options.attack_steps or 40
    radii = [parse_radius(text) for text in options.eps or ["8/255"]]
    return sorted({f"{options.attack}{steps}_{float(255 * radius):g}" for radius in radii})


def _evaluate_score_model(options: EvaluateOptions, card: "Card") -> None:
    from scoreag.evaluation import sampling, score_model
    from scoreag.evaluation.reproducibility import compare_with_card
    from scoreag.report.model_evaluation import render_score_page

    model, context, others = build_context(options, card)
    config = _score_model_config(context)

    def compute() -> "Computed":
        for data in (context.test, context.train):
            options.output.say(f"read {data.summary}")
        found, pixels, pairs = score_model.evaluate(model, context, others)
        known = dict(card.metrics.get(SECTION, {}))
        compared = compare_with_card(known, found["figures"], SECTION)
        sampling.write_sample_grids(Path(options.out), pixels, card.classes, pairs)
        return found, compared, lambda page: render_score_page(page, pixels, pairs, compared)

    models = {"judge": context.judge.metadata}
    found, compared = _run(options, card, config, models, compute)
    metrics = {SECTION: {**found["figures"], "config": config}}
    _finish(options, card, found, found["figures"], compared, metrics)


def _evaluate_classifier(options: EvaluateOptions, card: "Card", specs: list[str]) -> None:
    from scoreag.core.algorithm import ALGORITHM
    from scoreag.evaluation.classifier import evaluate, plan_evaluation
    from scoreag.evaluation.reproducibility import compare_with_card
    from scoreag.evaluation.score_model import subsample
    from scoreag.report.model_evaluation import render_classifier_page

    def load(spec: str) -> "Dataset":
        data = load_labeled(options, spec, card)
        return subsample(data, options.images) if options.images else data

    test = load(options.data)
    parts, skipped = plan_evaluation(card, test, f"images of {test.name}", load, specs)
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
        found = {"figures": metrics, "left": skipped}
        return found, compared, lambda page: render_classifier_page(page, compared)

    found, compared = _run(options, card, config, {}, compute)
    flat = {f"{part}.{n}": e for part, one in found["figures"].items() for n, e in one.items()}
    known = card.metrics  # of which some may be what is not computed here
    metrics = {part: {**known.get(part, {}), **one} for part, one in found["figures"].items()}
    _finish(options, card, found, flat, compared, metrics)


def _run(
    options: EvaluateOptions,
    card: "Card",
    config: Mapping[str, Any],
    models: Mapping[str, Any],
    compute: "Callable[[], Computed]",
) -> "tuple[dict[str, Any], list[MetricComparison]]":
    """Compute in --out, and write the page there; what was found, and how it compares."""
    from scoreag.evaluation.storage import run_in_folder
    from scoreag.io.filesystem import write_text
    from scoreag.io.manifest import describe_environment, flatten, to_jsonable

    comparisons: list[MetricComparison] = []

    def compute_and_write() -> dict[str, Any]:
        metrics, compared, render = compute()
        comparisons.extend(compared)
        model = {"model": card.identity, "kind": card.kind, "classes": list(card.classes)}
        found = {**model, "config": dict(config), **metrics}
        found["compared"] = [one.to_dict() for one in compared]
        names = ("versions.scoreag", "versions.torch", "machine.processor", "machine.cores")
        known = dict(flatten(describe_environment()))
        machine = ", ".join(f"{name.split('.')[-1]} {known[name]}" for name in names)
        page = render({**found, "foot": [command_line(), machine]})
        write_text(Path(options.out) / "report.html", page)
        return found

    fixed = {name: value for name, value in config.items() if name != "feature_extractors"}
    manifest = {
        "command": command_line(),
        "config": to_jsonable(fixed),
        "models": to_jsonable({"evaluated": card.identity, **models}),
    }
    folder = Path(options.out)
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
    from scoreag.evaluation.reproducibility import require_reproduced
    from scoreag.models.model_cards import update_card
    from scoreag.report.model_evaluation import format_text

    options.output.show(found, format_text(flat, compared))
    say_where(options.output, options.out)
    if options.update_card:
        update_card(card, metrics={**card.metrics, **metrics})
        options.output.say(f"the metrics are in the card of {card.name}")
    else:
        require_reproduced(compared, card.name)


def _load_on_device(options: EvaluateOptions) -> Any:
    """The classifier of a card where --device says, for images that lie elsewhere."""
    device, module = options.compute.resolve(), options.compute.load_classifier(options.card)
    return lambda images: module(images.to(device)).to(images.device)


def _score_model_config(context: "EvalContext") -> dict[str, Any]:
    """All that the metrics of a score model depend on, but its weights."""
    from scoreag.core.algorithm import ALGORITHM
    from scoreag.models.identity import model_identity

    return {
        "images": context.n_images,
        "sampler": context.sampler,
        "nfe": context.nfe,
        "seed": context.seed,
        "batch_size": context.batch_size,
        "feature_batch_size": context.feature_batch_size,
        "feature_extractors": {one.name: one.sha256 for one in context.extractors},
        "judge": model_identity(context.judge.module, context.judge.metadata)["sha256"],
        "data": f"{context.test.name}, sha256 {context.test.sha256}",
        "train_data": f"{context.train.name}, sha256 {context.train.sha256}",
        "device": context.device.type,
        "algorithm": ALGORITHM,
    }


def build_context(
    options: EvaluateOptions, card: "Card"
) -> "tuple[Model, EvalContext, list[Model]]":
    """Everything that is read before the first number is computed."""
    from scoreag.evaluation.sampling import steps_for_nfe
    from scoreag.evaluation.score_model import EvalContext, Model
    from scoreag.metrics.feature_extractors import load_extractor

    try:
        steps_for_nfe(options.sampler, options.nfe)
    except ValueError as error:
        raise UsageError(f"--sampler {options.sampler} --nfe {options.nfe}: {error}") from error
    device = options.compute.resolve()
    model = Model(card, options.compute.load_prior(options.card))
    others = [_load_other(options, word, card) for word in options.compare_with or ()]
    _check_comparable(card, [one.card for one in others])
    train, test = (load_labeled(options, s, card) for s in (options.train_data, options.data))
    judge = _load_judge(options, card, test)
    words = list(dict.fromkeys(options.feature_extractor or ["judge"]))
    extractors = tuple(load_extractor(word, judge, card.image_shape, device) for word in words)
    names = [one.name for one in extractors]
    for name in (name for name in names if names.count(name) > 1):
        raise UsageError(f"--feature-extractor has two networks called {name}; rename one factory")
    context = EvalContext(
        test, train, judge, extractors, Path(options.out), options.images or N_IMAGES,
        options.sampler, options.nfe, options.seed, options.batch_size or 1,
        options.feature_batch_size, device, options.output.progress,
    )  # fmt: skip
    return model, context, others


def _load_other(options: EvaluateOptions, word: str, card: "Card") -> "Model":
    """What a card is compared with: another one, or itself after a share of its training."""
    from scoreag.evaluation.score_model import Model
    from scoreag.training.optimization import checkpoint_at

    compute = options.compute
    try:
        share = float(word)
    except ValueError:
        return Model(card=compute.load_card(word), prior=compute.load_prior(word))
    with TemporaryDirectory() as folder:
        try:
            earlier = checkpoint_at(card, share, Path(folder))
        except ValueError as error:
            raise ValueError(f"--compare-with {word}: {error}") from error
        return Model(earlier, compute.load_prior(folder))


def _check_comparable(card: "Card", others: "Sequence[Card]") -> None:
    """Other cards are for the same images, and say where on the curve they belong."""
    for one in others:
        if (one.image_shape, one.classes) != (card.image_shape, card.classes):
            raise ValueError(
                f"--compare-with {one.name} is for other images or classes than {card.name}"
            )
    for one in [card, *others] if others else []:
        if not isinstance(one.training_config.get("images_seen"), int):
            raise ValueError(
                f"{one.name} has no images_seen in its training_config, so it has no place on the "
                "curve; leave out --compare-with, or write images_seen into the card"
            )


def _load_judge(options: EvaluateOptions, card: "Card", test: "Dataset") -> "NormalizedClassifier":
    """The reference classifier, which must know the classes of the score model."""
    from scoreag.classifiers.loading import check_classifier
    from scoreag.io.images import to_float

    name, compute = options.reference_classifier or default_judge(card), options.compute
    judge = compute.load_classifier(name)
    images = to_float(test.images[:2]).to(compute.resolve())
    try:
        count = check_classifier(judge, images, require_grad=False)
    except ValueError as error:
        raise ValueError(
            f"--reference-classifier {name}: {error}; give another --reference-classifier"
        ) from error
    known = card.classes if ":" in name else compute.load_card(name).classes
    if card.classes and (count != len(card.classes) or known != card.classes):
        raise ValueError(
            f"the judge {name} knows other classes than {card.name}; "
            "give a classifier of its classes: --reference-classifier CARD"
        )
    return judge


def default_judge(card: "Card") -> str:
    """The bundled judge, ``NAME-judge``, of the images and classes of a card."""
    if name := find_judge(card.image_shape, card.classes, any_classes=not card.classes):
        return name
    raise UsageError(
        f"no bundled judge knows the images and classes of {card.name}; "
        "give a classifier that does: --reference-classifier CARD"
    )


def load_labeled(options: EvaluateOptions, spec: str, card: "Card") -> "Dataset":
    """Labeled images of the shape and the classes of a card."""
    from scoreag.data.loading import load_dataset

    size = parse_size(options.size) if options.size else None
    progress = options.output.progress
    data = load_dataset(spec, options.data_dir, None, size, progress, card.classes)
    shape = tuple(data.images.shape[1:])
    if shape != card.image_shape:
        has, takes = (" x ".join(map(str, sizes)) for sizes in (shape, card.image_shape))
        height, width = card.image_shape[1:]
        fix = f"write --size {height}x{width}, or give other data"
        raise ValueError(f"{data.name} has images of {has}, {card.name} is for {takes}; {fix}")
    if card.classes:
        check_classes(data, card.classes)
        if data.labels is None:
            raise ValueError(f"{data.name} has no labels, which {card.name} is judged by")
    if len(data) < MIN_IMAGES:
        raise ValueError(f"{data.name} has {len(data)} images; give at least {MIN_IMAGES}")
    return data
