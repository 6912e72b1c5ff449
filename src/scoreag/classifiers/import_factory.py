"""One's own classifier: ``package.module:factory``, a callable that is told nothing, or options."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from torch import nn

from scoreag.registry import did_you_mean


def call_factory(name: str, **options: Any) -> nn.Module:
    """What the factory returns; modules in the working directory are found too.

    >>> load("torch.nn:Identity")
    Identity()

    Raises:
        ValueError: no such module or callable, it fails, or it returns something else.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute.isidentifier():
        raise ValueError(f"{name!r} names no factory; write package.module:factory")
    if module_name.endswith(".py"):
        right = ".".join(Path(module_name).with_suffix("").parts)
        raise ValueError(f"{name!r} names a file; write {right}:{attribute}")
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
    where = file.resolve()
    digest = blake2b(str(where).encode(), digest_size=6).hexdigest()
    name = re.sub(r"\W", "_", f"{where.stem}_{digest}")
    spec = spec_from_file_location(name, where)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ValueError(f"{file} cannot be run: {what}") from error
    return module


def _call_checked(name: str, factory: Callable[..., Any], options: dict[str, Any]) -> nn.Module:
    try:
        made = factory(**options)
    except (Exception, SystemExit) as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        given = f"of {options}"[:100] if options else "without arguments"
        raise ValueError(f"{name} failed when called {given}: {what}") from error
    if not isinstance(made, nn.Module):
        raise ValueError(f"{name} returned {type(made).__name__}; expected a torch.nn.Module")
    return made


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
        what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ValueError(f"the module {name} cannot be imported: {what}") from error


def _get_callable(module: ModuleType, attribute: str) -> Callable[[], Any]:
    found = getattr(module, attribute, None)
    if not callable(found):
        own = [n for n, value in vars(module).items() if callable(value) and n[:1] != "_"]
        lack = "is not callable" if found is not None else "does not exist"
        raise ValueError(f"{module.__name__}:{attribute} {lack}; {did_you_mean(attribute, own)}")
    return found


def _suggest_module(missing: str) -> str:
    """A hint among the modules beside the one that was not found."""
    package, _, last = missing.rpartition(".")
    beside = import_module(package).__path__ if package else [str(Path.cwd())]
    known = [found.name for found in iter_modules(beside)]
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
