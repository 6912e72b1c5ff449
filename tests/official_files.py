"""Small files in the official layouts of CIFAR-100, Tiny ImageNet and Fashion-MNIST."""

import gzip
import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

SHARED = Path(__file__).parents[2] / "shared" / "data"  # real subsets; few machines have them

# CIFAR-100: images of random bytes with their coarse and fine labels

CIFAR100 = {"train": ([19, 0, 4], [99, 0, 51]), "test": ([1, 18], [30, 8])}


def planes(split: str) -> np.ndarray:
    count = len(CIFAR100[split][0])
    return np.random.default_rng(count).integers(0, 256, (count, 3072), np.uint8)


def write_cifar100_binary(folder: Path) -> None:
    folder.mkdir(parents=True)
    for split, labels in CIFAR100.items():
        images = (row.tobytes() for row in planes(split))
        records = [bytes(two) + row for *two, row in zip(*labels, images, strict=True)]
        (folder / f"{split}.bin").write_bytes(b"".join(records))
    for name in ("fine", "coarse"):
        (folder / f"{name}_label_names.txt").write_text("apple\n")


def write_cifar100_python(folder: Path) -> None:
    folder.mkdir(parents=True)
    for split, (coarse, fine) in CIFAR100.items():
        content = {b"data": planes(split), b"coarse_labels": coarse, b"fine_labels": fine}
        (folder / split).write_bytes(pickle.dumps(content, protocol=2))


# Tiny ImageNet: one gray an image, by which it is known again

WNIDS = ("n03", "n01", "n02")
WORDS = "n01\tcrane, Grus\nn02\tcrane\nn03\tgoldfish, Carassius auratus\nn04\tunused\n"
TRAIN = {"n03": {0: 30, 2: 32, 10: 31}, "n01": {0: 10}, "n02": {0: 20, 1: 21}}  # number: gray
VAL = [("val_0", "n02", 120), ("val_10", "n03", 130), ("val_2", "n02", 122)]


def jpeg(gray: int, mode: str = "RGB", side: int = 64) -> bytes:
    """A picture of one gray, which JPEG keeps as it is when it rounds least."""
    held = io.BytesIO()
    color = (gray,) * 3 if mode == "RGB" else gray
    Image.new(mode, (side, side), color).save(held, "JPEG", quality=100)
    return held.getvalue()


def tiny() -> dict[str, bytes]:
    """The files of the data set by their paths in it."""
    table = "".join(f"{name}.JPEG\t{wnid}\t0\t0\t63\t63\n" for name, wnid, _ in VAL)
    files = {
        "wnids.txt": "\n".join(WNIDS).encode(),
        "words.txt": WORDS.encode(),
        "val/val_annotations.txt": table.encode(),
        "test/images/test_0.JPEG": b"not looked at",
    }
    for wnid, images in TRAIN.items():
        files[f"train/{wnid}/{wnid}_boxes.txt"] = b""
        for number, gray in images.items():
            mode = "L" if number == 1 else "RGB"
            files[f"train/{wnid}/images/{wnid}_{number}.JPEG"] = jpeg(gray, mode)
    return files | {f"val/images/{name}.JPEG": jpeg(gray) for name, _, gray in VAL}


def write_tiny_folder(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = root / "tiny-imagenet-200" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def write_tiny_zip(root: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> None:
    root.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(root / "tiny-imagenet-200.zip", "w", method) as archive:
        archive.writestr("tiny-imagenet-200/train/", b"")
        for name, content in files.items():
            archive.writestr(f"tiny-imagenet-200/{name}", content)


# Fashion-MNIST: other clothes, fewer

CLOTHES = {"train": [9, 0, 3], "t10k": [2, 9, 1, 8]}


def clothes(part: str) -> np.ndarray:
    count = len(CLOTHES[part])
    return np.random.default_rng(count).integers(0, 256, (count, 28, 28), np.uint8)


def idx(array: np.ndarray) -> bytes:
    """An IDX file of bytes: the magic number, the lengths, the content."""
    return struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


def fashion() -> dict[str, bytes]:
    files = {}
    for part, labels in CLOTHES.items():
        files[f"{part}-images-idx3-ubyte"] = idx(clothes(part))
        files[f"{part}-labels-idx1-ubyte"] = idx(np.array(labels, np.uint8))
    return files


def write_fashion(folder: Path, packed: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in fashion().items():
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content, mtime=0) if packed else content)
