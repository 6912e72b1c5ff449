"""The images of a result in a figure: original, result and their difference."""

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from scoreag.methods.result import Result
from scoreag.methods.saved_result import load_result
from scoreag.plot._canvas import new_figure
from scoreag.registry import describe_value

GOOD, BAD = "#00734f", "#b3261e"  # of titles; a sign stands before the text
CELL = 1.25  # inches


def grid(
    result: Result | str | Path, *, max_images: int = 16, columns: int = 8, difference: bool = True
) -> Any:
    """The first images, below their originals, with what the classifier predicts for them.

    The difference is shown around gray, and enlarged to the full range; its factor is written.

    Args:
        result: of a task or an attack, or the folder of a run.
        max_images: at most so many images.
        columns: images side by side.
        difference: whether the differences are shown, where there are originals.

    Returns:
        The ``matplotlib.figure.Figure``.
    """
    if max_images < 1 or columns < 1:
        raise ValueError(
            f"max_images is {max_images} and columns {columns}; expected 1 or more of each"
        )
    if isinstance(result, str | Path):
        result = load_result(result, max_images)
    if not isinstance(result, Result):
        raise ValueError(
            f"there is {describe_value(result)} to show; expected a Result or the folder of a run"
        )
    shown = result[:max_images]
    kinds = _versions(shown, difference)
    columns = min(columns, len(shown))
    lines = -(-len(shown) // columns)
    figure = new_figure(CELL * columns, (CELL + 0.3) * lines * len(kinds))
    axes = figure.subplots(lines * len(kinds), columns, squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for i in range(len(shown)):
        line, column = divmod(i, columns)
        for number, (name, images) in enumerate(kinds.items()):
            _draw(axes[line * len(kinds) + number, column], shown, i, name, images)
    return figure


def _versions(result: Result, difference: bool) -> dict[str, Tensor]:
    """The versions of all images, by name."""
    if result.originals is None:
        return {"result": result.images}
    kinds = {"original": result.originals, "result": result.images}
    return kinds | ({"difference": result.images - result.originals} if difference else {})


def _draw(ax: Any, result: Result, i: int, name: str, images: Tensor) -> None:
    image = images[i].detach().cpu().float()
    title, color = "", "#222222"
    if name == "difference":
        largest = float(image.abs().max())
        factor = 0.5 / largest if largest else 1.0
        image, title = 0.5 + factor * image, f"difference x {factor:.2g}"
    elif name == "original":
        title = _class(result, result.labels, i)
    else:
        title, color = _outcome(result, i)
    pixels = np.clip(image.permute(1, 2, 0).numpy(), 0, 1)
    gray = pixels.shape[2] == 1
    ax.imshow(pixels[..., 0] if gray else pixels, cmap="gray" if gray else None, vmin=0, vmax=1,
              interpolation="nearest")  # fmt: skip
    ax.set_title(title, fontsize=7, color=color, pad=2)


def _class(result: Result, labels: Tensor | None, i: int) -> str:
    return "" if labels is None else result.class_name(int(labels[i]))


def _outcome(result: Result, i: int) -> tuple[str, str]:
    """The prediction for an image, with a tick where the task succeeded, and the color."""
    predicted = _class(result, result.predictions, i)
    if result.success is None:
        return predicted, "#222222"
    succeeded = bool(result.success[i]) != (result.task == "purify")
    sign = "\N{CHECK MARK}" if succeeded else "\N{MULTIPLICATION X}"
    return f"{sign} {predicted}", GOOD if succeeded else BAD
