"""Two simulated people take part in a study, in headless Chromium, from consent to download.

    python benchmarks/study_browser.py STUDY --axe node_modules/axe-core/axe.min.js --shots shots

The first opens the page as a file, uses the keyboard alone, and reloads the page in between.  The
second holds a phone, taps, and is served by ``scoreag study serve``.  Needs the package playwright
and Chromium; axe-core comes from npm (``npm install axe-core``).
"""

import argparse
import csv
import hashlib
import io
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scoreag.study.lists import trial_order
from scoreag.study.manifest import PAGE, read_study
from scoreag.study.serve import make_server, open_desk

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}
AXE_RUN = """async () => {
  const found = await axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"] });
  return found.violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html).join(" ")}`);
}"""

FOCUSED_BUTTON = (
    'document.activeElement.matches("button") ? document.activeElement.textContent : ""'
)


def find_chromium() -> str:
    """The browser: CHROMIUM, or one on the path."""
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if name and (found := shutil.which(name))), "")


@dataclass
class Person:
    """Someone at a page, who knows most labels, and what was seen of the page meanwhile."""

    page: Any
    manifest: Mapping[str, Any]
    participant: str
    number: int
    axe: str = ""
    shots: Path | None = None
    think: int = 0
    requests: list[str] = field(default_factory=list)
    given: list[Any] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.violations.append(f"error: {error}"))
        self.page.on(
            "console",
            lambda m: self.violations.append(f"console: {m.text}") if m.type == "error" else None,
        )

    @property
    def sent(self) -> list[str]:
        """The requests but for images that are in the page, and for its downloads."""
        return [url for url in self.requests if not url.startswith(("data:", "blob:"))]

    def look(self, name: str) -> None:
        """Check the screen by axe in both color schemes, and take a picture of it."""
        for scheme in ("dark", "light") if self.axe else ():
            self.page.emulate_media(color_scheme=scheme)
            self.page.evaluate(self.axe)
            found = self.page.evaluate(AXE_RUN)
            self.violations += [f"{name}, {scheme}: {text}" for text in found]
            self.checked.append(f"{name}, {scheme}")
            if self.shots:
                self.page.screenshot(path=self.shots / f"{self.participant}-{name}-{scheme}.png")
        if self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
            self.violations.append(f"{name}: is wider than the screen")

    def answer_of(self, item: int) -> Any:
        """The right answer, but a wrong one now and then."""
        entry = self.manifest["items"][item]
        design, turn = self.manifest["design"], len(self.given) % 9
        if turn == 7:
            return "unsure"
        if design == "name":
            return (entry["label"] + (turn == 8)) % len(self.manifest["classes"])
        if design == "choose":
            return ("left", "right")[(entry["side"] == "right") ^ (turn == 8)]
        return "real" if entry["condition"] == "clean" else "fake"

    def expected(self) -> list[dict[str, Any]]:
        return trial_order(self.manifest, self.participant, self.number)


def key_of(answer: Any) -> str:
    """The key of an answer, in every design."""
    if isinstance(answer, int):
        return str((answer + 1) % 10)
    return {"unsure": "u", "left": "ArrowLeft", "right": "ArrowRight", "real": "1", "fake": "2"}[
        answer
    ]


def press_button(person: Person, text: str) -> None:
    """Reach a button by Tab alone, and press Enter."""
    for _ in range(20):
        person.page.keyboard.press("Tab")
        if text in person.page.evaluate(FOCUSED_BUTTON):
            person.page.keyboard.press("Enter")
            return
    raise AssertionError(f"Tab does not reach {text!r}")


def tap_button(person: Person, text: str) -> None:
    person.page.get_by_role("button", name=text).tap()


def type_answer(person: Person, answer: Any) -> None:
    person.page.keyboard.press(key_of(answer))


def tap_answer(person: Person, answer: Any) -> None:
    buttons = person.page.locator(".choices button")
    order = {"left": 0, "right": 1, "real": 0, "fake": 1, "unsure": buttons.count() - 1}
    box = buttons.nth(order.get(answer, answer)).bounding_box()
    assert box["height"] >= 44 and box["y"] + box["height"] <= PHONE["height"], box
    buttons.nth(order.get(answer, answer)).tap()


def do_trials(
    person: Person, stop: int, press: Callable[..., None], answer: Callable[..., None]
) -> None:
    """Answer trials until ``stop`` of them are done; practice says whether it was right."""
    order = person.expected()
    looked = {name.partition(",")[0] for name in person.checked}
    for number in range(len(person.given), stop):
        person.page.locator(".choices").wait_for()
        assert f"Picture {number + 1} of {len(order)}" in person.page.inner_text(".top label")
        kind = order[number]["kind"]
        if kind not in looked:
            looked.add(kind)
            person.look(kind)
        person.page.wait_for_timeout(person.think)
        person.given.append(person.answer_of(order[number]["item"]))
        answer(person, person.given[-1])
        if kind == "practice":
            is_last = order[number + 1]["kind"] != "practice"
            if "feedback" not in looked:
                looked.add("feedback")
                person.look("feedback")
            press(person, "Practice is over" if is_last else "Next")


def fetch_downloads(person: Person, press: Callable[..., None], folder: Path) -> dict[str, bytes]:
    """The files that the last screen offers."""
    files = {}
    for kind in ("JSON", "CSV"):
        with person.page.expect_download() as waiting:
            press(person, f"Download as {kind}")
        path = folder / waiting.value.suggested_filename
        waiting.value.save_as(path)
        files[kind] = path.read_bytes()
    kept = person.page.evaluate("[localStorage.length, window.location.hash]")
    assert kept == [0, "#done"], kept  # the browser keeps nothing of the person
    return files


def take_part_by_keyboard(person: Person, url: str, folder: Path) -> dict[str, bytes]:
    """From consent to download by keys alone; the page is reloaded in the middle, and paused."""
    page = person.page
    page.goto(url)
    person.look("consent")
    press_button(person, "I agree")
    person.look("instructions")
    press_button(person, "Begin with practice")
    order = person.expected()
    do_trials(person, len(order) // 2, press_button, type_answer)
    page.reload()
    person.look("welcome-back")
    press_button(person, "Continue")
    do_trials(person, 3 * len(order) // 4, press_button, type_answer)
    page.locator(".choices").wait_for()
    page.keyboard.press("p")
    person.look("paused")
    press_button(person, "Withdraw")
    person.look("withdraw")
    press_button(person, "Back")
    check_keys_off(person)
    do_trials(person, len(order), press_button, type_answer)
    person.look("debrief")
    press_button(person, "Hand in")
    person.look("done")
    return fetch_downloads(person, press_button, folder)


def check_keys_off(person: Person) -> None:
    """From the pause to the trial again; keys that were switched off give no answer."""
    press_button(person, "Switch the keys off")
    press_button(person, "Continue")
    person.page.locator(".choices").wait_for()
    person.page.keyboard.press("1")
    person.page.keyboard.press("u")
    assert f"Picture {len(person.given) + 1} of" in person.page.inner_text(".top label")
    press_button(person, "Pause")
    press_button(person, "Switch the keys on")
    press_button(person, "Continue")


def take_part_by_touch(person: Person, url: str, folder: Path) -> dict[str, bytes]:
    """From consent to download on a phone; the server takes the answers in."""
    person.page.goto(url)
    person.look("consent")
    tap_button(person, "I agree")
    person.look("instructions")
    tap_button(person, "Begin with practice")
    do_trials(person, len(person.expected()), tap_button, tap_answer)
    person.look("debrief")
    tap_button(person, "Hand in")
    person.page.get_by_text("Your answers were received").wait_for()
    person.look("done")
    return fetch_downloads(person, tap_button, folder)


def check_files(person: Person, files: Mapping[str, bytes], resumed: int) -> None:
    """Compare the downloaded files with the manifest, and with what was typed."""
    answers = json.loads(files["JSON"])
    trials = answers["trials"]
    wanted = [
        {"trial": i, **trial, "answer": answer}
        for i, (trial, answer) in enumerate(zip(person.expected(), person.given, strict=True))
    ]
    assert [{k: v for k, v in trial.items() if k != "ms"} for trial in trials] == wanted
    assert all(isinstance(trial["ms"], int) and trial["ms"] >= 0 for trial in trials)
    assert answers["study"] == person.manifest["study"] and answers["resumed"] == resumed
    assert answers["participant"] == person.participant and answers["list"] == person.number
    assert answers["consent"] is True and answers["complete"] is True and answers["finished"]
    arrays = [[t["trial"], t["item"], t["kind"], t["answer"], t["ms"]] for t in trials]
    text = json.dumps(
        [answers["study"], person.participant, person.number, arrays], separators=(",", ":")
    )
    assert answers["digest"] == hashlib.sha256(text.encode()).hexdigest()
    rows = list(csv.DictReader(io.StringIO(files["CSV"].decode())))
    assert [[row[n] for n in ("trial", "item", "kind", "answer", "ms")] for row in rows] == [
        [str(value) for value in array] for array in arrays
    ]
    assert {(row["participant"], row["digest"]) for row in rows} == {
        (person.participant, answers["digest"])
    }


def check_page(person: Person, allowed: list[str]) -> None:
    """No violation, no error of a script, and no request but the allowed ones."""
    assert person.sent == allowed, person.sent
    assert not person.violations, "\n".join(person.violations)


def run_study(folder: Path, axe: str, shots: Path | None, work: Path, think: int = 0) -> list[str]:
    """Both people take part in the study in ``folder``; what was seen, in lines.

    Args:
        think: milliseconds before an answer; an analysis leaves out who is faster than 200.
    """
    from playwright.sync_api import sync_playwright

    manifest = read_study(folder)
    page_url = f"{(folder / PAGE).resolve().as_uri()}?participant=p-keys&list=0"
    desk = open_desk(folder)
    server = make_server(desk)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    site = f"http://127.0.0.1:{server.server_address[1]}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        desktop = browser.new_context(viewport=DESKTOP, accept_downloads=True)
        first = Person(desktop.new_page(), manifest, "p-keys", 0, axe, shots, think)
        first_files = take_part_by_keyboard(first, page_url, work)
        phone = browser.new_context(
            viewport=PHONE, device_scale_factor=3, has_touch=True, is_mobile=True,
            accept_downloads=True,
        )  # fmt: skip
        second = Person(
            phone.new_page(), manifest, "p-touch", desk.hand_out("p-touch"), axe, shots, think
        )
        start = f"{site}/?PROLIFIC_PID=p-touch"
        second_files = take_part_by_touch(second, start, work)
        browser.close()
    server.shutdown()
    server.server_close()
    check_files(first, first_files, resumed=1)
    check_files(second, second_files, resumed=0)
    check_page(first, [page_url, page_url])
    query = f"PROLIFIC_PID=p-touch&list={second.number}&send=1"
    check_page(second, [start, f"{site}/study?{query}", f"{site}/answers"])
    assert (desk.answers / "p-touch.json").read_bytes() == second_files["JSON"]
    return [
        f"{one.participant}: {len(one.given)} trials; {len(one.checked)} screens checked by axe, "
        f"{len(one.violations)} violations; requests: {', '.join(one.sent)}"
        for one in (first, second)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--axe", type=Path, help="axe.min.js of axe-core")
    parser.add_argument("--shots", type=Path, help="folder for pictures of the screens")
    parser.add_argument("--work", type=Path, default=Path("downloads"), help="for downloads")
    parser.add_argument("--think", type=int, default=300, help="milliseconds before an answer")
    arguments = parser.parse_args()
    for folder in filter(None, (arguments.shots, arguments.work)):
        folder.mkdir(parents=True, exist_ok=True)
    axe = arguments.axe.read_text("utf-8") if arguments.axe else ""
    if not axe:
        print("without --axe, contrast and labels are not checked", file=sys.stderr)
    for line in run_study(arguments.study, axe, arguments.shots, arguments.work, arguments.think):
        print(line)


if __name__ == "__main__":
    main()
