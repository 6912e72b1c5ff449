"""Attacks of other libraries: one image at a time, with randomness of that image's own.

They draw from the global sources of torch, numpy and Python. For each image these are seeded by
its id and restored afterwards. Their warnings, about their own code, are not shown.
"""

import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from scoreag.attacks._common.attack import Attack
from scoreag.core.batching import select_rows
from scoreag.core.rng import Noise, derive_key, keys_to_words, random_words
from scoreag.core.types import Classifier, Images, Labels, Logits
from scoreag.registry import did_you_mean

OptionPairs = tuple[tuple[str, Any], ...]


class ClassifierModule(nn.Module):
    """A classifier as other libraries want it: a module in eval mode, on the images' device.

    They may change the mode of this module; the classifier inside is not registered.
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
    perturbed = []
    for i, image_id in enumerate(noise.image_ids):
        words = keys_to_words([derive_key(noise.seed, image_id, noise.name, "borrowed")])[0]
        module = ClassifierModule(select_rows(classifier, [i]), images)
        with temporary_seed(words), torch.enable_grad(), warnings.catch_warnings(action="ignore"):
            image = run(module, images[i : i + 1].clone(), labels[i : i + 1], int(words[0] >> 1))
        perturbed.append(torch.as_tensor(image).detach().to(images).clamp(0, 1))
    return torch.cat(perturbed) if perturbed else images


class ExternalAttack(Attack, Protocol):
    """An attack of another library, run on an image at a time by ``attack_one``."""

    needs_gradient: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if hasattr(self, "options"):  # in a form that can be compared and hashed
            object.__setattr__(self, "options", options_to_pairs(self.options))

    def attack_one(
        self, module: ClassifierModule, images: Images, labels: Labels, seed: int
    ) -> Tensor:
        """The perturbed image, from a batch of one; ``seed`` has 31 bits."""
        ...

    def run(self, classifier: Classifier, images: Images, labels: Labels, noise: Noise) -> Images:
        """Images in [0, 1]."""
        return run_per_image(self.attack_one, classifier, images, labels, noise)


@contextmanager
def temporary_seed(words: Tensor) -> Iterator[None]:
    """Seed the global random numbers of torch, numpy and Python by a key, for a while.

    ``torch.manual_seed`` keeps 32 bits of a seed, so all 19,968 bits of its state are set instead.
    """
    numbers = words.tolist()
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng():
        try:
            torch.manual_seed(numbers[0])  # of all devices
            torch.set_rng_state(_mt19937_state(words))
            np.random.seed(numbers)
            random.seed(repr(numbers))
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)


def _mt19937_state(words: Tensor) -> Tensor:
    """A state of torch's generator on the CPU whose 624 words follow from a key."""
    state = torch.Generator().manual_seed(0).get_state()
    fields = state[:5016].view(torch.int64)  # seed, how many are left, the next one, the words
    fields[3:627] = random_words(words[None], 624)[0]
    return state


def options_to_pairs(options: Mapping[str, Any] | OptionPairs) -> OptionPairs:
    """Options of another library, in a form that can be compared and hashed."""
    return tuple(sorted(dict(options).items()))


def require_package(module: str, package: str) -> Any:
    """A module of another library.

    Raises:
        ValueError: it is not installed; says how to install it.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of deprecated parts that it uses
            return import_module(module)
    except ImportError as error:
        raise ValueError(
            f"{module.partition('.')[0]} cannot be imported ({error}); pip install {package}"
        ) from error


def lookup_member(module: Any, name: str, predicate: Callable[[Any], bool]) -> Any:
    """The member ``name`` of ``module``, among those that satisfy the predicate.

    Raises:
        ValueError: there is no such name; says which was probably meant.
    """
    known = [n for n in dir(module) if not n.startswith("_") and predicate(getattr(module, n))]
    if name not in known:
        raise ValueError(f"no {name!r} in {module.__name__}; {did_you_mean(name, known)}")
    return getattr(module, name)


def instantiate(factory: Callable[..., Any], description: str, *args: Any, **options: Any) -> Any:
    """An attack of another library.

    Raises:
        ValueError: in the library's words: it does not take these options, or needs a package.
    """
    try:
        return factory(*args, **options)
    except (TypeError, ImportError) as error:
        raise ValueError(f"{description}: {error}") from error
