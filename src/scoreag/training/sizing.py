"""Recipes that fit images of any size and the time given: a score model, a classifier, a judge.

Each kind has a few sizes.  The largest is taken that sees enough images in its share of the time.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from scoreag.data.loading import Dataset
from scoreag.training.presets import estimate_sigma_data
from scoreag.training.recipes import FASHION_SETTINGS, Recipe, ScoreRecipe
from scoreag.training.schedule import TrainingSchedule

SCORE_MODEL, CLASSIFIER, JUDGE = ROLES = ("score-model", "classifier", "judge")
TIME_SHARES = {SCORE_MODEL: 0.55, CLASSIFIER: 0.15, JUDGE: 0.10}  # the rest is evaluation
ENOUGH_IMAGES = {SCORE_MODEL: 150_000, CLASSIFIER: 100_000, JUDGE: 100_000}  # seen in training
MIN_REST = 0.25  # of all the time: for what is left to do, even where something took far too long
MAX_EPOCHS = {SCORE_MODEL: 1000, CLASSIFIER: 100, JUDGE: 100}
MIN_STEPS = 10
MIN_SIDE, MAX_SIDE = 16, 256
MAX_SMALLEST_MAP = 48  # side of the maps with attention
LARGEST_FIRST_MAP = 32
MULTIPLIERS = (1, 2, 2)
N_SIZES = 3
UNET_SIZES = ({"channels": 16}, {"channels": 32, "blocks": 2}, {"channels": 64, "blocks": 2})
RESNET_SIZES = ({"width": 1}, {"width": 2}, {"depth": 16, "width": 2})
CNN_SIZES = (16, 24, 48)  # channels of the first of its convolutions
LARGEST_FLAT_MAP = 8


@dataclass(frozen=True)
class SizedTraining:
    """A training whose size and length fit the time.

    Args:
        size: the position among the sizes of its role, from the smallest.
        seconds_per_image: measured on this machine.
    """

    role: str
    size: int
    train_images: int
    seconds_per_image: float
    dtype: str = "float32"

    @property
    def seconds(self) -> float:
        """The expected time."""
        return self.train_images * self.seconds_per_image

    def recipe(self, data: Dataset, seed: int, flip: bool) -> Recipe | ScoreRecipe:
        """The recipe for ``data``."""
        return build_recipe(self.role, self.size, data, seed, flip, self.train_images, self.dtype)


def check_shape(data: Dataset) -> None:
    """Refuse images that are not square, or of a side that the networks cannot take."""
    channels, height, width = data.images.shape[1:]
    if height != width:
        raise ValueError(
            f"{data.name} has images of {channels} x {height} x {width}, which are not square; "
            f"write --size {_fitting_side(min(height, width))}"
        )
    if reason := _side_problem(height):
        raise ValueError(
            f"{data.name} has images with a side of {height} pixels, {reason}; "
            f"write --size {_fitting_side(height)}"
        )


def _side_problem(side: int) -> str:
    """Why the networks cannot take images of this side; "" if they can."""
    if not MIN_SIDE <= side <= MAX_SIDE:
        return f"expected {MIN_SIDE} to {MAX_SIDE}"
    return "which cannot be halved often enough" if smallest_map(side) > MAX_SMALLEST_MAP else ""


def _fitting_side(side: int) -> int:
    """The side itself if it fits, else a multiple of 16 near it, at most 64."""
    return min(64, max(MIN_SIDE, 16 * round(side / 16))) if _side_problem(side) else side


def unet_layout(side: int) -> tuple[int, int]:
    """The side of the patches and the number of levels of a U-Net for images of this side.

    Patches are of 2 pixels, or of more until the first maps have a side of at most 32; a level
    follows while the maps can be halved and are larger than 8.  What is odd stays as it is.
    """
    patch = 1
    while side % (2 * patch) == 0 and (patch == 1 or side // patch > LARGEST_FIRST_MAP):
        patch *= 2
    levels, side = 1, side // patch
    while side % 2 == 0 and side > 8 and levels < len(MULTIPLIERS):
        levels, side = levels + 1, side // 2
    return patch, levels


def smallest_map(side: int) -> int:
    """The side of the maps of the last level."""
    patch, levels = unet_layout(side)
    return side // patch // 2 ** (levels - 1)


def build_recipe(
    role: str, size: int, data: Dataset, seed: int, flip: bool, train_images: int, dtype: str
) -> Recipe | ScoreRecipe:
    """The recipe of a role in one of its sizes; the seeds of the three differ."""
    seed += ROLES.index(role)
    batch_size = _batch_size(len(data), 64 if role == SCORE_MODEL else 128)
    side = data.images.shape[2]
    schedule = TrainingSchedule(train_images, batch_size, seed, 0.2, 0.8, dtype=dtype)
    if role == SCORE_MODEL:
        return _score_recipe(UNET_SIZES[size], data, schedule, flip)
    if role == CLASSIFIER:
        options = {"depth": 10, "stem": 2 if side >= 28 else 1, **RESNET_SIZES[size]}
        return Recipe(
            "wide_resnet", schedule, options, lr=0.2 * batch_size / 128,
            random_shift=max(1, side // 16), hflip=flip, mean=(), std=(),
        )  # fmt: skip
    return Recipe(  # airbench_cnn takes the grain of a young model's samples for content
        "small_cnn", schedule, {"convolutions": _convolutions(side, CNN_SIZES[size])},
        lr=0.05 * batch_size / 128, random_shift=max(1, side // 16), hflip=flip, mean=(), std=(),
    )  # fmt: skip


def _convolutions(side: int, channels: int) -> list[list[int]]:
    """Convolutions that halve the side until it is at most 8, and one more."""
    layers: list[list[int]] = []
    wide = channels
    while side > LARGEST_FLAT_MAP or not layers:
        layers.append([wide, 4, 2])
        side, wide = side // 2, min(2 * wide, 4 * channels)
    return [*layers, [wide, 3, 1]]


def _score_recipe(
    options: dict[str, Any], data: Dataset, schedule: TrainingSchedule, flip: bool
) -> ScoreRecipe:
    """A U-Net by Muon with the rates of the preset fashion-small."""
    patch, levels = unet_layout(data.images.shape[2])
    schedule = replace(
        schedule, decay_fraction=0.3, max_grad_norm=1.0, ema_widths=(0.05, 0.10), n_snapshots=4
    )
    return ScoreRecipe(
        "unet", schedule,
        {"attention_at": [], "patch": patch, "multipliers": list(MULTIPLIERS[:levels]), **options},
        warmup_images=min(12_800, schedule.total_images // 5), optimizer="muon", lr=6e-3,
        adam_lr=2e-3, sigma_data=estimate_sigma_data(data.images), ln_sigma=(-0.4, 1.2),
        hflip=flip,
    )  # fmt: skip


def _batch_size(count: int, largest: int) -> int:
    """A power of two, at most an eighth of the images."""
    size = largest
    while size > 8 and size > count // 8:
        size //= 2
    return min(size, count)


def time_for(role: str, total: float, spent: float) -> float:
    """The seconds of a training: its share of what is left of ``total``, as the roles' order is.

    >>> [round(time_for(role, 100.0, t)) for role, t in (("classifier", 55.0), ("judge", 80.0))]
    [15, 8]
    """
    later = ROLES[ROLES.index(role) :]
    earlier = sum(share for name, share in TIME_SHARES.items() if name not in later)
    return TIME_SHARES[role] / (1 - earlier) * max(total - spent, MIN_REST * total)


def choose_training(
    role: str,
    data: Dataset,
    seconds: float,
    measure: Callable[[Recipe | ScoreRecipe], float],
    seed: int = 0,
    flip: bool = False,
    dtype: str = "float32",
) -> SizedTraining:
    """The largest size that sees enough images in ``seconds``, else the smallest.

    Args:
        measure: the seconds of a training image by a recipe.

    Raises:
        ValueError: the time is too short for a training of a few steps.
    """
    limit = MAX_EPOCHS[role] * len(data)
    enough = min(limit, ENOUGH_IMAGES[role])
    chosen = None
    for size in range(N_SIZES):
        recipe = build_recipe(role, size, data, seed, flip, 1_000_000, dtype)
        pace = measure(recipe)
        images = int(seconds / pace)
        if chosen is not None and images < enough:
            break
        chosen = SizedTraining(role, size, min(limit, images), pace, dtype)
        least = MIN_STEPS * recipe.schedule.batch_size
        if images < 2 * enough:  # a larger network takes twice the time, or more
            break
    assert chosen is not None
    if chosen.train_images < least:
        minutes = least * chosen.seconds_per_image / TIME_SHARES[role] / 60
        shape = " x ".join(map(str, data.images.shape[1:]))
        raise ValueError(
            f"--minutes is too short: the {role} sees {1 / chosen.seconds_per_image:.3g} images of "
            f"{shape} a second here; write --minutes {max(1, round(minutes + 0.5))} or more, or a "
            "smaller --size"
        )
    return chosen


def default_settings(sigma_data: float) -> dict[str, dict[str, Any]]:
    """The tasks' defaults in the card of a new score model: those of the Fashion-MNIST models.

    A transformation starts at the deviation of the data, within [0.3, 0.8].
    """
    start = round(min(0.8, max(0.3, sigma_data)), 2)
    transform = {**FASHION_SETTINGS["transform"], "sigma_start": start}
    synthesize = {**FASHION_SETTINGS["synthesize"], "guidance_scale": 3.0}
    purify = {**FASHION_SETTINGS["purify"], "sigma_start": round(0.75 * start, 2)}
    return {"synthesize": synthesize, "transform": transform, "purify": purify}
