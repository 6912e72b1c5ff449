"""Who is left out of an analysis: by rules that the manifest fixed before there were answers."""

from collections.abc import Callable
from itertools import groupby

from scoreag.study.answers import UNSURE, Manifest, Participant, Trial

RULES = {
    "no_consent": "did not consent",
    "incomplete": "did not finish, or trials are missing",
    "checks_wrong": "too many wrong answers on the checks",
    "too_fast": "too many answers below the minimal time",
    "same_answer": "too many equal answers in a row",
    "repeats_unequal": "too few equal answers on repeated images",
}


def exclusion_reasons(manifest: Manifest, person: Participant) -> list[str]:
    """The names of the rules by which a person is left out; none where they are kept."""
    if not person.consent:
        return ["no_consent"]
    if not is_complete(manifest, person):
        return ["incomplete"]
    rules: dict[str, Callable[[Manifest, Participant], bool]] = {
        "checks_wrong": has_wrong_checks,
        "too_fast": is_too_fast,
        "same_answer": has_long_run,
        "repeats_unequal": is_unequal,
    }
    return [name for name, breaks in rules.items() if breaks(manifest, person)]


def is_complete(manifest: Manifest, person: Participant) -> bool:
    """Whether every trial of the list, every check and every repeat was answered."""
    main = {trial.item for trial in person.of_kind("main")}
    return (
        person.complete
        and main == set(manifest["lists"][person.list_number])
        and len(person.of_kind("check")) == manifest["checks"]
        and len(person.of_kind("repeat")) == manifest["repeats"]
    )


def has_wrong_checks(manifest: Manifest, person: Participant) -> bool:
    """More wrong checks than ``checks_wrong_most``; "cannot tell" is wrong."""
    checks = person.of_kind("check")
    wrong = sum(not is_right(manifest, trial) for trial in checks)
    return wrong > manifest["exclusions"]["checks_wrong_most"]


def is_right(manifest: Manifest, trial: Trial) -> bool:
    """Whether a check has the answer that its image has."""
    item = manifest["items"][trial.item]
    right = item.get("right")
    return trial.answer == (item["label"] if right is None else right)


def is_too_fast(manifest: Manifest, person: Participant) -> bool:
    """A larger share of trials below ``minimal_ms`` than ``fast_share_most``."""
    limits = manifest["exclusions"]
    asked = [trial for trial in person.trials if trial.kind != "practice"]
    fast = sum(trial.ms < limits["minimal_ms"] for trial in asked)
    return fast > limits["fast_share_most"] * len(asked)


def has_long_run(manifest: Manifest, person: Participant) -> bool:
    """A longer run of one answer than ``same_answer_longest``; practice is no part of it.

    A run of "cannot tell" is none: it may be true of all images, and is wrong on each check.
    """
    answers = [trial.answer for trial in person.trials if trial.kind != "practice"]
    runs = [len([*run]) for answer, run in groupby(answers) if answer != UNSURE]
    longest = max(runs, default=0)
    return longest > manifest["exclusions"]["same_answer_longest"]


def is_unequal(manifest: Manifest, person: Participant) -> bool:
    """Fewer repeats answered as before than ``repeats_equal_least``."""
    equal = [first.answer == again.answer for first, again in repeated_pairs(person)]
    least = manifest["exclusions"]["repeats_equal_least"]
    return bool(equal) and sum(equal) < least * len(equal)


def repeated_pairs(person: Participant) -> list[tuple[Trial, Trial]]:
    """The first and the second answer to each repeated image."""
    first = {trial.item: trial for trial in person.of_kind("main")}
    repeats = person.of_kind("repeat")
    return [(first[again.item], again) for again in repeats if again.item in first]


def scored_answer(manifest: Manifest, trial: Trial) -> float:
    """1 where the label, the item's side, or "real" was answered, and 0 where not.

    "Cannot tell" does not see the label, and is half of the two answers of the other designs.
    """
    design, item = manifest["design"], manifest["items"][trial.item]
    if trial.answer == UNSURE:
        return 0.0 if design == "name" else 0.5
    wanted = {"name": item["label"], "choose": item.get("side"), "real": "real"}
    return float(trial.answer == wanted[design])
