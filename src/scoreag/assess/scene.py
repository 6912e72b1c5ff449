"""What one cell works with: its images and labels, and what an attacker sees of the classifier."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from scoreag.api import purification, synthesis, transformation
from scoreag.assess import options
from scoreag.assess.cells import CLEAN, Cell
from scoreag.assess.kit import Kit, of_classifier, of_prior
from scoreag.core.algorithm import ALGORITHM, UNMARKED
from scoreag.core.draws import taken
from scoreag.core.prior import Prior
from scoreag.core.rejection import as_attacked, of_classes, rejects
from scoreag.core.rows import Batch, showing
from scoreag.core.types import Classifier, Images, Labels, Logits
from scoreag.defence import Defended
from scoreag.images import to_float
from scoreag.jobs import CLASS_STRIDE, Job
from scoreag.runs.manifest import plain as plain_values

JUDGED = 10**9  # the draws by which a defence is judged are counted from here: no attack saw them
Draw: TypeAlias = int | tuple[int, ...]  # of all rows, or one for each
FIXED = 0  # the draw of a cell that has but one
PROBED = 2 * 10**9  # the draw through which the attacker's gradient is looked at


@dataclass(frozen=True, eq=False)
class Ask:
    """A classifier's logits at a numbered draw, and how many draws it has room for at once."""

    answer: Callable[[Draw, Images, tuple[int, ...]], Logits]  # of the images with these ids
    at_once: Callable[[Images, int], int] = lambda images, draws: 1

    def __call__(self, draw: Draw, images: Images, ids: tuple[int, ...]) -> Logits:
        return self.answer(draw, images, ids)


@dataclass(frozen=True, eq=False)
class Scene:
    """The images of a cell, position by position; ``job`` where jobs computes the attack."""

    cell: Cell
    victim: Classifier
    prior: Prior | None
    images: Images | None
    labels: Labels
    image_ids: tuple[int, ...]
    job: Job | None
    judged: Defended | None = None  # the purifier's copies
    attacked: Defended | None = None

    def padded(self, piece: range) -> list[int]:
        """The positions of a piece, the last of them repeated up to the micro-batch."""
        return [*piece, *[piece[-1]] * (self.cell.micro_batch - len(piece))]

    def ids(self, positions: Sequence[int]) -> tuple[int, ...]:
        return tuple(self.image_ids[i] for i in positions)


def scene(cell: Cell, kit: Kit) -> Scene:
    """Load what a cell needs; its job is checked as that of a command would be.

    Raises:
        ValueError: what a word means here is not what it meant where the cell was made.
    """
    victim = kit.classifier(cell.victim)
    _check_same(cell, kit)
    prior = kit.prior(cell.prior) if cell.prior else None
    if cell.component == "gas":
        assert prior is not None
        shown = torch.arange(cell.images) % len(prior.classes)
        ids = [label * CLASS_STRIDE + i // len(prior.classes) for i, label in enumerate(shown)]
        plain = Scene(cell, victim, prior, None, shown.to(kit.place), _whole(ids), None)
    else:
        data = kit.data(cell.data, () if cell.strangers else cell.classes)[: cell.images]
        if cell.content.get("data", {}).get("sha256", data.sha256) != data.sha256:
            raise ValueError(f"the images of {cell.data} are other ones here; copy them anew")
        images = to_float(data.images).to(kit.place)
        labels = data.labels if not cell.strangers else None
        known = torch.zeros(len(data), dtype=torch.int64) if labels is None else labels
        plain = Scene(cell, victim, prior, images, known.to(kit.place), data.image_ids, None)
    if cell.strangers:  # no label of theirs is a class here: the first answer stands in
        plain = replace(plain, labels=_own_answers(plain))
    if cell.purifier:
        assert prior is not None
        copies = (cell.purifier_options, cell.attacked)
        judged, attacked = (options.defended(cell, kit, of, prior) for of in copies)
        plain = replace(plain, judged=judged, attacked=attacked)
    return replace(plain, job=_job(plain))


def _check_same(cell: Cell, kit: Kit) -> None:
    """Refuse another algorithm, or weights under the same name, as on another machine of a
    cluster."""
    if (wanted := cell.content.get("algorithm", UNMARKED)) != ALGORITHM:
        raise ValueError(
            f"the cell is of algorithm {wanted}, and the package here computes {ALGORITHM}; "
            "install the same version"
        )
    for role, words in (("others", cell.others), ("judges", cell.judges)):
        for word in words:
            _check_digest(word, kit, cell.content.get(role, {}).get(word))
    _check_digest(cell.victim, kit, cell.content.get("victim"))
    drawn = cell.content.get("prior")
    if drawn and plain_values(of_prior(kit.prior(cell.prior))) != drawn:
        raise ValueError(f"the score model {cell.prior} is another one here; copy its files anew")


def _check_digest(word: str, kit: Kit, wanted: object) -> None:
    if wanted and plain_values(of_classifier(kit.classifier(word))) != wanted:
        raise ValueError(f"the classifier {word} is another one here; copy its files anew")


def _whole(ids: Sequence[Tensor | int]) -> tuple[int, ...]:
    return tuple(int(i) for i in ids)


@torch.no_grad()
def _own_answers(plain: Scene) -> Labels:
    assert plain.images is not None
    parts = []
    for piece in plain.cell.pieces:
        positions = plain.padded(piece)
        shown, ids = plain.images[positions], plain.ids(positions)
        logits = shown_at(of_classes(plain.victim), JUDGED, shown, ids)
        parts.append(logits.argmax(1)[: len(piece)])
    return torch.cat(parts)


def _job(plain: Scene) -> Job | None:
    cell, prior = plain.cell, plain.prior
    if cell.task in ("attack", CLEAN):
        return None
    assert prior is not None
    settings = {name: value for name, value in cell.options.items() if name != "wrong"}
    wrong = cell.options.get("wrong")
    given = {"seed": cell.seed, "image_ids": plain.image_ids, **settings}
    aim, victim = None if wrong == "none" else wrong, of_classes(plain.victim)
    if cell.task == "synthesize":
        return synthesis(prior, victim, plain.labels, aim, **given)
    assert plain.images is not None
    if cell.task == "transform":
        return transformation(prior, victim, plain.images, plain.labels, aim, **given)
    return purification(prior, plain.images, victim, plain.labels, **given)


@dataclass
class Tally:
    """What an attack asked for: images that it showed the classifier, and gradients it took."""

    counts: dict[int, int] = field(default_factory=dict)  # calls by row
    forwards: int = 0
    backwards: int = 0
    drawn: int = 0

    def counting(self, prior: Prior) -> Prior:
        """The same prior, whose every evaluated image is counted."""

        def model(x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
            self.drawn += len(x)
            return prior.model(x, sigma, labels)

        return replace(prior, model=model)


@dataclass(frozen=True, eq=False)
class Attacked:
    """The classifier as an attacker sees it: fresh draws at each call, and every call counted.

    Which draw a row gets is counted for it alone, so that no other row's end moves it.

    Args:
        ask: as ``asked`` makes it.
        ids: whose noise the rows of a batch get.
        rows: where they stand in the micro-batch; by default in its order.
    """

    ask: Ask
    ids: tuple[int, ...]
    tally: Tally
    rows: tuple[int, ...] | None = None

    def __call__(self, images: Images) -> Logits:
        rows = self.rows if self.rows is not None else tuple(range(len(self.ids)))
        calls = taken(self.tally.counts, rows)
        draw = calls if len(images) == len(rows) else max(calls)
        logits = self.ask(draw, images, self.ids)
        self.tally.forwards += len(images)
        if logits.requires_grad:
            logits.register_hook(partial(self._counted, len(images)))
        return logits

    def at_once(self, images: Images, draws: int) -> int:
        return self.ask.at_once(images, draws)

    def for_rows(self, rows: Sequence[int]) -> "Attacked":
        """The same, to be shown only these rows of its batch."""
        places = tuple(self.rows[i] if self.rows is not None else i for i in rows)
        return replace(self, ids=tuple(self.ids[i] for i in rows), rows=places)

    def _counted(self, images: int, gradient: Tensor | None) -> None:
        self.tally.backwards += images if gradient is not None else 0


def asked(plain: Scene, kit: Kit, attacked: bool, prior: Prior | None) -> Ask:
    """The classifier behind the cell's purifier, if it has one: its logits at a numbered draw.

    A batch of another length than there are ids gets the noise of its positions instead.

    Args:
        attacked: the attacker's copy, not the one that is judged.
    """
    ask = _asked(plain, kit, attacked, prior)
    return _adapted(plain, ask) if attacked and rejects(plain.victim) else ask


def _adapted(plain: Scene, ask: Ask) -> Ask:
    """To an attacker, being rejected is no better than being read right; see ``as_attacked``.

    Of a batch of another length the labels are not known: there it sees the classes alone.
    """
    places = {image_id: row for row, image_id in enumerate(plain.image_ids)}

    def told(draw: Draw, images: Images, ids: tuple[int, ...]) -> Logits:
        logits = ask(draw, images, ids)
        if len(ids) != len(images):
            return logits[:, :-1]
        return as_attacked(logits, plain.labels[[places[i] for i in ids]])

    return replace(ask, answer=told)


def shown_at(victim: Classifier, draw: Draw, images: Images, ids: tuple[int, ...]) -> Logits:
    """A classifier's logits; what draws inside of it draws for the images ``ids``, at a draw.

    Of a batch of another length than there are ids, for those of its positions.
    """
    known = ids if len(ids) == len(images) else tuple(range(len(images)))
    each = (draw,) if isinstance(draw, int) else draw
    with showing(Batch(known, tuple(("answer", one) for one in each), {}, True)):
        return victim(images)


def _asked(plain: Scene, kit: Kit, attacked: bool, prior: Prior | None) -> Ask:
    cell, victim = plain.cell, plain.victim
    bare = Ask(partial(shown_at, victim))
    if not cell.purifier:
        return bare
    if attacked and cell.attacked.get("backward") == "blind":  # who knows of none asks the victim
        return bare
    made = plain.attacked if attacked else plain.judged
    assert made is not None and prior is not None
    defended = Defended(replace(made.defence, prior=prior))  # one that may count its calls

    def ask(draw: Draw, images: Images, ids: tuple[int, ...]) -> Logits:
        known = ids if len(ids) == len(images) else None
        logits: Logits = defended.replay(FIXED if cell.fixed else draw, known).of_estimates(images)
        return logits

    return Ask(ask, defended.at_once)
