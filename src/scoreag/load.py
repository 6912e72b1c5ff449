"""Components by name.  A component is a file: ``load("attacks", "pgd")`` imports attacks/pgd.py.

There is no list to keep in step with the files, and ``package.module`` names a foreign component.
"""

import pkgutil
from difflib import get_close_matches
from importlib import import_module
from inspect import signature
from reprlib import Repr
from types import ModuleType
from typing import Any

MANY, LONG = 1000, 100  # words that one is compared with, and their characters
OF_OTHERS = {  # words that other libraries write, and ours for the same
    **dict.fromkeys(
        ("eps", "max_eps", "epsilons", "radius"), ("epsilon", "bound", "reach", "precision")
    ),
    **dict.fromkeys(
        ("n_iter", "nb_iter", "num_steps", "n_steps", "max_iter", "iterations", "iters",
         "num_inference_steps", "nfe"),
        ("steps", "queries"),
    ),
    **dict.fromkeys(
        ("alpha", "eps_step", "eps_iter", "stepsize", "rel_stepsize", "abs_stepsize", "lr"),
        ("step_size",),
    ),
    **dict.fromkeys(
        ("n_restarts", "num_restarts", "num_random_init", "random_start", "random_starts"),
        ("restarts", "retries"),
    ),
    **dict.fromkeys(("eot_iter", "eot_samples", "eot", "n_samples"), ("draws",)),
    **dict.fromkeys(("n_queries", "max_queries", "nqueries"), ("queries",)),
    **dict.fromkeys(("n_target_classes", "num_targets"), ("targets",)),
    **dict.fromkeys(("p", "ord", "lp_norm", "p_norm"), ("norm",)),
    **dict.fromkeys(("p_init",), ("share",)),
    **dict.fromkeys(
        ("target", "targeted", "target_class", "y_target", "aim"), ("wrong", "targets")
    ),
    **dict.fromkeys(("targets", "target_labels"), ("wrong",)),
    **dict.fromkeys(("batch_size", "batchsize", "bs", "batch"), ("micro_batch", "max_memory")),
    **dict.fromkeys(("ids", "image_id", "indices"), ("image_ids",)),
    **dict.fromkeys(("random_seed", "rng", "generator", "random_state"), ("seed",)),
    **dict.fromkeys(("verbose", "disable_progress_bar", "quiet"), ("progress",)),
    **dict.fromkeys(("guidance_scale", "s_y", "scale", "attack_scale"), ("strength",)),
    **dict.fromkeys(("s_x", "similarity"), ("precision",)),
    **dict.fromkeys(("scheduler", "solver"), ("sampler",)),
    **dict.fromkeys(("sigma", "sigma_max", "t_start", "noise_level"), ("start",)),
    **dict.fromkeys(("loss_fn", "loss_type", "criterion"), ("loss", "guidance")),
    **dict.fromkeys(("n_draws", "num_draws", "votes"), ("draws",)),
    **dict.fromkeys(("model", "score_model", "diffusion"), ("prior",)),
    **dict.fromkeys(("mean_std", "normalization", "preprocessing"), ("mean",)),
}  # fmt: skip


class UnknownName(ValueError):
    """A word that names nothing that there is: whoever typed it mends it, nothing is broken."""


class UnknownOption(UnknownName, TypeError):
    """An option that a function does not take, as Python says it by a TypeError."""


def names(kind: str) -> list[str]:
    """The components of a kind that this package brings, e.g. ``names("attacks")``."""
    return sorted(m.name for m in pkgutil.iter_modules(import_module(f"scoreag.{kind}").__path__))


def load(kind: str, name: str) -> ModuleType:
    """The module of a component; its own ones by file name, others by dotted name."""
    if "." in name and all(part.isidentifier() for part in name.split(".")):
        return import_module(name)
    if name not in names(kind):
        raise ValueError(f"no {shown(name)} in {kind}; {hint(name, names(kind))}")
    return import_module(f"scoreag.{kind}.{name}")


def check_options(factory: Any, options: dict[str, Any], what: str) -> None:
    """Refuse an option that ``factory`` does not take, before an hour of work, not after."""
    known = list(signature(factory).parameters)
    for option in options:
        if option not in known:
            raise ValueError(f"{what} takes no option {option!r}; {hint(option, known)}")


def hint(word: str, known: list[str]) -> str:
    """The end of an error message: the known word that was probably meant, or all of them."""
    ours = [name for name in OF_OTHERS.get(word, ()) if name in known]
    words = [] if word in OF_OTHERS else [word[:LONG], word[:LONG].lower()]
    some = [name for name in known[:MANY] if len(name) <= LONG]
    near = (get_close_matches(each, some, n=1) for each in words)
    close = ours or next((found for found in near if found), [])
    return (
        f"did you mean {close[0]!r}?"
        if close
        else f"there are: {cut(', '.join(known[:MANY]), 300)}"
    )


def cut(text: str, most: int) -> str:
    """One line of at most ``most`` characters, all of which can be printed; its end is kept."""
    ends = text if len(text) <= 4 * most else f"{text[: 2 * most]} ... {text[-2 * most :]}"
    line = " ".join(ends.split())
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    if len(plain) <= most:
        return plain
    tail = most // 3
    return f"{plain[: most - tail - 5]} ... {plain[len(plain) - tail :]}"


_SHOWN = Repr()
_SHOWN.maxlevel, _SHOWN.maxstring, _SHOWN.maxother, _SHOWN.maxlong = 3, 80, 80, 40
_SHOWN.maxdict = _SHOWN.maxlist = _SHOWN.maxtuple = _SHOWN.maxset = _SHOWN.maxfrozenset = 12


def shown(value: Any) -> str:
    """A value of a file as Python writes it, in at most a hundred characters, however large."""
    return cut(_SHOWN.repr(value), 100)


def described(thing: Any) -> str:
    """What somebody gave, in a few words that fit into one line."""
    if isinstance(thing, str | bytes | int | float | complex | list | tuple | dict | None):
        return " ".join(repr(thing).split())[:60]
    if isinstance(thing, type):
        return f"the class {thing.__name__}"
    name = getattr(thing, "__name__", "")
    if callable(thing) and name:
        return f"the function {name}"
    shape = getattr(thing, "shape", None)
    kind = type(thing).__name__
    article = "an" if kind[:1].lower() in "aeiou" else "a"
    return f"{article} {kind}" + (f" of the shape {tuple(shape)}" if shape is not None else "")
