"""A study's manifest.json: what is shown to whom, fixed and hashed before answers exist."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scoreag.io.filesystem import check_regular_file, write_json
from scoreag.io.manifest import MANIFEST

FORMAT = 1  # of a study's folder
TASK = "study"
DESIGNS = ("name", "choose", "real")
CLEAN = "clean"  # the condition of untouched images: the ceiling
PAGE = "study.html"
ANSWERS = "answers"  # the folder of the answers that ``serve`` keeps
TEXTS = "texts"  # the folder of the texts that the page shows
NOT_HASHED = ("study", "created")
MINIMAL_MS = 200  # nobody sees, decides and presses a key faster
EXCLUSIONS = {  # of the design name; of the others see fix_exclusions
    "checks_wrong_most": 2,
    "fast_share_most": 0.1,
    "minimal_ms": MINIMAL_MS,
    "same_answer_longest": 30,
    "repeats_equal_least": 0.25,
}
_ENTRIES = {  # the type of each entry of a manifest
    **dict.fromkeys(("study", "title", "design", "completion_code"), str),
    **dict.fromkeys(("classes", "conditions", "items", "lists", "practice"), list),
    **dict.fromkeys(("seed", "raters", "repeats", "checks", "minimal_ms"), int),
    "exclusions": dict,
}


def fix_exclusions(
    design: str, rights: Sequence[Sequence[int | str]], others: int
) -> dict[str, int | float]:
    """The limits by which people are left out: hardly any careful person, whatever they see.

    Two answers: who cannot tell the images apart answers half of the repeats otherwise.  A run is
    too long where right answers have one as long in 1 of 1000 people.  ``real``: images may all
    look like photographs, or none may; one key throughout is wrong on half of the checks.

    Args:
        rights: of each list, the right answers.
        others: checks and repeats, which each person answers beside the list.
    """
    trials = others + max(map(len, rights))
    share = max(max(Counter(some).values()) / len(some) for some in rights)
    longest = math.ceil(math.log(1000 * trials) / -math.log(share)) if share < 1 else trials
    limits: dict[str, int | float] = {
        **EXCLUSIONS,
        "same_answer_longest": max(int(EXCLUSIONS["same_answer_longest"]), longest),
    }
    if design == "real":
        limits |= {"checks_wrong_most": 4, "same_answer_longest": trials}
    return limits if design == "name" else limits | {"repeats_equal_least": 0.0}


def canonical_json(value: Any) -> str:
    """The only JSON text of a value: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def compute_study_id(manifest: Mapping[str, Any]) -> str:
    """The sha256 of all that determines a study: every entry but its id and its date."""
    hashed = {name: value for name, value in manifest.items() if name not in NOT_HASHED}
    return hashlib.sha256(canonical_json(hashed).encode()).hexdigest()


def write_study(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write a study's manifest."""
    write_json(folder / MANIFEST, manifest)


def read_study(folder: Path) -> dict[str, Any]:
    """The manifest of a study's folder.

    Raises:
        ValueError: there is no study, or its manifest was changed after it was built.
    """
    file = folder / MANIFEST
    check_regular_file(file)
    if not file.is_file():
        raise ValueError(f"{folder} holds no study: there is no {MANIFEST} in it; build one first")
    try:
        manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        task, version = manifest["task"], manifest["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} is no manifest of a study; build the study again") from error
    if task != TASK:
        raise ValueError(f"{folder} holds a run of {task!r:.40}, no study; build a study of it")
    if version != FORMAT:
        raise ValueError(f"{file} has format {version!r:.20}; this version reads {FORMAT}")
    _check_entries(file, manifest)
    return manifest


def _check_entries(file: Path, manifest: Mapping[str, Any]) -> None:
    wrong = [n for n, kind in _ENTRIES.items() if not isinstance(manifest.get(n), kind)]
    if wrong or manifest["study"] != compute_study_id(manifest):
        what = f"its entry {wrong[0]!r} is missing or wrong" if wrong else "its hash differs"
        raise ValueError(
            f"{file} is not as the study was built ({what}); restore it, or build the study again"
        )


def answers_digest(answers: Mapping[str, Any]) -> str:
    """The digest that the page writes below somebody's answers, by which edits are found."""
    names = ("trial", "item", "kind", "answer", "ms")
    trials = [[trial[name] for name in names] for trial in answers["trials"]]
    parts = [answers["study"], answers["participant"], answers["list"], trials]
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()
