"""Code that a file names: cards and plans go from hand to hand, and run nothing unless allowed.

A word that is typed at the prompt, or given in Python, is trusted; one in a file is not.  The rules
err on the safe side: a word of a kind that is not known here counts as code.
"""

LIBRARY_PREFIXES = ("timm", "torchvision")  # packages whose networks are named, PACKAGE:NETWORK
CLASSIFIER_PREFIXES = ("obfuscated:", "bpda:", "with-detector:")  # before a classifier's name


def is_custom_component(name: str) -> bool:
    """Whether an attack, purifier, sampler or family is a module of somebody else's."""
    return "." in name or ":" in name


def is_custom_network(name: str) -> bool:
    """Whether a card's network is made by somebody else's function."""
    package, colon, _ = name.partition(":")
    return is_custom_component(name) and not (colon and package in LIBRARY_PREFIXES)


def is_custom_classifier(name: str) -> bool:
    """Whether a classifier, or one within it, is made by a function."""
    return any(_is_factory(part.strip()) for part in name.split(","))


def _is_factory(name: str) -> bool:
    for prefix in CLASSIFIER_PREFIXES:
        if name.startswith(prefix):
            return _is_factory(name.removeprefix(prefix).strip())
    return ":" in name and not name.startswith("robustbench:")


def is_custom_data(name: str) -> bool:
    """Whether images come from a module of somebody else's."""
    kind, colon, _ = name.partition(":")
    return bool(colon) and "." in kind


def is_custom_features(name: str) -> bool:
    """Whether a network of features is made by a function."""
    return ":" in name and not name.startswith("inception:")


def check_trusted(is_code: bool, name: str, location: str, trust_code: bool) -> None:
    """Refuse a name in a file, where it is code and that was not allowed.

    Raises:
        ValueError: says how it is allowed.
    """
    if is_code and not trust_code:
        raise ValueError(
            f"{location} names code, {name!r:.80}, and code that a file names is not run; read "
            "that code, and if you trust it, write --trust-code (in Python trust_code=True)"
        )
