"""Images keep their pixels on every way in and out, and doubtful ones are refused."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from scoreag.io.images import (
    check_images,
    make_grid,
    read_picture,
    read_png,
    to_float,
    to_uint8,
    write_png,
)


def random_image(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_8_bit_value_comes_back(dtype: torch.dtype) -> None:
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(values, dtype)), values)


def test_rounding_is_to_the_nearest_and_half_to_even() -> None:
    halves = torch.tensor([0.5, 1.5, 2.5, 253.5, 0.49, 254.51], dtype=torch.float64)
    assert to_uint8(halves / 255).tolist() == [0, 2, 2, 254, 0, 255]


def test_8_bit_images_become_floats() -> None:
    images = check_images(torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1))
    assert torch.equal(images.flatten(), torch.tensor([0.0, 0.2, 1.0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_in_range_pass_as_they_are(dtype: torch.dtype) -> None:
    images = torch.tensor([0.0, 1.0, 0.5], dtype=dtype, requires_grad=True).view(1, 3, 1, 1)
    assert check_images(images, (3, 1, 1)) is images


@pytest.mark.parametrize(
    "low, high, fix",
    [
        (-1.0, 1.0, r"\[-1, 1\], expected \[0, 1\]: write \(images \+ 1\) / 2"),
        (0.0, 255.0, r"\[0, 255\], expected \[0, 1\]: write images / 255"),
        (-2.5, 2.75, r"\[-2\.5, 2\.75\], .* write images \* std \+ mean"),
        (0.0, 1.0000001, r"\[0, 1\.0000001\d*\], .* write images\.clamp\(0, 1\)"),
        (0.0, float("inf"), r"\[0, inf\]"),
    ],
)
def test_images_out_of_range_are_refused_with_their_range_and_the_fix(
    low: float, high: float, fix: str
) -> None:
    with pytest.raises(ValueError, match=fix):
        check_images(torch.tensor([low, high, low]).view(1, 3, 1, 1))


def test_nan_is_refused_with_the_range_of_the_others() -> None:
    images = torch.tensor([0.25, float("nan"), 0.75]).view(1, 3, 1, 1)
    with pytest.raises(ValueError, match=r"1 NaN; their numbers are in \[0\.25, 0\.75\]"):
        check_images(images)


@pytest.mark.parametrize(
    "images, fix",
    [
        (torch.zeros(3, 32, 32), r"\(3, 32, 32\).*write images\[None\]"),
        (torch.zeros(2, 32, 32, 3), r"images\.permute\(0, 3, 1, 2\)"),
        (torch.zeros(2, 4, 32, 32), "4 x 32 x 32; the model takes 3 x 32 x 32"),
        (torch.zeros(2, 1, 32, 32), "1 x 32 x 32; the model takes 3 x 32 x 32"),
        (torch.zeros(2, 3, 28, 28), "3 x 28 x 28; the model takes 3 x 32 x 32"),
        (torch.zeros(2, 3, 32, 32, dtype=torch.int64), "int64; expected uint8"),
        (torch.zeros(2, 3, 32, 32, dtype=torch.float16), "float16; expected uint8"),
        (np.zeros((2, 3, 32, 32)), "are a ndarray.*torch.as_tensor"),
    ],
    ids=["no-batch", "nhwc", "channels", "gray", "size", "int64", "half", "numpy"],
)
def test_images_of_another_kind_are_refused_with_the_fix(images: object, fix: str) -> None:
    with pytest.raises(ValueError, match=fix):
        check_images(images, (3, 32, 32))


def test_without_a_shape_only_rgb_and_grey_pass() -> None:
    assert check_images(torch.zeros(2, 1, 5, 7)).shape == (2, 1, 5, 7)
    with pytest.raises(ValueError, match="4 channels"):
        check_images(torch.zeros(2, 4, 5, 7))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_gives_back_its_pixels(tmp_path: Path, channels: int) -> None:
    image = random_image(channels, 5, 7)
    write_png(tmp_path / "a.png", image)
    assert torch.equal(read_png(tmp_path / "a.png"), image)


def test_a_png_is_read_by_others_as_it_was_meant(tmp_path: Path) -> None:
    image = random_image(3, 5, 7)
    write_png(tmp_path / "a.png", image)
    with Image.open(tmp_path / "a.png") as picture:
        assert (picture.mode, picture.size) == ("RGB", (7, 5))
        assert picture.getpixel((6, 2)) == tuple(image[:, 2, 6].tolist())


def test_the_same_pixels_give_the_same_bytes(tmp_path: Path) -> None:
    image = random_image(3, 32, 32)
    write_png(tmp_path / "a.png", image)
    write_png(tmp_path / "b.png", image.permute(1, 2, 0).contiguous().permute(2, 0, 1))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_png_of_two_channels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not 2"):
        write_png(tmp_path / "a.png", random_image(2, 4, 4))
    assert os.listdir(tmp_path) == []


def _damaged(kind: str, whole: bytes) -> bytes:
    middle = len(whole) // 2
    return {
        "cut": whole[:middle],
        "without-end": whole[:-12],
        "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "page": b"<!DOCTYPE html><html></html>",
        "empty": b"",
    }[kind]


@pytest.mark.parametrize("kind", ["cut", "without-end", "flipped", "page", "empty"])
def test_a_damaged_png_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    write_png(path, random_image(3, 16, 16))
    path.write_bytes(_damaged(kind, path.read_bytes()))
    with pytest.raises(ValueError, match=r"^\S+a\.png is no whole PNG in RGB or gray: [^\n]+$"):
        read_png(path)


def test_a_missing_png_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_png(tmp_path / "a.png")


def test_a_jpeg_is_no_png_but_a_picture(tmp_path: Path) -> None:
    Image.new("RGB", (7, 5), (10, 20, 30)).save(tmp_path / "a.jpg")
    assert read_picture(tmp_path / "a.jpg").shape == (3, 5, 7)
    with pytest.raises(ValueError, match="no whole PNG"):
        read_png(tmp_path / "a.jpg")


def test_a_cut_jpeg_is_refused(tmp_path: Path) -> None:
    Image.effect_noise((64, 64), 90).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="no whole PNG or JPEG"):
        read_picture(tmp_path / "a.jpg")


def test_a_palette_becomes_its_colours(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2), (250, 10, 5)).quantize(4).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png")[:, 0, 0].tolist() == [250, 10, 5]


@pytest.mark.parametrize("opacity, passes", [(255, True), (254, False)])
def test_transparency_is_refused_where_there_is_any(
    tmp_path: Path, opacity: int, passes: bool
) -> None:
    Image.new("RGBA", (2, 2), (9, 8, 7, opacity)).save(tmp_path / "a.png")
    if passes:
        assert read_picture(tmp_path / "a.png")[:, 0, 0].tolist() == [9, 8, 7]
    else:
        with pytest.raises(ValueError, match="transparent in places"):
            read_picture(tmp_path / "a.png")


def test_16_bits_are_refused_rather_than_cut(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2), 40_000, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="not 8 bits a channel"):
        read_picture(tmp_path / "a.png")


def deep_png(channels: int) -> bytes:
    """A PNG of 16 bits a channel, all 0x80FF, which Pillow reads but does not write."""
    lines = b"".join(b"\0" + struct.pack(">H", 0x80FF) * (4 * channels) for _ in range(4))
    head = struct.pack(">IIBBBBB", 4, 4, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def deep_tiff() -> bytes:
    """A TIFF of one RGB pixel of 16 bits a channel."""
    tags = [(256, 4, 1), (257, 4, 1), (258, 3, 16), (259, 3, 1), (262, 3, 2), (273, 4, 8)]
    tags += [(277, 3, 3), (278, 4, 1), (279, 4, 6)]
    pixels, bits = struct.pack("<3H", 0x80FF, 0x80FF, 0x80FF), struct.pack("<3H", 16, 16, 16)
    start = 8 + len(pixels) + len(bits)
    table = struct.pack("<H", len(tags))
    for tag, kind, value in tags:
        count, value = (3, 8 + len(pixels)) if tag == 258 else (1, value)
        table += struct.pack("<HHII", tag, kind, count, value)
    return b"II*\0" + struct.pack("<I", start) + pixels + bits + table + bytes(4)


DEEP = {
    "gray-alpha.png": deep_png(2),
    "rgb.png": deep_png(3),
    "rgba.png": deep_png(4),
    "rgb.tif": deep_tiff(),
    "rgb.ppm": b"P6\n1 1\n65535\n" + b"\x80\xff" * 3,
    "plain.ppm": b"P3\n1 1\n65535\n33023 33023 33023\n",
    "gray.pgm": b"P5\n1 1\n65535\n\x80\xff",
}


@pytest.mark.parametrize("name", DEEP)
def test_16_bits_are_refused_in_every_kind(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(DEEP[name])
    with pytest.raises(ValueError, match=rf"{name} is no whole .*not 8 bits a channel"):
        read_picture(tmp_path / name)


def test_a_shallow_picture_is_not_taken_for_a_deep_one(tmp_path: Path) -> None:
    head = struct.pack("<2sIHHI", b"BM", 14 + 40 + 4, 0, 0, 54)
    info = struct.pack("<IiiHHIIiiII", 40, 1, 1, 1, 16, 0, 4, 0, 0, 0, 0)  # 5 bits a channel
    (tmp_path / "a.bmp").write_bytes(head + info + struct.pack("<HH", 0b0_11111_00000_00000, 0))
    assert read_picture(tmp_path / "a.bmp").flatten().tolist() == [255, 0, 0]
    (tmp_path / "a.ppm").write_bytes(b"P6\n1 1\n15\n\x0f\x00\x05")
    assert read_picture(tmp_path / "a.ppm").flatten().tolist() == [255, 0, 85]


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff"])
def test_several_frames_or_pages_are_refused(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (4, 4), (shade, 0, 0)) for shade in (0, 100, 200)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match="it has 3 frames or pages; save the one that is meant"):
        read_picture(tmp_path / f"a.{suffix}")


def test_a_picture_taken_sideways_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: the row 0 of the file is the right side
    for name in ("a.jpg", "a.webp", "a.tif"):
        Image.new("RGB", (8, 4)).save(tmp_path / name, exif=exif)
        assert read_picture(tmp_path / name).shape == (3, 8, 4)


def test_resizing_keeps_the_middle_and_its_aspect(tmp_path: Path) -> None:
    wide = torch.zeros(1, 8, 24, dtype=torch.uint8)
    wide[:, :, 2:22] = 200  # the middle, 8 to 16, and what the filter sees of its surroundings
    write_png(tmp_path / "a.png", wide)
    assert read_picture(tmp_path / "a.png", (4, 4)).tolist() == [[[200] * 4] * 4]


def test_a_grid_has_its_images_row_by_row_on_white() -> None:
    images = torch.tensor([1, 2, 3], dtype=torch.uint8).view(3, 1, 1, 1)
    sheet = make_grid(images, columns=2, gap=1)
    assert sheet.tolist() == [[[1, 255, 2], [255, 255, 255], [3, 255, 255]]]


@pytest.mark.parametrize("count, columns", [(0, 2), (2, 0)])
def test_a_grid_of_nothing_is_refused(count: int, columns: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        make_grid(torch.zeros(count, 3, 4, 4, dtype=torch.uint8), columns)
