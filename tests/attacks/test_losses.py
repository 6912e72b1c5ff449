"""Losses: values worked out by hand."""

import math

import pytest
import torch

from scoreag.attacks._objective import (
    LOSSES,
    cross_entropy,
    dlr,
    margin,
    top_k_wrong_classes,
)
from scoreag.diffusion.likelihoods import log_misclassified_prob

LOGITS = torch.tensor([[4.0, 1.0, 3.0, -1.0, 0.0], [4.0, 1.0, 3.0, -1.0, 0.0]]).double()
LABELS = torch.tensor([0, 1])  # right, and wrong


def test_margin_is_the_lead_of_the_likeliest_wrong_class():
    assert margin(LOGITS, LABELS).tolist() == [-1.0, 3.0]


def test_dlr_by_hand():
    """In order 4, 3, 1, 0, -1: (3 - 4) / (4 - 1), and (4 - 1) / (4 - 1)."""
    assert dlr(LOGITS, LABELS).tolist() == pytest.approx([-1 / 3, 1.0])


def test_targeted_dlr_by_hand():
    """Towards class 4: (0 - 4) / (4 - (1 + 0) / 2) and (0 - 1) / 3.5."""
    found = LOSSES["dlr"](LOGITS, LABELS, torch.tensor([4, 4]))
    assert found.tolist() == pytest.approx([-4 / 3.5, -1 / 3.5])


def test_targeted_margin_and_cross_entropy_by_hand():
    targets = torch.tensor([2, 4])
    assert LOSSES["margin"](LOGITS, LABELS, targets).tolist() == [-1.0, -1.0]
    total = sum(math.exp(z) for z in LOGITS[0].tolist())
    expected = [math.log(math.exp(3) / total), math.log(1 / total)]
    assert LOSSES["ce"](LOGITS, LABELS, targets).tolist() == pytest.approx(expected)


def test_cross_entropy_and_log_misclassified_are_logs_of_p_and_one_minus_p():
    share = math.exp(4) / sum(math.exp(z) for z in LOGITS[0].tolist())
    assert cross_entropy(LOGITS, LABELS)[0].item() == pytest.approx(-math.log(share))
    assert log_misclassified_prob(LOGITS, LABELS)[0].item() == pytest.approx(math.log(1 - share))


def test_log_misclassified_has_a_gradient_where_the_label_is_certain():
    """d log(1 - p_y) / dz_y = -p_y, which is -1 at p = 1, however small 1 - p is."""
    logits = torch.tensor([[200.0, 0.0]], requires_grad=True)
    log_misclassified_prob(logits, torch.tensor([0])).sum().backward()
    assert logits.grad is not None and logits.grad[0, 0].item() == pytest.approx(-1.0)


def test_dlr_is_invariant_to_the_scale_of_the_logits():
    assert torch.allclose(dlr(1000 * LOGITS + 7, LABELS), dlr(LOGITS, LABELS))


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_rises_as_the_logit_of_the_label_falls(name):
    less = LOGITS - torch.eye(5, dtype=LOGITS.dtype)[LABELS] * 0.1
    assert (LOSSES[name](less, LABELS) > LOSSES[name](LOGITS, LABELS)).tolist()[0]


@pytest.mark.parametrize("name", LOSSES)
def test_a_targeted_loss_rises_with_the_logit_of_its_class(name):
    targets = torch.tensor([3, 3])
    more = LOGITS + torch.eye(5, dtype=LOGITS.dtype)[targets] * 0.1
    assert (LOSSES[name](more, LABELS, targets) > LOSSES[name](LOGITS, LABELS, targets)).all()


def test_top_k_wrong_classes_are_in_order_and_at_most_all():
    assert top_k_wrong_classes(LOGITS, LABELS, 2).tolist() == [[2, 1], [0, 2]]
    assert top_k_wrong_classes(LOGITS, LABELS, 9).shape == (2, 4)


def test_too_few_classes_for_dlr_are_refused():
    with pytest.raises(ValueError, match=r"dlr needs 3 classes.*knows 2; write loss 'margin'"):
        dlr(LOGITS[:, :2], LABELS)
    with pytest.raises(ValueError, match="dlr with targets needs 4 classes"):
        LOSSES["dlr"](LOGITS[:, :3], LABELS, LABELS)
