"""Cells: the settings that a plan crosses to, and the models and data that they name.

A cell's key is a hash of content: weights, data and options, not the words for them.
"""

import ast
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import nn

from scoreag.assess.plan import NONE, AttackSpec, Benchmark, Plan, PurifierSpec, parse_fraction
from scoreag.classifiers.loading import load_classifier
from scoreag.classifiers.normalized import NormalizedClassifier
from scoreag.data.loading import Dataset, interleave_classes, is_cached, load_dataset
from scoreag.diffusion.parameterizations import Preconditioned
from scoreag.diffusion.prior import Prior
from scoreag.io.manifest import to_jsonable
from scoreag.methods.task import batch_ranges
from scoreag.metrics.feature_extractors import FeatureExtractor, load_extractor
from scoreag.metrics.lpips import Lpips, load_lpips, resolve_weight_files
from scoreag.models.identity import model_identity, tensors_sha256
from scoreag.models.loading import load_prior, resolve_device

CLEAN = "clean"  # the cell of a dataset's unchanged images, which features are compared with
TASKS = {"gas": "synthesize", "gat": "transform", "gap": "purify"}  # attacks that are tasks
PROBE_SIGMAS = (0.01, 0.1, 1.0, 10.0)  # noise levels that tell preconditionings apart

Item = TypeVar("Item")


@dataclass(frozen=True)
class Cell:
    """One setting of an assessment; plain values only, so that it can be sent to a worker.

    Args:
        name: DATASET/CLASSIFIER/PURIFIER/ATTACK, with the values of a sweep, as the plan has them.
        transfer_targets: the dataset's other classifiers, which are shown the images, too.
        options: of the attack; a task's are resolved with the card's defaults.
        sweep: those options that the plan gives several values, as they are written.
        purifier: the component, "" for none.
        attacker_options: of the attacker's copy of the purifier.
        shared_draw: attacker and judge share one draw of the purifier.
        stochastic: the classifiers that are meant to be random.
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
    classes: tuple[str, ...] = ()
    content: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The first 16 digits of the sha256 of all that determines the rows."""
        names = (
            "component", "options", "purifier", "purifier_options", "attacker_options",
            "shared_draw", "is_ood", "eval_draws", "seed", "images", "batch_size",
            "feature_extractor", "content",
        )  # fmt: skip
        text = json.dumps({n: getattr(self, n) for n in names}, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def defense(self) -> str:
        """DATASET/CLASSIFIER/PURIFIER, the beginning of the name."""
        variant = ",".join([self.attack, *(f"{name}={word}" for name, word in self.sweep.items())])
        return self.name.removesuffix(variant).rstrip("/")

    @property
    def task(self) -> str:
        """synthesize, transform or purify, where it is one of these; "clean" or "attack" else."""
        return TASKS.get(self.component, CLEAN if self.component == CLEAN else "attack")

    @property
    def batches(self) -> list[range]:
        """Positions of the images that the networks see together, cut by position alone."""
        return list(batch_ranges(self.images, self.batch_size))

    def to_dict(self) -> dict[str, Any]:
        """For cell.json: plain values, with the key."""
        table: dict[str, Any] = json.loads(json.dumps(vars(self)))
        return {"key": self.key, **table}


def cell_from_dict(table: Mapping[str, Any]) -> Cell:
    """The cell of a cell.json."""
    fields = {name: value for name, value in table.items() if name != "key"}
    tuples: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
    }
    return Cell(**tuples)


def build_cells(plan: Plan) -> Iterator[Cell]:
    """The cells that a plan crosses to: not yet checked, without content.

    For each dataset the first is that of its images as they are.
    """
    for benchmark in plan.datasets.values():
        yield _base_cell(plan, benchmark, benchmark.classifiers[0])
        for attack, classifier in product(plan.attacks.values(), benchmark.classifiers):
            if not _applies(attack, benchmark, classifier):
                continue
            for purifier in _matching_purifiers(plan, benchmark, classifier, attack):
                for variant, seed in product(_sweep_variants(attack), plan.seeds):
                    yield _attack_cell(plan, benchmark, classifier, purifier, attack, variant, seed)


def _applies(member: AttackSpec | PurifierSpec, benchmark: Benchmark, classifier: str) -> bool:
    return benchmark.name in (member.datasets or [benchmark.name]) and classifier in (
        member.classifiers or [classifier]
    )


def _matching_purifiers(
    plan: Plan, benchmark: Benchmark, classifier: str, attack: AttackSpec
) -> list[PurifierSpec | None]:
    """None, and those that defend this classifier, where the attack takes them."""
    wanted = (NONE, *plan.purifiers) if attack.purifiers is None else attack.purifiers or (NONE,)
    if attack.component == "gap":  # a purification is no attack on one
        wanted = (NONE,)
    bare: list[PurifierSpec | None] = [None] if NONE in wanted else []
    purifiers = plan.purifiers.values()
    return bare + [p for p in purifiers if p.name in wanted and _applies(p, benchmark, classifier)]


def _sweep_variants(attack: AttackSpec) -> Iterator[dict[str, Any]]:
    """All combinations of the options' values, as they are written."""
    lists = [value if isinstance(value, list) else [value] for value in attack.options.values()]
    for values in product(*lists):
        yield dict(zip(attack.options, values, strict=True))


def _base_cell(plan: Plan, benchmark: Benchmark, classifier: str) -> Cell:
    return Cell(
        name=f"{benchmark.name}/{CLEAN}",
        group=benchmark.name,
        data=benchmark.data[0],
        classifier=classifier,
        attack=CLEAN,
        component=CLEAN,
        images=plan.images,
        prior=benchmark.prior,
        reference_classifiers=benchmark.reference_classifier,
        transfer_targets=tuple(one for one in benchmark.classifiers if one != classifier),
        stochastic=benchmark.stochastic,
        batch_size=plan.batch_size,
        feature_extractor=plan.feature_extractor,
    )


def _attack_cell(
    plan: Plan, benchmark: Benchmark, classifier: str, purifier: PurifierSpec | None,
    attack: AttackSpec, variant: Mapping[str, Any], seed: int,
) -> Cell:  # fmt: skip
    sweep = {n: str(value) for n, value in variant.items() if isinstance(attack.options[n], list)}
    if len(plan.seeds) > 1:
        sweep["seed"] = str(seed)
    variant_name = ",".join([attack.name, *(f"{name}={word}" for name, word in sweep.items())])
    base = _base_cell(plan, benchmark, classifier)
    is_random = classifier in benchmark.stochastic
    if purifier:
        is_random |= not purifier.shared_draw
        options = purifier.options
        base = replace(
            base,
            purifier_name=purifier.name,
            purifier=purifier.component,
            purifier_options={n: v for n, v in options.items() if n != "max_memory"},
            attacker_options={**options, **purifier.attacker_options},
            shared_draw=purifier.shared_draw,
        )
    short = shorten_name(classifier, benchmark.classifiers)
    return replace(
        base,
        name=f"{benchmark.name}/{short}/{base.purifier_name}/{variant_name}",
        attack=attack.name,
        component=attack.component,
        data=attack.ood_data or base.data,
        is_ood=bool(attack.ood_data),
        images=attack.images or plan.images,
        options={name: parse_fraction(value) for name, value in variant.items()},
        sweep=sweep,
        seed=seed,
        eval_draws=(attack.eval_draws or plan.eval_draws) if is_random else 1,
    )


def shorten_name(word: str, among: Sequence[str]) -> str:
    """The last part of a path, or of each of several, where that is still a name of its own."""

    def last(name: str) -> str:
        return ",".join(part.rstrip("/").rpartition("/")[2] for part in name.split(","))

    return last(word) if [last(other) for other in among].count(last(word)) == 1 else word


@dataclass(frozen=True)
class ModelCache:
    """The models and data of a process, by the words of a plan, each loaded once.

    Args:
        root: where the official files of data sets are.
        lpips: "FEATURES.npz,HEADS.npz", "fetch", or "" where LPIPS is not measured.
        trust_code: whether code that cards name may be run.
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

    @property
    def datasets(self) -> list[Dataset]:
        """All data that were read."""
        return [thing for (kind, *_), thing in self.entries.items() if kind == "data"]

    def prior(self, name: str) -> Prior:
        return self._memoize(
            ("prior", name), lambda: load_prior(name, self.device, self.trust_code)
        )

    def classifier(self, name: str) -> NormalizedClassifier:
        return self._memoize(
            ("classifier", name),
            lambda: load_classifier(name, self.device, trust_code=self.trust_code),
        )

    def data(self, name: str, classes: tuple[str, ...] = ()) -> Dataset:
        """The images of a word; of the user's own, any first few hold the classes alike."""

        def load() -> Dataset:
            dataset = load_dataset(name, self.root, progress=self.progress, classes=classes)
            return interleave_classes(dataset)

        return self._memoize(("data", name, *classes), load)

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

    def extractor(self, cell: Cell, shape: Sequence[int]) -> FeatureExtractor | None:
        """The network that a cell's images are compared in; None where it has none."""
        if cell.feature_extractor == NONE or not cell.reference_classifiers:
            return None
        name, judge = cell.feature_extractor, cell.reference_classifiers[0]
        channels, height, width = shape
        size = (channels, height, width)
        return self._memoize(
            ("features", name, judge),
            lambda: load_extractor(name, self.classifier(judge), size, self.torch_device),
        )

    def memoize(self, key: str, make: Callable[[], Item]) -> Item:
        """Something of the last cell only: the next one's takes its place."""
        if ("cell", key) not in self.entries:
            for other in [name for name in self.entries if name[0] == "cell"]:
                del self.entries[other]
        return self._memoize(("cell", key), make)

    def _memoize(self, key: tuple[str, ...], make: Callable[[], Item]) -> Item:
        if key not in self.entries:
            self.entries[key] = make()
        item: Item = self.entries[key]
        return item


def classifier_digests(module: NormalizedClassifier) -> dict[str, Any]:
    """The sha256 of its weights, its normalization, its architecture, and the code of others."""
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
    names = {type(part).__module__ for part in module.modules()} | {*words}
    sources = {
        one: source_digest(sys.modules[one])
        for one in sorted(names & sys.modules.keys())
        if one.partition(".")[0] not in ("torch", "scoreag")
        and str(getattr(sys.modules[one], "__file__", None)).endswith(".py")
    }
    return {"name": name, "source": content_digest(sources)} if sources else {}


def prior_digests(prior: Prior) -> dict[str, Any]:
    """The sha256 of its weights, its family, its architecture, and the defaults of its card."""
    digests = {
        "sha256": model_identity(prior.model, prior.metadata)["sha256"],
        "sigma_data": prior.sigma_data,
        "defaults": to_jsonable(prior.defaults),
    }
    if isinstance(prior.model, Preconditioned):
        digests["network"] = _architecture_digest(prior.model.network)
        coefficients = prior.model.family(torch.tensor(PROBE_SIGMAS, dtype=torch.float64))
        digests["family"] = [
            [round(x, 4) for x in c.expand(len(PROBE_SIGMAS)).tolist()] for c in coefficients
        ]
    return digests


def data_digests(data: Dataset) -> dict[str, Any]:
    """The sha256 of pixels and labels, and of the ids that the noise is keyed by."""
    return {"sha256": data.sha256, "image_ids": content_digest(list(data.image_ids))}


def lpips_digest(metric: Lpips | None) -> str | None:
    """The sha256 of its weights."""
    return tensors_sha256({**metric.convolutions, **metric.heads}) if metric else None


def source_digest(module: ModuleType) -> str:
    """A component of this package is of the algorithm's version; another is of its code.

    Comments and layout are no code.
    """
    file = Path(module.__file__) if module.__file__ else None
    if file is None or Path(__file__).parents[1] in file.parents:
        return module.__name__
    return content_digest(ast.dump(ast.parse(file.read_text(encoding="utf-8"))))


def content_digest(content: Any) -> str:
    """The sha256 of what is said of a thing's content."""
    return hashlib.sha256(json.dumps(to_jsonable(content), sort_keys=True).encode()).hexdigest()


def _architecture_digest(module: nn.Module) -> str:
    text = repr(module)
    return content_digest("" if "0x" in text else text)  # addresses are no content
