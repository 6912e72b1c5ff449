"""evaluate: a card's figures, computed again, and how good its model is."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scoreag.cli import parsing
from scoreag.cli.evaluation_inputs import FEWEST, bench_for, labelled, name_data
from scoreag.cli.options import Given, say
from scoreag.cli.parsing import UsageError
from scoreag.cli.tasks import check_apart, command

if TYPE_CHECKING:
    from scoreag.data.loading import Dataset
    from scoreag.evaluation.context import EvalContext
    from scoreag.evaluation.reproducibility import MetricComparison
    from scoreag.models.model_cards import Card

PART = "evaluation"  # of a score model's figures


def evaluate(given: Given) -> None:
    """Compute the figures of a card again, and tell how good its model is."""
    from scoreag.models.model_cards import load_card

    for name in ("images", "batch_size", "feature_batch_size"):
        least = FEWEST if name == "images" else 1
        if (value := getattr(given, name)) is not None and value < least:
            flag = name.replace("_", "-")
            raise UsageError(f"--{flag} is {value}; expected {least} or more")
    found = load_card(given.card, given.trust_code)
    given.out = given.out or f"runs/evaluation-{found.name}"
    _check_kind(given, found.kind)
    name_data(given, found)
    check_apart(given)
    (_score_model if found.kind == "score-model" else _classifier)(given, found)


def _check_kind(given: Given, kind: str) -> None:
    """What can be asked of a model of its kind."""
    if (given.attack or given.attack_steps or given.eps) and kind == "score-model":
        raise UsageError("--attack is for classifiers; a score model is not attacked here")
    if given.compare_with and kind == "classifier":
        raise UsageError("--compare-with is for score models; evaluate one classifier at a time")


def attack_specs(given: Given) -> list[str]:
    """The attacks of --attack, as the names of figures say them: pgd40_8 is 40 steps, 8/255."""
    if given.attack is None:
        if given.attack_steps is not None or given.eps:
            raise UsageError("--attack-steps and --eps are of an attack; write --attack pgd, too")
        return []
    if given.attack != "pgd":
        raise UsageError(f"--attack {given.attack!r}: only pgd is run here; write --attack pgd")
    steps = 40 if given.attack_steps is None else given.attack_steps
    if steps < 1:
        raise UsageError(f"--attack-steps is {steps}; expected 1 or more")
    radii = [parsing.radius(text, "--eps") for text in given.eps or ["8/255"]]
    return sorted({f"pgd{steps}_{float(255 * radius):g}" for radius in radii})


def _score_model(given: Given, card: "Card") -> None:
    from scoreag.evaluation import sample_grids, score_model
    from scoreag.evaluation.reproducibility import compare_with_card, require_reproduced
    from scoreag.evaluation.storage import run_in_folder
    from scoreag.io.filesystem import write_text
    from scoreag.report.model_evaluation import format_text, render_score_page

    model, bench, beside = bench_for(given, card)
    settings = _settings(bench)
    folder, told = Path(given.out), dict(card.metrics.get(PART, {}))
    outcome: list[MetricComparison] = []

    def work() -> dict[str, Any]:
        for data in (bench.test, bench.train):
            say(given, f"read {data.summary}")
        found, pixels, pairs = score_model.evaluate(model, bench, beside)
        outcome.extend(compare_with_card(told, found["figures"], PART))
        found = _head(card, settings) | found | {"compared": [one.to_dict() for one in outcome]}
        sample_grids.write_sample_grids(folder, pixels, card.classes, pairs)
        page = render_score_page({**found, "foot": _foot()}, pixels, pairs, outcome)
        write_text(folder / "report.html", page)
        return found

    fixed = {name: value for name, value in settings.items() if name != "feature_extractors"}
    manifest = _manifest(given, card, fixed, {"judge": bench.judge.metadata})
    found = run_in_folder(folder, manifest, given.overwrite, work)
    _tell(given, found, format_text(found["figures"], outcome))
    if given.update_card:
        _enter(given, card, {PART: {**found["figures"], "config": settings}})
    else:
        require_reproduced(outcome, card.name)


def _classifier(given: Given, card: "Card") -> None:
    from scoreag.core.algorithm import ALGORITHM
    from scoreag.evaluation.classifier import evaluate, plan_evaluation
    from scoreag.evaluation.context import subsample
    from scoreag.evaluation.reproducibility import compare_with_card, require_reproduced
    from scoreag.evaluation.storage import run_in_folder
    from scoreag.io.filesystem import write_text
    from scoreag.report.model_evaluation import format_text, render_classifier_page

    def some(spec: str) -> "Dataset":
        data = labelled(given, spec, card)
        return subsample(data, given.images) if given.images else data

    test, specs = some(given.data), attack_specs(given)
    computed, left = plan_evaluation(card, test, f"images of {test.name}", some, specs)
    settings = {
        "images": {name: len(part.data) for name, part in computed.items()},
        "data": {name: part.data.sha256 for name, part in computed.items()},
        **({"attacks": specs} if specs else {}),
        "algorithm": ALGORITHM,
    }
    folder, outcome = Path(given.out), list[Any]()

    def work() -> dict[str, Any]:
        say(given, f"read {test.summary}")
        found = evaluate(_on_device(card, given), computed, given.batch_size or 250)
        for name, entries in found.items():
            outcome.extend(compare_with_card(card.metrics.get(name, {}), entries, name))
        whole = _head(card, settings) | {"figures": found, "left": left}
        whole |= {"compared": [one.to_dict() for one in outcome]}
        page = render_classifier_page({**whole, "foot": _foot()}, outcome)
        write_text(folder / "report.html", page)
        return whole

    found = run_in_folder(folder, _manifest(given, card, settings, {}), given.overwrite, work)
    flat = {f"{part}.{n}": e for part, one in found["figures"].items() for n, e in one.items()}
    _tell(given, found, format_text(flat, outcome))
    if given.update_card:
        kept = card.metrics  # of which some may be what is not computed here
        entered = {part: {**kept.get(part, {}), **one} for part, one in found["figures"].items()}
        _enter(given, card, entered)
    else:
        require_reproduced(outcome, card.name)


def _on_device(card: "Card", given: Given) -> Any:
    """The classifier of a card where --device says, of images that lie elsewhere."""
    from scoreag.classifiers.loading import load_classifier, resolve_device

    place = resolve_device(given.device)
    module = load_classifier(given.card, given.device, trust_code=given.trust_code)
    return lambda images: module(images.to(place)).to(images.device)


def _settings(bench: "EvalContext") -> dict[str, Any]:
    """All that the figures of a score model depend on, but its weights."""
    from scoreag.core.algorithm import ALGORITHM
    from scoreag.models.identity import model_identity

    return {
        "images": bench.n_images,
        "sampler": bench.sampler,
        "nfe": bench.nfe,
        "seed": bench.seed,
        "batch_size": bench.batch_size,
        "feature_batch_size": bench.feature_batch_size,
        "feature_extractors": {one.name: one.sha256 for one in bench.extractors},
        "judge": model_identity(bench.judge.module, bench.judge.metadata)["sha256"],
        "data": f"{bench.test.name}, sha256 {bench.test.sha256}",
        "train_data": f"{bench.train.name}, sha256 {bench.train.sha256}",
        "device": bench.device.type,
        "algorithm": ALGORITHM,
    }


def _manifest(
    given: Given, card: "Card", settings: Mapping[str, Any], models: Mapping[str, Any]
) -> dict[str, Any]:
    from scoreag.io.manifest import to_jsonable

    return {
        "command": command(),
        "config": to_jsonable(settings),
        "models": to_jsonable({"evaluated": card.identity, **models}),
    }


def _head(card: "Card", settings: Mapping[str, Any]) -> dict[str, Any]:
    about = {"model": card.identity, "kind": card.kind, "classes": list(card.classes)}
    return about | {"config": dict(settings)}


def _foot() -> list[str]:
    from scoreag.io.manifest import describe_environment, flatten

    shown = ("versions.scoreag", "versions.torch", "machine.processor", "machine.cores")
    known = dict(flatten(describe_environment()))
    return [command(), ", ".join(f"{name.split('.')[-1]} {known[name]}" for name in shown)]


def _enter(given: Given, card: "Card", figures: Mapping[str, Mapping[str, Any]]) -> None:
    """The figures into the card, each part in place of the one of its name."""
    from scoreag.models.model_cards import update_card

    update_card(card, metrics={**card.metrics, **figures})
    say(given, f"the figures are in the card of {card.name}")


def _tell(given: Given, found: Mapping[str, Any], table: str) -> None:
    if given.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    elif not given.quiet:
        print(table)
    say(given, f"everything is in {given.out}; open {Path(given.out) / 'report.html'}")
