"""What the benchmarks share: their data, how an outcome is measured, and where it is written."""

import argparse
import json
import platform
import resource
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

import scoreag
from scoreag.attacks import pgd
from scoreag.classifiers.class_groups import select_classes
from scoreag.classifiers.normalized import NormalizedClassifier
from scoreag.core import ALGORITHM
from scoreag.io.filesystem import write_text
from scoreag.io.images import to_float, to_uint8
from scoreag.methods.config import SamplingConfig
from scoreag.methods.result import Result
from scoreag.metrics.feature_distances import Moments, compute_moments, frechet_distance
from scoreag.metrics.lpips import Lpips
from scoreag.stats.proportion import Proportion

Row: TypeAlias = dict[str, Any]

RESULTS = Path(__file__).parent / "results"
PGD = pgd.PGD()


@dataclass(frozen=True)
class Ruler:
    """What outcomes are measured with: nothing here ever guides or is attacked.

    Args:
        judge: of the classes that are asked for; its last layer gives the features.
    """

    judge: NormalizedClassifier
    lpips: Lpips | None

    def features(self, images: Tensor) -> Tensor:
        """What the judge's last layer sees."""
        assert self.judge.features is not None
        return self.judge.features(images)

    def moments(self, images: Tensor) -> Moments:
        return compute_moments(images, self.features, f"{self.judge.metadata['name']}, last layer")

    @torch.no_grad()
    def message(self, images: Tensor) -> Tensor:
        return torch.cat([self.judge(part).argmax(1) for part in images.split(128)])

    def distances(self, images: Tensor, originals: Tensor) -> dict[str, float]:
        """Medians over images; the Fréchet distance is that of the two sets."""
        change = (images - originals).flatten(1)
        found = {
            "linf_255": 255 * change.abs().amax(1).median().item(),
            "l2": change.norm(dim=1).median().item(),
            "frechet": frechet_distance(self.moments(images), self.moments(originals)),
        }
        if self.lpips is not None:
            found["lpips"] = self.lpips(originals, images).mean().item()
        return found


def eight_bit(images: Tensor) -> Tensor:
    return to_float(to_uint8(images), images.dtype)


def rate(hits: Tensor, of: str) -> dict[str, Any]:
    """The share of ``hits`` with its denominator by name and a 95 % Wilson interval."""
    return Proportion(int(hits.sum()), len(hits), of).to_dict()


def attacked(
    victim: NormalizedClassifier, images: Tensor, labels: Tensor, attack: pgd.PGD = PGD
) -> Tensor:
    """PGD's images, to 8 bits."""
    cut = [range(len(images))[i : i + 64] for i in range(0, len(images), 64)]
    parts = [attack(victim, images[[*ids]], labels[[*ids]], 0, ids) for ids in cut]
    return eight_bit(torch.cat(parts))


def by_pgd(more: str = "", attack: pgd.PGD = PGD) -> Row:
    """What a row of PGD begins with: its label and its settings, from the attack itself."""
    label = f"PGD-{attack.steps}, {255 * attack.eps:g}/255{more}"
    return {"settings": label, "resolved": {"attack": "pgd", **asdict(attack), "seed": 0}}


def by_draw(settings: Mapping[str, Any], out: Result) -> Row:
    """What a row of ours begins with: what was given, all that it came to, and what it cost."""
    return {
        "settings": dict(settings),
        "resolved": {**out.config, "seed": out.seed},
        "calls": out.nfe.float().mean().item(),
        "retries": out.restarts.float().mean().item(),
    }


def without_retries(out: Result, chosen: Tensor, of: str) -> Row:
    """The success of the first sample of each image, where its scale was not searched for."""
    if "auto" in (out.config.get("attack_scale"), out.config.get("similarity")):
        return {}
    return {"without_retries": rate((out.success & (out.restarts == 0))[chosen], of)}


def values(pairs: Iterable[str]) -> dict[str, list[Any]]:
    """``name=value,value`` as typed: to each name its values."""
    parted = (pair.partition("=") for pair in pairs)
    return {name: [value(name, word) for word in words.split(",")] for name, _, words in parted}


def value(name: str, word: str) -> Any:
    """True, False, None, a number, whole where the setting ``name`` is, or the word itself.

    ``low:high`` is an interval.
    """
    known = {"true": True, "false": False, "none": None}
    if word.lower() in known:
        return known[word.lower()]
    if word.startswith("{"):  # options of a sampler, as JSON with ; for ,
        return json.loads(word.replace(";", ","))
    if ":" in word:
        return tuple(float(end) for end in word.split(":"))
    for kind in (int, float) if isinstance(getattr(SamplingConfig, name, None), int) else (float,):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def cells(args: argparse.Namespace, alone: Sequence[str] = (), **axes: list[Any]) -> list[Row]:
    """The settings of each row: the default, each value of those ``alone``, and the grid.

    Args:
        alone: names of arguments, each of whose values is tried by itself, as are those of --each.
        axes: of the grid, beside those of --grid; one without values is none.
    """
    fixed = {name: given[0] for name, given in values(args.setting).items()}
    grid = {name: given for name, given in axes.items() if given} | values(args.grid)
    single = [{name: one} for name in alone for one in getattr(args, name)]
    single += [
        {name: given[0] for name, given in values(words.split("+")).items()} for words in args.each
    ]
    return [fixed, *({**fixed, **changes} for changes in [*single, *crossed(grid)])]


def crossed(grid: Mapping[str, list[Any]]) -> list[Row]:
    """Each combination of one value of each name; of no names, none."""
    return [dict(zip(grid, cell, strict=True)) for cell in product(*grid.values()) if grid]


def measure(
    args: argparse.Namespace,
    about: Mapping[str, Any],
    rows: Callable[[NormalizedClassifier], Iterable[Row]],
) -> None:
    """The rows of each victim, told and written as each is done: what is cut off keeps them."""
    figures: Row = {"model": Path(args.model).name, **about, "victims": {}}
    for name in args.classifier:
        victim = Path(name).name  # of a folder the last part: where it lay matters to nobody
        done = figures["victims"][victim] = []
        for row in rows(scoreag.load_classifier(name)):
            done.append(row)
            print(victim, short(row), flush=True)
            write(args.name, figures)


def short(row: Row) -> str:
    """A row as a line: its label, shares and numbers."""
    shares = {k: f"{v['value']:.3f}" for k, v in row.items() if isinstance(v, dict) and "of" in v}
    plain = {k: f"{v:.3f}" for k, v in row.items() if isinstance(v, float)}
    return f"{row['settings']} {shares} {plain}"


def write(name: str, figures: Mapping[str, Any]) -> Path:
    """RESULTS/name.json: the figures, and how they came about."""
    RESULTS.mkdir(exist_ok=True)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    about = {
        "command": shlex.join(
            ["python", f"benchmarks/{Path(sys.argv[0]).name}", *_public(sys.argv)]
        ),
        "finished": time.strftime("%Y-%m-%d"),
        "cpu_seconds": round(time.process_time() + children.ru_utime + children.ru_stime, 1),
        "machine": machine(),
        "scoreag": scoreag.__version__,
        "algorithm": ALGORITHM,
        "torch": torch.__version__,
    }
    path = RESULTS / f"{name}.json"
    write_text(path, json.dumps({"about": about, **figures}, indent=1) + "\n")
    return path


def resident() -> float:
    """Peak resident memory of this process so far, in MiB.

    Not ru_maxrss: a process that another one starts begins with the peak of that one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def machine() -> str:
    """Processor, cores in use, and the vector instructions that torch found."""
    names = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    kind = names[0] if names else platform.processor()
    return f"{kind}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"


def _public(arguments: list[str]) -> list[str]:
    """The arguments, of absolute paths only the last part: where they lay matters to nobody."""
    return [Path(word).name if word.startswith("/") else word for word in arguments[1:]]


def options(about: str | None) -> argparse.ArgumentParser:
    """What every benchmark on images can be told."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--data-dir", type=Path, help="where the data files are; else SCOREAG_DATA")
    parser.add_argument("--lpips", type=Path, nargs=2, help="AlexNet's and the heads' .npz")
    parser.add_argument("--images", type=int, default=256)
    return parser


def options_of_settings(about: str | None, name: str) -> argparse.ArgumentParser:
    """What every benchmark of settings can be told; ``name`` is that of its results."""
    parser = options(about)
    parser.add_argument("--classifier", nargs="+", default=["cifar10-resnet20"])
    parser.add_argument("--model", default="cifar10")
    parser.add_argument("--judge", default="cifar10-judge")
    parser.add_argument("--eps", type=float, default=PGD.eps, help="of PGD, in [0, 1]")
    parser.add_argument("--name", default=name, help="of the file of results")
    several: dict[str, Any] = {"nargs": "*", "action": "extend", "default": []}
    parser.add_argument("--setting", **several, help="NAME=VALUE for all rows")
    parser.add_argument("--grid", **several, help="NAME=VALUE,VALUE: a row for each combination")
    parser.add_argument("--each", **several, help="NAME=VALUE+NAME=VALUE: a row for each, alone")
    return parser


def given_images(
    args: argparse.Namespace, data: str = "", classes: Sequence[str] = ()
) -> tuple[Tensor, Tensor]:
    """The first --images of ``data``, or of --data, that are of ``classes``, and their labels."""
    images, labels = scoreag.load_data(data or args.data, data_dir=args.data_dir, classes=classes)
    return images[: args.images], labels[: args.images]


def ruler(
    lpips: list[Path] | None = None, judge: str = "cifar10-judge", classes: Sequence[str] = ()
) -> Ruler:
    from scoreag.metrics import lpips as metric

    loaded = scoreag.load_classifier(judge)
    judged = select_classes(loaded, classes) if classes and loaded.classes else loaded
    return Ruler(judged, metric.load_lpips(*lpips) if lpips else None)
