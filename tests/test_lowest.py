"""What is declared as the lowest release of a dependency is what is tested."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def lines(name):
    return [line for line in (ROOT / name).read_text().splitlines() if line[:1] not in ("", "#")]


def pins(name):
    """The releases of a file; tomli_w and tomli-w, Jinja2 and jinja2 are one name."""
    found = dict(line.split("==") for line in lines(name))
    return {package.lower().replace("_", "-"): release for package, release in found.items()}


def declared():
    """The lower bound of each dependency; each must have one, and nothing else."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = [re.fullmatch(r"([a-z0-9-]+)>=([\d.]+)", one) for one in project["dependencies"]]
    assert all(found), project["dependencies"]
    return {one[1]: numbers(one[2]) for one in found}


def numbers(version):
    """3.8 and 3.8.0 are the same release."""
    return tuple(int(part) for part in version.split(".")) + (0,) * (2 - version.count("."))


def test_the_lowest_releases_are_those_that_are_declared():
    pinned = pins("constraints-lowest.txt")
    assert {name: numbers(version) for name, version in pinned.items()} == declared()


def test_what_is_tested_in_full_is_no_lower():
    tested = pins("constraints.txt")
    assert all(numbers(tested[name]) >= lowest for name, lowest in declared().items())


def test_make_tests_what_there_is():
    (paths,) = re.findall(
        r"^LOWEST_TESTS := ((?:.*\\\n)*.*)$", (ROOT / "Makefile").read_text(), re.M
    )
    words = paths.replace("\\", " ").split()
    assert len(words) > 10 and all((ROOT / word).exists() for word in words)
