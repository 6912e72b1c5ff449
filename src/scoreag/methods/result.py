"""The result of a task: images, what was measured on them, and how they were computed."""

import math
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from html import escape
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from scoreag.classifiers.probabilities import list_probabilities, softmax_probabilities
from scoreag.core.types import BatchScalar, Images, Labels, Logits
from scoreag.io.filesystem import write_json
from scoreag.io.images import decode_png, encode_png, make_grid, to_float, to_uint8
from scoreag.io.manifest import format_spans, to_jsonable
from scoreag.io.pictures import (
    EncodedBatch,
    PictureFiles,
    describe_pictures,
    is_large,
    owned_pictures,
)
from scoreag.io.records import (
    IMAGE_KINDS,
    NONE_TYPE,
    PICTURE_FIELDS,
    Fields,
    Pixels,
    Row,
    replace_rows,
)
from scoreag.io.row_table import ROW_TABLE
from scoreag.io.run_dir import ROWS, RunDir, RunFiles, open_run_dir, page_files
from scoreag.methods.summary import summarize_rows
from scoreag.metrics.norms import compute_norms

BatchInt = Int[Tensor, " batch"]
MAX_GRID_IMAGES, MAX_GRID_PIXELS, MAX_GRID_SIDE = 100, 1_000_000, 1200  # in a notebook
CLASS_COLUMNS = ("labels", "targets", "clean_predictions", "predictions",
                 "judge_predictions", "judge_clean_predictions")  # fmt: skip
TABLES, FIGURES = ("rates", "distances", "searched", "cost"), ("linf",)  # of the report
TASK_FILES = RunFiles(
    (ROWS, ROW_TABLE, "summary.json", "report.html",
     *(f"{kind}/{place}*.png" for kind in IMAGE_KINDS for place in ("", "[0-9]*xxx/")),
     *(f"images/[0-9]*.{suffix}" for suffix in ("part", "tar", "parquet")),
     *page_files(TABLES, FIGURES)),
    list_owned=owned_pictures,
)  # fmt: skip
ROW_FIELDS: Fields = {
    **PICTURE_FIELDS,
    **dict.fromkeys(("label", "target"), (int, NONE_TYPE)),
    "predictions": (dict,),
    **dict.fromkeys(("success_float", "success", "targeted_success"), (bool, NONE_TYPE)),
    **dict.fromkeys(("restarts", "guidance_skipped", "nfe"), (int,)),
}


@dataclass(frozen=True, eq=False)
class Result:
    """The images of one task, and what was measured on each of them.

    Results can be sliced (``result[:8]``, ``result[result.success]``), joined and saved.

    Args:
        task: synthesize, transform, purify or attack.
        images: (batch, channel, height, width) in [0, 1].
        nfe: denoiser calls per image, including restarts.
        restarts: how often each image was sampled again.
        guidance_skipped: how often ``stop_margin`` paused the classifier's guidance of the image.
        originals: the input images; None for a synthesis.
        targets: the target class of each image; -1: any wrong one.
        clean_predictions, predictions: of the classifier, on the originals and on the images in 8
            bits, as they are saved.
        success: the classifier does not predict the label of the 8-bit image: the headline.
        success_float: the same, before the image is rounded to 8 bits.
        targeted_success: it predicts the target of the 8-bit image; ``success`` if untargeted.
        attack_scale: s_y of each image; None for a purification.
        similarity: s_x of each image; None for a synthesis.
        found: whether the search for attack_scale or similarity found an attack that fools the
            classifier as asked; None where nothing was searched for.
        energy: how far the attack shifted the noise that the sampler drew, as a sum of squares in
            deviations; infinite where it acted after the last draw; None where it is not counted.
        config: the sampling options.
        judge: name and other metadata of the reference classifier.
        judge_predictions, judge_clean_predictions: of the reference classifier, on the 8-bit images
            and on the originals; None without one.
        probabilities, clean_probabilities: of the classes, (batch, classes), by the classifier on
            the 8-bit images and on the originals: the softmax of its logits.
        classes: the names of the labels; () where they are unknown.
    """

    task: str
    images: Images
    image_ids: BatchInt
    nfe: BatchInt
    restarts: BatchInt
    guidance_skipped: BatchInt
    originals: Images | None = None
    labels: Labels | None = None
    targets: Labels | None = None
    clean_predictions: Labels | None = None
    predictions: Labels | None = None
    success: Bool[Tensor, " batch"] | None = None
    success_float: Bool[Tensor, " batch"] | None = None
    targeted_success: Bool[Tensor, " batch"] | None = None
    attack_scale: BatchScalar | None = None
    similarity: BatchScalar | None = None
    found: Bool[Tensor, " batch"] | None = None
    energy: BatchScalar | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    judge: Mapping[str, Any] = field(default_factory=dict)
    judge_predictions: Labels | None = None
    judge_clean_predictions: Labels | None = None
    classes: tuple[str, ...] = ()
    probabilities: Float[Tensor, "batch classes"] | None = None
    clean_probabilities: Float[Tensor, "batch classes"] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        """One line: the task, the images, and the counts of what was measured."""
        size = " x ".join(map(str, self.images.shape[1:]))
        parts = [f"{len(self)} image{'s' * (len(self) != 1)} of {size}"]
        names = {"success": "fooled the classifier", "targeted_success": "reached their target"}
        if self.task == "purify":
            names = {"success": "misclassified after purification"}
        if (before := self._count_right(self.clean_predictions)) is not None:
            parts.append(f"{before} of {len(self)} classified right before")
        for name, words in names.items():
            is_targeted = name != "targeted_success" or self.task != "attack"
            if is_targeted and (values := getattr(self, name)) is not None:
                parts.append(f"{int(values.sum())} of {len(self)} {words}")
        if (preserved := self.label_preserved) is not None:
            count = f"{int(preserved.sum())} of {len(self)}"
            parts.append(f"{count} keep their label for the reference classifier")
        return f"Result({self.task}: {', '.join(parts)})"

    def _repr_html_(self) -> str:
        """The same line and a grid of the first images, for a notebook; below 4 MB."""
        if not len(self):
            return f"<p>{escape(repr(self))}</p>"
        side = max(self.images.shape[2:])
        count = max(1, min(len(self), MAX_GRID_IMAGES, MAX_GRID_PIXELS // side**2))
        picture, buffer = self[:count].to_grid(), BytesIO()
        picture.thumbnail((MAX_GRID_SIDE, MAX_GRID_SIDE))
        picture.save(buffer, "PNG")
        data = b64encode(buffer.getvalue()).decode()
        note = f"<p>The first {count} of {len(self)} images:</p>" if count < len(self) else ""
        return (
            f'<p>{escape(repr(self))}</p>{note}<img alt="the images" '
            'style="image-rendering: pixelated; max-width: 100%" '
            f'src="data:image/png;base64,{data}">'
        )

    @property
    def accuracy(self) -> float | None:
        """The share of 8-bit images that are read right: of attacked ones, robust accuracy."""
        right = self._count_right(self.predictions)
        return right / len(self) if right is not None and len(self) else None

    @property
    def clean_accuracy(self) -> float | None:
        """The same of the given images."""
        right = self._count_right(self.clean_predictions)
        return right / len(self) if right is not None and len(self) else None

    def _count_right(self, predictions: Labels | None) -> int | None:
        """How many predictions are the labels; None where either is unknown."""
        if predictions is None or self.labels is None:
            return None
        return int((predictions == self.labels).sum())

    @property
    def label_preserved(self) -> Bool[Tensor, " batch"] | None:
        """Whether the reference classifier predicts the label of the 8-bit image."""
        if self.judge_predictions is None or self.labels is None:
            return None
        return self.judge_predictions == self.labels

    def __getitem__(self, rows: int | slice | Sequence[int] | Tensor) -> "Result":
        """The rows of an index, a slice, a list or a mask, as a result."""
        if isinstance(rows, int):
            if not -len(self) <= rows < len(self):  # which also ends a loop over the rows
                raise IndexError(f"row {rows} of a result of {len(self)} images")
            rows = range(len(self))[rows : rows + 1 or None]
        if not isinstance(rows, slice):
            rows = torch.as_tensor(rows)
            rows = rows.long() if not rows.numel() else rows  # an empty list becomes float
        selected = torch.arange(len(self))[rows]
        return self.map_tensors(lambda values: values[selected])

    def map_tensors(self, function: Callable[[Tensor], Tensor]) -> "Result":
        """The result with ``function`` applied to each of its tensors."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        mapped: dict[str, Any] = {
            name: function(value) for name, value in values.items() if isinstance(value, Tensor)
        }
        return replace(self, **mapped)

    @staticmethod
    def cat(parts: Sequence["Result"]) -> "Result":
        """One result with the rows of all ``parts``, which share task, options and judge.

        What some part does not have, such as the probabilities of a loaded one, is None.
        """
        if not parts:
            raise ValueError("no results to join; give at least one")
        first = parts[0]
        for name in ("task", "config", "seed", "judge", "classes"):
            if any(getattr(part, name) != getattr(first, name) for part in parts):
                raise ValueError(f"results of different {name} are not one result; keep them apart")
        joined: dict[str, Any] = {}
        for f in fields(first):
            if isinstance(getattr(first, f.name), Tensor):
                columns = [getattr(part, f.name) for part in parts]
                is_whole = all(column is not None for column in columns)
                joined[f.name] = torch.cat(columns) if is_whole else None
        return replace(first, **joined)

    def with_predictions(self, logits: Logits, clean_logits: Logits | None = None) -> "Result":
        """The result with the classes that the classifier predicts, and their probabilities.

        Args:
            logits: of the 8-bit images.
            clean_logits: of the originals; None leaves what is known of them.
        """
        result = replace(
            self, predictions=logits.argmax(1), probabilities=softmax_probabilities(logits)
        )
        if clean_logits is None:
            return result
        return replace(
            result,
            clean_predictions=clean_logits.argmax(1),
            clean_probabilities=softmax_probabilities(clean_logits),
        )

    def with_success(self, float_predictions: Labels) -> "Result":
        """The result with the success of each image, from ``predictions`` and the labels.

        Args:
            float_predictions: of the classifier, on the images before rounding.
        """
        assert self.predictions is not None and self.labels is not None
        success = targeted = self.predictions != self.labels
        if self.targets is not None:
            targeted = torch.where(self.targets >= 0, self.predictions == self.targets, success)
        return replace(
            self,
            success=success,
            success_float=float_predictions != self.labels,
            targeted_success=targeted,
        )

    def with_judge(
        self, judge: Any, clean_predictions: Labels | None, predictions: Labels
    ) -> "Result":
        """The result with the answers of a reference classifier, on originals and 8-bit images."""
        return replace(
            self,
            judge=dict(getattr(judge, "metadata", {"name": type(judge).__name__})),
            judge_predictions=predictions,
            judge_clean_predictions=clean_predictions,
        )

    def to_rows(
        self, target_source: str | None = None, float_predictions: Labels | None = None
    ) -> list[Row]:
        """A row per image, as in ``rows.jsonl`` but without the pictures.

        Args:
            target_source: how the target was chosen: given, runner_up, random or untargeted.
            float_predictions: of the classifier, on the images before rounding.
        """
        rows, probabilities = [], self._list_probabilities()
        for i, image_id in enumerate(self.image_ids.tolist()):
            target = _item(self.targets, i)
            row = {
                "image_id": image_id,
                "label": _item(self.labels, i),
                "target": None if target == -1 else target,
                "target_source": target_source,
                "predictions": {
                    "before": _item(self.clean_predictions, i),
                    "float": _item(float_predictions, i),
                    "saved": _item(self.predictions, i),
                },
                "success_float": _item(self.success_float, i),
                "success": _item(self.success, i),
                "targeted_success": _item(self.targeted_success, i),
                "restarts": int(self.restarts[i]),
                "guidance_skipped": int(self.guidance_skipped[i]),
                "attack_scale": _item(self.attack_scale, i),
                "similarity": _item(self.similarity, i),
                "found": _item(self.found, i),
                "seed": self.seed,
                "nfe": int(self.nfe[i]),
            }
            if self.energy is not None:  # infinite: None, which JSON has
                energy = float(self.energy[i])
                row["energy"] = round(energy, 6) if math.isfinite(energy) else None
            if probabilities:
                row["probabilities"] = {name: each[i] for name, each in probabilities.items()}
            if self.judge_predictions is not None:
                before = _item(self.judge_clean_predictions, i)
                row["judge"] = {"before": before, "saved": int(self.judge_predictions[i])}
            rows.append(row)
        return rows

    def _list_probabilities(self) -> dict[str, list[dict[str, float] | None]]:
        """Of the likeliest classes, of the label and of the target, on both versions."""
        known = {"before": self.clean_probabilities, "saved": self.probabilities}
        named = (self.labels, self.targets)
        return {k: list_probabilities(p, named) for k, p in known.items() if p is not None}

    def save(
        self,
        folder: str | Path,
        overwrite: bool = False,
        provenance: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write a run folder: manifest, a row per image, PNGs, and the summary.

        Args:
            provenance: further entries of the manifest, e.g. ``models`` and ``data``.

        Raises:
            ValueError: the folder is not empty, or, with ``overwrite``, holds something but a run.
        """
        folder, more = Path(folder), to_jsonable(dict(provenance or {}))
        if not overwrite and folder.is_dir() and any(folder.iterdir()):
            raise ValueError(f"{folder} is not empty; give another folder, or overwrite=True")
        manifest = {
            "task": self.task,
            "config": to_jsonable(self.config),
            "seed": self.seed,
            "images": len(self),
            "image_ids": format_spans(self.image_ids.tolist()),
            **describe_pictures("png", len(self)),
            **({"classes": list(self.classes)} if self.classes else {}),
            **more,
        }
        if self.judge:
            manifest["models"] = {**more.get("models", {}), "judge": to_jsonable(self.judge)}
        with open_run_dir(folder, manifest, TASK_FILES, overwrite) as run:
            self.write(run)
        return folder

    def write(self, run: RunDir) -> None:
        """Write rows, PNGs and the summary into the folder of this run, and finish it."""
        _, entries, pictures = encode_pictures(self)
        rows = [row | entry for row, entry in zip(self.to_rows(), entries, strict=True)]
        files = PictureFiles(run.path, is_large(len(self)))
        rows = files.write([(0, EncodedBatch(rows, pictures))])
        replace_rows(run.path, rows)
        write_json(run.path / "summary.json", summarize_rows(self.task, rows, run.manifest))
        run.finish()

    def summarize(self) -> dict[str, Any]:
        """Rates with counts and intervals, median distances and cost, as in ``summary.json``."""
        rows = self.to_rows()
        if self.originals is not None:
            pair = (to_uint8(images).cpu() for images in (self.originals, self.images))
            found = _measure_distances(*pair)
            rows = [{**row, "distances": one} for row, one in zip(rows, found, strict=True)]
        manifest = {"config": self.config, "classes": self.classes}
        return summarize_rows(
            self.task, rows, {**manifest, "models": {"judge": to_jsonable(self.judge)}}
        )

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame`` with a row per image, without the pixels.

        Where the class names are known, each column of classes is followed by one of their names:
        ``labels``, ``labels_name``.  A target of -1 is "any".

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            pandas = import_module("pandas")
        except ImportError as error:
            raise ImportError("pandas is missing; pip install 'scoreag[pandas]'") from error
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        columns: dict[str, list[Any]] = {}
        for name, value in values.items():
            if isinstance(value, Tensor) and value.ndim == 1:
                columns[name] = value.tolist()
                if self.classes and name in CLASS_COLUMNS:
                    columns[f"{name}_name"] = [self.class_name(i) for i in columns[name]]
        return pandas.DataFrame(columns)

    def class_name(self, label: int) -> str:
        """The name of a class, or its number; "any" below 0, and "rejected" above the last."""
        if label < 0:
            return "any"
        if self.classes and label == len(self.classes):
            return "rejected"
        return self.classes[label] if label < len(self.classes) else str(label)

    def to_grid(self, columns: int = 10) -> Image.Image:
        """All images side by side, as one 8-bit picture."""
        picture = make_grid(to_uint8(self.images), max(1, min(columns, len(self))))
        return Image.fromarray(picture.permute(1, 2, 0).squeeze(2).numpy())


def _item(values: Tensor | None, i: int) -> Any:
    return None if values is None else values[i].item()


def _measure_distances(originals: Pixels, images: Pixels) -> list[dict[str, float]]:
    """The norms of the change of each image."""
    pair = (to_float(pixels, torch.float64) for pixels in (originals, images))
    distances = compute_norms(*pair)  # in double precision: linf is a whole number of 255ths
    return [
        {norm: round(float(d[i]), 6) for norm, d in distances.items()} for i in range(len(images))
    ]


def encode_pictures(
    result: Result, sources: Mapping[int, str] | None = None
) -> tuple[Pixels, list[Row], list[dict[str, bytes]]]:
    """The pixels of the images as PNG holds them, the entries for each row, and the PNGs by role.

    Args:
        sources: the file that each image was read from, by image id.
    """
    ids = result.image_ids.tolist()
    saved, encoded = _encode(result.images)
    pictures = [{"": data} for data in encoded]
    entries: list[Row] = [{} for _ in ids]
    if result.originals is not None:
        originals, encoded = _encode(result.originals)
        found = _measure_distances(originals, saved)
        for entry, one, more, png in zip(entries, found, pictures, encoded, strict=True):
            entry["distances"] = one
            more["original_"] = png
    for image_id, entry in zip(ids, entries, strict=True):
        if sources and image_id in sources:
            entry["source"] = sources[image_id]
    return saved, entries, pictures


def _encode(images: Tensor) -> tuple[Pixels, list[bytes]]:
    """Images as PNG, and the pixels that were decoded from these."""
    encoded = [encode_png(picture) for picture in to_uint8(images).cpu()]
    return torch.stack([decode_png(data) for data in encoded]), encoded
