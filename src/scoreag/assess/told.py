"""What the classifiers say of some images: the victim, the others of the set, and the judges."""

from collections.abc import Sequence
from dataclasses import dataclass

from scoreag.assess.kit import Kit
from scoreag.assess.scene import JUDGED, Scene, asked, shown_at
from scoreag.core.rejection import answers, rejects
from scoreag.core.steady import alike
from scoreag.core.types import Images, Logits


@dataclass(frozen=True, eq=False)
class Told:
    """The answers of all who are asked about some images, each with fresh draws."""

    plain: Scene
    kit: Kit
    positions: list[int]

    def victim(self, images: Images, answers: int) -> list[Logits]:
        """The defended classifier's, once for each of the first ``answers`` draws."""
        plain, ids = self.plain, self.plain.ids(self.positions)
        ask = asked(plain, self.kit, False, plain.prior)
        return [ask(JUDGED + draw, images, ids) for draw in range(answers)]

    def of(
        self, words: Sequence[str], seen: Images, given: Images | None
    ) -> list[dict[str, dict[str, int]]]:
        """Other classifiers' answers to the saved image and to the one before, by their words."""
        asked_about = {"saved": seen} | ({} if given is None else {"before": given})
        found = {
            word: {name: self._labels(word, x) for name, x in asked_about.items()} for word in words
        }
        return [
            {word: {name: values[row] for name, values in one.items()}
             for word, one in found.items()}
            for row in range(len(seen))
        ]  # fmt: skip

    def steady(self, words: Sequence[str], seen: Images) -> list[dict[str, bool]]:
        """Whether two calls of a classifier give the same logits, but for rounding."""
        found = {}
        for word in words:
            ask = self.kit.classifier(word)
            found[word] = alike(ask(seen), ask(seen))
        return [found] * len(seen)

    def _labels(self, word: str, images: Images) -> list[int]:
        classifier, ids = self.kit.classifier(word), self.plain.ids(self.positions)
        logits = shown_at(classifier, JUDGED, images, ids)
        said: list[int] = answers(logits, rejects(classifier)).tolist()
        return said
