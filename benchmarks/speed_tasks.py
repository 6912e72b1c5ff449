"""GAS and GAT beside version 0.1 and beside scripts: the part ``tasks`` of speed.py."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, TypeAlias

import torch
from speed_peers import guided_loop
from torch import Tensor

import scoreag
from scoreag.diffusion.parameterizations import with_labels
from scoreag.diffusion.prior import Prior
from scoreag.methods.config import resolve_config
from scoreag.methods.guided_sampling import configure_prior

Row: TypeAlias = dict[str, Any]

MODEL, VICTIM, BATCH = "fashion-small", "fashion-cnn", 8
TASK_IMAGES, TASK_CHAIN = 32, 20
QUIET: dict[str, Any] = {"batch_size": BATCH, "progress": False}
GAS: dict[str, Any] = {
    "sampler": "dpmpp_2m", "sigma_start": 80.0, "steps": 20, "attack_scale": 2.0,
    "attack_interval": (0.0, 1.0), "max_restarts": 6, "x0_steps": 0, "guidance_scale": 1.0,
}  # fmt: skip
GAT: dict[str, Any] = {
    "sampler": "dpmpp_2m", "sigma_start": 0.4, "steps": 8, "similarity": 60.0,
    "attack_scale": 10.0, "max_restarts": 6, "x0_steps": 0, "guidance_scale": 1.0,
}  # fmt: skip


class Earlier:
    """Version 0.1 in a process of its own; a call answers with the seconds that it took there."""

    def __init__(self, tree: Path, contest: "Contest") -> None:
        given = {"model": MODEL, "classifier": VICTIM, "classes": contest.classes.tolist(),
                 "images": contest.images, "labels": contest.labels, "batch": BATCH}  # fmt: skip
        with NamedTemporaryFile(suffix=".pt", delete=False) as file:
            torch.save(given, file.name)
        script = str(Path(__file__).with_name("speed_earlier.py"))
        env = {**os.environ, "PYTHONPATH": str((tree / "src").resolve())}
        self.process = subprocess.Popen(
            [sys.executable, script], env=env, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        self._say(file.name)
        self.version = self._hear()
        os.unlink(file.name)

    def run(self, task: str) -> tuple[float, int]:
        """Seconds, and how many images fool the classifier."""
        self._say(task)
        seconds, hits = self._hear().split()
        return float(seconds), int(hits)

    def _say(self, line: str) -> None:
        assert self.process.stdin is not None
        print(line, file=self.process.stdin, flush=True)

    def _hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@dataclass
class Contest:
    """The sides of GAS and GAT, and how many images of each fool the classifier."""

    prior: Prior
    lower: Prior
    victim: Any
    classes: Tensor
    images: Tensor
    labels: Tensor
    hits: dict[str, int] = field(default_factory=dict)

    def sides(self) -> dict[str, Callable[[], Any]]:
        ours = {"ours": self.prior, "ours, bfloat16 maps": self.lower}
        found: dict[str, Callable[[], Any]] = {}
        for word, call in (("GAS", self.gas), ("GAT", self.gat)):
            for title, model in ours.items():
                found[f"{word}: {title}"] = partial(call, f"{word}: {title}", model)
        for name, through in (("GAS: paper-style loop", True), ("GAS: AdvDiff-type loop", False)):
            found[name] = partial(self.script, name, through)
        return found

    def gas(self, name: str, model: Prior) -> None:
        out = scoreag.synthesize(model, self.victim, self.classes, **GAS, **QUIET)
        self.note(name, out.success)

    def gat(self, name: str, model: Prior) -> None:
        out = scoreag.transform(model, self.victim, self.images, self.labels, **GAT, **QUIET)
        self.note(name, out.success)

    def script(self, name: str, through: bool) -> None:
        sampled = _scripted(self.prior, self.victim, self.classes, through)
        self.note(name, self.victim(sampled).argmax(1) != self.classes)

    def note(self, name: str, fooled: Tensor | None) -> None:
        assert fooled is not None
        self.hits[name] = int(fooled.sum())


def task_part(repeats: int, tree: Path | None) -> Row:
    """GAS and GAT by the same settings and weights: this version, version 0.1, and scripts."""
    images, labels = scoreag.load_data("fashion-mnist:sample")
    contest = Contest(
        scoreag.load_prior(MODEL, "cpu"), scoreag.load_prior(MODEL, "cpu", dtype="bf16"),
        scoreag.load_classifier(VICTIM, "cpu"), torch.arange(TASK_IMAGES) % 10,
        images[:TASK_IMAGES], labels[:TASK_IMAGES],
    )  # fmt: skip
    earlier = None if tree is None else Earlier(tree, contest)
    seconds: dict[str, list[float]] = {}
    for _ in range(repeats):
        took = {name: _timed(call) for name, call in contest.sides().items()}
        for word in ("GAS", "GAT") if earlier is not None else ():
            name = f"{word}: version {earlier.version}"
            took[name], contest.hits[name] = earlier.run(word)
        for name, each in took.items():
            seconds.setdefault(name, []).append(each)
    rows = [
        {"side": name, "images": TASK_IMAGES, "success": contest.hits[name], "seconds": each}
        for name, each in sorted(seconds.items())
    ]
    return {"model": MODEL, "classifier": VICTIM, "gas": GAS, "gat": GAT, "rows": rows}


def _timed(call: Callable[[], Any]) -> float:
    began = time.process_time()
    call()
    return round(time.process_time() - began, 5)


def _scripted(prior: Prior, victim: Any, classes: Tensor, through: bool) -> Tensor:
    """Samples by a loop as published scripts have it, toward the next class, in batches."""
    config = resolve_config(
        prior, "synthesize", ("steps", "sampler", "sigma_start"), {},
        {"steps": TASK_CHAIN, "sampler": "ancestral", "sigma_start": 80.0},
    )  # fmt: skip
    chain = configure_prior(prior, config)
    chain.model.requires_grad_(True)
    source = torch.Generator().manual_seed(0)
    parts = []
    for some in classes.split(BATCH):
        start = torch.randn(len(some), *prior.image_shape, generator=source)
        denoise = with_labels(chain.model, some)
        targets = (some + 1) % 10
        parts.append(guided_loop(denoise, victim, targets, chain.sigmas, start, 2.0, through))
    chain.model.requires_grad_(False)
    return torch.cat(parts)
