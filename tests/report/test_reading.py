"""What helps a reader of a page: contents, order, size, differences, titles of points, commands."""

import base64
import hashlib
import re

import pytest
import torch
from markupsafe import Markup

from report.made_up import made_up
from report.test_page import PARTS, checked
from scoreag.report import html as pages
from scoreag.report.demo import render_demo_page
from scoreag.report.html import make_outline, sort_key
from scoreag.report.images import ImageCell, Strip, difference_cell, format_share, rank_classes
from scoreag.report.plots import Chart, Curve, list_points, plot_curves
from scoreag.report.provenance import (
    describe_reproduction,
    list_config,
    shorten_command,
    shorten_names,
)


@pytest.mark.parametrize(
    "field, key",
    [
        ("3 of 4", "0.75"), (("12 of 16", "57 to 90 %"), "0.75"), ("8/255", "0.031372549"),
        ("at most 3.2 %", "3.2"), ("1,300", "1300"), ("fooled", ""), ("0 of 0", ""), ("", ""),
        ({"value": 0.25, "count": 1, "total": 4}, "0.25"), ({"value": None}, ""), (None, ""),
        (7, "7"), ("-1.5e-3 m", "-0.0015"),
    ],
)  # fmt: skip
def test_a_cell_is_sorted_by_the_number_that_it_shows(field, key):
    assert sort_key(field) == key


def test_a_row_names_the_keys_of_its_cells():
    table = PARTS.table("", ("", "rate"), [("b", "1 of 4"), ("a", {"value": 0.5, "total": 2})])
    assert re.findall(r'data-sort="(.*?)"', table) == ["0.25", "0.5"]


def test_every_link_of_a_page_leads_to_a_part_of_it():
    page = checked(render_demo_page(made_up()))
    anchors = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    links = [attrs["href"][1:] for tag, attrs in page.tags if tag == "a"]
    assert len(anchors) == len(set(anchors)) and set(links) <= set(anchors)
    stops = {"1-images-from-nothing-do-they-fool-a-classifier", "4-purification-whom-does-it-stop"}
    assert stops | {"summary", "reproduce-and-cite", "strip-10"} <= set(links)


def test_sections_of_one_title_have_anchors_of_their_own():
    section = Markup("<section>\n<h2>A &amp; b</h2></section>")
    outline = make_outline(section + section)
    assert [name for name, _ in outline.sections] == ["a-b", "a-b-2"]
    assert '<section id="a-b-2"><h2>A &amp; b</h2>' in outline.body


def test_the_glossary_comes_before_its_words():
    html = render_demo_page(made_up())
    assert html.index('class="glossary"') < html.index("<h2>1. Images from nothing")


def test_the_policy_of_a_page_allows_its_own_script_and_no_other():
    html = render_demo_page(made_up())
    (script,) = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html


def test_a_page_that_is_too_large_shows_fewer_images_and_says_so(monkeypatch):
    whole = render_demo_page(made_up())
    without = len(re.sub(r"data:image/png;base64,[^\"]*", "", whole))
    monkeypatch.setattr(pages, "MAX_BYTES", without + 200)
    html = render_demo_page(made_up())
    assert len(html.encode()) <= without + 200
    shown = int(re.search(r"(\d+) of 4 images are shown, so that this file stays below", html)[1])
    assert shown < 4 and html.count("<img ") < whole.count("<img ")


def test_a_difference_is_amplified_around_gray_as_far_as_nothing_is_cut_off():
    before = torch.tensor([[[100, 100, 100]]], dtype=torch.uint8)
    after = torch.tensor([[[100, 110, 60]]], dtype=torch.uint8)
    cell = difference_cell("difference", before, after)
    assert cell.pixels.tolist() == [[[128, 128 + 3 * 10, 128 - 3 * 40]]]  # 127 // 40 is 3
    assert cell.lines == [("largest change", "40/255"), ("amplified", "3 times")]
    large = difference_cell("difference", before, before - 64)  # twice 64 would be cut off
    assert large.pixels.unique().tolist() == [64] and len(large.lines) == 1
    same = difference_cell("difference", before, before)
    assert same.pixels.unique().tolist() == [128] and same.lines[0] == ("largest change", "0/255")


def test_the_probabilities_of_an_image_stand_in_its_caption_the_largest_first():
    ranked = rank_classes({"0": 0.004, "2": 0.75, "-1": 0.2}, ("cat", "dog", "ship"))
    assert ranked == [("ship", 0.75), ("rejected", 0.2), ("cat", 0.004)]
    gray = torch.zeros(1, 2, 2).byte()
    html = PARTS.gallery([Strip("t", [ImageCell(gray, "a", "a", probabilities=ranked)])], 7)
    assert (
        html.count("--share: 75.0%") == 1
        and html.count("<span>0.40\N{NO-BREAK SPACE}%</span>") == 1
    )
    assert [format_share(p) for p in (0.0, 1.0, 0.996)] == ["0\xa0%", "100\xa0%", "99.60\xa0%"]


def chart(y_label="y", log_x=False):
    line = Curve("a <b>", [1, 2, 4], [0.25, 0.5, 1], [0.2, 0.4, 0.9], [0.3, 0.6, 1])
    return str(plot_curves([line], "x", y_label, alt="", log_x=log_x))


@pytest.mark.parametrize("log_x", [False, True])
def test_the_title_of_a_point_lies_on_its_marker(log_x):
    svg = chart(log_x=log_x)
    markers = re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)" style="fill: var\(--series-1', svg)
    points = re.findall(r'class="point" [^>]*cx="([\d.]+)" cy="([\d.]+)"', svg)
    assert len(points) == 3
    drawn = [tuple(map(float, marker)) for marker in markers]
    for x, y in (tuple(map(float, point)) for point in points):
        assert min(abs(x - a) + abs(y - b) for a, b in drawn) < 0.5


def test_the_title_of_a_point_says_its_curve_and_its_values_which_stand_in_a_list_too():
    svg = chart()
    wanted = "a &lt;b&gt;: x 2, y 0.5 (0.4 to 0.6)"
    assert list_points(Markup(svg))[1] == wanted
    assert f"<li>{wanted}</li>" in PARTS.chart(Chart(Markup(svg), "caption"))


def test_points_that_are_many_have_no_list_and_some_titles():
    line = Curve("many", [*range(100)], [0.5] * 100)
    svg = plot_curves([line, line], "x", "y", alt="", steps=True)
    assert svg.count('class="point"') == 2 * 50 and list_points(svg) == []


def test_the_axis_of_a_share_is_whole():
    def place(svg):  # of the largest y, 1, from the top
        return min(float(y) for y in re.findall(r'class="point" [^>]*cy="([\d.]+)"', svg))

    assert place(chart("robust accuracy")) < place(chart("y"))


MANIFEST = {
    "command": "scoreag transform --model /home/me/my models/prior --data image-folder:/data/cats "
    "--option init=/x/y.npz --out runs/gat",
    "seed": 3, "algorithm": 2, "versions": {"scoreag": "0.2.0", "torch": "2.13.0"},
    "data": {"name": "image-folder:/data/cats"},
}  # fmt: skip


def test_a_page_tells_the_command_without_full_paths_and_what_to_cite():
    command = (
        "scoreag attack pgd --classifier '/home/me/my models/net' --data npz:/d/a.npz --eps 8/255"
    )
    wanted = "scoreag attack pgd --classifier net --data npz:a.npz --eps 8/255"
    assert shorten_command(command) == wanted
    told = describe_reproduction({**MANIFEST, "command": command})
    assert (
        told["is_shortened"] and told["needs"] == "scoreag 0.2.0, torch 2.13.0, algorithm 2, seed 3"
    )
    html = PARTS.reproduction(told)
    assert wanted in html and "/home" not in html and "has the command as typed" in html
    assert "eprint        = {2310.04285}" in html and "version = {0.2.0}" in html


def test_a_command_without_full_paths_stays_as_it_was_typed():
    command = "scoreag demo --data 'cifar10:test[0:20]' --model hf://owner/name@main"
    told = describe_reproduction({"command": command})
    assert told["command"] == command and not told["is_shortened"]


def test_the_configuration_names_folders_by_their_last_part():
    assert dict(list_config(MANIFEST))["data.name"] == "image-folder:cats"
    assert "command" not in dict(list_config(MANIFEST))


def test_models_of_one_name_in_two_folders_are_told_apart():
    names = ["/a/b/net", "/a/c/net", "/a/d/judge", "fashion-cnn"]
    assert shorten_names(names) == {
        "/a/b/net": "b/net", "/a/c/net": "c/net", "/a/d/judge": "judge"
    }  # fmt: skip
