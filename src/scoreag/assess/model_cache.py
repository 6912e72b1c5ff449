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

from scoreag.classifiers.loading import load_classifier, load_prior, resolve_device
from scoreag.classifiers.normalized import NormalizedClassifier
from scoreag.data.loading import Dataset, interleave_classes, is_cached, load_dataset
from scoreag.diffusion.parameterizations import Preconditioned
from scoreag.diffusion.prior import Prior
from scoreag.metrics.feature_extractors import FeatureExtractor, load_extractor
from scoreag.metrics.lpips import Lpips
from scoreag.metrics.lpips import load_lpips as load_lpips
from scoreag.metrics.lpips_weights import resolve_weight_files
from scoreag.models.identity import model_identity, tensors_sha256
from scoreag.runs.manifest import to_jsonable

PROBE_SIGMAS = (0.01, 0.1, 1.0, 10.0)  # at which a family's coefficients are looked at

Item = TypeVar("Item")


@dataclass(frozen=True)
class ModelCache:
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
    entries: dict[tuple[str, ...], Any] = field(default_factory=dict, repr=False)

    @property
    def torch_device(self) -> torch.device:
        return resolve_device(self.device)

    def prior(self, name: str) -> Prior:
        return self._memoize(
            ("prior", name), lambda: load_prior(name, self.device, self.trust_code)
        )

    def classifier(self, name: str) -> NormalizedClassifier:
        def found() -> NormalizedClassifier:
            return load_classifier(name, self.device, trust_code=self.trust_code)

        return self._memoize(("classifier", name), found)

    def data(self, name: str, classes: tuple[str, ...] = ()) -> Dataset:
        """The images of a word; of one's own, any first few hold the classes alike."""

        def found() -> Dataset:
            return interleave_classes(
                load_dataset(name, self.root, progress=self.progress, classes=classes)
            )

        return self._memoize(("data", name, *classes), found)

    @property
    def datasets(self) -> list[Dataset]:
        """All data that were read."""
        return [thing for (kind, *_), thing in self.entries.items() if kind == "data"]

    def first_cached(self, names: tuple[str, ...]) -> str:
        """The first of several data sets that needs no download, else the last."""
        return next((word for word in names if is_cached(word, self.root)), names[-1])

    def lpips_metric(self) -> Lpips | None:
        """LPIPS, where its weights were given."""
        if not self.lpips:
            return None
        return self._memoize(
            ("lpips",), lambda: load_lpips(*resolve_weight_files(self.lpips, self.progress))
        )

    def feature_extractor(
        self, name: str, classifier: str, shape: tuple[int, int, int]
    ) -> FeatureExtractor:
        """The network of ``features``."""

        def made() -> FeatureExtractor:
            return load_extractor(name, self.classifier(classifier), shape, self.torch_device)

        return self._memoize(("features", name, classifier), made)

    def memoize(self, key: str, make: Callable[[], Item]) -> Item:
        """Something of the last cell only: the next one's takes its place."""
        if ("cell", key) not in self.entries:
            for other in [name for name in self.entries if name[0] == "cell"]:
                del self.entries[other]
        return self._memoize(("cell", key), make)

    def _memoize(self, key: tuple[str, ...], make: Callable[[], Item]) -> Item:
        if key not in self.entries:
            self.entries[key] = make()
        found: Item = self.entries[key]
        return found


def classifier_digests(module: NormalizedClassifier) -> dict[str, Any]:
    """The sha256 of its weights, its normalisation, its architecture, and the code of others."""
    return {
        "sha256": model_identity(module, module.metadata)["sha256"],
        "mean": list(module.mean),
        "std": list(module.std),
        "network": _architecture_digest(module.module),
        **_source_info(module),
    }


def _source_info(module: NormalizedClassifier) -> dict[str, Any]:
    """What a classifier that is not of this package is called, and the digests of its sources."""
    name = str(module.metadata.get("name", ""))
    words = re.split("[:,]", name)[:-1]  # with-detector:net,my_module:factory
    modules = {type(part).__module__ for part in module.modules()} | {*words}
    known = {one: sys.modules[one] for one in sorted(modules) if one in sys.modules}
    found = {
        one: source_digest(module)
        for one, module in known.items()
        if one.partition(".")[0] not in ("torch", "scoreag")
        and str(getattr(module, "__file__", None)).endswith(".py")
    }
    return {"name": name, "source": _digest(found)} if found else {}


def prior_digests(prior: Prior) -> dict[str, Any]:
    """The sha256 of its weights, its family, its architecture, and the defaults of its card."""
    found = {
        "sha256": model_identity(prior.model, prior.metadata)["sha256"],
        "sigma_data": prior.sigma_data,
        "defaults": to_jsonable(prior.defaults),
    }
    if isinstance(prior.model, Preconditioned):
        found["network"] = _architecture_digest(prior.model.network)
        coefficients = prior.model.family(torch.tensor(PROBE_SIGMAS, dtype=torch.float64))
        found["family"] = [
            [round(x, 4) for x in c.expand(len(PROBE_SIGMAS)).tolist()] for c in coefficients
        ]
    return found


def data_digests(data: Dataset) -> dict[str, Any]:
    """The sha256 of pixels and labels, and of the ids that the noise is keyed by."""
    return {"sha256": data.sha256, "image_ids": _digest(list(data.image_ids))}


def lpips_digest(metric: Lpips | None) -> str | None:
    """The sha256 of its weights."""
    if metric is None:
        return None
    return tensors_sha256({**metric.convolutions, **metric.heads})


def source_digest(module: ModuleType) -> str:
    """A component of this package is of the algorithm's version; another is of its code.

    Comments and layout are no code.
    """
    file = Path(module.__file__) if module.__file__ else None
    if file is None or Path(__file__).parents[1] in file.parents:
        return module.__name__
    return _digest(ast.dump(ast.parse(file.read_text(encoding="utf-8"))))


def content_digest(content: Mapping[str, Any]) -> str:
    """The digest of what is told of a thing's content."""
    return _digest(to_jsonable(content))


def _architecture_digest(module: nn.Module) -> str:
    text = repr(module)
    return _digest("" if "0x" in text else text)  # addresses are no content


def _digest(value: Mapping[str, Any] | list[int] | str) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
