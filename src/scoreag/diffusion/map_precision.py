"""A score model whose maps are in bfloat16, while states, noise levels and embeddings are not.

Karras et al. (2022) sample like this in float16.  Matrix units are about twice as fast, and maps
take half the memory.  Maps then have channels last, which suits convolutions.
"""

import copy

import torch
from torch import nn

from scoreag.diffusion.networks.edm_blocks import ResamplingConv
from scoreag.diffusion.parameterizations import Preconditioned

FLOAT32, BF16 = "float32", "bf16"
DTYPES = (FLOAT32, BF16)
OF_MAPS = (nn.Conv2d, nn.GroupNorm, ResamplingConv)


def with_bfloat16_maps(model: nn.Module) -> Preconditioned:
    """A copy of a score model that computes its maps in bfloat16.

    Raises:
        ValueError: the network was not made for it.
    """
    network = getattr(model, "network", None)
    if not isinstance(model, Preconditioned) or not getattr(network, "maps_have_dtype", False):
        raise ValueError(
            f"{type(network or model).__name__} computes in float32 only; leave out dtype, or take "
            "a model of the networks unet, song_unet or adm_unet"
        )
    model = copy.deepcopy(model)
    for part in model.network.modules():
        if isinstance(part, OF_MAPS):
            for weight in part.parameters(recurse=False):
                weight.data = weight.data.to(torch.bfloat16)
                if weight.ndim == 4:
                    weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    model.map_dtype = torch.bfloat16
    return model
