"""Code that a file names: cards and plans go from hand to hand, and run nothing unless allowed.

A word that is typed at the prompt, or given in Python, is trusted; one in a file is not.  The rules
err on the safe side: a word of a kind that is not known here counts as code.
"""

ARCHITECTURES = ("timm", "torchvision")  # packages whose networks are named, PACKAGE:NETWORK
WRAPPERS = ("masked:", "unmasked:", "guarded:")  # before the words for one or two classifiers


def component(word: str) -> bool:
    """Whether an attack, purifier, sampler or family is a module of somebody else's."""
    return "." in word or ":" in word


def network(word: str) -> bool:
    """Whether a card's network is made by somebody else's function."""
    package, colon, _ = word.partition(":")
    return component(word) and not (colon and package in ARCHITECTURES)


def classifier(word: str) -> bool:
    """Whether a classifier, or one within it, is made by a function."""
    return any(_called(part.strip()) for part in word.split(","))


def _called(word: str) -> bool:
    for prefix in WRAPPERS:
        if word.startswith(prefix):
            return _called(word.removeprefix(prefix).strip())
    return ":" in word and not word.startswith("robustbench:")


def data(word: str) -> bool:
    """Whether images come from a module of somebody else's."""
    kind, colon, _ = word.partition(":")
    return bool(colon) and "." in kind


def features(word: str) -> bool:
    """Whether a network of features is made by a function."""
    return ":" in word and not word.startswith("inception:")


def check(code: bool, word: str, place: str, trust_code: bool) -> None:
    """Refuse ``word`` of the file at ``place``, where it is code and that was not allowed.

    Raises:
        ValueError: says how it is allowed.
    """
    if code and not trust_code:
        raise ValueError(
            f"{place} names code, {word!r:.80}, and code that a file names is not run; read that "
            "code, and if you trust it, write --trust-code (in Python trust_code=True)"
        )
