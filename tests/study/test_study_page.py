"""The page: its scripts compute what Python computes, and it shows nothing but what it must."""

import csv
import hashlib
import io
import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from PIL import Image
from py_mini_racer import MiniRacer  # of the extra "dev"; without it these tests must fail

from scoreag.study.lists import trial_order
from scoreag.study.manifest import answers_digest
from scoreag.study.page import (
    MAX_BYTES,
    SCRIPTS,
    default_texts,
    find_placeholders,
    page_data,
    read_script,
    render_study,
    to_markup,
)
from study.made_studies import make_study, read_pool

SCRIPTED = Path(__file__).with_name("made_browser.js")
PURE = ("sha256.js", "trials.js", "answers.js", "enlarge.js")  # need no page


@pytest.fixture(scope="module")
def engine():
    made = MiniRacer()
    made.eval("\n".join(map(read_script, PURE)))
    return made


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return read_pool(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def study(pool):
    return make_study(pool)


def call(engine, function, *arguments):
    """The result of a script's function, over JSON."""
    words = ", ".join(json.dumps(one) for one in arguments)
    return json.loads(engine.eval(f"JSON.stringify({function}({words}))"))


@pytest.mark.parametrize(
    "text", ["", "abc", "a" * 55, "a" * 56, "a" * 63, "a" * 64, "é, 日本, 🙂", "x" * 10_000]
)
def test_the_digest_is_sha256(engine, text):
    assert call(engine, "sha256", text) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("design", ["name", "choose", "real"])
@pytest.mark.parametrize("participant", ["p-1", "5f3c0a_Z-9"])
def test_the_order_of_trials_is_that_of_python(engine, pool, design, participant):
    study = make_study(pool, design)
    data = page_data(study)
    for number in range(len(study.manifest["lists"])):
        order = trial_order(study.manifest, participant, number)
        assert call(engine, "trialOrder", data, participant, number) == order


ANSWERS = {
    "format": 1, "study": "ab" * 32, "participant": "p-1", "list": 2, "consent": True,
    "started": "2026-01-01T00:00:00.000Z", "finished": None, "complete": False,
    "screen": {"width": 390, "height": 844, "pixel_ratio": 2.5}, "resumed": 1,
    "trials": [
        {"trial": 0, "item": 12, "kind": "practice", "answer": 3, "ms": 812},
        {"trial": 1, "item": 7, "kind": "main", "answer": "unsure", "ms": 0},
    ],
}  # fmt: skip


def test_the_digest_of_answers_is_that_of_python_and_of_the_text_written_by_hand(engine):
    text = (
        f'["{"ab" * 32}","p-1",2,[[0,12,"practice",3,812],[1,7,"main","unsure",0]]]'
    )  # fmt: skip
    expected = hashlib.sha256(text.encode()).hexdigest()
    assert call(engine, "answersDigest", ANSWERS) == answers_digest(ANSWERS) == expected


def test_the_json_is_the_answers_with_their_digest(engine):
    text = call(engine, "answersJson", ANSWERS)
    assert json.loads(text) == {**ANSWERS, "digest": answers_digest(ANSWERS)}


def test_the_csv_has_a_row_for_each_trial_with_the_fields_of_the_participant(engine):
    rows = list(csv.DictReader(io.StringIO(call(engine, "answersCsv", ANSWERS))))
    assert [(r["trial"], r["item"], r["kind"], r["answer"], r["ms"]) for r in rows] == [
        ("0", "12", "practice", "3", "812"), ("1", "7", "main", "unsure", "0")
    ]  # fmt: skip
    assert {(r["participant"], r["list"], r["finished"], r["pixel_ratio"]) for r in rows} == {
        ("p-1", "2", "", "2.5")
    }
    assert {r["digest"] for r in rows} == {answers_digest(ANSWERS)}


def test_a_field_of_a_csv_is_quoted_where_it_must(engine):
    texts = ["plain", 'a "b"', "a,b", "a\nb", ""]
    line = ",".join(call(engine, "csvField", text) for text in texts)
    assert next(csv.reader(io.StringIO(line, newline=""))) == texts


@pytest.mark.parametrize("width, height, factor", [(8, 8, 8), (5, 3, 4), (1, 1, 3)])
def test_lanczos_enlarges_as_pillow_does(engine, width, height, factor):
    source = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (height, width, 4), generator=source, dtype=torch.uint8)
    pixels[..., 3] = 255
    size = (factor * width, factor * height)
    expected = Image.fromarray(pixels.numpy()[..., :3]).resize(size, Image.Resampling.LANCZOS)
    found = engine.eval(
        f"Array.from(enlargeLanczos({pixels.flatten().tolist()}, {width}, {height}, {factor}))"
    )
    found = torch.tensor(list(found)).view(size[1], size[0], 4)
    wanted = torch.tensor(list(expected.tobytes())).view(size[1], size[0], 3)
    assert (found[..., :3] - wanted).abs().max() <= 1  # Pillow rounds the weights, too
    assert bool((found[..., 3] == 255).all())


def read_address(engine, search, lists=4):
    return json.loads(
        engine.eval(f'JSON.stringify(readAddress({json.dumps(search)}, {lists}, () => "p-new"))')
    )


def test_the_address_names_the_participant_and_the_list(engine):
    assert read_address(engine, "?participant=A_b-9&list=3") == {
        "participant": "A_b-9", "list": 3, "prolific": False, "send": False,
    }  # fmt: skip
    prolific = read_address(engine, "?PROLIFIC_PID=5f00&STUDY_ID=x&list=0&send=1")
    assert prolific == {"participant": "5f00", "list": 0, "prolific": True, "send": True}


def test_without_a_list_in_the_address_the_code_decides(engine):
    expected = int(hashlib.sha256(b"p-new").hexdigest()[:8], 16) % 4
    assert read_address(engine, "") == {
        "participant": "p-new", "list": expected, "prolific": False, "send": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    "search",
    ["?participant=a%20b", "?participant=%3Cb%3E", "?participant=" + "a" * 65, "?list=4",
     "?list=-1", "?list=1.5", "?list=x", "?participant=%E0%A4%A"],
)  # fmt: skip
def test_an_address_that_no_link_has_is_refused(engine, search):
    assert read_address(engine, search).keys() == {"error"}


def test_classes_have_the_keys_1_to_0_and_u_is_for_those_who_cannot_tell(engine):
    data = {"design": "name", "classes": [f"c_{i}" for i in range(10)]}
    choices = call(engine, "choicesOf", data)
    assert [c["keys"] for c in choices] == [[k] for k in "1234567890u"]
    assert [c["answer"] for c in choices] == [*range(10), "unsure"]
    assert choices[3]["label"] == "c 3"


def test_the_side_of_a_pair_decides_which_image_is_on_the_left(engine):
    items = [{"image": 5}, {"image": 6, "pair": 0, "side": "left", "label": 1}]
    data = {"items": items, "classes": ["cat", "dog"], "question": "Which is {}?"}
    assert call(engine, "imagesOf", data, 1) == [6, 5]
    items[1]["side"] = "right"
    assert call(engine, "imagesOf", data, 1) == [5, 6]
    assert call(engine, "questionOf", data, 1) == "Which is dog?"


def test_practice_says_whether_the_answer_was_right(engine):
    data = {"design": "name", "classes": ["cat", "dog"], "items": [{"image": 0, "right": 1}]}
    assert [call(engine, "feedbackOf", data, 0, a) for a in (1, 0, "unsure")] == [
        "Yes: dog.", "No, it is: dog.", "It is: dog."
    ]  # fmt: skip


def test_the_page_gives_no_condition_label_or_check_away(study):
    """A curious participant reads the source of the page."""
    data = page_data(study)
    assert {key for item in data["items"] for key in item} == {"item", "image", "right"}
    right = [item["item"] for item in data["items"] if "right" in item]
    assert right == study.manifest["practice"]
    assert not data.keys() & {"items_by_condition", "conditions", "exclusions", "runs", "seed"}


def test_the_page_has_each_image_once_and_asks_the_network_for_nothing(study):
    page = render_study(study, default_texts())
    data = json.loads(re.search(r'id="study">(.*?)</script>', page, re.DOTALL)[1])
    assert len(set(data["images"])) == len(data["images"])
    text = page.replace(json.dumps(data), "")
    addresses = set(re.findall(r"""(?:src|href)=["']?([^"'\s>]+)|https?://([^\s"'`/]+)""", text))
    assert addresses == {("data:,", ""), ("", "app.prolific.com")}  # a link at the end
    assert "connect-src 'self'" in page and "default-src 'none'" in page


def test_a_text_becomes_paragraphs_in_which_nothing_is_markup():
    text = "One <b>\nline.\n\n\nTwo [[WHO, OR WHAT]].\n"
    assert str(to_markup(text)) == (
        "<p>One &lt;b&gt; line.</p>\n<p>Two <mark>[[WHO, OR WHAT]]</mark>.</p>"
    )


def test_class_names_cannot_end_the_script(pool):
    manifest = {**make_study(pool).manifest, "classes": ["</script><b>", "b", "c", "d"]}
    study = make_study(pool)
    page = render_study(type(study)(manifest, study.pngs), default_texts())
    assert "</script><b>" not in page


def test_every_default_text_has_places_to_fill_and_a_page_says_that_it_is_not_ready(study):
    texts = default_texts()
    assert all(find_placeholders({name: text}) for name, text in texts.items())
    assert "This study is not ready" in render_study(study, texts)
    filled = {name: re.sub(r"\[\[.*?\]\]", "X", text) for name, text in texts.items()}
    assert "This study is not ready" not in render_study(study, filled)


def test_a_page_that_is_too_large_is_refused(study):
    pngs = [bytes([i % 256]) * (MAX_BYTES // len(study.pngs)) for i in range(len(study.pngs))]
    with pytest.raises(ValueError, match=r"would have \d\.\d MB, more than 5 MB; give fewer"):
        render_study(type(study)(study.manifest, pngs), default_texts())


def test_every_script_of_the_folder_is_on_the_page(study):
    page = render_study(study, default_texts())
    for file in (files("scoreag.study") / "page").iterdir():
        if file.name.endswith((".js", ".css")):
            assert file.read_text("utf-8") in page, file.name


class Browser:
    """The scripts of a page in an engine with a made-up document, storage and server."""

    def __init__(self, study, search="", hash_="", stored=(), reply="null"):
        self.engine = MiniRacer()
        self.engine.eval(SCRIPTED.read_text("utf-8"))
        data = json.dumps(page_data(study))
        window = {"search": search, "hash": hash_, "stored": dict(stored), "data": data}
        self.engine.eval(f"prepare({json.dumps(window)}, {reply});")
        self.engine.eval("\n".join(map(read_script, SCRIPTS)))

    def press(self, label):
        self.engine.eval(f"press({json.dumps(label)})")

    def value(self, expression):
        return json.loads(self.engine.eval(f"JSON.stringify({expression})"))

    @property
    def text(self):
        return self.value("textOnScreen()")

    @property
    def stored(self):
        return self.value("stored")

    @property
    def downloads(self):
        return self.value("downloads")

    @property
    def buttons(self):
        return self.value("buttons().map((one) => one.textContent)")

    def stop_and_hand_in(self):
        self.press("I agree and take part")
        self.engine.eval("showPause()")
        self.press("Stop here, and hand in what I answered")
        self.press("Hand in my answers")


SENT = 'Promise.resolve({ ok: true, text: () => Promise.resolve("received") })'
REFUSED = 'Promise.resolve({ ok: false, text: () => Promise.resolve("no") })'


@pytest.mark.parametrize(
    "search, says",
    [
        ("", "Nothing about you was stored."),
        ("?participant=p-1&list=0", "Nothing about you was stored."),
        ("?PROLIFIC_PID=5f&list=0&send=1", "only the code of your link was"),
    ],
)
def test_who_declines_leaves_nothing_in_the_browser(study, search, says):
    browser = Browser(study, search)
    browser.press("I do not take part")
    assert says in browser.text and browser.stored == {}


def test_a_code_of_ones_own_is_kept_from_consent_to_withdrawal(study):
    browser = Browser(study)
    browser.press("I agree and take part")
    prefix = f"scoreag-study {study.manifest['study'][:16]}"
    code = json.loads(browser.stored[prefix])
    assert browser.stored.keys() == {prefix, f"{prefix} {code}"}
    again = Browser(study, stored=browser.stored)
    assert "Welcome back" in again.text
    again.press("Withdraw")
    again.press("Yes, delete my answers")
    assert again.stored == {}


@pytest.mark.parametrize("search", ["", "?participant=p-1&list=0"])
def test_answers_leave_the_browser_with_the_download(study, search):
    browser = Browser(study, search)
    browser.stop_and_hand_in()
    assert browser.stored and "Someone else takes part on this device" not in browser.buttons
    browser.press("Download as JSON")
    browser.press("Download as CSV")  # as often as one likes, until the page is closed
    assert browser.stored == {} and len(browser.downloads) == 2
    assert json.loads(browser.downloads[0])["trials"] == []
    assert browser.buttons.count("Someone else takes part on this device") == (search == "")
    assert browser.value("window.location.hash") == "#done"


@pytest.mark.parametrize(
    "reply, stays, says",
    [
        (SENT, False, "Your answers were received."),
        (REFUSED, True, "Your answers were not received: no"),
        ("Promise.reject()", True, "Your answers could not be sent."),
        ("new Promise(() => {})", True, "Your answers are being sent."),
    ],
)
def test_answers_stay_in_the_browser_until_the_server_has_them(study, reply, stays, says):
    browser = Browser(study, "?participant=p-1&list=0&send=1", reply=reply)
    browser.stop_and_hand_in()
    assert says in browser.text and bool(browser.stored) == stays
    browser.press("Download as JSON")
    assert bool(browser.stored) == (says == "Your answers are being sent.")


def test_a_reload_after_the_end_shows_the_completion_code_and_no_study(study):
    browser = Browser(study, "?PROLIFIC_PID=5f&list=0&send=1", "#done")
    assert study.manifest["completion_code"] in browser.text
    assert browser.buttons == [] and "I agree" not in browser.text


def test_unfinished_answers_go_on_whatever_the_address_ends_in(study):
    browser = Browser(study)
    browser.press("I agree and take part")
    assert "Welcome back" in Browser(study, hash_="#done", stored=browser.stored).text


def test_the_consent_names_all_that_a_file_of_answers_has(study):
    """By field of the file, the words that stand for it."""
    browser = Browser(study, "?participant=p-1&list=0")
    browser.stop_and_hand_in()
    browser.press("Download as JSON")
    words = {
        "participant": "the code of your invitation", "trials": "your answers, how long each took",
        "started": "when you began", "finished": "and finished", "screen": "size and pixel ratio",
        "resumed": "how often you opened the page again",
    }  # fmt: skip
    about_the_study = {"format", "study", "list", "consent", "complete", "digest"}
    assert json.loads(browser.downloads[0]).keys() == words.keys() | about_the_study
    consent = default_texts()["consent"]
    assert [word for word in words.values() if word not in consent] == []
