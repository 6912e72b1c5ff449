import pytest

from assess.worlds_of_plans import write_world


@pytest.fixture(autouse=True)
def alone(one_thread):
    """One thread, as assessments have."""


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def world(made, monkeypatch):
    """The folder of that world, in which the plan's words are found; it is not changed."""
    monkeypatch.chdir(made)
    return made
