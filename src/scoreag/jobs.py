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

from scoreag import tasks
from scoreag.core.noise import Noise
from scoreag.core.prior import Prior
from scoreag.core.rows import begun, of_images, of_rows
from scoreag.core.types import Classifier, Images, Labels
from scoreag.images import to_float, to_uint8
from scoreag.result import Result
from scoreag.settings import Settings

MOST_DOUBLINGS = 1000  # a double ends at 2^1024
CLASS_STRIDE = 1_000_000  # image ids of a synthesis: label * stride + index within the class


@dataclass(frozen=True, eq=False)
class Job:
    """Everything that determines a result. ``wrong`` is one class an image, "second", or None."""

    task: str
    prior: Prior
    settings: Settings
    seed: int
    image_ids: tuple[int, ...]
    classifier: Classifier | None = None
    images: Images | None = None
    labels: Labels | None = None
    wrong: Labels | str | None = None
    judge: Classifier | None = None  # asked at the end; it guides nothing

    def __len__(self) -> int:
        return len(self.image_ids)

    def rows(self, chosen: Sequence[int]) -> "Job":
        """The same job for some of its images; what draws inside the classifier goes with them."""
        index = torch.as_tensor(chosen)
        victim = self.classifier
        if victim is not None:
            victim = of_rows(of_images(victim, self.image_ids), chosen)

        def pick(value: Any) -> Any:
            return value[index] if isinstance(value, Tensor) else value

        return replace(
            self,
            image_ids=tuple(self.image_ids[i] for i in chosen),
            images=pick(self.images),
            labels=pick(self.labels),
            wrong=pick(self.wrong),
            classifier=victim,
        )

    def padded(self, pad_to: int, purpose: str) -> "Job":
        """The same job with its last image repeated up to so many.

        Whatever draws inside of the classifier begins anew, for the images of this job and for
        ``purpose`` alone; rows that only fill the batch up draw for nobody.
        """
        count = len(self)
        whole = self.rows([*range(count), *[count - 1] * (pad_to - count)])
        if self.classifier is None:
            return whole
        victim = begun(self.classifier, self.image_ids, purpose)
        return replace(whole, classifier=of_rows(victim, range(len(whole))))


def pieces(count: int, size: int) -> Iterator[range]:
    """0..count-1 in runs of ``size``, cut by position alone."""
    return (range(i, min(i + size, count)) for i in range(0, count, size))


@torch.inference_mode(False)  # guidance needs gradients, wherever it is called from
def compute(job: Job, pad_to: int = 0) -> Result:
    """The result of a job's images, all at once; short jobs are padded with repeated rows."""
    count, padded = len(job), job.padded(pad_to, "task")
    if job.task == "purify":
        return _purified(padded)[:count]
    drawn = _draw(padded, padded.settings)
    _check_finite(padded, drawn.images, padded.settings)
    result = _measured(padded, drawn)
    return _retried(replace(job, classifier=padded.classifier), result[:count], pad_to)


def _retried(job: Job, result: Result, pad_to: int) -> Result:
    """Draw the images that failed again, each time at doubled strength.

    A classifier that draws goes on to draw for each as it would; beside them stand as many rows
    that succeeded as the networks saw before.  An image whose chain explodes is kept as it was,
    and is not drawn again: more strength would not mend it.
    """
    strength, given_up = job.settings.strength, set[int]()
    for attempt in range(1, job.settings.retries + 1 if strength else 1):
        assert result.success_8bit is not None and job.classifier is not None
        left = (~result.success_8bit).nonzero().flatten().tolist()
        failed = [i for i in left if i not in given_up]
        if not failed:
            break
        missing = max(0, pad_to - len(failed))  # the networks see as many as ever
        others = [i for i in range(max(pad_to, len(job))) if i not in failed][:missing]
        rows = [*failed, *[failed[-1]] * missing]
        again = replace(job.rows(rows), classifier=of_rows(job.classifier, [*failed, *others]))
        drawn, sound = _drawn_again(again, harder(strength, attempt), result[rows])
        drawn = replace(drawn, retries=torch.full_like(drawn.retries, attempt))
        result = _replaced(result, failed, drawn[: len(failed)], sound[: len(failed)])
        given_up |= {row for row, whole in zip(failed, sound.tolist(), strict=False) if not whole}
    return result


def harder(strength: float, retries: int) -> float:
    """The strength of a retry: doubled each time, as far as there are numbers."""
    return min(strength * 2.0 ** min(retries, MOST_DOUBLINGS), sys.float_info.max)


def _drawn_again(job: Job, strength: float, before: Result) -> tuple[Result, Tensor]:
    """The images at another strength, and which of them are any: not those that exploded."""
    drawn = _draw(job, replace(job.settings, strength=strength))
    sound = drawn.images.flatten(1).isfinite().all(1)
    images = torch.where(sound.view(-1, 1, 1, 1), drawn.images, before.images.to(drawn.images))

    def answers(images: Images) -> Labels:
        assert job.classifier is not None
        logits = job.classifier(images)
        sound.logical_and_(logits.isfinite().all(1))
        return logits.argmax(1)

    return _measured(job, replace(drawn, images=images), answers), sound


def _replaced(result: Result, rows: list[int], drawn: Result, sound: Tensor) -> Result:
    """``result`` with other ``rows``, where they are ``sound``; what all cost is added up."""
    calls, rests = result.calls.clone(), result.rests.clone()
    calls[rows] += drawn.calls
    rests[rows] += drawn.rests
    order = torch.arange(len(result))
    index = torch.tensor(rows)
    order[rows] = torch.where(sound.cpu(), len(result) + torch.arange(len(rows)), index)
    return replace(Result.cat([result, drawn])[order], calls=calls, rests=rests)


def _draw(job: Job, settings: Settings) -> tasks.Drawn:
    noise = Noise(job.seed, job.image_ids)
    assert job.classifier is not None and job.labels is not None
    if job.task == "synthesize":
        drawn = tasks.synthesize(job.prior, job.classifier, job.labels, job.wrong, settings, noise)
    else:
        assert job.images is not None
        given = (job.prior, job.classifier, job.images, job.labels, job.wrong)
        drawn = tasks.transform(*given, settings, noise)
    return drawn


def _check_finite(job: Job, images: Images, settings: Settings) -> None:
    """Refuse a chain that exploded: in 8 bits it would be black, and fool any classifier."""
    which = _unsound(job, images.flatten(1).isfinite().all(1), " are not finite")
    if not which:
        return
    names = ("precision",) if job.task == "purify" else ("strength", "precision")
    pulled = ", ".join(f"{name} {getattr(settings, name):g}" for name in names)
    raise ValueError(
        f"the chain exploded: {which} at {pulled}, {settings.steps} steps; "
        f"write a smaller --{' or --'.join(names)}, or more --steps"
    )


@torch.no_grad()
def _measured(
    job: Job, drawn: tasks.Drawn, as_float: Callable[[Images], Labels] | None = None
) -> Result:
    """What the classifier says of the images, as drawn and in 8 bits.

    Args:
        as_float: its answers to the images as drawn; by default those of numbers only.
    """
    assert job.classifier is not None and job.labels is not None
    predictions = _said(job, job.classifier, eight_bit(drawn.images))
    success_8bit = predictions != job.labels
    aimed = drawn.wrong >= 0
    before = None if job.images is None else _said(job, job.classifier, job.images)
    of_drawn = (as_float or partial(_said, job, job.classifier))(drawn.images)
    return Result(
        task=job.task,
        images=drawn.images,
        image_ids=torch.tensor(job.image_ids),
        calls=torch.full((len(job),), drawn.calls),
        retries=torch.zeros(len(job), dtype=torch.int64),
        rests=drawn.rests.long(),
        originals=job.images,
        labels=job.labels,
        wrong=drawn.wrong,
        before=before,
        predictions=predictions,
        success=of_drawn != job.labels,
        success_8bit=success_8bit,
        as_wanted=torch.where(aimed, predictions == drawn.wrong, success_8bit),
        settings=job.settings.to_dict(job.task),
        seed=job.seed,
        **_judged(job, drawn.images),
    )


def _judged(job: Job, images: Images) -> dict[str, Any]:
    """What the judge says of the 8-bit images and of the originals, and who it is."""
    if job.judge is None:
        return {}
    given = job.images
    return {
        "judge": dict(getattr(job.judge, "origin", {"name": type(job.judge).__name__})),
        "judge_predictions": _said(job, job.judge, eight_bit(images), "judge"),
        "judge_before": None if given is None else _said(job, job.judge, given, "judge"),
    }


@torch.no_grad()
def _purified(job: Job) -> Result:
    assert job.images is not None
    tally = tasks.Tally()
    noise = Noise(job.seed, job.image_ids)
    images = tasks.purify(job.prior, job.images, job.settings, noise, tally)
    _check_finite(job, images, job.settings)
    zeros = torch.zeros(len(job), dtype=torch.int64)
    result = Result(
        task=job.task,
        images=images,
        image_ids=torch.tensor(job.image_ids),
        calls=zeros + tally.calls,
        retries=zeros,
        rests=zeros,
        originals=job.images,
        labels=job.labels,
        settings=job.settings.to_dict(job.task),
        seed=job.seed,
    )
    if job.classifier is None:
        return result
    said = _said(job, job.classifier, eight_bit(images))
    before = _said(job, job.classifier, job.images)
    if job.labels is None:
        return replace(result, predictions=said, before=before)
    wrong_now = said != job.labels
    return replace(
        result,
        predictions=said,
        before=before,
        success=_said(job, job.classifier, images) != job.labels,
        success_8bit=wrong_now,
        as_wanted=wrong_now,
    )


def _said(job: Job, classifier: Classifier, images: Images, who: str = "classifier") -> Labels:
    """The likeliest class of each image; of logits that are no numbers it would be the first."""
    logits = classifier(images)
    if which := _unsound(job, logits.isfinite().all(1)):
        raise ValueError(
            f"the {who} returned NaN or infinity for {which}; give one whose logits are "
            "numbers on all images"
        )
    return logits.argmax(1)


def _unsound(job: Job, sound: Tensor, verb: str = "") -> str:
    """How many of the images are not, and the first of their ids; empty if all of them are."""
    bad = {i for i, one in zip(job.image_ids, sound.tolist(), strict=True) if not one}
    ids = ", ".join(map(str, sorted(bad)[:5])) + (", ..." if len(bad) > 5 else "")
    return f"{len(bad)} of {len(set(job.image_ids))} images{verb} (ids {ids})" if bad else ""


def eight_bit(images: Images) -> Images:
    """What is left of an image after it was saved with 8 bits a channel."""
    return to_float(to_uint8(images), images.dtype).to(images)
