"""Attacks of other libraries as ours: one image at a time, with randomness of that image's own.

They draw from the global sources of torch, numpy and Python. For each image these are seeded with
a function of its id, and afterwards set back to where they were. What they warn of is their own
code, and is not shown.
"""

import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scoreag.core import philox
from scoreag.core.batching import select_rows
from scoreag.core.rng import Noise, derive_key, keys_to_words
from scoreag.core.types import Classifier, Images, Labels, Logits
from scoreag.registry import did_you_mean


class ClassifierModule(nn.Module):
    """A classifier as other libraries want it: a module in eval mode, on the images' device.

    What they do to a module's mode they do to this one; the classifier inside is not registered.
    """

    def __init__(self, classifier: Classifier, like: Images) -> None:
        super().__init__()
        self._classifier = (classifier,)  # in a tuple: a module in it stays its owner's
        self.device_anchor = nn.Parameter(like.new_zeros(1), requires_grad=False)
        self.eval()

    def forward(self, images: Images) -> Logits:
        return self._classifier[0](images)


def run_per_image(
    run: Callable[[ClassifierModule, Images, Labels, int], Tensor],
    classifier: Classifier,
    images: Images,
    labels: Labels,
    noise: Noise,
) -> Images:
    """The result of ``run(module, image, label, seed)`` for each image, in [0, 1].

    ``seed`` has 31 bits, for a library that seeds its numbers itself and takes no more.
    """
    found = []
    for i, image_id in enumerate(noise.image_ids):
        words = keys_to_words([derive_key(noise.seed, image_id, noise.name, "borrowed")])[0]
        module = ClassifierModule(select_rows(classifier, [i]), images)
        with temporary_seed(words), torch.enable_grad(), warnings.catch_warnings(action="ignore"):
            image = run(module, images[i : i + 1].clone(), labels[i : i + 1], int(words[0] >> 1))
        found.append(torch.as_tensor(image).detach().to(images).clamp(0, 1))
    return torch.cat(found) if found else images


@contextmanager
def temporary_seed(words: Tensor) -> Iterator[None]:
    """The global random numbers of torch, numpy and Python follow from a key, for a while.

    ``torch.manual_seed`` keeps 32 bits of a seed, so all 19,968 of its state are set instead.
    """
    numbers = words.tolist()
    legacy, plain = np.random.get_state(), random.getstate()
    with torch.random.fork_rng():
        try:
            torch.manual_seed(numbers[0])  # of all devices
            torch.set_rng_state(_mt19937_state(words))
            np.random.seed(numbers)
            random.seed(repr(numbers))
            yield
        finally:
            np.random.set_state(legacy)
            random.setstate(plain)


def _mt19937_state(words: Tensor) -> Tensor:
    """A state of torch's generator on the CPU whose 624 words follow from a key."""
    state = torch.Generator().manual_seed(0).get_state()
    inside = state[:5016].view(torch.int64)  # seed, how many are left, the next one, the words
    inside[3:627] = philox.random_words(words[None], 624)[0]
    return state


def require_package(module: str, package: str) -> ModuleType:
    """A module of another library.

    Raises:
        ValueError: it is not installed, and how it is.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of what it uses that is deprecated
            return import_module(module)
    except ImportError as error:
        raise ValueError(
            f"{module.partition('.')[0]} cannot be imported ({error}); pip install {package}"
        ) from error


def lookup_member(module: ModuleType, name: str, predicate: Callable[[Any], bool]) -> Any:
    """What ``module`` calls ``name``, where it is ``wanted``.

    Raises:
        ValueError: there is no such name, and which was probably meant.
    """
    known = [n for n in dir(module) if not n.startswith("_") and predicate(getattr(module, n))]
    if name not in known:
        raise ValueError(f"no {name!r} in {module.__name__}; {did_you_mean(name, known)}")
    return getattr(module, name)


def instantiate(factory: Callable[..., Any], description: str, *args: Any, **options: Any) -> Any:
    """An attack of another library.

    Raises:
        ValueError: it does not take these options, or wants a package; in the library's words.
    """
    try:
        return factory(*args, **options)
    except (TypeError, ImportError) as error:
        raise ValueError(f"{description}: {error}") from error
