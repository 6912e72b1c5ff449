"""A score model as it was earlier in its training: the card of an average made of snapshots."""

from dataclasses import replace
from pathlib import Path

from scoreag.models.model_cards import Card, write_card
from scoreag.training.ema_snapshots import list_snapshots, load_posthoc_average


def checkpoint_at(card: Card, fraction: float, folder: Path) -> Card:
    """The average after ``share`` of the training, written into ``folder``, with its card.

    It is of the width of the card's average, after the snapshot that is nearest to that share; its
    rate had not fallen as far as at the end of a training of that length.

    Raises:
        ValueError: the share is none, or there is no snapshot near it.
    """
    if not 0 < fraction < 1:
        raise ValueError(
            f"{fraction:g} is no share of a training; expected one above 0 and below 1"
        )
    known = list_snapshots(card.folder)
    if len(known) < 2:
        raise ValueError(
            f"{card.name} has no snapshots beside its card, so it cannot be had as it was earlier; "
            "train it here with a preset that has ema_widths, or give cards"
        )
    seen = min(known, key=lambda one: abs(one - fraction * known[-1]))
    if seen == known[-1] or abs(seen / known[-1] - fraction) > 0.51 / len(known):
        near, far = known[0] / known[-1], known[-2] / known[-1]
        raise ValueError(
            f"no snapshot was kept near {fraction:g}; write a share from {near:g} to {far:g}"
        )
    width = (
        card.training_config.get("ema_width") or card.training_config["schedule"]["ema_widths"][0]
    )
    recipe = {
        name: value
        for name, value in card.training_config.items()
        if name not in ("minutes", "loss")
    }
    recipe["images_seen"] = int(card.training_config["images_seen"]) - known[-1] + seen
    tensors = load_posthoc_average(card.folder, width, seen)
    made = replace(
        card, name=f"{card.name} after {recipe['images_seen']}", file="model.safetensors",
        folder=folder, training_config=recipe, metrics={},
    )  # fmt: skip
    return write_card(made, {n.removeprefix("network."): t for n, t in tensors.items()}, fp16=True)
