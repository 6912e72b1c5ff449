"""What the benchmarks share: their data, how an outcome is measured, and where it is written."""

import json
import platform
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import scoreag
from scoreag.attacks import pgd
from scoreag.core.frozen import Frozen
from scoreag.core.noise import Noise
from scoreag.images import to_float, to_uint8
from scoreag.metrics.accuracy import Rate
from scoreag.metrics.fid import Moments, frechet_distance, moments
from scoreag.metrics.lpips import Lpips

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Ruler:
    """What outcomes are measured with: nothing here ever guides or is attacked."""

    judge: Frozen
    lpips: Lpips | None

    def features(self, images: Tensor) -> Tensor:
        """What the judge's last layer sees."""
        mean, std = (
            images.new_tensor(v).view(1, -1, 1, 1) for v in (self.judge.mean, self.judge.std)
        )
        return self.judge.module.features((images - mean) / std)

    def moments(self, images: Tensor) -> Moments:
        return moments(images, self.features, "cifar10-judge, last layer")

    @torch.no_grad()
    def says(self, images: Tensor) -> Tensor:
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
    return Rate(int(hits.sum()), len(hits), of).to_dict()


def attacked(victim: Frozen, images: Tensor, labels: Tensor, ids: list[int]) -> Tensor:
    """PGD-40 at 8/255, to 8 bits."""
    parts = [
        pgd.Attack()(victim, images[i : i + 64], labels[i : i + 64], Noise(0, ids[i : i + 64]))
        for i in range(0, len(images), 64)
    ]
    return eight_bit(torch.cat(parts))


def write(name: str, figures: Mapping[str, Any]) -> Path:
    """RESULTS/name.json: the figures, and how they came about."""
    RESULTS.mkdir(exist_ok=True)
    about = {
        "command": shlex.join(
            ["python", f"benchmarks/{Path(sys.argv[0]).name}", *_public(sys.argv)]
        ),
        "finished": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "scoreag": scoreag.__version__,
        "torch": torch.__version__,
    }
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"about": about, **figures}, indent=1) + "\n")
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


def options(parser: Any) -> Any:
    """What every benchmark can be told."""
    parser.add_argument("--root", type=Path, required=True, help="where the CIFAR-10 files are")
    parser.add_argument("--lpips", type=Path, nargs=2, help="AlexNet's and the heads' .npz")
    parser.add_argument("--images", type=int, default=256)
    return parser


def ruler(lpips: list[Path] | None) -> Ruler:
    from scoreag.metrics import lpips as metric

    return Ruler(scoreag.load_classifier("cifar10-judge"), metric.load(*lpips) if lpips else None)
