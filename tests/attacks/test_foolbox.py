"""Foolbox by name, and Foolbox by itself, on classifiers and defenses."""

import inspect
import sys
import warnings
from importlib.util import find_spec

import pytest
import torch
from torch import nn

import scoreag
from scoreag.attacks.external.foolbox import UNSUPPORTED, Foolbox
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.prior import Prior
from scoreag.diffusion.samplers import heun

with warnings.catch_warnings(action="ignore"):
    import foolbox

NAMES = sorted(
    name
    for name, thing in vars(foolbox.attacks).items()
    if inspect.isclass(thing) and issubclass(thing, foolbox.attacks.Attack)
    and thing.__name__ == name and not inspect.isabstract(thing)
)  # fmt: skip
FEW = {"steps": 3, "binary_search_steps": 2, "max_iterations": 2, "population": 4, "overshoot": 0.1}
BY_NAME = {
    "HopSkipJumpAttack": {
        "steps": 1, "initial_gradient_eval_steps": 4, "max_gradient_eval_steps": 4
    },
    "SpatialAttack": {"num_rotations": 3, "num_translations": 2},
    "SaltAndPepperNoiseAttack": {"steps": 20, "across_channels": True},
}  # fmt: skip
TO_THE_END = ("L0FMNAttack", "PointwiseAttack", "SpatialAttack")  # no ball to clip to
NUMBA = find_spec("numba") is not None


class Net(nn.Module):
    """Bright pixels on the left against bright pixels on the right."""

    def forward(self, images):
        left, right = (
            images[..., : images.shape[3] // 2].mean((1, 2, 3)),
            images[..., images.shape[3] // 2 :].mean((1, 2, 3)),
        )
        return 10 * torch.stack([left, right, (left + right) / 2 - 0.5], 1)


def pixels(count, side=8):
    source = torch.Generator().manual_seed(0)
    images = 0.4 + 0.2 * torch.rand(count, 1, side, side, generator=source)
    return images, Net()(images).argmax(1)


def quick(name):
    known = inspect.signature(getattr(foolbox.attacks, name)).parameters
    given = {"distance": "l2", **FEW, **BY_NAME.get(name, {})}
    return {k: v for k, v in given.items() if k in known}


@pytest.mark.parametrize("name", NAMES)
def test_each_attack_runs_by_its_name(name):
    """Attacks that need more than an image are refused; an image alone has the same result."""
    if name in UNSUPPORTED:
        with pytest.raises(ValueError, match=f"{name} needs .*take another"):
            Foolbox(name)
        return
    images, labels = pixels(2)
    if "BrendelBethge" in name and not NUMBA:
        with pytest.raises(ValueError, match=rf"foolbox: {name}: .*numba"):
            Foolbox(name)
        return
    attack = Foolbox(name, None if name in TO_THE_END else 2.0, quick(name))
    found = attack(Net().eval(), images, labels, image_ids=[3, 4])
    assert found.shape == images.shape and found.min() >= 0 and found.max() <= 1
    alone = attack(Net().eval(), images[1:], labels[1:], image_ids=[4])
    assert torch.equal(found[1:], alone)


def test_results_stay_within_the_radius():
    images, labels = pixels(3)
    for name, order in (("LinfPGD", torch.inf), ("L2PGD", 2)):
        found = Foolbox(name, eps=0.05)(Net().eval(), images, labels, image_ids=range(3))
        assert (found - images).flatten(1).norm(order, dim=1).max() <= 0.05 + 1e-6


def test_a_slip_is_refused_before_work_starts():
    with pytest.raises(
        ValueError, match=r"no 'LinfPDG' in foolbox.attacks; did you mean 'LinfPGD'"
    ):
        Foolbox("LinfPDG")
    with pytest.raises(ValueError, match=r"foolbox: LinfPGD: .*'step'"):
        Foolbox("LinfPGD", options={"step": 3})
    with pytest.raises(ValueError, match="InversionAttack has no norm of its own: write eps"):
        Foolbox("InversionAttack")
    with pytest.raises(ValueError, match=r"no 'l3' in foolbox\.distances"):
        Foolbox("InversionAttack", options={"distance": "l3"})
    with pytest.raises(ValueError, match="foolbox: LinfPGD needs an eps"):
        Foolbox("LinfPGD", eps=None)


def test_without_the_package_one_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "foolbox", None)
    monkeypatch.setitem(sys.modules, "foolbox.attacks", None)
    with pytest.raises(ValueError, match=r"pip install 'scoreag\[foolbox\]'$") as caught:
        Foolbox()
    assert "\n" not in str(caught.value) and str(caught.value).startswith("foolbox cannot be")


def test_foolbox_attacks_a_defense_directly(two_classes):
    """No adapter of ours: the defense is a module from images to logits, with exact gradients."""

    def corner(images):
        score = 8 * (images[:, 0, 0, 0] - 0.5)
        return torch.stack([-score, score], 1)

    prior = Prior(two_classes, heun.sample, karras(8), (1, 4, 4), dtype=torch.float64)
    images = 0.3 + 0.4 * (torch.arange(8) % 2).double().view(8, 1, 1, 1).expand(8, 1, 4, 4)
    labels = torch.arange(8) % 2
    defended = scoreag.defend(corner, prior, similarity=20.0, sigma_start=1.0, steps=2)
    fixed = defended.fix_randomness(0)
    right = fixed(images).argmax(1) == labels
    for model in (fixed, defended):
        attack = foolbox.attacks.LinfPGD(steps=2, rel_stepsize=0.5)
        attacked = foolbox.PyTorchModel(model, bounds=(0, 1))
        _, found, fooled = attack(attacked, images, labels, epsilons=0.3)
        assert (found - images).abs().max() <= 0.3 + 1e-9
    after = fixed(foolbox.attacks.LinfPGD(steps=5, rel_stepsize=0.5)(
        foolbox.PyTorchModel(fixed, bounds=(0, 1)), images, labels, epsilons=0.3)[1])  # fmt: skip
    assert right.sum() > (after.argmax(1) == labels).sum() and fooled.shape == (8,)
