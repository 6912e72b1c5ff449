"""The front door to models: a score model or a classifier, from a name, a folder, or an object."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from scoreag.cards import Card, card, cards
from scoreag.classifier_checks import check_classifier as check_classifier
from scoreag.classifiers import guarded, masked, robustbench
from scoreag.classifiers.given import Given, file_of, normalised, of_card, of_file, of_name
from scoreag.core.frozen import Frozen
from scoreag.core.prior import Prior
from scoreag.core.schedule import karras
from scoreag.datasets import nameless
from scoreag.foreign.checkpoint import convert
from scoreag.foreign.diffusers import is_folder
from scoreag.foreign.public import folder_of, known
from scoreag.load import UnknownName, described, load

DEVICES: dict[str, Callable[[], bool]] = {  # and whether there is one
    "cpu": lambda: True,
    "cuda": torch.cuda.is_available,
    "mps": torch.backends.mps.is_available,
}
KINDS_OF = {"cuda": "GPU", "mps": "GPU of Apple's"}
WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)  # which split a batch themselves


def load_prior(
    name: str | Path, device: str | torch.device = "auto", trust_code: bool = False
) -> Prior:
    """The score model of a name, of a folder with card.toml and weights, or of a checkpoint.

    Names are those of the zoo, and of public checkpoints, which are fetched on first use.

    Args:
        trust_code: whether code that the card names may be run; see SECURITY.md.

    Raises:
        ValueError: no such card, one of another kind, or a checkpoint that is not read; or the
            card names code, and it is not trusted.
        ConnectionError: a public checkpoint cannot be fetched.
    """
    _check_word(name, "a score model", "load_prior")
    file = Path(name)
    if (file.is_file() and file.suffix != ".toml") or is_folder(file):
        with TemporaryDirectory() as aside:
            convert(file, Path(aside) / file.stem)
            return load_prior(Path(aside) / file.stem, device)
    if str(name) in (public := known()):
        return load_prior(folder_of(public[str(name)]), device)
    found = _of_kind(name, "score-model", trust_code)
    place = device_of(device)
    model = _family(found)
    if torch.get_default_dtype() != torch.float32:  # whose layers were made in another precision
        model = model.to(torch.float32)
    return Prior(
        model=model.to(place).eval().requires_grad_(False),
        sampler=load("samplers", "heun").sample,
        sigmas=karras(18).to(place, torch.float32 if place.type == "mps" else torch.float64),
        image_shape=found.image_shape,
        classes=found.classes,
        sigma_data=found.sigma_data,
        defaults=found.defaults,
        origin=found.identity,
        judge=_judge_of(found),
    )


def _family(found: Card) -> nn.Module:
    """The network of a card, as its family is used."""
    model = load("score_models", found.family).load(found)
    if not isinstance(model, nn.Module):
        got = type(model).__name__
        raise ValueError(f"the family {found.family} returned {got}; expected a torch.nn.Module")
    return model


def _judge_of(found: Card) -> str:
    """The judge of a score model's card: a folder beside it, or a name of the zoo.

    Nothing else, as a function would be run because somebody's card says so.
    """
    beside = found.folder / str(found.judge or "")
    if not found.judge or found.judge in cards("classifier"):
        return found.judge or ""
    if not (beside / "card.toml").is_file():
        raise ValueError(
            f"the card of {found.name} names the judge {found.judge!r:.60}; expected a folder "
            f"beside the card, or one of {', '.join(cards('classifier'))}"
        )
    return str(beside)


def load_classifier(
    name: str | Path,
    device: str | torch.device = "auto",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    network: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    trust_code: bool = False,
) -> Frozen:
    """A classifier from images in [0, 1] to logits, by any of its names.

        "cifar10-resnet20", "models/mine"      a card's name, or its folder
        "package.module:factory"               a function that returns the module
        "robustbench:cifar10/Linf/NAME"        a model of RobustBench, where that is installed
        "net.pth", "net.safetensors"           a state dict; ``network`` and its ``arguments``
        "masked:cifar10-resnet20"              any of these, with its gradients hidden
        "unmasked:cifar10-resnet20"            the same, to an attacker who knows how
        "guarded:cifar10-resnet20,DETECTOR"    any of these, behind a detector of generated images

    Args:
        mean, std: as in ``classifier``; files do not know them, cards and RobustBench do.
        network: a file of ``scoreag.networks``, "timm:NAME", "torchvision:NAME", or
            "my_module:function".
        trust_code: whether code that a card names may be run; what ``name`` and ``network`` name
            is run in any case, since you wrote it.

    Raises:
        ValueError: there is none, it cannot be read, or its normalisation is said twice or not.
    """
    _check_word(name, "a classifier", "load_classifier")
    if not isinstance(network, str | None) or not isinstance(arguments, Mapping | None):
        raise ValueError(
            f"network is {described(network)} and its arguments are {described(arguments)}; "
            'expected a name and a table, e.g. "resnet" and {"depth": 20}'
        )
    place = device_of(device)
    found = normalised(_given(name, network, arguments, trust_code), str(name), mean, std)
    assert found.mean is not None and found.std is not None
    known = (found.mean, found.std, found.origin, found.image_shape)
    return classifier(found.module, *known).to(place)


def class_names(name: str | Path) -> tuple[str, ...]:
    """The names of a classifier's classes by number, as its card says; empty where nothing does."""
    bare = str(name)
    for prefix in (*masked.KINDS, guarded.PREFIX):
        bare = bare.removeprefix(prefix)
    bare = bare.partition(",")[0]
    try:
        if bare.startswith(robustbench.PREFIX):
            return getattr(load("datasets", robustbench.parts(bare)[0]), "CLASSES", ())
        known = () if file_of(bare) else card(bare, trust_code=True).classes  # it is only read
    except ValueError:  # of a factory, and of what is no classifier, which is told elsewhere
        return ()
    return () if nameless(known) else known


def _given(
    name: str | Path,
    network: str | None,
    arguments: Mapping[str, Any] | None,
    trust_code: bool,
) -> Given:
    if file := file_of(name):
        return of_file(file, network, arguments)
    if network or arguments:
        raise ValueError(f"{name} is no file of weights; leave out network and arguments")
    for prefix, kind in masked.KINDS.items():
        if str(name).startswith(prefix):
            return _masked(str(name), prefix, kind, trust_code)
    if str(name).startswith(guarded.PREFIX):
        return _guarded(str(name), trust_code)
    if ":" in str(name):
        return of_name(str(name))
    return of_card(_of_kind(name, "classifier", trust_code))


def _masked(
    name: str, prefix: str, kind: Callable[[nn.Module], nn.Module], trust_code: bool
) -> Given:
    """A classifier whose own name follows, with its gradients hidden, or with the trick known."""
    bare = load_classifier(name.removeprefix(prefix), "cpu", trust_code=trust_code)
    because = "a masked classifier is normalised as the one that it hides"
    origin = {**bare.origin, "name": name}
    module = kind(bare).eval()
    return Given(module, origin, (0.0,), (1.0,), because, bare.image_shape)


def _guarded(name: str, trust_code: bool) -> Given:
    """A classifier and a detector of two classes, each by its own name, as one that may reject."""
    word, guard = guarded.words(name)
    bare, detector = (load_classifier(each, "cpu", trust_code=trust_code) for each in (word, guard))
    shape = bare.image_shape or detector.image_shape
    if detector.image_shape and shape != detector.image_shape:
        raise ValueError(
            f"{name}: the classifier takes images of {shape} and the detector of "
            f"{detector.image_shape}; give a detector of the classifier's images"
        )
    if shape:
        guarded.check_detector(check_classifier(detector, torch.full((1, *shape), 0.5)), guard)
    because = "a guarded classifier is normalised as its parts are"
    origin = {"name": name, "classifier": bare.origin, "detector": detector.origin}
    module = guarded.Guarded(bare, detector).eval()
    return Given(module, origin, (0.0,), (1.0,), because, shape)


def classifier(
    module: nn.Module,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    origin: Mapping[str, Any] | None = None,
    image_shape: tuple[int, int, int] | None = None,
) -> Frozen:
    """Any module that returns logits, as a classifier of images in [0, 1].

    Args:
        mean, std: what the module expects its input to be normalised with, a number a channel;
            without them it sees [0, 1].
        origin: what a manifest says of it, e.g. its name and where it is from.
        image_shape: the (channels, height, width) that it was trained on, where that is known.

    Raises:
        ValueError: the module is in train mode, or the normalisation cannot be meant.
    """
    module = _module(module)
    if any(part.training for part in module.modules()):
        raise ValueError(
            f"the classifier {type(module).__name__} is in train mode, so its answers would "
            "change from call to call; call its .eval() first"
        )
    means, stds = _numbers(mean), _numbers(std)
    if not means or len(means) != len(stds) or not all(s > 0 for s in stds):
        raise ValueError(
            f"mean {described(mean)} and std {described(std)}: expected one number a channel, "
            "e.g. (0.5,), std above 0"
        )
    if not isinstance(origin, Mapping | None):
        raise ValueError(
            f"origin is {described(origin)}; expected a table, e.g. {{'name': 'mine'}}"
        )
    return Frozen(module, means, stds, origin, _shape(image_shape)).eval()


def _numbers(given: Any) -> tuple[float, ...]:
    """A number a channel, of a tuple, a tensor or an array; nothing where there are none."""
    try:
        return () if isinstance(given, str | bytes) else tuple(float(number) for number in given)
    except (TypeError, ValueError, RuntimeError):
        return ()


def _shape(given: Any) -> tuple[int, int, int] | None:
    if given is None:
        return None
    if not isinstance(given, Sequence) or [type(size) for size in given] != [int] * 3:
        raise ValueError(
            f"image_shape is {described(given)}; expected (channels, height, width), or None"
        )
    return given[0], given[1], given[2]


def _module(given: Any) -> nn.Module:
    """What was given as a module, without what splits its batch over devices.

    Raises:
        ValueError: it is something else; says which function is meant.
    """
    if isinstance(given, str | Path):
        raise ValueError(
            f"the module is {str(given)!r:.60}, a name; write scoreag.load_classifier(...) for a "
            "name, a folder or a file"
        )
    if isinstance(given, Prior):
        raise ValueError("the module is a score model, a Prior; give a classifier, a torch module")
    while isinstance(given, WRAPPERS):
        given = given.module
    if not isinstance(given, nn.Module):
        more = "an instance of it" if isinstance(given, type) else "a torch.nn.Module"
        function = not isinstance(given, type) and callable(given)
        fix = "; tasks, attacks and defend take a function as it is" if function else ""
        raise ValueError(f"the module is {described(given)}; expected {more}{fix}")
    return given


def _check_word(name: Any, what: str, function: str) -> None:
    """Refuse what is no name and no path."""
    if isinstance(name, str | Path):
        return
    if isinstance(name, Prior | Frozen):
        raise ValueError(f"{function} was given {described(name)}, which is loaded already; use it")
    fix = "; for a module write scoreag.classifier(module, mean, std)"
    raise ValueError(
        f"{function} was given {described(name)}; expected the name or the path of {what}"
        + (fix if callable(name) and function == "load_classifier" else "")
    )


def device_of(name: str | torch.device) -> torch.device:
    """``auto`` is the GPU where there is one."""
    name = str(name) if isinstance(name, torch.device) else name
    if not isinstance(name, str):
        raise UnknownName(f"the device is {described(name)}; write auto, cpu, cuda, or cuda:0")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.split(":")[0] not in DEVICES:
        raise UnknownName(f"no device {name!r}; there are: auto, {', '.join(DEVICES)}")
    try:
        found = torch.device(name)
    except RuntimeError as error:
        raise UnknownName(f"no device {name!r}; write auto, cpu, cuda, or cuda:0") from error
    if found.type != "cpu" and not DEVICES[found.type]():
        raise ValueError(
            f"device {name!r}, but torch sees no {KINDS_OF[found.type]} here; write --device cpu"
        )
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"no device {name!r}; torch sees {torch.cuda.device_count()} GPUs here")
    return found


def _of_kind(name: str | Path, kind: str, trust_code: bool) -> Card:
    found = card(name, trust_code)
    if found.kind != kind:
        raise ValueError(f"{name} is a {found.kind}, and a {kind} is wanted here")
    return found
