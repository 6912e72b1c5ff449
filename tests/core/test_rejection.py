"""Rejecting is wrong where nobody attacked, and no error where somebody did."""

import torch
import torch.nn.functional as F

from scoreag.core.rejection import REJECTED, answers, as_attacked, errs, rejects
from scoreag.models import classifier


def test_the_last_output_is_a_rejection_only_of_who_may_reject():
    logits = torch.tensor([[1.0, 0.0, 2.0], [1.0, 0.0, 0.5]])
    assert answers(logits).tolist() == [2, 0]
    assert answers(logits, rejecting=True).tolist() == [REJECTED, 0]
    said, labels = torch.tensor([REJECTED, 0, 1]), torch.tensor([0, 0, 0])
    assert errs(said, labels).tolist() == [False, False, True]


def test_the_attacked_logits_give_the_label_what_is_rejected_and_move_nothing_else():
    """Against the softmax over all outputs, in double precision."""
    source = torch.Generator().manual_seed(1)
    logits = 5 * torch.randn(40, 6, generator=source, dtype=torch.float64)
    labels = torch.randint(0, 5, (40,), generator=source)
    whole, seen = logits.softmax(1), as_attacked(logits, labels).softmax(1)
    wanted = whole[:, :5] + F.one_hot(labels, 5) * whole[:, 5:]
    assert torch.allclose(seen, wanted, atol=1e-14)


def test_who_rejects_says_so_of_itself_also_when_it_is_normalised():
    net = torch.nn.Flatten().eval()
    assert not rejects(net) and not rejects(classifier(net))
    net.rejects = True
    assert rejects(net) and rejects(classifier(net))
