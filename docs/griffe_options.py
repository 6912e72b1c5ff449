"""The lists of options that decorators write into docstrings, for the generated reference."""

from importlib import import_module
from inspect import getdoc
from typing import Any

from griffe import Extension, Function

PLACEHOLDER = "{options}"


class FilledDocstrings(Extension):
    """Takes the docstring of the imported function where the source has a placeholder."""

    def on_function_instance(self, *, func: Function, **_: Any) -> None:
        if func.docstring and PLACEHOLDER in func.docstring.value:
            imported = getattr(import_module(func.module.path), func.name)
            func.docstring.value = getdoc(imported) or ""
