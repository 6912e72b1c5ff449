"""Sanity checks: what would make a metric of an assessment misleading."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from scoreag.assess.experiments import CLEAN, Cell
from scoreag.assess.metrics import CLEAN_CORRECT, CellResult
from scoreag.classifiers.checks import describe_weak_judge
from scoreag.methods.scale_search import SEARCHES
from scoreag.methods.summary import list_search_problems
from scoreag.stats.proportion import Proportion, compute_proportion

MAX_GRADIENT_NORM = 1e6  # length of a gradient of the loss, pixels in [0, 1]
MIN_AFFECTED_FRACTION = 0.1  # of the images: less is no pattern
MAX_ROUNDING_LOSS = 0.1  # of the successes, that 8 bits may undo
MIN_FRECHET_IMAGES = 500  # images, for a Frechet distance
FIXED_NORM_ATTACKS = ("di_fgsm", "si_ni_fgsm", "advad")  # Linf: they have no option norm
PARTIAL_SEARCH_ATTACKS = ("fgsm", "low_frequency")  # search a part of the ball by design


@dataclass(frozen=True)
class Finding:
    """The outcome of a check; an error where the metrics should not be used as they are."""

    check: str
    cell: str
    is_error: bool
    message: str


Messages: TypeAlias = Iterator[tuple[bool, str]]  # whether it is an error, and the message


def _error(message: str) -> tuple[bool, str]:
    return True, message


def _warning(message: str) -> tuple[bool, str]:
    return False, message


def check_cell(part: CellResult) -> list[Finding]:
    """The findings of the checks that look at one cell."""
    if not len(part.columns):
        return []
    return [
        Finding(name, part.cell.name, is_error, message)
        for check, name in CELL_CHECKS.items()
        for is_error, message in check(part)
    ]


def _check_gradients(part: CellResult) -> Messages:
    """Zero or exploding gradients, along which no attack can succeed."""
    if not part.columns.uses_gradients:
        return
    norms = [row["gradient_norm"] for row in part.columns.rows if "gradient_norm" in row]
    zero = sum(norm == 0 for norm in norms)
    large = sum(norm is None or norm > MAX_GRADIENT_NORM for norm in norms)
    for count, what in ((zero, "zero"), (large, f"not finite or above {MAX_GRADIENT_NORM:g}")):
        if count > MIN_AFFECTED_FRACTION * len(norms):
            yield _error(
                f"the gradient that the attacker sees is {what} at {count} of {len(norms)} "
                "images; attack it without gradients, or differentiate the defense exactly"
            )


def _check_randomness(part: CellResult) -> Messages:
    """Randomness that the plan does not declare: one prediction is no measurement then."""
    if part.cell.task != CLEAN:
        return
    for word in (part.cell.classifier, *part.cell.transfer_targets):
        is_random = not all(row["is_deterministic"][word] for row in part.columns.rows)
        if is_random and word not in part.cell.stochastic:
            yield _error(
                f"two calls of {word} on the same images differ; if it is meant to be random, "
                f'write stochastic = ["{word}"] in the dataset'
            )


def _check_rounding(part: CellResult) -> Messages:
    """Successes that vanish when the image is saved."""
    saved, before = ~part.columns.adv_misclassified, part.columns.misclassified_float
    lost = compute_proportion(saved, "successes before rounding", before)
    if lost.count >= 3 and lost.value > MAX_ROUNDING_LOSS:
        yield _warning(
            f"{lost.count} of {lost.total} successes are undone by saving the image with 8 bits; "
            "the metrics are of the saved images"
        )


def _check_search(part: CellResult) -> Messages:
    """Images that no attack fooled, and images that the weakest one fools."""
    rows = part.columns.rows
    option = next((name for name in SEARCHES if rows and name in rows[0]), "")
    yield from map(_warning, list_search_problems(rows, option))


def differing_options(cell: Cell) -> list[str]:
    """The options of the attacker's copy of the purifier that differ from the defense's.

    The kind of gradient and the memory budget do not count: they change no prediction.
    """
    defense, copy = cell.purifier_options, cell.attacker_options
    names = [n for n in {**defense, **copy} if n not in ("backward", "max_memory")]
    return [n for n in names if defense.get(n) != copy.get(n)]


def _check_settings(part: CellResult) -> Messages:
    """An attacker whose copy of the purifier differs from the defense."""
    cell = part.cell
    if not cell.purifier:
        return
    defense, copy = cell.purifier_options, cell.attacker_options
    if names := differing_options(cell):
        changes = ", ".join(f"{n} {copy.get(n)} instead of {defense.get(n)}" for n in names)
        yield _error(
            f"the attacker's copy of {cell.purifier_name} has {changes}: this is a weaker attacker "
            "than one who knows the defense"
        )
    if cell.shared_draw:
        yield _warning(
            f"attacker and judge of {cell.purifier_name} share one draw: how far an attack gets "
            "that knows the random numbers, not how a real one does"
        )
    if (backward := copy.get("backward", "exact")) != "exact":
        yield _warning(
            f"the attacker differentiates {cell.purifier_name} by {backward!r}, not exactly; such "
            "an attack overstates the defense"
        )


def _check_sample_size(part: CellResult) -> Messages:
    """Too few images for a Frechet distance."""
    count = len(part.columns)
    if "frechet" in part.metrics and count < max(MIN_FRECHET_IMAGES, part.n_features):
        yield _warning(
            f"{count} images in {part.n_features} features: the Frechet distance is mostly the "
            "bias of a small sample; compare it with equal counts only, or use the kernel distance"
        )


CELL_CHECKS: dict[Callable[[CellResult], Messages], str] = {
    _check_gradients: "gradients",
    _check_randomness: "randomness",
    _check_rounding: "8 bits",
    _check_search: "search",
    _check_settings: "settings",
    _check_sample_size: "Frechet",
}


@dataclass(frozen=True)
class Comparison:
    """Another attacker, in words, and the success of both on the images of both."""

    attacker: str
    other_rate: Proportion
    own_rate: Proportion

    @property
    def is_significant(self) -> bool:
        return self.other_rate.interval[0] > self.own_rate.interval[1]


def check_across_cells(parts: Sequence[CellResult]) -> Iterator[Finding]:
    """Attacks along exact gradients that a weaker attacker beats; the strongest of these each."""
    parts = [part for part in parts if len(part.columns) and part.cell.task == "attack"]
    for white in parts:
        if _missing_knowledge(white) or white.cell.component in PARTIAL_SEARCH_ATTACKS:
            continue
        others = [other for other in parts if _same_threat_model(other.cell, white.cell)]
        rivals = [*_weaker_attackers(others, white), *_transfer_attackers(others, white)]
        stronger = [rival for rival in rivals if rival.is_significant]
        if stronger:
            best = max(stronger, key=lambda one: one.other_rate.value - one.own_rate.value)
            theirs, own = best.other_rate, best.own_rate
            yield Finding(
                "weaker attacker", white.cell.name, True,
                f"{best.attacker} on {theirs.count} of {theirs.total} and this one on {own.count} "
                f"of {own.total}: its gradients mislead, or its search ends too early",
            )  # fmt: skip


def _weaker_attackers(others: Sequence[CellResult], white: CellResult) -> Iterator[Comparison]:
    """Attackers of the same defense with less knowledge."""
    for other in others:
        lack = _missing_knowledge(other)
        if lack and defense_identity(other.cell) == defense_identity(white.cell):
            ids = {*other.columns.image_ids.tolist()} & {*white.columns.image_ids.tolist()}
            rates = (_success_rate(part, ids) for part in (other, white))
            yield Comparison(f"{other.cell.name}, which {lack}, succeeds", *rates)


def _transfer_attackers(others: Sequence[CellResult], white: CellResult) -> Iterator[Comparison]:
    """Attackers of another classifier, whose images transfer to this one."""
    for other in others:
        entry = other.transfer.get(white.cell.classifier)
        bare = not other.cell.purifier and not white.cell.purifier
        ids = {*other.columns.image_ids.tolist()}
        shared = ids <= {*white.columns.image_ids.tolist()}
        if bare and entry and shared and other.cell.classifier != white.cell.classifier:
            rate = Proportion(entry["count"], entry["total"], entry["of"])
            attacker = f"what {other.cell.name} made against {other.cell.classifier} succeeds"
            yield Comparison(attacker, rate, _success_rate(white, ids))


def _missing_knowledge(part: CellResult) -> str:
    """In words, what an attacker lacks compared with exact gradients; "" where nothing."""
    if not part.gradient_mode:
        return "takes no gradient"
    if part.gradient_mode == "none":
        return "does not know of the purifier"
    if part.gradient_mode != "exact":
        return f"differentiates the purifier by {part.gradient_mode!r}"
    return "has a copy of the purifier with other settings" if differing_options(part.cell) else ""


def _same_threat_model(a: Cell, b: Cell) -> bool:
    """The same images, and the same known norm ball."""
    same = all(getattr(a, name) == getattr(b, name) for name in ("group", "data", "seed"))
    return same and None not in norm_ball(a) and norm_ball(a) == norm_ball(b)


def norm_ball(cell: Cell) -> tuple[object, object]:
    """The norm and the radius of the ball that an attack searches; None where unknown."""
    default = "Linf" if cell.component in FIXED_NORM_ATTACKS else None
    return cell.options.get("norm", default), cell.options.get("eps")


def defense_identity(cell: Cell) -> tuple[str, ...]:
    """The classifier, its purifier and the purifier's options; not those of attackers' copies."""
    options, shared = repr(dict(cell.purifier_options)), str(cell.shared_draw)
    return cell.classifier, cell.purifier, options, shared


def _success_rate(part: CellResult, ids: set[int]) -> Proportion:
    """The success on the images ``ids`` that were right before, at the first draw."""
    columns = part.columns
    among = columns.image_ids.new_tensor([i in ids for i in columns.image_ids.tolist()]).bool()
    return compute_proportion(columns.adv_misclassified, CLEAN_CORRECT, columns.eligible & among)


def check_judges(cells: Sequence[Cell], accuracy: Mapping[str, Proportion]) -> Iterator[Finding]:
    """The findings about the reference classifiers of a dataset.

    Args:
        cells: of the dataset, the clean one first.
        accuracy: of each reference classifier on the clean images, where it is known.
    """
    first = cells[0]
    messages = []
    for word in first.reference_classifiers:
        if not accuracy.get(word):
            messages.append(
                f"how often the judge {word} is right on untouched images is not known; do the "
                f"cell {first.group}/clean, too"
            )
        elif message := describe_weak_judge(word, accuracy[word], len(first.classes)):
            messages.append(message)
    for judge, word in sorted({pair for cell in cells for pair in find_attacked_judges(cell)}):
        messages.append(
            f"the judge {judge} has the weights of {word}, which is attacked: its agreement says "
            "nothing of what the images show; give another judge, trained apart"
        )
    yield from (Finding("judge", first.name, True, message) for message in messages)


def find_attacked_judges(cell: Cell) -> list[tuple[str, str]]:
    """Pairs of a reference classifier and an attacked classifier with equal weights."""
    content = cell.content
    attacked = {cell.classifier: content.get("classifier"), **content.get("transfer_targets", {})}
    return [
        (judge, word)
        for judge, of_judge in content.get("reference_classifiers", {}).items()
        for word, digests in attacked.items()
        if of_judge and digests and of_judge.get("sha256") == digests.get("sha256")
    ]


def digests_known(cells: Sequence[Cell]) -> bool:
    """Whether the digests of all classifiers and reference classifiers are recorded."""
    return all(
        cell.content.get("classifier")
        and {*cell.reference_classifiers} <= {*cell.content.get("reference_classifiers", {})}
        for cell in cells
        if cell.reference_classifiers
    )
