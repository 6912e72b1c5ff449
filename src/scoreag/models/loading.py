"""A score model by its name, its folder or its checkpoint; and the device that it goes to."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.prior import Prior
from scoreag.models.convert.checkpoint import convert_checkpoint
from scoreag.models.convert.diffusers import is_folder
from scoreag.models.convert.hub import fetch_card_folder, list_checkpoints
from scoreag.models.model_cards import Card, list_cards, load_card
from scoreag.models.score_models import load_score_model
from scoreag.registry import UnknownNameError, describe_value, load_component

DEVICES: dict[str, Callable[[], bool]] = {  # and whether there is one
    "cpu": lambda: True,
    "cuda": torch.cuda.is_available,
    "mps": torch.backends.mps.is_available,
}
DEVICE_NAMES = {"cuda": "GPU", "mps": "GPU of Apple's"}


def load_prior(
    name: str | Path, device: str | torch.device = "auto", trust_code: bool = False
) -> Prior:
    """The score model of a name, of a folder with card.toml and weights, or of a checkpoint.

    Names are those of the zoo, and of public checkpoints, which are downloaded on first use.

    Args:
        trust_code: whether code that the card names may be run; see SECURITY.md.

    Raises:
        ValueError: no such card, one of another kind, or a checkpoint that is not read; or the
            card names code, and it is not trusted.
        ConnectionError: a public checkpoint cannot be downloaded.
    """
    check_name(name, "a score model", "load_prior")
    file = Path(name)
    if (file.is_file() and file.suffix != ".toml") or is_folder(file):
        with TemporaryDirectory() as folder:
            convert_checkpoint(file, Path(folder) / file.stem)
            return load_prior(Path(folder) / file.stem, device)
    if str(name) in (public := list_checkpoints()):
        return load_prior(fetch_card_folder(public[str(name)]), device)
    card = load_card_of_kind(name, "score-model", trust_code)
    place = resolve_device(device)
    model = load_score_model(card)
    if torch.get_default_dtype() != torch.float32:  # whose layers were made in another precision
        model = model.to(torch.float32)
    return Prior(
        model=model.to(place).eval().requires_grad_(False),
        sampler=load_component("samplers", "heun").sample,
        sigmas=karras(18).to(place, torch.float32 if place.type == "mps" else torch.float64),
        image_shape=card.image_shape,
        classes=card.classes,
        sigma_data=card.sigma_data,
        defaults=card.defaults,
        metadata=card.identity,
        judge=_resolve_judge(card),
    )


def _resolve_judge(card: Card) -> str:
    """The judge of a score model's card: a folder beside it, or a name of the zoo.

    Nothing else, as a function would be run because somebody's card says so.
    """
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
    given = f"{function} was given {describe_value(name)}"
    if hasattr(name, "metadata"):  # a Prior, or a classifier of ours
        raise ValueError(f"{given}, which is loaded already; use it")
    raise ValueError(
        f"{given}; expected the name or the path of {expected}" + (hint if callable(name) else "")
    )


def resolve_device(name: str | torch.device) -> torch.device:
    """``auto`` is the GPU where there is one."""
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
    if device.type != "cpu" and not DEVICES[device.type]():
        raise ValueError(
            f"device {name!r}, but torch sees no {DEVICE_NAMES[device.type]} here; "
            "write --device cpu"
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"no device {name!r}; torch sees {torch.cuda.device_count()} GPUs here")
    return device
