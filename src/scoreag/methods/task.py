"""A task over many images, in batches that do not depend on how the work is split.

The networks always see ``batch_size`` images at once, the last batch padded: the kernels then round
alike, and an image comes out bit for bit the same whatever else is computed beside it.
"""

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor
from tqdm import tqdm

from scoreag.classifiers.checks import ZERO_GRADIENT, has_zero_gradient
from scoreag.core.batching import bind_image_ids, reset_draws, select_rows
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images, Labels
from scoreag.diffusion.prior import Prior
from scoreag.io.images import to_float, to_uint8
from scoreag.methods.config import SamplingConfig
from scoreag.methods.guided_sampling import SampleBatch
from scoreag.methods.result import Result
from scoreag.methods.validation import validate_flag
from scoreag.registry import describe_value

DEFAULT_BATCH_SIZE = 16  # images that the networks see at once
MAX_BATCH_SIZE = 4096  # short batches are padded to it, in memory
MAX_DOUBLINGS = 1000  # a double ends at 2^1024

Sample: TypeAlias = Callable[["TaskSpec", SamplingConfig, Noise], SampleBatch]


@dataclass(frozen=True, eq=False)
class TaskSpec:
    """Everything that determines a result.

    Args:
        task: synthesize, transform or purify; ``sample`` is its formula.
        target: a class an image, ``runner_up``, or None: untargeted.
        judge: another classifier, asked at the end; it guides nothing.
    """

    task: str
    sample: Sample
    prior: Prior
    config: SamplingConfig
    seed: int
    image_ids: tuple[int, ...]
    classifier: Classifier | None = None
    images: Images | None = None
    labels: Labels | None = None
    target: Labels | str | None = None
    judge: Classifier | None = None

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def is_attack(self) -> bool:
        """Whether a classifier guides the chain."""
        return self.task != "purify" and bool(self.config.attack_scale)

    def select(self, rows: Sequence[int]) -> "TaskSpec":
        """The task for some of its images; what draws inside the classifier goes with them."""
        index, classifier = torch.as_tensor(rows), self.classifier
        if classifier is not None:
            classifier = select_rows(bind_image_ids(classifier, self.image_ids), rows)

        def pick(value: Any) -> Any:
            return value[index] if isinstance(value, Tensor) else value

        return replace(
            self,
            image_ids=tuple(self.image_ids[i] for i in rows),
            images=pick(self.images),
            labels=pick(self.labels),
            target=pick(self.target),
            classifier=classifier,
        )

    def pad(self, pad_to: int, purpose: str) -> "TaskSpec":
        """The task with its last image repeated up to ``pad_to``.

        Whatever draws inside of the classifier starts anew, for the images of this task and for
        ``purpose`` alone; rows that only fill the batch up draw for nobody.
        """
        count = len(self)
        padded = self.select([*range(count), *[count - 1] * (pad_to - count)])
        if self.classifier is None:
            return padded
        classifier = reset_draws(self.classifier, self.image_ids, purpose)
        return replace(padded, classifier=select_rows(classifier, range(len(padded))))


def batch_ranges(count: int, size: int) -> Iterator[range]:
    """0..count-1 in runs of ``size``, cut by position alone."""
    return (range(i, min(i + size, count)) for i in range(0, count, size))


def run_in_memory(
    task: TaskSpec, batch_size: int = DEFAULT_BATCH_SIZE, progress: bool = True
) -> Result:
    """All images of a task, in this process; batch size 0 takes them all at once, unpadded."""
    if not isinstance(batch_size, int) or batch_size < 0:
        came = describe_value(batch_size)
        raise ValueError(f"batch_size is {came}; expected 1 or more, or 0 for all at once")
    if batch_size > MAX_BATCH_SIZE:
        raise ValueError(
            f"batch_size is {batch_size}, and short batches are padded to it; expected at most "
            f"{MAX_BATCH_SIZE}, or 0 for all at once, unpadded"
        )
    parts, off = [], None if validate_flag("progress", progress) else True
    with tqdm(total=len(task), unit="image", desc=task.task, disable=off, delay=2) as bar:
        for rows in batch_ranges(len(task), batch_size or len(task)):
            parts.append(run_batch(task.select(rows), pad_to=batch_size))
            bar.update(len(rows))
    return Result.cat(parts)


@torch.inference_mode(False)  # guidance needs gradients, wherever it is called from
def run_batch(task: TaskSpec, pad_to: int = 0) -> Result:
    """The result of all images of a task at once; short batches are padded with repeated rows."""
    padded = task.pad(pad_to, "task")
    samples = _sample(padded, padded.config)
    _check_finite(padded, samples.images)
    result = _evaluate(padded, padded.config, samples)[: len(task)]
    if not task.is_attack:
        return result
    return _restart_failures(replace(task, classifier=padded.classifier), result, pad_to)


def _restart_failures(task: TaskSpec, result: Result, pad_to: int) -> Result:
    """Sample the images that failed again, each time at the double attack scale.

    A classifier that draws continues its draws for each image; the batch is filled up with rows
    that succeeded, to the size that the networks saw before.  An image whose chain explodes stays
    as it was and is not sampled again: a larger scale would not mend it.
    """
    exploded: set[int] = set()
    for attempt in range(1, task.config.max_restarts + 1):
        assert result.success is not None and task.classifier is not None
        failures = (~result.success).nonzero().flatten().tolist()
        failed = [i for i in failures if i not in exploded]
        if not failed:
            break
        missing = max(0, pad_to - len(failed))
        others = [i for i in range(max(pad_to, len(task))) if i not in failed][:missing]
        rows = [*failed, *[failed[-1]] * missing]
        again = replace(
            task.select(rows), classifier=select_rows(task.classifier, [*failed, *others])
        )
        scale = escalate_attack_scale(task.config.attack_scale, attempt)
        resampled, finite = _resample(again, scale, result[rows])
        resampled = replace(resampled, restarts=torch.full_like(resampled.restarts, attempt))
        result = _merge_rows(result, failed, resampled[: len(failed)], finite[: len(failed)])
        exploded |= {row for row, ok in zip(failed, finite.tolist(), strict=False) if not ok}
    return result


def escalate_attack_scale(attack_scale: float, restarts: int) -> float:
    """The attack scale of a restart: doubled each time, as far as there are numbers."""
    return min(attack_scale * 2.0 ** min(restarts, MAX_DOUBLINGS), sys.float_info.max)


def _resample(task: TaskSpec, attack_scale: float, previous: Result) -> tuple[Result, Tensor]:
    """The images at another attack scale, and which of the chains stayed finite."""
    config = replace(task.config, attack_scale=attack_scale)
    samples = _sample(task, config)
    finite = samples.images.flatten(1).isfinite().all(1)
    images = torch.where(
        finite.view(-1, 1, 1, 1), samples.images, previous.images.to(samples.images)
    )

    def predict(images: Images) -> Labels:
        assert task.classifier is not None
        logits = task.classifier(images)
        finite.logical_and_(logits.isfinite().all(1))
        return logits.argmax(1)

    return _evaluate(task, config, replace(samples, images=images), predict), finite


def _merge_rows(result: Result, rows: list[int], resampled: Result, finite: Tensor) -> Result:
    """``result`` with other ``rows`` where these are ``finite``; what all cost adds up."""
    nfe, skipped = result.nfe.clone(), result.guidance_skipped.clone()
    nfe[rows] += resampled.nfe
    skipped[rows] += resampled.guidance_skipped
    order, index = torch.arange(len(result)), torch.tensor(rows)
    order[rows] = torch.where(finite.cpu(), len(result) + torch.arange(len(rows)), index)
    return replace(Result.cat([result, resampled])[order], nfe=nfe, guidance_skipped=skipped)


def _sample(task: TaskSpec, config: SamplingConfig) -> SampleBatch:
    return task.sample(task, config, Noise(task.seed, task.image_ids))


def _check_finite(task: TaskSpec, images: Images) -> None:
    """Refuse a chain that exploded: in 8 bits it would be black, and fool any classifier."""
    which = _describe_nonfinite(task, images.flatten(1).isfinite().all(1), " are not finite")
    if not which:
        return
    names = ("similarity",) if task.task == "purify" else ("attack_scale", "similarity")
    values = ", ".join(f"{name} {getattr(task.config, name):g}" for name in names)
    flags = " or ".join(f"--{name.replace('_', '-')}" for name in names)
    raise ValueError(
        f"the chain exploded: {which} at {values}, {task.config.steps} steps; "
        f"write a smaller {flags}, or more --steps"
    )


@torch.no_grad()
def _evaluate(
    task: TaskSpec,
    config: SamplingConfig,
    samples: SampleBatch,
    predict_float: Callable[[Images], Labels] | None = None,
) -> Result:
    """The samples, and what the classifier and the judge say of them, in 8 bits and as floats.

    Args:
        predict_float: the classifier's answers to the samples; by default refuses what is NaN.
    """
    count, zeros = len(task), torch.zeros(len(task), dtype=torch.int64)
    attack_scale = torch.full((count,), config.attack_scale, dtype=torch.float64)
    result = Result(
        task=task.task,
        images=samples.images,
        originals=task.images,
        labels=task.labels,
        targets=samples.targets,
        attack_scale=None if task.task == "purify" else attack_scale,
        nfe=zeros + samples.nfe,
        restarts=zeros,
        guidance_skipped=samples.guidance_skipped.long(),
        image_ids=torch.tensor(task.image_ids),
        seed=task.seed,
        config=task.config.to_dict(task.task),
    )
    if task.classifier is None:
        return result

    def predict(images: Images) -> Labels:
        return _predict(task, task.classifier, images)

    predictions = predict(quantize_8bit(samples.images))
    clean_predictions = None if task.images is None else predict(task.images)
    result = replace(result, predictions=predictions, clean_predictions=clean_predictions)
    if task.labels is None:
        return result
    success = targeted_success = predictions != task.labels
    if samples.targets is not None:
        aimed = samples.targets >= 0
        targeted_success = torch.where(aimed, predictions == samples.targets, success)
    return replace(
        result,
        success_float=(predict_float or predict)(samples.images) != task.labels,
        success=success,
        targeted_success=targeted_success,
        **_run_judge(task, samples.images),
    )


def _run_judge(task: TaskSpec, images: Images) -> dict[str, Any]:
    """What the judge says of the 8-bit images and of the originals, and who it is."""
    if task.judge is None:
        return {}
    clean = None if task.images is None else _predict(task, task.judge, task.images, "judge")
    return {
        "judge": dict(getattr(task.judge, "metadata", {"name": type(task.judge).__name__})),
        "judge_predictions": _predict(task, task.judge, quantize_8bit(images), "judge"),
        "judge_clean_predictions": clean,
    }


def _predict(task: TaskSpec, classifier: Any, images: Images, role: str = "classifier") -> Labels:
    """The likeliest class of each image; of logits that are NaN it would be the first."""
    logits: Tensor = classifier(images)
    if which := _describe_nonfinite(task, logits.isfinite().all(1)):
        raise ValueError(
            f"the {role} returned NaN or infinity for {which}; give one whose logits are "
            "numbers on all images"
        )
    return logits.argmax(1)


def _describe_nonfinite(task: TaskSpec, finite: Tensor, verb: str = "") -> str:
    """How many of the images are not, and the first of their ids; empty if all of them are."""
    bad = {i for i, ok in zip(task.image_ids, finite.tolist(), strict=True) if not ok}
    ids = ", ".join(map(str, sorted(bad)[:5])) + (", ..." if len(bad) > 5 else "")
    return f"{len(bad)} of {len(set(task.image_ids))} images{verb} (ids {ids})" if bad else ""


def quantize_8bit(images: Images) -> Images:
    """What is left of an image after it was saved with 8 bits a channel."""
    return to_float(to_uint8(images), images.dtype).to(images)


def find_gradient_problem(task: TaskSpec) -> str:
    """Why an attack is hopeless before it starts: a classifier without a gradient to follow."""
    if task.classifier is None or not task.is_attack:
        return ""
    like = torch.empty(0, dtype=task.prior.dtype, device=task.prior.sigmas.device)
    zero = has_zero_gradient(task.classifier, task.prior.image_shape, like)
    return f"the classifier {ZERO_GRADIENT}" if zero else ""


def warn_of_gradient(task: TaskSpec) -> None:
    """Warn the caller of the public function that called this one."""
    if problem := find_gradient_problem(task):
        warnings.warn(problem, stacklevel=4)
