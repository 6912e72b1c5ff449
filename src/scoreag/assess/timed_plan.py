"""The plan of an assessment of one's own models, with as many images as the time allows."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scoreag.assess.cost_estimate import estimate_costs
from scoreag.assess.experiments import ModelCache
from scoreag.assess.plan import load_plan
from scoreag.assess.resolve import resolve_plan
from scoreag.models.model_cards import to_toml

DATASET, PURIFIER = "own", "gap_blind"
TIME_SHARES = {"pgd": 0.1, "gat": 0.35, "gas": 0.3, "pgd_purified": 0.15, "gap": 0.1}
BATCH_SIZE, SMALL_BATCH = 16, 4
MAX_IMAGES = 256
SHORT, VERY_SHORT = 60.0, 15.0  # seconds: too few to measure in; for small batches only


@dataclass(frozen=True)
class Members:
    """The test data, the cards of the plan, the number of classes, and PGD's radius."""

    data: str
    prior: str
    classifier: str
    judge: str
    n_classes: int
    eps: float | str


def plan_table(members: Members, images: Mapping[str, int]) -> dict[str, Any]:
    """The plan: PGD, GAT and GAS on the classifier, GAP of PGD's images and of clean ones."""
    return {
        "description": (
            "GAT and GAS beside PGD on a classifier of one's own, GAP of PGD's images and of clean "
            "ones"
        ),
        "images": max(images.values()),
        "batch_size": min(BATCH_SIZE, max(SMALL_BATCH, *images.values())),
        "eval_draws": 3,
        "datasets": {
            DATASET: {
                "data": members.data, "prior": members.prior,
                "reference_classifier": members.judge, "classifiers": [members.classifier],
            }
        },
        "purifiers": {PURIFIER: {"purifier": "gap", "attacker_options": {"backward": "none"}}},
        "attacks": {
            "pgd": {"eps": members.eps, "steps": 20, "images": images["pgd"], "purifiers": []},
            "gat": {"images": images["gat"], "purifiers": []},
            "gas": {"attack_scale": ["auto", 0.0], "images": images["gas"], "purifiers": []},
            "pgd_purified": {
                "attack": "pgd", "eps": members.eps, "steps": 20,
                "images": images["pgd_purified"], "purifiers": [PURIFIER],
            },
            "gap": {"images": images["gap"]},
        },
    }  # fmt: skip


def fit_images(
    members: Members, test_images: int, seconds: float, cache: ModelCache
) -> dict[str, int]:
    """The number of images of each attack, which together take about ``seconds``.

    Each attack is measured on two images; where less than a minute is left, each gets one batch.
    """
    least = min(SMALL_BATCH if seconds < VERY_SHORT else BATCH_SIZE, test_images)
    if seconds < SHORT:
        return dict.fromkeys(TIME_SHARES, least)
    costs = _measure(plan_table(members, dict.fromkeys(TIME_SHARES, 2)), cache)
    return {
        name: max(least, _round_down(share * seconds / costs[name], limit))
        for name, share in TIME_SHARES.items()
        for limit in [_limit(name, members, test_images)]
    }


def _limit(name: str, members: Members, test_images: int) -> int:
    """Generated images are 20 a class at most; others are those of the test data."""
    if name == "gas":
        return min(MAX_IMAGES, 20 * members.n_classes)
    return min(MAX_IMAGES, test_images)


def _round_down(images: float, limit: int) -> int:
    """Whole batches, as padded ones cost as much, or everything."""
    return limit if images >= limit else BATCH_SIZE * int(images // BATCH_SIZE)


def _measure(table: Mapping[str, Any], cache: ModelCache) -> dict[str, float]:
    """The seconds of an image by the attack's name, all its variants together."""
    with TemporaryDirectory(prefix="scoreag-") as folder:
        file = Path(folder) / "plan.toml"
        file.write_text(to_toml(table), encoding="utf-8")
        cells = resolve_plan(load_plan(file), cache)
    seconds: defaultdict[str, float] = defaultdict(float)
    for estimate in estimate_costs(cells, cache):
        padded = len(estimate.cell.batches) * estimate.cell.batch_size
        seconds[estimate.cell.attack] += estimate.seconds / padded
    return seconds
