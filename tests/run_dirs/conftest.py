"""Networks this small are slowed down by threads, not sped up."""

import shutil

import pytest
import torch

import tiny
from scoreag.methods.run_task import run_task
from scoreag.methods.transformation import build_transformation


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def job():
    """Ten images, of which some are fooled, some at the second try, some not at all."""
    prior, victim = tiny.prior(), tiny.victim()
    return build_transformation(
        prior, victim, tiny.images(10), tiny.labels(10), image_ids=range(20, 30)
    )


@pytest.fixture(scope="session")
def finished(job, tmp_path_factory):
    """The folder of that job, done in micro-batches of four."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    run_task(job, folder, write_every=4, batch_size=4)
    torch.set_num_threads(before)
    return folder


@pytest.fixture
def run(finished, tmp_path):
    """A copy of it, to be changed."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"
