"""GAP as a defence: a classifier that looks at the purified image.  It is again a classifier."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scoreag.core.frozen import Frozen
from scoreag.core.noise import Noise
from scoreag.core.prior import Prior
from scoreag.core.types import Classifier, Images, Logits
from scoreag.images import check_images
from scoreag.load import hint
from scoreag.models import classifier as as_classifier
from scoreag.settings import Settings, settings_for
from scoreag.tasks import purify

BACKWARD = ("exact", "bpda", "blind")
VOTES = ("mean", "majority")
UNSEEN = 1e-3  # added to the shares of a vote, so that the log of none is a number


def defend(
    classifier: Classifier,
    prior: Prior,
    *,
    seed: int = 0,
    draws: int = 1,
    vote: str = "mean",
    backward: str = "exact",
    **settings: Any,
) -> "Defended":
    """``classifier`` behind GAP: images in [0, 1] to logits, with fresh draws at each call.

    Args:
        draws: purified images that are looked at for each answer.
        vote: "mean" of the logits, or "majority": the log of the share of draws that say a class.
        backward: how an attacker differentiates it: "exact", the gradient of the discrete chain;
            "bpda", as if purification were the identity; "blind", as if there were none.
        settings: fields of ``Settings``; what is not given comes from the prior's card.
    """
    for kind, word, known in (("backward", backward, BACKWARD), ("vote", vote, VOTES)):
        if word not in known:
            raise ValueError(f"no {kind} {word!r}; {hint(word, list(known))}")
    if draws < 1:
        raise ValueError(f"draws is {draws}; expected at least 1")
    if isinstance(classifier, nn.Module) and not isinstance(classifier, Frozen | Defended):
        classifier = as_classifier(classifier)
    chosen = settings_for(prior, "purify", **settings)
    return Defended(classifier, prior, chosen, seed, draws, vote, backward)


class Defended(nn.Module):
    """What ``defend`` returns.  Its only state is the number of calls so far, unless replayed."""

    def __init__(
        self,
        classifier: Classifier,
        prior: Prior,
        settings: Settings,
        seed: int,
        draws: int,
        vote: str,
        backward: str,
    ) -> None:
        super().__init__()
        self.classifier, self.prior, self.settings = classifier, prior, settings
        self.seed, self.draws, self.vote, self.backward_mode = seed, draws, vote, backward
        self.calls = 0
        self.fixed: tuple[int, tuple[int, ...] | None] | None = None
        self.eval()

    def replay(self, draw: int, image_ids: Sequence[int] | None = None) -> "Defended":
        """The same defence with the draws of call ``draw``, again and again.

        Row i is image ``image_ids[i]``, by default image i.
        """
        again = Defended(
            self.classifier,
            self.prior,
            self.settings,
            self.seed,
            self.draws,
            self.vote,
            self.backward_mode,
        )
        again.fixed = draw, None if image_ids is None else tuple(image_ids)
        return again

    def for_rows(self, rows: Sequence[int]) -> "Defended":
        """The same defence, to be shown only these rows of its batch: a replay knows which."""
        if self.fixed is None:
            return self
        draw, ids = self.fixed
        return self.replay(draw, [i if ids is None else ids[i] for i in rows])

    @torch.inference_mode(False)  # guidance needs gradients, wherever it is called from
    def forward(self, images: Images) -> Logits:
        images = images.clone() if images.is_inference() else images
        images = check_images(images, self.prior.image_shape)
        prior = self.prior.to(images.dtype, images.device)
        call, ids = self.fixed or (self.calls, None)
        self.calls += self.fixed is None
        noise = Noise(self.seed, ids if ids is not None else range(len(images)))
        source = images if self.backward_mode == "exact" else images.detach()
        seen = [
            self.classifier(self._through(images, self._purified(prior, source, noise, call, draw)))
            for draw in range(self.draws)
        ]
        logits = torch.stack(seen)
        if self.backward_mode == "blind":
            plain = self.classifier(images)
            logits = (logits.detach() - plain.detach()) + plain
        return _counted(logits) if self.vote == "majority" else logits.mean(0)

    def _purified(self, prior: Prior, images: Images, noise: Noise, call: int, draw: int) -> Images:
        return purify(prior, images, self.settings, noise.at("call", call, "draw", draw))

    def _through(self, images: Images, purified: Images) -> Images:
        """``purified``, with the gradient that the attacker takes."""
        if self.backward_mode == "bpda":
            return images + (purified - images).detach()
        return purified


def _counted(logits: Tensor) -> Logits:
    """The log of each class's share of the draws; the gradient is that of the mean logits."""
    votes = torch.nn.functional.one_hot(logits.argmax(2), logits.shape[2]).to(logits).mean(0)
    mean = logits.mean(0)
    return votes.add(UNSEEN).log() + (mean - mean.detach())
