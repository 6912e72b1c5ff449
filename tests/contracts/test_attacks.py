"""What every attack must satisfy.  A new file is found, and tested, by its name."""

import inspect
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest
import torch

import scoreag.attacks
import tiny
from attack_world import DETERMINISTIC, FOREIGN, NAMES, classify, lpips, made, natural
from scoreag.cli.info import entries
from scoreag.registry import check_options, component_names, load_attack

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=NAMES)
def attack(request):
    return made(request.param)


def side_of(attack):
    return made(type(attack).__module__.rpartition(".")[2]).side


def run(attack, count=4, seed=0, dtype=torch.float64, first=0, end=None):
    images, labels = (x[first:end] for x in natural(count, side_of(attack), dtype))
    return attack(classify, images, labels, seed, range(count)[first:end])


def test_attack_fools_where_an_image_can(attack):
    """Clean images are never wrong in this world, and random changes of this size never are."""
    images, labels = natural(4, attack.side)
    assert (classify(images).argmax(1) == labels).all()
    assert (classify(run(attack(), 4)).argmax(1) != labels).double().mean() >= 0.75


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_attack_stays_in_its_ball_and_in_the_range_of_pixels(attack, norm):
    options = {"norm": norm} if attack.takes("norm") else {}
    radius = {"Linf": 0.1, "L2": 2.0}[norm] if options else 0.1
    perceptual = "lpips" in {f.name for f in fields(attack.factory)}
    small = {"eps": radius} if attack.takes("eps") and not perceptual else {}
    images, found = natural(3, attack.side)[0], run(attack(**options, **small), 3)
    assert found.min() >= 0 and found.max() <= 1 and found.shape == images.shape
    change = (found - images).flatten(1)
    if small:
        order = 2 if options and norm == "L2" else torch.inf
        assert change.norm(order, dim=1).max() <= radius + (
            1e-6 if attack.name in FOREIGN else 1e-9
        )
    if perceptual:
        assert lpips()(images, found).max() <= attack().eps * (1 + 1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_images_keep_their_dtype(attack, dtype):
    assert run(attack(), 2, dtype=dtype).dtype == dtype


def test_an_image_does_not_depend_on_its_batch(attack):
    whole = run(attack(), 3)
    parts = [run(attack(), 3, end=1), run(attack(), 3, first=1)]
    assert torch.allclose(whole, torch.cat(parts), rtol=0, atol=1e-9)


def test_results_depend_on_the_seed_alone(attack):
    first, again, other = (run(attack(), 2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (attack.name in DETERMINISTIC)


def test_no_global_random_state_moves_and_no_image_is_changed_in_place(attack):
    images, labels = natural(2, attack.side)
    kept = images.clone()
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    attack()(classify, images, labels, image_ids=[0, 1])
    assert torch.equal(images, kept) and torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()


def test_an_attack_is_a_value(attack):
    """Its options identify it, not the prior or the distance that a runner sets."""
    one, same = attack(), attack()
    assert one == same and hash(one) == hash(same)
    assert not ({"prior", "lpips"} & {f.name for f in fields(one) if f.compare or f.repr})
    with pytest.raises(FrozenInstanceError):
        one.eps = 1.0


def test_every_option_has_a_default_and_a_slip_is_refused(attack):
    assert attack.factory() is not None
    with pytest.raises(ValueError, match=f"{attack.name} takes no option 'epps'"):
        check_options(load_attack(attack.name), {"epps": 1.0}, attack.name)


@pytest.mark.parametrize("option", ["eps", "steps", "eot_samples", "n_queries", "restarts"])
def test_options_without_effect_are_refused(attack, option):
    if not attack.takes(option) or attack.name == "gat" or (attack.name, option) == (
        "auto_ensemble", "n_queries"
    ):  # fmt: skip
        return
    kind = type(getattr(attack(), option))
    with pytest.raises(ValueError, match=rf"{attack.name}: {option} is -1.* number above 0"):
        replace(attack(), **{option: kind(-1)})


def test_the_list_of_attacks_has_a_line_for_each():
    lines = entries("attacks")
    assert set(NAMES) <= lines.keys() and all(len(line) > 20 for line in lines.values())


@pytest.mark.parametrize("name", component_names("attacks"))
def test_every_attack_is_imported_from_the_package_by_its_own_name(name):
    """``from scoreag.attacks import PGD``, where the file is pgd.py."""
    found = load_attack(name)
    assert found.__name__ in scoreag.attacks.__all__
    assert getattr(scoreag.attacks, found.__name__) is found
    assert scoreag.attacks.Attack in found.__mro__


def test_an_unknown_attack_is_no_attribute():
    with pytest.raises(AttributeError, match="has no attribute 'PDG'"):
        scoreag.attacks.PDG  # noqa: B018


def test_the_list_of_attacks_needs_no_torch():
    code = "import sys, scoreag.attacks; dir(scoreag.attacks); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=tiny.ENVIRONMENT).returncode == 0


def test_options_are_in_the_signature_with_their_defaults():
    parameters = inspect.signature(scoreag.attacks.FGSM).parameters
    assert {n: p.default for n, p in parameters.items()} == {
        "eps": 8 / 255, "norm": "Linf", "loss": "ce", "eot_samples": 1,
    }  # fmt: skip
