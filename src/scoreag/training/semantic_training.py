"""From networks and the answers of people to the card of the measure ``semantic``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoreag.classifiers.networks.people_ensemble import LogShares, PeopleEnsemble
from scoreag.core import ALGORITHM
from scoreag.data.humans import HumanAnswers
from scoreag.data.loading import Dataset
from scoreag.io.images import to_float
from scoreag.io.progress import tqdm
from scoreag.metrics.people_calibration import (
    ALPHAS,
    REAL_ONLY,
    Calibration,
    HeldOut,
    compare_with_people,
    cross_validate,
    fit,
    set_figures,
    to_shares,
)
from scoreag.metrics.semantic import NETWORK, THRESHOLD
from scoreag.models.model_cards import Card, read_weights, write_card
from scoreag.models.trust import is_custom_network
from scoreag.training.execution import autocast_context

FILE = "model.safetensors"
MIN_IMAGES = 100  # whose answers are too few to calibrate on, and to leave out in folds
BATCH_SIZE = 250


def build_ensemble(cards: Sequence[Card]) -> PeopleEnsemble:
    """The networks of some cards, with mixtures that are not fitted yet."""
    if not cards:
        raise ValueError("there are no networks to mix; give one or more classifiers")
    first = cards[0]
    for card in cards:
        _check_member(card, first)
    members = [
        {"network": c.network, "options": dict(c.options), "mean": list(c.mean), "std": list(c.std)}
        for c in cards
    ]
    ensemble = PeopleEnsemble(members, len(first.classes), first.image_shape)
    for member, card in zip(ensemble.members, cards, strict=True):
        member.load_state_dict(read_weights(card), strict=False)
    return ensemble.eval().requires_grad_(False)


def _check_member(card: Card, first: Card) -> None:
    if is_custom_network(card.network) or card.network == NETWORK:
        raise ValueError(
            f"{card.name} is a {card.network:.80}; a member of the mixture is a bundled network, "
            "such as cifar10-judge"
        )
    for name in ("classes", "image_shape"):
        if getattr(card, name) != getattr(first, name):
            raise ValueError(
                f"{card.name} and {first.name} have different {name}; give classifiers of the same "
                "images and classes"
            )


@torch.no_grad()
def predict_log_shares(
    ensemble: PeopleEnsemble,
    images: Tensor,
    device: torch.device | str,
    progress: bool = True,
    dtype: str = "float32",
) -> LogShares:
    """What the networks say of 8-bit images, computed in float32 or bf16."""
    ensemble = ensemble.to(device)
    parts = images.split(BATCH_SIZE)
    bar = tqdm(parts, desc="asking networks", delay=2, disable=None if progress else True)
    with autocast_context(dtype, torch.device(device).type):
        return torch.cat([ensemble.log_shares(to_float(part.to(device))).cpu() for part in bar])


def train_semantic(
    cards: Sequence[Card],
    data: Dataset,
    answers: HumanAnswers,
    folder: Path,
    provenance: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: bool = True,
    license: str = "",
    command: str = "",
    dtype: str = "float32",
) -> Card:
    """Calibrate the mixture of the networks on answers about ``data``, and write its card.

    The card's metrics are of images that the calibration for them did not see.

    Args:
        answers: about these images, in their order; see ``match_answers``.
        dtype: in which the networks are computed for the calibration.
        license: of the card; by default that of the answers, from which its numbers are derived.
    """
    assert data.labels is not None
    if len(data) < MIN_IMAGES:
        raise ValueError(
            f"there are {len(data)} images; expected {MIN_IMAGES} or more with answers"
        )
    ensemble = build_ensemble(cards)
    log_shares = predict_log_shares(ensemble, data.images, device, progress, dtype)
    held = cross_validate(log_shares, answers.counts, data.labels, seed=seed)
    fitted = fit(log_shares, answers.counts, data.labels, seed)
    set_calibration(ensemble, fitted)
    members = [{"name": card.name, "sha256": card.sha256} for card in cards]
    terms = f"{answers.license} (of the answers {answers.name}); networks: {_licenses(cards)}"
    options = {"members": [_to_table(c) for c in cards], "classes": ensemble.n_classes}
    card = Card(
        name=folder.resolve().name, kind="classifier", network=NETWORK, file=FILE,
        license=license or terms, image_shape=cards[0].image_shape,
        source=_source(answers, command), algorithm=ALGORITHM, classes=cards[0].classes,
        folder=folder,
        options={**options, "image_shape": list(cards[0].image_shape)},
        training_config={
            **(provenance or {}), "humans": answers.name, "humans_sha256": answers.sha256,
            "humans_license": answers.license, "seed": seed, "images": len(data),
            "answers": int(answers.counts.sum()), "dtype": dtype, "networks": members,
            THRESHOLD: fitted.thresholds[ALPHAS[0]], "note": REAL_ONLY,
        },
        metrics={"people": people_figures(held, answers, data.labels)},
    )  # fmt: skip
    return write_card(card, dict(ensemble.cpu().state_dict()))


def set_calibration(ensemble: PeopleEnsemble, fitted: Calibration) -> None:
    """Put the fitted numbers into the network."""
    for layer, linear in ((ensemble.mix, fitted.mix), (ensemble.label, fitted.label)):
        layer.weight.copy_(linear.weight.T)
        layer.bias.copy_(linear.bias)


def people_figures(held: HeldOut, answers: HumanAnswers, labels: Tensor) -> dict[str, Any]:
    """The cross-validated figures of a measure against the answers."""
    share = to_shares(answers.counts).gather(1, labels[:, None])[:, 0]
    return {
        **compare_with_people(held.of_label, share),
        **set_figures(held, answers.counts, labels),
    }


def _to_table(card: Card) -> dict[str, Any]:
    stats = {"mean": list(card.mean), "std": list(card.std)}
    return {"network": card.network, "options": dict(card.options), **stats}


def _source(answers: HumanAnswers, command: str) -> str:
    start = f"calibrated by: {command}" if command else "calibrated"
    return f"{start}; on the answers {answers.name} ({answers.license}), {REAL_ONLY}"


def _licenses(cards: Sequence[Card]) -> str:
    return ", ".join(dict.fromkeys(f"{card.name}: {card.license}" for card in cards))
