"""A classifier sees images of the colours that it is normalised for."""

import copy
import hashlib
import pickle
import struct
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import scoreag
import tiny
from scoreag import load_classifier, load_prior, synthesize
from scoreag.attacks import pgd
from scoreag.classifiers import checks
from scoreag.classifiers.checks import outputs_match
from scoreag.classifiers.diagnose import diagnose
from scoreag.classifiers.gradient_masking import StraightThrough
from scoreag.classifiers.normalized import NormalizedClassifier
from scoreag.methods.run_task import build_manifest
from scoreag.methods.transformation import build_transformation
from scoreag.models.identity import tensors_sha256
from scoreag.models.loading import PARAMETERIZATIONS


def test_grey_images_are_not_shown_as_three_colours():
    victim = NormalizedClassifier(nn.Flatten(), (0.4, 0.5, 0.6), (0.2, 0.2, 0.2)).eval()
    assert victim(torch.zeros(1, 3, 2, 2)).shape == (1, 12)
    with pytest.raises(ValueError, match="normalized with 3 numbers, one a color, and the images"):
        victim(torch.zeros(1, 1, 2, 2))


def test_one_number_is_for_all_colours():
    victim = NormalizedClassifier(nn.Flatten(), (0.5,), (0.5,)).eval()
    assert victim(torch.ones(1, 3, 1, 1)).tolist() == [[1.0, 1.0, 1.0]]


def test_a_classifier_of_colour_images_is_not_attacked_with_grey_ones():
    prior, known = load_prior("fashion-small"), load_classifier("cifar10-resnet20")
    with pytest.raises(ValueError, match=r"of images of 3 x 32 x 32, and these are 1 x 28 x 28"):
        synthesize(prior, known, [0])
    of_any_size = NormalizedClassifier(known.module, known.mean, known.std).eval()
    with pytest.raises(ValueError, match=r"cannot take images of \(1, 28, 28\): it is normalized"):
        synthesize(prior, of_any_size, [0])


def images(dtype=torch.float32):
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).to(dtype)


class Casts(nn.Module):
    """As deployed models do: its input becomes what its weights are."""

    def __init__(self, dtype):
        super().__init__()
        self.inside, self.dtype = copy.deepcopy(tiny.victim().module).to(dtype), dtype

    def forward(self, x):
        return self.inside(x.to(self.dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_a_module_that_casts_its_images_itself_keeps_its_weights(dtype):
    module = Casts(dtype).eval()
    victim = scoreag.wrap_classifier(module)
    logits = victim(images())
    assert logits.dtype == torch.float32 and victim.casts_input
    assert torch.equal(logits, module(images()).float())
    leaf = images().requires_grad_()
    victim(leaf).sum().backward()
    assert leaf.grad.abs().sum() > 0 and all(p.dtype == dtype for p in module.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_weights_work_in_every_verb(dtype, tmp_path):
    """In the images' precision: as the same weights, widened."""
    module = copy.deepcopy(tiny.victim().module).to(dtype)
    half = scoreag.wrap_classifier(module)
    wide = scoreag.wrap_classifier(copy.deepcopy(module).float())
    assert torch.equal(half(images()), wide(images()))
    given = {"steps": 2, "progress": False}
    out = scoreag.transform(tiny.prior(), half, images(), [0, 1], **given)
    same = scoreag.transform(tiny.prior(), wide, images(), [0, 1], **given)
    assert torch.equal(out.images, same.images)
    out.save(tmp_path / "run")
    job = build_transformation(tiny.prior(), half, images(), [0, 1], steps=2)
    assert len(build_manifest(job, {}, 2, 2)["models"]["classifier"]["sha256"]) == 64
    assert torch.isfinite(scoreag.defend(half, tiny.prior(), steps=1)(images())).all()


def test_a_digest_is_that_of_the_bytes_in_any_dtype():
    """float32 as before; bfloat16, which numpy does not know, is not that of another one."""
    numbers = torch.tensor([1.0, 2.5])
    known = hashlib.sha256(b"a torch.float32 (2,)\n" + struct.pack("<2f", 1.0, 2.5)).hexdigest()
    assert tensors_sha256({"a": numbers}) == known
    half = hashlib.sha256(b"a torch.bfloat16 (2,)\n" + bytes.fromhex("803f2040")).hexdigest()
    assert tensors_sha256({"a": numbers.bfloat16()}) == half
    assert tensors_sha256({"a": torch.tensor(3)}) != tensors_sha256({"a": torch.tensor(4)})


def test_what_fails_otherwise_is_told_in_its_own_words():
    class Odd(nn.Module):
        def forward(self, x):
            raise RuntimeError("this dtype is not what I want")

    with pytest.raises(RuntimeError, match="this dtype is not what I want"):
        NormalizedClassifier(Odd()).eval()(images())


def test_converted_weights_are_kept_until_they_change(monkeypatch):
    """Also where they change in place, or become other tensors."""
    victim = tiny.victim()
    first = victim(images(torch.float64))
    kept = victim.weight_cache.value
    assert victim(images(torch.float64)).equal(first) and victim.weight_cache.value is kept
    weight = next(victim.module.parameters())
    with torch.no_grad():
        weight.mul_(2)
    changed = victim(images(torch.float64))
    assert victim.weight_cache.value is not kept and not torch.allclose(changed, first)
    assert torch.allclose(changed.float(), victim(images()), atol=1e-5)
    weight.data = weight.data / 2
    assert torch.allclose(victim(images(torch.float64)), first)
    for other in (copy.deepcopy(victim), pickle.loads(pickle.dumps(victim))):
        assert other.weight_cache.value is None and other(images(torch.float64)).equal(first)


def test_weights_converted_in_inference_mode_have_gradients_later():
    victim = tiny.victim()
    with torch.inference_mode():
        victim(images(torch.float64))
    leaf = images(torch.float64).requires_grad_()
    victim(leaf).sum().backward()
    assert leaf.grad.abs().sum() > 0


def test_a_prior_is_converted_once_and_again_when_its_weights_change():
    prior = tiny.prior()
    double = prior.to(torch.float64)
    assert prior.to(torch.float64).model is double.model and double.dtype == torch.float64
    assert prior.to(torch.float32).model is prior.model
    other = replace(prior, model=copy.deepcopy(prior.model))
    assert other.to(torch.float64).model is not double.model
    with torch.no_grad():
        next(prior.model.parameters()).add_(1)
    again = prior.to(torch.float64)
    assert again.model is not double.model
    pairs = zip(again.model.parameters(), prior.model.parameters(), strict=True)
    assert all(torch.equal(a.float(), b) for a, b in pairs)


@pytest.mark.filterwarnings("ignore")
def test_wrappers_are_taken_off_and_programs_of_torch_jit_work():
    bare = tiny.victim().module
    program = torch.jit.trace(bare, images())
    for module in (
        nn.DataParallel(bare),
        program,
        nn.Sequential(program),
        nn.DataParallel(program),
    ):
        victim = scoreag.wrap_classifier(module.eval())
        assert torch.allclose(victim(images()), bare(images()), atol=1e-5)
        leaf = images(torch.float64).requires_grad_()
        logits = victim(leaf)
        logits.sum().backward()
        assert logits.dtype == torch.float64 and leaf.grad.abs().sum() > 0
    assert scoreag.wrap_classifier(nn.DataParallel(bare)).module is bare


class Saving(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside = tiny.victim().module

    def forward(self, x):
        return checkpoint(self.inside, x, use_reentrant=True)


@pytest.mark.parametrize(
    "call",
    [
        lambda v, x: scoreag.transform(tiny.prior(), v, x, [0, 1], progress=False),
        lambda v, x: scoreag.synthesize(tiny.prior(), v, [0, 1], progress=False),
        lambda v, x: scoreag.defend(v, tiny.prior(), steps=1),
        lambda v, x: pgd.PGD(steps=1)(v, x, [0, 1], seed=0),
    ],
    ids=["transform", "synthesize", "defend", "attack"],
)
@pytest.mark.filterwarnings("ignore")  # torch's own, where no gradient is asked for
def test_a_reentrant_checkpoint_is_refused_before_any_work(call):
    with pytest.raises(
        ValueError, match=r"use_reentrant=True, .*write use_reentrant=False"
    ) as told:
        call(scoreag.wrap_classifier(Saving().eval()), images())
    assert "\n" not in str(told.value)
    data = (images() * 255).to(torch.uint8)
    found = {f.check: f for f in diagnose(scoreag.wrap_classifier(Saving().eval()), data, None)}
    assert found["gradient"].ok is False and "use_reentrant=False" in found["gradient"].message


def rounded(x):
    return (x * 255).round() / 255


class Camera(nn.Module):
    def __init__(self, step):
        super().__init__()
        self.step, self.inside = step, tiny.victim().module

    def forward(self, x):
        return self.inside(self.step(x))


def test_a_gradient_that_is_zero_everywhere_is_told_and_bpda_is_the_way_out(capsys):
    blind, seeing = (Camera(step).eval() for step in (rounded, StraightThrough(rounded)))
    assert torch.allclose(blind(images()), seeing(images()), atol=1e-5)
    leaf = images().requires_grad_()
    seeing(leaf)[:, 0].sum().backward()
    point = rounded(images()).requires_grad_()
    seeing.inside(point)[:, 0].sum().backward()
    assert torch.allclose(leaf.grad, point.grad, atol=1e-6)
    given = {"steps": 1, "max_restarts": 0, "progress": False}
    for call in (
        lambda v, **more: scoreag.transform(tiny.prior(), v, images(), [0, 1], **given, **more),
        lambda v, **more: scoreag.synthesize(tiny.prior(), v, [0, 1], **given, **more),
    ):
        with pytest.warns(UserWarning, match="a gradient of zero everywhere .*StraightThrough"):
            call(blind)
        with warnings.catch_warnings(action="error"):
            call(seeing)
            call(blind, attack_scale=0.0)  # nothing is guided
    data = (images() * 255).to(torch.uint8)
    found = [diagnose(scoreag.wrap_classifier(v), data, None) for v in (blind, seeing)]
    assert [f.ok for each in found for f in each if f.check == "gradient"] == [False, True]


def test_a_gradient_is_looked_for_where_the_sum_of_logits_is_constant():
    net = tiny.victim().module

    def centred(x):
        return net(x) - net(x).mean(1, keepdim=True)

    leaf = images().requires_grad_()
    assert checks.diagnose_gradient(centred(leaf), leaf) == ""
    assert checks.diagnose_gradient(net(leaf.detach()).requires_grad_(), leaf) == checks.NO_GRADIENT


def test_a_classifier_of_another_size_is_refused_in_one_line():
    """A network that takes any size would say something of images that it has never seen."""
    prior = tiny.prior()
    known = scoreag.wrap_classifier(
        nn.Sequential(nn.Conv2d(3, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval(),
        image_shape=(3, 32, 32),
    )
    given = {"progress": False, "steps": 1}
    for call in (
        lambda: scoreag.synthesize(prior, known, [0], **given),
        lambda: scoreag.transform(prior, known, images(), [0, 1], **given),
        lambda: scoreag.defend(known, prior, steps=1),
        lambda: pgd.PGD(steps=1)(known, images(), [0, 1], seed=0),
    ):
        with pytest.raises(ValueError, match="of images of 3 x 32 x 32, and"):
            call()


@pytest.mark.parametrize("device", [torch.device("cpu"), "cpu", "cpu:0", "auto"], ids=str)
def test_a_device_is_a_word_or_one_of_torch(device, tmp_path):
    tiny.write_classifier(tmp_path / "net")
    tiny.write_score_model(tmp_path / "model")
    assert load_classifier(tmp_path / "net", device)(images()).shape == (2, 3)
    assert load_prior(tmp_path / "model", device).sigmas.dtype == torch.float64


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    "device, told",
    [
        ("cuda:1", "device 'cuda:1', but torch sees no GPU here"),
        (torch.device("cuda", 1), "device 'cuda:1', but torch sees no GPU here"),
        ("mps", "device 'mps', but torch sees no GPU of Apple's here"),
        ("tpu", "no device 'tpu'; there are: auto, cpu, cuda, mps"),
    ],
    ids=str,
)
def test_a_device_that_is_not_there_is_told(device, told):
    with pytest.raises(ValueError, match=told):
        load_prior("fashion-small", device)


@pytest.mark.parametrize("family", sorted(PARAMETERIZATIONS))
def test_a_score_model_and_a_defense_can_be_pickled(family, tmp_path):
    """As a worker that is spawned gets them."""
    prior = load_prior(tiny.write_score_model(tmp_path, family=family), "cpu")
    again = pickle.loads(pickle.dumps(prior))
    x, sigma = torch.randn(2, 3, 8, 8), torch.tensor(0.7)
    assert torch.equal(again.model(x, sigma), prior.model(x, sigma))
    defended = scoreag.defend(tiny.victim(), prior, "diffpure", sigma_start=0.3, steps=2, draws=2)
    same = pickle.loads(pickle.dumps(defended))
    assert torch.equal(same(images()), defended(images()))


def test_rows_of_no_index_and_arrays_of_classes():
    given = {"steps": 1, "max_restarts": 0, "progress": False}
    out, same = (
        scoreag.transform(tiny.prior(), tiny.victim(), images(), [0, 1], wrong, **given)
        for wrong in (np.array([2, 0]), [2, 0])
    )
    assert torch.equal(out.images, same.images) and out.targets.tolist() == [2, 0]
    assert len(out[[]]) == 0 and out[[]].images.shape == (0, 3, 8, 8)
    assert out[[True, False]].image_ids.tolist() == [0]


def test_answers_are_alike_to_rounding():
    logits = torch.tensor([[3.0, -20.0]])
    assert outputs_match(logits, logits + 1e-4) and not outputs_match(logits, logits + 1e-3)
