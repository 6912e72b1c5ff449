"""How a result came about, for its page: configuration, the command, and what to cite."""

import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from textwrap import shorten
from typing import Any

from scoreag.io.manifest import flatten

CIRCUMSTANCES = (  # entries of a manifest that determine no result, or are shown elsewhere
    "command", "versions", "machine", "started", "finished", "format", "images", "image_ids",
    "classes", "probe", "seal",
)  # fmt: skip
FOOTER_KEYS = (
    "versions.scoreag", "versions.torch", "machine.processor", "machine.cores", "started",
)  # fmt: skip
PAPER = """\
@article{kollovieh2023scoreag,
  title         = {Assessing Robustness via Score-Based Adversarial Image Generation},
  author        = {Kollovieh, Marcel and Gosch, Lukas and Lienen, Marten and Scholten, Yan
                   and Schwinn, Leo and G{\\"u}nnemann, Stephan},
  year          = {2023},
  eprint        = {2310.04285},
  archiveprefix = {arXiv}
}"""
SOFTWARE = """\
@software{{scoreag,
  title   = {{ScoreAG: score-based adversarial image generation, a Python package}},
  author  = {{{{The ScoreAG authors}}}},
  version = {{{version}}}
}}"""
_PATH = re.compile(r"^((?:[\w-]{2,}[:=])*)((?:/(?!/)|~/|[A-Za-z]:[\\/](?!/)|\\\\).+)$")


def shorten_path(word: str) -> str:
    """The last part of an absolute path, also after ``image-folder:`` or ``NAME=``; else the word.

    >>> shorten_path("image-folder:/home/me/images"), shorten_path("hf://owner/name")
    ('image-folder:images', 'hf://owner/name')
    """
    match = _PATH.match(word)
    if match is None:
        return word
    kind = PureWindowsPath if "\\" in match[2] else PurePosixPath
    return match[1] + (kind(match[2]).name or match[2])


def shorten_text(text: str) -> str:
    """A text whose absolute paths, between blanks, quotes and commas, are shortened."""
    return "".join(shorten_path(part) for part in re.split(r"([\s,;'\"()\[\]]+)", text))


def shorten_command(command: str) -> str:
    """A command as typed, with the last part of each absolute path."""
    try:
        words = shlex.split(command)
    except ValueError:  # a manifest of someone else
        return shorten_text(command)
    return shlex.join(",".join(map(shorten_path, word.split(","))) for word in words)


def shorten_names(names: Iterable[str]) -> dict[str, str]:
    """Names that are paths, and their last part; of two with the same, the last two.

    >>> shorten_names(["models/mine", "/nets/net.py:build", "robustbench:Linf/Wang2023", "resnet"])
    {'models/mine': 'mine', '/nets/net.py:build': 'net.py:build'}
    """
    all_names = [*dict.fromkeys(names)]
    found = [name for name in all_names if "/" in name and ":" not in name.partition("/")[0]]
    paths = {name: PurePosixPath(name) for name in found}
    last = [path.name for path in paths.values()] + [n for n in all_names if n not in paths]
    return {
        name: path.name if last.count(path.name) == 1 else "/".join(path.parts[-2:])
        for name, path in paths.items()
    }


def shorten_models(manifest: Mapping[str, Any]) -> dict[str, str]:
    """The models of a run that are named by an absolute path, and their last part."""
    models = manifest.get("models")
    entries = models.values() if isinstance(models, Mapping) else ()
    names = (str(one.get("name", "")) for one in entries if isinstance(one, Mapping))
    return absolute_only(shorten_names(names))


def absolute_only(short: Mapping[str, str]) -> dict[str, str]:
    """The entries for absolute paths, which are replaced wherever they stand on a page."""
    return {name: last for name, last in short.items() if name.startswith("/")}


def list_config(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The entries of a manifest that determine the result."""
    fixed = {name: value for name, value in manifest.items() if name not in CIRCUMSTANCES}
    entries = [(name, value) for name, value in flatten(fixed) if value not in (None, {}, [])]
    return [(name, shorten(shorten_text(str(v)), 200, placeholder=" ...")) for name, v in entries]


def describe_environment(manifest: Mapping[str, Any]) -> str:
    """Versions, machine and start of a run, for the footer of a page."""
    values = dict(flatten(manifest))
    names = [name for name in FOOTER_KEYS if values.get(name)]
    return ", ".join(f"{name.rpartition('.')[2]} {values[name]}" for name in names)


def describe_reproduction(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The command of a run, what it needs to give the same, and what to cite."""
    values = dict(flatten(manifest))
    command, version = str(manifest.get("command") or ""), values.get("versions.scoreag")
    shown = shorten_command(command)
    versions = {
        "scoreag": version, "torch": values.get("versions.torch"),
        "algorithm": manifest.get("algorithm"), "seed": manifest.get("seed"),
    }  # fmt: skip
    return {
        "command": shown,
        "is_shortened": shlex.split(shown) != _split(command),
        "needs": ", ".join(f"{name} {v}" for name, v in versions.items() if v is not None),
        "citations": (("The paper", PAPER), ("This software", cite_software(version))),
    }


def cite_software(version: Any) -> str:
    """A BibTeX entry of this version of the package."""
    return SOFTWARE.format(version=version or "unknown")


def _split(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return [command]
