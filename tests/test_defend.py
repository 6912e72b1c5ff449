"""A defended classifier: its draws, its answers, and its gradient."""

import subprocess
import sys

import pytest
import torch
from torch import nn

import scoreag
import tiny
from scoreag.classifiers.normalized import NormalizedClassifier
from scoreag.core.rng import Noise
from scoreag.defenses.memory_budget import saved_tensor_bytes
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.prior import Prior
from scoreag.diffusion.samplers import heun
from scoreag.methods.config import resolve_task_config
from scoreag.methods.purification import sample_purification
from scoreag.registry import component_names, load_component

SETTINGS = {"similarity": 20.0, "sigma_start": 1.0, "steps": 4}


class Linear(nn.Module):
    """Logits that are linear in the pixels."""

    def __init__(self):
        super().__init__()
        weight = torch.linspace(-1, 1, 48).view(3, 16)
        self.weight = nn.Parameter(weight)

    def forward(self, images):
        return images.flatten(1) @ self.weight.to(images).T


@pytest.fixture
def victim():
    return Linear().eval()


@pytest.fixture
def prior(two_classes):
    return Prior(two_classes, heun.sample, karras(4), (1, 4, 4), dtype=torch.float64)


@pytest.fixture
def images(in_double_precision):
    return torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def test_each_call_has_fresh_draws_and_a_replay_does_not(victim, prior, images):
    defended = scoreag.defend(victim, prior, **SETTINGS)
    first, second = defended(images), defended(images)
    assert not torch.isclose(first, second).all(1).any()
    replayed = defended.fix_randomness(1)
    assert torch.equal(replayed(images), second) and torch.equal(replayed(images), second)


def test_two_defenses_with_one_seed_have_the_same_draws(victim, prior, images):
    a, b = (scoreag.defend(victim, prior, seed=5, **SETTINGS) for _ in range(2))
    assert torch.equal(a(images), b(images)) and torch.equal(a(images), b(images))


def test_a_replayed_row_is_its_image(victim, prior, images):
    defended = scoreag.defend(victim, prior, **SETTINGS)
    whole = defended.fix_randomness(2, image_ids=[10, 11, 12])(images)
    alone = defended.fix_randomness(2, image_ids=[12])(images[2:])
    assert torch.allclose(alone, whole[2:], rtol=0, atol=1e-12)  # sums of one row round otherwise


def test_mean_of_draws_is_the_mean_of_single_answers(victim, prior, images):
    """A classifier that records its inputs: draw by draw, image by image."""
    seen = []

    def remember(purified):
        seen.append(victim(purified))
        return seen[-1]

    got = scoreag.defend(remember, prior, draws=3, **SETTINGS)(images)
    assert len(seen) == 1
    first, second, third = seen[0].split(3)
    assert not torch.isclose(first, second).all()
    assert torch.allclose(got, (first + second + third) / 3)


def test_a_draw_does_not_depend_on_the_number_of_draws(victim, prior, images):
    """Draws of one call are told apart by their number, which the first call of others has too."""
    noises = [Noise(0, range(3)).fold_in("call", 0, "draw", i) for i in range(3)]
    settings = resolve_task_config(prior, "purify", **SETTINGS)
    alone = [victim(sample_purification(prior, images, settings, noise)) for noise in noises]
    together = scoreag.defend(victim, prior, draws=3, **SETTINGS)(images)
    assert torch.allclose(together, torch.stack(alone).mean(0), rtol=1e-12)


def test_majority_counts_the_draws(prior, images):
    answers = torch.tensor([[0, 1, 2], [0, 1, 1], [2, 1, 1]])

    def say(purified):
        return torch.nn.functional.one_hot(answers.flatten(), 3).double() + 0 * purified.sum()

    got = scoreag.defend(say, prior, draws=3, aggregate="majority", **SETTINGS)(images)
    expected = torch.tensor([[2.0, 0, 1], [0, 3, 0], [0, 2, 1]]) / 3
    assert torch.allclose(got, (expected + 1e-3).log())


def test_exact_gradient_is_that_of_the_function(victim, prior, images):
    defended = scoreag.defend(victim, prior, **SETTINGS).fix_randomness(0)
    assert torch.autograd.gradcheck(defended, images[:1].clone().requires_grad_())


def test_bpda_treats_purification_as_the_identity(victim, prior, images):
    leaf = images.clone().requires_grad_()
    scoreag.defend(victim, prior, backward="bpda", **SETTINGS)(leaf)[:, 2].sum().backward()
    expected = victim.weight[2].detach().view(1, 4, 4).expand_as(leaf)
    assert torch.allclose(leaf.grad, expected.to(leaf))


def room(defended, fits):
    """Bytes for the states of all draws of 3 images, of 16 numbers, and the graphs of some."""
    states = defended.config.state_bytes
    return int(3 * (5 * states + fits * (defended.config.bytes_per_draw - states)))


@pytest.mark.parametrize("backward", ["exact", "bpda", "none"])
@pytest.mark.parametrize("purifier", component_names("purifiers"))
def test_answers_and_gradients_do_not_depend_on_how_draws_are_split(
    purifier, backward, victim, prior, images
):
    taken = {
        name: v
        for name, v in SETTINGS.items()
        if name in load_component("purifiers", purifier).CONFIG_FIELDS
    }
    whole = scoreag.defend(victim, prior, purifier, draws=5, backward=backward, **taken)
    assert whole.config.bytes_per_draw > 0
    for fits in (1, 2, 5):
        most = room(whole, fits)
        cut = scoreag.defend(
            victim, prior, purifier, draws=5, backward=backward, max_memory=most, **taken
        )
        found = []
        for defended in (whole, cut):
            leaf = images.clone().requires_grad_()
            logits = defended.fix_randomness(0)(leaf)
            found.append((logits.detach(), *torch.autograd.grad(logits.square().sum(), leaf)))
        for ours, theirs in zip(*found, strict=True):
            assert theirs.norm() > 0 and (ours - theirs).norm() < 1e-12 * theirs.norm()


def test_the_classifier_receives_as_many_draws_at_once_as_fit(victim, prior, images):
    """3 images: 5 draws are 15 rows; where two draws fit, 6, 6 and 3."""
    sizes = []
    victim.register_forward_hook(lambda module, given, out: sizes.append(len(out)))
    whole = scoreag.defend(victim, prior, draws=5, **SETTINGS)
    most = room(whole, 2.5)
    cut = scoreag.defend(victim, prior, draws=5, max_memory=most, **SETTINGS)
    sizes.clear()
    whole(images), cut(images)
    assert sizes == [15, 6, 6, 3]


@pytest.mark.parametrize("sampler", component_names("samplers"))
def test_the_memory_holds_the_states_of_all_draws_of_an_answer(sampler, victim, prior, images):
    """Measured where they are kept, one draw after the other: what 20 steps more take."""
    kept, needed = [], []
    for steps in (20, 40):
        settings = {**SETTINGS, "steps": steps, "sampler": sampler}
        free = scoreag.defend(victim, prior, draws=5, **settings)
        needed.append(room(free, 1))
        cut = scoreag.defend(victim, prior, draws=5, max_memory=needed[-1], **settings)
        leaf = images.clone().requires_grad_()
        kept.append(saved_tensor_bytes(lambda cut=cut, leaf=leaf: cut(leaf).sum().backward()))
    assert needed[1] - needed[0] == pytest.approx(kept[1] - kept[0], rel=0.05)
    with pytest.raises(ValueError, match="the gradient of 5 draws of 3 images takes about"):
        most = 3 * 5 * 40 * 16 * 8  # the states alone
        scoreag.defend(victim, prior, draws=5, max_memory=most, **settings)(images)


def test_a_draw_that_does_not_fit_is_refused_with_a_budget_that_fits(victim, prior, images):
    free = scoreag.defend(victim, prior, draws=2, **SETTINGS)
    most = 2 * free.config.bytes_per_draw
    with pytest.raises(ValueError) as caught:
        scoreag.defend(victim, prior, max_memory=most, **SETTINGS)(images)
    told = str(caught.value)
    assert told.startswith("the gradient of one draw of 3 images takes about ")
    assert "give at most 2 of them at once, or max_memory=" in told
    scoreag.defend(victim, prior, max_memory=most, **SETTINGS)(images[:2])
    enough = told.rpartition("max_memory=")[2].strip("'")
    scoreag.defend(victim, prior, max_memory=enough, **SETTINGS)(images)


@pytest.mark.parametrize("backward", ["exact", "none"])
def test_a_defense_may_be_inside_another(backward, victim, prior, images):
    """A replay of the outer one replays both, in each pass, and however its draws are split."""
    inner = scoreag.defend(victim, prior, "one_step_denoising", sigma_start=0.2)
    outer = scoreag.defend(inner, prior, draws=3, backward=backward, **SETTINGS)
    cut = scoreag.defend(inner, prior, draws=3, max_memory=room(outer, 1), backward=backward,
                         **SETTINGS)  # fmt: skip
    assert inner.call_counts == {}
    found = []
    for defended in (outer.fix_randomness(1), cut.fix_randomness(1)):
        leaf = images.clone().requires_grad_()
        logits = defended(leaf)
        found.append((logits.detach(), *torch.autograd.grad(logits.square().sum(), leaf)))
        assert torch.equal(defended(images), logits)
    for one, other in zip(*found, strict=True):
        assert one.norm() > 0 and (one - other).norm() < 1e-12 * one.norm()
    assert not torch.isclose(outer(images), outer(images)).all(1).any()
    if backward == "exact":
        assert torch.autograd.gradcheck(cut.fix_randomness(0), images[:1].clone().requires_grad_())


def test_backward_none_has_the_gradient_of_the_undefended_classifier(prior, images):
    def square(x):
        return torch.stack([x.square().flatten(1).sum(1), x.flatten(1).sum(1)], 1)

    leaf = images.clone().requires_grad_()
    defended = scoreag.defend(square, prior, backward="none", **SETTINGS).fix_randomness(0)
    logits = defended(leaf)
    logits[:, 0].sum().backward()
    assert torch.allclose(leaf.grad, 2 * images)
    exact = scoreag.defend(square, prior, **SETTINGS).fix_randomness(0)(images)
    assert torch.allclose(logits, exact)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"backward": "exakt"}, "no backward 'exakt'; did you mean 'exact'?"),
        ({"aggregate": "median"}, "no aggregate 'median'"),
        ({"draws": 0}, "draws is 0; expected a whole number, at least 1"),
        ({"purifier": "gab"}, "no 'gab' in purifiers; did you mean 'gap'?"),
        ({"purifier": "diffpure", "similarity": 3.0}, "diffpure takes no option 'similarity'"),
        (
            {"purifier": "one_step_denoising", "steps": 3},
            "one_step_denoising takes no option 'steps'",
        ),
        ({"purifier": "diffpure", "attack_scale": 3.0}, "guides it; leave attack_scale out"),
        ({"max_memory": "much"}, "max_memory is 'much'; write bytes, or such as '500 MiB'"),
        ({"max_memory": 0}, "max_memory is 0; expected more than nothing"),
    ],
)
def test_a_slip_is_refused(options, message, victim, prior):
    with pytest.raises(ValueError) as caught:
        scoreag.defend(victim, prior, **options)
    assert message in str(caught.value)


def test_a_classifier_in_train_mode_is_refused(prior):
    with pytest.raises(ValueError, match=r"call its \.eval\(\) first"):
        scoreag.defend(Linear().train(), prior)


def test_a_classifier_of_other_images_is_refused_before_any_work(prior):
    """One by its card, one because it fails on images of that size."""
    known = NormalizedClassifier(Linear(), image_shape=(3, 32, 32)).eval()
    with pytest.raises(ValueError, match="of images of 3 x 32 x 32, and the score model purifies"):
        scoreag.defend(known, prior)
    wide = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)).double().eval()
    with pytest.raises(ValueError, match="cannot take what the score model purifies, images of 1"):
        scoreag.defend(wide, prior)


def test_images_of_another_size_than_the_score_model_are_refused(victim, prior):
    with pytest.raises(ValueError, match="images are 1 x 8 x 8; the model takes 1 x 4 x 4"):
        scoreag.defend(victim, prior)(torch.rand(2, 1, 8, 8))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_refused(bad, prior, images):
    def broken(purified):
        logits = purified.flatten(1)[:, :3]
        return torch.where(torch.tensor([True, False, False])[:, None], bad, logits)

    with pytest.raises(ValueError, match=r"returned NaN or infinity \(for 1 of 3 purified images"):
        scoreag.defend(broken, prior, **SETTINGS)(images)


def test_a_module_whose_logits_are_not_finite_is_refused_at_once(prior):
    class Broken(nn.Module):
        def forward(self, images):
            return images.flatten(1)[:, :3] / 0

    with pytest.raises(ValueError, match="returned NaN or infinity"):
        scoreag.defend(Broken().eval(), prior)


def test_other_outputs_than_logits_are_refused(prior, images):
    with pytest.raises(ValueError, match=r"returned \(3,\); expected logits \(3, classes\)"):
        scoreag.defend(lambda purified: purified.sum((1, 2, 3)), prior, **SETTINGS)(images)


@pytest.fixture
def attacked(two_classes):
    """Images of two classes, a defense of the class of their brightness, and the labels."""
    prior = Prior(two_classes, heun.sample, karras(4), (1, 4, 4), dtype=torch.float64)

    class Brightness(nn.Module):
        def forward(self, images):
            bright = 20 * (images.flatten(1).mean(1) - 0.5)
            return torch.stack([-bright, bright], 1)

    noise = Noise(0, range(20)).normal_like(torch.zeros(20, 1, 4, 4))
    labels = torch.arange(20) % 2
    images = (0.5 + 0.06 * (2.0 * labels - 1).view(-1, 1, 1, 1) + 0.02 * noise).clamp(0, 1)
    defended = scoreag.defend(Brightness().eval(), prior, "diffpure", sigma_start=0.3, steps=3)
    return defended, images, labels


def test_foolbox_attacks_a_defense_directly(attacked):
    foolbox = pytest.importorskip("foolbox")
    defended, images, labels = attacked
    model = foolbox.PyTorchModel(defended, bounds=(0, 1))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        attack = foolbox.attacks.LinfPGD(rel_stepsize=0.3, steps=5, random_start=False)
        _, found, _ = attack(model, images, labels, epsilons=0.2)
    assert (found - images).abs().max() <= 0.2 + 1e-6
    clean = (defended(images).argmax(1) == labels).double().mean()
    assert clean > 0.9 and (defended(found).argmax(1) == labels).double().mean() < 0.5


def test_torchattacks_attacks_a_defense_directly(attacked):
    torchattacks = pytest.importorskip("torchattacks", exc_type=ImportError)
    defended, images, labels = attacked
    found = torchattacks.PGD(defended, eps=0.2, alpha=0.05, steps=5, random_start=False)(
        images, labels
    )
    assert (found - images).abs().max() <= 0.2 + 1e-6
    assert (defended(found).argmax(1) == labels).double().mean() < 0.5


def test_a_guided_chain_may_pass_its_estimates_to_a_defense(victim, prior, images):
    """They lie outside of [0, 1], which images that are still normalized do as well."""
    defended = scoreag.defend(victim, prior, **SETTINGS)
    assert torch.equal(
        defended.fix_randomness(0).forward_unclamped(images), defended.fix_randomness(0)(images)
    )
    with pytest.raises(ValueError, match="undo the normalization"):
        defended(images * 4 - 2)
    assert not defended.call_counts
    found = scoreag.transform(prior, defended, images, torch.tensor([0, 1, 2]), attack_scale=500.0)
    assert found.images.isfinite().all() and not defended.call_counts  # a task counts for itself


SLIPS = """
import scoreag
prior, net = scoreag.load_prior("fashion-small"), scoreag.load_classifier("fashion-cnn")
slips = [(net, "fashion-small", {}), ("fashion-cnn", prior, {}), (net, prior, {"draws": "4"}),
         (net, prior, {"draws": 1.5}), (net, prior, {"seed": 1.5}),
         (net, prior, {"purifier": "no_such_package.purify"})]
for classifier, model, options in slips:
    try:
        scoreag.defend(classifier, model, **options)
    except ValueError as error:
        print(error)
"""


def test_arguments_of_wrong_types_are_refused_at_construction():
    """In a process of its own, for tests check types before anything else does."""
    found = subprocess.run(
        [sys.executable, "-c", SLIPS], capture_output=True, text=True, env=tiny.ENVIRONMENT
    )
    assert found.stdout.splitlines() == [
        "the prior is 'fashion-small'; write scoreag.load_prior(...)",
        "the classifier is 'fashion-cnn'; expected a module: write scoreag.load_classifier(...) "
        "or scoreag.wrap_classifier(module, mean, std)",
        "draws is '4'; expected a whole number, at least 1",
        "draws is 1.5; expected a whole number, at least 1",
        "seed is 1.5; expected a whole number, 0 or more",
        "the purifier no_such_package.purify cannot be imported: No module named 'no_such_package'",
    ]


def test_a_defense_stays_in_eval_mode(prior):
    """Else its networks would update their statistics with the images of the attack."""
    net = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, 3)).eval()
    defended = scoreag.defend(net, prior, **SETTINGS).train()
    before = net[0].running_mean.clone()
    defended(torch.rand(3, 1, 4, 4, dtype=torch.float64))
    assert not net[0].training and torch.equal(net[0].running_mean, before)
