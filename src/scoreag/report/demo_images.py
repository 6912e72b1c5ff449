"""What a demo found: images with the predictions of two classifiers, and how they were made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from scoreag.core.types import Labels


@dataclass(frozen=True)
class PredictedImages:
    """8-bit images with the predictions of the classifier and of the reference classifier.

    Args:
        probabilities: of the classes, by the classifier.
    """

    images: UInt8[Tensor, "batch channel height width"]
    classifier_predictions: Labels
    judge_predictions: Labels
    probabilities: Float[Tensor, "batch classes"] | None = None

    def first(self, count: int) -> "PredictedImages":
        """The first images."""
        shares = None if self.probabilities is None else self.probabilities[:count]
        predictions = (self.classifier_predictions[:count], self.judge_predictions[:count])
        return PredictedImages(self.images[:count], *predictions, shares)


@dataclass(frozen=True)
class AttackedClassifier:
    """A classifier on real images, and on the same images attacked; ``nfe``: of GAT, per image."""

    name: str
    labels: Labels
    original: PredictedImages
    pgd: PredictedImages
    gat: PredictedImages
    nfe: float

    @property
    def clean_correct(self) -> Bool[Tensor, " batch"]:
        """The real images that the classifier gets right."""
        return self.original.classifier_predictions == self.labels

    def fooled(self, version: PredictedImages) -> Bool[Tensor, " batch"]:
        """Those of them that it gets wrong in another version."""
        return self.clean_correct & (version.classifier_predictions != self.labels)

    def preserved(self, version: PredictedImages) -> Bool[Tensor, " batch"]:
        """Those of these in which the reference classifier still sees the class."""
        return self.fooled(version) & (version.judge_predictions == self.labels)


@dataclass(frozen=True)
class PurifiedImages:
    """Images before and after GAP, by who attacked them; ``nfe``: denoiser evaluations per image.

    Args:
        blind: PGD's images, which were made without GAP, purified.
        clean: the first real images, purified.
        white_box, white_box_purified: the first images, attacked through GAP by exact gradients;
            and purified by draws that the attack did not see.
        steps: of the attack through GAP.
    """

    blind: PredictedImages
    clean: PredictedImages
    white_box: PredictedImages
    white_box_purified: PredictedImages
    steps: int
    nfe: float


@dataclass(frozen=True)
class GeneratedImages:
    """Images from noise; ``nfe``: denoiser evaluations per image, of plain samples and of GAS.

    Args:
        classifier, classes: those of the generated images.
        labels, targets: the class to show, and the class to be predicted; -1: any other.
        unguided: samples from the same noise without attack: an upper bound of quality.
    """

    classifier: str
    classes: tuple[str, ...]
    labels: Int[Tensor, " batch"]
    targets: Int[Tensor, " batch"]
    unguided: PredictedImages
    gas: PredictedImages
    nfe: tuple[float, float]


@dataclass(frozen=True)
class DemoReport:
    """What the page shows.

    Args:
        robust: an adversarially trained classifier on the first of the images of ``plain``.
        eps, pgd_steps: of PGD on both classifiers.
        source: where the images are from, e.g. "of Fashion-MNIST".
        footer: models, seed and time.
        provenance: the command, the seed and the versions, as in a manifest.
    """

    classes: tuple[str, ...]
    image_ids: tuple[int, ...]
    plain: AttackedClassifier
    robust: AttackedClassifier
    purified: PurifiedImages
    generated: GeneratedImages
    eps: float
    pgd_steps: int
    judge: str = "the reference classifier"
    source: str = "given by the user"
    footer: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def radius(self) -> str:
        """PGD's radius, e.g. 8/255."""
        return f"{255 * self.eps:g}/255"
