"""Rejecting is wrong where nobody attacked, and no error where somebody did."""

import torch
import torch.nn.functional as F

from scoreag.classifiers.normalized import wrap_classifier
from scoreag.classifiers.rejection import (
    REJECT,
    can_reject,
    is_misclassified,
    predict_or_reject,
    rejection_adapted_logits,
)


def test_the_last_output_is_a_rejection_only_of_who_may_reject():
    logits = torch.tensor([[1.0, 0.0, 2.0], [1.0, 0.0, 0.5]])
    assert predict_or_reject(logits).tolist() == [2, 0]
    assert predict_or_reject(logits, has_reject_output=True).tolist() == [REJECT, 0]
    said, labels = torch.tensor([REJECT, 0, 1]), torch.tensor([0, 0, 0])
    assert is_misclassified(said, labels).tolist() == [False, False, True]


def test_the_attacked_logits_give_the_label_what_is_rejected_and_move_nothing_else():
    """Against the softmax over all outputs, in double precision."""
    source = torch.Generator().manual_seed(1)
    logits = 5 * torch.randn(40, 6, generator=source, dtype=torch.float64)
    labels = torch.randint(0, 5, (40,), generator=source)
    whole, seen = logits.softmax(1), rejection_adapted_logits(logits, labels).softmax(1)
    wanted = whole[:, :5] + F.one_hot(labels, 5) * whole[:, 5:]
    assert torch.allclose(seen, wanted, atol=1e-14)


def test_who_rejects_says_so_of_itself_also_when_it_is_normalised():
    net = torch.nn.Flatten().eval()
    assert not can_reject(net) and not can_reject(wrap_classifier(net))
    net.rejects = True
    assert can_reject(net) and can_reject(wrap_classifier(net))
