"""list: the models and components that there are."""

import ast
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Annotated

from scoreag.cli.options import Opt, OutputOptions
from scoreag.registry import DATASETS, FOLDERS, UnknownNameError, component_names, did_you_mean

if TYPE_CHECKING:
    from scoreag.models.model_cards import Card

CARDS = {"models": "score-model", "classifiers": "classifier"}
COMPONENTS = ("attacks", "purifiers", "samplers", "networks", "metrics", "datasets")
KINDS = (*CARDS, *COMPONENTS, "plans", "presets")


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    kind: Annotated[str | None, Opt(f"{', '.join(KINDS)}.", "all", positional=True)] = None
    output: OutputOptions


def list_components(options: ListOptions) -> None:
    """List models and components, each with its first line.

    scoreag list samplers
    """
    if options.kind is not None and options.kind not in KINDS:
        raise UnknownNameError(f"no kind {options.kind!r}; {did_you_mean(options.kind, [*KINDS])}")
    found = {kind: entries(kind) for kind in ([options.kind] if options.kind else KINDS)}
    lines = []
    for kind, names in found.items():
        lines += [] if options.kind else [f"{kind}:"]
        width = max(map(len, names), default=0)
        lines += [f"  {name:<{width}}  {line}" for name, line in names.items()]
    options.output.show(found, "\n".join(lines))


def entries(kind: str) -> dict[str, str]:
    """Name and first line of everything of a kind."""
    if kind in CARDS:
        from scoreag.models.model_cards import list_cards, load_card

        bundled = {name: _card_line(load_card(name)) for name in list_cards(CARDS[kind])}
        return bundled | (_public_checkpoints() if kind == "models" else {})
    if kind == "plans":
        from scoreag.assess.plan import list_plans

        return list_plans()
    if kind == "presets":
        from scoreag.training.presets import list_presets

        return list_presets()
    return _component_lines(kind)


def _component_lines(kind: str) -> dict[str, str]:
    if kind == "datasets":
        return {name: line for name, (_, _, line) in sorted(DATASETS.items())}
    found = {}
    for folder in FOLDERS.get(kind, (kind,)):
        package = find_spec(f"scoreag.{folder}")
        assert package is not None
        there = [one.name for one in iter_modules(package.submodule_search_locations)]
        names = there if kind == "metrics" else component_names(kind)
        for name in sorted({*there} & {*names}):
            found[name] = _first_line(f"scoreag.{folder}.{name}")
    return found


def _public_checkpoints() -> dict[str, str]:
    """Models that are fetched when they are first used."""
    from scoreag.models.convert.hub import list_checkpoints

    return {
        name: f"{'fetched by hand' if one.manual else 'fetched on first use'}, "
        f"{one.megabytes} MB, {one.license}"
        for name, one in list_checkpoints().items()
    }


def _card_line(card: "Card") -> str:
    measured = {n: m for n, m in card.metrics.items() if isinstance(m.get("value"), int | float)}
    metrics = [
        f"{name.replace('_', ' ')} {m['value']:g} of {m.get('total', '?')} {m.get('of', 'images')}"
        for name, m in measured.items()
    ]
    shape = " x ".join(map(str, card.image_shape))
    return "; ".join(
        [f"{card.network}, {shape}, {len(card.classes)} classes, {card.license}", *metrics]
    )


def _first_line(module: str) -> str:
    """Of a component's docstring, read without running it."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return ""
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())
