"""Inputs that every attack refuses, as the tasks do.  New files are found by their names."""

import inspect

import pytest
import torch
from torch import nn

import scoreag
from attack_world import FOREIGN, NAMES, SMALL, classify, made, natural
from scoreag.attacks import apgd, auto_ensemble, pgd
from scoreag.core.batching import bind_image_ids
from scoreag.core.rng import Noise
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.prior import Prior
from scoreag.diffusion.samplers import heun
from scoreag.registry import UnknownNameError

pytestmark = pytest.mark.usefixtures("one_thread")

PLAIN = {"art", "autoattack", "foolbox", "square", "torchattacks"}  # take no gradient of ours


class Net(nn.Module):
    """The classifier of this world behind statistics that an attack could change."""

    def __init__(self, change=lambda logits: logits):
        super().__init__()
        self.norm = nn.BatchNorm2d(3, eps=0.0).double()
        self.drop, self.change = nn.Dropout(0.5), change

    def forward(self, images):
        return self.change(self.drop(classify(self.norm(images))))


def net(mode=False, change=lambda logits: logits):
    return Net(change).train(mode)


def blind(logits):
    return logits.detach()


X, Y = natural(2)
# what is given in place of (classifier, images, labels, seed, image_ids), and the message
BAD = {
    "a name": ({0: "cifar10-resnet20"}, "the classifier is 'cifar10-resnet20'; expected a module"),
    "a class": ({0: Net}, "the classifier is the class Net; expected a module"),
    "train mode": ({0: net(True)}, r"in train mode.*call its \.eval\(\) first"),
    "a part in train mode": ({0: nn.Sequential(net(True)).requires_grad_(False)}, "in train mode"),
    "probabilities": ({0: net(change=lambda z: z.softmax(1))}, "leave out its last softmax"),
    "no matrix": ({0: net(change=lambda z: z[:, 0])}, "expected logits"),
    "one class": ({0: net(change=lambda z: z[:, :1])}, "knows one class only"),
    "NaN": ({0: net(change=lambda z: z / 0 * 0)}, "NaN or infinity"),
    "no gradient": ({0: net(change=blind)}, "passes no gradient on to its images"),
    "0..255": ({1: 255 * X}, r"expected \[0, 1\]: write images / 255"),
    "[-1, 1]": ({1: 2 * X - 1}, r"write \(images \+ 1\) / 2"),
    "half": ({1: X.half()}, "images are torch.float16; expected uint8"),
    "NaN images": ({1: X * torch.nan}, "images hold .* NaN"),
    "one image": ({1: X[0]}, r"write images\[None\]"),
    "channels last": ({1: X.permute(0, 2, 3, 1)}, r"write images.permute\(0, 3, 1, 2\)"),
    "a list": ({1: [X]}, r"images are a list; expected a tensor: write torch.as_tensor"),
    "an array": ({1: X.numpy()}, "images are a ndarray .*write torch.as_tensor"),
    "a word": ({1: "samples"}, r"images are 'samples'.*scoreag.load_data\(\.\.\.\)"),
    "float labels": ({2: Y.float()}, "expected whole numbers 0..3"),
    "no such label": ({2: Y + 4}, "labels from 4 to 5; expected 0..3"),
    "below zero": ({2: Y - 1}, "labels from -1 to 0; expected 0..3"),
    "too few": ({2: Y[:1]}, "1 labels for 2 images"),
    "one-hot": ({2: torch.eye(4)[Y].long()}, "expected one class per image"),
    "none": ({2: None}, "the images have no labels"),
    "a seed below zero": ({3: -1}, "seed is -1; expected a whole number, 0 or more"),
    "other ids": ({4: [1]}, "1 different image ids for 2 images; expected 2"),
    "one id twice": ({4: [1, 1]}, "1 different image ids for 2 images; expected 2"),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", [n for n in NAMES if n not in FOREIGN])
def test_wrong_inputs_are_refused_in_one_line_and_change_nothing(name, bad):
    given, told = [net(), X, Y, 0, [0, 1]], BAD[bad][1]
    for place, thing in BAD[bad][0].items():
        given[place] = thing
    victim = given[0] if isinstance(given[0], nn.Module) else net()
    if bad == "no gradient" and name in PLAIN:
        return
    before = {n: t.clone() for n, t in victim.state_dict().items()}
    modes = [part.training for part in victim.modules()]
    with pytest.raises(ValueError, match=told) as caught:
        attack = made(name)()
        inspect.unwrap(type(attack).__call__)(attack, *given)  # without the tests' check of types
    assert "\n" not in str(caught.value) and len(str(caught.value)) <= 500
    assert all(torch.equal(t, before[n]) for n, t in victim.state_dict().items())
    assert [part.training for part in victim.modules()] == modes


@pytest.mark.parametrize("name", NAMES)
def test_a_module_does_not_change(name):
    attack, victim = made(name), net()
    images, labels = natural(2, attack.side)
    before = {n: t.clone() for n, t in victim.state_dict().items()}
    found = attack()(victim, images, labels, image_ids=[0, 1])
    assert found.shape == images.shape and not victim.training and not victim.norm.training
    assert all(torch.equal(t, before[n]) for n, t in victim.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in victim.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_no_images_are_returned_as_they_came(name):
    nothing = X[:0]
    assert made(name)()(net(), nothing, Y[:0], image_ids=[]) is nothing
    with pytest.raises(ValueError, match="2 labels for 0 images"):
        made(name)()(net(), nothing, Y, image_ids=[])


@pytest.mark.parametrize("name", [n for n in NAMES if n not in FOREIGN])
def test_bytes_are_converted_as_the_tasks_convert_them(name):
    attack = made(name)
    images, labels = natural(2, attack.side)
    data = (images * 255).round().to(torch.uint8)
    found = attack()(classify, data, labels.tolist())
    assert torch.equal(found, attack()(classify, data.float() / 255, labels))


@pytest.mark.parametrize("name", NAMES)
def test_the_default_dtype_does_not_matter(name):
    """Scientific code sets it to float64."""
    attack = made(name)
    images, labels = natural(2, attack.side, torch.float32)
    plain = attack()(classify, images, labels, image_ids=[0, 1])
    ready = attack()
    torch.set_default_dtype(torch.float64)
    try:
        found = ready(classify, images, labels, image_ids=[0, 1])
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.dtype == torch.float32 and torch.allclose(found, plain, atol=1e-4)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in FOREIGN])
def test_inference_mode_around_an_attack_does_not_matter(name):
    attack = made(name)
    images, labels = natural(2, attack.side)
    plain = attack()(classify, images, labels, image_ids=[0, 1])
    with torch.inference_mode():
        again = attack()(classify, images.clone(), labels.clone(), image_ids=[0, 1])
    assert torch.equal(plain, again)


def test_a_classifier_is_checked_once_however_many_searches_there_are():
    """Before the first search of an ensemble one image is classified, and none afterwards."""
    sizes = []
    victim = net()
    victim.register_forward_hook(lambda module, given, out: sizes.append(len(out)))
    images, labels = natural(5)
    auto_ensemble.AutoEnsemble(steps=2, n_target_classes=2, n_queries=5, eps=1e-4)(
        victim, images, labels, image_ids=range(5)
    )
    assert sizes.count(1) == 2 and len(sizes) > 10  # the door, and the number of classes
    sizes.clear()
    pgd.PGD(steps=2).run(victim, images, labels, Noise(0, range(5)))
    assert sizes == [5, 5]


FOREIGN_WORDS = {
    "epsilon": "eps", "num_steps": "steps", "nb_iter": "steps", "alpha": "step_size",
    "n_restarts": "restarts", "eot_iter": "eot_samples", "ord": "norm",
    "targets": "n_target_classes",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("word", FOREIGN_WORDS)
def test_option_names_of_other_libraries_are_answered_with_ours(name, word):
    attack, ours = made(name), FOREIGN_WORDS[word]
    if name == "gat" and word in ("n_restarts", "targets"):
        ours = {"n_restarts": "max_restarts", "targets": "target"}[word]
    if ours == "eps" and not attack.takes("eps"):
        ours = next((o for o in ("max_displacement", "similarity") if attack.takes(o)), "none")
    if ours == "steps" and not attack.takes("steps"):
        ours = "n_queries"
    with pytest.raises(UnknownNameError, match=f"{name} takes no option '{word}'") as caught:
        attack.factory(**{word: 1})
    assert isinstance(caught.value, TypeError)
    told = f"did you mean '{ours}'" if attack.takes(ours) else "there are: "
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "norm, told", [("linf", "'Linf'"), ("l2", "'L2'"), ("l_2", "'L2'"), ("Linfinity", "'Linf'")]
)
def test_norm_names_of_other_libraries_are_answered_with_ours(norm, told):
    with pytest.raises(ValueError, match=f"knows no norm '{norm}'; did you mean {told}"):
        pgd.PGD(norm=norm)


def test_the_draws_of_a_defense_belong_to_the_image_ids():
    """Two parts of a batch give the results of the whole; later calls have fresh draws."""

    def model(x, sigma, labels=None):
        return x / (1 + 4 * sigma**2)

    prior = Prior(model, heun.sample, karras(3), (3, SMALL, SMALL), dtype=torch.float64)
    images, labels = natural(4)
    attack = apgd.APGD(eps=0.05, steps=3, restarts=2, eot_samples=2)

    def kinds():
        inside = scoreag.defend(classify, prior, "one_step_denoising", sigma_start=0.3)
        return inside, nn.Sequential(inside).eval(), lambda x: inside(x)

    for kind in range(3):
        whole, parts = kinds()[kind], kinds()[kind]
        found = attack(whole, images, labels, image_ids=[9, 3, 7, 5])
        some = [
            attack(parts, images[a:b], labels[a:b], image_ids=[9, 3, 7, 5][a:b])
            for a, b in ((0, 1), (1, 4))
        ]
        assert torch.allclose(torch.cat(some), found, rtol=0, atol=1e-9)
        shown = bind_image_ids(whole, [9, 3, 7, 5])
        assert not torch.isclose(shown(images), shown(images)).all(1).any()
