"""A module by name: an architecture without weights, a function of the user's, or RobustBench.

cifar_resnet               a file of scoreag.classifiers.networks
timm:resnet18              timm.create_model("resnet18", pretrained=False, ...)
torchvision:resnet18       torchvision.models.get_model("resnet18", weights=None, ...)
my_nets:make               make(...) of the module my_nets, in the working directory or installed
path/to/file.py:make       make() of a file, which is run; only where the user typed it
robustbench:cifar10/L2/X   a model of RobustBench with its weights; Croce et al. (2021)
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from hashlib import blake2b
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from inspect import signature
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from torch import nn

from scoreag.io.filesystem import cache_folder
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
ROBUSTBENCH = "robustbench:"
DATASETS = ("cifar10", "cifar100", "imagenet")  # of RobustBench
THREAT_MODELS = ("Linf", "L2", "corruptions", "corruptions_3d")


def build(name: str, options: Mapping[str, Any]) -> nn.Module:
    """The module of an architecture or a factory, with its initial weights."""
    package, colon, entry = name.partition(":")
    if colon and package not in MODEL_LIBRARIES:
        return call_factory(name, **options)
    validate_architecture(name, options)
    builder = MODEL_LIBRARIES[package](entry) if colon else _load_builder(name)
    for option in options:
        if option in PRETRAINED_OPTIONS:
            raise ValueError(f"{name}: leave out {option!r}; the weights are those of the file")
    try:
        module = builder(**options)
    except Exception as error:  # a third-party function may raise anything
        reason = truncate_text(str(error), 200)
        raise ValueError(
            f"the network {name} cannot be built of {short_repr(dict(options))}: {reason}"
        ) from error
    return _check_module(module, name)


def validate_architecture(name: str, options: Mapping[str, Any]) -> None:
    """Refuse an unknown network of this package, and options that it does not take."""
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


MODEL_LIBRARIES: dict[str, Callable[[str], Callable[..., nn.Module]]] = {  # those of trust.py
    "timm": _timm_builder,
    "torchvision": _torchvision_builder,
}


def import_package(name: str, purpose: str) -> Any:
    """An optional package; a ValueError says how to install it."""
    top = name.partition(".")[0]
    try:
        return import_module(name)
    except Exception as error:  # torchvision beside another build of torch raises anything
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{purpose} needs the package {top}, which cannot be imported here ({reason}); "
            f"pip install {top}"
        ) from error


def call_factory(name: str, **options: Any) -> nn.Module:
    """The module that ``package.module:factory`` returns; the working directory is searched, too.

    >>> call_factory("torch.nn:Identity")
    Identity()
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
        return _call_function(name, _import_module(module_name), attribute, options)


def call_factory_file(name: str) -> nn.Module:
    """The module that ``path/to/file.py:function`` returns: the file is run as a module.

    Only for a name that the user typed: one in a file is not trusted.
    """
    path, _, attribute = name.rpartition(":")
    file = Path(path).expanduser()
    if not file.is_file():
        raise ValueError(f"{name!r}: there is no file {path}")
    if not attribute.isidentifier():
        raise ValueError(f"{name!r} names no function; write {path}:function")
    with _working_dir_on_path(file.resolve().parent):
        return _call_function(name, _import_file(file), attribute, {})


def is_factory_file(name: str) -> bool:
    """Whether a name is that of a function in a file: ``path/to/file.py:function``."""
    return name.rpartition(":")[0].endswith(".py")


@contextmanager
def _working_dir_on_path(*folders: Path) -> Iterator[None]:
    """Search the working directory for modules, as ``python -m`` does and commands do not."""
    before = list(sys.path)
    sys.path[:0] = map(str, (*folders, Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before


def _import_file(file: Path) -> ModuleType:
    """The module of a file, under a unique name, as two files may have the same name."""
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


def _import_module(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if not f"{name}.".startswith(f"{missing}."):
            raise ValueError(
                f"the module {name} needs {missing}, which is not installed"
            ) from error
        package, _, last = missing.rpartition(".")
        folders = import_module(package).__path__ if package else [str(Path.cwd())]
        known = [module.name for module in iter_modules(folders)]
        nowhere = f"is it in {Path.cwd()}, or installed?"
        hint = did_you_mean(last, known) if known else nowhere
        raise ValueError(f"no module {missing!r}; {hint}") from error
    except (Exception, SystemExit) as error:
        raise ValueError(f"the module {name} cannot be imported: {_error_line(error)}") from error


def _call_function(
    name: str, module: ModuleType, attribute: str, options: dict[str, Any]
) -> nn.Module:
    function = getattr(module, attribute, None)
    if not callable(function):
        known = [n for n, value in vars(module).items() if callable(value) and n[:1] != "_"]
        fault = "is not callable" if function is not None else "does not exist"
        raise ValueError(f"{name} {fault}; {did_you_mean(attribute, known)}")
    try:
        made = function(**options)
    except (Exception, SystemExit) as error:
        how = f"of {options}"[:100] if options else "without arguments"
        raise ValueError(f"{name} failed when called {how}: {_error_line(error)}") from error
    return _check_module(made, name)


def _error_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def load_robustbench(name: str) -> nn.Module:
    """A model of RobustBench, which takes images in [0, 1] and normalizes them itself."""
    dataset, threat, model = parse_robustbench(name)
    utils = import_package("robustbench.utils", name)
    zoo = import_package("robustbench.model_zoo", model).model_dicts
    known = [*_lookup(_lookup(zoo, dataset), threat.removesuffix("_3d"))]
    if known and model not in known:
        word = f"{model.lower().replace('-', '_')}_{dataset}_{threat.removesuffix('_3d').lower()}"
        if not import_package("timm", "RobustBench").is_model(word):  # registered in no other list
            raise ValueError(
                f"RobustBench has no {model!r} for {dataset} under {threat}; "
                + did_you_mean(model, known)[:300]
            )
    theirs = Path("models")  # RobustBench's own default
    known_file = theirs / dataset / threat.removesuffix("_3d") / f"{model}.pt"
    folder = theirs if known_file.is_file() else cache_folder() / "robustbench"
    try:
        with redirect_stdout(sys.stderr):  # it prints its downloads
            loaded: nn.Module = utils.load_model(
                model_name=model, dataset=dataset, threat_model=threat, model_dir=str(folder)
            )
    except Exception as error:  # of a third-party package, or of the network
        raise ValueError(f"RobustBench cannot load {name}: {_error_line(error)}") from error
    return loaded.eval().requires_grad_(False)


def _lookup(table: Any, word: str) -> Any:
    """The entry of a table whose keys are an enumeration's members."""
    return next((v for key, v in table.items() if getattr(key, "value", key) == word), {})


def parse_robustbench(name: str) -> tuple[str, str, str]:
    """Data set, threat model and model of a name; by default CIFAR-10 under Linf.

    >>> parse_robustbench("robustbench:Standard")
    ('cifar10', 'Linf', 'Standard')
    """
    words = name.removeprefix(ROBUSTBENCH).split("/")
    if len(words) not in (1, 3) or not all(words):
        raise ValueError(
            f"{name!r}: write robustbench:MODEL, of CIFAR-10 under Linf, or "
            "robustbench:DATASET/THREAT/MODEL, e.g. robustbench:cifar10/L2/Augustin2020Adversarial"
        )
    dataset, threat, model = words if len(words) == 3 else ("cifar10", "Linf", *words)
    for word, known in ((dataset, DATASETS), (threat, THREAT_MODELS)):
        if word not in known:
            raise ValueError(f"{name}: RobustBench has no {word!r}; {did_you_mean(word, [*known])}")
    return dataset, threat, model
