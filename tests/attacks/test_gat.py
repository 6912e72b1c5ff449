import pytest
import torch

import scoreag
import tiny
from scoreag.attacks.gat import GAT
from scoreag.core.rng import Noise


def test_gat_returns_the_images_of_transform():
    images, labels = tiny.images(3) / 255, tiny.labels(3)
    for wrong, given in (("runner_up", "runner_up"), ("random", "random"), ("none", None)):
        attack = GAT(target=wrong, attack_scale=20.0, prior=tiny.prior())
        found = attack(tiny.victim(), images, labels, seed=5, image_ids=[7, 8, 9])
        same = scoreag.transform(
            tiny.prior(), tiny.victim(), images, labels, given, seed=5, image_ids=[7, 8, 9],
            attack_scale=20.0, batch_size=0, progress=False,
        )  # fmt: skip
        assert torch.equal(found, same.images)


def test_a_named_part_of_the_noise_has_its_own_random_numbers():
    images, labels = tiny.images(1) / 255, tiny.labels(1)
    attack, noise = GAT(prior=tiny.prior()), Noise(0, [0])
    first, other = (
        attack.run(tiny.victim(), images, labels, n) for n in (noise, noise.fold_in("turn", 1))
    )
    assert not torch.equal(first, other)


def test_a_missing_prior_and_wrong_options_are_reported():
    with pytest.raises(ValueError, match=r"gat needs a prior: give prior=scoreag.load_prior"):
        GAT()(tiny.victim(), tiny.images(1) / 255, tiny.labels(1), image_ids=[0])
    with pytest.raises(
        ValueError, match="gat knows no target 'runer_up'; did you mean 'runner_up'"
    ):
        GAT(target="runer_up")
    with pytest.raises(ValueError, match="steps is 0; expected a number of at least 1"):
        GAT(steps=0, prior=tiny.prior())
