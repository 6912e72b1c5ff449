"""What more training of the score model brings: unguided draws, and GAP, over images seen.

Each model is a folder with a card; the settings are those of the bundled card. The images are
training images that no model saw, so that nothing is chosen on test images.
"""

from dataclasses import replace
from typing import Any

import torch
from common import attacked, given_images, options, rate, ruler, write
from purification import row as purified
from synthesis import row as synthesised

import scoreag
from scoreag.models.model_cards import load_card


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--data", default="cifar10:train[45000:50000]")
    parser.add_argument("--model", nargs="+", required=True, help="folders or names of cards")
    parser.add_argument("--per-class", type=int, default=10)
    args = parser.parse_args()
    victim, measure = scoreag.load_classifier("cifar10-resnet20"), ruler()
    images, labels = given_images(args)
    adversarial = attacked(victim, images, labels)
    asked = torch.arange(10).repeat_interleave(args.per_class)
    with torch.no_grad():
        base = rate(victim(adversarial).argmax(1) == labels, "all images")
    rows: list[dict[str, Any]] = []
    for name in args.model:
        prior = replace(scoreag.load_prior(name), defaults=scoreag.load_prior("cifar10").defaults)
        free = synthesised(prior, victim, asked, measure, attack_scale=0.0)
        gap = purified(prior, victim, images, adversarial, labels)
        rows.append(
            {
                "images_seen": load_card(name).training_config["images_seen"],
                "loss": load_card(name).training_config["loss"],
                "unguided_judge": free["judge"],
                "attacked_purified": gap["attacked_purified"],
                "clean_purified": gap["clean_purified"],
                "resolved": {"unguided": free["resolved"], "purify": gap["resolved"]},
            }
        )
        print(rows[-1], flush=True)
        write("training_curve", {"data": args.data, "attacked": base, "rows": rows})


if __name__ == "__main__":
    main()
