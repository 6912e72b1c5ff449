"""What speed.py times beside this library: other packages, and published loops as scripts run them.

The loops are our own code of the published algorithms. All have the networks and the weights of the
side that they stand beside.
"""

import math
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scoreag.models.convert.ddpm_pytorch import open_state_dict
from scoreag.registry import load_component

WIDTHS, SIDE, BLOCKS = (32, 64, 64), 32, 2  # of a small network of Ho et al. (2020)
EPS = 8 / 255


def unet2d() -> Any:
    """A UNet2DModel of diffusers with random weights, attention at 16 x 16, as it runs there."""
    with warnings.catch_warnings(action="ignore"):
        from diffusers import UNet2DModel
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = UNet2DModel(
            sample_size=SIDE, block_out_channels=WIDTHS, layers_per_block=BLOCKS,
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=None, downsample_padding=0, flip_sin_to_cos=False,
            freq_shift=1, norm_eps=1e-6,
        )  # fmt: skip
    return model.eval().requires_grad_(False)


def same_network(theirs: nn.Module) -> nn.Module:
    """Our network of these weights."""
    spec = open_state_dict(dict(map(_of_ho, theirs.state_dict().items())), Path("UNet2DModel"))
    network = load_component("networks", spec.network).build(**spec.options)
    network.load_state_dict(dict(spec.tensors))
    return network.eval().requires_grad_(False)


def _of_ho(item: tuple[str, Tensor]) -> tuple[str, Tensor]:
    """A tensor under the name that it has in the code of Ho et al.; linear attention as 1 x 1."""
    name, tensor = item
    words = name.split(".")
    kind, level = words[0].removesuffix("_blocks"), words[1]
    if kind in ("down", "up"):
        level = level if kind == "down" else str(len(WIDTHS) - 1 - int(level))
        part, i, *rest = words[2:]
        if part.endswith("samplers"):
            words = [kind, level, f"{kind}sample", *rest]
        else:
            words = [kind, level, "block" if part == "resnets" else "attn", i, *rest]
    elif kind == "mid_block":
        parts = "block" if level == "resnets" else "attn"
        words = ["mid", f"{parts}_{int(words[2]) + 1}", *words[3:]]
    renamed = ".".join(words)
    for theirs, ours in (
        ("time_embedding.linear_1", "temb.dense.0"), ("time_embedding.linear_2", "temb.dense.1"),
        ("time_emb_proj", "temb_proj"), ("conv_shortcut", "nin_shortcut"), ("to_out.0", "proj_out"),
        ("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"),
        ("conv_norm_out", "norm_out"),
    ):  # fmt: skip
        renamed = renamed.replace(theirs, ours)
    is_linear = ".attn" in renamed and tensor.ndim == 2
    return renamed, tensor[:, :, None, None] if is_linear else tensor


@torch.no_grad()
def diffusers_loop(model: Any, steps: int, start: Tensor) -> Tensor:
    """Samples as a user of diffusers takes them: DDIM's scheduler and the network in turn."""
    with warnings.catch_warnings(action="ignore"):
        from diffusers import DDIMScheduler
    scheduler = DDIMScheduler(num_train_timesteps=1000, clip_sample=False)
    scheduler.set_timesteps(steps)
    x = start
    for t in scheduler.timesteps:
        x = scheduler.step(model(x, t).sample, t, x).prev_sample
    return x


@torch.no_grad()
def edm_loop(denoise: Callable[[Tensor, Tensor], Tensor], sigmas: Tensor, start: Tensor) -> Tensor:
    """Algorithm 1 of Karras et al. (2022), states in float64 and networks in float32."""
    levels = sigmas.double()
    x = start.double() * levels[0]
    for i, (t, lower) in enumerate(pairwise(levels)):
        slope = (x - denoise(x.float(), t.float()).double()) / t
        following = x + (lower - t) * slope
        if i < len(levels) - 2:
            other = (following - denoise(following.float(), lower.float()).double()) / lower
            following = x + (lower - t) * (slope + other) / 2
        x = following
    return x


def guided_loop(
    denoise: Callable[[Tensor, Tensor], Tensor], victim: nn.Module, targets: Tensor, sigmas: Tensor,
    start: Tensor, scale: float, through: bool,
) -> Tensor:  # fmt: skip
    """Ancestral sampling, guided toward ``targets`` at every step, weights not frozen.

    Args:
        through: whether the gradient runs through the denoiser, as in the paper; else it is that at
            the state, as of AdvDiff's classifier (Dai et al. 2024, eq. 6).
    """
    source = torch.Generator().manual_seed(0)
    x = start * sigmas[0]
    for sigma, lower in pairwise(sigmas.to(x)):
        leaf = x.detach().requires_grad_()
        x0 = denoise(leaf, sigma) if through else denoise(leaf.detach(), sigma).detach()
        seen = x0 if through else leaf / math.sqrt(1 + float(sigma) ** 2)
        value = victim((seen + 1) / 2).log_softmax(1).gather(1, targets[:, None]).sum()
        value.backward()
        assert leaf.grad is not None
        weight = sigma**2 if through else sigma**2 / (1 + sigma**2)
        guided = x0.detach() + scale * weight * leaf.grad
        ratio = (lower / sigma) ** 2
        noise = torch.randn(x.shape, generator=source)
        x = guided + ratio * (x - guided) + lower * (1 - ratio).sqrt() * noise
    return ((x + 1) / 2).clamp(0, 1)


@torch.no_grad()
def copies_loop(victim: nn.Module, image: Tensor, sigma: float, number: int, batch: int) -> Tensor:
    """Votes for noisy copies, as in the loop of Cohen et al. (2019)."""
    counts = torch.zeros(10, dtype=torch.int64)
    for _ in range(number // batch):
        copies = image.repeat(batch, 1, 1, 1)
        counts += victim(copies + sigma * torch.randn_like(copies)).argmax(1).bincount(minlength=10)
    return counts


def foolbox_pgd(victim: nn.Module, images: Tensor, labels: Tensor, steps: int) -> Tensor:
    with warnings.catch_warnings(action="ignore"):
        import foolbox
    attack = foolbox.attacks.LinfPGD(steps=steps, rel_stepsize=2.5 / steps)
    return attack(foolbox.PyTorchModel(victim, bounds=(0, 1)), images, labels, epsilons=EPS)[1]


def torchattacks_pgd(victim: nn.Module, images: Tensor, labels: Tensor, steps: int) -> Tensor:
    import torchattacks

    return torchattacks.PGD(victim, eps=EPS, alpha=2.5 * EPS / steps, steps=steps)(images, labels)


def torchattacks_apgd(victim: nn.Module, images: Tensor, labels: Tensor, steps: int) -> Tensor:
    import torchattacks

    return torchattacks.APGD(victim, eps=EPS, steps=steps, seed=0)(images, labels)
