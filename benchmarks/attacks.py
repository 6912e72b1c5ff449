"""Our attacks beside those of other libraries, and each one's own aim beside PGD.

PGD beside Foolbox's, APGD beside its authors' (autoattack) and its copy in torchattacks, each left
out where it is not installed: the same images, nets, radius and steps, in turns and several times,
as the pace of a machine wanders.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from common import Row, Ruler, eight_bit, given_images, options, rate, ruler, write
from torch import Tensor

import scoreag
from scoreag.attacks import (
    advad,
    apgd,
    auto_ensemble,
    di_fgsm,
    fgsm,
    gat,
    low_frequency,
    lpa,
    pgd,
    ppgd,
    si_ni_fgsm,
    square,
    stadv,
)
from scoreag.attacks._attack import Attack, attack_name
from scoreag.core.rng import Noise

EPSILON = 8 / 255
BEFORE = "images that it had right before"


@dataclass
class Counted:
    """A classifier that counts the images it is asked about, with a gradient and without."""

    classifier: Any
    gradients: int = 0
    answers: int = 0

    def __call__(self, images: Tensor) -> Tensor:
        if images.requires_grad and torch.is_grad_enabled():
            self.gradients += len(images)
        else:
            self.answers += len(images)
        return self.classifier(images)


def fooled(victim: Any, images: Tensor, labels: Tensor) -> Tensor:
    """Of the 8-bit images, those that are misread."""
    with torch.no_grad():
        return victim(eight_bit(images)).argmax(1) != labels


def ours(attack: Attack, victim: Any, images: Tensor, labels: Tensor) -> Tensor:
    """The attack alone: the look at the classifier before it is not counted or timed."""
    return attack.run(victim, images, labels, Noise(0, range(len(images))))


def foolbox_pgd(steps: int, victim: Any, images: Tensor, labels: Tensor) -> Tensor:
    with warnings.catch_warnings(action="ignore"):
        import foolbox

    model = foolbox.PyTorchModel(victim, bounds=(0, 1))
    attack = foolbox.attacks.LinfPGD(steps=steps, rel_stepsize=2.5 / steps)
    return attack(model, images, labels, epsilons=EPSILON)[1]


def authors_apgd(steps: int, victim: Any, images: Tensor, labels: Tensor) -> Tensor:
    from autoattack.autopgd_base import APGDAttack

    attack = APGDAttack(
        victim, n_iter=steps, norm="Linf", n_restarts=1, eps=EPSILON, seed=0, loss="ce",
        eot_iter=1, rho=0.75, device=images.device,
    )  # fmt: skip
    return attack.perturb(images, labels)


def copied_apgd(steps: int, victim: Any, images: Tensor, labels: Tensor) -> Tensor:
    import torchattacks

    return torchattacks.APGD(victim, eps=EPSILON, steps=steps, seed=0)(images, labels)


def pairs(steps: int) -> Iterable[tuple[str, Attack, str, Callable[..., Tensor]]]:
    yield "PGD", pgd.PGD(EPSILON, steps), "foolbox LinfPGD", foolbox_pgd
    mine = apgd.APGD(EPSILON, steps)
    if find_spec("autoattack"):
        yield "APGD, cross-entropy", mine, "autoattack APGD", authors_apgd
    if find_spec("torchattacks"):
        yield "APGD, cross-entropy", mine, "torchattacks APGD", copied_apgd


def beside(victim: Any, images: Tensor, labels: Tensor, args: argparse.Namespace) -> Iterable[Row]:
    """Both of a pair in turns, after one round of warming up with few images."""
    for name, mine, rival, theirs in pairs(args.steps):
        sides = {
            "ours": lambda x, y, mine=mine: ours(mine, victim, x, y),
            "theirs": lambda x, y, theirs=theirs: theirs(args.steps, victim, x, y),
        }
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        found = {side: run(images[:2], labels[:2]) for side, run in sides.items()}
        for turn in range(args.repeats):
            for side in sorted(sides, reverse=turn % 2 == 1):
                began = time.perf_counter()
                found[side] = sides[side](images, labels)
                seconds[side].append(round(time.perf_counter() - began, 3))
        ratios = [b / a for a, b in zip(seconds["ours"], seconds["theirs"], strict=True)]
        yield {
            "settings": f"{name} beside {rival}, {args.steps} steps",
            **{side: rate(fooled(victim, x, labels), BEFORE) for side, x in found.items()},
            "seconds": seconds,
            "ratio": statistics.median(ratios),
            "ratios": [round(r, 3) for r in ratios],
        }


def contenders(metric: Any, prior: Any) -> Iterable[tuple[str, Attack]]:
    """Each attack, and what it is for; PGD first, which the others are held against."""
    ball: dict[str, Any] = {"eps": EPSILON}
    yield "the measure of all others", pgd.PGD(**ball)
    yield "one step", fgsm.FGSM(**ball)
    yield "success", apgd.APGD(**ball, steps=40)
    yield "success", auto_ensemble.AutoEnsemble(**ball, steps=40, n_queries=200)
    yield "no gradient", square.Square(**ball, n_queries=500)
    yield "transfer", di_fgsm.DIFGSM(**ball)
    yield "transfer", si_ni_fgsm.SINIFGSM(**ball)
    yield "what a purifier leaves", low_frequency.LowFrequency(**ball, steps=40)
    yield "LPIPS", stadv.StAdv(steps=60)
    yield "LPIPS", advad.AdvAD(**ball, steps=60)
    if metric is not None:
        yield "LPIPS", ppgd.PPGD(eps=0.001, steps=20, lpips=metric)
        yield "LPIPS", lpa.LPA(eps=0.001, steps=12, lpips=metric)
    yield "what the judge says", gat.GAT(prior=prior)


@dataclass(frozen=True)
class Scene:
    """What an attack's images are looked at with."""

    victim: Any
    other: Any
    images: Tensor
    labels: Tensor
    measure: Ruler
    prior: Any

    def row(self, aim: str, attack: Attack) -> Row:
        counted, began = Counted(self.victim), time.perf_counter()
        found = ours(attack, counted, self.images, self.labels)
        seconds, count = time.perf_counter() - began, len(self.images)
        kept, hits = eight_bit(found), fooled(self.victim, found, self.labels)
        elsewhere = fooled(self.other, self.images, self.labels)
        row = {
            "settings": attack_name(type(attack)),
            "resolved": repr(attack),
            "aim": aim,
            "success_8bit": rate(hits, BEFORE),
            "transferred": rate(
                fooled(self.other, found, self.labels)[~elsewhere],
                "images that both had right",
            ),
            "judge": rate(self.measure.message(kept) == self.labels, BEFORE),
            **self.measure.distances(kept, self.images),
            "gradients": counted.gradients / count,
            "answers": counted.answers / count,
            "seconds": seconds,
        }
        return {**row, **self.purified(aim, kept)}

    def purified(self, aim: str, kept: Tensor) -> Row:
        """Misread behind a purifier that the attack did not see; for the two compared in it."""
        if aim not in ("what a purifier leaves", "the measure of all others"):
            return {}
        clean = scoreag.purify(self.prior, kept, progress=False).images
        return {"purified": rate(fooled(self.victim, clean, self.labels), BEFORE)}


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--data", default="cifar10:test")
    parser.add_argument("--classifier", nargs=2, default=["cifar10-resnet20", "cifar10-robust"])
    parser.add_argument("--model", default="cifar10")
    parser.add_argument("--steps", type=int, default=40, help="of PGD and APGD beside others")
    parser.add_argument("--repeats", type=int, default=3, help="of each measured time")
    parser.add_argument("--name", default="attacks", help="of the file of results")
    args = parser.parse_args()
    images, labels = given_images(args)
    measure, prior = ruler(args.lpips), scoreag.load_prior(args.model)
    nets = [scoreag.load_classifier(name) for name in args.classifier]
    figures: Row = {
        "data": args.data, "images": len(images), "repeats": args.repeats, "beside": {}, "aims": {}
    }  # fmt: skip
    for name, victim, other in zip(args.classifier, nets, nets[::-1], strict=True):
        right = ~fooled(victim, images, labels)
        scene = Scene(victim, other, images[right], labels[right], measure, prior)
        rows: Mapping[str, list[Row]] = {
            kind: figures[kind].setdefault(name, []) for kind in ("beside", "aims")
        }
        for row in beside(victim, scene.images, scene.labels, args):
            rows["beside"].append(row)
            told(name, row, args.name, figures)
        for aim, attack in contenders(measure.lpips, prior):
            rows["aims"].append(scene.row(aim, attack))
            told(name, rows["aims"][-1], args.name, figures)


def told(victim: str, row: Row, name: str, figures: Row) -> None:
    shares = {
        k: f"{v['count']}/{v['total']}" for k, v in row.items() if isinstance(v, dict) and "of" in v
    }
    numbers = {k: round(v, 4) for k, v in row.items() if isinstance(v, float)}
    print(victim, row["settings"], shares, numbers, flush=True)
    write(name, figures)


if __name__ == "__main__":
    main()
