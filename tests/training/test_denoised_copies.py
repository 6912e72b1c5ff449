"""Training on denoised noisy copies: the loss by hand, and what a classifier learns by it."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

import tiny
from scoreag.cli.app import main
from scoreag.core.rng import Stream
from scoreag.diffusion.one_shot import denoise_once
from scoreag.models.model_cards import load_card
from scoreag.training.classifier_training import build_loss, check_prior, train_classifier
from scoreag.training.denoised_copies import denoised_loss
from scoreag.training.recipes import Recipe
from scoreag.training.schedule import TrainingSchedule

pytestmark = pytest.mark.usefixtures("one_thread")


class Linear(nn.Module):
    """Two logits of the mean of an image; it keeps what it was shown."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([2.0, -3.0]))

    def forward(self, images):
        self.shown = images.detach()
        return images.flatten(1).mean(1)[:, None] * self.weight


IMAGES, LABELS = (
    torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0)),
    torch.arange(8) % 2,
)
PLAIN = {"denoise": lambda noisy: noisy / 2, "noise": 0.3, "mean": (0.1,), "std": (0.5,)}


def loss(network, **options):
    return denoised_loss(network, IMAGES, LABELS, Stream(5, "loss"), **PLAIN | options)


def drawn(number):
    """The images and labels in the order that this stream draws, and copies of all but two."""
    source = Stream(5, "loss")
    order = source.permutation(8)
    noise = [source.normal((6, 1, 4, 4)) for _ in range(number)]
    images = IMAGES[order]
    return images[:2], LABELS[order], [(images[2:] + 0.3 * n) / 2 for n in noise]


def probabilities(images):
    means = ((images - 0.1) / 0.5).flatten(1).mean(1)
    weights = torch.stack([2 * means, -3 * means], 1).exp()
    return weights / weights.sum(1, keepdim=True)


def own(images, labels):
    return -probabilities(images)[range(len(labels)), labels].log()


def test_a_quarter_stays_clean_and_the_rest_is_denoised():
    network = Linear()
    found = loss(network)
    clean, labels, (copy,) = drawn(1)
    shown = torch.cat([clean, copy])
    torch.testing.assert_close(network.shown, (shown - 0.1) / 0.5)
    torch.testing.assert_close(found, own(shown, labels).mean())
    found.backward()
    assert network.weight.grad.abs().min() > 0


def test_consistency_is_the_divergence_of_two_copies_from_their_mean():
    clean, labels, (one, two) = drawn(2)
    both = own(one, labels[2:]) + own(two, labels[2:])
    entropy = (own(clean, labels[:2]).sum() + both.sum() / 2) / 8
    p, q = probabilities(one), probabilities(two)
    middle = (p + q) / 2
    divergence = (
        (middle * (middle / p).log()).sum(1) + (middle * (middle / q).log()).sum(1)
    ).mean() / 2
    torch.testing.assert_close(loss(Linear(), consistency=4.0), entropy + 4 * divergence)


def test_confident_leaves_out_copies_that_are_read_wrongly():
    clean, labels, (copy,) = drawn(1)
    right = probabilities(copy).argmax(1) == labels[2:]
    assert 0 < right.sum() < 6
    kept = (own(clean, labels[:2]).sum() + own(copy, labels[2:])[right].sum()) / 8
    torch.testing.assert_close(loss(Linear(), confident=True), kept)


def test_at_least_one_image_is_noisy():
    assert loss(Linear(), clean_fraction=0.99, consistency=1.0).isfinite()


def test_noise_of_the_pixels_is_twice_that_of_the_states():
    seen = []
    prior = replace(tiny.prior(), model=lambda x, sigma, labels=None: seen.append(sigma) or x / 2)
    noisy = torch.rand(2, *tiny.SHAPE)
    found = denoise_once(prior, 0.25)(noisy)
    assert [float(sigma) for sigma in seen] == [0.5]
    torch.testing.assert_close(found, ((2 * noisy - 1) / 2 + 1) / 2)


OPEN = Recipe(
    "small_cnn", TrainingSchedule(total_images=48, batch_size=8), dict(tiny.CNN), lr=0.01,
    random_shift=0, mean=(), std=(), denoised="tiny", noise=0.25,
)  # fmt: skip


def test_the_card_tells_of_the_score_model_and_the_same_seed_gives_the_same(tmp_path):
    def trained(name, recipe, prior):
        (tmp_path / name).mkdir()
        data = tiny.images(16), tiny.labels(16), tiny.CLASSES
        return train_classifier(recipe, *data, tmp_path / name, progress=False, prior=prior)

    made = trained("a", OPEN, tiny.prior())
    config = made.training_config
    assert (config["denoised"], config["noise"]) == ("tiny", 0.25)
    other = replace(OPEN, schedule=replace(OPEN.schedule, seed=1))
    assert made.sha256 == trained("b", OPEN, tiny.prior()).sha256
    assert made.sha256 != trained("c", other, tiny.prior()).sha256
    plain = trained("d", replace(OPEN, denoised="", noise=0.0), None)
    assert plain.sha256 != made.sha256 and plain.training_config["denoised"] == ""
    with pytest.raises(ValueError, match="the recipe denoises by tiny; give that score model"):
        trained("e", OPEN, None)


def test_the_loss_of_the_recipe_is_that_of_its_denoiser():
    recipe = replace(OPEN, mean=(0.1,) * tiny.SHAPE[0], std=(0.5,) * tiny.SHAPE[0], consistency=2.0)
    found = build_loss(recipe, tiny.prior())
    assert (found.keywords["noise"], found.keywords["consistency"]) == (0.25, 2.0)


def test_crops_are_refused_as_a_score_model_denoises_whole_images(tmp_path):
    cropped = replace(OPEN, crop_schedule=((0.5, 6), (1.0, 8)))
    with pytest.raises(ValueError, match=r"a score model denoises whole ones; write crop_schedule"):
        check_prior(cropped, tiny.prior(), tiny.images(2))


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"noise": 0.0}, "noise is 0 and denoised 'tiny'; write both"),
        ({"denoised": ""}, "noise is 0.25 and denoised ''; write both"),
        ({"noise": -1.0}, "noise -1, consistency 0, clean_fraction 0.25: expected numbers from 0"),
        ({"clean_fraction": 1.0}, "a fraction below 1"),
        ({"adversarial": "pgd", "eps": 0.1}, "a training has one of them"),
        ({"denoised": "", "noise": 0.0, "consistency": 1.0}, "are of denoised copies"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        replace(OPEN, **changes)


def test_the_command_trains_and_refuses_a_model_of_other_images(tmp_path, monkeypatch, capsys):
    tiny.write_score_model(tmp_path / "prior")
    tiny.write_classifier(tmp_path / "net")
    tiny.write_images(tmp_path / "images", 16)
    monkeypatch.chdir(tmp_path)
    words = ["train", "classifier", "--preset", "cifar10-robust", "--init", "net", "--data",
             "image-folder:images", "--train-images", "16", "--batch-size", "8", "--out", "out",
             "--denoised", "prior"]  # fmt: skip
    assert main(words) != 0
    assert "write both" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert main([*words, "--noise", "0.25"]) != 0  # of an adversarial preset
    assert "a training has one of them" in capsys.readouterr().err
    words[3] = "cifar10-resnet20"
    assert main([*words[:-2], "--clean-fraction", "0.5"]) != 0
    assert "--clean-fraction is of denoised copies" in capsys.readouterr().err
    assert main([*words, "--noise", "0.25", "--consistency", "2", "--confident"]) == 0
    config = load_card(tmp_path / "out").training_config
    assert config["denoised"] == "prior" and config["consistency"] == 2 and config["confident"]
    assert len(config["denoised_sha256"]) == 64
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["denoised"]["sha256"] == config["denoised_sha256"]
    capsys.readouterr()
    assert main([*words, "--noise", "0.25", "--denoised", "cifar10", "--overwrite"]) != 0
    assert "is of images of 3 x 32 x 32, and these are" in capsys.readouterr().err
