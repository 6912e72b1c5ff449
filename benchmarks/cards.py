"""What the cards of some models say, and an evaluation of one of them over its training.

scoreag evaluate runs/cifar10 --images 2000 --compare-with 0.5 --compare-with cifar10-first \
    --out runs/evaluation
python benchmarks/cards.py cifar10 cifar10-judge cifar10-resnet20 cifar10-robust \
    --evaluation runs/evaluation --name cifar10
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common import Row, write

from scoreag.models.model_cards import Card, load_card

CARD = ("config", "metrics", "neighbors", "speed")  # what is shown of an evaluation
CURVE = ("config", "metrics", "curve")
RECORDED = {
    "config": "settings", "metrics": "figures", "neighbors": "neighbours", "nfe": "calls",
}  # fmt: skip


def described(cards: Iterable[Card]) -> list[Row]:
    """What each card says of its training and of its figures."""
    shown = ("images_seen", "minutes", "loss")
    return [
        {
            "name": known.name,
            "kind": known.kind,
            "sha256": known.sha256,
            **{name: known.training_config[name] for name in shown},
            "figures": known.metrics,
        }
        for known in cards
    ]


def evaluated(whole: Path, curve: Path) -> Row:
    """What two evaluations found of a score model: after its training, and over it."""
    at_end, over = (json.loads((folder / "figures.json").read_text()) for folder in (whole, curve))
    return {
        "card": _recorded({name: at_end[name] for name in CARD}),
        "curve": _recorded({name: over[name] for name in CURVE}),
    }


def _recorded(value: Any) -> Any:
    """With the keys of the files of results, which are those of version 0.1."""
    if isinstance(value, list):
        return [_recorded(one) for one in value]
    if isinstance(value, dict):
        return {RECORDED.get(name, name): _recorded(one) for name, one in value.items()}
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", help="names or folders of cards")
    parser.add_argument(
        "--evaluation", type=Path, required=True, help="of scoreag evaluate --compare-with"
    )
    parser.add_argument("--name", required=True, help="of the file of results")
    args = parser.parse_args()
    found = evaluated(args.evaluation, args.evaluation)
    write(args.name, {"models": described(map(load_card, args.models)), **found})


if __name__ == "__main__":
    main()
