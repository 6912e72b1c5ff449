"""list, show, doctor and report: what there is, a card, a sound classifier, a report again."""

import ast
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Annotated, Any

from scoreag.cli import options as o
from scoreag.cli.runs import check_classes, format_table, show_report, write_report
from scoreag.registry import DATASETS, FOLDERS, UnknownNameError, component_names, did_you_mean

if TYPE_CHECKING:
    from scoreag.classifiers.diagnose import Finding
    from scoreag.models.model_cards import Card

CARDS = {"models": "score-model", "classifiers": "classifier"}
COMPONENTS = ("attacks", "purifiers", "samplers", "networks", "metrics", "datasets")
SHOWN_CLASSES = 10  # of a card, by name
KINDS = (*CARDS, *COMPONENTS, "plans", "presets")


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    kind: Annotated[str | None, o.Opt(f"{', '.join(KINDS)}.", "all", positional=True)] = None
    output: o.TableOutputOptions


def list_components(options: ListOptions) -> None:
    """List models and components, one per line.

    scoreag list samplers
    """
    if options.kind is not None and options.kind not in KINDS:
        raise UnknownNameError(f"no kind {options.kind!r}; {did_you_mean(options.kind, [*KINDS])}")
    listed = {kind: entries(kind) for kind in ([options.kind] if options.kind else KINDS)}
    lines = []
    for kind, names in listed.items():
        lines += [] if options.kind else [f"{kind}:"]
        width = max(map(len, names), default=0)
        lines += [f"  {name:<{width}}  {line}" for name, line in names.items()]
    options.output.show(listed, "\n".join(lines))


def entries(kind: str) -> dict[str, str]:
    """Name and description of everything of a kind."""
    if kind in CARDS:
        from scoreag.models.model_cards import PACKAGED, list_cards, load_card

        bundled = {name: _card_line(load_card(name)) for name in list_cards(CARDS[kind])}
        return bundled | (_public_checkpoints() if kind == "models" else PACKAGED)
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
    lines = {}
    for folder in FOLDERS.get(kind, (kind,)):
        package = find_spec(f"scoreag.{folder}")
        assert package is not None
        modules = [one.name for one in iter_modules(package.submodule_search_locations)]
        names = modules if kind == "metrics" else component_names(kind)
        for name in sorted({*modules} & {*names}):
            lines[name] = _first_line(f"scoreag.{folder}.{name}")
    return lines


def _public_checkpoints() -> dict[str, str]:
    """Score models that are downloaded on first use."""
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


@dataclass(frozen=True, kw_only=True)
class ShowOptions:
    card: Annotated[str, o.Opt("A card's name or folder.", positional=True)]
    output: o.TableOutputOptions


def show(options: ShowOptions) -> None:
    """Show a card: its network, images, license, source, defaults and metrics.

    scoreag show cifar10
    """
    from scoreag.io.manifest import to_jsonable
    from scoreag.models.model_cards import load_card

    card = load_card(options.card, trust_code=True)  # nothing is run: its network is not built
    found = {**to_jsonable(asdict(card)), "folder": str(card.folder)}
    options.output.show(found, format_table(_describe_card(card)))


def _describe_card(card: "Card") -> list[tuple[str, str]]:
    """A card as lines: what is empty is left out."""
    from scoreag.models.model_cards import read_stored_weights

    weights = read_stored_weights(card)
    numbers = sum(tensor.numel() for tensor in weights.values())
    stored = ", ".join(sorted({str(t.dtype).removeprefix("torch.") for t in weights.values()}))
    shape, classes = " x ".join(map(str, card.image_shape)), ", ".join(card.classes[:SHOWN_CLASSES])
    more = ", ..." if len(card.classes) > SHOWN_CLASSES else ""
    lines = [
        ("name", f"{card.name}, {card.kind}"),
        ("file", str(card.path)),
        ("hub", card.hub),
        (
            "images",
            f"{shape}, {len(card.classes)} classes" + (f": {classes}{more}" if classes else ""),
        ),
        ("network", f"{card.network} {_settings(card.options)}"),
        ("weights", f"{numbers:,} numbers in {stored}"),
        ("family", f"{card.family}, sigma_data {card.sigma_data:g}" if card.family else ""),
        ("judge", card.judge or ""),
        ("license", card.license),
        ("source", card.source),
        *((f"defaults, {task}", _settings(values)) for task, values in card.defaults.items()),
        ("training", _settings(card.training_config)),
        *_metric_lines(card.metrics),
    ]
    return [(name, text) for name, text in lines if text]


def _settings(values: Mapping[str, Any]) -> str:
    """attack_scale 2, sampler ancestral: without nested tables."""
    return ", ".join(
        f"{name} {value}" for name, value in values.items() if not isinstance(value, Mapping)
    )


def _metric_lines(metrics: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """A line a metric, with its interval and of what it is, also of nested tables."""
    lines = []
    for name, entry in metrics.items():
        words = f"{above}{name.replace('_', ' ')}"
        if not isinstance(entry, Mapping):
            continue
        if isinstance(entry.get("value"), int | float):
            interval = f" ({entry['low']:g} to {entry['high']:g})" if "low" in entry else ""
            total = f"{entry['total']} " if "total" in entry else ""
            of = f"; {total}{entry['of']}" if "of" in entry else ""
            lines.append((words, f"{entry['value']:g}{interval}{of}"))
        else:
            lines += _metric_lines(entry, f"{words}, ")
    return lines


def _first_line(module: str) -> str:
    """The first paragraph of a module's docstring, read without importing it."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return ""
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


@dataclass(frozen=True, kw_only=True)
class DoctorOptions:
    classifier: o.ClassifierName
    source: o.ImageOptions
    output: o.TableOutputOptions
    compute: o.DeviceOptions
    batch_size: Annotated[int, o.Opt("Images per forward pass.", check=o.at_least(1))] = 250


def doctor(options: DoctorOptions) -> None:
    """Check a classifier: its inputs, outputs and accuracy.

    scoreag doctor --classifier fashion-cnn --data fashion-mnist:sample
    """
    findings = diagnose_classifier(options)
    options.output.show([one.to_dict() for one in findings], "\n".join(map(str, findings)))
    failed = [one.check for one in findings if one.ok is False]
    if failed:
        raise ValueError(f"{options.classifier}: something is wrong with its {', '.join(failed)}")


def diagnose_classifier(options: DoctorOptions) -> "list[Finding]":
    """The findings of all checks, or why the classifier cannot be loaded."""
    from scoreag.classifiers.diagnose import Finding, diagnose
    from scoreag.classifiers.loading import class_names
    from scoreag.models.model_cards import has_card

    name, compute = options.classifier, options.compute
    classes = class_names(name)
    data = options.source.load(options.output.progress, classes)
    options.output.say(f"read {data.summary}")
    try:
        classifier = compute.load_classifier(name)
    except UnknownNameError:
        raise
    except ValueError as error:
        return [Finding("loading", False, str(error))]
    shape = compute.load_card(name).image_shape if has_card(name) else None
    findings = diagnose(classifier, data.images, data.labels, options.batch_size, shape)
    findings += check_search(Path(options.source.data))
    try:
        check_classes(data, classes)
    except ValueError as error:
        findings.append(Finding("classes", False, str(error)))
    return findings


def check_search(folder: Path) -> "list[Finding]":
    """What a run folder says of the strengths that were searched for; nothing of other data."""
    from scoreag.classifiers.diagnose import Finding
    from scoreag.io.manifest import read_manifest
    from scoreag.io.records import iter_rows
    from scoreag.io.run_dir import ROWS
    from scoreag.methods.scale_search import searched_option
    from scoreag.methods.summary import list_search_problems

    if not (folder / ROWS).is_file():
        return []
    option = searched_option(read_manifest(folder).get("config", {}))
    problems = list_search_problems(iter_rows(folder), option)
    return [Finding("search", None, text) for text in problems]


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    folder: Annotated[str, o.Opt("Folder of a run.", positional=True)]
    only: Annotated[
        str | None, o.Opt("The cells of --format robustbench, by name or pattern.", "all")
    ] = None
    output: o.RunOutputOptions


def report(options: ReportOptions) -> None:
    """Write the report.html of a run folder again, its tables and figures; print the main table.

    scoreag report runs/gat
    scoreag report runs/gat --format latex
    scoreag report runs/pgd --format robustbench --model-info venue='arXiv, Jan 2026'
    """
    folder = Path(options.folder)
    if options.only is not None and options.output.format != o.ROBUSTBENCH:
        raise o.UsageError("--only is of --format robustbench; write both")
    options.output.read_model_info()
    page = write_report(folder)
    show_report(options.output, folder, options.only)
    options.output.say(f"open {page}")
