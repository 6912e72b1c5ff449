"""A classifier whose gradients are hidden is no more robust, and an assessment finds that out."""

import json

import pytest
import torch

from scoreag import load_classifier
from scoreag.attacks import pgd, square
from scoreag.classifiers.gradient_masking import BpdaView, GradientMasked
from scoreag.cli.app import main


class Brightness(torch.nn.Module):
    """Two classes: darker or brighter than one half; gradients of 1 a pixel."""

    def forward(self, images):
        lead = (images - 0.5).flatten(1).sum(1)
        return torch.stack([-lead, lead], 1)


class Squares(torch.nn.Module):
    """The sum of the squared pixels, and less the sum of the pixels."""

    def forward(self, images):
        flat = images.flatten(1)
        return torch.stack([flat.square().sum(1), -flat.sum(1)], 1)


def test_the_input_is_rounded_to_its_levels_and_the_logits_scaled_by_hand():
    images = torch.tensor([0.1, 0.3, 0.6, 0.9]).view(1, 1, 2, 2)  # of 3 levels: 0, .5, .5, 1
    assert GradientMasked(Brightness(), levels=3, scale=10.0)(images).tolist() == [[0.0, 0.0]]
    images[0, 0, 0, 1] = 0.2
    assert GradientMasked(Brightness(), levels=3, scale=10.0)(images).tolist() == [[5.0, -5.0]]


def test_attacks_along_gradients_find_nothing_and_those_without_do():
    images, labels = torch.full((4, 1, 8, 8), 0.48), torch.zeros(4, dtype=torch.long)
    bare = Brightness().eval()
    hidden = GradientMasked(bare).eval()
    for classifier, fooled in ((bare, 4), (hidden, 0)):
        still = pgd.PGD(eps=0.1, steps=20)(classifier, images, labels, seed=0)
        assert int((classifier(still).argmax(1) != labels).sum()) == fooled
    found = square.Square(eps=0.1, n_queries=200)(hidden, images, labels, seed=0)
    assert (hidden(found).argmax(1) != labels).all()
    made_elsewhere = pgd.PGD(eps=0.1, steps=20)(bare, images, labels, seed=0)
    assert (hidden(made_elsewhere).argmax(1) != labels).all()


def test_to_who_knows_the_trick_it_answers_alike_and_has_the_gradient_of_what_it_hides():
    """Levels of 0, 1/2 and 1: the gradient at 0.3 is that of x^2 at 1/2, where x is rounded to."""
    images = torch.tensor([0.1, 0.3, 0.6, 0.9]).view(1, 1, 2, 2).requires_grad_()
    known, hidden = BpdaView(Squares(), levels=3), GradientMasked(Squares(), levels=3, scale=10.0)
    assert torch.allclose(10 * known(images), hidden(images))
    (gradient,) = torch.autograd.grad(known(images)[0, 0], images)
    assert torch.allclose(gradient.flatten(), torch.tensor([0.0, 1.0, 1.0, 2.0]))


def test_who_knows_the_trick_fools_it_along_gradients():
    images, labels = torch.full((4, 1, 8, 8), 0.48), torch.zeros(4, dtype=torch.long)
    hidden, known = GradientMasked(Brightness()).eval(), BpdaView(Brightness()).eval()
    found = pgd.PGD(eps=0.1, steps=20)(known, images, labels, seed=0)
    assert (hidden(found).argmax(1) != labels).all()


def test_it_is_named_by_what_it_hides_and_keeps_its_weights_and_size(planned):
    bare, hidden = load_classifier("net"), load_classifier("obfuscated:net")
    assert hidden.metadata["name"] == "obfuscated:net" and hidden.image_shape == bare.image_shape
    images = torch.randint(0, 16, (3, *bare.image_shape)) / 15
    assert torch.allclose(hidden(images), 1e4 * bare(images), rtol=1e-4)
    known = load_classifier("bpda:net")
    assert torch.allclose(known(images), bare(images), rtol=1e-4) and known.image_shape
    with pytest.raises(ValueError, match=r"obfuscated:net: .*leave out mean"):
        load_classifier("obfuscated:net", mean=(0.5,))
    with pytest.raises(ValueError, match="or did you mean obfuscated:net"):
        load_classifier("obfuscatd:net")


def test_an_assessment_says_that_its_gradients_are_zero(planned, tmp_path):
    text = (planned / "plan.toml").read_text()
    (planned / "masked.toml").write_text(text.replace('"net"', '"obfuscated:net"'))
    words = ["--only", "*none/pgd,eps=8*", "--out", str(tmp_path / "out"), "--quiet"]
    assert main(["assess", "masked.toml", *words]) == 0
    found = json.loads((tmp_path / "out" / "summary.json").read_text())["findings"]
    assert [one for one in found if one["check"] == "gradients" and one["is_error"]]
