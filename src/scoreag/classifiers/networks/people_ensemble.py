"""How people would name an image, mixed from what several networks say: the measure ``semantic``.

With ``l_i(c)`` the mean log-probability by network i of an image and its mirror image,

    P(c | x) = softmax(sum_i A_i l_i + b)_c                    the logits: every class
    P(y | x, y is the label) = sigmoid(w f(l, y) + v)          ``share_of_label``

The second one knows the label.  It is right on nearly all real images, also where networks err.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import one_hot

from scoreag.models.trust import is_custom_network
from scoreag.registry import check_options, load_component

Maps = Float[Tensor, "_ _ _ _"]  # images, channels, height, width
LogShares = Float[Tensor, "images networks classes"]

MAX_MEMBERS = 16
FLOOR = 1e-4  # of a probability whose logarithm is taken
MAX_CLASSES = 20  # up to which each class has its own weights of all log-probabilities


class PeopleEnsemble(nn.Module):
    """Networks that stay as they are, each with its normalization, and the two mixtures.

    Args:
        members: a table for each network: ``network``, its ``options``, ``mean`` and ``std``.
    """

    def __init__(
        self,
        members: Sequence[Mapping[str, Any]],
        classes: int = 10,
        image_shape: Sequence[int] = (3, 32, 32),
    ) -> None:
        super().__init__()
        if not 1 <= len(members) <= MAX_MEMBERS:
            raise ValueError(f"there are {len(members)} networks; expected 1 to {MAX_MEMBERS}")
        self.n_classes = classes
        self.members = nn.ModuleList(_build_member(member) for member in members)
        self.stats = [(tuple(member["mean"]), tuple(member["std"])) for member in members]
        self.mix = nn.Linear(len(members) * classes, classes)
        self.label = nn.Linear(n_label_features(len(members), classes), 1)

    def forward(self, x: Maps) -> Float[Tensor, "_ classes"]:
        return self.mix(self.log_shares(x).flatten(1))

    def log_shares(self, x: Maps) -> LogShares:
        """What each network says of the images: log-probabilities, mirrored ones averaged in."""
        views = []
        for member, stats in zip(self.members, self.stats, strict=True):
            mean, std = (x.new_tensor(v).view(1, -1, 1, 1) for v in stats)
            mirrored = getattr(member, "mirrored", False)  # then it says the same of both
            sides = [x] if mirrored else [x, x.flip(3)]
            said = [member((side - mean) / std).float().log_softmax(1) for side in sides]
            views.append(sum(said[1:], said[0]) / len(said))
        return torch.stack(views, 1)

    def share_of_label(
        self, log_shares: LogShares, labels: Int[Tensor, " images"]
    ) -> Float[Tensor, " images"]:
        """The share of people who would name the label, by what the networks say."""
        return self.label(label_features(log_shares, labels))[:, 0].sigmoid()


def _build_member(member: Mapping[str, Any]) -> nn.Module:
    name, options = str(member["network"]), dict(member.get("options", {}))
    if is_custom_network(name):
        raise ValueError(f"a member is made by code, {name!r:.80}; expected a bundled network")
    build = load_component("networks", name).build
    check_options(build, options, f"the member {name}")
    network: nn.Module = build(**options)
    return network


def n_label_features(members: int, classes: int) -> int:
    """How many numbers ``label_features`` has."""
    by_class = members * classes**2 if classes <= MAX_CLASSES else 0
    return members * (5 + _n_rivals(classes)) + classes + by_class


def _n_rivals(classes: int) -> int:
    return min(2, classes - 1)


def label_features(
    log_shares: LogShares, labels: Int[Tensor, " images"]
) -> Float[Tensor, "images features"]:
    """What the networks say of the label, the class, and for each class all log-probabilities.

    Of each network: ``log p_y``, the two largest other ones, the margin, ``log (1 - p_y)``, the
    entropy, and ``p_y``.
    """
    n_classes = log_shares.shape[2]
    own = one_hot(labels, n_classes).to(log_shares)
    at_label = own[:, None, :].bool().expand_as(log_shares)
    p = log_shares.exp()
    log_p, p_label = (values[at_label].view(log_shares.shape[:2]) for values in (log_shares, p))
    hidden = log_shares.masked_fill(at_label, -torch.inf)
    others = hidden.topk(_n_rivals(n_classes), dim=2).values
    doubt = (1 - p_label).clamp(min=FLOOR).log()
    entropy = -(p * log_shares).sum(2)
    columns = [log_p, *others.unbind(2), log_p - others[..., 0], doubt, entropy, p_label]
    relative = torch.stack(columns, 2).flatten(1)
    if n_classes > MAX_CLASSES:
        return torch.cat([relative, own], 1)
    by_class = (own[:, :, None] * log_shares.flatten(1)[:, None, :]).flatten(1)
    return torch.cat([relative, own, by_class], 1)


build = PeopleEnsemble
