"""Cells, the settings that a plan crosses to, and the models and data that they name.

A cell's key is a hash of content: weights, data and options, not the words for them.
"""

import ast
import hashlib
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import nn

from scoreag.assess.plan import NONE
from scoreag.classifiers.class_groups import known_names, select_classes
from scoreag.classifiers.loading import load_classifier
from scoreag.classifiers.normalized import NormalizedClassifier
from scoreag.core.batching import batch_ranges
from scoreag.core.class_names import lacks_class_names
from scoreag.data.loading import Dataset, interleave_classes, is_cached, load_dataset
from scoreag.diffusion.class_labels import fit_classes
from scoreag.diffusion.parameterizations import Preconditioned
from scoreag.diffusion.prior import Prior
from scoreag.io.manifest import to_jsonable
from scoreag.metrics.feature_extractors import FeatureExtractor, load_extractor
from scoreag.metrics.lpips import Lpips, load_lpips, resolve_weight_files
from scoreag.metrics.semantic import SemanticMeasure, load_semantic
from scoreag.models.hub import pin_names
from scoreag.models.identity import (
    describe_parameterization,
    model_identity,
    tensors_sha256,
)
from scoreag.models.loading import load_prior, resolve_device

CLEAN = "clean"  # the cell of a dataset's unchanged images, the reference for features
TASKS = {"gas": "synthesize", "gat": "transform", "gap": "purify"}  # attacks that are tasks

Item = TypeVar("Item")


@dataclass(frozen=True)
class Cell:
    """One setting of an assessment, in plain values, so that it can be sent to a worker.

    Args:
        name: DATASET/CLASSIFIER/PURIFIER/ATTACK, with the values of a sweep, as in the plan.
        transfer_targets: the dataset's other classifiers, which predict the images, too.
        options: of the attack; a task's are resolved with the card's defaults.
        sweep: options with several values in the plan, as the plan writes them.
        purifier: the component, "" for none.
        attacker_options: of the attacker's copy of the purifier.
        shared_draw: attacker and evaluation share one draw of the purifier.
        stochastic: the classifiers that are random on purpose.
        classes: the names of the labels; no part of the key.
        content: digests of the data, of all weights and of the components' sources.
    """

    name: str
    group: str
    data: str
    classifier: str
    attack: str
    component: str
    images: int
    prior: str = ""
    reference_classifiers: tuple[str, ...] = ()
    transfer_targets: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    sweep: Mapping[str, str] = field(default_factory=dict)
    purifier_name: str = NONE
    purifier: str = ""
    purifier_options: Mapping[str, Any] = field(default_factory=dict)
    attacker_options: Mapping[str, Any] = field(default_factory=dict)
    shared_draw: bool = False
    is_ood: bool = False
    stochastic: tuple[str, ...] = ()
    eval_draws: int = 1
    seed: int = 0
    batch_size: int = 16
    feature_extractor: str = NONE
    lpips: str = ""
    semantic: str = ""
    classes: tuple[str, ...] = ()
    content: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The first 16 digits of the sha256 of everything that determines the rows."""
        names = (
            "component", "options", "purifier", "purifier_options", "attacker_options",
            "shared_draw", "is_ood", "eval_draws", "seed", "images", "batch_size",
            "feature_extractor", "content",
        )  # fmt: skip
        text = json.dumps({n: getattr(self, n) for n in names}, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def variant(self) -> str:
        """ATTACK, with the values of a sweep: the end of the name."""
        return ",".join([self.attack, *(f"{name}={word}" for name, word in self.sweep.items())])

    @property
    def defense(self) -> str:
        """DATASET/CLASSIFIER/PURIFIER, the beginning of the name."""
        return self.name.removesuffix(self.variant).rstrip("/")

    @property
    def task(self) -> str:
        """synthesize, transform, purify, clean or attack."""
        return TASKS.get(self.component, CLEAN if self.component == CLEAN else "attack")

    @property
    def batches(self) -> list[range]:
        """The positions of the images that the networks process together."""
        return list(batch_ranges(self.images, self.batch_size))

    def to_dict(self) -> dict[str, Any]:
        """For cell.json: plain values, with the key."""
        table: dict[str, Any] = json.loads(json.dumps(vars(self)))
        return {"key": self.key, **table}


def cell_from_dict(table: Mapping[str, Any]) -> Cell:
    """The cell of a cell.json."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in table.items()
    }
    values.pop("key", None)
    return Cell(**values)


@dataclass(frozen=True)
class ModelCache:
    """The models and data of a process, by their words in a plan, each loaded once.

    Args:
        root: the folder of the official files of data sets.
        lpips: "FEATURES.npz,HEADS.npz", "fetch", or "" where LPIPS is not measured.
        trust_code: whether code that cards name may be run.
        pins: the commit of each name of the Hub, so that all workers load the same.
    """

    root: str | None = None
    device: str = "auto"
    lpips: str = ""
    progress: bool = False
    trust_code: bool = False
    pins: dict[str, str] = field(default_factory=dict)
    entries: dict[tuple[str, ...], Any] = field(default_factory=dict, repr=False)

    @property
    def torch_device(self) -> torch.device:
        return resolve_device(self.device)

    @property
    def datasets(self) -> list[Dataset]:
        """All data that were read."""
        return [item for (kind, *_), item in self.entries.items() if kind == "data"]

    def prior(self, name: str) -> Prior:
        def load() -> Prior:
            return load_prior(pin_names(name, self.pins), self.device, self.trust_code)

        return self._load(load, "prior", name)

    def classifier(self, name: str) -> NormalizedClassifier:
        def load() -> NormalizedClassifier:
            pinned = pin_names(name, self.pins)
            return load_classifier(pinned, self.device, trust_code=self.trust_code)

        return self._load(load, "classifier", name)

    def fitted_prior(self, cell: Cell) -> Prior:
        """The score model of a cell, for the classes of its classifier."""
        groups = self.classifier(cell.classifier).groups
        return fit_classes(self.prior(cell.prior), cell.classes, groups)

    def fitted_classifier(self, name: str, cell: Cell) -> NormalizedClassifier:
        """Another classifier of a cell, for the classes of its own."""
        classifier, groups = self.classifier(name), self.classifier(cell.classifier).groups
        if not known_names(classifier) or lacks_class_names(cell.classes):
            return classifier
        return select_classes(classifier, cell.classes, groups)

    def data(self, name: str, classes: tuple[str, ...] = ()) -> Dataset:
        """The images of a word; user data in an order that balances the classes of any prefix."""

        def load() -> Dataset:
            dataset = load_dataset(name, self.root, progress=self.progress, classes=classes)
            return interleave_classes(dataset)

        return self._load(load, "data", name, *classes)

    def first_cached(self, names: tuple[str, ...]) -> str:
        """The first of several data sets that needs no download, else the last."""
        return next((word for word in names if is_cached(word, self.root)), names[-1])

    def lpips_metric(self) -> Lpips | None:
        """LPIPS; None without its weights."""
        if not self.lpips:
            return None
        return self._load(
            lambda: load_lpips(*resolve_weight_files(self.lpips, self.progress)), "lpips"
        )

    def semantic(self, name: str) -> SemanticMeasure:
        """The measure of what people would see."""
        return self._load(
            lambda: load_semantic(name, self.device, self.trust_code), "semantic", name
        )

    def extractor(self, cell: Cell, shape: Sequence[int]) -> FeatureExtractor | None:
        """The network in whose features a cell's images are compared; None where it has none."""
        if cell.feature_extractor == NONE or not cell.reference_classifiers:
            return None
        name, judge = cell.feature_extractor, cell.reference_classifiers[0]
        channels, height, width = shape

        def load() -> FeatureExtractor:
            size = (channels, height, width)
            return load_extractor(name, self.classifier(judge), size, self.torch_device)

        return self._load(load, "features", name, judge)

    def memoize(self, key: str, make: Callable[[], Item]) -> Item:
        """An item of the current cell; items of earlier cells are dropped."""
        if ("cell", key) not in self.entries:
            for other in [name for name in self.entries if name[0] == "cell"]:
                del self.entries[other]
        return self._load(make, "cell", key)

    def _load(self, load: Callable[[], Item], *key: str) -> Item:
        if key not in self.entries:
            self.entries[key] = load()
        item: Item = self.entries[key]
        return item


def classifier_digests(module: NormalizedClassifier) -> dict[str, Any]:
    """The sha256 of a classifier's weights, its normalization, architecture and foreign code."""
    return {
        "sha256": model_identity(module, module.metadata)["sha256"],
        "mean": list(module.mean),
        "std": list(module.std),
        "network": _architecture_digest(module.module),
        **_source_info(module),
    }


def _source_info(module: NormalizedClassifier) -> dict[str, Any]:
    """The name and the digest of the sources of a classifier from outside this package."""
    name = str(module.metadata.get("name", ""))
    words = re.split("[:,]", name)[:-1]  # with-detector:net,my_module:factory
    names = {type(part).__module__ for part in module.modules()} | {*words}
    sources = {
        one: source_digest(sys.modules[one])
        for one in sorted(names & sys.modules.keys())
        if one.partition(".")[0] not in ("torch", "scoreag")
        and str(getattr(sys.modules[one], "__file__", None)).endswith(".py")
    }
    return {"name": name, "source": content_digest(sources)} if sources else {}


def prior_digests(prior: Prior) -> dict[str, Any]:
    """The sha256 of a score model's weights, its family, architecture and card defaults."""
    digests = {
        "sha256": model_identity(prior.model, prior.metadata)["sha256"],
        "sigma_data": prior.sigma_data,
        "defaults": to_jsonable(prior.defaults),
    }
    if isinstance(prior.model, Preconditioned):
        digests["network"] = _architecture_digest(prior.model.network)
    return digests | describe_parameterization(prior)


def guide_names(prior: Prior | None) -> set[str]:
    """The weaker score model that guides another one, if one does."""
    return {prior.guide_name} if prior and prior.guide_name else set()


def data_digests(data: Dataset) -> dict[str, Any]:
    """The sha256 of pixels and labels, and of the image ids, which key the noise."""
    return {"sha256": data.sha256, "image_ids": content_digest(list(data.image_ids))}


def lpips_digest(metric: Lpips | None) -> str | None:
    """The sha256 of the weights of LPIPS."""
    return tensors_sha256({**metric.convolutions, **metric.heads}) if metric else None


def source_digest(module: ModuleType) -> str:
    """The digest of a component's code without comments; of this package's components the name.

    The version of the algorithm covers the code of this package.
    """
    file = Path(module.__file__ or __file__)
    if Path(__file__).parents[1] in file.parents:
        return module.__name__
    return content_digest(ast.dump(ast.parse(file.read_text(encoding="utf-8"))))


def content_digest(content: Any) -> str:
    """The sha256 of plain values."""
    return hashlib.sha256(json.dumps(to_jsonable(content), sort_keys=True).encode()).hexdigest()


def _architecture_digest(module: nn.Module) -> str:
    text = repr(module)
    return content_digest("" if "0x" in text else text)  # addresses are no content
