"""What a demo found, in words: the lead of its page, and one or two sentences for each stop."""

from torch import Tensor

from scoreag.report.demo_counts import count_correct
from scoreag.report.demo_images import AttackedClassifier, DemoReport, PredictedImages


def summary_sentences(report: DemoReport) -> tuple[str, str]:
    """The outcome of GAT; and what adversarial training and purification change."""
    plain, robust = report.plain, report.robust
    correct, count = _sum(plain.clean_correct), _sum(plain.fooled(plain.gat))
    first = (
        f"{plain.name} classifies {correct} of {len(plain.labels)} real images correctly, "
        f"and transforming these with a score model (GAT) fools it on {count} of {correct}"
    )
    if count:
        first += (
            f"; in {_sum(plain.preserved(plain.gat))} of these {count} a second network, which "
            "guided nothing, still sees the true class"
        )
    total = _sum(robust.clean_correct)
    blind, white_box = _count_defended(report)
    second = (
        f"On {robust.name}, noise (PGD) succeeds on {_sum(robust.fooled(robust.pgd))} of {total} "
        f"images, GAT on {_sum(robust.fooled(robust.gat))} of {total}; purification (GAP) leaves "
        f"{blind} correct against an attacker who does not know of it, and {white_box} against one "
        "who does"
    )
    return f"{first}.", f"{second}."


def describe_generated(report: DemoReport) -> str:
    """GAS beside plain samples."""
    made, total = report.generated, len(report.generated.labels)
    wrong, wrong_plain = (
        one.classifier_predictions != made.labels for one in (made.gas, made.unguided)
    )
    sees, sees_plain = (one.judge_predictions == made.labels for one in (made.gas, made.unguided))
    text = f"{made.classifier} misclassifies {_sum(wrong)} of {total} images of GAS"
    if wrong.any():
        text += (
            f"; in {_sum(wrong & sees)} of these {_sum(wrong)} the reference classifier still sees "
            "the class asked for"
        )
    return (
        f"{text}. Of plain samples from the same noise it misclassifies {_sum(wrong_plain)} of "
        f"{total}, and the reference classifier sees the class in {_sum(sees_plain)} of {total}."
    )


def describe_attacked(report: DemoReport, tested: AttackedClassifier, count: str) -> str:
    """PGD and GAT on a classifier; ``count`` is such as "20 real images"."""
    correct = _sum(tested.clean_correct)
    text = (
        f"{tested.name} classifies {correct} of {count} correctly. Noise of at most "
        f"{report.radius} (PGD) fools it on {_sum(tested.fooled(tested.pgd))} of {correct}, GAT on "
        f"{_sum(tested.fooled(tested.gat))} of {correct}"
    )
    kept = [
        f"{_sum(tested.preserved(version))} of {name} {_sum(tested.fooled(version))}"
        for name, version in (("PGD's", tested.pgd), ("GAT's", tested.gat))
        if _sum(tested.fooled(version))
    ]
    seen = f"; the reference classifier still sees the class in {' and in '.join(kept)}"
    return f"{text}{seen if kept else ''}."


def describe_purified(report: DemoReport) -> str:
    """GAP against an attacker who does not know of it, and against one who does."""
    blind, white_box = _count_defended(report)
    text = (
        f"Behind GAP, {report.plain.name} is right on {blind} images that PGD attacked without "
        f"knowing of GAP, and on {white_box} that PGD attacked through GAP, by exact gradients."
    )
    if int(white_box.split()[0]) < int(blind.split()[0]):
        return f"{text} GAP protects against an attacker who does not know of it."
    return (
        f"{text} With {report.purified.steps} steps, the second attack was too weak to do more; "
        "the documentation has the results of stronger ones."
    )


def _count_defended(report: DemoReport) -> tuple[str, str]:
    """The correct ones of the same attacked images, purified: of a blind attacker, and of one
    who knows GAP."""
    found, count = report.purified, len(report.purified.white_box.images)

    def count_of(version: PredictedImages) -> str:
        one = count_correct(version, report.plain.labels[:count])
        return f"{one.count} of {one.total}"

    return count_of(found.blind.first(count)), count_of(found.white_box_purified)


def _sum(mask: Tensor) -> int:
    return int(mask.sum())
