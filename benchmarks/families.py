"""How do family and process change attack and purification?

The same network, trained equally long on the same images as EDM, DDPM and NCSN: unguided draws,
GAS, GAT, and GAP at the sigma_start and similarity that serve each best on training images that no
model saw.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from common import (
    Row,
    attacked,
    crossed,
    eight_bit,
    given_images,
    options_of_settings,
    rate,
    ruler,
    short,
    values,
    write,
)
from purification import row as purified
from synthesis import row as synthesised
from torch import Tensor
from transformation import row as transformed

import scoreag
from scoreag.attacks import pgd
from scoreag.methods.run_task import run_in_memory
from scoreag.methods.synthesis import build_synthesis
from scoreag.metrics.feature_distances import frechet_distance
from scoreag.models.model_cards import load_card


def main() -> None:
    parser = options_of_settings(__doc__, "families")
    parser.add_argument("--models", nargs="+", required=True, help="names or folders of cards")
    parser.add_argument("--data", required=True)
    parser.add_argument("--held-out", required=True, help="training images that no model saw")
    parser.add_argument("--per-class", type=int, default=50)
    args = parser.parse_args()
    victim, judge = scoreag.load_classifier(args.classifier[0]), ruler(judge=args.judge)
    attack, grid = pgd.PGD(eps=args.eps), values(args.grid)
    data, held = (beside(victim, words, args, attack) for words in (args.data, args.held_out))
    figures: Row = {"images": args.images, "per_class": args.per_class, "rows": []}
    for name in args.models:
        prior = scoreag.load_prior(name)
        found = {**about(name), **measured(prior, victim, judge, (data.images, data.labels), args)}
        best, tried = chosen(prior, victim, held, grid)
        found |= {"purify": best, "tried": tried, **protected(prior, victim, data, best)}
        figures["rows"].append(found)
        print(short({"settings": found["model"], **found}), flush=True)
        write(args.name, figures)


@dataclass(frozen=True)
class Attacked:
    """Images, the same under PGD, which does not see any purifier, and their labels."""

    images: Tensor
    adversarial: Tensor
    labels: Tensor


def beside(victim: Any, words: str, args: Any, attack: pgd.PGD) -> Attacked:
    images, labels = given_images(args, words)
    return Attacked(images, attacked(victim, images, labels, attack), labels)


def about(name: str) -> Row:
    known = load_card(name)
    return {
        "model": Path(name).name,
        "family": known.family,
        **{key: known.training_config[key] for key in ("images_seen", "minutes", "loss")},
    }


def measured(prior: Any, victim: Any, judge: Any, data: Any, args: Any) -> Row:
    """Unguided draws, GAS and GAT, at the same settings for every model."""
    labels = torch.arange(len(prior.classes)).repeat_interleave(args.per_class)
    free = run_in_memory(
        build_synthesis(prior, victim, labels, "runner_up", attack_scale=0.0, max_restarts=0),
        progress=False,
    )
    drawn, (images, _) = eight_bit(free.images), data
    few = torch.arange(len(prior.classes)).repeat_interleave(max(1, args.per_class // 5))
    gas = synthesised(prior, victim, few, judge)
    gat = transformed(prior, victim, data, judge)
    return {
        "draws_judge": rate(judge.message(drawn) == labels, "all images"),
        "draws_frechet": frechet_distance(judge.moments(drawn), judge.moments(images)),
        "gas_success": gas["success_8bit"],
        "gas_judge": gas["judge"],
        "gat_success": gat["success_8bit"],
        "gat_judge": gat["judge"],
        "gat_frechet": gat["frechet"],
    }


def chosen(
    prior: Any, victim: Any, held: Attacked, grid: dict[str, list[Any]]
) -> tuple[Row, list[Row]]:
    """The setting of the grid with the best mean of attacked and clean accuracy, and all of them.

    The images are not those of the tables.
    """
    tried = [
        {"settings": settings, **gap(prior, victim, held, settings)} for settings in crossed(grid)
    ]

    def worth(row: Row) -> float:
        both = row["attacked_purified"]["value"] + row["clean_purified"]["value"]
        return float(both)

    return max(tried, key=worth)["settings"], tried


def protected(prior: Any, victim: Any, data: Attacked, settings: Row) -> Row:
    found = gap(prior, victim, data, settings)
    return {key: found[key] for key in ("attacked_purified", "clean_purified", "resolved")}


def gap(prior: Any, victim: Any, given: Attacked, settings: Row) -> Row:
    return purified(prior, victim, given.images, given.adversarial, given.labels, **settings)


if __name__ == "__main__":
    main()
