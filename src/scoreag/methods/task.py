"""A task over many images, cut into micro-batches that do not depend on how the work is split.

The networks always see ``micro_batch`` images at once, the last of them padded: the kernels then
round alike, and an image comes out bit for bit the same whatever else is computed beside it.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from scoreag.core.batching import bind_image_ids, reset_draws, select_rows
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images, Labels
from scoreag.diffusion.prior import Prior
from scoreag.io.images import to_float, to_uint8
from scoreag.methods import sampling
from scoreag.methods.config import SamplingConfig
from scoreag.methods.result import Result

MAX_DOUBLINGS = 1000  # a double ends at 2^1024
IDS_PER_CLASS = 1_000_000  # image ids of a synthesis: label * stride + index within the class


@dataclass(frozen=True, eq=False)
class TaskSpec:
    """Everything that determines a result. ``wrong`` is one class an image, "second", or None."""

    task: str
    prior: Prior
    config: SamplingConfig
    seed: int
    image_ids: tuple[int, ...]
    classifier: Classifier | None = None
    images: Images | None = None
    labels: Labels | None = None
    target: Labels | str | None = None
    judge: Classifier | None = None  # asked at the end; it guides nothing

    def __len__(self) -> int:
        return len(self.image_ids)

    def select(self, rows: Sequence[int]) -> "TaskSpec":
        """The same job for some of its images; what draws inside the classifier goes with them."""
        index = torch.as_tensor(rows)
        victim = self.classifier
        if victim is not None:
            victim = select_rows(bind_image_ids(victim, self.image_ids), rows)

        def pick(value: Any) -> Any:
            return value[index] if isinstance(value, Tensor) else value

        return replace(
            self,
            image_ids=tuple(self.image_ids[i] for i in rows),
            images=pick(self.images),
            labels=pick(self.labels),
            target=pick(self.target),
            classifier=victim,
        )

    def pad(self, pad_to: int, purpose: str) -> "TaskSpec":
        """The same job with its last image repeated up to so many.

        Whatever draws inside of the classifier begins anew, for the images of this job and for
        ``purpose`` alone; rows that only fill the batch up draw for nobody.
        """
        count = len(self)
        whole = self.select([*range(count), *[count - 1] * (pad_to - count)])
        if self.classifier is None:
            return whole
        victim = reset_draws(self.classifier, self.image_ids, purpose)
        return replace(whole, classifier=select_rows(victim, range(len(whole))))


def batch_ranges(count: int, size: int) -> Iterator[range]:
    """0..count-1 in runs of ``size``, cut by position alone."""
    return (range(i, min(i + size, count)) for i in range(0, count, size))


@torch.inference_mode(False)  # guidance needs gradients, wherever it is called from
def run_batch(job: TaskSpec, pad_to: int = 0) -> Result:
    """The result of a job's images, all at once; short jobs are padded with repeated rows."""
    count, padded = len(job), job.pad(pad_to, "task")
    if job.task == "purify":
        return _run_purification(padded)[:count]
    drawn = _sample(padded, padded.config)
    _check_finite(padded, drawn.images, padded.config)
    result = _evaluate(padded, drawn)
    return _restart_failures(replace(job, classifier=padded.classifier), result[:count], pad_to)


def _restart_failures(job: TaskSpec, result: Result, pad_to: int) -> Result:
    """Draw the images that failed again, each time at doubled strength.

    A classifier that draws goes on to draw for each as it would; beside them stand as many rows
    that succeeded as the networks saw before.  An image whose chain explodes is kept as it was,
    and is not drawn again: more strength would not mend it.
    """
    strength, given_up = job.config.attack_scale, set[int]()
    for attempt in range(1, job.config.max_restarts + 1 if strength else 1):
        assert result.success is not None and job.classifier is not None
        left = (~result.success).nonzero().flatten().tolist()
        failed = [i for i in left if i not in given_up]
        if not failed:
            break
        missing = max(0, pad_to - len(failed))  # the networks see as many as ever
        others = [i for i in range(max(pad_to, len(job))) if i not in failed][:missing]
        rows = [*failed, *[failed[-1]] * missing]
        again = replace(
            job.select(rows), classifier=select_rows(job.classifier, [*failed, *others])
        )
        drawn, sound = _resample(again, escalate_attack_scale(strength, attempt), result[rows])
        drawn = replace(drawn, restarts=torch.full_like(drawn.restarts, attempt))
        result = _merge_rows(result, failed, drawn[: len(failed)], sound[: len(failed)])
        given_up |= {row for row, whole in zip(failed, sound.tolist(), strict=False) if not whole}
    return result


def escalate_attack_scale(attack_scale: float, restarts: int) -> float:
    """The strength of a retry: doubled each time, as far as there are numbers."""
    return min(attack_scale * 2.0 ** min(restarts, MAX_DOUBLINGS), sys.float_info.max)


def _resample(job: TaskSpec, attack_scale: float, previous: Result) -> tuple[Result, Tensor]:
    """The images at another strength, and which of them are any: not those that exploded."""
    drawn = _sample(job, replace(job.config, attack_scale=attack_scale))
    sound = drawn.images.flatten(1).isfinite().all(1)
    images = torch.where(sound.view(-1, 1, 1, 1), drawn.images, previous.images.to(drawn.images))

    def answers(images: Images) -> Labels:
        assert job.classifier is not None
        logits = job.classifier(images)
        sound.logical_and_(logits.isfinite().all(1))
        return logits.argmax(1)

    return _evaluate(job, replace(drawn, images=images), answers), sound


def _merge_rows(result: Result, rows: list[int], resampled: Result, finite: Tensor) -> Result:
    """``result`` with other ``rows``, where they are ``sound``; what all cost is added up."""
    calls, rests = result.nfe.clone(), result.guidance_skipped.clone()
    calls[rows] += resampled.nfe
    rests[rows] += resampled.guidance_skipped
    order = torch.arange(len(result))
    index = torch.tensor(rows)
    order[rows] = torch.where(finite.cpu(), len(result) + torch.arange(len(rows)), index)
    return replace(Result.cat([result, resampled])[order], nfe=calls, guidance_skipped=rests)


def _sample(job: TaskSpec, config: SamplingConfig) -> sampling.SampleBatch:
    noise = Noise(job.seed, job.image_ids)
    assert job.classifier is not None and job.labels is not None
    if job.task == "synthesize":
        drawn = sampling.synthesize(
            job.prior, job.classifier, job.labels, job.target, config, noise
        )
    else:
        assert job.images is not None
        given = (job.prior, job.classifier, job.images, job.labels, job.target)
        drawn = sampling.transform(*given, config, noise)
    return drawn


def _check_finite(job: TaskSpec, images: Images, config: SamplingConfig) -> None:
    """Refuse a chain that exploded: in 8 bits it would be black, and fool any classifier."""
    which = _describe_nonfinite(job, images.flatten(1).isfinite().all(1), " are not finite")
    if not which:
        return
    names = ("similarity",) if job.task == "purify" else ("attack_scale", "similarity")
    pulled = ", ".join(f"{name} {getattr(config, name):g}" for name in names)
    raise ValueError(
        f"the chain exploded: {which} at {pulled}, {config.steps} steps; "
        f"write a smaller --{' or --'.join(names).replace('_', '-')}, or more --steps"
    )


@torch.no_grad()
def _evaluate(
    job: TaskSpec,
    samples: sampling.SampleBatch,
    predict_float: Callable[[Images], Labels] | None = None,
) -> Result:
    """What the classifier says of the images, as drawn and in 8 bits.

    Args:
        as_float: its answers to the images as drawn; by default those of numbers only.
    """
    assert job.classifier is not None and job.labels is not None
    predictions = _predict(job, job.classifier, quantize_8bit(samples.images))
    success_8bit = predictions != job.labels
    aimed = samples.targets >= 0
    before = None if job.images is None else _predict(job, job.classifier, job.images)
    of_drawn = (predict_float or partial(_predict, job, job.classifier))(samples.images)
    return Result(
        task=job.task,
        images=samples.images,
        image_ids=torch.tensor(job.image_ids),
        nfe=torch.full((len(job),), samples.nfe),
        restarts=torch.zeros(len(job), dtype=torch.int64),
        guidance_skipped=samples.guidance_skipped.long(),
        originals=job.images,
        labels=job.labels,
        targets=samples.targets,
        clean_predictions=before,
        predictions=predictions,
        success_float=of_drawn != job.labels,
        success=success_8bit,
        targeted_success=torch.where(aimed, predictions == samples.targets, success_8bit),
        config=job.config.to_dict(job.task),
        seed=job.seed,
        **_run_judge(job, samples.images),
    )


def _run_judge(job: TaskSpec, images: Images) -> dict[str, Any]:
    """What the judge says of the 8-bit images and of the originals, and who it is."""
    if job.judge is None:
        return {}
    given = job.images
    return {
        "judge": dict(getattr(job.judge, "metadata", {"name": type(job.judge).__name__})),
        "judge_predictions": _predict(job, job.judge, quantize_8bit(images), "judge"),
        "judge_clean_predictions": None
        if given is None
        else _predict(job, job.judge, given, "judge"),
    }


@torch.no_grad()
def _run_purification(job: TaskSpec) -> Result:
    assert job.images is not None
    tally = sampling.CallCounter()
    noise = Noise(job.seed, job.image_ids)
    images = sampling.purify(job.prior, job.images, job.config, noise, tally)
    _check_finite(job, images, job.config)
    zeros = torch.zeros(len(job), dtype=torch.int64)
    result = Result(
        task=job.task,
        images=images,
        image_ids=torch.tensor(job.image_ids),
        nfe=zeros + tally.nfe,
        restarts=zeros,
        guidance_skipped=zeros,
        originals=job.images,
        labels=job.labels,
        config=job.config.to_dict(job.task),
        seed=job.seed,
    )
    if job.classifier is None:
        return result
    said = _predict(job, job.classifier, quantize_8bit(images))
    before = _predict(job, job.classifier, job.images)
    if job.labels is None:
        return replace(result, predictions=said, clean_predictions=before)
    wrong_now = said != job.labels
    return replace(
        result,
        predictions=said,
        clean_predictions=before,
        success_float=_predict(job, job.classifier, images) != job.labels,
        success=wrong_now,
        targeted_success=wrong_now,
    )


def _predict(
    job: TaskSpec, classifier: Classifier, images: Images, role: str = "classifier"
) -> Labels:
    """The likeliest class of each image; of logits that are no numbers it would be the first."""
    logits = classifier(images)
    if which := _describe_nonfinite(job, logits.isfinite().all(1)):
        raise ValueError(
            f"the {role} returned NaN or infinity for {which}; give one whose logits are "
            "numbers on all images"
        )
    return logits.argmax(1)


def _describe_nonfinite(job: TaskSpec, finite: Tensor, verb: str = "") -> str:
    """How many of the images are not, and the first of their ids; empty if all of them are."""
    bad = {i for i, one in zip(job.image_ids, finite.tolist(), strict=True) if not one}
    ids = ", ".join(map(str, sorted(bad)[:5])) + (", ..." if len(bad) > 5 else "")
    return f"{len(bad)} of {len(set(job.image_ids))} images{verb} (ids {ids})" if bad else ""


def quantize_8bit(images: Images) -> Images:
    """What is left of an image after it was saved with 8 bits a channel."""
    return to_float(to_uint8(images), images.dtype).to(images)
