"""A worker that is killed in the middle of a shard, a process or an actor of Ray: rows are those
of one process that nobody harmed."""

import os

import pytest

import tiny
from assess.killing import contents, start
from assess.worlds_of_plans import write_world
from scoreag.models.model_cards import load_card, update_card

DEADLY = '''
"""An attack that, once in its folder, kills the process which computes it."""
import os
import signal
from dataclasses import dataclass


@dataclass(frozen=True)
class Deadly:
    length: float = 0.1

    def run(self, classifier, images, labels, noise):
        try:
            os.close(os.open("killed", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return (images + self.length * images.std(1, keepdim=True)).clamp(0, 1)
        os.kill(os.getpid(), signal.SIGKILL)
'''
PLAN = """\
description = "a test"
images = 16
batch_size = 4

[datasets.tiny]
data = "image-folder:images"
prior = "prior"
classifiers = ["net", "other"]

[attacks.pgd]
eps = "8/255"
steps = 2

[attacks.deadly]
attack = "of_ours.deadly"
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = write_world(tmp_path_factory.mktemp("world"))
    tiny.write_images(folder / "images", 16)
    (folder / "plan.toml").write_text(PLAN)
    (folder / "of_ours").mkdir()
    (folder / "of_ours" / "__init__.py").touch()
    (folder / "of_ours" / "deadly.py").write_text(DEADLY)
    (folder / "of_ours" / "nets.py").write_text(
        "from scoreag.classifiers.networks.small_cnn import build\n"
    )
    update_card(
        load_card(folder / "net"), network="of_ours.nets:build"
    )  # all workers are to trust it
    return folder


def finished(process):
    _, told = process.communicate()
    return process.returncode, told.decode()


@pytest.fixture(scope="module")
def alone(world):
    """What one process finds that nobody kills."""
    (world / "killed").touch()
    code, told = finished(start("alone", 4, world, "--trust-code"))
    assert code == 0, told
    return contents(world / "alone")


@pytest.mark.parametrize(
    "crew", [["--workers", "2"], ["--ray", "local", "--workers", "2"]], ids=str
)
def test_rows_are_the_same_when_a_worker_is_killed_in_the_middle(world, alone, crew):
    if "--ray" in crew:
        pytest.importorskip("ray", reason="no ray for this Python")
    (world / "killed").unlink(missing_ok=True)
    out = f"out{len(crew)}"
    if "--ray" in crew and (os.cpu_count() or 1) < 2:
        pytest.skip("two actors of Ray want two processors")
    code, told = finished(start(out, 4, world, "--trust-code", *crew))
    assert code == 0, told
    assert (world / "killed").exists()  # one worker died in the middle of a shard
    rows, pictures = contents(world / out)
    assert sum(map(len, rows.values())) == 16 * 5 and rows == alone[0] and pictures == alone[1]
