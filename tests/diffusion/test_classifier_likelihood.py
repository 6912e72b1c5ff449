"""The log-likelihoods of a classifier, worked out by hand."""

import math

import pytest
import torch

from scoreag.diffusion.likelihoods import margin, targeted, untargeted

pytestmark = pytest.mark.usefixtures("in_double_precision")

SIGMA = torch.tensor(1.0)
LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.0, 3.0, 1.0]])


def says(logits):
    """A classifier with these logits for any images, and a gradient to the first pixel."""
    return lambda images: logits + 0 * images.flatten(1).sum(1, keepdim=True)


X0 = torch.zeros(2, 1, 1, 1)


def test_targeted_is_the_log_softmax():
    value = targeted(says(LOGITS), torch.tensor([1, 1]), 2.0)(X0, SIGMA)
    first = -math.log(math.e**2 + 1 + math.e**-1)
    second = 3 - math.log(1 + math.e**3 + math.e)
    assert value.tolist() == pytest.approx([2 * first, 2 * second])


def test_untargeted_is_the_log_of_one_minus_p():
    value = untargeted(says(LOGITS), torch.tensor([0, 1]), 1.0)(X0, SIGMA)
    p = LOGITS.softmax(1)
    assert value.tolist() == pytest.approx([math.log(1 - p[0, 0]), math.log(1 - p[1, 1])])


def test_untargeted_has_a_gradient_where_p_rounds_to_one():
    logits = torch.tensor([[100.0, 0.0, 0.0]], dtype=torch.float32, requires_grad=True)
    value = untargeted(lambda images: logits, torch.tensor([0]), 1.0)(X0[:1].float(), SIGMA)
    value.sum().backward()
    assert value.item() == pytest.approx(math.log(2) - 100)
    assert logits.grad[0].tolist() == pytest.approx([-1.0, 0.5, 0.5])


def test_untargeted_has_a_gradient_where_p_rounds_to_zero():
    """d log(1 - p) / d z_other = p softmax(others): tiny, but of the right direction."""
    logits = torch.tensor([[-16.0, 0.0, 1.0, 0.5]], dtype=torch.float32, requires_grad=True)
    value = untargeted(lambda images: logits, torch.tensor([0]), 1.0)(X0[:1].float(), SIGMA)
    value.sum().backward()
    others = torch.tensor([0.0, 1.0, 0.5]).exp()
    p = math.exp(-16) / (math.exp(-16) + others.sum().item())
    expected = [-p, *(p * others / others.sum()).tolist()]
    assert logits.grad[0].tolist() == pytest.approx(expected, rel=1e-5, abs=0)


def test_margin_is_the_lead_of_the_best_other_class_up_to_its_cap():
    labels = torch.tensor([0, 0])
    value = margin(says(LOGITS), labels, 2.0, max_margin=2.5)(X0, SIGMA)
    assert value.tolist() == pytest.approx([2 * -2.0, 2 * 2.5])


def test_margin_towards_a_class_is_its_lead_over_all_others():
    labels = torch.tensor([0, 1])
    value = margin(says(LOGITS), labels, 1.0, targets=torch.tensor([1, 2]))(X0, SIGMA)
    assert value.tolist() == pytest.approx([-2.0, -2.0])


@pytest.mark.parametrize(
    "term, labels, resting",
    [
        (targeted, [0, 0], [1, 0]),  # leads 2 and -3
        (untargeted, [1, 0], [1, 1]),  # leads 2 and 3
        (margin, [1, 1], [1, 0]),  # leads 2 and -2
    ],
)
def test_an_image_beyond_the_stop_margin_is_not_guided(term, labels, resting):
    told = []
    options = {"stop_margin": 1.5, "on_skip": told.append}
    value = term(says(LOGITS), torch.tensor(labels), 1.0, **options)(X0, SIGMA)
    assert told[0].tolist() == resting
    assert [v == 0 for v in value.tolist()] == [bool(r) for r in resting]


def test_the_classifier_receives_images_not_states():
    """A state of -1 is a pixel of 0, a state of 1 a pixel of 1."""
    seen = []

    def classify(images):
        seen.append(images)
        return images.flatten(1)

    states = torch.tensor([[[[-1.0, 0.0, 1.0]]]])
    targeted(classify, torch.tensor([0]), 1.0)(states, SIGMA)
    assert seen[0].flatten().tolist() == [0.0, 0.5, 1.0]
