"""Models and data by the words of a plan: loaded once, kept, and told by their content."""

import ast
import hashlib
import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import nn

from scoreag.assess.lpips_weights import files
from scoreag.core.denoiser import Preconditioned
from scoreag.core.frozen import Frozen
from scoreag.core.prior import Prior
from scoreag.dataset import Dataset, at_hand, balanced, read
from scoreag.figures.features import Extractor, extractor
from scoreag.metrics.lpips import Lpips
from scoreag.metrics.lpips import load as load_lpips
from scoreag.models import device_of, load_classifier, load_prior
from scoreag.runs.manifest import named, plain, tensors_sha256

LEVELS = (0.01, 0.1, 1.0, 10.0)  # at which a family's coefficients are looked at

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Kit:
    """What a process has loaded.

    Args:
        root: where the official files of data sets are.
        lpips: "FEATURES.npz,HEADS.npz", "fetch", or "" where LPIPS is not measured.
        trust_code: whether code that cards name may be run.
        kept: the things themselves, by kind and word.
    """

    root: str | None = None
    device: str = "auto"
    lpips: str = ""
    progress: bool = False
    trust_code: bool = False
    kept: dict[tuple[str, ...], Any] = field(default_factory=dict, repr=False)

    @property
    def place(self) -> torch.device:
        return device_of(self.device)

    def prior(self, word: str) -> Prior:
        return self._once(("prior", word), lambda: load_prior(word, self.device, self.trust_code))

    def classifier(self, word: str) -> Frozen:
        def found() -> Frozen:
            return load_classifier(word, self.device, trust_code=self.trust_code)

        return self._once(("classifier", word), found)

    def data(self, word: str, classes: tuple[str, ...] = ()) -> Dataset:
        """The images of a word; of one's own, any first few hold the classes alike."""

        def found() -> Dataset:
            return balanced(read(word, self.root, progress=self.progress, classes=classes))

        return self._once(("data", word, *classes), found)

    @property
    def datasets(self) -> list[Dataset]:
        """All data that were read."""
        return [thing for (kind, *_), thing in self.kept.items() if kind == "data"]

    def first_at_hand(self, words: tuple[str, ...]) -> str:
        """The first of several data sets that needs no download, else the last."""
        return next((word for word in words if at_hand(word, self.root)), words[-1])

    def perception(self) -> Lpips | None:
        """LPIPS, where its weights were given."""
        if not self.lpips:
            return None
        return self._once(("lpips",), lambda: load_lpips(*files(self.lpips, self.progress)))

    def extractor(self, word: str, judge: str, shape: tuple[int, int, int]) -> Extractor:
        """The network of ``features``."""

        def made() -> Extractor:
            return extractor(word, self.classifier(judge), shape, self.place)

        return self._once(("features", word, judge), made)

    def once(self, key: str, make: Callable[[], Thing]) -> Thing:
        """Something of the last cell only: the next one's takes its place."""
        if ("cell", key) not in self.kept:
            for other in [name for name in self.kept if name[0] == "cell"]:
                del self.kept[other]
        return self._once(("cell", key), make)

    def _once(self, key: tuple[str, ...], make: Callable[[], Thing]) -> Thing:
        if key not in self.kept:
            self.kept[key] = make()
        found: Thing = self.kept[key]
        return found


def of_classifier(module: Frozen) -> dict[str, Any]:
    """The sha256 of its weights, its normalisation, its architecture, and the code of others."""
    return {
        "sha256": named(module, module.origin)["sha256"],
        "mean": list(module.mean),
        "std": list(module.std),
        "network": _printed(module.module),
        **_code(module),
    }


def _code(module: Frozen) -> dict[str, Any]:
    """What a classifier that is not of this package is called, and the digests of its sources."""
    name = str(module.origin.get("name", ""))
    words = re.split("[:,]", name)[:-1]  # guarded:net,my_module:factory
    modules = {type(part).__module__ for part in module.modules()} | {*words}
    known = {one: sys.modules[one] for one in sorted(modules) if one in sys.modules}
    found = {
        one: of_source(module)
        for one, module in known.items()
        if one.partition(".")[0] not in ("torch", "scoreag")
        and str(getattr(module, "__file__", None)).endswith(".py")
    }
    return {"name": name, "source": _digest(found)} if found else {}


def of_prior(prior: Prior) -> dict[str, Any]:
    """The sha256 of its weights, its family, its architecture, and the defaults of its card."""
    found = {
        "sha256": named(prior.model, prior.origin)["sha256"],
        "sigma_data": prior.sigma_data,
        "defaults": plain(prior.defaults),
    }
    if isinstance(prior.model, Preconditioned):
        found["network"] = _printed(prior.model.network)
        coefficients = prior.model.family(torch.tensor(LEVELS, dtype=torch.float64))
        found["family"] = [
            [round(x, 4) for x in c.expand(len(LEVELS)).tolist()] for c in coefficients
        ]
    return found


def of_data(data: Dataset) -> dict[str, Any]:
    """The sha256 of pixels and labels, and of the ids that the noise is keyed by."""
    return {"sha256": data.sha256, "image_ids": _digest(list(data.image_ids))}


def of_lpips(metric: Lpips | None) -> str | None:
    """The sha256 of its weights."""
    if metric is None:
        return None
    return tensors_sha256({**metric.convolutions, **metric.heads})


def of_source(module: ModuleType) -> str:
    """A component of this package is of the algorithm's version; another is of its code.

    Comments and layout are no code.
    """
    file = Path(module.__file__) if module.__file__ else None
    if file is None or Path(__file__).parents[1] in file.parents:
        return module.__name__
    return _digest(ast.dump(ast.parse(file.read_text(encoding="utf-8"))))


def mark(content: Mapping[str, Any]) -> str:
    """The digest of what is told of a thing's content."""
    return _digest(plain(content))


def _printed(module: nn.Module) -> str:
    text = repr(module)
    return _digest("" if "0x" in text else text)  # addresses are no content


def _digest(value: Mapping[str, Any] | list[int] | str) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
