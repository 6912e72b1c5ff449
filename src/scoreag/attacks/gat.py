"""GAT, this library's own: samples near the given images that the classifier gets wrong.

Give ``prior=scoreag.load_prior("cifar10")``; ``scoreag assess`` sets it. Options that are not given
come from the prior's card.
"""

from dataclasses import dataclass, field
from typing import Any

from scoreag.attacks._attack import Attack, option
from scoreag.core.batching import select_rows
from scoreag.core.rng import Noise, derive_key
from scoreag.core.types import Classifier, Images, Labels
from scoreag.diffusion.prior import Prior
from scoreag.methods.config import SamplingConfig, resolve_task_config
from scoreag.methods.guided_sampling import attach_guide
from scoreag.methods.run_batch import run_batch
from scoreag.methods.task import TaskSpec, fit_to_classifier, validate_target
from scoreag.methods.transformation import sample_task

SAMPLING_OPTIONS = (
    "attack_scale", "similarity", "sigma_start", "steps", "sampler", "jacobian", "attack_loss",
    "max_restarts", "guidance_scale", "guide", "polyak_step", "momentum", "tangent_projection",
    "x0_steps", "augmentations", "normalize_gradient", "energy_budget", "energy_pace",
)  # fmt: skip


@dataclass(frozen=True)
class GAT(Attack):
    """``scoreag.transform`` as an attack.

    The sampling options are as in ``scoreag.transform``: attack_scale, similarity, sigma_start,
    steps, sampler, jacobian, attack_loss, max_restarts, guidance_scale, guide, polyak_step,
    momentum, tangent_projection, x0_steps, augmentations, normalize_gradient, energy_budget,
    energy_pace.  None takes the value of the card.

    Args:
        target: "runner_up", the likeliest wrong class of the image; "random"; or "none", any.
        prior: required; not an option.
    """

    target: str = option("runner_up", among=("runner_up", "random", "none"))
    attack_scale: float | str | None = None
    similarity: float | str | None = None
    sigma_start: float | None = None
    steps: int | None = None
    sampler: str | None = None
    jacobian: str | None = None
    attack_loss: str | None = None
    max_restarts: int | None = None
    guidance_scale: float | None = None
    guide: str | None = None
    polyak_step: bool | None = None
    momentum: float | None = None
    tangent_projection: bool | None = None
    x0_steps: int | None = None
    augmentations: int | None = None
    normalize_gradient: bool | None = None
    energy_budget: float | None = None
    energy_pace: str | None = None
    prior: Prior | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prior is not None:
            guided = attach_guide(self.prior, self._config(self.prior))
            object.__setattr__(self, "prior", guided)

    def run(self, classifier: Classifier, images: Images, labels: Labels, noise: Noise) -> Images:
        """Images in [0, 1] near the originals, bounded by no ball."""
        if self.prior is None:
            raise ValueError('gat needs a prior: give prior=scoreag.load_prior("cifar10")')
        classes = select_rows(classifier, [0])(images[:1]).shape[1]
        prior = self.prior.to(images.dtype, images.device)
        seed = noise.seed
        if noise.name:
            seed = int.from_bytes(derive_key(noise.seed, noise.name), "little")
        target = None if self.target == "none" else self.target
        config = self._config(self.prior)
        task = TaskSpec(
            task="transform",
            sample=sample_task,
            prior=fit_to_classifier(prior, classifier, classes),
            config=config,
            seed=seed,
            image_ids=tuple(noise.image_ids),
            classifier=classifier,
            images=images,
            labels=labels,
            target=validate_target(target, labels, classes, seed, noise.image_ids),
        )
        return run_batch(task, pad_to=len(images)).images

    def _config(self, prior: Prior) -> SamplingConfig:
        options: dict[str, Any] = {name: getattr(self, name) for name in SAMPLING_OPTIONS}
        given = {name: value for name, value in options.items() if value is not None}
        return resolve_task_config(prior, "transform", **given)
