"""A defense draws for images: in every task, wherever it is inside of the classifier.

What comes of an image does not depend on the batch that it is computed in, on the order of the
images, on who computes the others, or on what the defense was asked before.
"""

from dataclasses import replace

import pytest
import torch
from torch import nn

import scoreag
import tiny
from scoreag.certify.generator_risk import GeneratorSpec, classify_draws
from scoreag.certify.smoothing import SmoothingConfig, certify_image, denoised_smoothing
from scoreag.classifiers.gradient_masking import BpdaView, GradientMasked
from scoreag.classifiers.normalized import NormalizedClassifier
from scoreag.classifiers.rejection import WithDetector
from scoreag.core.batching import (
    PADDING_ID,
    BatchContext,
    current_batch,
    select_rows,
    tile_rows,
    use_batch,
)
from scoreag.defenses.purified_classifier import PurifiedClassifier
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.prior import Prior
from scoreag.diffusion.samplers import heun
from scoreag.methods.purification import build_purification
from scoreag.methods.run_batch import run_batch
from scoreag.methods.run_task import run_in_memory, run_task
from scoreag.methods.synthesis import build_synthesis
from scoreag.methods.transformation import build_transformation

pytestmark = pytest.mark.usefixtures("one_thread", "coarse_search")

CHAIN = {"sigma_start": 0.5, "steps": 1}
IDS = (3, 11, 5, 8)  # not their places
KNOWN = {"similarity": 5.0, "attack_scale": 20.0, "steps": 2, "max_restarts": 1}

SEARCHED = {"similarity": 5.0, "attack_scale": "auto", "steps": 2}


def world(dtype: torch.dtype = torch.float64) -> Prior:
    """Pixels of variance 1/4 for every class: faster than a network."""

    def model(x, sigma, labels=None):
        return x / (1 + 4 * sigma**2)

    return Prior(model, heun.sample, karras(3), tiny.SHAPE, tiny.CLASSES, dtype=dtype)


def defended(**options) -> PurifiedClassifier:
    return scoreag.defend(tiny.victim(), world(), "diffpure", **CHAIN | options)


class Behind(nn.Module):
    """A user's module with a defense somewhere in it."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Identity(), nn.Sequential(defended()))

    def forward(self, images):
        return self.layers(images) + self.layers(images.flip(3))


class Copies(nn.Module):
    """The mean over two copies of the batch."""

    def __init__(self):
        super().__init__()
        self.inside = defended()

    def forward(self, images):
        both = torch.cat([images, images.flip(3)])
        return torch.stack(self.inside(both).chunk(2)).mean(0)


def detector(inside) -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    return NormalizedClassifier(tiny.filled(net, 3) if inside is None else inside).eval()


def hidden():
    """A function, whose parts are unknown."""
    inside = defended()
    return lambda images: 2 * inside(images)


KINDS = {
    "plain": tiny.victim,
    "defended": defended,
    "several draws": lambda: defended(draws=2, aggregate="majority"),
    "blind": lambda: defended(backward="none"),
    "replayed": lambda: defended().fix_randomness(3),
    "replayed images": lambda: defended().fix_randomness([3, 1, 4, 1], IDS),
    "nested": lambda: scoreag.defend(
        defended(), world(), "one_step_denoising", draws=2, sigma_start=0.2
    ),
    "normalized": lambda: scoreag.wrap_classifier(defended()),
    "masked": lambda: GradientMasked(defended(), scale=2.0).eval(),
    "unmasked": lambda: NormalizedClassifier(BpdaView(defended())).eval(),
    "guarded": lambda: NormalizedClassifier(WithDetector(defended(), detector(None)).eval()).eval(),
    "module": lambda: Behind().eval(),
    "copies": lambda: Copies().eval(),
    "function": hidden,
}


def images(dtype=torch.float64):
    return tiny.images(len(IDS)).to(dtype) / 255


def of(task: str, kind: str, rows=(0, 1, 2, 3), dtype=torch.float64):
    """The job of some of the images, of a classifier that nobody has asked before."""
    victim, prior = KINDS[kind](), world(dtype)
    ids, labels = [IDS[i] for i in rows], tiny.labels(len(IDS))[list(rows)]
    if kind == "guarded":
        prior = replace(prior, classes=(*prior.classes, "rejected"))
    if kind == "replayed images":
        victim = victim.select_rows(rows)
    given = {"image_ids": ids, "seed": 1}
    if task == "synthesize":
        return build_synthesis(
            tiny_with(prior), victim, labels, "runner_up", **given, **synthesized()
        )
    x = images(dtype)[list(rows)]
    if task in ("transform", "search"):
        options = KNOWN if task == "transform" else SEARCHED
        return build_transformation(prior, victim, x, labels, "runner_up", **given, **options)
    return build_purification(prior, x, victim, labels, **given, steps=2)


def synthesized():
    return {"attack_scale": 20.0, "steps": 3, "max_restarts": 1}


def tiny_with(prior):
    return replace(prior, classes=prior.classes[:3])


def found(job, size):
    """All that is told of each image, computed ``size`` images at a time."""
    return run_in_memory(job, size, False)


def same(one, other):
    """To the last bit, but for the images, which kernels of another batch round otherwise."""
    for name in (
        "image_ids",
        "predictions",
        "clean_predictions",
        "success_float",
        "success",
        "targets",
        "restarts",
        "nfe",
        "attack_scale",
    ):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None) and (a is None or torch.equal(a, b)), name
    assert torch.allclose(one.images, other.images, rtol=0, atol=1e-7)


SOME = ("plain", "defended", "nested", "normalized", "module", "function")
CASES = [("transform", kind) for kind in KINDS]
CASES += [("search", kind) for kind in (*SOME, "several draws", "copies")]
CASES += [(task, kind) for task in ("synthesize", "purify") for kind in SOME]
EVERY = pytest.mark.parametrize("task, kind", CASES)


@EVERY
def test_an_image_does_not_depend_on_the_size_of_the_batch(task, kind):
    whole = found(of(task, kind), 0)
    for size in (1, 3):
        same(found(of(task, kind), size), whole)


@EVERY
def test_an_image_depends_neither_on_the_order_nor_on_the_others(task, kind):
    """In float32, as tasks compute; products in float64 depend on the row with some processors."""
    whole = found(of(task, kind, dtype=torch.float32), 3)
    for rows in ([2, 0, 3, 1], [3]):
        part = found(of(task, kind, rows, torch.float32), 3)
        same(part, whole[rows])
        assert torch.equal(part.images, whole[rows].images)


@EVERY
def test_a_job_computed_again_is_the_same(task, kind):
    """Earlier draws, of this job or of another, change nothing."""
    job = of(task, kind)
    first = run_batch(job, 6)
    with torch.no_grad():
        job.classifier(images())
    again = run_batch(job, 6)
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.predictions, again.predictions)


@pytest.mark.parametrize("kind", ["defended", "nested", "normalized", "module", "function"])
def test_a_resumed_run_gives_the_results_of_an_uninterrupted_one(kind, tmp_path):
    whole, stopped = (tmp_path / name for name in ("whole", "stopped"))
    run_task(of("transform", kind), whole, batch_size=2, write_every=2, progress=False)
    run_task(of("transform", kind), stopped, batch_size=2, write_every=5, progress=False)
    kept = (stopped / "rows.jsonl").read_text().splitlines(keepends=True)
    (stopped / "rows.jsonl").write_text("".join(kept[:2]))
    run_task(of("transform", kind), stopped, batch_size=2, write_every=5, progress=False)
    assert tiny.contents(stopped) == tiny.contents(whole)


@pytest.mark.parametrize("kind", ["defended", "nested", "normalized", "module"])
def test_certificates_do_not_depend_on_the_batch(kind):
    base = denoised_smoothing(world(), KINDS[kind](), 0.25)
    image, plan = tiny.images(1)[0] / 255, SmoothingConfig(n=30, n0=7, alpha=0.01)
    rows = [certify_image(base, image, 4, 0, replace(plan, batch_size=size)) for size in (1, 8, 64)]
    assert (rows[0] == rows[1] == rows[2] and 0 < rows[0]["count"] < 30) or rows[0]["radius"]
    job = replace(of("synthesize", kind), config=replace(of("synthesize", kind).config,
                                                       max_restarts=0))  # fmt: skip
    for asked in (None, defended()):
        question = GeneratorSpec(job, asked)
        one = classify_draws(question, range(4), 4)
        parts = [row for i in range(4) for row in classify_draws(question, range(i, i + 1), 3)]
        assert parts == one


def test_the_final_answer_has_other_draws_than_the_guidance():
    """Else a task would be measured with the draws that its images were optimized for."""
    inside, seen = defended(), []
    replaced = PurifiedClassifier._next_noise

    def noted(self, count):
        noise = replaced(self, count)
        seen.append(noise.row_prefixes)
        return noise

    PurifiedClassifier._next_noise = noted
    try:
        out = scoreag.transform(
            world(), inside, images().float(), tiny.labels(4), progress=False, **KNOWN
        )
        guiding = set(seen)
        inside(out.images)
    finally:
        PurifiedClassifier._next_noise = replaced
    assert guiding and seen[-1] not in guiding


def test_padding_rows_use_no_draws_of_an_image():
    """The last image is shown several times: only the first of these is its own."""
    shown = []

    class Noted(nn.Module):
        def select_rows(self, rows):
            raise AssertionError("it is asked from outside")

        def forward(self, x):
            shown.append(current_batch().image_ids)
            return x.flatten(1)[:, :3]

    victim = nn.Sequential(Noted()).eval()
    job = build_transformation(
        world(), victim, images()[:2].float(), [0, 1], image_ids=[7, 9], attack_scale=0.0, steps=2
    )
    shown.clear()
    run_batch(job, 4)
    for ids in shown:
        assert ids[:2] == (7, 9) and len(set(ids)) == 4 and max(ids[2:]) <= PADDING_ID


def test_a_mismatch_of_rows_is_reported():
    assert tile_rows([1, 2], 0) == ()
    with pytest.raises(ValueError, match="called with 3 images, but has 2 rows"):
        defended().fix_randomness(0, [1, 2])(images().float()[:3])
    with (
        pytest.raises(ValueError, match="called with 3 images, but has 2 rows"),
        use_batch(BatchContext((1, 2))),
    ):
        defended()(images().float()[:3])


def test_a_module_with_a_defense_inside_supports_row_selection():
    """Row 2 alone has the draws that it has among the others."""
    with torch.no_grad():
        whole = scoreag.wrap_classifier(defended())(images())
        alone = select_rows(scoreag.wrap_classifier(defended()), [2])(images()[2:3])
        plain = scoreag.wrap_classifier(defended())(images()[2:3])
    assert torch.allclose(alone, whole[2:3]) and not torch.allclose(plain, whole[2:3])
    assert isinstance(select_rows(tiny.victim(), [2]), NormalizedClassifier)
