"""What a task returns: images, what was measured on them, and how they came about."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from html import escape
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Int
from PIL import Image
from torch import Tensor

from scoreag.core.types import BatchScalar, Images, Labels
from scoreag.io.filesystem import write_json
from scoreag.io.images import make_grid, to_uint8
from scoreag.io.manifest import format_spans, to_jsonable
from scoreag.io.records import Row, replace_rows
from scoreag.io.run_dir import open_run_dir
from scoreag.methods.records import TASK_FILES, add_pictures, save_images
from scoreag.methods.summary import summarize_rows

BatchInt = Int[Tensor, " batch"]
MAX_GRID_IMAGES = 100  # in a notebook


@dataclass(frozen=True, eq=False)
class Result:
    """Images of one task, and what was measured on them: a row an image.

    Rows can be sliced (``result[:8]``, ``result[result.success]``), joined and saved.

    Args:
        task: synthesize, transform or purify.
        images: (batch, channel, height, width) in [0, 1].
        nfe: denoiser evaluations spent on each image, restarts included.
        restarts: how often each image was sampled again.
        guidance_skipped: at how many evaluations each image was left alone, by ``stop_margin``.
        originals: the given images; None for a synthesis.
        targets: the class that each image aims at; -1: any wrong one.
        clean_predictions, predictions: the classifier's on the originals, and on the images in 8
            bits, as they are saved.
        success: the classifier does not say the label, to the image in 8 bits: the headline.
        success_float: the same of the image before it is rounded to 8 bits.
        targeted_success: it says the target, in 8 bits; where there is none, as ``success``.
        attack_scale: s_y by which each image was made; None for a purification.
        config: the sampling options.
        judge: the name of the classifier that judged, and what else is known of it.
        judge_predictions, judge_clean_predictions: what it says, as above; None without a judge.
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
    config: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    judge: Mapping[str, Any] = field(default_factory=dict)
    judge_predictions: Labels | None = None
    judge_clean_predictions: Labels | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        """One line: the task, the images, and the counts of what was measured."""
        size = " x ".join(map(str, self.images.shape[1:]))
        parts = [f"{len(self)} images of {size}"]
        names = {"success": "fooled the classifier", "targeted_success": "reached their target"}
        if self.task == "purify":
            names = {"success": "misclassified after purification"}
        for name, words in names.items():
            if (values := getattr(self, name)) is not None:
                parts.append(f"{int(values.sum())} of {len(self)} {words}")
        if (preserved := self.label_preserved) is not None:
            parts.append(f"{int(preserved.sum())} of {len(self)} keep their label for the judge")
        return f"Result({self.task}: {', '.join(parts)})"

    def _repr_html_(self) -> str:
        """The line above and a grid of the images, as a notebook shows it."""
        if not len(self):
            return f"<p>{escape(repr(self))}</p>"
        buffer = BytesIO()
        self[:MAX_GRID_IMAGES].to_grid().save(buffer, "PNG")
        data = b64encode(buffer.getvalue()).decode()
        return (
            f'<p>{escape(repr(self))}</p><img alt="the images" style="image-rendering: pixelated" '
            f'src="data:image/png;base64,{data}">'
        )

    @property
    def label_preserved(self) -> Bool[Tensor, " batch"] | None:
        """Whether the judge still says the label, to the 8-bit image; None where none was asked."""
        if self.judge_predictions is None or self.labels is None:
            return None
        return self.judge_predictions == self.labels

    def __getitem__(self, rows: int | slice | Sequence[int] | Tensor) -> "Result":
        """The rows of an index, a slice, a list or a mask, again as a result."""
        if isinstance(rows, int):
            rows = range(len(self))[rows : rows + 1 or None]
        if not isinstance(rows, slice):
            rows = torch.as_tensor(rows)
            rows = rows.long() if not rows.numel() else rows  # an empty list is one of floats
        chosen = torch.arange(len(self))[rows]
        return Result(**{f.name: _pick(getattr(self, f.name), chosen) for f in fields(self)})

    @staticmethod
    def cat(parts: Sequence["Result"]) -> "Result":
        """One result with the rows of all ``parts``, which share task, settings and judge."""
        if not parts:
            raise ValueError("no results to join; give at least one")
        first = parts[0]
        for name in ("task", "config", "seed", "judge"):
            if any(getattr(part, name) != getattr(first, name) for part in parts):
                raise ValueError(f"results of different {name} are not one result; keep them apart")
        joined = {
            f.name: torch.cat([getattr(part, f.name) for part in parts])
            for f in fields(first)
            if isinstance(getattr(first, f.name), Tensor)
        }
        return Result(**{**{f.name: getattr(first, f.name) for f in fields(first)}, **joined})

    def to_rows(
        self, target_source: str | None = None, float_predictions: Labels | None = None
    ) -> list[Row]:
        """A row an image, as ``rows.jsonl`` has it, but for the pictures.

        Args:
            target_source: who chose the target: given, runner_up, random or untargeted.
            float_predictions: the answers to the images before they were rounded to 8 bits.
        """
        rows = []
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
                "seed": self.seed,
                "nfe": int(self.nfe[i]),
            }
            if self.judge_predictions is not None:
                before = _item(self.judge_clean_predictions, i)
                row["judge"] = {"before": before, "saved": int(self.judge_predictions[i])}
            rows.append(row)
        return rows

    def save(
        self,
        folder: str | Path,
        overwrite: bool = False,
        provenance: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write a run's folder: manifest, a row an image, PNGs, and the summary; the folder.

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
            **more,
        }
        if self.judge:
            manifest["models"] = {**more.get("models", {}), "judge": to_jsonable(self.judge)}
        with open_run_dir(folder, manifest, TASK_FILES, overwrite) as run:
            ids = self.image_ids.tolist()
            saved, originals = save_images(folder, self.images, self.originals, ids)
            rows = add_pictures(folder, self.to_rows(), saved, originals)
            replace_rows(folder, rows)
            write_json(folder / "summary.json", summarize_rows(self.task, rows, run.manifest))
            run.finish()
        return folder

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame`` with a row an image: all that is known of it but the pixels.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            pandas = import_module("pandas")
        except ImportError as error:
            raise ImportError("pandas is missing; pip install 'scoreag[pandas]'") from error
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        columns = {
            name: value.tolist()
            for name, value in values.items()
            if isinstance(value, Tensor) and value.ndim == 1
        }
        return pandas.DataFrame(columns)

    def to_grid(self, columns: int = 10) -> Image.Image:
        """All images side by side, as one 8-bit picture."""
        picture = make_grid(to_uint8(self.images), max(1, min(columns, len(self))))
        return Image.fromarray(picture.permute(1, 2, 0).squeeze(2).numpy())


def _item(values: Tensor | None, i: int) -> Any:
    return None if values is None else values[i].item()


def _pick(value: Any, rows: Tensor) -> Any:
    return value[rows] if isinstance(value, Tensor) else value
