import re

import torch

from report.made_up import made_up, shown
from scoreag.report.demo import (
    HEADER,
    format_demo_text,
    render_demo_page,
    summary_rows,
    summary_sentences,
)


def test_every_figure_of_the_table_counted_by_hand():
    assert format_demo_text(made_up()).splitlines() == [
        "images         correct  fooled  reference correct  largest change  NFE",
        "real images    3 of 4           4 of 4",
        "PGD, 8/255     1 of 4   2 of 3  4 of 4             8/255",
        "GAT            1 of 4   3 of 3  3 of 4             40/255          24",
        "GAP of PGD's   3 of 4           4 of 4             5/255           12",
        "plain samples  2 of 3           2 of 3                             35",
        "GAS            1 of 3   2 of 3  2 of 3                             36",
    ]


def test_every_count_has_its_interval():
    entries = [entry for row in summary_rows(made_up()) for entry in row]
    assert all(isinstance(e, tuple) for e in entries if " of " in str(e) and "GAP" not in e)
    assert all(len(row) == len(HEADER) for row in summary_rows(made_up()))


def test_the_two_sentences_say_what_happened():
    assert summary_sentences(made_up()) == (
        "net <i> classifies 3 of 4 real images correctly, and transforming these with a score "
        "model (GAT) fools it on 3 of 3; in 2 of these 3 a second network, which guided nothing, "
        "still sees the true class.",
        "Noise of at most 8/255 (PGD) fools it on 2 of 3, and purification (GAP) corrects 1 of "
        "these 2; it misclassifies 2 of 3 images generated from noise (GAS), and the "
        "second network sees the intended class in 1 of these 2.",
    )


def test_the_two_sentences_stay_true_when_nothing_works():
    truth = [0, 1, 2, 1]
    same = shown(truth, [0, 1, 2, 0])
    drawn = shown([0, 1, 2], [0, 1, 2], count=3)
    assert summary_sentences(made_up(pgd=same, gat=same, gap=same, gas=drawn)) == (
        "net <i> classifies 3 of 4 real images correctly, and transforming these with a score "
        "model (GAT) fools it on 0 of 3.",
        "Noise of at most 8/255 (PGD) fools it on 0 of 3; it misclassifies 0 of 3 images "
        "generated from noise (GAS).",
    )


def test_a_classifier_that_is_never_right_has_nothing_to_be_fooled_on():
    made = made_up(labels=torch.tensor([2, 2, 0, 2]))
    assert "0 of 0" in format_demo_text(made)
    assert "fools it on 0 of 0." in summary_sentences(made)[0]


def test_each_image_is_shown_with_both_answers_and_its_outcome():
    html = render_demo_page(made_up())
    assert html.count("<img ") == (4 + 3) * 4 + 3  # with three differences each
    assert html.count("\N{CHECK MARK} fooled") == 2 + 3 + 2
    assert html.count("\N{MULTIPLICATION X} not fooled") == 1 + 1
    assert html.count("\N{EN DASH} misclassified before") == 2
    assert 'alt="PGD; the classifier predicts dog &lt;b&gt;, the reference classifier cat"' in html


def test_names_cannot_break_the_page():
    html = render_demo_page(made_up())
    ours = "classifier|reference|largest change|amplified"
    assert "<b>" not in html and "<i>" not in re.sub(f"<i>({ours})</i>", "", html)
    assert "net &lt;i&gt;" in html
