"""Twenty pairs of images and weights of AlexNet's shapes, from numbers that never change.

Whole numbers and numpy's RandomState, whose streams are frozen, so that two programs that share
nothing but this file see the same bits.
"""

import hashlib

import numpy as np

SIDES = (32,) * 12 + (64,) * 8
SHAPES = {  # of AlexNet's convolutions, by their names: out, in, height, width
    0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3),
    10: (256, 256, 3, 3),
}  # fmt: skip


def pairs(side: int) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of that side, (count, 3, side, side), uint8: smooth, and changed in four ways."""
    found = [_pair(i, side) for i, one in enumerate(SIDES) if one == side]
    return np.stack([a for a, _ in found]), np.stack([b for _, b in found])


def digest() -> str:
    """The sha256 of all pairs."""
    images = [part.tobytes() for side in sorted(set(SIDES)) for part in pairs(side)]
    return hashlib.sha256(b"".join(images)).hexdigest()


def weights() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Invented convolutions, which keep the maps' scale, and heads, by the names in the files."""
    source = np.random.RandomState(99)
    convolutions, heads = {}, {}
    for number, (layer, shape) in enumerate(SHAPES.items()):
        weight = source.standard_normal(shape) * (2 / np.prod(shape[1:])) ** 0.5
        convolutions[f"features.{layer}.weight"] = weight.astype(np.float32)
        bias = 0.1 * source.standard_normal(shape[0])
        convolutions[f"features.{layer}.bias"] = bias.astype(np.float32)
        head = source.random_sample((1, shape[0], 1, 1)) / 2
        heads[f"lin{number}.model.1.weight"] = head.astype(np.float32)
    return convolutions, heads


def _pair(number: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    source = np.random.RandomState(number)
    image = _smooth(source, side)
    strength = 1 + number % 5
    changes = (
        lambda: image + source.randint(-8 * strength, 8 * strength + 1, image.shape),  # noise
        lambda: np.roll(image, strength, axis=2),  # moved
        lambda: image + 10 * strength * np.array([1, -1, 0])[:, None, None],  # another color
        lambda: (image * (6 - strength) + _smooth(source, side) * strength) // 6,  # a mixture
    )
    changed = np.clip(changes[number % 4](), 0, 255)
    return image.astype(np.uint8), changed.astype(np.uint8)


def _smooth(source: np.random.RandomState, side: int) -> np.ndarray:
    """Colours of 8 x 8 fields, each pixel then the mean of those around it, whole numbers."""
    fields = source.randint(0, 256, (3, 8, 8))
    image = fields.repeat(side // 8, axis=1).repeat(side // 8, axis=2)
    for axis in (1, 2):
        near = [np.roll(image, shift, axis) for shift in range(-(side // 16), side // 16 + 1)]
        image = sum(near) // len(near)
    return image
