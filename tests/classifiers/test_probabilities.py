"""The classes that a row names with their probabilities, written down by hand."""

import torch

from scoreag.classifiers.probabilities import list_probabilities, softmax_probabilities

SHARES = torch.tensor([[0.5, 0.25, 0.125, 0.0625, 0.0625], [0.05, 0.05, 0.1, 0.7, 0.1]])


def test_the_likeliest_classes_are_named_and_the_label_and_the_target_in_any_case():
    labels, targets = torch.tensor([4, 3]), torch.tensor([-1, 0])
    first, second = list_probabilities(SHARES, (labels, None, targets))
    assert list(first.items()) == [("0", 0.5), ("1", 0.25), ("2", 0.125), ("4", 0.0625)]
    assert list(second.items()) == [("3", 0.7), ("2", 0.1), ("4", 0.1), ("0", 0.05)]


def test_the_last_output_of_a_classifier_that_rejects_is_no_class():
    listed = list_probabilities(SHARES[1:, [0, 1, 2, 4, 3]], has_reject_output=True)
    assert next(iter(listed[0])) == "-1" and listed[0]["-1"] == 0.7


def test_an_image_whose_probabilities_are_no_numbers_has_none():
    first, second = list_probabilities(torch.tensor([[torch.nan, 1.0], [0.0, 1.0]]))
    assert first is None and second == {"1": 1.0, "0": 0.0}


def test_probabilities_are_the_softmax_of_the_logits():
    shares = softmax_probabilities(torch.tensor([[0.0, 2.0]], dtype=torch.float16).log_softmax(1))
    assert shares.dtype == torch.float32
    torch.testing.assert_close(shares[0, 1], torch.tensor(0.8808), atol=1e-3, rtol=0)
