"""``semantic``: the share of people who would name the label, and the classes people would name.

The measure is a card of ``scoreag train semantic``, whose network is a ``PeopleEnsemble``.  It is
calibrated on real images only: on adversarial ones it is an extrapolation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scoreag.classifiers.loading import load_classifier
from scoreag.classifiers.networks.people_ensemble import PeopleEnsemble
from scoreag.classifiers.normalized import NormalizedClassifier
from scoreag.core.types import Images, Labels
from scoreag.metrics.people_calibration import REAL_ONLY, prediction_sets
from scoreag.models.loading import load_card_of_kind
from scoreag.models.model_cards import Card

NETWORK = "people_ensemble"
THRESHOLD = "set_threshold"  # the entry of a card with that of its sets
SETS_OF = 0.1  # one random answer in ten is not in its image's set
NOTE = f"semantic is {REAL_ONLY}"


@dataclass(frozen=True, eq=False)
class SemanticScores:
    """What people would say of some images.

    Args:
        share: of people who would name the label, which is known.
        shares: of people who would name each class, where the label is not known.
        in_set: whether the label is among the classes that people would name.
        clear: whether it is the only one.
        set_size: the number of these classes.
    """

    share: Float[Tensor, " images"]
    shares: Float[Tensor, "images classes"]
    in_set: Bool[Tensor, " images"]
    clear: Bool[Tensor, " images"]
    set_size: Any


@dataclass(frozen=True, eq=False)
class SemanticMeasure:
    """Scores of images in [0, 1] and their labels.

    Args:
        threshold: the share of people from which on a class is in the set.
        members: the networks that it mixes: their names by the digest of their weights.
    """

    classifier: NormalizedClassifier
    threshold: float
    metadata: Mapping[str, Any]
    members: Mapping[str, str]

    @property
    def digests(self) -> dict[str, Any]:
        """What the scores depend on."""
        return {"sha256": self.metadata["sha256"], THRESHOLD: self.threshold}

    @torch.no_grad()
    def __call__(self, images: Images, labels: Labels) -> SemanticScores:
        network = self.classifier.module
        assert isinstance(network, PeopleEnsemble)
        log_shares = network.log_shares(images.to(next(network.parameters()).dtype))
        shares = network.mix(log_shares.flatten(1)).softmax(1)
        share = network.share_of_label(log_shares, labels)
        members = prediction_sets(shares, self.threshold)
        size = members.sum(1)
        in_set = members.gather(1, labels[:, None])[:, 0]
        return SemanticScores(share, shares, in_set, in_set & (size == 1), size)


def load_semantic(
    name: str | Path, device: str | torch.device = "auto", trust_code: bool = False
) -> SemanticMeasure:
    """The measure in a folder that ``scoreag train semantic`` wrote.

    Raises:
        ValueError: the card is of another network, or has no threshold.
    """
    card = load_card_of_kind(name, "classifier", trust_code)
    threshold = card.training_config.get(THRESHOLD)
    if card.network != NETWORK or not isinstance(threshold, float):
        raise ValueError(
            f"{name} is a {card.network} and no measure of people; make one by: scoreag train "
            "semantic --out FOLDER"
        )
    classifier = load_classifier(name, device, trust_code=trust_code)
    return SemanticMeasure(classifier, threshold, _metadata(card, threshold), _members(card))


def _members(card: Card) -> dict[str, str]:
    """The names of the mixed networks by their digests, as far as the card has them."""
    listed = card.training_config.get("networks")
    tables = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return {str(one.get("sha256")): str(one.get("name")) for one in tables}


def _metadata(card: Card, threshold: float) -> dict[str, Any]:
    return {
        **card.identity, THRESHOLD: threshold, "note": NOTE,
        "humans": card.training_config.get("humans", ""),
    }  # fmt: skip
