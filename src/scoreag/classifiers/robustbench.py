"""A classifier of RobustBench by name, where that package is installed; Croce et al. (2021).

``robustbench:Carmon2019Unlabeled`` is of CIFAR-10 under Linf; others name both before it, as in
``robustbench:cifar100/L2/NAME``.  The package fetches the weights when they are first asked for.
"""

import sys
from contextlib import redirect_stdout
from typing import Any

from torch import nn

from scoreag.classifiers.build import import_package
from scoreag.io.filesystem import cache_folder
from scoreag.registry import did_you_mean

PREFIX = "robustbench:"
DATASETS = ("cifar10", "cifar100", "imagenet")
THREAT_MODELS = ("Linf", "L2", "corruptions", "corruptions_3d")


def load_robustbench(name: str) -> nn.Module:
    """The model, which takes images in [0, 1] and normalizes them itself.

    Raises:
        ValueError: the package is not installed, has no such model, or cannot fetch it.
    """
    dataset, threat, model = parse_name(name)
    utils = import_package("robustbench.utils", name)
    _check_model_name(model, dataset, threat)
    folder = cache_folder() / "robustbench"
    try:
        with redirect_stdout(sys.stderr):  # it tells of its downloads
            made: nn.Module = utils.load_model(
                model_name=model, dataset=dataset, threat_model=threat, model_dir=str(folder)
            )
    except Exception as error:  # of somebody else's package, or of the network
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"RobustBench cannot load {name}: {what}") from error
    return made.eval().requires_grad_(False)


def parse_name(name: str) -> tuple[str, str, str]:
    """Data set, threat model and model of a name.

    >>> parse_name("robustbench:Standard")
    ('cifar10', 'Linf', 'Standard')
    """
    words = name.removeprefix(PREFIX).split("/")
    if len(words) not in (1, 3) or not all(words):
        raise ValueError(
            f"{name!r}: write robustbench:MODEL, of CIFAR-10 under Linf, or "
            "robustbench:DATASET/THREAT/MODEL, e.g. robustbench:cifar10/L2/Augustin2020Adversarial"
        )
    dataset, threat, model = words if len(words) == 3 else ("cifar10", "Linf", *words)
    for word, known in ((dataset, DATASETS), (threat, THREAT_MODELS)):
        if word not in known:
            raise ValueError(f"{name}: RobustBench has no {word!r}; {did_you_mean(word, [*known])}")
    return dataset, threat, model


def _check_model_name(model: str, dataset: str, threat: str) -> None:
    """Say which name was probably meant; what timm brings beside the zoo is in no list."""
    zoo = import_package("robustbench.model_zoo", model).model_dicts
    known = [*_lookup(_lookup(zoo, dataset), threat.removesuffix("_3d"))]
    if known and model not in known and not _is_timm_model(model, dataset, threat):
        raise ValueError(
            f"RobustBench has no {model!r} for {dataset} under {threat}; "
            + did_you_mean(model, known)[:300]
        )


def _lookup(table: Any, word: str) -> Any:
    """The entry of a table whose keys are an enumeration's members."""
    return next((v for key, v in table.items() if getattr(key, "value", key) == word), {})


def _is_timm_model(model: str, dataset: str, threat: str) -> bool:
    lower = model.lower().replace("-", "_")
    word = f"{lower}_{dataset}_{threat.removesuffix('_3d').lower()}"
    return bool(import_package("timm", "RobustBench").is_model(word))
