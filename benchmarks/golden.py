"""Golden results: small numbers of every part, before and after a change that must not touch them.

    python benchmarks/golden.py --out FOLDER                 compute, and write FOLDER/golden.npz
    python benchmarks/golden.py --against FOLDER/golden.npz  compute again, and compare every bit

golden.toml says what is asked for, and how the library's words have changed since; its lines are
the names of the results.  golden_calls.py has all calls into the library.  The bits are those of
one machine and one version of torch.  --only KIND ... looks at some kinds of results.
"""

import argparse
import contextlib
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np
import torch
from golden_calls import CALLS, FIXED
from golden_words import TABLE, lines, options, parts

from scoreag.registry import component_names

Arrays: TypeAlias = dict[str, np.ndarray]

FOREIGN = ("art", "autoattack", "foolbox", "torchattacks")  # attacks that need a package: its name
KINDS = {"attacks": "attacks", "purifiers": "defend", "samplers": ""}  # of components: of lines


def results(only: Sequence[str] = ()) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Each result's name, and what computes it."""
    yield from ((name, make) for name, make in FIXED.items() if not only or name in only)
    for kind, line in lines():
        if only and kind not in only:
            continue
        if kind == "attacks" and (package := line.split()[0]) in FOREIGN and not find_spec(package):
            print(f"skipped: {kind}/{line}: the package {package} is not installed", flush=True)
            continue
        given = options(kind, TABLE["usual"].get(kind, "")) | options(kind, line)
        yield f"{kind}/{line}", partial(CALLS[kind], *parts(kind, line), **given)


def computed(only: Sequence[str] = ()) -> Arrays:
    """All results as arrays, by name; one that fails is told and left out."""
    found: Arrays = {}
    seconds: dict[str, float] = {}
    for name, make in results(only):
        began, kind = time.perf_counter(), name.partition("/")[0]
        try:
            found |= arrays(name, make())
        except Exception as error:  # whatever a change may break
            print(f"failed: {name}: {type(error).__name__}: {error}", flush=True)
        seconds[kind] = seconds.get(kind, 0) + time.perf_counter() - began
    print("seconds:", ", ".join(f"{kind} {took:.0f}" for kind, took in seconds.items()))
    return found


def arrays(name: str, value: Any) -> Arrays:
    """A value as arrays, each under the name of its place in it; None is left out."""
    if isinstance(value, list) and not all(isinstance(each, int | float) for each in value):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        parts = [arrays(f"{name}/{key}", each) for key, each in value.items()]
        return {key: array for part in parts for key, array in part.items()}
    if isinstance(value, torch.Tensor):
        value = value.detach().contiguous()
    return {} if value is None else {name: np.asarray(value)}


def differences(before: Arrays, after: Arrays) -> Iterator[str]:
    """A line for each name that is not the same on both sides, to the last bit."""
    for name in sorted({*before, *after}):
        if name not in before or name not in after:
            yield f"missing {'after' if name in before else 'before'}: {name}"
        elif (how := _differ(before[name], after[name])) is not None:
            yield f"differs: {name}: {how}"


def _differ(a: np.ndarray, b: np.ndarray) -> str | None:
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return f"{a.dtype} {a.shape}, now {b.dtype} {b.shape}"
    if a.tobytes() == b.tobytes():
        return None
    changed = (a != b) & ~((a != a) & (b != b))
    largest = np.abs(b.astype(np.float64) - a.astype(np.float64)).max()
    return f"{changed.sum()} of {a.size} numbers, by up to {largest:.3g}"


def uncovered() -> Iterator[str]:
    """Components that the library has, and no line asks for."""
    for kind, of in KINDS.items():
        asked = [(each, line) for each, line in lines() if not of or each == of]
        said = {w for each, line in asked for w in parts(each, line)}
        said |= {v for each, line in asked for v in options(each, line).values() if type(v) is str}
        yield from (f"{kind}/{name}" for name in component_names(kind) if name not in said)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=Path, help="folder for golden.npz")
    where.add_argument("--against", type=Path, help="golden.npz of before")
    parser.add_argument("--only", nargs="+", default=[], help="kinds, such as transform")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    before = dict(np.load(args.against)) if args.against else {}
    out = args.out.resolve() if args.out else None
    with TemporaryDirectory() as folder, contextlib.chdir(folder):  # for what commands leave
        after = computed(args.only)
    for name in uncovered():
        print(f"no line asks for {name}")
    if out:
        out.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(out / "golden.npz", **after)
        print(f"{len(after)} results in {out / 'golden.npz'}")
        return 0
    if args.only:
        before = {name: a for name, a in before.items() if name.partition("/")[0] in args.only}
    told = list(differences(before, after))
    print("\n".join(told) or f"{len(after)} results, all bit-identical")
    return bool(told)


if __name__ == "__main__":
    sys.exit(main())
