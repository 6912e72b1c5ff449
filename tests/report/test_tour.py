import torch

from report.made_up import made_up, shown
from scoreag.report.demo import HEADER, summary_rows, summary_sentences
from scoreag.report.demo_html import format_demo_text, render_demo_page


def test_every_figure_of_the_table_counted_by_hand():
    assert format_demo_text(made_up()).splitlines() == [
        "images          classifier right  fooled  judge right  largest change  model calls",
        "real images     3 of 4                    4 of 4",
        "PGD, 8/255      1 of 4            2 of 3  4 of 4       8/255",
        "GAT             1 of 4            3 of 3  3 of 4       40/255          24",
        "GAP of PGD's    3 of 4                    4 of 4       5/255           12",
        "unguided draws  2 of 3                    2 of 3                       35",
        "GAS             1 of 3            2 of 3  2 of 3                       36",
    ]


def test_every_count_has_its_interval():
    entries = [entry for row in summary_rows(made_up()) for entry in row]
    assert all(isinstance(e, tuple) for e in entries if " of " in str(e) and "GAP" not in e)
    assert all(len(row) == len(HEADER) for row in summary_rows(made_up()))


def test_the_two_sentences_say_what_happened():
    assert summary_sentences(made_up()) == (
        "net <i> gets 3 of 4 real images right, and moving those along what a score model holds "
        "for natural (GAT) makes it err on 3 of these 3; in 2 of these 3 a second network, which "
        "guided nothing, still sees the true class.",
        "Noise of at most 8/255 (PGD) fools it on 2 of these 3, and purifying them (GAP) makes 1 "
        "of these 2 right again; of 3 images drawn from nothing (GAS) it takes 2 for another "
        "class than the one asked for, 1 of which the second network sees as asked.",
    )


def test_the_two_sentences_stay_true_when_nothing_works():
    truth = [0, 1, 2, 1]
    same = shown(truth, [0, 1, 2, 0])
    drawn = shown([0, 1, 2], [0, 1, 2], count=3)
    assert summary_sentences(made_up(pgd=same, gat=same, gap=same, gas=drawn)) == (
        "net <i> gets 3 of 4 real images right, and moving those along what a score model holds "
        "for natural (GAT) makes it err on 0 of these 3.",
        "Noise of at most 8/255 (PGD) fools it on 0 of these 3; of 3 images drawn from nothing "
        "(GAS) it takes 0 for another class than the one asked for.",
    )


def test_a_classifier_that_is_never_right_has_nothing_to_be_fooled_on():
    made = made_up(labels=torch.tensor([2, 2, 0, 2]))
    assert "0 of 0" in format_demo_text(made)
    assert "makes it err on 0 of these 0." in summary_sentences(made)[0]


def test_each_image_is_shown_with_both_answers_and_its_outcome():
    html = render_demo_page(made_up())
    assert html.count("<img ") == 4 * 4 + 3
    assert html.count("\N{CHECK MARK} fooled") == 2 + 3 + 2
    assert html.count("\N{MULTIPLICATION X} not fooled") == 1 + 1
    assert html.count("\N{EN DASH} wrong before") == 2
    assert 'alt="PGD; the classifier says dog &lt;b&gt;, the judge says cat"' in html


def test_names_cannot_break_the_page():
    html = render_demo_page(made_up())
    assert "<b>" not in html and "<i>" not in html.replace("<i>says", "").replace("<i>judge", "")
    assert "net &lt;i&gt;" in html
