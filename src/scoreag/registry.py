"""Components by name, and the right word for a wrong one.

A component is a file: ``load_component("attacks", "pgd")`` imports attacks/pgd.py.  There is no
list to keep in step with the files, but for data sets, of which a file may hold several.
``package.module`` names a foreign component.
"""

import pkgutil
from difflib import get_close_matches
from importlib import import_module
from inspect import signature
from reprlib import Repr
from typing import Any

MAX_KNOWN_NAMES = 1000  # that a word is compared with
MAX_NAME_LENGTH = 100  # characters
FOREIGN_NAMES = {  # words of other libraries and of version 0.1, and ours for the same
    **dict.fromkeys(
        ("epsilon", "eps", "max_eps", "epsilons", "radius", "bound"),
        ("eps", "max_displacement", "similarity"),
    ),
    "reach": ("max_displacement", "eps"),
    **dict.fromkeys(
        ("n_iter", "nb_iter", "num_steps", "n_steps", "max_iter", "iterations", "iters",
         "num_inference_steps", "nfe"),
        ("steps", "n_queries"),
    ),
    **dict.fromkeys(
        ("alpha", "eps_step", "eps_iter", "stepsize", "rel_stepsize", "abs_stepsize", "lr"),
        ("step_size",),
    ),
    **dict.fromkeys(
        ("n_restarts", "num_restarts", "num_random_init", "random_start", "random_starts",
         "retries"),
        ("restarts", "max_restarts"),
    ),
    **dict.fromkeys(("eot_iter", "eot", "n_samples", "n_draws", "num_draws", "votes"),
                    ("eot_samples", "draws")),
    **dict.fromkeys(("draws",), ("eot_samples",)),
    **dict.fromkeys(("eot_samples",), ("draws",)),
    **dict.fromkeys(("queries", "max_queries", "nqueries"), ("n_queries",)),
    **dict.fromkeys(("num_targets",), ("n_target_classes",)),
    **dict.fromkeys(("p", "ord", "lp_norm", "p_norm"), ("norm",)),
    **dict.fromkeys(("share", "p_init"), ("p_init", "frequency_fraction")),
    **dict.fromkeys(("weights",), ("eot_weighting",)),
    **dict.fromkeys(("keep",), ("return_iterate",)),
    **dict.fromkeys(
        ("wrong", "targets", "target_labels", "targeted", "target_class", "y_target", "aim"),
        ("target", "n_target_classes"),
    ),
    **dict.fromkeys(("target",), ("n_target_classes",)),
    **dict.fromkeys(("micro_batch", "batchsize", "bs", "batch", "batch_size"),
                    ("batch_size", "max_memory")),
    **dict.fromkeys(("ids", "image_id", "indices"), ("image_ids",)),
    **dict.fromkeys(("random_seed", "rng", "generator", "random_state"), ("seed",)),
    **dict.fromkeys(("verbose", "disable_progress_bar", "quiet"), ("progress",)),
    **dict.fromkeys(("guidance_scale", "s_y", "scale", "strength"), ("attack_scale",)),
    **dict.fromkeys(("s_x", "precision"), ("similarity",)),
    **dict.fromkeys(("scheduler", "solver"), ("sampler",)),
    **dict.fromkeys(("sigma", "sigma_max", "t_start", "noise_level", "start"), ("sigma_start",)),
    **dict.fromkeys(("loss_fn", "loss_type", "criterion", "guidance"), ("loss", "attack_loss")),
    **dict.fromkeys(("gradient",), ("jacobian",)),
    **dict.fromkeys(("estimate",), ("x0_estimate",)),
    **dict.fromkeys(("interval",), ("attack_interval",)),
    **dict.fromkeys(("variance",), ("likelihood_variance",)),
    **dict.fromkeys(("normalized",), ("normalize_gradient",)),
    **dict.fromkeys(("stop",), ("stop_margin", "early_stop_draws")),
    **dict.fromkeys(("vote",), ("aggregate",)),
    **dict.fromkeys(("model", "score_model", "diffusion"), ("prior",)),
    **dict.fromkeys(("mean_std", "normalization", "preprocessing"), ("mean",)),
    **dict.fromkeys(("settings", "sampling"), ("config",)),
    # values
    **dict.fromkeys(("second", "second_best", "least_likely"), ("runner_up",)),
    **dict.fromkeys(("straight", "mpgd"), ("identity",)),
    **dict.fromkeys(("symmetric",), ("finite_difference",)),
    **dict.fromkeys(("blind",), ("none",)),
    **dict.fromkeys(("dps",), ("constant",)),
    **dict.fromkeys(("pigdm",), ("damped",)),
    **dict.fromkeys(("mmps",), ("exact",)),
    **dict.fromkeys(("churn", "edm", "stochastic"), ("edm_stochastic",)),
    **dict.fromkeys(("dpmpp", "dpm++", "dpm_solver", "dpmsolver++"), ("dpmpp_2m",)),
    **dict.fromkeys(("ddpm",), ("ancestral",)),
    **dict.fromkeys(("ddim",), ("euler",)),
    **dict.fromkeys(("spatial",), ("stadv",)),
    **dict.fromkeys(("ensemble", "aa"), ("auto_ensemble", "autoattack")),
    **dict.fromkeys(("denoise_once", "denoised_smoothing"), ("one_step_denoising",)),
    **dict.fromkeys(("plain_cnn",), ("small_cnn",)),
    **dict.fromkeys(("resnet", "resnet20"), ("cifar_resnet",)),
    **dict.fromkeys(("whitened_cnn", "airbench"), ("airbench_cnn",)),
    **dict.fromkeys(("linf", "inf", "max"), ("Linf",)),
    **dict.fromkeys(("l2", "2"), ("L2",)),
    "resnet": ("cifar_resnet",), "plain_cnn": ("small_cnn",), "whitened_cnn": ("airbench_cnn",),
}  # fmt: skip


FOLDERS = {  # where the components of a kind lie
    "attacks": ("attacks", "attacks.external"),
    "networks": ("diffusion.networks", "classifiers.networks"),
    "purifiers": ("defenses.purifiers",),
    "samplers": ("diffusion.samplers",),
}
NO_COMPONENTS: dict[str, tuple[str, ...]] = {  # what serves the components beside it
    **dict.fromkeys(FOLDERS, ()),
    "networks": ("edm_blocks",),
}
DATASETS = {  # the module of each, its name in it, and a description
    "cifar10": (
        "cifar", "CIFAR10", "CIFAR-10: the official files, binary or python, downloaded if missing",
    ),
    "cifar100": (
        "cifar", "CIFAR100",
        "CIFAR-100, 100 fine or 20 coarse classes: the official files, downloaded if missing",
    ),
    "fashion-mnist": (
        "fashion_mnist", "FASHION_MNIST",
        "Fashion-MNIST, 28 x 28 gray, 10 classes: the official files, or 40 bundled test images",
    ),
    "foolbox-samples": (
        "cifar", "FOOLBOX_SAMPLES",
        "the 20 CIFAR-10 images in the package foolbox: the first of the test split",
    ),
    "image-folder": (
        "image_folder", "IMAGE_FOLDER",
        "a folder of pictures, labeled by class folders or by a labels.csv",
    ),
    "npz": ("npz", "NPZ", "arrays in an .npz file: images, and optionally labels and classes"),
    "run-dir": (
        "image_folder", "RUN_DIR", "the images of a run of ScoreAG, with their ids and labels",
    ),
    "single-image": ("image_folder", "SINGLE_IMAGE", "a picture; resized only with --size"),
    "tiny-imagenet": (
        "tiny_imagenet", "TINY_IMAGENET",
        "Tiny ImageNet, 200 classes, 64 x 64: the official zip as it is, or unpacked",
    ),
}  # fmt: skip


class UnknownNameError(ValueError):
    """A word that names nothing: a slip of whoever typed it."""


class UnknownOptionError(UnknownNameError, TypeError):
    """An option that a function does not take, which Python answers with a TypeError."""


def component_names(kind: str) -> list[str]:
    """The components of a kind that this package brings, e.g. ``component_names("attacks")``."""
    return sorted(DATASETS if kind == "datasets" else _modules(kind))


def load_component(kind: str, name: str) -> Any:
    """The module of a component, by file name or dotted name; of a data set, its object."""
    if "." in name and all(part.isidentifier() for part in name.split(".")):
        return import_module(name)
    if name not in component_names(kind):
        raise ValueError(
            f"no {short_repr(name)} in {kind}; {did_you_mean(name, component_names(kind))}"
        )
    if kind == "datasets":
        module, symbol, _ = DATASETS[name]
        return getattr(import_module(f"scoreag.data.{module}"), symbol)
    return import_module(_modules(kind)[name])


def load_attack(name: str) -> Any:
    """The attack class of a component: the one public class with ``run`` in its module."""
    module = load_component("attacks", name)
    classes = [
        each
        for symbol, each in vars(module).items()
        if isinstance(each, type) and each.__module__ == module.__name__
        if callable(getattr(each, "run", None)) and not symbol.startswith("_")
    ]
    if len(classes) != 1:
        raise ValueError(
            f"{name} defines {len(classes)} attacks; expected one public class derived from "
            "scoreag.attacks.Attack, with run(classifier, images, labels, noise)"
        )
    return classes[0]


def _modules(kind: str) -> dict[str, str]:
    """The dotted name of each component's module."""
    folders = [f"scoreag.{folder}" for folder in FOLDERS[kind]]
    modules = {
        module.name: f"{folder}.{module.name}"
        for folder in folders
        for module in pkgutil.iter_modules(import_module(folder).__path__)
        if not module.ispkg
    }
    return {name: module for name, module in modules.items() if name not in NO_COMPONENTS[kind]}


def check_options(factory: Any, options: dict[str, Any], owner: str) -> None:
    """Refuse an option that ``factory`` does not take, before an hour of work, not after."""
    known = list(signature(factory).parameters)
    for option in options:
        if option not in known:
            raise ValueError(f"{owner} takes no option {option!r}; {did_you_mean(option, known)}")


def did_you_mean(word: str, known: list[str]) -> str:
    """The end of an error message: the known word that was probably meant, or all of them."""
    ours = [name for name in FOREIGN_NAMES.get(word, ()) if name in known]
    some = [name for name in known[:MAX_KNOWN_NAMES] if len(name) <= MAX_NAME_LENGTH]
    lower, word = {name.lower(): name for name in reversed(some)}, word[:MAX_NAME_LENGTH]
    close = ours
    if not close and word not in FOREIGN_NAMES:
        near = [lower[name] for name in get_close_matches(word.lower(), lower, n=1)]
        close = get_close_matches(word, some, n=1) or near
    return (
        f"did you mean {close[0]!r}?"
        if close
        else f"there are: {truncate_text(', '.join(known[:MAX_KNOWN_NAMES]), 300)}"
    )


def truncate_text(text: str, max_length: int) -> str:
    """One printable line of at most ``max_length`` characters, its end included."""
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
