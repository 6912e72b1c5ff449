"""A score model as it was earlier in its training: the card of an average made of snapshots."""

from dataclasses import replace
from pathlib import Path

from scoreag.cards import Card, write_card
from scoreag.training.snapshots import post_hoc, seen_at


def earlier(card: Card, share: float, folder: Path) -> Card:
    """The average after ``share`` of the training, written into ``folder``, with its card.

    It is of the width of the card's average, after the snapshot that is nearest to that share; its
    rate had not fallen as far as at the end of a training of that length.

    Raises:
        ValueError: the share is none, or there is no snapshot near it.
    """
    if not 0 < share < 1:
        raise ValueError(f"{share:g} is no share of a training; expected one above 0 and below 1")
    known = seen_at(card.folder)
    if len(known) < 2:
        raise ValueError(
            f"{card.name} has no snapshots beside its card, so it cannot be had as it was earlier; "
            "train it here with a preset that has widths, or give cards"
        )
    seen = min(known, key=lambda one: abs(one - share * known[-1]))
    if seen == known[-1] or abs(seen / known[-1] - share) > 0.51 / len(known):
        near, far = known[0] / known[-1], known[-2] / known[-1]
        raise ValueError(
            f"no snapshot was kept near {share:g}; write a share from {near:g} to {far:g}"
        )
    width = card.recipe.get("ema") or card.recipe["plan"]["widths"][0]
    recipe = {name: value for name, value in card.recipe.items() if name not in ("minutes", "loss")}
    recipe["images_seen"] = int(card.recipe["images_seen"]) - known[-1] + seen
    tensors = post_hoc(card.folder, width, seen)
    made = replace(
        card, name=f"{card.name} after {recipe['images_seen']}", file="model.safetensors",
        folder=folder, recipe=recipe, figures={},
    )  # fmt: skip
    return write_card(made, {n.removeprefix("network."): t for n, t in tensors.items()}, half=True)
