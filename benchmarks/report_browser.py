"""Reports in headless Chromium: contrast and labels by axe-core, zoom, sorting, filter, requests.

    python benchmarks/report_browser.py RUN/report.html ... --axe axe.min.js --shots shots

Every page is looked at in light and dark, on a desktop and on a phone.  Needs the package
playwright and Chromium; axe-core comes from npm (``npm install axe-core``).
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from study_browser import AXE_RUN, find_chromium

SCREENS = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
SCHEMES = ("light", "dark")
TOO_WIDE = "document.documentElement.scrollWidth > window.innerWidth"
OPEN_ALL = "document.querySelectorAll('details').forEach((one) => (one.open = true))"
COLUMN = """([table, column]) => [...document.querySelectorAll("table.data")[table].tBodies[0].rows]
  .filter((row) => !row.hidden).map((row) => row.cells[column].dataset.sort || "")"""
SORTABLE = """() => [...document.querySelectorAll("table.data")].map((table) =>
  [...table.querySelectorAll("thead button.sort")].length)"""


class Reader:
    """Someone at a page, with what was wrong with it."""

    def __init__(self, page: Any, file: Path, axe: str, shots: Path | None, screen: str) -> None:
        self.page, self.file, self.axe, self.shots = page, file, axe, shots
        self.screen, self.faults, self.requests, self.n_screens = screen, [], [], 0
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.fault(f"script: {error}"))
        page.on(
            "console", lambda m: self.fault(f"console: {m.text}") if m.type == "error" else None
        )
        page.goto(file.resolve().as_uri())

    def fault(self, text: str) -> None:
        self.faults.append(f"{self.file.parent.name}, {self.screen}: {text}")

    def expect(self, holds: bool, text: str) -> None:
        if not holds:
            self.fault(text)

    def look(self, name: str) -> None:
        """Check the screen by axe in both color schemes, and take a picture of it."""
        for scheme in SCHEMES:
            self.page.emulate_media(color_scheme=scheme)
            self.n_screens += 1
            if self.axe:
                for text in self.page.evaluate(AXE_RUN):
                    self.fault(f"{name}, {scheme}: {text}")
            if self.shots:
                stem = f"{self.file.parent.name}-{self.screen}-{name}-{scheme}.png"
                self.page.screenshot(path=self.shots / stem, full_page=name == "page")
        self.expect(not self.page.evaluate(TOO_WIDE), f"{name} is wider than the screen")


def check_zoom(reader: Reader) -> None:
    """Enlarge the first images by the keyboard, see the next ones, and come back."""
    page = reader.page
    links = page.locator(".gallery a.enlarge")
    if not links.count():
        return
    links.first.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog#viewer")
    if not dialog.is_visible():
        reader.fault("Enter on a link enlarges nothing")
        return
    first = page.inner_text("#viewer-title")
    reader.look("zoom")
    width = page.locator("dialog .view img").first.bounding_box()["width"]
    small = page.locator(".gallery img").first.bounding_box()["width"]
    reader.expect(width > small, f"enlarged images are {width} wide, and were {small}")
    if links.count() > 1:
        page.keyboard.press("ArrowRight")
        reader.expect(page.inner_text("#viewer-title") != first, "the arrow key shows no other")
        page.keyboard.press("ArrowLeft")
    reader.expect(page.inner_text("#viewer-title") == first, "the way back leads elsewhere")
    page.keyboard.press("Escape")
    reader.expect(not dialog.is_visible(), "Escape does not close")
    focused = page.evaluate("document.activeElement.className")
    reader.expect(focused == "enlarge", f"the focus is on {focused!r} after closing")


def check_tables(reader: Reader) -> None:
    """Sort each column of numbers both ways, and filter rows by a word of the last one."""
    page = reader.page
    for number, columns in enumerate(page.evaluate(SORTABLE)):
        table = page.locator("table.data").nth(number)
        for column in range(columns):
            values = [float(v) for v in page.evaluate(COLUMN, [number, column]) if v]
            button = table.locator("thead button.sort").nth(column)
            for order in ("ascending", "descending"):
                button.click()
                found = [float(v) for v in page.evaluate(COLUMN, [number, column]) if v]
                wanted = sorted(values, reverse=order == "descending")
                reader.expect(found == wanted, f"table {number}, column {column}: {order}")
    field = page.locator(".tools input[type=search]")
    if field.count():
        field.first.fill("no such words")
        reader.expect("0 of " in page.locator(".tools output").first.inner_text(), "no filter")
        field.first.fill("")


def check_without_script(context: Any, file: Path) -> Iterator[str]:
    """All sections can be read, and a link enlarges images, without JavaScript."""
    page = context.new_page()
    page.goto(file.resolve().as_uri())
    if page.locator(".tools, button.sort").count():
        yield f"{file.parent.name}: scripts ran in a browser without"
    links = page.locator("a.enlarge")
    if links.count():
        small = page.locator(".gallery img").first.bounding_box()["width"]
        links.first.click()
        large = page.locator(".strip:target img").first.bounding_box()["width"]
        if large <= small:
            yield f"{file.parent.name}: without scripts, the link enlarges nothing"
    page.close()


def check_reports(files: Sequence[Path], axe: str, shots: Path | None) -> tuple[int, list[str]]:
    """The number of screens that were looked at, and the faults that were found."""
    from playwright.sync_api import sync_playwright

    faults: list[str] = []
    n_screens = 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        bare = browser.new_context(java_script_enabled=False)
        for file in files:
            for screen, size in SCREENS.items():
                context = browser.new_context(viewport=size)
                reader = Reader(context.new_page(), file, axe, shots, screen)
                if axe:
                    reader.page.evaluate(axe)
                reader.expect(not reader.page.evaluate(TOO_WIDE), "the page is too wide")
                check_zoom(reader)
                if screen == "desktop":
                    check_tables(reader)
                reader.page.evaluate(OPEN_ALL)
                reader.look("page")
                sent = [url for url in reader.requests if not url.startswith("data:")]
                reader.expect(sent == [file.resolve().as_uri()], f"requests: {sent}")
                faults += reader.faults
                n_screens += reader.n_screens
                context.close()
            faults += check_without_script(bare, file)
        browser.close()
    return n_screens, faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", type=Path, nargs="+", metavar="report.html")
    parser.add_argument("--axe", type=Path, help="axe.min.js of axe-core")
    parser.add_argument("--shots", type=Path, help="folder for pictures of the screens")
    arguments = parser.parse_args()
    if arguments.shots:
        arguments.shots.mkdir(parents=True, exist_ok=True)
    axe = arguments.axe.read_text("utf-8") if arguments.axe else ""
    if not axe:
        print("without --axe, contrast and labels are not checked", file=sys.stderr)
    n_screens, faults = check_reports(arguments.files, axe, arguments.shots)
    print("\n".join([*faults, f"{n_screens} screens, {len(faults)} faults"]))
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
