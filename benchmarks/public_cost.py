"""What one call of each public score model costs on a CPU, by its architecture.

The weights are random: the files are not needed. Seconds are those of one core's processor time, so
that other work beside it does not count; GFLOPs are two for each multiplication and addition of
convolutions and matrix products, as torch counts them.
"""

import argparse
import gc
import os
import time
from typing import Any

import torch
from common import write
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from scoreag.models.convert import ddpm_pytorch, edm, guided_diffusion, score_sde
from scoreag.models.convert.hub import HubCheckpoint, list_checkpoints
from scoreag.registry import load_component

Built = tuple[str, dict[str, Any]]

SONG = {"img_channels": 3, "model_channels": 128, "attn_resolutions": [16]}
DDPMPP = SONG | {"img_resolution": 32, "channel_mult": [2, 2, 2], "augment_dim": 9}
NCSNPP = DDPMPP | {
    "embedding_type": "fourier", "encoder_type": "residual", "channel_mult_noise": 2,
    "resample_filter": [1, 3, 3, 1],
}  # fmt: skip
ADM = {"img_resolution": 64, "img_channels": 3, "label_dim": 1000, "model_type": "DhariwalUNet"}
HO = {
    "colours": 3, "channels": 128, "multipliers": [1, 2, 2, 2], "blocks": 2, "attention_at": [16],
    "sides": [32, 16, 8, 4],
}  # fmt: skip
SONG_OF_EDM = {  # what the training of the release builds, github.com/NVlabs/edm, train.py
    "edm-cifar10-cond-vp": DDPMPP | {"label_dim": 10},
    "edm-cifar10-uncond-vp": DDPMPP,
    "edm-cifar10-cond-ve": NCSNPP | {"label_dim": 10},
    "edm-cifar10-uncond-ve": NCSNPP,
    "edm-cifar100-cond-vp": DDPMPP | {"label_dim": 100},
    "edm-svhn-cond-vp": DDPMPP | {"label_dim": 10},
}


def architecture(model: HubCheckpoint) -> Built:
    """The network of a public model and its arguments."""
    if model.name in SONG_OF_EDM:
        return of_edm({"model_type": "SongUNet", **SONG_OF_EDM[model.name]})
    if model.name == "edm-imagenet64-cond-adm":
        return of_edm(ADM)
    if model.name.startswith("score-sde"):
        config = model.config.get("config") or (
            "vp/cifar10_ddpmpp_continuous"
            if model.name.endswith("vp")
            else "ve/cifar10_ncsnpp_continuous"
        )
        return "song_unet", score_sde.network_options(score_sde.CONFIGS[config])
    if model.files[0] in guided_diffusion.PUBLISHED:
        told = guided_diffusion.complete_config(
            model.files[0], guided_diffusion.PUBLISHED[model.files[0]], {}
        )
        classes = 1000 if told["class_cond"] else 0
        return "adm_unet", guided_diffusion.network_options(told, 3, classes)
    return "adm_unet", ddpm_pytorch.network_options(
        HO
    )  # the network of both conversions of Ho et al.


def of_edm(arguments: dict[str, Any]) -> Built:
    found = edm.build_spec("EDMPrecond", arguments, {}, "public_cost")
    return found.network, dict(found.options)


def built(made: Built, device: str) -> nn.Module:
    name, options = made
    with torch.device(device):
        network = load_component("networks", name).build(**options)
    return network.eval().requires_grad_(False)


def asked(made: Built, batch: int, device: str) -> tuple[torch.Tensor, ...]:
    _, options = made
    images = torch.zeros(batch, *options["image_shape"], device=device)
    labels = torch.zeros(batch, dtype=torch.int64, device=device)
    time_told = torch.full((batch,), 0.5, device=device)
    return (images, time_told, labels) if options.get("classes") else (images, time_told)


@torch.no_grad()
def cost(made: Built, batch: int) -> dict[str, Any]:
    """Parameters, GFLOPs and processor seconds of one image."""
    counter = FlopCounterMode(display=False)
    with counter:
        built(made, "meta")(*asked(made, 1, "meta"))
    network = built(made, "cpu")
    inputs = asked(made, batch, "cpu")
    if inputs[0].shape[-1] <= 32:
        network(*asked(made, 1, "cpu"))  # warm up
    before = time.process_time()
    network(*inputs)
    spent = time.process_time() - before
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "gflops": counter.get_total_flops() / 1e9,
        "seconds": spent / batch,
        "batch": batch,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=4, help="of images of 32 pixels; else 1")
    parser.add_argument("--only", nargs="*", default=[], help="names of public models")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, Any] = {}
    measured: dict[str, dict[str, Any]] = {}
    models = [m for m in list_checkpoints().values() if not args.only or m.name in args.only]
    for model in sorted(models, key=lambda m: architecture(m)[1]["image_shape"][1]):
        made = architecture(model)
        side = made[1]["image_shape"][1]
        if str(made) not in measured:  # the same network costs the same
            measured[str(made)] = cost(made, args.batch if side <= 32 else 1)
            gc.collect()
        about = {"side": side, "classes": made[1].get("classes", 0), "network": made[0]}
        rows[model.name] = about | measured[str(made)]
        print(model.name, rows[model.name], f"load {os.getloadavg()[0]:.1f}", flush=True)
        write("public_cost", {"rows": rows})


if __name__ == "__main__":
    main()
