"""Figures of results: what stands in them, and what a plot leaves alone."""

import subprocess
import sys
from dataclasses import replace

import matplotlib
import pytest
import torch
from matplotlib._pylab_helpers import Gcf
from matplotlib.figure import Figure

import scoreag
import tiny
from scoreag.methods.result import Result
from scoreag.plot.measurements import find_metric, interval_of, read_measurements


def attacked(eps, fooled, judged=5):
    """Ten images of class 0, all right before; the attack fools the first ``fooled`` of them.

    The judge still sees the class in the first ``judged``.
    """
    originals = torch.zeros(10, 3, 8, 8)
    predictions, judge = torch.zeros(10).long(), torch.ones(10).long()
    predictions[:fooled], judge[:judged] = 1, 0
    zeros, success = torch.zeros(10).long(), predictions != 0
    return Result(
        task="attack", images=originals + eps, image_ids=torch.arange(10), nfe=zeros,
        restarts=zeros, guidance_skipped=zeros, originals=originals, labels=zeros,
        clean_predictions=zeros, predictions=predictions, success=success, success_float=success,
        targeted_success=success, config={"attack": "pgd", "eps": eps},
        judge_predictions=judge, judge_clean_predictions=zeros, classes=("cat", "dog"),
    )  # fmt: skip


SWEEP = [attacked(0.2, 9, judged=3), attacked(0.0, 0, judged=10), attacked(0.1, 4)]


@pytest.fixture(autouse=True)
def nothing_global_changes():
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before and not Gcf.figs  # those that pyplot would show


def test_a_curve_runs_over_eps_from_small_to_large_with_its_intervals():
    figure = scoreag.plot.curves(SWEEP)
    axes = figure.axes[0]
    line, band = axes.lines[0], axes.collections[0]
    assert line.get_xdata().tolist() == [0.0, 0.1, 0.2]
    assert line.get_ydata() == pytest.approx([1.0, 0.6, 0.1])
    low, high = 0.3127, 0.8318  # Wilson's interval of 6 of 10
    ends = {round(y, 4) for x, y in band.get_paths()[0].vertices.tolist() if x == 0.1}
    assert ends == {low, high}
    assert axes.get_xlabel().startswith("eps") and axes.get_ylabel() == "robust accuracy"


def test_clopper_and_pearson_have_their_published_interval():
    """Of 6 of 10: 0.2624 to 0.8784, as in tables of exact intervals."""
    entry = find_metric(read_measurements(SWEEP[2])[0], "accuracy")
    assert interval_of(entry, "clopper-pearson") == pytest.approx((0.2624, 0.8784), abs=5e-5)


def test_the_trade_off_has_a_point_a_setting_and_a_series_a_name():
    figure = scoreag.plot.tradeoff({"weak": SWEEP[1:2], "strong": SWEEP[:1] + SWEEP[2:]})
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["weak", "strong"]
    weak, strong = (container[0] for container in axes.containers)
    assert weak.get_xdata().tolist() == [1.0] and weak.get_ydata().tolist() == [0.0]
    assert strong.get_xdata() == pytest.approx([0.3, 0.5])
    assert strong.get_ydata() == pytest.approx([0.9, 0.4])


def test_the_distance_of_a_trade_off_is_that_of_8_bit_images():
    figure = scoreag.plot.tradeoff(SWEEP, x="linf")
    found = figure.axes[0].containers[0][0].get_xdata()
    assert found == pytest.approx([0.0, round(25.5) / 255, 51 / 255], abs=1 / 255)
    assert all(value * 255 == pytest.approx(round(value * 255), abs=2e-4) for value in found)


def test_a_plot_draws_into_given_axes():
    axes = Figure().add_subplot()
    assert scoreag.plot.curves(SWEEP, y="success", ax=axes) is axes.figure
    assert axes.get_ylabel() == "attack success" and axes.get_ylim() == (-0.02, 1.02)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: scoreag.plot.curves(SWEEP, x="epsilon"), "options with numbers: eps"),
        (lambda: scoreag.plot.curves(SWEEP, y="accurracy"), "did you mean 'accuracy'"),
        (lambda: scoreag.plot.tradeoff(SWEEP, x="lpips"), "metrics of these runs: accuracy"),
        (lambda: scoreag.plot.curves(SWEEP, interval="wald"), "no interval 'wald'"),
        (lambda: scoreag.plot.grid(SWEEP[0], max_images=0), "expected 1 or more"),
    ],
    ids=["option", "metric", "unmeasured", "interval", "count"],
)
def test_what_cannot_be_drawn_is_answered_with_what_can(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_grid_shows_versions_below_each_other_with_names_and_signs():
    figure = scoreag.plot.grid(SWEEP[2], max_images=5, columns=5)
    titles = [[axes.get_title() for axes in figure.axes[row * 5 : row * 5 + 5]] for row in range(3)]
    assert titles[0] == ["cat"] * 5
    assert titles[1] == ["\N{CHECK MARK} dog"] * 4 + ["\N{MULTIPLICATION X} cat"]
    assert titles[2] == ["difference x 5"] * 5
    shown = figure.axes[10].images[0].get_array()
    assert torch.as_tensor(shown).numpy() == pytest.approx(1.0)


def test_the_grid_of_a_folder_is_that_of_its_result(tmp_path):
    given = tiny.images(3), tiny.labels(3)
    result = scoreag.transform(tiny.prior(), tiny.victim(), *given, batch_size=4, progress=False)
    folder = result.save(tmp_path / "run")
    one, other = (scoreag.plot.grid(source) for source in (result, folder))
    assert [a.get_title() for a in one.axes[:6]] == [a.get_title() for a in other.axes[:6]]
    assert len(one.axes) == 9


def test_a_drawn_image_without_an_original_stands_alone():
    drawn = replace(SWEEP[0], task="synthesize", originals=None, clean_predictions=None)
    assert len(scoreag.plot.grid(drawn, max_images=3).axes) == 3


def test_a_notebook_shows_a_figure_as_a_picture():
    assert scoreag.plot.curves(SWEEP)._repr_png_().startswith(b"\x89PNG")


def test_a_plot_is_imported_on_first_use():
    code = "import scoreag, sys; sys.exit('scoreag.plot' in sys.modules or 'torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], env=tiny.ENVIRONMENT, check=True)
