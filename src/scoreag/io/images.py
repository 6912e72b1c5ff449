"""Images: checks of a user's tensors, 8-bit rounding, reading and writing of pictures, grids."""

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from scoreag.core.types import Images
from scoreag.io.bounded import get_file_size, read_bytes
from scoreag.io.filesystem import atomic_write
from scoreag.registry import describe_value, truncate_text

PICTURE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM")  # as Pillow calls their formats
MAX_PIXELS, PIXELS_PER_BYTE = 20_000_000, 2  # of a picture, and more for each byte of its file
_MAX_JPEG_SCANS = 200  # of a progressive JPEG, each of which is as much work as a whole picture


def to_uint8(images: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """``round(255 x)`` of images in [0, 1], half to even, as in a PNG."""
    return (images * 255).round().clamp(0, 255).to(torch.uint8)


def to_float(
    images: UInt8[Tensor, "*shape"], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "*shape"]:
    """``x / 255``: 8-bit images in [0, 1]."""
    return images.to(dtype) / 255


def pixels_to_float(images: Tensor) -> Tensor:
    """8-bit images in [0, 1]; anything else as it is."""
    return to_float(images) if images.dtype == torch.uint8 else images


def check_images(
    images: object, shape: tuple[int, int, int] | None = None, allow_outside: bool = False
) -> Float[Tensor, "batch channels height width"]:
    """A user's images as floats in [0, 1]; uint8 is converted, anything doubtful is refused.

    Args:
        shape: the (channels, height, width) of the model; None for any RGB or gray.
        allow_outside: whether values may be outside of [0, 1], as those of a chain.
    """
    checked = check_pixels(images, shape, allow_outside)
    return pixels_to_float(checked)


def check_pixels(
    images: object, shape: tuple[int, int, int] | None = None, allow_outside: bool = False
) -> Shaped[Tensor, "batch channels height width"]:
    """``check_images``, but uint8 stays: it takes a quarter of the memory."""
    if not isinstance(images, Tensor):
        is_list = isinstance(images, list | tuple)
        found = f"a {type(images).__name__}" if is_list else describe_value(images)
        raise ValueError(f"images are {found}; expected a tensor: {_tensor_hint(images)}")
    _check_shape(tuple(images.shape), shape)
    if images.dtype == torch.uint8:
        return images
    if images.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"images are {images.dtype}; expected uint8 in 0..255 or float32 or float64 in [0, 1]"
        )
    _check_range(images.detach(), allow_outside)
    return images


def _tensor_hint(images: object) -> str:
    if isinstance(images, str | Path):
        return "write images, labels = scoreag.load_data(...)"
    if isinstance(images, torch.nn.Module):
        return "images come before the classifier in purify, and after it elsewhere"
    if hasattr(images, "images"):
        return "write its .images"
    return "write torch.as_tensor(images)"


def _check_shape(found: tuple[int, ...], shape: tuple[int, int, int] | None) -> None:
    wanted = "(batch, channels, height, width)"
    if len(found) != 4:
        fix = "images[None]" if len(found) == 3 else "a tensor of 4 dimensions"
        raise ValueError(f"images have the shape {found}; expected {wanted}: write {fix}")
    if shape is not None and found[1:] == shape:
        return
    if found[3] in (1, 3) and found[1] not in (1, 3):
        raise ValueError(
            f"images have the shape {found}; expected {wanted}: write images.permute(0, 3, 1, 2)"
        )
    if shape is not None:
        has, takes = (" x ".join(map(str, size)) for size in (found[1:], shape))
        raise ValueError(f"images are {has}; the model takes {takes}: resize or convert them")
    if found[1] not in (1, 3):
        raise ValueError(f"images have {found[1]} channels; expected 3 (RGB) or 1 (gray)")


def _check_range(images: Tensor, allow_outside: bool) -> None:
    if images.numel() == 0:
        raise ValueError(f"no images: their shape is {tuple(images.shape)}; give at least one")
    low, high = images.min().item(), images.max().item()
    if math.isnan(low) or math.isnan(high):
        count = int(images.isnan().sum())
        rest = images[~images.isnan()]
        span = f"in [{rest.min():.4g}, {rest.max():.4g}]" if len(rest) else "none at all"
        raise ValueError(
            f"images hold {count} NaN; their numbers are {span}, expected [0, 1]: "
            "mend them before, or write images.nan_to_num(0)"
        )
    if not allow_outside and (low < 0 or high > 1):
        fix = _range_hint(low, high)
        raise ValueError(f"images lie in [{low:.8g}, {high:.8g}], expected [0, 1]: {fix}")


def _range_hint(low: float, high: float) -> str:
    if low >= -0.01 and high <= 1.01:
        return "write images.clamp(0, 1)"
    if low >= -1 and high <= 1:
        return "write (images + 1) / 2"
    if low >= 0 and high <= 255:
        return "write images / 255"
    return "undo the normalization, write images * std + mean"


def write_png(path: Path, image: UInt8[Tensor, "channels height width"]) -> None:
    """Save an RGB or gray image; the same pixels give the same bytes."""
    data = encode_png(image)
    atomic_write(path, lambda temp: temp.write_bytes(data))


def encode_png(image: UInt8[Tensor, "channels height width"]) -> bytes:
    """An RGB or gray image as the bytes of a PNG, always the same for the same pixels."""
    channels = len(image)
    if channels not in (1, 3):
        raise ValueError(f"a PNG here has 3 channels (RGB) or 1 (gray), not {channels}")
    pixels = image.detach().cpu().permute(1, 2, 0).contiguous().numpy()
    encoded = io.BytesIO()
    picture = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    picture.save(encoded, format="PNG", compress_level=6)
    return encoded.getvalue()


def decode_png(data: bytes) -> UInt8[Tensor, "channels height width"]:
    """The pixels of a PNG in memory, RGB or gray, whose checksums are right."""
    return _decode(data, "a PNG in memory", ("PNG",))


def read_png(path: Path) -> UInt8[Tensor, "channels height width"]:
    """The pixels of a PNG, RGB or gray, whose checksums are right."""
    return _decode(read_bytes(path), str(path), ("PNG",))


def is_gray(source: Path | bytes) -> bool:
    """Whether a picture, or the bytes of one, is gray by its header; a damaged one is not."""
    if isinstance(source, Path):
        get_file_size(source)
    try:
        with _open_picture(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
            return picture.mode in ("L", "1", "LA", "La") or picture.mode.startswith("I;")
    except Exception:  # a damaged picture can raise anything
        return False


@contextmanager
def _open_picture(
    source: Path | io.BytesIO, formats: tuple[str, ...] = PICTURE_FORMATS
) -> Iterator[Image.Image]:
    """A picture whose header was read, without Pillow's own limit of its size."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(source, formats=formats) as picture:
            yield picture


def read_picture(
    path: Path, size: tuple[int, int] | None = None
) -> UInt8[Tensor, "channels height width"]:
    """The pixels of a PNG, JPEG, WebP, BMP, TIFF or PPM, upright, RGB or gray.

    Args:
        size: (height, width) to which the center of the picture is cropped and resized; None
            keeps its size.
    """
    return decode_picture(read_bytes(path), str(path), size)


def decode_picture(
    data: bytes, name: str, size: tuple[int, int] | None = None
) -> UInt8[Tensor, "channels height width"]:
    """As ``read_picture``, of a picture in memory that messages call ``name``."""
    return _decode(data, name, PICTURE_FORMATS, size, upright=True)


def _check_encoded(data: bytes, formats: tuple[str, ...]) -> None:
    """Check the size of a picture, and its checksums, before it is decoded."""
    if data[:2] == b"\xff\xd8" and data.count(b"\xff\xda") > _MAX_JPEG_SCANS:
        raise ValueError(f"it is a JPEG of more than {_MAX_JPEG_SCANS} scans")
    with _open_picture(io.BytesIO(data), formats) as picture:
        width, height = picture.size
        if width * height > MAX_PIXELS + PIXELS_PER_BYTE * len(data):
            raise ValueError(
                f"it is {height} x {width} pixels in {len(data):,} bytes, too many to be read; "
                "make it smaller first"
            )
        picture.verify()


def _check_lossless(picture: Image.Image) -> None:
    """Refuse what Pillow would drop silently: lower bits, and all frames but one."""
    kind = picture.format or ""
    frames = getattr(picture, "n_frames", 1) if kind in ("PNG", "TIFF", "WEBP") else 1
    if frames > 1:
        raise ValueError(f"it has {frames} frames or pages; save the one that is meant")
    for tile in getattr(picture, "tile", ()):  # (decoder, box, offset, arguments, layout first)
        layout, *more = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        deep = kind in ("PNG", "TIFF") and ";16" in str(layout)
        deep |= kind == "PPM" and any(type(n) is int and n > 255 for n in more)
        if deep:
            raise ValueError("its channels have 16 bits, not 8 bits a channel; convert it first")


def _decode(
    data: bytes,
    name: str,
    formats: tuple[str, ...],
    size: tuple[int, int] | None = None,
    upright: bool = False,
) -> UInt8[Tensor, "channels height width"]:
    try:
        _check_encoded(data, formats)
        with _open_picture(io.BytesIO(data), formats) as picture:
            _check_lossless(picture)
            picture.load()
            if upright:
                ImageOps.exif_transpose(picture, in_place=True)
            plain = _to_rgb_or_gray(picture)
        if size is not None:
            plain = ImageOps.fit(plain, (size[1], size[0]), Image.Resampling.LANCZOS)
        pixels = np.array(plain)
        return torch.from_numpy(pixels).reshape(*pixels.shape[:2], -1).permute(2, 0, 1).contiguous()
    except MemoryError:
        raise
    except Exception as error:  # a damaged picture can raise anything
        kinds, reason = " or ".join(formats), truncate_text(str(error), 200)
        if isinstance(error, UnidentifiedImageError):
            reason = f"it begins with {data[:12]!r}"
        raise ValueError(f"{name} is no whole {kinds} in RGB or gray: {reason}") from error


def _to_rgb_or_gray(picture: Image.Image) -> Image.Image:
    """The picture in RGB or 8-bit gray; transparency and deeper channels are refused."""
    if picture.mode not in ("RGB", "L", "1", "P", "PA", "LA", "RGBA", "CMYK", "YCbCr"):
        raise ValueError(f"its mode is {picture.mode}, not 8 bits a channel; convert it first")
    if "A" in picture.mode or "transparency" in picture.info:
        opacity = picture.convert("RGBA").getchannel("A")
        if opacity.histogram()[255] < opacity.width * opacity.height:
            raise ValueError("it is transparent in places; put it on a background first")
    return picture.convert("L" if picture.mode in ("L", "1", "LA") else "RGB")


def make_grid(
    images: UInt8[Tensor, "batch channels height width"], columns: int, gap: int = 2
) -> UInt8[Tensor, "channels full_height full_width"]:
    """The images row by row on white, ``gap`` pixels between them."""
    count, channels, height, width = images.shape
    if not count or columns < 1:
        raise ValueError(f"a grid of {count} images in {columns} columns; give at least 1 of each")
    rows = math.ceil(count / columns)
    full = (rows * (height + gap) - gap, columns * (width + gap) - gap)
    sheet = torch.full((channels, *full), 255, dtype=torch.uint8, device=images.device)
    for i, image in enumerate(images):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        sheet[:, top : top + height, left : left + width] = image
    return sheet


def quantize_8bit(images: Images) -> Images:
    """The images rounded to 8 bits per channel, as a PNG stores them."""
    return to_float(to_uint8(images), images.dtype).to(images)
