"""A pickle as the EDM release writes it, made without the release.

Its classes are written as a call of ``torch_utils.persistence._reconstruct_persistent_obj`` with
their source, their name and their state; containers of modules are written as they are.
"""

import pickle
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import torch
from torch import nn

from scoreag.models.convert.edm import build_spec

ARGUMENTS = {
    "img_resolution": 8, "img_channels": 3, "label_dim": 3, "model_type": "SongUNet",
    "model_channels": 8, "channel_mult": [1, 1], "num_blocks": 1, "attn_resolutions": [4],
    "augment_dim": 2, "dropout": 0.13, "use_fp16": True,
}  # fmt: skip


def rebuild(meta):
    raise AssertionError("the release's own code was called")


class Persistent:
    """An object of a class whose source goes along."""

    def __init__(self, name, state):
        self.name, self.state = name, state

    def __reduce__(self):
        source = "raise SystemExit('the source was run')"
        meta = {"type": "class", "version": 6, "module_src": source, "class_name": self.name}
        return rebuild, ({**meta, "state": self.state},)


def persistent(module: nn.Module, name: str, **more) -> Persistent:
    """A module and all within it, containers aside, as the release keeps them."""
    state = {key: value for key, value in vars(module).items() if key[0] == "_"} | more
    inner = {
        key: one if isinstance(one, nn.ModuleDict) else persistent(one, type(one).__name__)
        for key, one in module._modules.items()
    }
    for one in inner.values():
        if isinstance(one, nn.ModuleDict):
            parts = {key: persistent(part, "UNetBlock") for key, part in one.items()}
            object.__setattr__(one, "_modules", parts)
    return Persistent(name, {**state, "_modules": inner})


def network() -> nn.Module:
    made = build_spec("EDMPrecond", ARGUMENTS, {}, "made")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return (
            import_module(f"scoreag.diffusion.networks.{made.network}").build(**made.options).eval()
        )


def write(file: Path, ema=None, **others) -> Path:
    """The pickle; ``ema`` in place of the network, and ``others`` beside it."""
    whole = nn.Module()
    whole.model = network()
    model = persistent(whole, "EDMPrecond", _init_args=(), _init_kwargs=ARGUMENTS)
    release = ModuleType("torch_utils.persistence")
    release._reconstruct_persistent_obj = rebuild
    rebuild.__module__, rebuild.__qualname__ = release.__name__, "_reconstruct_persistent_obj"
    with patch.dict(
        sys.modules, {"torch_utils": ModuleType("torch_utils"), release.__name__: release}
    ):
        file.write_bytes(pickle.dumps({"ema": model if ema is None else ema, **others}))
    return file
