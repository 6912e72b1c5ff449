"""A study's folder: manifest, page and texts; it appears whole, or not at all."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scoreag.io.filesystem import check_regular_file, write_text
from scoreag.io.manifest import MANIFEST, utc_now
from scoreag.study.design import Study
from scoreag.study.manifest import PAGE, TEXTS, read_study, write_study
from scoreag.study.page import default_texts, find_placeholders, render_study


def check_out(folder: Path) -> None:
    """Refuse a folder that holds anything but a study."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give another --out")
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / MANIFEST).is_file():
            raise ValueError(f"{folder} is not empty and holds no study; give another --out")
        read_study(folder)


def write_study_folder(study: Study, folder: Path) -> dict[str, Any]:
    """Write a study, or the page of the same study with its edited texts; the summary.

    Raises:
        ValueError: the folder holds another study, or the page would be too large.
    """
    check_out(folder)
    texts = default_texts()
    if exists := (folder / MANIFEST).is_file():
        if read_study(folder)["study"] != study.manifest["study"]:
            raise ValueError(
                f"{folder} holds another study, with other images or settings; give another --out"
            )
        texts = read_texts(folder, texts)
    page = render_study(study, texts)
    if exists:
        write_text(folder / PAGE, page)
    else:
        _write_whole(study, folder, page, texts)
    return _summarize(study, folder, page, texts)


def read_texts(folder: Path, default: Mapping[str, str]) -> dict[str, str]:
    """The texts of a study's folder; the default one where a file is missing."""
    texts = dict(default)
    for name in texts:
        file = folder / TEXTS / f"{name}.txt"
        check_regular_file(file)
        if file.is_file():
            try:
                texts[name] = file.read_text("utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(f"{file} is no UTF-8 text; save it as UTF-8") from error
    return texts


def _write_whole(study: Study, folder: Path, page: str, texts: Mapping[str, str]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temp = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        (temp / TEXTS).mkdir(parents=True)
        for name, text in texts.items():
            write_text(temp / TEXTS / f"{name}.txt", text)
        write_text(temp / PAGE, page)
        write_study(temp, {**study.manifest, "created": utc_now()})
        os.replace(temp, folder)
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def _summarize(study: Study, folder: Path, page: str, texts: Mapping[str, str]) -> dict[str, Any]:
    manifest = study.manifest
    lists, raters = manifest["lists"], manifest["raters"]
    counts = [
        sum(i["condition"] == name and i["purpose"] == "main" for i in manifest["items"])
        for name in manifest["conditions"]
    ]
    return {
        "study": manifest["study"],
        "design": manifest["design"],
        "images": dict(zip(manifest["conditions"], counts, strict=True)),
        "lists": len(lists),
        "trials": max(map(len, lists)) + manifest["checks"] + manifest["repeats"],
        "answers_per_image": [raters // len(lists), -(-raters // len(lists))],
        "page": str(folder / PAGE),
        "bytes": len(page.encode()),
        "completion_code": manifest["completion_code"],
        "placeholders": find_placeholders(texts),
    }
