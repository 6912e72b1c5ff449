"""The public functions: what they refuse, and that results do not depend on how work is cut."""

import inspect
import math
import re
import subprocess
import sys
from base64 import b64decode
from dataclasses import replace
from io import BytesIO

import pytest
import torch
from PIL import Image
from torch import nn

import scoreag
import tiny
from scoreag.diffusion.networks import unet
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.parameterizations import Preconditioned, edm
from scoreag.diffusion.prior import Prior
from scoreag.diffusion.samplers import heun
from scoreag.methods.run_batch import escalate_attack_scale
from scoreag.methods.task import IDS_PER_CLASS, validate_labels

QUICK = {"steps": 3, "sigma_start": 2.0, "progress": False}
NAMES = ("cat", "dog", "ship")


def randomized(module: nn.Module) -> nn.Module:
    """Layers that start at zero would hide what they compute."""
    source = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=source)
    return module.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def prior() -> Prior:
    network = unet.build(
        image_shape=(3, 8, 8), classes=3, channels=16, multipliers=(1, 2), attention_at=(2,)
    )
    model = randomized(Preconditioned(network, edm()))
    return Prior(model, heun.sample, karras(3), (3, 8, 8), classes=NAMES)


@pytest.fixture(scope="module")
def victim() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3))
    return randomized(net)


@pytest.fixture
def images():
    return torch.rand(7, 3, 8, 8, generator=torch.Generator().manual_seed(1))


LABELS = [0, 1, 2, 0, 1, 2, 0]


def test_a_synthesised_image_does_not_depend_on_which_others_are_asked_for(prior, victim):
    whole = scoreag.synthesize(prior, victim, [0, 0, 1, 1, 2, 2, 2], batch_size=4, **QUICK)
    alone = scoreag.synthesize(prior, victim, [2, 2, 2], batch_size=4, **QUICK)
    assert alone.image_ids.tolist() == [2 * IDS_PER_CLASS + i for i in range(3)]
    assert torch.equal(whole[4:].images, alone.images)


def test_a_transformed_image_does_not_depend_on_how_the_work_is_cut(prior, victim, images):
    whole = scoreag.transform(prior, victim, images, LABELS, batch_size=4, **QUICK)
    tail = scoreag.transform(
        prior, victim, images[4:], LABELS[4:], image_ids=[4, 5, 6], batch_size=4, **QUICK
    )
    assert torch.equal(whole[4:].images, tail.images)


def test_without_a_micro_batch_images_agree_to_rounding(prior, victim, images):
    fixed, free = (
        scoreag.transform(prior, victim, images, LABELS, batch_size=size, **QUICK).images
        for size in (4, 0)
    )
    assert (fixed - free).abs().max() < 1 / 255


def test_the_global_random_state_is_not_touched(prior, victim, images):
    before = torch.get_rng_state()
    scoreag.transform(prior, victim, images, LABELS, **QUICK)
    scoreag.synthesize(prior, victim, [0], target="random", **QUICK)
    scoreag.purify(prior, images, **QUICK)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_everything_runs_in_the_dtype_of_the_images(dtype, prior, victim, images):
    images = images.to(dtype)
    out = scoreag.transform(prior, victim, images, LABELS, **QUICK)
    defended = scoreag.defend(victim, prior, steps=3, sigma_start=2.0)
    assert out.images.dtype == dtype
    assert scoreag.purify(prior, images, **QUICK).images.dtype == dtype
    assert defended(images).dtype == dtype


def test_double_precision_is_more_than_a_label(prior, victim, images):
    """A float32 network inside would leave errors of 1e-7 between the two."""
    single = scoreag.purify(prior, images, **QUICK).images
    double = scoreag.purify(prior, images.double(), **QUICK).images
    jittered = scoreag.purify(prior, images.double() + 1e-12, **QUICK).images
    assert 0 < (double - jittered).abs().max() < 1e-9
    assert (single - double).abs().max() < 1e-3


def test_success_says_what_it_says(prior, victim, images):
    out = scoreag.transform(prior, victim, images, LABELS, attack_scale=30.0, **QUICK)
    labels = torch.tensor(LABELS)
    saved = (out.images * 255).round() / 255
    assert torch.equal(out.clean_predictions, victim(images).argmax(1))
    assert torch.equal(out.success_float, victim(out.images).argmax(1) != labels)
    assert torch.equal(out.success, victim(saved).argmax(1) != labels)
    assert torch.equal(out.targeted_success, victim(saved).argmax(1) == out.targets)


class Bounded(torch.nn.Module):
    """A prior whose chain is no number any more where guidance has carried a pixel too far."""

    def __init__(self, model, most):
        super().__init__()
        self.model, self.max_bytes = model, most

    def forward(self, x, sigma, labels=None):
        said = self.model(x, sigma, labels)
        far = x.flatten(1).abs().amax(1) > self.max_bytes
        return torch.where(far.view(-1, 1, 1, 1), torch.nan, said)


@pytest.mark.parametrize("task", ["transform", "synthesize"])
def test_an_image_whose_retries_explode_is_kept_as_it_was(prior, victim, images, task):
    """Of 2000 retries the strength doubles until no float holds it."""
    given = (images, LABELS) if task == "transform" else (LABELS,)
    settings = {**QUICK, "attack_scale": 1e-3}
    run = getattr(scoreag, task)
    once = run(prior, victim, *given, max_restarts=0, **settings)
    fragile = replace(prior, model=Bounded(prior.model, 10.0).eval())
    out = run(fragile, victim, *given, max_restarts=2000, **settings)
    failed = ~out.success
    assert (failed & ~once.success).any() and out.images.isfinite().all()
    kept = failed & (out.restarts == 0)
    assert torch.equal(out.images[kept], once.images[kept])
    assert (out.nfe[failed] > once.nfe[failed]).all()
    assert torch.equal(out.images[once.success], once.images[once.success])


def test_a_first_draw_that_explodes_is_refused_still(prior, victim, images):
    broken = replace(prior, model=Bounded(prior.model, 0.0).eval())
    with pytest.raises(ValueError, match="the chain exploded"):
        scoreag.transform(broken, victim, images, LABELS, attack_scale=9.0, max_restarts=3, **QUICK)
    with pytest.raises(ValueError, match=r"the chain exploded: .* at attack_scale auto"):
        scoreag.transform(broken, victim, images, LABELS, **QUICK)


def test_the_strength_of_a_retry_ends_where_numbers_do():
    assert [escalate_attack_scale(3.0, n) for n in (0, 1, 10)] == [3.0, 6.0, 3072.0]
    assert (
        math.isfinite(escalate_attack_scale(1e10, 5000))
        and escalate_attack_scale(1e10, 5000) > 1e300
    )


def test_retries_double_the_strength_of_the_failures_alone(prior, victim, images):
    once = scoreag.transform(prior, victim, images, LABELS, attack_scale=0.01, **QUICK)
    again = scoreag.transform(
        prior, victim, images, LABELS, attack_scale=0.01, max_restarts=2, **QUICK
    )
    failed = ~once.success
    assert failed.any()
    assert (again.restarts > 0).tolist() == failed.tolist()
    kept = ~failed
    assert torch.equal(again.images[kept], once.images[kept])
    harder = scoreag.transform(prior, victim, images, LABELS, attack_scale=0.04, **QUICK)
    last = failed & (again.restarts == 2)
    assert (again.images[last] - harder.images[last]).abs().max() < 1e-4  # rounding alone
    assert (again.nfe[last] == 3 * once.nfe[last]).all()


class Watched:
    """A classifier that is told which rows of its batch it is shown, and keeps what it saw."""

    def __init__(self, victim, seen, rows=None):
        self.victim, self.seen, self.rows = victim, seen, rows

    def __call__(self, images):
        rows = self.rows or range(len(images))
        self.seen.append((list(rows), images.detach().clone()))
        return self.victim(images)

    def select_rows(self, rows):
        return Watched(self.victim, self.seen, [self.rows[i] if self.rows else i for i in rows])


def test_who_draws_for_each_image_is_told_which_ones_are_tried_again(prior, victim, images):
    """Images hardly move, so each is known by the one that it lies next to."""
    seen = []
    settings = {
        **QUICK,
        "sigma_start": 0.2,
        "attack_scale": 0.01,
        "max_restarts": 1,
        "batch_size": 7,
    }
    out = scoreag.transform(prior, Watched(victim, seen), images, LABELS, **settings)
    failed = (out.restarts > 0).nonzero().flatten().tolist()
    assert 0 < len(failed) < len(images)
    again = [(rows, shown) for rows, shown in seen if rows != sorted(rows)]
    assert again
    for rows, shown in again:
        nearest = torch.cdist(shown.flatten(1), images.flatten(1)).argmin(1).tolist()
        assert rows[: len(failed)] == nearest[: len(failed)] == failed
        assert sorted(rows) == list(range(7))  # beside them stand those that succeeded


def test_logits_that_are_no_numbers_on_drawn_images_alone_are_refused(prior, images):
    """Of NaN the likeliest class is the first: images of class 0 would seem to be read right."""

    def broken(shown):
        known = bool(shown.std() == 0) or any(torch.equal(shown, images[:n]) for n in (1, 3))
        logits = shown.flatten(1)[:, :3] - 0.4
        return logits if known else logits / 0

    with pytest.raises(ValueError, match=r"NaN or infinity for 3 of 3 images \(ids 0, 1, 2\)"):
        scoreag.synthesize(prior, broken, [0, 0, 0], attack_scale=0.0, **QUICK)
    with pytest.raises(ValueError, match=r"NaN or infinity for 3 of 3 images"):
        scoreag.purify(prior, images[:3], classifier=broken, labels=[0, 0, 0], **QUICK)


def test_the_networks_see_a_micro_batch_of_one_size_also_when_they_try_again(prior, victim, images):
    """Equality of images could hold by luck; what the kernels are given is the promise."""
    sizes = set()

    def model(x, sigma, labels=None):
        sizes.add(len(x))
        return prior.model(x, sigma, labels)

    watched = replace(prior, model=model)
    out = scoreag.transform(
        watched, victim, images, LABELS, attack_scale=0.01, max_restarts=2, batch_size=4, **QUICK
    )
    assert out.restarts.any() and sizes == {4}


def test_an_unguided_draw_is_not_tried_again(prior, victim):
    out = scoreag.synthesize(prior, victim, [0, 1, 2], attack_scale=0.0, max_restarts=2, **QUICK)
    assert not out.restarts.any() and len(set(out.nfe.tolist())) == 1


def test_inference_mode_around_a_call_does_not_matter(prior, victim, images):
    defended = scoreag.defend(victim, prior, steps=3, sigma_start=2.0).fix_randomness(0)
    plain = scoreag.transform(prior, victim, images, LABELS, **QUICK).images, defended(images)
    with torch.inference_mode():
        again = scoreag.transform(prior, victim, images.clone(), LABELS, **QUICK).images
        assert torch.equal(again, plain[0])
        assert torch.equal(defended(images.clone()), plain[1])


def test_results_of_different_seeds_are_not_joined(prior, victim, images):
    parts = [scoreag.transform(prior, victim, images, LABELS, seed=s, **QUICK) for s in (0, 1)]
    with pytest.raises(ValueError, match="results of different seed"):
        scoreag.Result.cat(parts)


def test_results_can_be_indexed_and_joined(prior, victim, images):
    out = scoreag.transform(prior, victim, images, LABELS, **QUICK)
    parts = [out[:3], out[3], out[torch.arange(7) > 3]]
    joined = scoreag.Result.cat(parts)
    assert [len(part) for part in parts] == [3, 1, 3]
    assert torch.equal(joined.images, out.images) and torch.equal(joined.targets, out.targets)
    assert out.to_grid(4).size == (4 * 8 + 3 * 2, 2 * 8 + 2)


class Softmax(nn.Sequential):
    def forward(self, images):
        return super().forward(images).softmax(1)


class NoGrad(nn.Sequential):
    @torch.no_grad()
    def forward(self, images):
        return super().forward(images)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda p, v, x: scoreag.transform(p, v, x + 1, LABELS), r"\[0, 1\]"),
        (lambda p, v, x: scoreag.transform(p, v, x * torch.nan, LABELS), "NaN"),
        (
            lambda p, v, x: scoreag.transform(p, v, x[:, :1], LABELS),
            "1 x 8 x 8; the model takes 3 x 8 x 8",
        ),
        (lambda p, v, x: scoreag.transform(p, v, x[..., :4], LABELS), "3 x 8 x 4"),
        (lambda p, v, x: scoreag.transform(p, v, x, [0, 1, 2]), "3 labels for 7 images"),
        (lambda p, v, x: scoreag.transform(p, v, x, [3] * 7), r"expected 0\.\.2"),
        (lambda p, v, x: scoreag.transform(p, v, x, LABELS, LABELS), "target equals the label 0"),
        (
            lambda p, v, x: scoreag.transform(p, v, x, LABELS, "thrid"),
            "there are: runner_up, random, none, cat",
        ),
        (
            lambda p, v, x: scoreag.transform(p, Softmax(v).eval(), x, LABELS),
            "leave out its last softmax",
        ),
        (lambda p, v, x: scoreag.transform(p, v.train(), x, LABELS), r"\.eval\(\)"),
        (lambda p, v, x: scoreag.synthesize(p, v, [0.5]), "expected whole numbers"),
        (lambda p, v, x: scoreag.synthesize(p, v, []), "no images"),
        (lambda p, v, x: scoreag.transform(p, v, x[:0], []), "no images"),
        (lambda p, v, x: scoreag.transform(p, v, x, None), "have no labels"),
        (lambda p, v, x: scoreag.synthesize(p, v, [[1, 0, 0]]), "one class per image"),
        (lambda p, v, x: scoreag.transform(p, v, x, LABELS, 12), "target classes from 12 to 12"),
        (lambda p, v, x: scoreag.transform(p, NoGrad(v).eval(), x, LABELS), "no gradient"),
        (
            lambda p, v, x: scoreag.transform(p, v[:3].eval(), x, LABELS),
            "the classifier has 288 classes",
        ),
        (lambda p, v, x: scoreag.transform(p, v[:2].eval(), x, LABELS), "expected logits"),
        (lambda p, v, x: scoreag.transform(p, v[2:].eval(), x, LABELS), "cannot take images"),
        (lambda p, v, x: scoreag.transform(p, v, x, LABELS, seed=-1), "seed is -1"),
        (
            lambda p, v, x: scoreag.purify(p, x[:2], image_ids=torch.tensor([0, 0])),
            "1 different image ids for 2 images",
        ),
    ],
)
def test_a_slip_is_refused_at_the_door(call, message, prior, victim, images):
    with pytest.raises(ValueError, match=message) as caught:
        call(prior, victim, images)
    victim.eval()
    assert "\n" not in str(caught.value)


def test_a_model_without_classes_cannot_be_asked_for_one(prior, victim):
    with pytest.raises(ValueError, match="has no classes"):
        scoreag.synthesize(replace(prior, classes=()), victim, [0])


def test_none_is_no_class_to_aim_at_also_as_a_word(prior, victim, images):
    found = [
        scoreag.transform(prior, victim, images, LABELS, target=word, **QUICK).images
        for word in (None, "none")
    ]
    assert torch.equal(*found)


def test_a_class_name_is_a_target(prior, victim, images):
    by_name, by_number = (
        scoreag.transform(prior, victim, images[:2], [0, 1], target=target, **QUICK)
        for target in ("ship", 2)
    )
    assert by_name.targets.tolist() == [2, 2]
    assert torch.equal(by_name.images, by_number.images)


def test_the_attack_scale_of_an_image_is_the_one_that_made_it(prior, victim, images):
    settings = {**QUICK, "attack_scale": 0.01, "max_restarts": 2}
    out = scoreag.transform(prior, victim, images, LABELS, **settings)
    assert out.attack_scale.tolist() == [0.01 * 2**n for n in out.restarts.tolist()]
    assert len(set(out.restarts.tolist())) > 1
    assert scoreag.purify(prior, images, **QUICK).attack_scale is None


def test_a_purification_says_what_a_classifier_says_before_and_after(prior, victim, images):
    out = scoreag.purify(prior, images, victim, LABELS, **QUICK)
    saved = (out.images * 255).round() / 255
    assert torch.equal(out.predictions, victim(saved).argmax(1))
    assert torch.equal(out.clean_predictions, victim(images).argmax(1))
    assert torch.equal(out.success, out.predictions != torch.tensor(LABELS))
    assert torch.equal(out.images, scoreag.purify(prior, images, **QUICK).images)


def made_result(count=3):
    """Of three images two fooled the classifier, and one reached its target."""
    return scoreag.Result(
        task="transform",
        images=torch.linspace(0, 1, count * 12).view(count, 3, 2, 2),
        image_ids=torch.arange(count),
        nfe=torch.full((count,), 4),
        restarts=torch.zeros(count, dtype=torch.int64),
        guidance_skipped=torch.zeros(count, dtype=torch.int64),
        success=torch.tensor([True, True, False])[:count],
        targeted_success=torch.tensor([False, True, False])[:count],
    )


def test_a_result_is_one_line_with_counts():
    assert repr(made_result()) == (
        "Result(transform: 3 images of 3 x 2 x 2, 2 of 3 fooled the classifier, "
        "1 of 3 reached their target)"
    )


def test_a_notebook_shows_a_result_as_its_line_and_a_grid():
    html = made_result()._repr_html_()
    data = re.search(r'src="data:image/png;base64,([^"]+)"', html)[1]
    picture = Image.open(BytesIO(b64decode(data)))
    assert "2 of 3 fooled the classifier" in html
    assert picture.size == made_result().to_grid().size == (3 * 2 + 2 * 2, 2)
    assert made_result()[:0]._repr_html_().count("<img") == 0


def test_a_table_of_a_result_has_a_row_an_image_and_no_pixels():
    pandas = pytest.importorskip("pandas")
    table = made_result().to_pandas()
    assert isinstance(table, pandas.DataFrame) and table["success"].tolist() == [True, True, False]
    assert {"image_ids", "nfe"} <= {*table.columns} and "images" not in table.columns


def test_without_pandas_a_table_is_one_line_of_advice(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'scoreag[pandas]'")):
        made_result().to_pandas()


@pytest.mark.parametrize(
    "function, word, message",
    [
        (
            "transform",
            "strength",
            "transform takes no option 'strength'; did you mean 'attack_scale'",
        ),
        ("transform", "wrong", "did you mean 'target'"),
        ("transform", "targets", "did you mean 'target'"),
        ("transform", "eps", "transform takes no option 'eps'; did you mean 'similarity'"),
        ("transform", "epsilon", "did you mean 'similarity'"),
        ("synthesize", "num_inference_steps", "did you mean 'steps'"),
        ("synthesize", "micro_batch", "did you mean 'batch_size'"),
        ("synthesize", "similarity", "there is no image to stay close to; leave similarity out"),
        ("purify", "attack_scale", "no classifier guides it; leave attack_scale out"),
        ("purify", "precision", "did you mean 'similarity'"),
        ("defend", "vote", "did you mean 'aggregate'"),
        ("defend", "eot_samples", "did you mean 'draws'"),
        ("defend", "batch_size", "did you mean 'max_memory'"),
        ("defend", "strenght", "defend takes no option 'strenght'; there are: classifier, prior"),
    ],
)
def test_a_foreign_or_old_word_is_answered_with_the_right_one(function, word, message):
    with pytest.raises(ValueError, match=message) as caught:
        getattr(scoreag, function)(**{word: 1})
    assert isinstance(caught.value, TypeError) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["synthesize", "transform", "purify", "defend"])
def test_every_argument_is_in_the_signature_and_explained(name):
    function = getattr(scoreag, name)
    parameters = inspect.signature(function).parameters.values()
    assert all(p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in parameters)
    arguments = inspect.getdoc(function).partition("Args:")[2].partition("Raises:")[0]
    explained = re.findall(r"^    (\w+): \S", arguments, re.MULTILINE)
    assert sorted(explained) == sorted(p.name for p in parameters)


def test_the_public_names_are_there_and_attacks_among_them():
    assert all(getattr(scoreag, name) is not None for name in scoreag.__all__)
    assert scoreag.attacks.PGD(eps=0.1).eps == 0.1


SCRIPT = """
import torch
import scoreag
from scoreag.attacks.apgd import APGD

prior = scoreag.load_prior("cifar10")
classifier = scoreag.load_classifier("cifar10-resnet20", device="cpu")
other = scoreag.wrap_classifier(torch.nn.Identity(), mean=(0.5,), std=(0.5,))
images, labels = scoreag.load_data("cifar10:test[0:8]")
made: scoreag.Result = scoreag.synthesize(prior, classifier, [3, 5], target="runner_up", seed=0)
near = scoreag.transform(prior, classifier, images, labels, attack_scale=20.0, steps=8)
clean = scoreag.purify(prior, near.images, classifier, labels, sampler="heun")
defense: scoreag.PurifiedClassifier = scoreag.defend(classifier, prior, "gap", draws=4)
adversarial: torch.Tensor = APGD(eps=8 / 255, norm="Linf")(defense, images, labels, seed=0)
noise = scoreag.Noise(seed=0, image_ids=range(8)).fold_in("mine")
both = scoreag.Result.cat([near[:4], near[4:]])
both.save("out", overwrite=True)
print(both, len(both), both.success, both.to_grid(4).size, other, noise, adversarial, clean)
"""


@pytest.mark.slow
def test_a_user_s_script_is_strictly_typed(tmp_path):
    """And a wrong type in it is found, so that the names are not all of no type."""
    pytest.importorskip("mypy")
    script = tmp_path / "script.py"
    words = ["-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir", tmp_path, script]
    environment = {**tiny.ENVIRONMENT, "MYPYPATH": tiny.ENVIRONMENT["PYTHONPATH"]}

    def errors(text):
        script.write_text(text)
        done = subprocess.run(
            [sys.executable, *map(str, words)], capture_output=True, text=True, env=environment
        )
        return [line for line in done.stdout.splitlines() if "error:" in line]

    assert errors(SCRIPT) == []
    assert (
        len(errors(SCRIPT + 'scoreag.transform(prior, classifier, images, labels, seed="a")')) == 1
    )


def test_a_result_is_iterated_row_by_row_and_ends():
    out = scoreag.purify(tiny.prior(), tiny.images(2), steps=1, progress=False)
    assert [len(one) for one in out] == [1, 1]
    assert torch.equal(out[-1].images, out.images[1:]) and len(out[2:]) == 0
    for row in (2, -3):
        with pytest.raises(IndexError, match=f"row {row} of a result of 2 images"):
            out[row]


@pytest.mark.parametrize("old, new", [("classifier", "wrap_classifier"), ("data", "load_data")])
def test_a_name_of_version_0_1_is_answered_with_the_new_one(old, new):
    with pytest.raises(AttributeError, match=f"scoreag.{old} is now scoreag.{new}$"):
        scoreag.__getattr__(old)


@pytest.mark.parametrize(
    "labels, told",
    [
        (torch.tensor([[0], [1]]), r"shape \(2, 1\); .*: write labels\[:, 0\]$"),
        (torch.eye(3)[:2].long(), r"shape \(2, 3\); .*: write labels\.argmax\(1\)$"),
        (torch.tensor([[0, 1]]), r"shape \(1, 2\); expected one class per image$"),
        (torch.tensor([0.0, 1.0]), r"expected whole numbers 0\.\.2: write labels\.long\(\)"),
        ([1, 3], r"from 1 to 3; expected 0\.\.2: write labels - 1 if they count from 1$"),
    ],
)
def test_labels_of_another_form_get_what_to_write(labels, told):
    with pytest.raises(ValueError, match=told):
        validate_labels(labels, 2, 3)


def test_a_prior_and_loaded_data_are_one_line(tmp_path):
    prior = scoreag.load_prior(tiny.write_score_model(tmp_path / "prior"), "cpu")
    assert repr(prior) == "Prior(tiny: images of 3 x 8 x 8, 3 classes, on cpu)"
    loaded = scoreag.load_data(tiny.write_images(tmp_path / "pets", 4))
    assert repr(loaded.dataset) == f"Dataset(4 x 3 x 8 x 8; {loaded.dataset.summary})"
    assert repr(loaded).startswith("(images, labels): 4 x 3 x 8 x 8, in [0, 1]; image-folder:pets")


def test_accuracies_of_a_result_are_shares_of_all_images():
    victim, labels = tiny.victim(), tiny.labels(5)
    images = (tiny.images(5) / 255).float()
    result = scoreag.attack(scoreag.attacks.PGD(eps=0.3, steps=2), victim, images, labels)
    right = [int(victim(x[None]).argmax()) == int(y) for x, y in zip(images, labels, strict=True)]
    assert result.clean_accuracy == sum(right) / 5
    saved = (result.images * 255).round() / 255
    read = [int(victim(x[None]).argmax()) == int(y) for x, y in zip(saved, labels, strict=True)]
    assert result.accuracy == sum(read) / 5
    assert replace(result, labels=None).accuracy is None
    assert (~result.success & torch.tensor(right)).sum() / 5 == pytest.approx(result.accuracy)
