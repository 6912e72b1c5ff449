"""What a file that is not read looks like, and what can be done with it."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

LATENT_MODEL = (
    "looks like a model of latent codes ({name!r}), as Stable Diffusion: it draws the codes of an "
    "autoencoder, not images, and a score model of images is wanted"
)
CLASSIFIER = (
    "looks like a classifier ({name!r}), and a score model is wanted; a classifier is given by "
    "--classifier FOLDER, which scoreag convert makes of it with --network, --mean and --std"
)
NOISY_CLASSIFIER = (
    "looks like guided-diffusion's classifier of noisy images, and a score model is wanted"
)
OPTIMIZER = (
    "looks like the state of an optimizer, which holds no network; take the file of the averaged "
    "weights that was saved beside it, such as ema_0.9999_010000.pt or model010000.pt"
)
LUCIDRAINS = (
    "looks like a U-Net of denoising-diffusion-pytorch ({name!r}), which is not read; train one "
    "with scoreag train score-model, or take one of scoreag list models"
)
K_DIFFUSION = "looks like a network of k-diffusion ({name!r}), which is not read"
PATCH_TRANSFORMER = (
    "looks like a transformer of patches ({name!r}), as DiT or U-ViT, which is not read"
)
SIGNATURES = (  # how a name of such a file begins, and what is said of it; the first that fits
    (("model.diffusion_model.", "first_stage_model.", "cond_stage_model."), LATENT_MODEL),
    (("quant_conv.", "post_quant_conv.", "encoder.conv_in.", "decoder.conv_in."), LATENT_MODEL),
    (("input_blocks.",), NOISY_CLASSIFIER),
    (("model.init_conv.", "init_conv.", "ema_model.model.init_conv."), LUCIDRAINS),
    (("inner_model.mapping.", "inner_model.patch_in.", "inner_model.proj_in."), K_DIFFUSION),
    (("x_embedder.", "t_embedder.", "in_blocks.0."), PATCH_TRANSFORMER),
    (("fc.", "linear.", "classifier.", "head.", "logits.", "heads."), CLASSIFIER),
)
WRAPPER_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "ema", "params_ema")


def describe_format(tree: Any) -> str:
    """The predicate of a sentence about what ``torch.save`` wrote."""
    if not isinstance(tree, Mapping):
        return f"holds a {type(tree).__name__}, not a state dict"
    if isinstance(tree.get("param_groups"), list) and isinstance(tree.get("state"), Mapping):
        return OPTIMIZER
    inner = next((key for key in WRAPPER_KEYS if isinstance(tree.get(key), Mapping)), "")
    tree = tree[inner] if inner else tree
    names = [str(name).removeprefix("module.") for name in tree]
    for starts, said in SIGNATURES:
        for name in names:
            if name.startswith(starts):
                return said.format(name=name)
    if not any(isinstance(value, Tensor) for value in tree.values()):
        return "holds no tensors by name"
    return f"is of a network that is not known here (its first tensor is {names[0]!r})"
