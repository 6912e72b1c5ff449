"""A score model by its name, its folder or its checkpoint, and the device that it goes to."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from scoreag.diffusion import parameterizations as param
from scoreag.diffusion.compiled import CompiledNetwork
from scoreag.diffusion.map_precision import DTYPES, FLOAT32, with_bfloat16_maps
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.parameterizations import Parameterization, Preconditioned
from scoreag.diffusion.prior import Prior
from scoreag.models.convert.checkpoint import convert_checkpoint
from scoreag.models.convert.diffusers import is_folder
from scoreag.models.convert.diffusers_scheduler import discrete
from scoreag.models.convert.hub import fetch_card_folder, list_checkpoints
from scoreag.models.hub import fetch_hub_folder, is_hub_name
from scoreag.models.model_cards import Card, build_network, list_cards, load_card
from scoreag.registry import (
    UnknownNameError,
    check_options,
    describe_value,
    did_you_mean,
    load_component,
    short_repr,
)

DEVICES: dict[str, tuple[str, Callable[[], bool]]] = {  # how a message calls it; is there one
    "cpu": ("CPU", lambda: True),
    "cuda": ("GPU", torch.cuda.is_available),
    "mps": ("GPU of Apple's", torch.backends.mps.is_available),
}


def load_prior(
    name: Any,
    device: str | torch.device = "auto",
    trust_code: bool = False,
    dtype: str = FLOAT32,
    compile: bool = False,
) -> Prior:
    """The score model of a name, of a folder with card.toml and weights, or of a checkpoint.

    Names are those of the zoo, of public checkpoints, and ``hf://OWNER/NAME@REVISION`` of the
    Hugging Face Hub: a card, or a folder of diffusers.  These are downloaded on first use.

    Args:
        name: a word or a path; or a pipeline of diffusers, whose network and scheduler are read
            as from its folder.
        trust_code: whether code that the card names may be run; see SECURITY.md.
        dtype: of the maps in the network: ``float32``, or ``bf16``, which is faster and gives
            slightly other images.
        compile: whether torch.compile compiles the network, which takes a minute or more at first.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {describe_value(dtype)}; expected {' or '.join(DTYPES)}")
    if callable(save := getattr(name, "save_pretrained", None)):
        with TemporaryDirectory() as folder:
            named = Path(folder) / type(name).__name__
            save(named)  # there is one reader of configurations, that of folders
            return load_prior(named, device, trust_code, dtype, compile)
    check_name(name, "a score model", "load_prior")
    return _set_execution(_load_named(name, device, trust_code), dtype, compile)


def _load_named(name: str | Path, device: str | torch.device, trust_code: bool) -> Prior:
    """A score model in float32, by its name or its path."""
    if is_hub_name(name):
        found = fetch_hub_folder(str(name))
        if not is_folder(found.folder):
            return _from_card(name, device, trust_code)
        prior = _from_checkpoint(found.folder, found.model, device)
        return replace(prior, metadata={**prior.metadata, "hub": found.pinned})
    file = Path(name)
    if (file.is_file() and file.suffix != ".toml") or is_folder(file):
        return _from_checkpoint(file, file.stem, device)
    if str(name) in (public := list_checkpoints()):
        return _from_card(fetch_card_folder(public[str(name)]), device, trust_code)
    return _from_card(name, device, trust_code)


def _from_checkpoint(file: Path, name: str, device: str | torch.device) -> Prior:
    """A checkpoint or a folder of diffusers, converted to a card of that name."""
    with TemporaryDirectory() as folder:
        convert_checkpoint(file, Path(folder) / name)
        return _from_card(Path(folder) / name, device, False)


def _from_card(name: str | Path, device: str | torch.device, trust_code: bool) -> Prior:
    card = load_card_of_kind(name, "score-model", trust_code)
    place = resolve_device(device)
    model = _load_denoiser(card)
    if torch.get_default_dtype() != torch.float32:  # in which new layers were made
        model = model.to(torch.float32)
    return Prior(
        model=model.to(place).eval().requires_grad_(False),
        sampler=load_component("samplers", "heun").sample,
        sigmas=karras(18).to(place, torch.float32 if place.type == "mps" else torch.float64),
        image_shape=card.image_shape,
        classes=card.classes,
        sigma_data=card.sigma_data,
        x0_limit=None if card.x0_limit is None else float(card.x0_limit),
        defaults=card.defaults,
        metadata={**card.identity, "network": card.network, "options": dict(card.options)},
        judge=_resolve_judge(card),
        trust_code=trust_code,
    )


def _set_execution(prior: Prior, dtype: str, compile: bool) -> Prior:
    """The score model with maps of another precision, or compiled."""
    model: Any = prior.model
    model = with_bfloat16_maps(model) if dtype != FLOAT32 else model
    if compile:
        _compile(model)
    return replace(prior, model=model, metadata={**prior.metadata, **_computed_by(dtype, compile)})


def _computed_by(dtype: str, compile: bool) -> dict[str, Any]:
    """What changes the rounding of a model's answers, for manifests; nothing by default."""
    return {
        **({"dtype": dtype} if dtype != FLOAT32 else {}),
        **({"compiled": True} if compile else {}),
    }


def _compile(model: nn.Module) -> None:
    if not isinstance(model, Preconditioned):
        raise ValueError(f"{type(model).__name__} is no network of ours to compile; leave it out")
    model.compiled = CompiledNetwork(model.network)


def _resolve_judge(card: Card) -> str:
    """The reference classifier of a card: a folder beside it, or a name of the zoo; never code."""
    folder = card.folder / str(card.judge or "")
    if not card.judge or card.judge in list_cards("classifier"):
        return card.judge or ""
    if not (folder / "card.toml").is_file():
        raise ValueError(
            f"the card of {card.name} names the judge {card.judge!r:.60}; expected a folder beside "
            f"the card, or one of {', '.join(list_cards('classifier'))}"
        )
    return str(folder)


def load_card_of_kind(name: str | Path, kind: str, trust_code: bool) -> Card:
    """The card of that name, which must be of this kind."""
    card = load_card(name, trust_code)
    if card.kind != kind:
        raise ValueError(f"{name} is a {card.kind}, and a {kind} is wanted here")
    return card


def check_name(name: Any, expected: str, function: str, hint: str = "") -> None:
    """Refuse what is no name and no path."""
    if isinstance(name, str | Path):
        return
    start = f"{function} was given {describe_value(name)}"
    if hasattr(name, "metadata"):  # a Prior, or a classifier of ours
        raise ValueError(f"{start}, which is loaded already; use it")
    raise ValueError(
        f"{start}; expected the name or the path of {expected}" + (hint if callable(name) else "")
    )


def resolve_device(name: str | torch.device) -> torch.device:
    """The device of that name, which must be there; ``auto`` is the GPU where there is one."""
    name = str(name) if isinstance(name, torch.device) else name
    if not isinstance(name, str):
        raise UnknownNameError(
            f"the device is {describe_value(name)}; write auto, cpu, cuda, or cuda:0"
        )
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.split(":")[0] not in DEVICES:
        raise UnknownNameError(f"no device {name!r}; there are: auto, {', '.join(DEVICES)}")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UnknownNameError(f"no device {name!r}; write auto, cpu, cuda, or cuda:0") from error
    title, is_available = DEVICES[device.type]
    if not is_available():
        raise ValueError(f"device {name!r}, but torch sees no {title} here; write --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"no device {name!r}; torch sees {torch.cuda.device_count()} GPUs here")
    return device


def _load_denoiser(card: Card) -> nn.Module:
    """The denoiser of a card, with its weights; a family ``package.module`` has ``load(card)``."""
    if "." in card.family:
        model = load_component("score_models", card.family).load(card)
        if not isinstance(model, nn.Module):
            got = type(model).__name__
            raise ValueError(f"the family {card.family} returned {got}; expected a torch.nn.Module")
        return model
    return Preconditioned(build_network(card), build_parameterization(card))


def build_parameterization(card: Card) -> Parameterization:
    """The parameterization of a card, whose ``sigma_data`` is EDM's."""
    if card.family not in PARAMETERIZATIONS:
        known = did_you_mean(card.family, list(PARAMETERIZATIONS))
        raise ValueError(f"no {short_repr(card.family)} in score_models; {known}")
    build, kwargs = PARAMETERIZATIONS[card.family], dict(card.schedule_kwargs)
    check_options(build, kwargs, f"{card.name}: its schedule_kwargs")
    if card.family == "edm":
        kwargs = {"sigma_data": card.sigma_data, **kwargs}
        if kwargs.get("sign", 1) not in (1, -1):
            raise ValueError(f"{card.name}: the sign {kwargs['sign']!r:.80}; expected 1 or -1")
    try:
        return build(**kwargs)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{card.name}: its schedule_kwargs: {error}") from error


def linear_ddpm(steps: int = 1000, time_scale: float = 1.0) -> Parameterization:
    """Betas from 1e-4 to 0.02; for more steps proportionally smaller, as in iDDPM."""
    return param.ddpm(param.linear_alphas_cumprod(steps, 0.1 / steps, 20 / steps), time_scale)


def cosine_ddpm(steps: int = 1000, time_scale: float = 1.0) -> Parameterization:
    """The cosine schedule of Nichol and Dhariwal (2021) in that many steps."""
    return param.ddpm(param.cosine_alphas_cumprod(steps), time_scale)


def linear_v_prediction() -> Parameterization:
    """The betas of ``linear_ddpm``, for a network that predicts v; Salimans and Ho (2022)."""
    return param.v_prediction(param.linear_alphas_cumprod())


PARAMETERIZATIONS: dict[str, Callable[..., Parameterization]] = {  # families of cards
    "ddpm": linear_ddpm,  # predicts the noise, from one of 1000 steps; Ho et al. (2020)
    "ddpm_cosine": cosine_ddpm,
    "discrete": discrete,  # tables of betas, as in the package diffusers
    "edm": param.edm,  # Karras et al. (2022)
    "flow": param.flow,  # flow matching: predicts noise minus image; Lipman et al. (2023)
    "iddpm": param.iddpm,  # as in Karras et al. (2022): at the nearest of 1000 cosine levels
    "ncsn": param.ncsn,  # predicts minus the noise; Song and Ermon (2019)
    "smld": param.smld,  # as NCSN, from one of 1000 levels; Song et al. (2021)
    "unit_score": param.unit_score,  # of images in [0, 1]; Song et al. (2021), in diffusers
    "v_prediction": linear_v_prediction,
    "vp": param.vp,  # continuous, its time is 999 t, beta(t) = 0.1 + 19.9 t; Song et al. (2021)
}
