"""Attacks of other libraries, run on one image at a time with random numbers of that image's own.

They use the global random numbers of torch, numpy and Python. These are seeded for each image by
its id and restored afterwards. The libraries' warnings about their own code are hidden.
"""

import inspect
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from scoreag.attacks._attack import Attack, attack_name
from scoreag.core.batching import select_rows
from scoreag.core.rng import Noise, derive_key, keys_to_words, random_words
from scoreag.core.types import Classifier, Images, Labels, Logits
from scoreag.registry import did_you_mean

OptionPairs: TypeAlias = tuple[tuple[str, Any], ...]


class ClassifierModule(nn.Module):
    """A classifier as other libraries expect it: a module in eval mode, on the images' device.

    The libraries may change the mode of this module; the classifier inside is not registered.
    """

    def __init__(self, classifier: Classifier, like: Images) -> None:
        super().__init__()
        self._classifier = (classifier,)  # a tuple hides the module from torch
        self.device_anchor = nn.Parameter(like.new_zeros(1), requires_grad=False)
        self.eval()

    def forward(self, images: Images) -> Logits:
        return self._classifier[0](images)


class ExternalAttack(Attack, Protocol):
    """An attack of another library: ``attack_one`` perturbs a batch of one image."""

    needs_gradient: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if hasattr(self, "options"):
            object.__setattr__(self, "options", options_to_pairs(self.options))

    def attack_one(self, module: nn.Module, images: Images, labels: Labels, seed: int) -> Tensor:
        """The perturbed image; ``seed`` has 31 bits."""
        ...

    def run(self, classifier: Classifier, images: Images, labels: Labels, noise: Noise) -> Images:
        return run_per_image(self.attack_one, classifier, images, labels, noise)

    def is_attack(self, candidate: Any) -> bool:
        """Whether a member of the library is an attack."""
        return inspect.isclass(candidate)

    def make_attack(self, library: Any, *args: Any, **options: Any) -> Any:
        """The attack ``self.name`` of a module of the library, with these arguments."""
        name: str = self.name  # type: ignore[attr-defined]
        factory = lookup_member(library, name, self.is_attack)
        try:
            return factory(*args, **options)
        except (TypeError, ImportError) as error:
            raise ValueError(f"{attack_name(type(self))}: {name}: {error}") from error


def run_per_image(
    run: Callable[[nn.Module, Images, Labels, int], Tensor],
    classifier: Classifier,
    images: Images,
    labels: Labels,
    noise: Noise,
) -> Images:
    """The results of ``run(module, image, label, seed)``, in [0, 1]; ``seed`` has 31 bits."""
    perturbed = []
    for i, image_id in enumerate(noise.image_ids):
        words = keys_to_words([derive_key(noise.seed, image_id, noise.name, "borrowed")])[0]
        module = ClassifierModule(select_rows(classifier, [i]), images)
        with temporary_seed(words), torch.enable_grad(), warnings.catch_warnings(action="ignore"):
            image = run(module, images[i : i + 1].clone(), labels[i : i + 1], int(words[0] >> 1))
        perturbed.append(torch.as_tensor(image).detach().to(images).clamp(0, 1))
    return torch.cat(perturbed) if perturbed else images


@contextmanager
def temporary_seed(words: Tensor) -> Iterator[None]:
    """Seed the global random numbers of torch, numpy and Python, and restore them afterwards.

    ``torch.manual_seed`` uses 32 bits of a seed, so all 19,968 bits of the state are set instead.
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
    """A state of torch's CPU generator whose 624 words are a function of a key."""
    state = torch.Generator().manual_seed(0).get_state()
    fields = state[:5016].view(torch.int64)  # seed, words left, next word, the 624 words
    fields[3:627] = random_words(words[None], 624)[0]
    return state


def options_to_pairs(options: Mapping[str, Any] | OptionPairs) -> OptionPairs:
    """Options of another library in a form that can be compared and hashed."""
    return tuple(sorted(dict(options).items()))


def require_package(module: str, package: str) -> Any:
    """A module of another library, or an error that says how to install it."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return import_module(module)
    except ImportError as error:
        raise ValueError(
            f"{module.partition('.')[0]} cannot be imported ({error}); pip install {package}"
        ) from error


def lookup_member(module: Any, name: str, predicate: Callable[[Any], bool]) -> Any:
    """The member ``name`` of ``module``, which must satisfy the predicate."""
    known = [n for n in dir(module) if not n.startswith("_") and predicate(getattr(module, n))]
    if name not in known:
        raise ValueError(f"no {name!r} in {module.__name__}; {did_you_mean(name, known)}")
    return getattr(module, name)
