"""What the classifiers say of some images: the victim, the others of the set, and the judges."""

from collections.abc import Sequence
from dataclasses import dataclass

from scoreag.assess.model_cache import ModelCache
from scoreag.assess.threat_model import DRAW_OFFSET_EVAL, CellContext, logits_at_draw, make_view
from scoreag.classifiers.rejection import can_reject, predict_or_reject
from scoreag.classifiers.checks import outputs_match
from scoreag.core.types import Images, Logits


@dataclass(frozen=True, eq=False)
class Predictor:
    """The answers of all who are asked about some images, each with fresh draws."""

    context: CellContext
    cache: ModelCache
    positions: list[int]

    def predict_logits(self, images: Images, draws: int) -> list[Logits]:
        """The defended classifier's, once for each of the first ``answers`` draws."""
        plain, ids = self.context, self.context.ids(self.positions)
        ask = make_view(plain, self.cache, False, plain.prior)
        return [ask(DRAW_OFFSET_EVAL + draw, images, ids) for draw in range(draws)]

    def predict_labels(
        self, names: Sequence[str], decoded: Images, clean_images: Images | None
    ) -> list[dict[str, dict[str, int]]]:
        """Other classifiers' answers to the saved image and to the one before, by their words."""
        asked_about = {"saved": decoded} | (
            {} if clean_images is None else {"before": clean_images}
        )
        found = {
            word: {name: self._predict(word, x) for name, x in asked_about.items()}
            for word in names
        }
        return [
            {word: {name: values[row] for name, values in one.items()}
             for word, one in found.items()}
            for row in range(len(decoded))
        ]  # fmt: skip

    def is_deterministic(self, names: Sequence[str], decoded: Images) -> list[dict[str, bool]]:
        """Whether two calls of a classifier give the same logits, but for rounding."""
        found = {}
        for word in names:
            ask = self.cache.classifier(word)
            found[word] = outputs_match(ask(decoded), ask(decoded))
        return [found] * len(decoded)

    def _predict(self, name: str, images: Images) -> list[int]:
        classifier, ids = self.cache.classifier(name), self.context.ids(self.positions)
        logits = logits_at_draw(classifier, DRAW_OFFSET_EVAL, images, ids)
        said: list[int] = predict_or_reject(logits, can_reject(classifier)).tolist()
        return said
