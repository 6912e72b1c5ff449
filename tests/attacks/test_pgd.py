import pytest
import torch
import torch.nn.functional as F
from torch import nn

from scoreag.attacks.low_frequency import LowFrequency
from scoreag.attacks.pgd import PGD

WEIGHTS = torch.tensor([0.5, -1.0, 2.0, -0.25]).view(1, 1, 2, 2)


def linear(images):
    """Two logits, (w . x, 0): the loss at class 0 rises along -w."""
    score = (images * WEIGHTS).flatten(1).sum(1)
    return torch.stack([score, torch.zeros_like(score)], 1)


def grays(count=3):
    return torch.full((count, 1, 2, 2), 0.5), torch.zeros(count, dtype=torch.int64)


def net():
    """Random, smooth and nonlinear; its own prediction is the label."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Flatten(), nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 5))
    module[1].weight.data *= 4
    return module.eval().requires_grad_(False)


def pixels(count, seed=0):
    return torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))


def test_on_a_linear_classifier_linf_ends_in_the_corner_of_the_cube():
    images, labels = grays()
    found = PGD(eps=0.1)(linear, images, labels)
    assert torch.allclose(found, images - 0.1 * WEIGHTS.sign())


def test_on_a_linear_classifier_l2_ends_where_the_gradient_leaves_the_sphere():
    images, labels = grays()
    found = PGD(eps=0.1, step_size=0.1, norm="L2")(linear, images, labels)
    assert torch.allclose(found, images - 0.1 * WEIGHTS / WEIGHTS.norm(), atol=1e-6)


def test_the_range_of_pixels_may_end_before_the_ball():
    images, labels = grays()
    found = PGD(eps=0.8)(linear, images, labels)
    assert torch.equal(found, images - 0.5 * WEIGHTS.sign())


@pytest.mark.parametrize("norm, order", [("Linf", torch.inf), ("L2", 2)], ids=["Linf", "L2"])
def test_stays_in_the_ball_and_in_the_range_of_pixels(norm, order):
    images = pixels(16)
    found = PGD(eps=0.3, norm=norm)(net(), images, net()(images).argmax(1))
    assert (found - images).flatten(1).norm(order, dim=1).max() <= 0.3 + 1e-6
    assert found.min() >= 0 and found.max() <= 1


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_an_image_does_not_depend_on_its_batch(norm):
    images, attack = pixels(5).double(), PGD(eps=0.1, norm=norm)
    classifier = net().double()
    labels = classifier(images).argmax(1)
    whole = attack(classifier, images, labels)
    parts = [
        attack(classifier, images[:2], labels[:2]),
        attack(classifier, images[2:], labels[2:], image_ids=range(2, 5)),
    ]
    assert torch.allclose(whole, torch.cat(parts), atol=1e-12)


def test_random_starts_fill_the_l2_ball_evenly():
    """The share within radius r of a ball in 4 dimensions is r^4; of 2,000 draws, 5 sigma."""
    images = torch.full((2000, 1, 2, 2), 0.5)
    attack = PGD(eps=0.1, steps=1, step_size=0.0, norm="L2")
    found = attack(linear, images, torch.zeros(2000, dtype=torch.int64))
    inside = ((found - images).flatten(1).norm(dim=1) < 0.08).float().mean().item()
    share = 0.8**4
    assert inside == pytest.approx(share, abs=5 * (share * (1 - share) / 2000) ** 0.5)


def test_random_starts_fill_the_cube_evenly():
    """Uniform on (-e, e): variance e^2 / 3, and that of a squared one is 4 e^4 / 45."""
    images = torch.full((2000, 1, 2, 2), 0.5)
    attack = PGD(eps=0.1, steps=1, step_size=0.0)
    found = attack(linear, images, torch.zeros(2000, dtype=torch.int64))
    squares = ((found - images) / 0.1).square().mean().item()
    assert squares == pytest.approx(1 / 3, abs=5 * (4 / 45 / 8000) ** 0.5)


@pytest.mark.parametrize("norm, epsilon", [("Linf", 0.04), ("L2", 0.2)], ids=["Linf", "L2"])
def test_pgd_is_as_strong_as_that_of_foolbox(norm, epsilon):
    """Both lower the accuracy of the same net on the same images in the same ball."""
    foolbox = pytest.importorskip("foolbox")
    images, classifier = pixels(200), net()
    labels = classifier(images).argmax(1)
    ours = PGD(eps=epsilon, norm=norm)(classifier, images, labels)
    theirs = {"Linf": foolbox.attacks.LinfPGD, "L2": foolbox.attacks.L2PGD}[norm]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = foolbox.PyTorchModel(classifier, bounds=(0, 1))
        attack = theirs(rel_stepsize=2.5 / 40, steps=40)
        _, other, _ = attack(model, images, labels, epsilons=epsilon)
    right, expected = (
        (classifier(x).argmax(1) == labels).float().mean().item() for x in (ours, other)
    )
    assert 0.1 < expected < 0.9
    assert right == pytest.approx(expected, abs=2 * (0.5 * 0.5 / 200) ** 0.5)


def test_gradients_of_the_classifier_do_not_change():
    classifier = net().requires_grad_(True)
    images = pixels(2)
    PGD()(classifier, images, classifier(images).argmax(1))
    assert all(weight.grad is None for weight in classifier.parameters())


def test_raises_the_loss_of_a_net():
    images = pixels(32)
    labels = net()(images).argmax(1)
    found = PGD(eps=0.05)(net(), images, labels)
    before, after = (F.cross_entropy(net()(x), labels, reduction="none") for x in (images, found))
    assert (after > before).all()


def test_an_unknown_norm_is_refused():
    with pytest.raises(ValueError, match=r"pgd knows no norm 'l1'; there are: Linf, L2"):
        PGD(norm="l1")


def test_a_ball_of_no_size_is_refused():
    with pytest.raises(ValueError, match=r"pgd: eps is 0\.0; expected a finite number above 0"):
        PGD(eps=0.0)


@pytest.mark.parametrize("size", [-0.1, float("nan"), float("inf")])
@pytest.mark.parametrize("attack", [PGD, LowFrequency], ids=["pgd", "low_frequency"])
def test_a_step_of_no_length_is_refused(attack, size):
    with pytest.raises(ValueError, match=r"step_size is .*; expected 0 to 1000"):
        attack(step_size=size)
