"""Every public function with every wrong kind of thing in place of each argument: one line.

In a process of its own, for tests check types before anything else does.
"""

import json
import subprocess
import sys

import pytest

import tiny

SWEEP = """
import json, sys, warnings
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import numpy as np, torch
import scoreag, tiny
from scoreag.attacks import pgd
from scoreag.core.rng import Noise

warnings.simplefilter("ignore")
torch.set_num_threads(1)
prior, victim = tiny.prior(), tiny.victim()
images, labels = tiny.images(2) / 255, tiny.labels(2)
quick = {"steps": 1, "progress": False}
guided = {**quick, "max_restarts": 0}


class Loader:
    def __iter__(self):
        return iter([(images, labels)])


WRONG = {
    "word": "cifar10", "path": Path("no/such"), "list": [images], "dict": {"a": 1}, "none": None,
    "object": object(), "number": 2.5, "below": -3, "array": np.zeros((2, 2)),
    "tensor": torch.zeros(2, 5), "empty": torch.zeros(0), "module": victim.module, "prior": prior,
    "class": torch.nn.Linear, "function": lambda x: x, "loader": Loader(), "bytes": b"x",
    "noise": Noise(0, [0, 1]), "bool": True, "device": torch.device("cpu"), "dtype": torch.float16,
    "nan": float("nan"),
}
CALLS = {
    "transform": (scoreag.transform, dict(
        prior=prior, classifier=victim, images=images, labels=labels, target="runner_up", seed=0,
        image_ids=[0, 1], batch_size=2, **guided)),
    "synthesize": (scoreag.synthesize, dict(
        prior=prior, classifier=victim, labels=[0, 1], target="runner_up", seed=0, image_ids=[0, 1],
        batch_size=2, **guided)),
    "purify": (scoreag.purify, dict(
        prior=prior, images=images, seed=0, image_ids=[0, 1], batch_size=2, **quick)),
    "defend": (scoreag.defend, dict(
        classifier=victim, prior=prior, purifier="gap", seed=0, draws=1, aggregate="mean",
        backward="exact", max_memory="1 GiB", bf16=False, steps=1)),
    "classifier": (scoreag.wrap_classifier, dict(
        module=victim.module, mean=(0.5,), std=(0.5,), metadata={}, image_shape=(3, 8, 8))),
    "load_classifier": (scoreag.load_classifier, dict(
        name=sys.argv[2], device="cpu", mean=None, std=None, network=None, config=None)),
    "load_prior": (scoreag.load_prior, dict(name=sys.argv[3], device="cpu")),
    "data": (scoreag.load_data, dict(spec="fashion-mnist:sample", data_dir=None)),
    "pgd": (pgd.PGD(steps=1), dict(
        classifier=victim, images=images, labels=labels, seed=0, image_ids=[0, 1])),
}
found = {}
for name, (function, given) in CALLS.items():
    for argument in given:
        for kind, thing in WRONG.items():
            if (name, kind) == ("data", "word"):
                continue  # no mistake: it would be fetched
            try:
                function(**{**given, argument: thing})
                told = "taken"
            except ValueError as error:
                told = str(error)
            except Exception as error:
                told = f"!! {type(error).__name__}: {error}"
            found[f"{name} {argument} {kind}"] = told
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What is said to each, by function, argument and kind."""
    folder = tmp_path_factory.mktemp("doors")
    cards = tiny.write_classifier(folder / "net"), tiny.write_score_model(folder / "model")
    words = [sys.executable, "-c", SWEEP, str(tiny.__file__).rpartition("/")[0], *map(str, cards)]
    done = subprocess.run(words, capture_output=True, text=True, env=tiny.ENVIRONMENT, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_nothing_ends_in_an_error_of_another_library(told):
    assert {where: said for where, said in told.items() if said.startswith("!!")} == {}


def test_every_answer_is_one_short_line(told):
    long = {where: said for where, said in told.items() if "\n" in said or len(said) > 500}
    assert long == {}


@pytest.mark.parametrize(
    "where, said",
    [
        ("classifier module word", "write scoreag.load_classifier(...)"),
        ("classifier module prior", "a score model, a Prior; give a classifier"),
        ("classifier module class", "the class Linear; expected an instance of it"),
        (
            "classifier module function",
            "a torch.nn.Module; tasks, attacks and defend take",
        ),
        (
            "load_classifier name module",
            "for a module write scoreag.wrap_classifier(module, mean, std)",
        ),
        ("load_classifier name prior", "which is loaded already; use it"),
        ("load_classifier name array", "expected the name or the path of a classifier"),
        ("load_prior name module", "expected the name or the path of a score model"),
        ("load_prior device number", "the device is 2.5; write auto, cpu, cuda, or cuda:0"),
        ("load_prior device device", "taken"),
        ("pgd classifier tensor", "is a tensor; write attack(classifier, images, labels), in this"),
        ("transform prior word", "the prior is 'cifar10'; write scoreag.load_prior(...)"),
        ("transform prior module", "and the classifier in the classifier's place"),
        ("transform classifier word", "write scoreag.load_classifier(...)"),
        ("transform classifier prior", "tasks take (prior, classifier, ...)"),
        ("transform images word", "write images, labels = scoreag.load_data(...)"),
        ("transform images array", "write torch.as_tensor(images)"),
        ("transform images loader", "images are a Loader; expected a tensor"),
        ("transform batch_size word", "batch_size is 'cifar10'; expected 1 or more"),
        ("purify images list", "images are a list; expected a tensor: write torch.as_tensor"),
        ("defend classifier prior", "defend takes (classifier, prior, ...)"),
        ("defend purifier number", "the purifier is 2.5; write one such as 'gap'"),
        ("data spec list", "expected a word or a path, such as 'cifar10:test'"),
        ("data spec tensor", "a tensor of images is given to tasks and attacks as it is"),
        ("pgd classifier word", "write scoreag.load_classifier(...)"),
        ("pgd seed number", "seed is 2.5; expected a whole number, 0 or more"),
        ("pgd seed noise", "seed is a Noise; expected a whole number, 0 or more"),
        ("pgd image_ids word", "image ids are 'cifar10'; expected whole numbers"),
    ],
)
def test_the_function_that_is_meant_is_named(told, where, said):
    assert said in told[where]
