"""What an evaluation needs, read and checked before the first number is computed."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scoreag.cli import parsing
from scoreag.cli.judging import bundled
from scoreag.cli.options import Given, loud
from scoreag.cli.parsing import UsageError
from scoreag.cli.tasks import check_classes
from scoreag.models import trust

if TYPE_CHECKING:
    from scoreag.classifiers.normalized import NormalizedClassifier
    from scoreag.data.loading import Dataset
    from scoreag.evaluation.context import EvalContext, Model
    from scoreag.models.model_cards import Card

IMAGES, FEWEST = 10_000, 4  # draws; fewer than four have no error
PATHS = (
    "image-folder",
    "npz",
    "run-dir",
    "single-image",
)  # kinds of data that have no test part of their own


def name_data(given: Given, card: "Card") -> None:
    """Where no data are named, those that the card was trained on, and the same set's test part."""
    word = str(card.training_config.get("data") or "")  # also in the words that its figures are of
    place = f"the card of {card.name}, training_config.data"
    trust.check_trusted(trust.is_custom_data(f"{word}:"), word, place, given.trust_code)
    given.train_data = given.train_data or word or None
    kind, colon, _ = str(given.train_data or "").partition(":")
    given.data = given.data or (f"{kind}:test" if colon and kind not in PATHS else None)
    needed = ("data", "train_data") if card.kind == "score-model" else ("data",)
    for name in needed:
        if not getattr(given, name):
            flag = name.replace("_", "-")
            raise UsageError(
                f"{card.name} does not say what it was trained on; "
                f"write --{flag}, e.g. --{flag} image-folder:PATH"
            )


def bench_for(given: Given, card: "Card") -> "tuple[Model, EvalContext, list[Model]]":
    """Everything that is read before the first number is computed."""
    from scoreag.classifiers.loading import load_prior, resolve_device
    from scoreag.evaluation import context as table
    from scoreag.evaluation.sampling import steps_for_nfe
    from scoreag.metrics.feature_extractors import load_extractor

    try:
        steps_for_nfe(given.sampler, given.nfe)
    except ValueError as error:
        raise UsageError(f"--sampler {given.sampler} --nfe {given.nfe}: {error}") from error
    device = resolve_device(given.device)
    model = table.Model(card, load_prior(given.card, given.device, given.trust_code))
    beside = [_other(given, word, card) for word in given.compare_with or ()]
    _check_beside(card, [one.card for one in beside])
    train, test = (labelled(given, spec, card) for spec in (given.train_data, given.data))
    judge = _judge(given, card, test)
    wanted = list(dict.fromkeys(given.feature_extractor or ["judge"]))
    extractors = tuple(load_extractor(word, judge, card.image_shape, device) for word in wanted)
    _check_names([one.name for one in extractors])
    return (
        model,
        table.EvalContext(
            test, train, judge, extractors, Path(given.out), given.images or IMAGES, given.sampler,
            given.nfe, given.seed, given.batch_size or 16, given.feature_batch_size, device, loud(given),
        ),
        beside,
    )  # fmt: skip


def _other(given: Given, word: str, card: "Card") -> "Model":
    """What is set beside a card: another one, or itself after a share of its training."""
    from tempfile import TemporaryDirectory

    from scoreag.classifiers.loading import load_prior
    from scoreag.evaluation.context import Model
    from scoreag.models import model_cards
    from scoreag.training.intermediate_checkpoint import checkpoint_at

    try:
        share = float(word)
    except ValueError:
        found = load_prior(word, given.device, given.trust_code)
        return Model(model_cards.load_card(word, given.trust_code), found)
    with TemporaryDirectory() as aside:
        try:
            made = checkpoint_at(card, share, Path(aside))
        except ValueError as error:
            raise ValueError(f"--compare-with {word}: {error}") from error
        return Model(made, load_prior(aside, given.device, given.trust_code))


def _check_names(names: "Sequence[str]") -> None:
    """Figures are told apart by the name of the network."""
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"--feature-extractor has two networks called {name}; rename one factory"
            )


def _check_beside(card: "Card", others: "Sequence[Card]") -> None:
    """Other cards are for the same images, and say where on the curve they belong."""
    for one in others:
        if (one.image_shape, one.classes) != (card.image_shape, card.classes):
            raise ValueError(
                f"--compare-with {one.name} is for other images or classes than {card.name}"
            )
    for one in [card, *others] if others else []:
        if not isinstance(one.training_config.get("images_seen"), int):
            raise ValueError(
                f"{one.name} has no images_seen in its training_config, so it has no place on the curve; "
                "leave out --compare-with, or write images_seen into the card"
            )


def _judge(given: Given, card: "Card", test: "Dataset") -> "NormalizedClassifier":
    """The judge, which must know the classes of the score model."""
    from scoreag.classifiers.loading import check_classifier, load_classifier, resolve_device
    from scoreag.io.images import to_float
    from scoreag.models import model_cards

    given.reference_classifier = given.reference_classifier or judge_of(card)
    judge = load_classifier(given.reference_classifier, given.device, trust_code=given.trust_code)
    images = to_float(test.images[:2]).to(resolve_device(given.device))
    try:
        count = check_classifier(judge, images, require_grad=False)
    except ValueError as error:
        raise ValueError(
            f"--reference-classifier {given.reference_classifier}: {error}; give another --reference-classifier"
        ) from error
    known = card.classes
    if ":" not in given.reference_classifier:
        known = model_cards.load_card(given.reference_classifier, given.trust_code).classes
    if card.classes and (count != len(card.classes) or known != card.classes):
        raise ValueError(
            f"the judge {given.reference_classifier} knows other classes than {card.name}; "
            "give a classifier of its classes: --reference-classifier CARD"
        )
    return judge


def judge_of(card: "Card") -> str:
    """The bundled judge, ``NAME-judge``, of the images and classes of a card."""
    from scoreag.models import model_cards

    if found := bundled(card.image_shape, card.classes):
        return found
    for name in (name for name in model_cards.list_cards("classifier") if name.endswith("-judge")):
        if model_cards.load_card(name).image_shape == card.image_shape and not card.classes:
            return name
    raise UsageError(
        f"no bundled judge knows the images and classes of {card.name}; "
        "give a classifier that does: --reference-classifier CARD"
    )


def labelled(given: Given, spec: str, card: "Card") -> "Dataset":
    """Labelled images of the shape and the classes of a card."""
    from scoreag.data.loading import load_dataset

    size = parsing.size(given.size) if given.size else None
    data = load_dataset(spec, given.data_dir, size=size, progress=loud(given), classes=card.classes)
    if tuple(data.images.shape[1:]) != card.image_shape:
        found, wanted = (
            " x ".join(map(str, size)) for size in (data.images.shape[1:], card.image_shape)
        )
        height, width = card.image_shape[1:]
        fix = f"write --size {height}x{width}, or give other data"
        raise ValueError(f"{data.name} has images of {found}, {card.name} is for {wanted}; {fix}")
    if card.classes:
        check_classes(data, card.classes)
        if data.labels is None:
            raise ValueError(f"{data.name} has no labels, which {card.name} is judged by")
    if len(data) < FEWEST:
        raise ValueError(f"{data.name} has {len(data)} images; give at least {FEWEST}")
    return data
