"""A randomised classifier by several draws: on average, by the worst of them, and by their vote."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from scoreag.assess.columns import Columns, Flags, Numbers
from scoreag.core.rejection import REJECTED
from scoreag.figures.entries import Entry, of_rate, of_shares
from scoreag.metrics.accuracy import share

Said: TypeAlias = Int[Tensor, "rows draws"]
Rule: TypeAlias = Callable[[Said, Numbers, bool], Flags]

ALL = "all images"
AGAIN = 10  # times that an image is sent, beside as often as it was judged


def drawn(found: Columns) -> dict[str, Entry]:
    """Accuracy by draws, clean and attacked; nothing where there was one only."""
    result: dict[str, Entry] = {}
    for name, said in (("clean", found.said_before), ("attacked", found.said)):
        if said is None:
            continue
        attacked = name == "attacked"
        shares = right_of(said, found.labels, attacked).double().mean(1)
        result[f"{name}_accuracy_single"] = {**of_shares(shares, ALL), "unit": "share"}
        for draws in sorted({min(AGAIN, said.shape[1]), said.shape[1]}):
            for word, rule in RULES.items():
                stays = rule(said[:, :draws], found.labels, attacked)
                result[f"{name}_accuracy_{word}_of_{draws}"] = of_rate(share(stays, ALL))
    return result


def right_of(said: Said, labels: Numbers, attacked: bool) -> Bool[Tensor, "rows draws"]:
    """Whether the label is said; of an attacked image a rejection is right, too."""
    right = said == labels[:, None]
    return right | (said == REJECTED) if attacked else right


def worst_of(said: Said, labels: Numbers, attacked: bool) -> Flags:
    """Right at every draw."""
    return right_of(said, labels, attacked).all(1)


def vote_of(said: Said, labels: Numbers, attacked: bool) -> Flags:
    """Right in what most draws say, which need not be half of them: as a defence votes."""
    return right_of(elected(said)[:, None], labels, attacked)[:, 0]


def elected(said: Said) -> Numbers:
    """What most draws say; of as many the first class, and a rejection after all classes."""
    last = int(said.max()) + 1
    votes = torch.nn.functional.one_hot(torch.where(said == REJECTED, last, said), last + 1)
    first = votes.sum(1).argmax(1)
    return torch.where(first == last, REJECTED, first)


RULES: dict[str, Rule] = {"worst": worst_of, "vote": vote_of}
