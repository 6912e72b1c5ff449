"""A run on a real cluster of Ray, of which a worker is killed."""

import os
import subprocess
import sys

import pytest
import torch

import tiny
from scoreag.classifiers.normalized import wrap_classifier
from scoreag.io.ray_tasks import RayOptions
from scoreag.methods.purification import build_purification
from scoreag.methods.run_task import run_task

DEADLY = '''
"""A classifier that once, in another process than the test's, kills that process."""
import os
import signal

from torch import nn


class Deadly(nn.Module):
    def __init__(self, network, own, mark):
        super().__init__()
        self.network, self.own, self.mark = network, own, mark

    def forward(self, x):
        if os.getpid() != self.own:
            try:
                os.close(os.open(self.mark, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return self.network(x)
            os.kill(os.getpid(), signal.SIGKILL)
        return self.network(x)
'''


@pytest.mark.slow
def test_a_killed_worker_changes_no_byte(tmp_path, monkeypatch):
    (tmp_path / "deadly_classifier.py").write_text(DEADLY)
    monkeypatch.syspath_prepend(tmp_path)
    import deadly_classifier

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    mark = tmp_path / "killed"
    network = deadly_classifier.Deadly(tiny.victim(), os.getpid(), str(mark))
    job = build_purification(
        tiny.prior(), tiny.images(12), wrap_classifier(network.eval()), tiny.labels(12)
    )
    options = {"write_every": 4, "batch_size": 4, "picture_format": "webdataset"}
    try:
        run_task(job, tmp_path / "sent", ray=RayOptions("local", 2), **options)
        assert mark.exists()
        run_task(job, tmp_path / "alone", **options)
    finally:
        torch.set_num_threads(before)
        sys.modules.pop("deadly_classifier", None)
    assert tiny.contents(tmp_path / "sent") == tiny.contents(tmp_path / "alone")


CERTIFY = """
import pickle, sys
from ray import cloudpickle
import scoreag.certify.run as run
from scoreag.cli.app import main

def elsewhere(function, shared, tasks, options):
    data = cloudpickle.dumps((function, shared))
    for key, argument in [*tasks][::-1]:
        one, common = cloudpickle.loads(data)
        yield key, one(common, pickle.loads(pickle.dumps(argument)))

run.run_on_ray = elsewhere
votes = ["--data", "image-folder:images", "--n", "20", "--n0", "10", "--alpha", "0.05"]
commands = {
    "noise": ["--model", "prior", *votes],
    "blur": ["--transform", "blur", *votes],
    "generator": ["--model", "prior", "--generative", "--per-class", "4", "--steps", "2"],
}
for name, words in commands.items():
    for out, more in (("alone", []), ("sent", ["--ray", "local"])):
        common = ["--classifier", "net", "--quiet", "--out", f"{name}-{out}"]
        assert main(["certify", *words, *common, *more]) == 0, (name, out)
"""


@pytest.mark.slow
def test_certificates_can_be_sent_to_workers(tmp_path):
    """In a process without the type checks of tests, which wrap functions so that none is sent."""
    tiny.write_score_model(tmp_path / "prior")
    tiny.write_classifier(tmp_path / "net")
    tiny.write_images(tmp_path / "images", 4)
    subprocess.run([sys.executable, "-c", CERTIFY], cwd=tmp_path, env=tiny.ENVIRONMENT, check=True)
    for name in ("noise", "blur", "generator"):
        alone, sent = (tiny.contents(tmp_path / f"{name}-{out}") for out in ("alone", "sent"))
        assert alone == sent and "rows.jsonl" in alone
