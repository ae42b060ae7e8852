"""Pages in a real browser: Debian's Chromium, by Playwright."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gallery_runs import HOSTILE, of_every_kind, outcome, write
from helpers import ROOT, invoke
from PIL import Image

from cvae_cli.gallery.page import GalleryOptions, gallery

pytestmark = pytest.mark.browser
DIGITS = ROOT / "examples" / "digits"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium")
    with api.sync_playwright() as play:
        # As root, as in a container, it has no sandbox.
        found = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"] * (os.geteuid() == 0))
        yield found
        found.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page from the disk; fails at the end if it said anything or asked for anything else."""
    contexts, said, asked = [], [], []

    def to(file: Path, **context: Any) -> Any:
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 900}, **context))
        page = contexts[-1].new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append((request.url, file.parent.as_uri())))
        page.goto(file.as_uri())
        return page

    yield to
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url, folder in asked if not url.startswith((folder, "data:"))] == []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run, with files that fail."""
    folder = tmp_path_factory.mktemp("run")
    shutil.copytree(DIGITS, folder / "imgs")
    (folder / "imgs" / "bad.png").write_bytes(b"nothing")
    (folder / "imgs" / "<b>empty&.png").touch()
    done = invoke("relabel", folder / "imgs", "--out", folder / "out", "--check", "--gallery")
    assert done.exit_code == 3
    return folder / "out"


def names(page: Any) -> list[str]:
    return [text.strip() for text in page.locator("article .path").all_inner_texts()]


def test_filters_narrow_what_is_shown(run: Path, visit: Callable[..., Any]) -> None:
    page = visit(run / "index.html")
    assert names(page)[:3] == ["<b>empty&.png", "bad.png", "chalk-00.png"]
    assert page.locator("#count").inner_text() == "26 images"
    page.fill("#text", "PAPER-0")
    page.wait_for_function("document.querySelectorAll('article').length === 5")
    assert {Path(name).stem for name in names(page)} == {f"paper-0{number}" for number in range(5)}
    page.fill("#text", "header is damaged")  # a reason
    page.wait_for_function("document.querySelectorAll('article').length === 1")
    assert names(page) == ["bad.png"]
    page.click("text=Clear")
    page.select_option("#target", label="7")
    page.wait_for_function("document.querySelectorAll('article').length === 21")
    assert page.locator("article").first.locator(".tile").count() == 2  # the original and the 7
    page.select_option("#target", "")
    page.select_option("#status", label="failed")
    page.wait_for_function("document.querySelectorAll('article').length === 2")
    page.select_option("#status", "")
    page.select_option("#source", label="from folder")
    page.wait_for_function("document.querySelectorAll('article').length === 6")
    assert page.locator("#count").inner_text() == "6 of 26 images"


def test_tiles_are_cut_out_of_the_grid(run: Path, visit: Callable[..., Any], tmp_path: Path) -> None:
    """What is on the screen is the tile, pixel by pixel."""
    import numpy as np

    both = tmp_path / "both"
    one = run.parent / "imgs" / "chalk-03.png"
    assert invoke("relabel", one, "--out", both, "--write", "both").exit_code == 0
    page = visit(run / "index.html")
    article = page.locator("article", has_text="chalk-03.png")
    article.scroll_into_view_if_needed()
    image = article.get_by_role("button", name="drawn as 5").locator("img")
    assert image.evaluate("image => image.decode().then(() => true)")
    tile = article.get_by_role("button", name="drawn as 5")
    tile.locator(".frame").screenshot(path=str(tmp_path / "shown.png"))
    with (
        Image.open(tmp_path / "shown.png") as shown,
        Image.open(both / "tiles" / "5" / "chalk-03.png") as file,
    ):
        seen = np.asarray(shown.convert("L"))[1:-1, 1:-1]  # without the border
        wanted = np.asarray(file.convert("L")).repeat(3, 0).repeat(3, 1)
    side = min(len(seen), len(wanted))
    assert side >= 80
    assert np.abs(seen[:side, :side].astype(int) - wanted[:side, :side]).mean() < 2


def test_the_lightbox_is_worked_by_keys_and_gives_focus_back(run: Path, visit: Callable[..., Any]) -> None:
    page = visit(run / "index.html")
    tile = page.locator("article", has_text="chalk-01.png").get_by_role("button", name="drawn as 9")
    tile.focus()
    page.keyboard.press("Enter")
    assert page.locator("#lightbox-name").inner_text() == "drawn as 9"
    page.keyboard.press("ArrowRight")  # the next image
    assert page.locator("#lightbox-name").inner_text() == "original, 2"
    assert page.locator("#lightbox-path").inner_text() == "chalk-02.png"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#lightbox-name").inner_text() == "drawn as 8"
    assert "sure" in page.locator("#lightbox-note").inner_text()
    page.keyboard.press("Escape")
    assert page.locator("#lightbox").is_hidden()
    assert tile.evaluate("element => element === document.activeElement")


def test_links_lead_to_the_originals(run: Path, visit: Callable[..., Any]) -> None:
    page = visit(run / "index.html")
    link = page.locator("article .path", has_text="<b>empty&.png").get_attribute("href")
    assert link == "../imgs/%3Cb%3Eempty%26.png"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 380])
def test_it_is_accessible(run: Path, visit: Callable[..., Any], scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = visit(run / "index.html", color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for step in (lambda: None, lambda: page.locator(".tile").first.click()):
        step()
        found = axe.run(page)
        assert found.violations_count == 0, found.generate_report()


def test_dark_is_dark(run: Path, visit: Callable[..., Any]) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    assert visit(run / "index.html", color_scheme="dark").evaluate(background) == "rgb(22, 22, 24)"
    assert visit(run / "index.html", color_scheme="light").evaluate(background) == "rgb(246, 246, 244)"


def test_hostile_names_are_text(visit: Callable[..., Any], tmp_path: Path) -> None:
    folder = write(tmp_path / "out", of_every_kind())
    _pictures(folder)
    gallery(GalleryOptions(folder))
    page = visit(folder / "index.html")
    assert HOSTILE in names(page)
    assert page.title() == "out: 7 images"
    plain = visit(folder / "index.html", java_script_enabled=False)
    assert HOSTILE in plain.locator("noscript article .path, .plain article .path").all_inner_texts()


def test_without_javascript_it_is_readable(run: Path, visit: Callable[..., Any]) -> None:
    page = visit(run / "index.html", java_script_enabled=False)
    assert len(names(page)) == 26
    assert page.locator("#filters").is_hidden()
    assert page.locator("article img").first.is_visible()


def test_the_worst_come_first_on_demand(visit: Callable[..., Any], tmp_path: Path) -> None:
    folder = write(tmp_path / "out", of_every_kind())
    _pictures(folder)
    gallery(GalleryOptions(folder))
    page = visit(folder / "index.html")
    page.select_option("#order", label="worst by the judge first")
    page.wait_for_function("document.querySelector('article .path').textContent === 'b/wrong.png'")
    assert names(page)[1] == "unsure.png"
    page.select_option("#verdict", label="odd")
    page.wait_for_function("document.querySelectorAll('article').length === 1")
    assert names(page) == ["b/odd.png"]


def test_a_hundred_thousand_images_stay_usable(visit: Callable[..., Any], tmp_path: Path) -> None:
    folder = write(tmp_path / "out", (outcome(f"{number:06}.png") for number in range(100_000)))
    _pictures(folder, [f"{number:06}.png" for number in (*range(150), 99_999)])
    gallery(GalleryOptions(folder))
    # It is there with the first part alone, however long the others take.
    second = folder / "gallery" / "data-2.js"
    content = second.read_bytes()
    second.write_bytes(b"")
    page = visit(folder / "index.html")
    page.wait_for_selector("article")
    assert "read so far" in page.locator("#count").inner_text()
    second.write_bytes(content)
    page.reload()
    page.wait_for_function(
        "document.getElementById('count').textContent === '100,000 images'", timeout=60_000
    )
    page.fill("#text", "099999")
    page.wait_for_function("document.querySelectorAll('article').length === 1")
    assert names(page) == ["099999.png"]
    page.fill("#text", "")
    page.wait_for_function("document.querySelectorAll('article').length === 50")
    page.click("text=Next")
    assert page.locator("#page").inner_text() == "Page 2 of 2,000"
    heap = page.evaluate("performance.memory.usedJSHeapSize")
    assert heap < 400e6
    page.click("text=Previous")


def test_a_report_page_is_accessible(visit: Callable[..., Any], tmp_path: Path) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    from cvae_cli.gallery.report import MeasuredRow, Picture, Report, write_report

    Image.new("L", (10, 10)).save(tmp_path / "worst.png")
    rows = (MeasuredRow("effectiveness", "higher is better", "98.00%", references=(("chance", "50%"),)),)
    report = Report(
        "m", (("data", "d"),), rows, ("a", "b"), ((1.0, 0.5), (0.9, 1.0)), (Picture("worst.png", "W", "w"),)
    )
    page = visit(write_report(tmp_path, report))
    found = axe.run(page)
    assert found.violations_count == 0, found.generate_report()
    assert json.loads(page.evaluate("JSON.stringify(document.images[0].complete)"))


def _pictures(folder: Path, grids: list[str] | None = None) -> None:
    """What the page would show: a picture for every grid."""
    for one in of_every_kind() if grids is None else map(outcome, grids):
        for output in one.outputs:
            file = folder / output.path.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (300, 150), 90).save(file)
