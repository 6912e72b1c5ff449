"""Who sees what, and in which order.

Lists form a Latin square over sources and versions: version ``j`` of source ``i`` is in the list
``(i + j) mod L`` alone, so that nobody sees two versions of one source, each list has equally many
images of a condition, and each image is seen by equally many people.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

Version = tuple[Hashable, str]  # a source, and the condition of one of its versions


def shuffle_key(*parts: object) -> str:
    """A pseudo-random key by which anything is put into a random order."""
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()


def count_lists(versions: Sequence[Version], trials: int) -> int:
    """The fewest lists: one for each version of a source, and at most ``trials`` images in each.

    Raises:
        ValueError: a list has one image of each condition at least, and these are more.
    """
    counts = Counter(source for source, _ in versions)
    fewest = max(math.ceil(len(versions) / trials), *counts.values())
    for n_lists in range(fewest, len(versions) + 1):
        if max(map(len, make_lists(versions, n_lists))) <= trials:
            return n_lists
    raise ValueError(
        f"--trials is {trials}; expected {max(counts.values())} or more, one for each condition"
    )


def make_lists(versions: Sequence[Version], n_lists: int) -> list[list[int]]:
    """The positions in ``versions`` that belong to each list; sources in the order of their rows.

    Neighboring sources, which have one label, go to different lists: these are balanced by label.
    """
    conditions = list(dict.fromkeys(condition for _, condition in versions))
    kinds: dict[Hashable, set[str]] = {}
    for source, condition in versions:
        kinds.setdefault(source, set()).add(condition)
    # sources with equal conditions are neighbors, else a condition is unequal between the lists
    sources = sorted(kinds, key=lambda source: sorted(map(conditions.index, kinds[source])))
    place = {source: i for i, source in enumerate(sources)}
    lists: list[list[int]] = [[] for _ in range(n_lists)]
    for position, (source, condition) in enumerate(versions):
        own = [name for name in conditions if name in kinds[source]]
        lists[(place[source] + own.index(condition)) % n_lists].append(position)
    return lists


def is_asked(item: Mapping[str, Any]) -> bool:
    """Whether a check or practice item is a trial, and not only shown beside one."""
    return item["right"] is not None


def trial_order(manifest: Mapping[str, Any], participant: str, number: int) -> list[dict[str, Any]]:
    """The trials of a person in order, as the page computes them: practice, then all others.

    Checks are spread evenly.  Repeats are images of the first half, half a list later.
    """

    def shuffled(items: Sequence[int], kind: str) -> list[int]:
        return sorted(items, key=lambda i: shuffle_key(manifest["study"], participant, kind, i))

    checks = [i["item"] for i in manifest["items"] if i["purpose"] == "check" and is_asked(i)]
    main, checks = shuffled(manifest["lists"][number], "main"), shuffled(checks, "check")
    half, n_repeats = len(main) // 2, manifest["repeats"]
    repeats = [main[k * half // n_repeats] for k in range(n_repeats)]
    m, c, r = (max(1, len(some)) for some in (main, checks, repeats))
    timed = [((2 * i + 1) * 2 * c * r, 0, item, "main") for i, item in enumerate(main)]
    timed += [((2 * i + 1) * 2 * m * r, 1, item, "check") for i, item in enumerate(checks)]
    timed += [
        (2 * m * c * r + (2 * i + 1) * m * c, 2, item, "repeat") for i, item in enumerate(repeats)
    ]
    timed.sort(key=lambda entry: entry[:2])
    practice = [{"item": item, "kind": "practice"} for item in manifest["practice"]]
    return practice + [{"item": item, "kind": kind} for _, _, item, kind in timed]
