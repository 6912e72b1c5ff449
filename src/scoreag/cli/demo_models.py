"""The models of a demo, and what they predict."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from scoreag.core.types import Classifier
    from scoreag.diffusion.prior import Prior
    from scoreag.report.demo_images import PredictedImages


class ModelNames(NamedTuple):
    """The models of a data set; the radius of PGD, in 255ths, is the one that is usual on it."""

    prior: str
    classifier: str
    judge: str
    robust: str
    radius: float


CIFAR10 = ModelNames("cifar10", "cifar10-resnet20", "cifar10-judge", "cifar10-robust", 8)
FASHION = ModelNames("fashion-small", "fashion-cnn", "fashion-judge", "fashion-robust", 25.5)


@dataclass(frozen=True)
class DemoModels:
    """The models of a demo; the reference classifier (judge) only checks the results.

    Args:
        robust: an adversarially trained classifier of the same classes.
        names: of the classifier, the reference classifier and the robust one.
    """

    prior: "Prior"
    classifier: "Classifier"
    judge: "Classifier"
    robust: "Classifier"
    names: tuple[str, str, str]

    def attack_robust(self) -> "DemoModels":
        """The same models, of which the robust classifier is attacked."""
        _, judge, robust = self.names
        return replace(self, classifier=self.robust, names=(robust, judge, robust))

    def predict(self, images: "Tensor") -> "PredictedImages":
        """8-bit images with the predictions of both classifiers."""
        import torch

        from scoreag.classifiers.probabilities import softmax_probabilities
        from scoreag.io.images import to_float
        from scoreag.report.demo_images import PredictedImages

        with torch.no_grad():
            pixels = to_float(images).to(self.prior.sigmas.device)
            logits, judge = (net(pixels).cpu() for net in (self.classifier, self.judge))
            shares = softmax_probabilities(logits)
            return PredictedImages(images, logits.argmax(1), judge.argmax(1), shares)

    def __str__(self) -> str:
        prior = self.prior.metadata.get("name", "a score model")
        classifier, judge, robust = self.names
        return (
            f"Score model {prior}; classifiers {classifier} and {robust}; reference classifier "
            f"{judge}."
        )


def load_models(names: ModelNames, device: str) -> DemoModels:
    """The bundled models of these names."""
    from scoreag import load_classifier, load_prior

    chosen = (names.classifier, names.judge, names.robust)
    classifier, judge, robust = (load_classifier(name, device) for name in chosen)
    return DemoModels(load_prior(names.prior, device), classifier, judge, robust, chosen)
