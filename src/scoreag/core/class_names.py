"""Classes by name: which of one model's classes are those of another one.

Two names are the same if they differ in capitals, spaces, hyphens and underscores only.
"""

from collections.abc import Mapping, Sequence

Groups = Mapping[str, Sequence[str]]  # the classes that each superclass stands for
NO_GROUPS: Groups = {}


def lacks_class_names(classes: Sequence[str]) -> bool:
    """Whether the classes have no names, or their numbers in place of names."""
    return list(classes) == [str(i) for i in range(len(classes))]


def match_classes(
    known: Sequence[str], classes: Sequence[str], groups: Groups = NO_GROUPS
) -> list[tuple[int, ...]]:
    """The numbers in ``known`` of each of ``classes``: one, or those of its group, or none."""
    numbers = {_canonical(name): number for number, name in enumerate(known)}
    found = []
    for name in classes:
        members = [name] if _canonical(name) in numbers else groups.get(name, ())
        found.append(tuple(numbers[_canonical(m)] for m in members if _canonical(m) in numbers))
    return found


def _canonical(name: str) -> str:
    return name.casefold().replace("_", " ").replace("-", " ").strip()
