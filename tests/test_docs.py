"""The documents say what the files say: no figure is typed, no link is broken."""

import re
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest

from scoreag.registry import component_names, load_attack

ROOT = Path(__file__).parents[1]
PAGES = [
    *ROOT.glob("*.md"),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "benchmarks" / "results").glob("*.md")),
]


@pytest.fixture
def render(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return import_module("render")


def test_results_are_those_of_the_files_that_the_benchmarks_wrote(render):
    for name in render.PAGES:
        assert render.place(name).read_text() == render.render_page(name), name


def test_each_recorded_result_stands_on_one_page_and_two_in_short_on_another(render):
    recorded = {file.stem for file in render.RESULTS.glob("*.json")}
    shown = [file for _, file, _, _ in render.SECTIONS]
    assert sorted(shown) == sorted([*set(shown), "everyday", "speed"])
    assert recorded <= {*shown, *render.ELSEWHERE}


def test_the_page_of_results_can_be_read_in_a_sitting(render):
    assert len(render.place("results").read_text().splitlines()) <= 300


def test_the_table_of_the_readme_is_too(render):
    inside = (ROOT / "README.md").read_text().split(render.BEGIN)[1].split(render.END)[0]
    assert inside == f"\n{render.summary(render.RESULTS)}"


def test_the_table_of_public_models_is_too(render):
    text = (ROOT / "docs" / "models.md").read_text()
    assert text == import_module("render_models").page(render.RESULTS, text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_to_one(page):
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


def told(value) -> str:
    """A default as the page writes it: 8/255, linf, 0.5, 2."""
    ball = isinstance(value, float) and value == 8 / 255
    return "8/255" if ball else f"{value:g}" if isinstance(value, float | int) else str(value)


@pytest.mark.parametrize("name", component_names("attacks"))
def test_the_page_of_attacks_has_each_with_its_defaults(name):
    text = (ROOT / "docs" / "attacks.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
    given = {f.name: f.default for f in fields(load_attack(name)) if f.compare}
    for option, default in given.items():
        shown = option if default in (None, ()) else f"{option} {told(default)}"
        assert shown in line


def test_the_readme_names_the_two_commands():
    text = (ROOT / "README.md").read_text()
    assert "make demo" in text and "make test" in text


REMARKS = sorted((ROOT / "benchmarks" / "remarks").glob("*.md"))
AIMS = {"models": ["91.5 %", "94 %", "95 %", "70 %", "40 %"], "defaults": ["100 %", "100 %"]}


@pytest.mark.parametrize("path", REMARKS, ids=lambda path: path.stem)
def test_remarks_take_their_numbers_from_recorded_results(path):
    """Outside of expressions there is no share and no decimal, but the aims."""
    prose = re.sub(r"\{[{%].*?[%}]\}", "", path.read_text(), flags=re.DOTALL)
    prose = prose.replace("L2\n  radius of 0.25", "")  # the radius that a looked-up share is of
    typed = re.findall(r"\d+(?:\.\d+)? ?%|\d+ of \d+|\d+\.\d+|\bin ten [^f]|\bof ten\b", prose)
    assert typed == AIMS.get(path.stem, [])
