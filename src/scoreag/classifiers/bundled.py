"""The classifier of a card: its network with its weights, or its program."""

from torch import nn

from scoreag.building import within
from scoreag.cards import Card, fill, weights
from scoreag.classifiers import architecture, exported
from scoreag.files import sha256

PROGRAM = "torch.export"  # in place of a network's name: ``file`` is a program of torch.export


def load(card: Card) -> nn.Module:
    """The network as it was trained: it wants normalised images, and returns logits.

    Raises:
        ValueError: it cannot be built, or its weights are missing, altered, or do not fit.
    """
    if card.network == PROGRAM:
        return _program(card)
    given = weights(card)
    try:
        with within(given):
            module = architecture.build(card.network, card.options)
    except ValueError as error:
        raise ValueError(f"{card.name}: {error}") from error
    fill(module, given, card.name)
    return module.eval().requires_grad_(False)


def _program(card: Card) -> nn.Module:
    file = card.folder / card.file
    if not file.is_file():
        raise ValueError(f"{card.name}: its program {file} is missing")
    if (found := sha256(file)) != card.sha256:
        raise ValueError(
            f"{card.name}: {file} was altered: its sha256 is {found}, the card says {card.sha256}"
        )
    return exported.load(file).eval()
