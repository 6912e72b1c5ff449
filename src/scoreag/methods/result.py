"""What a task returns: images, what was measured on them, and how they came about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Int
from PIL import Image
from torch import Tensor

from scoreag.core.types import Images, Labels
from scoreag.io.filesystem import write_json
from scoreag.io.images import make_grid, to_uint8
from scoreag.io.manifest import format_spans, to_jsonable
from scoreag.io.records import Row, replace_rows
from scoreag.io.run_dir import open_run_dir
from scoreag.methods.config import escalate_attack_scale
from scoreag.methods.records import TASK_FILES, add_pictures, save_images
from scoreag.methods.summary import summarize_rows

BatchInt = Int[Tensor, " batch"]


@dataclass(frozen=True, eq=False)
class Result:
    """Images of one task, a row each; rows can be indexed, joined and saved.

    ``success`` and ``success``: the classifier does not say the label, to the image as drawn
    and to the 8-bit image. ``as_wanted``: to the 8-bit image it says ``wrong``; where nothing
    particular was wanted, ``wrong`` is -1 and ``as_wanted`` equals ``success``.
    ``predictions`` are those for the 8-bit image, ``before`` those for the original.
    Purification wants nothing wrong: there the three are about errors that are left.
    ``judge_predictions`` and ``judge_before`` are what a judge says, who was not attacked; None
    where none was asked, so that nobody knows whether the images still show their class.

    Args:
        calls: denoiser evaluations spent on each image, retries included.
        retries: how often each image was drawn again.
        rests: at how many calls each image was left alone because it was wrong enough.
        judge: the judge's name, and what else is known of it; empty where none was asked.
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
    success_float: Bool[Tensor, " batch"] | None = None
    success: Bool[Tensor, " batch"] | None = None
    targeted_success: Bool[Tensor, " batch"] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    judge: Mapping[str, Any] = field(default_factory=dict)
    judge_predictions: Labels | None = None
    judge_clean_predictions: Labels | None = None

    def __len__(self) -> int:
        return len(self.images)

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
            target, restarts = _item(self.targets, i), int(self.restarts[i])
            scale = self.config.get("attack_scale")
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
                "restarts": restarts,
                "guidance_skipped": int(self.guidance_skipped[i]),
                "attack_scale": None if scale is None else escalate_attack_scale(scale, restarts),
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

    def to_grid(self, columns: int = 10) -> Image.Image:
        """All images side by side, as 8-bit pictures."""
        picture = make_grid(to_uint8(self.images), columns)
        return Image.fromarray(picture.permute(1, 2, 0).squeeze(2).numpy())


def _item(values: Tensor | None, i: int) -> Any:
    return None if values is None else values[i].item()


def _pick(value: Any, rows: Tensor) -> Any:
    return value[rows] if isinstance(value, Tensor) else value
