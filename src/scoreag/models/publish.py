"""Publish a card at the Hugging Face Hub: its weights, and a README.md with the Hub's metadata.

The README is written from the card alone, so that it says nothing that the card does not.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoreag.models.hub import CARD_FILE, parse_hub_name
from scoreag.models.hub_requests import (
    PREFIX,
    HubName,
    ask_hub,
    get_endpoint,
    import_hub,
    library_name,
)
from scoreag.models.model_cards import Card, load_card, read_stored_weights
from scoreag.registry import truncate_text

README = "README.md"
HUB_LICENSES = ("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0",
                "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "openrail")  # fmt: skip
HUB_DATASETS = {  # data sets of this package, at the Hub
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
    "fashion-mnist": "zalando-datasets/fashion_mnist",
    "tiny-imagenet": "zh-plus/tiny-imagenet",
}
PIPELINES = {"score-model": "unconditional-image-generation", "classifier": "image-classification"}
TAGS = {
    "score-model": ["scoreag", "diffusion", "score-based-model", "adversarial-robustness"],
    "classifier": ["scoreag", "image-classification", "adversarial-robustness"],
}
UNSTATED = ("", "unspecified", "unknown")  # what a card says without a license


@dataclass(frozen=True)
class Upload:
    """The files of an upload by their names at the Hub: bytes, or the path of a local file."""

    model: HubName
    files: Mapping[str, bytes | Path]

    def sizes(self) -> dict[str, int]:
        """Bytes by file."""
        return {
            name: len(held) if isinstance(held, bytes) else held.stat().st_size
            for name, held in self.files.items()
        }


def plan_upload(card: Card, name: str) -> Upload:
    """What is uploaded of a card: README.md, card.toml, its weights, and a judge beside it.

    Raises:
        ValueError: the weights are not those of the card, or the name is none of the Hub.
    """
    model = parse_hub_name(name)
    if re.fullmatch("[0-9a-f]{40}", model.revision):
        raise ValueError(f"{name} is a commit, which cannot change; write {PREFIX}{model.repo}")
    files: dict[str, bytes | Path] = {README: write_readme(card, model).encode(), **_files(card)}
    judge = card.folder / str(card.judge or "")
    if card.judge and (judge / CARD_FILE).is_file():
        beside = load_card(judge)
        files |= {f"{card.judge}/{file}": held for file, held in _files(beside).items()}
    return Upload(model, files)


def _files(card: Card) -> dict[str, bytes | Path]:
    read_stored_weights(card)  # refuses weights that do not have the digest of the card
    weights = [*card.weight_files] or [card.file]
    return {CARD_FILE: card.path.read_bytes(), **{name: card.folder / name for name in weights}}


def push(upload: Upload, private: bool = False) -> str:
    """Upload in one commit; returns ``hf://OWNER/NAME@COMMIT``.

    The repository is created if there is none.  The token is the one of ``hf auth login``, or
    ``HF_TOKEN``.

    Raises:
        ValueError: there is no token, or it may not write there.
        ConnectionError: the Hub is not reached; nothing was committed.
    """
    hub, endpoint, model = import_hub(), get_endpoint(), upload.model
    if hub.get_token() is None:
        raise ValueError(
            "an upload needs a token that may write: hf auth login, or HF_TOKEN (it is made at "
            f"{endpoint}/settings/tokens)"
        )
    api = hub.HfApi(endpoint=endpoint, **library_name())
    operations = [
        hub.CommitOperationAdd(name, held if isinstance(held, bytes) else str(held))
        for name, held in upload.files.items()
    ]

    def commit() -> str:
        api.create_repo(model.repo, private=private or None, exist_ok=True)
        if model.revision != "main":
            api.create_branch(model.repo, branch=model.revision, exist_ok=True)
        done = api.create_commit(
            model.repo, operations, commit_message="Upload a card of ScoreAG",
            revision=model.revision,
        )  # fmt: skip
        oid: str = done.oid
        return oid

    try:
        return model.at(ask_hub(model, endpoint, commit))
    except ConnectionError as error:
        if (status := getattr(getattr(error.__cause__, "response", None), "status_code", 0)) in (
            401, 403,
        ):  # fmt: skip
            raise ValueError(
                f"the token may not write to {PREFIX}{model.repo} ({status}); give one that may: "
                "hf auth login, or HF_TOKEN"
            ) from error
        raise


def write_readme(card: Card, model: HubName) -> str:
    """The model card: YAML metadata, how to use it, and the figures of the card."""
    return f"---\n{_metadata(card)}\n---\n\n{_body(card, model)}"


def _metadata(card: Card) -> str:
    """License, tags, library, data sets and metrics, as the Hub reads them."""
    hub = import_hub()
    results = [
        hub.EvalResult(
            task_type=PIPELINES[card.kind], dataset_type=_dataset(str(entry.get("of"))),
            dataset_name=str(entry.get("of", "not stated")), metric_type=name.rpartition(".")[2],
            metric_name=name, metric_value=entry["value"],
        )
        for name, entry in _metrics(card.metrics)
    ]  # fmt: skip
    dataset = HUB_DATASETS.get(_data_word(card))
    metadata = hub.ModelCardData(
        library_name="scoreag", pipeline_tag=PIPELINES[card.kind], tags=TAGS[card.kind],
        datasets=[dataset] if dataset else None, model_name=card.name,
        eval_results=results or None, **_license(card.license),
    )  # fmt: skip
    text: str = metadata.to_yaml()
    return text


def _license(text: str) -> dict[str, str]:
    """The Hub's word for a license; others have a name of their own."""
    word = re.sub(r"[ _]+", "-", text.partition("(")[0].strip().lower())
    if word in UNSTATED:
        return {}
    return {"license": word} if word in HUB_LICENSES else {"license": "other", "license_name": word}


def _data_word(card: Card) -> str:
    return str(card.training_config.get("data") or "").partition(":")[0]


def _dataset(of: str) -> str:
    """The Hub's data set of "images of cifar10:test"."""
    found = [hub for name, hub in HUB_DATASETS.items() if re.search(rf"\b{name}(:|\b(?!\d))", of)]
    return found[0] if found else "images"


def _metrics(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The entries with a value, by their names joined by dots."""
    for name, entry in table.items():
        if not isinstance(entry, Mapping):
            continue
        if isinstance(entry.get("value"), int | float):
            yield f"{above}{name}", entry
        else:
            yield from _metrics(entry, f"{above}{name}.")


def _body(card: Card, model: HubName) -> str:
    name, (channels, height, width) = f"{PREFIX}{model.repo}", card.image_shape
    use = {
        "score-model": f'prior = scoreag.load_prior("{name}")',
        "classifier": f'classifier = scoreag.load_classifier("{name}")',
    }[card.kind]
    facts = {
        "Images": f"{height} x {width} pixels, {channels} channels",
        "Classes": f"{len(card.classes)}: {', '.join(card.classes[:20])}"
        + (", ..." if len(card.classes) > 20 else "") if card.classes else "none",
        "Network": f"`{card.network}`",
        "Family": card.family and f"`{card.family}`, sigma_data {card.sigma_data:g}",
        "Trained on": _data_word(card),
        "License": card.license,
        "sha256 of the weights": f"`{card.sha256}`",
    }  # fmt: skip
    lines = [
        f"# {_plain(card.name)}", "",
        f"A {card.kind.replace('-', ' ')} for ScoreAG, which assesses the robustness of image "
        "classifiers.", "",
        "```python", "import scoreag", "", use, "```", "",
        f"On the command line, `{name}` stands wherever a {card.kind.replace('-', ' ')} is named. "
        "Write `@COMMIT` behind it to fix the version.", "",
        "| | |", "|---|---|",
        *(f"| {title} | {_plain(text)} |" for title, text in facts.items() if text),
    ]  # fmt: skip
    if metrics := [*_metrics(card.metrics)]:
        lines += [
            "",
            "## Metrics",
            "",
            "| metric | value | 95 % interval | of |",
            "|---|---|---|---|",
        ]
        lines += [_metric_row(title, entry) for title, entry in metrics]
    return "\n".join(lines) + "\n"


def _metric_row(name: str, entry: Mapping[str, Any]) -> str:
    interval = f"{entry['low']:g} to {entry['high']:g}" if "low" in entry else ""
    of = " ".join(str(entry[key]) for key in ("total", "of") if key in entry)
    return f"| {_plain(name)} | {entry['value']:g} | {interval} | {_plain(of)} |"


def _plain(text: str) -> str:
    """Text within a cell of a table."""
    return truncate_text(" ".join(text.split()), 500).replace("|", "\\|").replace("<", "&lt;")
