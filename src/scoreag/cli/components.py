"""list and doctor: what there is, and whether a classifier is what it seems."""

import ast
import json
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from scoreag import registry
from scoreag.cli import parsing
from scoreag.cli.options import Given, say
from scoreag.cli.parsing import UsageError
from scoreag.cli.tasks import check_classes
from scoreag.registry import UnknownNameError, component_names, did_you_mean

if TYPE_CHECKING:
    from scoreag.classifiers.diagnose import Finding
    from scoreag.data.loading import Dataset

CARDS = {"models": "score-model", "classifiers": "classifier"}
PLANS, PRESETS = "plans", "presets"
COMPONENT_FOLDERS = {
    kind: registry.FOLDERS.get(kind, (kind,))
    for kind in ("attacks", "purifiers", "samplers", "networks", "metrics", "datasets")
}


def listed(given: Given) -> None:
    """The models and components that there are, each with its first line."""
    known = [*CARDS, *COMPONENT_FOLDERS, PLANS, PRESETS]
    if given.kind is not None and given.kind not in known:
        raise UnknownNameError(f"no kind {given.kind!r}; {did_you_mean(given.kind, known)}")
    found = {kind: entries(kind) for kind in ([given.kind] if given.kind else known)}
    if given.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    elif not given.quiet:
        _show(found, headed=not given.kind)


def _show(found: dict[str, dict[str, str]], headed: bool) -> None:
    for kind, lines in found.items():
        if headed:
            print(f"{kind}:")
        width = max(map(len, lines), default=0)
        for name, line in lines.items():
            print(f"  {name:<{width}}  {line}")


def entries(kind: str) -> dict[str, str]:
    """Name and first line of everything of a kind."""
    if kind in CARDS:
        from scoreag.models.model_cards import list_cards, load_card

        bundled = {name: _card_line(load_card(name)) for name in list_cards(CARDS[kind])}
        return bundled | (_public() if kind == "models" else {})
    if kind == PLANS:
        from scoreag.assess.plan import list_plans

        return list_plans()
    if kind == PRESETS:
        from scoreag.training.preset_listing import list_presets

        return list_presets()
    found = {}
    for folder in COMPONENT_FOLDERS[kind]:
        names = [one.name for one in iter_modules(import_module(f"scoreag.{folder}").__path__)]
        known = set(names if kind == "metrics" else component_names(kind))
        for name in sorted(known.intersection(names)):
            shown = name.replace("_", "-") if kind == "datasets" else name
            found[shown] = _first_line(f"scoreag.{folder}.{name}")
    return found


def _public() -> dict[str, str]:
    """What is fetched when it is first asked for."""
    from scoreag.models.convert.hub import list_checkpoints

    return {
        name: f"{'fetched by hand' if one.manual else 'fetched on first use'}, "
        f"{one.megabytes} MB, {one.license}"
        for name, one in list_checkpoints().items()
    }


def _card_line(card: Any) -> str:
    measured = {n: f for n, f in card.metrics.items() if isinstance(f.get("value"), int | float)}
    figures = [
        f"{name.replace('_', ' ')} {f['value']:g} of {f.get('total', '?')} {f.get('of', 'images')}"
        for name, f in measured.items()
    ]
    shape = " x ".join(map(str, card.image_shape))
    return "; ".join(
        [f"{card.network}, {shape}, {len(card.classes)} classes, {card.license}", *figures]
    )


def _first_line(module: str) -> str:
    """Of a component's docstring, read without running it."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return ""
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


def doctor(given: Given) -> None:
    """Examine a classifier: range, normalisation, logits or softmax, randomness, accuracy."""
    from scoreag.classifiers.diagnose import Finding, diagnose
    from scoreag.classifiers.loading import class_names, load_classifier
    from scoreag.data.loading import load_dataset

    if given.batch_size < 1:
        raise UsageError(f"--batch-size is {given.batch_size}; expected 1 or more")
    size = parsing.size(given.size) if given.size else None
    classes = class_names(given.classifier)
    data = load_dataset(given.data, given.data_dir, given.class_, size, not given.quiet, classes)
    say(given, f"read {data.summary}")
    try:
        victim = load_classifier(given.classifier, given.device, trust_code=given.trust_code)
    except UnknownNameError:
        raise
    except ValueError as error:
        found = [Finding("loading", False, str(error))]
    else:
        shape = shape_of(given.classifier, given.trust_code)
        found = diagnose(victim, data.images, data.labels, given.batch_size, shape)
        found += _other_classes(data, classes)
    if given.json:
        print(json.dumps([finding.to_dict() for finding in found], indent=2, ensure_ascii=False))
    elif not given.quiet:
        print("\n".join(map(str, found)))
    bad = [finding.check for finding in found if finding.ok is False]
    if bad:
        raise ValueError(f"{given.classifier}: something is wrong with its {', '.join(bad)}")


def _other_classes(data: "Dataset", classes: tuple[str, ...]) -> "list[Finding]":
    """What is wrong where the data count other classes than the classifier's card."""
    from scoreag.classifiers.diagnose import Finding

    try:
        check_classes(data, classes)
    except ValueError as error:
        return [Finding("classes", False, str(error))]
    return []


def shape_of(classifier: str, trust_code: bool = False) -> tuple[int, int, int] | None:
    """What the card of a classifier says that it was trained on; a factory says nothing."""
    from scoreag.models.model_cards import load_card

    return None if ":" in classifier else load_card(classifier, trust_code).image_shape
