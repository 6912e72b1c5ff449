"""convert: other people's weights, as a card of one's own."""

import json
from pathlib import Path
from typing import Any

from scoreag.cli.options import Given, say
from scoreag.cli.parsing import UsageError
from scoreag.io.bounded import parse_json
from scoreag.registry import short_repr


def convert(given: Given) -> None:
    """Turn other people's weights into a card and a safetensors file; none of their code is run."""
    from scoreag.cli.convert_classifiers import convert_classifier, is_classifier
    from scoreag.models.convert import checkpoint

    folder = Path(given.folder)
    if (folder / "card.toml").exists() and not given.overwrite:
        raise ValueError(f"{folder} has a card; give another folder, or --overwrite")
    path = Path(given.checkpoint)
    classes = names_of(given.class_names) if given.class_names else []
    if is_classifier(given):
        return convert_classifier(given, arguments_of(given.config), classes)
    found, card = checkpoint.convert_checkpoint(
        path, folder, classes, given.license or "", given.fp16, arguments_of(given.config)
    )
    told = checkpoint.summarize(found) | {"license": card.license, "sha256": card.sha256}
    if given.json:
        print(json.dumps(told, indent=2))
    elif not given.quiet:
        print("\n".join(f"{name:<22} {value}" for name, value in told.items()))
    say(given, f"the card is {folder / 'card.toml'}; use it as --model {folder}")


def arguments_of(text: str | None) -> dict[str, Any] | None:
    """The table that JSON describes, or nothing.

    Raises:
        UsageError: it describes none.
    """
    if text is None:
        return None
    try:
        found = parse_json(text)
    except ValueError as error:
        raise UsageError(f"--config is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise UsageError(
            f"--config is {short_repr(found)}; expected a table, e.g. " + '{"image_size": 64}'
        )
    return found


def names_of(word: str) -> list[str]:
    """The classes of a data set, by its name, or the names themselves.

    Raises:
        UsageError: a single word that is no data set.
    """
    from scoreag.registry import component_names, did_you_mean, load_component

    if "," in word:
        return [name.strip() for name in word.split(",")]
    known = [
        n for n in component_names("datasets") if hasattr(load_component("datasets", n), "CLASSES")
    ]
    if (name := word.replace("-", "_")) not in known:
        raise UsageError(
            f"--class-names {word}: no such data set; {did_you_mean(name, known)}, or cat,dog,..."
        )
    return list(load_component("datasets", name).CLASSES)
