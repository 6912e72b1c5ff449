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

MAX_KNOWN_NAMES, MAX_NAME_LENGTH = (
    1000,
    100,
)  # words that one is compared with, and their characters
FOREIGN_NAMES = {  # words that other libraries write, and ours for the same
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


FOLDERS = {  # where the components of a kind lie
    "attacks": ("attacks", "attacks.external"),
    "datasets": ("data",),
    "networks": ("diffusion.networks", "classifiers.networks"),
    "purifiers": ("defenses.purifiers",),
    "samplers": ("diffusion.samplers",),
    "score_models": ("models.score_models",),
}
NO_COMPONENTS: dict[str, tuple[str, ...]] = {  # what serves the components beside it
    **dict.fromkeys(FOLDERS, ()),
    "datasets": ("label_table", "loading", "source", "zip_reader"),
    "networks": ("edm_blocks",),
}


class UnknownNameError(ValueError):
    """A word that names nothing that there is: whoever typed it mends it, nothing is broken."""


class UnknownOptionError(UnknownNameError, TypeError):
    """An option that a function does not take, as Python says it by a TypeError."""


def component_names(kind: str) -> list[str]:
    """The components of a kind that this package brings, e.g. ``component_names("attacks")``."""
    return sorted(_modules(kind))


def load_component(kind: str, name: str) -> ModuleType:
    """The module of a component; its own ones by file name, others by dotted name."""
    if "." in name and all(part.isidentifier() for part in name.split(".")):
        return import_module(name)
    if name not in component_names(kind):
        raise ValueError(
            f"no {short_repr(name)} in {kind}; {did_you_mean(name, component_names(kind))}"
        )
    return import_module(_modules(kind)[name])


def _modules(kind: str) -> dict[str, str]:
    """The dotted name of each component's module."""
    folders = [f"scoreag.{folder}" for folder in FOLDERS[kind]]
    found = {
        module.name: f"{folder}.{module.name}"
        for folder in folders
        for module in pkgutil.iter_modules(import_module(folder).__path__)
        if not module.ispkg
    }
    return {name: module for name, module in found.items() if name not in NO_COMPONENTS[kind]}


def check_options(factory: Any, options: dict[str, Any], owner: str) -> None:
    """Refuse an option that ``factory`` does not take, before an hour of work, not after."""
    known = list(signature(factory).parameters)
    for option in options:
        if option not in known:
            raise ValueError(f"{owner} takes no option {option!r}; {did_you_mean(option, known)}")


def did_you_mean(word: str, known: list[str]) -> str:
    """The end of an error message: the known word that was probably meant, or all of them."""
    ours = [name for name in FOREIGN_NAMES.get(word, ()) if name in known]
    words = (
        [] if word in FOREIGN_NAMES else [word[:MAX_NAME_LENGTH], word[:MAX_NAME_LENGTH].lower()]
    )
    some = [name for name in known[:MAX_KNOWN_NAMES] if len(name) <= MAX_NAME_LENGTH]
    near = (get_close_matches(each, some, n=1) for each in words)
    close = ours or next((found for found in near if found), [])
    return (
        f"did you mean {close[0]!r}?"
        if close
        else f"there are: {truncate_text(', '.join(known[:MAX_KNOWN_NAMES]), 300)}"
    )


def truncate_text(text: str, max_length: int) -> str:
    """One line of at most ``most`` characters, all of which can be printed; its end is kept."""
    ends = (
        text
        if len(text) <= 4 * max_length
        else f"{text[: 2 * max_length]} ... {text[-2 * max_length :]}"
    )
    line = " ".join(ends.split())
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    if len(plain) <= max_length:
        return plain
    tail = max_length // 3
    return f"{plain[: max_length - tail - 5]} ... {plain[len(plain) - tail :]}"


_REPR = Repr()
_REPR.maxlevel, _REPR.maxstring, _REPR.maxother, _REPR.maxlong = 3, 80, 80, 40
_REPR.maxdict = _REPR.maxlist = _REPR.maxtuple = _REPR.maxset = _REPR.maxfrozenset = 12


def short_repr(value: Any) -> str:
    """A value of a file as Python writes it, in at most a hundred characters, however large."""
    return truncate_text(_REPR.repr(value), 100)


def describe_value(thing: Any) -> str:
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
