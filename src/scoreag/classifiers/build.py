"""A module by name: an architecture without weights, or what a function of one's own returns.

cifar_resnet           a file of scoreag.classifiers.networks
timm:resnet18          timm.create_model("resnet18", pretrained=False, ...)
torchvision:resnet18   torchvision.models.get_model("resnet18", weights=None, ...)
my_nets:make           make(...) of the module my_nets, in the working directory or installed
path/to/file.py:make   make() of a file, which is run; only where somebody typed it
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from inspect import signature
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from torch import nn

from scoreag.registry import (
    check_options,
    did_you_mean,
    load_component,
    short_repr,
    truncate_text,
)

PRETRAINED_OPTIONS = (
    "pretrained", "checkpoint_path", "weights", "weights_backbone", "pretrained_cfg"
)  # fmt: skip


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
    return call_factory(name, **options)


def validate_architecture(name: str, options: Mapping[str, Any]) -> None:
    """Refuse a network that there is not, and options that one of ours does not take."""
    if ":" not in name:
        check_options(_load_builder(name), dict(options), f"the network {name}")


def accepts_option(name: str, option: str) -> bool:
    """Whether the architecture takes this option."""
    package, colon, _ = name.partition(":")
    if package in MODEL_LIBRARIES and colon:
        return option == "num_classes"
    return not colon and option in signature(_load_builder(name)).parameters


def _load_builder(name: str) -> Callable[..., nn.Module]:
    try:
        builder: Callable[..., nn.Module] = load_component("networks", name).build
    except ImportError as error:
        raise ValueError(f"the network {name} cannot be imported: {error}") from error
    except AttributeError as error:
        raise ValueError(f"{name} is no network: it has no function 'build'") from error
    return builder


def _call_builder(
    builder: Callable[..., nn.Module], name: str, options: Mapping[str, Any]
) -> nn.Module:
    if ":" not in name:
        check_options(builder, dict(options), f"the network {name}")
    for option in options:
        if option in PRETRAINED_OPTIONS:
            raise ValueError(f"{name}: leave out {option!r}; the weights are those of the file")
    try:
        module = builder(**options)
    except Exception as error:  # whatever somebody else's function may raise
        reason = truncate_text(str(error), 200)
        raise ValueError(
            f"the network {name} cannot be built of {short_repr(dict(options))}: {reason}"
        ) from error
    return _check_module(module, name)


def _check_module(module: Any, name: str) -> nn.Module:
    if not isinstance(module, nn.Module):
        raise ValueError(f"{name} returned {type(module).__name__}; expected a torch.nn.Module")
    return module


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


def call_factory(name: str, **options: Any) -> nn.Module:
    """What ``package.module:factory`` returns; the working directory is searched too.

    >>> call_factory("torch.nn:Identity")
    Identity()

    Raises:
        ValueError: no such module or callable, it fails, or it returns something else.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute.isidentifier():
        raise ValueError(f"{name!r} names no factory; write package.module:factory")
    if module_name.endswith(".py"):
        dotted = ".".join(Path(module_name).with_suffix("").parts)
        raise ValueError(f"{name!r} names a file; write {dotted}:{attribute}")
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise ValueError(f"{name!r:.80} names no module; write package.module:factory")
    with _working_dir_on_path():
        return _call_checked(name, _get_callable(_import_module(module_name), attribute), options)


def call_factory_file(name: str) -> nn.Module:
    """What ``path/to/file.py:function`` returns: the file is run, as a module of its own.

    Only for a name that somebody typed: one that is read from a file says nothing of trust.

    Raises:
        ValueError: there is no such file or function, it fails, or it returns something else.
    """
    path, _, attribute = name.rpartition(":")
    file = Path(path).expanduser()
    if not file.is_file():
        raise ValueError(f"{name!r}: there is no file {path}")
    if not attribute.isidentifier():
        raise ValueError(f"{name!r} names no function; write {path}:function")
    with _working_dir_on_path(file.resolve().parent):
        return _call_checked(name, _get_callable(_import_file(file), attribute), {})


def is_factory_file(name: str) -> bool:
    """Whether a name is that of a function in a file: ``path/to/file.py:function``."""
    return name.rpartition(":")[0].endswith(".py")


def _import_file(file: Path) -> ModuleType:
    """The module of a file, under a name of its own: two files of one name are two modules."""
    place = file.resolve()
    digest = blake2b(str(place).encode(), digest_size=6).hexdigest()
    name = re.sub(r"\W", "_", f"{place.stem}_{digest}")
    spec = spec_from_file_location(name, place)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ValueError(f"{file} cannot be run: {_error_line(error)}") from error
    return module


def _call_checked(name: str, factory: Callable[..., Any], options: dict[str, Any]) -> nn.Module:
    try:
        module = factory(**options)
    except (Exception, SystemExit) as error:
        how = f"of {options}"[:100] if options else "without arguments"
        raise ValueError(f"{name} failed when called {how}: {_error_line(error)}") from error
    return _check_module(module, name)


def _error_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _import_module(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if not f"{name}.".startswith(f"{missing}."):
            raise ValueError(
                f"the module {name} needs {missing}, which is not installed"
            ) from error
        raise ValueError(f"no module {missing!r}; {_suggest_module(missing)}") from error
    except (Exception, SystemExit) as error:
        raise ValueError(f"the module {name} cannot be imported: {_error_line(error)}") from error


def _get_callable(module: ModuleType, attribute: str) -> Callable[[], Any]:
    value = getattr(module, attribute, None)
    if not callable(value):
        known = [n for n, value in vars(module).items() if callable(value) and n[:1] != "_"]
        fault = "is not callable" if value is not None else "does not exist"
        raise ValueError(f"{module.__name__}:{attribute} {fault}; {did_you_mean(attribute, known)}")
    return value


def _suggest_module(missing: str) -> str:
    """A hint among the modules beside the one that was not found."""
    package, _, last = missing.rpartition(".")
    folders = import_module(package).__path__ if package else [str(Path.cwd())]
    known = [module.name for module in iter_modules(folders)]
    return did_you_mean(last, known) if known else f"is it in {Path.cwd()}, or installed?"


@contextmanager
def _working_dir_on_path(*folders: Path) -> Iterator[None]:
    """Commands do not look for modules there, unlike ``python -m``."""
    before = list(sys.path)
    sys.path[:0] = map(str, (*folders, Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before
