import re
from dataclasses import replace

import torch

from report.made_up import generated, made_up, plain, purified, robust, shown
from scoreag.report.demo import format_counts, format_demo_text, list_stops, render_demo_page
from scoreag.report.demo_counts import HEADER, summary_rows
from scoreag.report.demo_sentences import summary_sentences


def test_every_figure_of_the_table_counted_by_hand():
    assert format_counts(made_up()).splitlines() == [
        "images              classifier  correct  fooled  reference correct  largest change  NFE",
        "plain samples       drawn       2 of 3           2 of 3                             35",
        "GAS                 drawn       1 of 3   2 of 3  2 of 3                             36",
        "real images         net <i>     3 of 4           4 of 4",
        "PGD, 8/255          net <i>     1 of 4   2 of 3  4 of 4             8/255",
        "GAT                 net <i>     1 of 4   3 of 3  3 of 4             40/255          24",
        "real images         robust      2 of 2           2 of 2",
        "PGD, 8/255          robust      2 of 2   0 of 2  1 of 2             8/255",
        "GAT                 robust      0 of 2   2 of 2  1 of 2             50/255          30",
        "GAP of real images  net <i>     2 of 2           2 of 2             3/255           12",
        "GAP of PGD's        net <i>     3 of 4           4 of 4             5/255           12",
        "PGD through GAP     net <i>     1 of 2           2 of 2             8/255",
        "GAP of these        net <i>     0 of 2           1 of 2             9/255           12",
    ]


def test_every_count_has_its_interval():
    entries = [entry for row in summary_rows(made_up()) for entry in row[1:]]
    assert all(isinstance(e, tuple) for e in entries if " of " in str(e))
    assert all(len(row) == len(HEADER) for row in summary_rows(made_up()))


def test_the_two_sentences_say_what_happened():
    assert summary_sentences(made_up()) == (
        "net <i> classifies 3 of 4 real images correctly, and transforming these with a score "
        "model (GAT) fools it on 3 of 3; in 2 of these 3 a second network, which guided nothing, "
        "still sees the true class.",
        "On robust, noise (PGD) succeeds on 0 of 2 images, GAT on 2 of 2; purification (GAP) "
        "leaves 1 of 2 correct against an attacker who does not know of it, and 0 of 2 against "
        "one who does.",
    )


def test_each_stop_asks_a_question_and_answers_it_by_counts():
    stops = list_stops(made_up())
    assert all(stop.title.endswith("?") for stop in stops)
    assert [stop.answer for stop in stops] == [
        "drawn misclassifies 2 of 3 images of GAS; in 1 of these 2 the reference classifier still "
        "sees the class asked for. Of plain samples from the same noise it misclassifies 1 of 3, "
        "and the reference classifier sees the class in 2 of 3.",
        "net <i> classifies 3 of 4 real images correctly. Noise of at most 8/255 (PGD) fools it on "
        "2 of 3, GAT on 3 of 3; the reference classifier still sees the class in 2 of PGD's 2 and "
        "in 2 of GAT's 3.",
        "robust classifies 2 of the first 2 of the 4 real images correctly. Noise of at most 8/255 "
        "(PGD) fools it on 0 of 2, GAT on 2 of 2; the reference classifier still sees the class in "
        "1 of GAT's 2.",
        "Behind GAP, net <i> is right on 1 of 2 images that PGD attacked without knowing of GAP, "
        "and on 0 of 2 that PGD attacked through GAP, by exact gradients. GAP protects against an "
        "attacker who does not know of it.",
    ]


def test_the_table_of_gap_has_the_same_images_for_each_attacker():
    caption, header, rows = list_stops(made_up())[3].table
    assert "2 images" in caption and len(header) == 4
    assert [[row[0], *(entry[0] for entry in row[1:])] for row in rows] == [
        ["none", "2 of 2", "2 of 2", "2 of 2"],
        ["does not know of GAP", "0 of 2", "1 of 2", "2 of 2"],
        ["knows GAP", "1 of 2", "0 of 2", "1 of 2"],
    ]


def test_an_attack_through_gap_that_did_no_more_is_not_said_to_show_anything():
    weak = purified(white_box_purified=shown([0, 2], [0, 1]))  # 1 of 2, as of the blind attacker
    answer = list_stops(made_up(purified=weak))[3].answer
    assert "GAP protects" not in answer and "With 7 steps, the second attack was too weak" in answer


def test_the_sentences_stay_true_when_nothing_works():
    same, drawn = shown([0, 1, 2, 1], [0, 1, 2, 0]), shown([0, 1, 2], [0, 1, 2])
    made = made_up(plain=plain(pgd=same, gat=same), generated=generated(gas=drawn))
    assert summary_sentences(made)[0] == (
        "net <i> classifies 3 of 4 real images correctly, and transforming these with a score "
        "model (GAT) fools it on 0 of 3."
    )
    first, second, *_ = [stop.answer for stop in list_stops(made)]
    assert first.startswith("drawn misclassifies 0 of 3 images of GAS. Of plain samples from")
    assert second.endswith("fools it on 0 of 3, GAT on 0 of 3.")


def test_a_classifier_that_is_never_right_has_nothing_to_be_fooled_on():
    made = made_up(plain=plain(labels=torch.tensor([2, 2, 0, 2])))
    assert "0 of 0" in format_counts(made)
    assert "fools it on 0 of 0." in summary_sentences(made)[0]


def test_as_many_images_as_there_are_are_not_called_the_first():
    assert "the first 2 of the 4" in list_stops(made_up())[2].answer
    whole = made_up(robust=replace(plain(), name="robust"))
    assert "robust classifies 3 of 4 real images correctly" in list_stops(whole)[2].answer


def test_the_terminal_shows_the_stops_and_then_all_counts():
    text = format_demo_text(made_up())
    numbers = [line[0] for line in text.splitlines() if line[:1].isdigit()]
    assert numbers == ["1", "2", "3", "4"]
    assert text.endswith(format_counts(made_up()))
    prose = text.partition("\n\nimages")[0]
    assert max(map(len, prose.splitlines())) <= 96


def test_each_image_is_shown_with_both_answers_and_its_outcome():
    html = render_demo_page(made_up())
    # pairs of GAS; real, PGD, GAT of both classifiers, and before and after GAP, with differences
    assert html.count("<img ") == 3 * 2 + (4 + 2) * (3 + 2) + 2 * (4 + 2)
    assert html.count("\N{CHECK MARK} fooled") == 2 + (2 + 3) + (0 + 2) + 2
    assert html.count("\N{MULTIPLICATION X} not fooled") == 1 + 1 + 2
    assert html.count("\N{EN DASH} wrong before") == 2
    assert 'alt="PGD; the classifier predicts dog &lt;b&gt;, the reference classifier cat"' in html
    assert '<span class="title">dog &lt;b&gt;</span>' in html


def test_names_cannot_break_the_page():
    html = render_demo_page(made_up(robust=robust(name="<i>strong")))
    ours = "classifier|reference|largest change|amplified"
    assert "<b>" not in html and "<i>" not in re.sub(f"<i>({ours})</i>", "", html)
    assert "net &lt;i&gt;" in html and "&lt;i&gt;strong" in html
