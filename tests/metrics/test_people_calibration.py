"""The calibration of ``semantic`` in worlds where the share of people is known."""

import math

import pytest
import torch

from scoreag.classifiers.networks.people_ensemble import label_features, n_label_features
from scoreag.core.rng import Stream
from scoreag.metrics import people_calibration as people
from scoreag.stats.logistic import fit_line
from scoreag.stats.ranks import auc, spearman

N_CLASSES = 3
TEMPERATURES = (0.4, 2.5)  # of two networks: too sure, and too unsure
pytestmark = pytest.mark.usefixtures("one_thread")


def answer(shares: torch.Tensor, n_people: int, source: Stream) -> torch.Tensor:
    """How many of some people give each class, each by the shares."""
    steps = shares.cumsum(1)[:, None, :-1]
    given = (source.uniform((len(shares), n_people)).double()[..., None] > steps).sum(2)
    return torch.nn.functional.one_hot(given, N_CLASSES).sum(1)


def world(
    n_images: int, seed: int = 0, n_people: int = 50
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """True shares, the networks' views of them, people's answers, and the most frequent class."""
    source = Stream(seed, "world")
    logits = 2.0 * source.normal((n_images, N_CLASSES)).double()
    shares = logits.softmax(1)
    views = torch.stack([(logits / t).log_softmax(1) for t in TEMPERATURES], 1)
    return shares, views, answer(shares, n_people, source), shares.argmax(1)


def test_shares_that_the_networks_distort_are_recovered():
    shares, views, counts, labels = world(600)
    held = people.cross_validate(views, counts, labels)
    at_label = shares.gather(1, labels[:, None])[:, 0]
    for view in views.exp().unbind(1):
        off = (view - shares).abs()
        assert (held.predicted - shares).abs().mean() < off.mean() / 5
        assert (held.of_label - at_label).abs().mean() < off.gather(1, labels[:, None]).mean() / 5
    assert people.calibration_slope(held.of_label, at_label) == pytest.approx(1, abs=0.1)


def test_a_temperature_undoes_a_temperature():
    shares, _, _, _ = world(400)
    assert people.fit_temperature(2.5 * shares.log(), shares) == pytest.approx(2.5, rel=1e-4)


def test_slope_and_offset_are_those_of_the_shares():
    x = torch.linspace(-3, 3, 50, dtype=torch.float64)
    slope, offset = fit_line(x, torch.sigmoid(0.4 * x - 0.7))
    assert (slope, offset) == (pytest.approx(0.4, abs=1e-6), pytest.approx(-0.7, abs=1e-6))


def test_predictions_that_separate_the_answers_have_no_slope():
    x = torch.tensor([-1.0, -0.5, 0.5, 1.0], dtype=torch.float64)
    assert fit_line(x, (x > 0).double()) is None


def test_predictions_twice_as_extreme_have_slope_one_half():
    x = torch.linspace(-2, 2, 50, dtype=torch.float64)
    assert people.calibration_slope((2 * x).sigmoid(), x.sigmoid()) == pytest.approx(0.5, abs=1e-6)


def test_the_threshold_is_the_one_worked_out_by_hand():
    predicted = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]], dtype=torch.float64)
    shares = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.2, 0.8]], dtype=torch.float64)
    # by falling prediction: .9 has weight 1.0, .7 adds .8 = 1.8, .6 adds .5 = 2.3, .4 adds .5 = 2.8
    for alpha, expected in ((0.55, 0.7), (0.45, 0.6), (0.40, 0.4)):  # (1 - alpha) 4 = 1.8, 2.2, 2.4
        assert people.conformal_threshold(predicted, shares, alpha) == expected
    assert people.conformal_threshold(predicted, shares, 0.1) == 0  # 3.6 of 3: too few images


def test_random_answers_to_new_images_are_in_their_sets_often_enough():
    """Over many calibrations, within five standard errors of 1 - alpha to 1 - alpha + 1/(n + 1)."""
    n, repeats, alpha = 60, 200, 0.2
    source, hits = Stream(1, "coverage"), 0
    for repeat in range(repeats):
        shares, views, _, _ = world(n + 1, seed=repeat)
        predicted = views[:, 0].exp()  # wrong on purpose: coverage needs no right model
        threshold = people.conformal_threshold(predicted[:n], shares[:n], alpha)
        given = answer(shares[n:], 1, source).argmax(1)
        hits += int(people.prediction_sets(predicted[n:], threshold)[0, given[0]])
    error = 5 * math.sqrt(alpha * (1 - alpha) / repeats)
    assert 1 - alpha - error < hits / repeats < 1 - alpha + 1 / (n + 1) + error


def test_no_answer_about_an_image_changes_what_is_predicted_of_it():
    _, views, counts, labels = world(300)
    before = people.cross_validate(views, counts, labels)
    fold = before.folds == 2
    changed = torch.where(fold[:, None], counts.flip(1), counts)
    after = people.cross_validate(views, changed, labels)
    for name in ("predicted", "of_label"):
        same, other = getattr(before, name), getattr(after, name)
        assert torch.equal(same[fold], other[fold])
        assert not torch.equal(same[~fold], other[~fold])
    assert torch.equal(before.in_set[0.1][fold], after.in_set[0.1][fold])


def test_every_image_is_in_one_fold_and_the_folds_are_of_equal_size():
    _, views, counts, labels = world(300)
    folds = people.cross_validate(views, counts, labels).folds
    assert folds.bincount().tolist() == [60] * people.N_FOLDS


def test_the_parts_of_a_calibration_are_disjoint(monkeypatch):
    """Mixture, scale and sets are each fitted on images that the others do not see."""
    shares, views, _, labels = world(200)
    counts, seen = (1e6 * shares).round().long(), {}  # no two images have the same
    shares = people.to_shares(counts)

    def record(name, position):
        inner = getattr(people, name)

        def wrapped(*args):
            seen[name] = {tuple(row) for row in args[position].tolist()}
            return inner(*args)

        monkeypatch.setattr(people, name, wrapped)

    for name in ("fit_mix", "fit_temperature", "conformal_threshold"):
        record(name, 1)
    people.fit(views, counts, labels)
    parts = list(seen.values())
    assert [len(part) for part in parts] == [160, 10, 30]
    assert set.union(*parts) == {tuple(row) for row in shares.tolist()}


def test_features_of_the_label_are_those_worked_out_by_hand():
    p = torch.tensor([[[0.7, 0.2, 0.1]]], dtype=torch.float64)
    found = label_features(p.log(), torch.tensor([1]))[0]
    entropy = -(0.7 * math.log(0.7) + 0.2 * math.log(0.2) + 0.1 * math.log(0.1))
    expected = [math.log(0.2), math.log(0.7), math.log(0.1), math.log(0.2 / 0.7),
                math.log(0.8), entropy, 0.2, 0, 1, 0]  # fmt: skip
    by_class = [0, 0, 0, *p.log().flatten().tolist(), 0, 0, 0]
    assert found.tolist() == pytest.approx([*expected, *by_class])
    assert len(found) == n_label_features(1, 3)


@pytest.mark.parametrize("classes", [2, 3, 30])
def test_the_number_of_features_is_known_beforehand(classes):
    views = Stream(0).normal((4, 2, classes)).log_softmax(2)
    assert label_features(views, torch.zeros(4).long()).shape == (4, n_label_features(2, classes))
    assert label_features(views, torch.zeros(4).long()).isfinite().all()


def test_ranks_agree_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    source = Stream(3)
    a, b = source.integers(6, (200,)).double(), source.integers(6, (200,)).double()
    b += 0.5 * a
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b)[0], abs=1e-12)
    positive = b > 3
    u = stats.mannwhitneyu(a[positive], a[~positive]).statistic
    assert auc(a, positive) == pytest.approx(u / (positive.sum() * (~positive).sum()).item())
    assert spearman(a, torch.zeros(200)) == 0


def test_an_interval_contains_its_figure_and_narrows_with_images():
    few, many = (people.bootstrap(lambda rows, n=n: float(rows.double().mean() / n), n)
                 for n in (30, 3000))  # fmt: skip
    for entry in (few, many):
        assert entry["low"] < entry["value"] < entry["high"]
    assert many["high"] - many["low"] < 0.2 * (few["high"] - few["low"])
