"""Files of torch.save as the training of each release writes them, with invented weights."""

import json
from pathlib import Path
from typing import Any

import torch

FILE = json.loads((Path(__file__).parent / "convert" / "states_golden.json").read_text())
GOLDEN, PUBLISHED = FILE["cases"], FILE["published"]
NORMS = (
    "GroupNorm_0.weight", "GroupNorm_1.weight", "norm.weight", "norm1.weight", "norm2.weight",
    "norm_out.weight", "in_layers.0.weight", "out_layers.0.weight", "out.0.weight",
)  # fmt: skip
FROZEN = ("sigmas", "all_modules.0.W")  # neither is in the average of score-SDE


def invented(shapes, seed=0) -> dict[str, torch.Tensor]:
    """Weights from one stream of random numbers, of a size that keeps the maps' scale."""
    source, tensors = torch.Generator().manual_seed(seed), {}
    for name, shape in shapes.items():
        scale = 0.3 if len(shape) < 2 else (1 / torch.Size(shape[1:]).numel()) ** 0.5
        center = 1.0 if name.endswith(NORMS) else 0.0
        tensors[name] = torch.randn(shape, generator=source) * scale + center
    return tensors


def weights(case: str, seed=0) -> dict[str, torch.Tensor]:
    shapes = {n: s for n, s in GOLDEN[case]["shapes"].items() if n != "sigmas"}
    return invented(shapes, seed)


def optimizer() -> dict[str, Any]:
    number = torch.nn.Parameter(torch.zeros(2))
    adam = torch.optim.Adam([number])
    number.grad = torch.ones(2)
    adam.step()
    return adam.state_dict()


def score_sde(case: str, **changes) -> dict[str, Any]:
    """As run_lib.py: a model in DataParallel, and an average of its parameters without names."""
    average, last = weights(case), weights(case, seed=7)
    if "all_modules.0.W" in last:
        last["all_modules.0.W"] = average["all_modules.0.W"]
    levels = torch.logspace(1.7, -2, 1000, dtype=torch.float64)
    model = {"module.sigmas": levels, **{f"module.{name}": t for name, t in last.items()}}
    shadow = [tensor for name, tensor in average.items() if name not in FROZEN]
    ema = {"decay": 0.999, "num_updates": 950000, "shadow_params": shadow}
    return {"optimizer": optimizer(), "model": model, "ema": ema, "step": 950000} | changes


def ddim(case: str, averaged=True) -> list[Any]:
    """As runners/diffusion.py of ermongroup/ddim: a list, the average by name at its end."""
    model = {f"module.{n}": t for n, t in weights(case, seed=7 if averaged else 0).items()}
    states = [model, optimizer(), 12, 790000]
    return [*states, weights(case)] if averaged else states


def write(case: str, file: Path, tree: Any = None) -> Path:
    """The file of a golden case, or ``tree``."""
    if tree is None:
        tree = score_sde(case) if GOLDEN[case]["format"] == "score_sde" else weights(case)
    torch.save(tree, file)
    return file


def arguments(case: str) -> dict[str, Any] | None:
    """Those that convert has to be told."""
    told = GOLDEN[case]["arguments"]
    base = {"config": "vp/cifar10_ddpmpp"} if GOLDEN[case]["format"] == "score_sde" else {}
    return {**base, **told} or None
