"""Out-of-memory errors: recognize them, and name the option to lower."""

import re
from collections.abc import Mapping
from typing import Any

_OOM_MESSAGES = re.compile(
    r"can't allocate memory|not enough memory|out of memory|cannot allocate memory|bad_alloc"
    r"|unable to allocate|could not create a primitive$",  # the last is oneDNN's
    re.IGNORECASE,
)


class OutOfMemory(ValueError):
    """Memory ran out; the message names the option to lower."""


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether ``error``, or a cause of it, is an out-of-memory error of torch or Python."""
    visited: list[BaseException] = []
    while error is not None and error not in visited:
        visited.append(error)
        named = type(error).__name__ in ("MemoryError", "_ArrayMemoryError", "OutOfMemoryError")
        if named or (isinstance(error, RuntimeError) and _OOM_MESSAGES.search(str(error))):
            return True
        error = error.__cause__ or error.__context__
    return False


def describe_request(error: BaseException) -> str:
    """``, when 3.2 GiB more were wanted``, if the allocator's message has the size."""
    found = re.search(r"you tried to allocate (\d+) bytes", str(error))
    if found:
        return f", when {int(found[1]) / 2**30:.2g} GiB more were wanted"
    found = re.search(r"Tried to allocate (\d+(?:\.\d+)? [KMG]iB)", str(error))
    return f", when {found[1]} more were wanted" if found else ""


def suggest_option(values: Mapping[str, Any]) -> str:
    """What to write instead, by the options of the command."""
    if "plan" in values:
        return "write a smaller batch_size in the plan, or fewer --workers"
    if "batch_size" not in values:
        return "close other programs, or use a machine with more memory"
    size = values["batch_size"]
    if size == 0 and "write_every" in values:
        now = f"(now {values['write_every']})"
        return f"write a smaller --write-every {now}; --batch-size 0 takes them all at once"
    other = ""
    if "feature_batch_size" in values:
        other = f", or --feature-batch-size (now {values['feature_batch_size']})"
    if "grad_accum_steps" in values:
        other = ", or a larger --grad-accum-steps"
    return f"write a smaller --batch-size (now {'the default' if size is None else size}){other}"


def explain_out_of_memory(error: BaseException, values: Mapping[str, Any]) -> OutOfMemory:
    """The error to show instead of the allocator's."""
    return OutOfMemory(f"memory ran out{describe_request(error)}; {suggest_option(values)}")
