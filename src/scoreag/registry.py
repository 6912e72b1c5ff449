"""Components by name, and error messages that suggest the right name.

A component is a file: ``load_component("attacks", "pgd")`` imports attacks/pgd.py.  There is no
list to keep in step with the files, but for data sets, of which a file may hold several.
``package.module`` names a foreign component.
"""

import pkgutil
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from reprlib import Repr
from typing import Any

MAX_KNOWN_NAMES = 1000  # that a name is compared with
MAX_NAME_LENGTH = 100  # characters
_FOREIGN = [  # our names, and the same in other libraries and in version 0.1
    ("eps max_displacement similarity", "epsilon eps max_eps epsilons radius bound"),
    ("max_displacement eps", "reach"),
    ("steps n_queries", "n_iter nb_iter num_steps n_steps max_iter iterations iters nfe "
     "num_inference_steps"),
    ("step_size", "alpha eps_step eps_iter stepsize rel_stepsize abs_stepsize lr"),
    ("restarts max_restarts", "n_restarts num_restarts num_random_init random_start random_starts "
     "retries"),
    ("eot_samples draws", "eot_iter eot n_samples n_draws num_draws votes"),
    ("eot_samples", "draws"), ("draws", "eot_samples"),
    ("n_queries", "queries max_queries nqueries"),
    ("n_target_classes", "num_targets target"),
    ("norm", "p ord lp_norm p_norm"),
    ("p_init frequency_fraction", "share p_init"),
    ("eot_weighting", "weights"), ("return_iterate", "keep"),
    ("target n_target_classes", "wrong targets target_labels targeted target_class y_target aim"),
    ("batch_size max_memory", "micro_batch batchsize bs batch batch_size"),
    ("image_ids", "ids image_id indices"),
    ("seed", "random_seed rng generator random_state"),
    ("progress", "verbose disable_progress_bar quiet"),
    ("attack_scale", "guidance_scale s_y scale strength"),
    ("similarity", "s_x precision"), ("sampler", "scheduler solver"),
    ("sigma_start", "sigma sigma_max t_start noise_level start"),
    ("loss attack_loss", "loss_fn loss_type criterion guidance"),
    ("jacobian", "gradient"), ("x0_estimate", "estimate"), ("attack_interval", "interval"),
    ("likelihood_variance", "variance"), ("normalize_gradient", "normalized"),
    ("stop_margin early_stop_draws", "stop"), ("aggregate", "vote"),
    ("prior", "model score_model diffusion"), ("mean", "mean_std normalization preprocessing"),
    ("config", "settings sampling"),
    # values
    ("runner_up", "second second_best least_likely"), ("identity", "straight mpgd"),
    ("finite_difference", "symmetric"), ("none", "blind"), ("constant", "dps"),
    ("damped", "pigdm"), ("exact", "mmps"), ("edm_stochastic", "churn edm stochastic"),
    ("dpmpp_2m", "dpmpp dpm++ dpm_solver dpmsolver++"), ("ancestral", "ddpm"), ("euler", "ddim"),
    ("stadv", "spatial"), ("auto_ensemble autoattack", "ensemble aa"),
    ("one_step_denoising", "denoise_once denoised_smoothing"), ("small_cnn", "plain_cnn"),
    ("cifar_resnet", "resnet resnet20"), ("airbench_cnn", "whitened_cnn airbench"),
    ("Linf", "linf inf max"), ("L2", "l2 2"),
]  # fmt: skip
FOREIGN_NAMES = {word: (*ours.split(),) for ours, words in _FOREIGN for word in words.split()}
FOLDERS = {  # of the components of a kind
    "attacks": ("attacks", "attacks.external"),
    "networks": ("diffusion.networks", "classifiers.networks"),
    "purifiers": ("defenses.purifiers",),
    "samplers": ("diffusion.samplers",),
}
NO_COMPONENTS: dict[str, tuple[str, ...]] = {  # other modules in these folders
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
    "edm-dataset": (
        "edm_dataset", "EDM_DATASET",
        "a zip or folder of EDM's dataset_tool.py: pictures, labeled by dataset.json",
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
    "npz": ("npz", "NPZ", "arrays: .npz with images, labels and classes, or .npy with images"),
    "parquet": (
        "shards", "PARQUET", "a Parquet table, or a folder of these: columns image and label",
    ),
    "run-dir": (
        "image_folder", "RUN_DIR", "the images of a run of ScoreAG, with their ids and labels",
    ),
    "single-image": ("image_folder", "SINGLE_IMAGE", "a picture; resized only with --size"),
    "tiny-imagenet": (
        "tiny_imagenet", "TINY_IMAGENET",
        "Tiny ImageNet, 200 classes, 64 x 64: the official zip as it is, or unpacked",
    ),
    "webdataset": (
        "shards", "WEBDATASET",
        "WebDataset: a tar archive, or a folder of these: 000123.png with 000123.cls or .json",
    ),
}  # fmt: skip


class UnknownNameError(ValueError):
    """A name that does not exist, such as a typing error."""


class UnknownOptionError(UnknownNameError, TypeError):
    """An option that a function does not take; Python raises a TypeError for these."""


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


def class_lists() -> dict[str, list[str]]:
    """The names of classes by number, of each data set that has a fixed list, and of ImageNet."""
    lists = {name: getattr(load_component("datasets", name), "CLASSES", ()) for name in DATASETS}
    lists["imagenet"] = import_module("scoreag.data.imagenet").CLASSES
    return {name: list(classes) for name, classes in lists.items() if classes}


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
    modules = {}
    for folder in FOLDERS[kind]:
        package = find_spec(f"scoreag.{folder}")  # without importing it
        assert package is not None
        for module in pkgutil.iter_modules(package.submodule_search_locations):
            if not module.ispkg and not module.name.startswith("_"):
                modules[module.name] = f"scoreag.{folder}.{module.name}"
    return {name: module for name, module in modules.items() if name not in NO_COMPONENTS[kind]}


def check_options(factory: Any, options: dict[str, Any], owner: str) -> None:
    """Refuse an option that ``factory`` does not take."""
    known = list(signature(factory).parameters)
    for option in options:
        if option not in known:
            raise ValueError(f"{owner} takes no option {option!r}; {did_you_mean(option, known)}")


def did_you_mean(word: str, known: list[str]) -> str:
    """The end of an error message: the name that was probably meant, or all known names."""
    ours = [name for name in FOREIGN_NAMES.get(word, ()) if name in known]
    candidates = [name for name in known[:MAX_KNOWN_NAMES] if len(name) <= MAX_NAME_LENGTH]
    lower = {name.lower(): name for name in reversed(candidates)}
    if not ours and word not in FOREIGN_NAMES:
        word = word[:MAX_NAME_LENGTH]
        close = get_close_matches(word.lower(), lower, n=1)
        ours = get_close_matches(word, candidates, n=1) or [lower[name] for name in close]
    if ours:
        return f"did you mean {ours[0]!r}?"
    return f"there are: {truncate_text(', '.join(known[:MAX_KNOWN_NAMES]), 300)}"


def no_such_class(name: str, known: Sequence[str]) -> str:
    """The end of an error message: that there is no such class, and the one that is near."""
    return f"no class {short_repr(name)}; {did_you_mean(name, list(known))}"


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
    """The ``repr`` of a value, in at most 100 characters."""
    return truncate_text(_REPR.repr(value), 100)


def describe_value(thing: Any) -> str:
    """A short description of an argument for an error message."""
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
