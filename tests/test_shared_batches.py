"""Images of several batches share batches once some are finished: same bits, fewer calls."""

import json
from dataclasses import replace

import pytest
import torch

import scoreag
import tiny
from scoreag.diffusion.parameterizations import Preconditioned
from scoreag.methods.run_task import run_task
from scoreag.methods.transformation import build_transformation

COUNT, SIZE, STEPS = 7, 2, 3
OPTIONS = {"steps": STEPS, "sampler": "euler", "progress": False}
WAYS = {"restarts": {"max_restarts": 3, "attack_scale": 4.0}, "search": {"attack_scale": "auto"}}


class Counted(torch.nn.Module):
    """A score model that notes how many images each call has."""

    def __init__(self, model: Preconditioned) -> None:
        super().__init__()
        self.model, self.sizes = model, []

    def forward(self, x, sigma, labels=None):
        self.sizes.append(len(x))
        return self.model(x, sigma, labels)


def transformed(prior, victim, rows, **options):
    rows = list(rows)
    return scoreag.transform(
        prior, victim, tiny.images(COUNT)[rows], tiny.labels(COUNT)[rows], image_ids=rows,
        batch_size=SIZE, similarity=10.0, **OPTIONS, **options,
    )  # fmt: skip


@pytest.mark.usefixtures("coarse_search")
@pytest.mark.parametrize("behind", [None, "one_step_denoising"])
@pytest.mark.parametrize("way", WAYS)
def test_an_image_does_not_depend_on_what_shares_its_batches(way, behind):
    prior = tiny.prior()
    victim = tiny.victim()
    if behind:
        victim = scoreag.defend(victim, prior, behind)
    rows = range(3 if behind and way == "search" else COUNT)
    together = transformed(prior, victim, rows, **WAYS[way])
    apart = [transformed(prior, victim, [i], **WAYS[way]) for i in rows]
    apart = scoreag.methods.result.Result.cat(apart)
    for name in ("images", "nfe", "restarts", "attack_scale", "predictions", "targets"):
        assert torch.equal(getattr(together, name), getattr(apart, name)), name
    assert len(set(together.restarts.tolist())) > 1  # else nothing was shared


@pytest.mark.parametrize("way", WAYS)
def test_every_batch_is_full_but_the_last_of_each_round(way):
    prior = tiny.prior()
    counted = Counted(prior.model)
    out = transformed(replace(prior, model=counted), tiny.victim(), range(COUNT), **WAYS[way])
    samples = out.restarts + 1
    rounds = [int((samples > tries).sum()) for tries in range(int(samples.max()))]
    assert set(counted.sizes) == {SIZE}
    assert len(counted.sizes) == STEPS * sum(-(-left // SIZE) for left in rounds)
    cut = [int(part.max()) for part in samples.split(SIZE)]
    assert len(counted.sizes) < STEPS * sum(cut)  # what batches cost that each run to their end


def test_an_interrupted_run_keeps_the_images_that_were_written(tmp_path):
    task = build_transformation(
        tiny.prior(), tiny.victim(), tiny.images(COUNT), tiny.labels(COUNT), similarity=10.0,
        steps=STEPS, **WAYS["restarts"],
    )  # fmt: skip
    run_task(task, tmp_path / "whole", write_every=4, batch_size=SIZE, progress=False)
    calls = []

    def interrupted(*inputs):
        calls.append(1)
        if len(calls) > 8:
            raise KeyboardInterrupt
        return task.sample(*inputs)

    with pytest.raises(KeyboardInterrupt):
        run_task(replace(task, sample=interrupted), tmp_path / "cut", write_every=4,
                 batch_size=SIZE, progress=False)  # fmt: skip
    assert (tmp_path / "cut" / "rows.jsonl").exists()
    run_task(task, tmp_path / "cut", write_every=3, batch_size=SIZE, progress=False)
    assert tiny.contents(tmp_path / "cut") == tiny.contents(tmp_path / "whole")


def test_pixels_of_8_bits_stay_until_their_batch_is_computed(tmp_path):
    """A task holds a byte a value, and its run is that of the floats, to the last bit."""
    pixels, labels = tiny.images(COUNT), tiny.labels(COUNT)
    ready = (pixels / 255).float()
    for name, given in (("bytes", pixels.to(torch.uint8)), ("floats", ready)):
        seen = []

        def sample(part, config, noise, kept=seen):
            kept.append(part.images)
            return scoreag.methods.transformation.sample_task(part, config, noise)

        task = build_transformation(
            tiny.prior(), tiny.victim(), given, labels, steps=1, max_restarts=0, attack_scale=4.0
        )
        assert task.images is not None and task.images.dtype == given.dtype
        run_task(replace(task, sample=sample), tmp_path / name, batch_size=SIZE, progress=False)
        assert torch.equal(torch.cat(seen)[:COUNT], ready)
    assert tiny.contents(tmp_path / "bytes") == tiny.contents(tmp_path / "floats")
    digests = [
        json.loads((tmp_path / name / "manifest.json").read_text())["data"]["rows_sha256"]
        for name in ("bytes", "floats")
    ]
    assert digests[0] == digests[1]
