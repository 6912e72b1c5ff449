"""How much of GAP's blind robustness is left when the attacker differentiates through the chain.

One curve each: over the steps of the chain, over its precision s_x, and over the draws that vote.
Blind: APGD on the classifier alone. Exact: APGD through the purifier, with the mean gradient over
draws, an image left alone once it is misread in fresh ones. Both are judged by the same draws of
the same purifier, which no attack saw. The votes judge the images of the first exact attack.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache, partial
from typing import Any

import torch
from common import Row, eight_bit, given_images, options, rate, write
from torch import Tensor

import scoreag
from scoreag.assess.metrics import majority_vote, worst_of_k
from scoreag.assess.threat_model import DRAW_OFFSET_EVAL
from scoreag.attacks import apgd
from scoreag.defenses.purified_classifier import PurifiedClassifier
from scoreag.methods.config import fields_for_task, resolve_task_config

BATCH = 16  # images at once


def batches(count: int) -> list[list[int]]:
    return [list(range(i, min(i + BATCH, count))) for i in range(0, count, BATCH)]


def attacked(victim: Any, images: Tensor, labels: Tensor, attack: apgd.APGD) -> Tensor:
    """The saved images of an attack; each draws as itself, however they are batched."""
    parts = []
    for ids in batches(len(images)):
        part = victim.select_rows(ids) if isinstance(victim, PurifiedClassifier) else victim
        parts.append(attack(part, images[ids], labels[ids], 0, ids))
    return eight_bit(torch.cat(parts))


@torch.no_grad()
def answers(defended: PurifiedClassifier, images: Tensor, draws: int) -> Tensor:
    """What is said at each of several draws, which no attack saw: a row an image."""
    rows = []
    for ids in batches(len(images)):
        said = [
            defended.fix_randomness(DRAW_OFFSET_EVAL + k, ids)(images[ids]).argmax(1)
            for k in range(draws)
        ]
        rows.append(torch.stack(said, 1))
    return torch.cat(rows)


def told(said: dict[str, Tensor], labels: Tensor, draws: int) -> Row:
    """Accuracies by vote of ``draws``, and what the exact attack leaves of those right blind."""
    votes = {name: majority_vote(found[:, :draws], labels, True) for name, found in said.items()}
    worst = worst_of_k(said["exact"][:, :draws], labels, True)
    return {
        **{name: rate(hits, "all images") for name, hits in votes.items()},
        "exact_worst": rate(worst, "all images"),
        "survives": rate(votes["exact"][votes["blind"]], "images right under the blind attack"),
    }


class Bench:
    """The victim with its images as they are and under the blind attack, to be defended."""

    def __init__(self, args: Any) -> None:
        self.args, self.prior = args, scoreag.load_prior(args.model)
        self.victim = scoreag.load_classifier(args.classifier)
        self.images, self.labels = given_images(args)
        self.blind = attacked(self.victim, self.images, self.labels, self.attack(1, 0))

    def attack(self, draws: int, stop: int) -> apgd.APGD:
        epsilon = self.args.eps
        return apgd.APGD(
            eps=epsilon, steps=self.args.iterations, eot_samples=draws, early_stop_draws=stop
        )

    def judged(self, draws: int, **settings: Any) -> tuple[Row, dict[str, Tensor]]:
        """The resolved settings of GAP, and the answers to each kind of image."""
        defended = scoreag.defend(self.victim, self.prior, "gap", **settings)
        through = self.attack(self.args.draws, self.args.stop)
        exact = attacked(defended, self.images, self.labels, through)
        kinds = {"clean": self.images, "blind": self.blind, "exact": exact}
        said = {name: answers(defended, x, draws) for name, x in kinds.items()}
        return defended.config.sampling.subset(fields_for_task("purify")), said


def rows(bench: Bench, args: Any) -> Iterator[Row]:
    """The card's own setting first; where an axis passes through it, it is not searched again."""
    own = cache(partial(bench.judged, max([*args.votes, args.answers])))
    card, labels = resolve_task_config(bench.prior, "purify"), bench.labels
    for draws in args.votes:
        resolved, said = own()
        yield {"axis": "votes", "at": draws, "resolved": resolved, **told(said, labels, draws)}
    for axis, values in (("steps", args.steps), ("similarity", args.similarity)):
        for at in values:
            same = at == getattr(card, axis)
            resolved, said = own() if same else bench.judged(args.answers, **{axis: at})
            figures = told(said, labels, args.answers)
            yield {"axis": axis, "at": at, "resolved": resolved, **figures}


def measure(args: Any, found: Iterable[Row]) -> None:
    """The rows, written as each is done: what is cut off keeps them."""
    names = ("images", "classifier", "model", "data", "iterations", "draws", "stop")
    figures: Row = {name: getattr(args, name) for name in (*names, "answers")}
    figures["epsilon"] = args.eps
    figures["rows"] = done = list[Row]()
    for row in found:
        done.append(row)
        shares = [
            f"{n} {row[n]['count']}/{row[n]['total']}" for n in ("blind", "exact", "survives")
        ]
        print(row["axis"], row["at"], *shares, flush=True)
        write("white_box", figures)


def main(words: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.set_defaults(images=32)
    parser.add_argument("--data", default="cifar10:test")
    parser.add_argument("--model", default="cifar10")
    parser.add_argument("--classifier", default="cifar10-resnet20")
    parser.add_argument("--eps", type=float, default=8 / 255, help="in [0, 1], linf")
    parser.add_argument("--iterations", type=int, default=100, help="of each attack")
    parser.add_argument("--draws", type=int, default=10, help="of each of its gradients")
    parser.add_argument("--stop", type=int, default=10, help="fresh draws that end an image")
    parser.add_argument("--answers", type=int, default=10, help="draws that judge")
    parser.add_argument("--steps", type=int, nargs="*", default=[3, 6, 12, 24])
    parser.add_argument("--similarity", type=float, nargs="*", default=[10, 30, 100, 300])
    parser.add_argument("--votes", type=int, nargs="*", default=[1, 3, 10, 30, 128])
    args = parser.parse_args(words)
    measure(args, rows(Bench(args), args))


if __name__ == "__main__":
    main()
