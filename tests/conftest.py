"""Fixtures for everyone; the worlds themselves are in worlds.py."""

import importlib
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from assess.worlds_of_plans import write_world
from scoreag.methods.scale_search import SEARCHES
from worlds import Gaussian, TwoClasses


@pytest.fixture
def in_double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Networks this small are slowed down by threads; and another number rounds otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def world(in_double_precision) -> Gaussian:
    """Three kinds of coordinate, to be repeated along a last axis: shape (3, 1)."""
    mean = torch.tensor([[0.3], [-0.2], [0.0]])
    return Gaussian(mean, var=torch.tensor([[0.25], [0.04], [1.0]]))


@pytest.fixture
def two_classes(in_double_precision) -> TwoClasses:
    """Images of one channel and 4 x 4 pixels around +0.4 (class 1) and -0.4 (class 0)."""
    return TwoClasses(torch.full((1, 4, 4), 0.4))


@pytest.fixture(scope="session")
def plans_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models, images, and a plan over them; see assess/worlds_of_plans.py."""
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def planned(plans_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder as the working directory, in which the plan's words are found."""
    monkeypatch.chdir(plans_folder)
    return plans_folder


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A folder that cannot be written; root, whom no mode stops, is somebody else meanwhile."""
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    root = os.geteuid() == 0
    if root:
        for above in (tmp_path, *tmp_path.parents[:3]):  # made by pytest for its owner alone
            above.chmod(0o755)
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def browser_benchmark(monkeypatch):
    """A script of benchmarks that drives Chromium, by its name; a test is skipped without it."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")

    def load(name):
        module = importlib.import_module(name)
        if importlib.util.find_spec("playwright") is None or not module.find_chromium():
            pytest.skip("playwright or Chromium is missing: the page is not tested in a browser")
        return module

    return load


@pytest.fixture
def coarse_search(monkeypatch):
    """Fewer tries of fewer draws, where it matters who shares a batch alone."""
    coarse = replace(SEARCHES["attack_scale"], most=1e3, precision=3.0, draws=4)
    monkeypatch.setitem(SEARCHES, "attack_scale", coarse)
