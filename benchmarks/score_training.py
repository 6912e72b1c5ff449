"""A score model over its training: the loss on held-out images, and guided samples.

python benchmarks/score_training.py runs/early cifar10

Each model is a card of the same network; the loss is at noise that is the same for all, and of the
samples by the card's guidance the judge tells how many show their class.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from common import Row, write
from training_recipes import held_out, shown

import scoreag
from scoreag.data.loading import Dataset, load_dataset
from scoreag.methods.config import resolve_task_config
from scoreag.methods.guided_sampling import configure_prior
from scoreag.models.model_cards import load_card
from scoreag.training.presets import get_preset
from scoreag.training.recipes import SCORE_PRESETS as PRESETS


def row(name: str, defaults: Any, held: Dataset, preset: str, count: int) -> Row:
    """What a card has seen, and how good it is."""
    card, prior = load_card(name), replace(scoreag.load_prior(name), defaults=defaults)
    state: Any = SimpleNamespace(network=prior.model)
    config = resolve_task_config(prior, "synthesize", sampler="ancestral")
    judge = scoreag.load_classifier(prior.judge)
    return {
        "images_seen": card.training_config["images_seen"],
        "loss": held_out(state, get_preset(preset, PRESETS), held),
        "guided": shown(configure_prior(prior, config), judge, count),
        "resolved": config.to_dict("synthesize"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", help="names or folders of cards")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--preset", default="cifar10-small")
    parser.add_argument("--defaults-of", default="cifar10", help="card whose guidance all have")
    parser.add_argument("--held-out", default="cifar10:train[45000:47000]")
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--name", default="score_training")
    args = parser.parse_args()
    held = load_dataset(args.held_out, args.data_dir)
    defaults = scoreag.load_prior(args.defaults_of).defaults
    rows: list[Row] = []
    for name in args.models:
        rows.append(row(name, defaults, held, args.preset, args.samples))
        print(rows[-1], flush=True)
        write(args.name, {"preset": args.preset, "held_out": args.held_out, "rows": rows})


if __name__ == "__main__":
    main()
