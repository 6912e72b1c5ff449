"""How fast the library is beside what else does the same: one run, side by side, in turns.

    python benchmarks/speed.py --out benchmarks/results/speed.json --earlier PATH/OF/0.1

All sides of a part have the same network, weights and number of calls. Seconds are those of one
core's processor time, so that other work beside it does not count; every side runs once a round,
in alternating order, after a run that does not count. Each part is a process of its own, and is
written when it is done; --only repeats some of them. The folder of --earlier is a checkout of
version 0.1, which is timed in a process of its own, in the same rounds.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import torch
from common import machine
from speed_chains import certificate_part, gradient_part, sampler_part
from speed_peers import (
    SIDE,
    diffusers_loop,
    edm_loop,
    foolbox_pgd,
    same_network,
    torchattacks_apgd,
    torchattacks_pgd,
    unet2d,
)
from speed_tasks import task_part
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

import scoreag
from scoreag.attacks import APGD, PGD
from scoreag.core import ALGORITHM
from scoreag.core.allocator import keep_freed_memory
from scoreag.core.rng import Noise
from scoreag.diffusion.map_precision import with_bfloat16_maps
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.parameterizations import Preconditioned
from scoreag.diffusion.samplers import euler, heun
from scoreag.io.filesystem import write_text
from scoreag.models.loading import linear_ddpm

Sides: TypeAlias = Mapping[str, Callable[[], Any]]
Row: TypeAlias = dict[str, Any]
BATCHES, STEPS, ATTACKED, ATTACK_STEPS = (1, 16, 128), 2, 16, 10
GEMM = 1024  # rows and columns


def in_turns(sides: Sides, repeats: int) -> dict[str, list[float]]:
    """The processor's seconds of each side in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):  # the first warms up
        for name in sorted(sides, reverse=turn % 2 == 1):
            began = time.process_time()
            sides[name]()
            if turn:
                seconds[name].append(round(time.process_time() - began, 5))
    return seconds


def gemm_rate(repeats: int, dtype: torch.dtype = torch.float32) -> float:
    """GFLOPs a second of a product of two square matrices."""
    a = torch.randn(GEMM, GEMM).to(dtype)
    took = in_turns({"gemm": lambda: a @ a}, repeats)["gemm"]
    return 2 * GEMM**3 / median(took) / 1e9


class _Flops(TorchDispatchMode):
    """Counts as FlopCounterMode does, whose hooks on modules torch.autograd.grad refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


def gflops(call: Callable[[], Any]) -> float:
    """Of one call: two for each multiplication and addition of convolutions and products."""
    with _Flops() as counter:
        call()
    return counter.total / 1e9


@torch.no_grad()
def denoiser_part(repeats: int, args: argparse.Namespace) -> Row:
    """Denoiser calls a second of whole sampling loops of one network and its weights."""
    theirs = unet2d()
    model = Preconditioned(same_network(theirs), linear_ddpm())
    lower = with_bfloat16_maps(model)
    rates = {"float32": gemm_rate(repeats), "bfloat16": gemm_rate(repeats, torch.bfloat16)}
    rows = []
    for batch in BATCHES:
        start = torch.randn(batch, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
        noise, levels = Noise(0, range(batch)), karras(STEPS)
        first = start * levels[0].float()
        check_same_network(theirs, model, start)
        sides: dict[str, tuple[Callable[[], Any], int]] = {
            "ours, Euler": (lambda: euler.sample(model, first, levels, noise), STEPS),  # noqa: B023
            "ours, Euler, bfloat16 maps": (
                lambda: euler.sample(lower, first, levels, noise),  # noqa: B023
                STEPS,
            ),
            "diffusers, DDIM": (lambda: diffusers_loop(theirs, STEPS, start), STEPS),  # noqa: B023
            "ours, Heun": (lambda: heun.sample(model, first, levels, noise), 2 * STEPS - 1),  # noqa: B023
            "EDM's loop, Heun": (lambda: edm_loop(model, levels, start), 2 * STEPS - 1),  # noqa: B023
        }
        work = gflops(lambda: model(first, levels[0]))  # noqa: B023
        seconds = in_turns({name: call for name, (call, _) in sides.items()}, repeats)
        for name, (_, calls) in sides.items():
            kind = "bfloat16" if "bfloat16" in name else "float32"
            each = [took / calls for took in seconds[name]]
            share = work / median(each) / rates[kind]
            rows.append({"side": name, "batch": batch, "seconds_a_call": each, "gemm_share": share})
    return {"gemm_gflops": rates, "mflops_an_image": 1000 * work / batch, "rows": rows}


def check_same_network(theirs: Any, model: Preconditioned, images: torch.Tensor) -> None:
    """Refuse to compare networks that are not the same function."""
    t = torch.full((len(images),), 500.0)
    worst = (theirs(images, t).sample - model.network(images, t)).abs().max().item()
    if worst > 1e-4:
        raise RuntimeError(f"the two networks differ by {worst:g}; expected rounding alone")


def attack_part(repeats: int, args: argparse.Namespace) -> Row:
    """PGD and APGD of the same steps and radius, on one classifier."""
    victim = scoreag.load_classifier("cifar10-resnet20", "cpu")
    images = torch.rand(ATTACKED, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        labels = victim(images).argmax(1)
    steps, noise = ATTACK_STEPS, Noise(0, range(ATTACKED))
    sides: dict[str, Callable[[], Any]] = {
        "PGD: ours": lambda: PGD(8 / 255, steps).run(victim, images, labels, noise),
        "PGD: Foolbox": lambda: foolbox_pgd(victim, images, labels, steps),
        "PGD: torchattacks": lambda: torchattacks_pgd(victim, images, labels, steps),
        "APGD: ours": lambda: APGD(8 / 255, steps).run(victim, images, labels, noise),
        "APGD: torchattacks": lambda: torchattacks_apgd(victim, images, labels, steps),
    }
    work = {name: gflops(call) for name, call in sides.items()}
    seconds, rate = in_turns(sides, repeats), gemm_rate(repeats)
    rows = [
        {"side": name, "images": ATTACKED, "seconds": took, "gflops": work[name],
         "gemm_share": work[name] / median(took) / rate}
        for name, took in seconds.items()
    ]  # fmt: skip
    return {"steps": steps, "gemm_gflops": {"float32": rate}, "rows": rows}


PARTS: dict[str, Callable[[int, argparse.Namespace], Row]] = {
    "denoiser": denoiser_part,
    "attacks": attack_part,
    "certificates": lambda repeats, args: certificate_part(repeats, in_turns),
    "gradient": lambda repeats, args: gradient_part(repeats),
    "tasks": lambda repeats, args: task_part(repeats, args.earlier),
    "samplers": lambda repeats, args: sampler_part(args.data_dir),
}


def compute_part(name: str, repeats: int, args: argparse.Namespace) -> Row:
    """A part, with how it came about."""
    torch.set_num_threads(1)
    if name != "gradient":  # whose memory is measured
        keep_freed_memory()
    found = PARTS[name](repeats, args)
    return {
        "repeats": repeats,
        "finished": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        **found,
    }


def read(out: Path) -> Row:
    return json.loads(out.read_text())["parts"] if out.exists() else {}


def write(out: Path, parts: Row) -> None:
    about = {
        "command": f"python benchmarks/speed.py --out {out.name} --earlier 0.1",
        "finished": max(part["finished"] for part in parts.values()),
        "machine": next(iter(parts.values()))["machine"],
        "scoreag": scoreag.__version__,
        "algorithm": ALGORITHM,
        "torch": torch.__version__,
    }
    write_text(out, json.dumps({"about": about, "parts": parts}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file of all parts")
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--earlier", type=Path, help="checkout of version 0.1")
    parser.add_argument("--data-dir", type=Path, help="where the data files are")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--one", help="compute one part here, into this file")
    args = parser.parse_args()
    if args.one:
        found = compute_part(args.only, args.repeats, args)
        Path(args.one).write_text(json.dumps(found))
        return
    names = args.only.split(",")
    if unknown := set(names) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    with TemporaryDirectory() as folder:
        for name in names:
            file = Path(folder) / f"{name}.json"
            given = [word for word in sys.argv[1:] if word != args.only and word != "--only"]
            command = [sys.executable, __file__, *given, "--only", name, "--one", str(file)]
            subprocess.run(command, check=True)
            write(args.out, read(args.out) | {name: json.loads(file.read_text())})
            print(f"{name}: done", flush=True)


if __name__ == "__main__":
    main()
