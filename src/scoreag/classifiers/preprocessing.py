"""The preprocessing that a library states for its model: sizes, interpolation, normalization.

timm, torchvision and transformers each describe it by an object of their own.  It is read by its
attributes; none of its code runs, and no library is needed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import interpolate

from scoreag.core.types import Images
from scoreag.registry import describe_value

Size = tuple[int, int]  # height, width
_TIMM = ("mean", "std", "input_size")  # of its data config
_MODES = {  # words of all libraries, and the numbers of Pillow, which transformers uses
    "nearest": "nearest-exact", "nearest-exact": "nearest-exact", "0": "nearest-exact",
    "bilinear": "bilinear", "2": "bilinear", "bicubic": "bicubic", "3": "bicubic",
}  # fmt: skip
_NO_EFFECT = ("ToTensor", "PILToTensor", "ToImage", "ConvertImageDtype", "ToDtype", "MaybeToTensor")
_BYTE = 1 / 255
_EDGES = ("height", "width", "shortest_edge", "longest_edge")  # of a size of transformers
_EXPECTED = (
    "expected the transforms of torchvision (weights.transforms(), or a Compose), a data config of "
    "timm (timm.data.resolve_model_data_config(model)), or an image processor of transformers; or "
    "state mean and std instead"
)


@dataclass(frozen=True)
class Preprocessing:
    """From an image in [0, 1] to a model's input: resize, crop the center, normalize.

    Args:
        resize: the shorter side, or height and width; None leaves the image as it is.
        crop: height and width of the center that is kept; None keeps all.
        mode: of the interpolation, which is antialiased: nearest-exact, bilinear or bicubic.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    resize: int | Size | None = None
    crop: Size | None = None
    mode: str = "bilinear"


class ResizedInput(nn.Module):
    """A network of images of one size, for images of any size."""

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network, self.preprocessing = network, preprocessing

    def forward(self, images: Images) -> Any:
        return self.network(resize_and_crop(images, self.preprocessing))


def resize_input(network: nn.Module, how: Preprocessing) -> nn.Module:
    """The network behind the resizing, in eval mode as it is; itself where there is none."""
    if how.resize is None and how.crop is None:
        return network
    return ResizedInput(network, how).eval()


def resize_and_crop(images: Tensor, how: Preprocessing) -> Tensor:
    """The images as the network sees them but for the normalization, which commutes with this.

    Raises:
        ValueError: the resized image is smaller than the crop.
    """
    height, width = images.shape[2:]
    size = how.resize if how.resize is not None else (height, width)
    if isinstance(size, int):  # as torchvision: the longer side is rounded down
        short = min(height, width)
        size = (size * height // short, size * width // short)
    if size != (height, width):
        smooth = how.mode != "nearest-exact"
        images = interpolate(images, size=size, mode=how.mode, antialias=smooth)
    if how.crop is None:
        return images
    (height, width), (rows, columns) = size, how.crop
    if rows > height or columns > width:
        raise ValueError(f"images of {height} x {width} have no center of {rows} x {columns}")
    top, left = round((height - rows) / 2), round((width - columns) / 2)
    return images[:, :, top : top + rows, left : left + columns]


def read_preprocessing(source: Any) -> Preprocessing:
    """What an object of timm, torchvision or transformers says of a model's input.

    Raises:
        ValueError: it is none of these, or does something that is not resize, crop or normalize.
    """
    if isinstance(source, Preprocessing):
        return source
    if isinstance(source, Mapping) and all(name in source for name in _TIMM):
        return _of_timm(source)
    if hasattr(source, "image_mean") and hasattr(source, "image_std"):
        return _of_transformers(source)
    if hasattr(source, "resize_size") and hasattr(source, "crop_size"):  # a preset of torchvision
        return Preprocessing(
            _numbers(source.mean), _numbers(source.std), _size(source.resize_size),
            _pair(source.crop_size), _mode(source.interpolation),
        )  # fmt: skip
    steps = getattr(source, "transforms", None)
    if isinstance(steps, Sequence):
        found = Preprocessing()
        for step in steps:
            found = _add_step(found, step)
        return found
    raise ValueError(f"preprocessing is {describe_value(source)}; {_EXPECTED}")


def _of_timm(config: Mapping[str, Any]) -> Preprocessing:
    """timm enlarges the side by 1 / crop_pct and crops; ``squash`` ignores the aspect."""
    rows, columns = _pair(config["input_size"][1:])
    share, crop_mode = float(config.get("crop_pct") or 1), config.get("crop_mode") or "center"
    larger = (floor(rows / share), floor(columns / share))
    if crop_mode not in ("center", "squash"):
        raise ValueError(f"timm's crop_mode {crop_mode!r} is not read; {_EXPECTED}")
    square = crop_mode == "center" and rows == columns
    return Preprocessing(
        _numbers(config["mean"]), _numbers(config["std"]), larger[0] if square else larger,
        (rows, columns), _mode(config.get("interpolation", "bilinear")),
    )  # fmt: skip


def _of_transformers(processor: Any) -> Preprocessing:
    def does(name: str) -> bool:
        return bool(getattr(processor, f"do_{name}", False))

    if not does("rescale") or abs(processor.rescale_factor - _BYTE) > 1e-9:
        raise ValueError(
            "the image processor does not rescale pixels by 1/255, so its mean and std are not of "
            "images in [0, 1]; state mean and std instead"
        )
    if getattr(processor, "crop_pct", None) is not None:
        raise ValueError(f"an image processor with crop_pct is not read; {_EXPECTED}")
    found = Preprocessing(mode=_mode(getattr(processor, "resample", 2)))
    if does("normalize"):
        mean, std = _numbers(processor.image_mean), _numbers(processor.image_std)
        found = replace(found, mean=mean, std=std)
    if does("resize"):
        found = replace(found, resize=_size(processor.size))
    if does("center_crop"):
        found = replace(found, crop=_pair(processor.crop_size))
    return found


def _add_step(found: Preprocessing, step: Any) -> Preprocessing:
    """One transform of a Compose, after those that were read."""
    kind = type(step).__name__
    normalized = found.std != (1.0,) or found.mean != (0.0,)
    if kind in _NO_EFFECT:
        return found
    if kind == "Normalize" and not normalized:
        return replace(found, mean=_numbers(step.mean), std=_numbers(step.std))
    if kind == "Resize" and found.resize is None and found.crop is None:
        mode = _mode(getattr(step, "interpolation", "bilinear"))
        if getattr(step, "max_size", None) is None:
            return replace(found, resize=_size(step.size), mode=mode)
    if kind == "CenterCrop" and found.crop is None:
        return replace(found, crop=_pair(step.size))
    raise ValueError(
        f"the transform {kind} is not read (or not in this place, or twice): only one Resize, one "
        "CenterCrop and one Normalize are, beside conversions to a tensor; leave out what is of "
        "training, or put it into the module"
    )


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _size(value: Any) -> int | Size:
    """A number, [side], [height, width], or a table of transformers."""
    size = value
    if isinstance(value, Mapping) or hasattr(value, "height"):  # a table, or an object of one
        size = {name: _item(value, name) for name in _EDGES}
        if size.get("shortest_edge") and not size.get("longest_edge"):
            return int(size["shortest_edge"])
        if size.get("height") and size.get("width"):
            return int(size["height"]), int(size["width"])
        raise ValueError(f"the size {describe_value(value)} is not read; {_EXPECTED}")
    if isinstance(size, int):
        return size
    return int(size[0]) if len(size) == 1 else (int(size[0]), int(size[1]))


def _item(table: Any, name: str) -> Any:
    return table.get(name) if isinstance(table, Mapping) else getattr(table, name, None)


def _pair(value: Any) -> Size:
    size = _size(value)
    return (size, size) if isinstance(size, int) else size


def _mode(value: Any) -> str:
    word = str(getattr(value, "value", value)).lower()
    if word not in _MODES:
        raise ValueError(f"the interpolation {word!r} is not read; expected bilinear or bicubic")
    return _MODES[word]
