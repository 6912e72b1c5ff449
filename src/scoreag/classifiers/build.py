"""An architecture by name, without weights: ours, timm's or torchvision's, or one's own function.

cifar_resnet           a file of scoreag.classifiers.networks
timm:resnet18          timm.create_model("resnet18", pretrained=False, ...)
torchvision:resnet18   torchvision.models.get_model("resnet18", weights=None, ...)
my_nets:make           make(...) of the module my_nets, in the working directory or installed
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from inspect import signature
from typing import Any

from torch import nn

from scoreag.classifiers import import_factory
from scoreag.registry import check_options, did_you_mean, short_repr, truncate_text
from scoreag.registry import load_component as component

PRETRAINED_OPTIONS = (
    "pretrained",
    "checkpoint_path",
    "weights",
    "weights_backbone",
    "pretrained_cfg",
)


def build(name: str, options: Mapping[str, Any]) -> nn.Module:
    """The module, with the weights that it happens to begin with.

    Raises:
        ValueError: no such architecture, its package is not installed, or it does not take these
            options.
    """
    package, colon, entry = name.partition(":")
    if not colon:
        return _call_builder(_load_builder(name), name, options)
    if package in MODEL_LIBRARIES:
        return _call_builder(MODEL_LIBRARIES[package](entry), name, options)
    return import_factory.call_factory(name, **options)


def validate_architecture(name: str, options: Mapping[str, Any]) -> None:
    """Refuse a network that there is not, and options that one of ours does not take."""
    if ":" not in name:
        check_options(_load_builder(name), dict(options), f"the network {name}")


def accepts_option(name: str, option: str) -> bool:
    """Whether the architecture can be told this option."""
    package, colon, _ = name.partition(":")
    if package in MODEL_LIBRARIES and colon:
        return option == "num_classes"
    return not colon and option in signature(_load_builder(name)).parameters


def _load_builder(name: str) -> Callable[..., nn.Module]:
    try:
        build: Callable[..., nn.Module] = component("networks", name).build
    except ImportError as error:
        raise ValueError(f"the network {name} cannot be imported: {error}") from error
    except AttributeError as error:
        raise ValueError(f"{name} is no network: it has no function 'build'") from error
    return build


def _call_builder(
    build: Callable[..., nn.Module], name: str, options: Mapping[str, Any]
) -> nn.Module:
    if ":" not in name:
        check_options(build, dict(options), f"the network {name}")
    for option in options:
        if option in PRETRAINED_OPTIONS:
            raise ValueError(f"{name}: leave out {option!r}; the weights are those of the file")
    try:
        made = build(**options)
    except Exception as error:  # whatever somebody else's function may raise
        what = truncate_text(str(error), 200)
        raise ValueError(
            f"the network {name} cannot be built of {short_repr(dict(options))}: {what}"
        ) from error
    if not isinstance(made, nn.Module):
        raise ValueError(f"{name} returned {type(made).__name__}; expected a torch.nn.Module")
    return made


def _timm_builder(model_name: str) -> Callable[..., nn.Module]:
    timm = import_package("timm", f"the network timm:{model_name}")
    if not timm.is_model(model_name):
        raise ValueError(
            f"timm has no {model_name!r}; {did_you_mean(model_name, timm.list_models())[:300]}"
        )
    return lambda **options: timm.create_model(model_name, pretrained=False, **options)


def _torchvision_builder(model_name: str) -> Callable[..., nn.Module]:
    models = import_package("torchvision.models", f"the network torchvision:{model_name}")
    if model_name not in (known := models.list_models()):
        raise ValueError(
            f"torchvision has no {model_name!r}; {did_you_mean(model_name, known)[:300]}"
        )
    return lambda **options: models.get_model(model_name, weights=None, **options)


def import_package(name: str, purpose: str) -> Any:
    """A package that is used only where it is installed.

    Raises:
        ValueError: it is not, or it cannot be imported.
    """
    top = name.partition(".")[0]
    try:
        return import_module(name)
    except Exception as error:  # torchvision beside another build of torch raises anything
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{purpose} needs the package {top}, which cannot be imported here ({reason}); "
            f"pip install {top}"
        ) from error


MODEL_LIBRARIES: dict[str, Callable[[str], Callable[..., nn.Module]]] = {  # those of trust.py
    "timm": _timm_builder,
    "torchvision": _torchvision_builder,
}
