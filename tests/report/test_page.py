import base64
import io
import re
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

from report.made_up import made_up
from scoreag.report.demo import render_demo_page
from scoreag.report.html import TEMPLATES
from scoreag.report.images import ImageCell, Strip, data_uri
from scoreag.report.plots import Chart, Curve, plot_curves
from scoreag.stats.proportion import Proportion

PARTS = TEMPLATES.get_template("macros.html.jinja").module
GREY = torch.zeros(1, 2, 2).byte()
EMPTY = {"meta", "img", "br", "hr", "link", "input"}


class Checked(HTMLParser):
    """Every element is closed, in order; what it would load is kept."""

    def __init__(self):
        super().__init__()
        self.open, self.loads, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.loads += [v for k, v in attrs if k in ("src", "href", "xlink:href", "srcset")]
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in EMPTY:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def checked(html):
    parser = Checked()
    parser.feed(html)
    assert parser.open == []
    return parser


def chart():
    lines = [Curve("a <b>", [1, 2], [0.1, 0.9], [0, 0.8], [0.2, 1]), Curve("c", [1, 2], [1, 0])]
    alt = 'a "rising" line'
    return plot_curves(lines, "x", "y", alt=alt, log_x=True, mark=(1.5, "here"))


def test_the_page_loads_nothing_from_elsewhere():
    html = render_demo_page(made_up()) + str(chart())
    assert "http:" not in html and "https:" not in html and "@import" not in html
    assert "url(" not in re.sub(r"url\(#", "", html)
    loads = checked(html).loads
    assert loads and all(load.startswith(("data:image/png;base64,", "#")) for load in loads)
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in html


def test_every_image_has_an_alternative_text():
    images = [attrs for tag, attrs in checked(render_demo_page(made_up())).tags if tag == "img"]
    assert images and all(attrs["alt"] for attrs in images)


def test_the_page_is_dark_where_the_reader_is_and_fits_a_narrow_window():
    html = render_demo_page(made_up())
    assert "prefers-color-scheme: dark" in html and "color-scheme: light dark" in html
    assert 'content="width=device-width, initial-scale=1"' in html
    assert "image-rendering: pixelated" in html


@pytest.mark.parametrize(
    "html",
    [
        TEMPLATES.get_template("base.html.jinja").render(title="<x>", lead=["<x>"], footer=["<x>"]),
        PARTS.definitions([("<x>", "<x>")]),
        PARTS.table("<x>", ("<x>", "<x>"), [("<x>", ("<x>", "<x>"))]),
        PARTS.rates("<x>", [("<x>", Proportion(1, 2, "<x>").to_dict())]),
        PARTS.chart(Chart(plot_curves([Curve("<x>", [0], [0])], "<x>", "<x>", alt="<x>"), "<x>")),
        PARTS.gallery(
            [Strip("<x>", [ImageCell(GREY, "<x>", '<x>"', (("<x>", "<x>"),), "<x>")])], 7
        ),
    ],
    ids=["page", "definitions", "table", "rates", "chart", "gallery"],
)
def test_text_is_escaped(html):
    assert "<x>" not in html and "&lt;x&gt;" in html


def test_a_picture_comes_back_from_its_address_bit_for_bit():
    pixels = torch.arange(3 * 4 * 5).view(3, 4, 5).byte()
    code = data_uri(pixels).removeprefix("data:image/png;base64,")
    image = Image.open(io.BytesIO(base64.b64decode(code)))
    assert [image.getpixel((x, y)) for y in range(4) for x in range(5)] == [
        tuple(pixels[:, y, x].tolist()) for y in range(4) for x in range(5)
    ]


def test_a_grey_picture_stays_grey():
    code = data_uri(torch.full((1, 2, 2), 7).byte()).removeprefix("data:image/png;base64,")
    assert Image.open(io.BytesIO(base64.b64decode(code))).getpixel((1, 1)) == 7


def test_a_rate_shows_count_denominator_share_and_interval():
    html = PARTS.rates("", [("fooled", Proportion(5, 10, "images right before").to_dict())])
    for words in ("5 of 10<small>images right before", "50.0\u00a0%", "24 to 76&nbsp;%"):
        assert words in html


def test_a_rate_of_nothing_is_said_to_be_one():
    assert "nothing to count" in PARTS.rates(
        "", [("fooled", Proportion(0, 0, "images right before").to_dict())]
    )


def test_a_curve_has_the_same_bytes_every_time():
    assert chart() == chart()


def test_a_curve_takes_the_colours_of_the_page():
    svg = chart()
    checked(svg)
    assert "currentColor" in svg and "var(--series-1)" in svg and "var(--series-2)" in svg
    assert not re.search(r"#[0-9a-f]{6}\b(?!\))", re.sub(r'href="#\w+"|url\(#\w+\)', "", svg))
    assert 'aria-label="a &#34;rising&#34; line"' in svg and "a &lt;b&gt;" in svg


def test_more_curves_than_can_be_told_apart_are_refused():
    with pytest.raises(ValueError, match="17 curves in one figure; show at most 16"):
        plot_curves([Curve("", [0.0], [0.0])] * 17, "", "", alt="")


def test_many_curves_are_told_apart_by_color_and_marker():
    curves = [Curve(f"attack {i}", [0.0], [0.5], [0.4], [0.6]) for i in range(16)]
    svg = str(plot_curves(curves, "x", "y", alt=""))
    assert all(f"attack {i}" in svg for i in range(16))
    markers = set(re.findall(r'<path id="(m[0-9a-f]+)"[^>]*style="([^"]*)"', svg))
    assert len({style for _, style in markers}) >= 4 and len(markers) >= 16
