"""Folders of diffusers as the package writes them: small networks with random weights."""

from pathlib import Path
from typing import Any

import torch

TINY = {
    "sample_size": 8, "in_channels": 3, "out_channels": 3, "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "layers_per_block": 1,
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"), "norm_num_groups": 4,
    "attention_head_dim": None,
}  # fmt: skip


def unet(diffusers: Any, **config: Any) -> Any:
    """A network whose weights are all away from 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = diffusers.UNet2DModel(**{**TINY, **config}).eval()
        for parameter in model.parameters():
            parameter.data.add_(0.02 * torch.randn_like(parameter))
    return model


def pipeline(folder: Path, model: Any, scheduler: Any, **how: Any) -> Path:
    """The two in the folders of a pipeline; ``how`` the network is saved."""
    model.save_pretrained(folder / "unet", **how)
    scheduler.save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text('{"_class_name": "DDPMPipeline"}')
    return folder
