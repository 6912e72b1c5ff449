"""What reads each kind of file, as the verbs call it, and a small whole file of each kind."""

import codecs
import gzip
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save, save_file

import made_edm
import made_states
import official_files
from scoreag.assess import plan
from scoreag.assess.resolve import build_cells
from scoreag.classifiers import state_dict
from scoreag.classifiers.loading import load_classifier
from scoreag.classifiers.networks.cifar_resnet import ResNet
from scoreag.data import loading
from scoreag.io import records
from scoreag.io.images import write_png
from scoreag.io.manifest import FORMAT, compute_seal, read_manifest
from scoreag.io.records import seal_row
from scoreag.methods.result import ROW_FIELDS
from scoreag.models.convert import checkpoint
from scoreag.models.loading import load_prior
from scoreag.models.model_cards import ZOO
from scoreag.registry import component_names, load_component

Files = dict[str, Any]
RESNET = {"depth": 8, "width": 4}
SCORE_SDE, IMPROVED, HO = "ddpmpp_continuous", "improved_hybrid", "ho_told"


def score_model(name: str, arguments: dict[str, Any] | None = None) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        checkpoint.convert_checkpoint(folder / name, folder / "out", config=arguments)

    return read


def classifier(name: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        state_dict.convert_state_dict(
            folder / name, folder / "out", (0.5,), (0.5,), "cifar_resnet", RESNET,
            image_shape=(3, 32, 32),
        )  # fmt: skip

    return read


def classifier_card(folder: Path) -> None:
    load_classifier(folder)


def prior_card(folder: Path) -> None:
    load_prior(folder)


def read_plan(folder: Path) -> None:
    list(build_cells(plan.load_plan(folder / "plan.toml")))


def data(word: str = "", root: str | None = None, size: tuple[int, int] | None = None) -> Any:
    def read(folder: Path) -> None:
        spec = word if root is not None else str(folder / word) if word else str(folder)
        loading.load_dataset(
            spec, None if root is None else folder / root, size=size, progress=False
        )

    return read


def read_run(folder: Path) -> None:
    read_manifest(folder)
    for row in records.read_rows(folder, ROW_FIELDS):
        records.files_intact(folder, row)
    loading.load_dataset(folder, progress=False)


def warm() -> None:
    """Import what whole files do not need, but changed ones may."""
    for name in component_names("networks"):
        load_component("networks", name)
    for code in ("raw_unicode_escape", "unicode_escape", "latin1", "ascii", "cp1252", "utf-16"):
        codecs.lookup(code)
    Image.init()


def wholes(place: Path) -> dict[str, tuple[Callable[[Path], None], Files, list[str]]]:
    """By kind: who reads it, the files of a whole one, and which of them are to be changed."""
    return {
        **_score_models(place), **_classifiers(place), **_data(place), **_cards(), **_runs(place)
    }  # fmt: skip


def packed(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return held.getvalue()


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def saved(tree: Any, new: bool = True) -> bytes:
    held = io.BytesIO()
    torch.save(tree, held, _use_new_zipfile_serialization=new)
    return held.getvalue()


def edm_tensors() -> dict[str, torch.Tensor]:
    return {f"model.{n}": t for n, t in made_edm.network().state_dict().items()}


def edm_safetensors(arguments: str) -> bytes:
    return save(edm_tensors(), {"class": "EDMPrecond", "arguments": arguments})


def _score_models(place: Path) -> dict[str, Any]:
    made_edm.write(place / "edm.pkl")
    sde, told = made_states.score_sde(SCORE_SDE), made_states.arguments
    found = {
        "edm.pkl": (place / "edm.pkl").read_bytes(),
        "sde.pth": saved(sde),
        "sde-old.pth": saved(sde, False),
        "improved.pt": saved(made_states.weights(IMPROVED)),
        "ho.ckpt": saved(made_states.weights(HO)),
    }
    arguments = {"sde.pth": SCORE_SDE, "sde-old.pth": SCORE_SDE, "improved.pt": IMPROVED}
    arguments["ho.ckpt"] = HO
    made = {
        name: (
            score_model(name, told(arguments[name]) if name in arguments else None),
            {name: content},
            [name],
        )
        for name, content in found.items()
    }
    whole = edm_safetensors(json.dumps(made_edm.ARGUMENTS))
    made["edm.safetensors"] = (score_model("edm.safetensors"), {"edm.safetensors": whole}, [])
    made["edm.safetensors"][2].append("edm.safetensors")
    made["diffusers"] = (score_model("unet"), diffusers(place), [])
    made["diffusers"][2].extend(made["diffusers"][1])
    return made


def diffusers(place: Path) -> Files:
    """A folder as the package writes it, its weights by torch.save."""
    from diffusers import DDPMScheduler, UNet2DModel

    from convert.test_diffusers_folder import TINY

    UNet2DModel(**TINY).save_pretrained(place / "unet", safe_serialization=False)
    DDPMScheduler(num_train_timesteps=1000).save_pretrained(place / "unet")
    names = ("config.json", "scheduler_config.json", "diffusion_pytorch_model.bin")
    return {f"unet/{name}": (place / "unet" / name).read_bytes() for name in names}


def _classifiers(place: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    state = ResNet(**RESNET).state_dict()
    save_file(state, place / "net.safetensors")
    found = {
        "net.pth": saved(state),
        "net.th": saved({"state_dict": state, "best": 91.2}, False),
        "net.bin": saved({f"module.{name}": tensor for name, tensor in state.items()}),
        "net.safetensors": (place / "net.safetensors").read_bytes(),
    }
    return {name: (classifier(name), {name: data}, [name]) for name, data in found.items()}


def pictures() -> dict[str, bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)
    picture, exif = Image.fromarray(pixels), Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "upright"
    found = {}
    for name, options in (("a.png", {}), ("a.jpg", {"exif": exif, "progressive": True})):
        held = io.BytesIO()
        picture.save(held, "PNG" if name == "a.png" else "JPEG", **options)
        found[name] = held.getvalue()
    held = io.BytesIO()
    picture.convert("P").save(held, "PNG", exif=exif)
    return {**found, "p.png": held.getvalue()}


def npz(compressed: bool = False, **arrays: Any) -> bytes:
    held = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(held, **arrays)
    return held.getvalue()


def some_arrays() -> dict[str, np.ndarray]:
    return {
        "images": np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), np.uint8),
        "labels": np.array([0, 1, 1, 0]),
        "classes": np.array(["cat", "dog"]),
    }


def _data(place: Path) -> dict[str, Any]:
    floats = {"images": np.random.default_rng(0).random((3, 3, 8, 8), np.float32)}
    made: dict[str, Any] = {
        "a.npz": (data("a.npz"), {"a.npz": npz(**some_arrays())}, ["a.npz"]),
        "packed.npz": (data("a.npz"), {"a.npz": npz(True, **some_arrays())}, ["a.npz"]),
        "float.npz": (data("a.npz"), {"a.npz": npz(**floats)}, ["a.npz"]),
    }
    for name, content in pictures().items():
        made[name] = (data(name, size=(8, 8)), {name: content}, [name])
    listed = {"labels.csv": b"file,label\na.png,cat\nb/a.jpg,dog\n", **pictures()}
    listed["b/a.jpg"] = listed["a.jpg"]
    made["labels.csv"] = (data("", size=(8, 8)), listed, ["labels.csv"])
    clothes = {
        f"{name}.gz": gzip.compress(c, mtime=0) for name, c in official_files.fashion().items()
    }
    tests = {name: content for name, content in clothes.items() if name.startswith("t10k")}
    made["idx.gz"] = (data("fashion-mnist:test", "."), tests, list(tests))
    plain = {name: c for name, c in official_files.fashion().items() if name.startswith("t10k")}
    made["idx"] = (data("fashion-mnist:test", "."), plain, list(plain))
    official_files.write_cifar100_binary(place / "bin")
    official_files.write_cifar100_python(place / "py")
    binary = {"test.bin": (place / "bin" / "test.bin").read_bytes()}
    made["cifar100.bin"] = (data("cifar100:test", "."), binary, ["test.bin"])
    pickled = {"test": (place / "py" / "test").read_bytes()}
    made["cifar100.pickle"] = (data("cifar100:test", "."), pickled, ["test"])
    official_files.write_tiny_zip(place / "tiny", official_files.tiny())
    name = "tiny-imagenet-200.zip"
    made["tiny.zip"] = (
        data("tiny-imagenet:val", "."), {name: (place / "tiny" / name).read_bytes()}, [name]
    )  # fmt: skip
    unpacked = {f"tiny-imagenet-200/{n}": c for n, c in official_files.tiny().items()}
    words = [
        f"tiny-imagenet-200/{n}" for n in ("wnids.txt", "words.txt", "val/val_annotations.txt")
    ]
    made["tiny"] = (data("tiny-imagenet:train", "."), unpacked, words)
    return made


def card_files(name: str) -> Files:
    return {
        "card.toml": (ZOO / f"{name}.toml").read_bytes(),
        f"{name}.safetensors": (ZOO / f"{name}.safetensors").read_bytes(),
    }


def _cards() -> dict[str, Any]:
    quick = (plan.PLAN_DIR / "quick.toml").read_bytes()
    return {
        "card": (classifier_card, card_files("fashion-cnn"), ["card.toml"]),
        "score card": (prior_card, card_files("fashion-small"), ["card.toml"]),
        "plan": (read_plan, {"plan.toml": quick}, ["plan.toml"]),
    }


def run_files(place: Path) -> Files:
    shutil.rmtree(place / "run", ignore_errors=True)
    (place / "run" / "images").mkdir(parents=True)
    lines = []
    for number in (3, 7):
        image = torch.full((3, 4, 4), number, dtype=torch.uint8)
        write_png(place / "run" / records.picture_path("images", number), image)
        file = records.picture_path("images", number)
        digest = records.file_sha256(place / "run" / file)
        lines.append({"image_id": number, "label": 1, "file": file, "sha256": digest})
    told: Files = {"format": FORMAT, "images": 2, "finished": "today", "command": "x"}
    told["seal"] = compute_seal(told)
    return {
        "rows.jsonl": b"".join(seal_row(row, told["seal"]) for row in lines),
        "manifest.json": json.dumps(told).encode(),
        **{
            records.picture_path("images", n): (
                place / "run" / records.picture_path("images", n)
            ).read_bytes()
            for n in (3, 7)
        },
    }


def _runs(place: Path) -> dict[str, Any]:
    return {"run": (read_run, run_files(place), ["rows.jsonl", "manifest.json"])}
