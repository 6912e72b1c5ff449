"""A classifier is known by its answers as well: what it says of two pictures, up to rounding."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

import tiny
from scoreag.classifiers.normalized import wrap_classifier
from scoreag.diffusion.parameterizations import Preconditioned, edm
from scoreag.io.manifest import changed_classifiers, probes_differ
from scoreag.methods.run_task import run_task
from scoreag.models.identity import (
    model_identity,
    probe_classifier,
    probe_images,
    probe_score_model,
    score_model_digest,
    tensors_sha256,
)

LIKE = torch.zeros(1, *tiny.SHAPE)


class Own(nn.Module):
    """Normalizes inside; ``kind`` says where the numbers are that a state dict leaves out."""

    def __init__(self, kind, mean, draws=0.0):
        super().__init__()
        self.net, self.kind, self.draws = tiny.victim().module, kind, draws
        if kind == "buffer":
            self.register_buffer("mean", torch.tensor(mean), persistent=False)
        else:
            self.mean = mean

    def forward(self, x):
        drawn = self.draws * torch.randn(len(x), 3)
        return self.net(x - self.mean) + drawn


def own(*given):
    return wrap_classifier(Own(*given).eval())


@pytest.fixture
def short(job):
    return job.select(range(4))


@pytest.mark.parametrize("kind", ["buffer", "attribute"])
def test_a_corrected_classifier_is_another_run(short, tmp_path, kind):
    run_task(replace(short, classifier=own(kind, 0.5)), tmp_path, batch_size=4)
    with pytest.raises(ValueError, match=r"classifier.*was|the classifier answers otherwise"):
        run_task(replace(short, classifier=own(kind, 0.0)), tmp_path, batch_size=4)
    run_task(replace(short, classifier=own(kind, 0.5)), tmp_path, batch_size=4)


def other_family(prior):
    return replace(prior, model=Preconditioned(prior.model.network, edm(sigma_data=0.25)))


class Code(nn.Module):
    """A denoiser of someone's code, with a number that no weights hold."""

    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, x, sigma, labels=None):
        return x / (1 + sigma**2) + self.by


@pytest.mark.parametrize(
    "change, told",
    [
        (other_family, r"models\.score-model\.family was"),
        (lambda prior: replace(prior, sigma_data=0.25), r"score-model\.sigma_data was 0\.5 and"),
        (lambda prior: replace(prior, metadata={"options": {"heads": 2}}), r"options\.heads was"),
    ],
    ids=["family", "sigma_data", "options"],
)
def test_a_score_model_whose_card_is_corrected_is_another_run(short, tmp_path, change, told):
    run_task(short, tmp_path, batch_size=4)
    with pytest.raises(ValueError, match=told):
        run_task(replace(short, prior=change(short.prior)), tmp_path, batch_size=4)
    run_task(short, tmp_path, batch_size=4)
    assert score_model_digest(change(short.prior)) != score_model_digest(short.prior)


def test_a_score_model_of_code_that_changed_is_another_run(short, tmp_path):
    one, other = (replace(short.prior, model=Code(by).eval()) for by in (0.0, 0.05))
    run_task(replace(short, prior=one), tmp_path, batch_size=4)
    with pytest.raises(ValueError, match="the score-model answers otherwise than when it was"):
        run_task(replace(short, prior=other), tmp_path, batch_size=4)
    run_task(replace(short, prior=one), tmp_path, batch_size=4)
    assert score_model_digest(one) != score_model_digest(other)
    assert probe_score_model(short.prior) == {}  # of ours, the weights and the card say all


def test_a_corrected_judge_is_another_run(short, tmp_path):
    run_task(replace(short, judge=own("attribute", 0.5)), tmp_path, batch_size=4)
    with pytest.raises(ValueError, match="the judge answers otherwise than when it was begun"):
        run_task(replace(short, judge=own("attribute", 0.0)), tmp_path, batch_size=4)


def test_a_buffer_that_is_not_persistent_is_part_of_the_digest():
    one, other = (model_identity(own("buffer", mean), {})["sha256"] for mean in (0.5, 0.0))
    assert one != other
    plain = tiny.victim()  # all of whose buffers are in its state dict
    assert model_identity(plain, {})["sha256"] == tensors_sha256(plain.state_dict())


@pytest.mark.parametrize("spread", [1e-6, 1e-4, 0.01, 1.0])
def test_a_classifier_that_draws_is_itself(short, tmp_path, spread):
    for _ in range(6):
        run_task(replace(short, classifier=own("attribute", 0.5, spread)), tmp_path, batch_size=4)


def test_a_coin_is_seen_to_be_one():
    """A classifier that takes one of two networks: no two calls need to differ."""

    class Coin(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :3] * (1 + torch.randint(2, ()))

    torch.manual_seed(0)
    told = [probe_classifier(Coin().eval(), LIKE) for _ in range(20)]
    assert sum(one is not None for one in told) <= 2


def test_the_callers_random_numbers_stay():
    drawing = own("attribute", 0.5, 1.0)
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    probe_classifier(drawing, LIKE)
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize("off, told", [(1e-4, False), (3e-4, False), (0.05, True), (1.0, True)])
def test_rounding_is_no_change_and_more_is_one(off, told):
    was = probe_classifier(tiny.victim(), LIKE)
    now = [[value + off for value in row] for row in was]
    assert probes_differ(was, now) == told


@pytest.mark.parametrize("table", [None, "logits", [], [["x"]], [[1.0]], {"a": 1}])
def test_what_is_no_table_is_a_change_unless_nothing_was_kept(table):
    was = probe_classifier(tiny.victim(), LIKE)
    assert probes_differ(table, was) == (table is not None)
    now = {"probe": {"classifier": was, "judge": was}}
    assert changed_classifiers({"probe": {"classifier": was, "judge": table}}, now) == [
        "judge"
    ] * probes_differ(table, was)
    assert not changed_classifiers({}, now) and not changed_classifiers({"probe": {}}, now)


def test_the_pictures_are_eight_bit_ones_and_differ():
    first, second = probe_images(LIKE)
    for one in (first, second):
        assert one.min() >= 0 and one.max() <= 1 and len(one.unique()) > 50
        assert torch.equal((one * 255).round() / 255, one)
    assert not torch.equal(first, second)


def test_a_classifier_of_many_classes_keeps_few_numbers():
    wide = nn.Sequential(nn.Flatten(), nn.Linear(192, 1000)).eval()
    assert [len(row) for row in probe_classifier(wide, LIKE)] == [32, 32]


def test_one_that_takes_no_two_images_is_not_asked():
    class One(nn.Module):
        def forward(self, x):
            assert len(x) == 4
            return x.flatten(1)[:, :3]

    assert probe_classifier(One().eval(), LIKE) is None


PROGRAM = """
import sys, torch
sys.path[:0] = sys.argv[1:3]
torch.set_num_threads(int(sys.argv[3]))
import tiny
from scoreag.models.identity import probe_classifier
print(probe_classifier(tiny.victim(), torch.zeros(1, *tiny.SHAPE)))
"""


def test_another_process_with_more_threads_says_the_same():
    import ast

    paths = [os.path.dirname(tiny.__file__), tiny.ENVIRONMENT["PYTHONPATH"]]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *paths, "2"], capture_output=True, text=True, check=True
    )
    theirs = ast.literal_eval(done.stdout)
    assert not probes_differ(theirs, probe_classifier(tiny.victim(), LIKE))
