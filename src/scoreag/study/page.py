"""The page of a study: one HTML file with its images, style and scripts, and no request."""

import base64
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from scoreag.study.design import QUESTIONS, Study
from scoreag.study.lists import is_asked, trial_order

SCRIPTS = ("sha256.js", "trials.js", "answers.js", "enlarge.js", "screens.js", "main.js")
TEXT_NAMES = ("consent", "debrief", "withdrawal")
MAX_BYTES = 5_000_000
SECONDS_PER_TRIAL = 4
PLACEHOLDER = re.compile(r"\[\[[^\[\]]+\]\]")
_SHOWN = (  # entries of the manifest that the page needs; others would give answers away
    "study", "title", "design", "classes", "lists", "repeats", "practice", "minimal_ms",
    "enlargement", "completion_code",
)  # fmt: skip
_ENVIRONMENT = Environment(
    loader=PackageLoader("scoreag.study", "page"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def default_texts() -> dict[str, str]:
    """The texts of a new study, with placeholders to fill."""
    folder = files("scoreag.study") / "texts"
    return {name: (folder / f"{name}.txt").read_text("utf-8") for name in TEXT_NAMES}


def find_placeholders(texts: Mapping[str, str]) -> list[str]:
    """What the texts still leave open."""
    return list(dict.fromkeys(m for text in texts.values() for m in PLACEHOLDER.findall(text)))


def read_script(name: str) -> str:
    """A script of the page."""
    return (files("scoreag.study") / "page" / name).read_text("utf-8")


def render_study(study: Study, texts: Mapping[str, str]) -> str:
    """The page of a study with these texts.

    Raises:
        ValueError: it is larger than a page may be.
    """
    manifest = study.manifest
    page = _ENVIRONMENT.get_template("study.html.jinja").render(
        title=manifest["title"],
        texts={name: to_markup(text) for name, text in texts.items()},
        unfilled=find_placeholders(texts),
        data=Markup(_script_json(page_data(study))),
        style=Markup(read_script("style.css")),
        scripts=[Markup(read_script(name)) for name in SCRIPTS],
    )
    if (size := len(page.encode())) > MAX_BYTES:
        raise ValueError(
            f"the page would have {size / 1e6:.1f} MB, more than {MAX_BYTES / 1e6:.0f} MB; give "
            "fewer --images-per-condition, or fewer --conditions"
        )
    return page


def page_data(study: Study) -> dict[str, Any]:
    """What the page knows: images, lists and the answers of practice, and no condition."""
    manifest = study.manifest
    images = list(dict.fromkeys(study.pngs))  # each once
    number = {png: i for i, png in enumerate(images)}
    items = []
    for item, png in zip(manifest["items"], study.pngs, strict=True):
        entry = {"item": item["item"], "image": number[png]}
        if item["purpose"] == "practice":
            entry["right"] = item["right"]
        if item["pair"] is not None:
            entry |= {name: item[name] for name in ("label", "pair", "side")}
        items.append(entry)
    checks = [i["item"] for i in manifest["items"] if i["purpose"] == "check" and is_asked(i)]
    n_trials = len(trial_order(manifest, "", 0))
    return {
        **{name: manifest[name] for name in _SHOWN},
        "question": QUESTIONS[manifest["design"]],
        "minutes": max(1, round(n_trials * SECONDS_PER_TRIAL / 60)),
        "items": items,
        "check_items": checks,
        "images": [base64.b64encode(png).decode() for png in images],
    }


def to_markup(text: str) -> Markup:
    """Paragraphs of plain text as HTML; placeholders are marked."""
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text.strip())]
    return Markup("\n").join(_mark(part) for part in paragraphs if part)


def _mark(paragraph: str) -> Markup:
    marked = PLACEHOLDER.sub(lambda m: f"<mark>{m[0]}</mark>", str(escape(paragraph)))
    return Markup(f"<p>{marked}</p>")


def _script_json(value: Any) -> str:
    """JSON that can stand inside of a script element."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
