"""GAT, this library's own: images drawn near the given ones that the classifier gets wrong.

``prior`` is filled in by whoever runs the attack: ``scoreag.load_prior("cifar10")``. What is not
given as an option comes from the prior's card.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scoreag.asked import agree, checked_wrong
from scoreag.core.noise import Noise, key
from scoreag.core.prior import Prior
from scoreag.core.rows import of_rows
from scoreag.core.types import Classifier, Images, Labels
from scoreag.jobs import Job, compute
from scoreag.search.door import door
from scoreag.search.options import answering, check
from scoreag.settings import settings_for

SETTINGS = ("strength", "precision", "start", "steps", "sampler", "gradient", "guidance", "retries")


@answering
@dataclass(frozen=True)
class Attack:
    """``scoreag.transform`` with the seed and the image ids of the noise.

    Args:
        wrong: "second", the likeliest wrong class of the image given; "random"; or "none", any.
        strength, precision, start, steps, sampler, gradient, guidance, retries: as in
            ``scoreag.Settings``; None leaves it to the prior's card.
        prior: no option, but what the attack needs.
    """

    wrong: str = "second"
    strength: float | None = None
    precision: float | None = None
    start: float | None = None
    steps: int | None = None
    sampler: str | None = None
    gradient: str | None = None
    guidance: str | None = None
    retries: int | None = None
    prior: Prior | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        check(self, wrong=["second", "random", "none"])
        if self.prior is not None:
            settings_for(self.prior, "transform", **self._given())

    @door()
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1] near those given, in no ball."""
        if self.prior is None:
            raise ValueError('gat needs a prior: give prior=scoreag.load_prior("cifar10")')
        classes = of_rows(classifier, [0])(images[:1]).shape[1]
        agree(self.prior, classes)
        seed = seed_of(noise)
        wrong = None if self.wrong == "none" else self.wrong
        job = Job(
            task="transform",
            prior=self.prior.to(images.dtype, images.device),
            settings=settings_for(self.prior, "transform", **self._given()),
            seed=seed,
            image_ids=tuple(noise.image_ids),
            classifier=classifier,
            images=images,
            labels=labels,
            wrong=checked_wrong(wrong, labels, classes, seed, noise.image_ids),
        )
        return compute(job).images

    def _given(self) -> Mapping[str, Any]:
        return {n: getattr(self, n) for n in SETTINGS if getattr(self, n) is not None}


def seed_of(noise: Noise) -> int:
    """Its own seed, or for a named part of it one that belongs to that name."""
    return noise.seed if not noise.name else int.from_bytes(key(noise.seed, noise.name), "little")
