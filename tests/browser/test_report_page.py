"""The report in a real browser: headless Chromium, driven through Selenium.

Asked for with `bash scripts/test.sh --browser`. Without a browser these tests fail: whoever asks
for them wants to know what one says.
"""

import base64
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sora_det.evaluation.protocol import RunInfo
from sora_det.report.page import write_page
from tests.tools.report_runs import write_run

pytestmark = pytest.mark.browser

DOMAINS = ("clear", "fog", "night", "rain and <b>dusk</b>", "a-domain-with-quite-a-long-name")
CLASSES = ("bus", "car", "<script>alert(1)</script>", "person", "rider")
INSTALL = "on Debian: apt-get install chromium chromium-driver"
WIDE = """return [...document.querySelectorAll('body *')].filter(e => {
  if (e.closest('.wide, .shots, nav, svg')) return false;
  return e.getBoundingClientRect().right > document.documentElement.clientWidth + 1;
}).map(e => e.outerHTML.slice(0, 80))"""
# What every element of text has as colours: its own, and the nearest that is behind it.
COLOURS = """function back(e) {
  for (; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor;
    if (!/, 0\\)$|transparent/.test(c)) return c;
  }
  return 'rgb(255, 255, 255)';
}
return [...document.querySelectorAll('p, li, h1, h2, h3, h4, th, td, small, a, dt, dd, button')]
  .filter(e => e.offsetParent && e.textContent.trim() && !e.closest('svg'))
  .map(e => [e.localName, getComputedStyle(e).color, back(e)])"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    runs = []
    for name, seed in (("SoRA", 0), ("SoRA", 1), ("Full", 0)):
        info = RunInfo(method=f"{name}(r=1)", seed=seed, date="2026-01-02", random_init=True)
        place = folder / f"{name}{seed}"
        # A slash would be a folder: the closing tag is in the classes' names.
        names = tuple(domain.replace("/", "") for domain in DOMAINS)
        runs.append(write_run(place, run=info, domains=names, classes=CLASSES, images=20))
    analysis = runs[0] / "spectrum"
    analysis.mkdir()
    (analysis / "spectrum.json").write_text('{"format": "sora_det.spectrum", "version": 1}')
    (analysis / "spectra.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="900" height="90"><script>alert(2)</script>'
        '<image href="http://localhost/never.png"/><circle r="9"/></svg>'
    )
    return {
        "one": write_page(runs[:1], folder / "one.html"),
        "many": write_page(runs, folder / "many.html"),
    }


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    program = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.fail(f"Chromium and its driver are needed for these tests; {INSTALL}")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium refuses to start as root otherwise
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()


@pytest.fixture(params=["one", "many"])
def page(request: pytest.FixtureRequest, browser: Any, pages: dict[str, Path]) -> Any:
    """Open a page on a desktop, in light colours, with empty logs."""
    show(browser, width=1280)
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(pages[request.param].as_uri())
    return browser


def show(browser: Any, *, width: int, scheme: str = "light") -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": [feature]})


def test_the_browser_has_nothing_to_complain_about(page: Any) -> None:
    assert page.get_log("browser") == []
    assert page.execute_script("return document.compatMode") == "CSS1Compat"
    assert page.execute_script("return document.scripts.length") == 1


def test_nothing_but_the_file_is_asked_for(page: Any) -> None:
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    assert any(url.startswith("file:") for url in asked)
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"}
    assert sum(url.startswith("file:") for url in asked) == 1


def test_all_images_decode(page: Any) -> None:
    script = """const done = arguments[0];
    Promise.all([...document.images].map(i => i.decode().catch(() => 0)))
      .then(() => done([...document.images].map(i => i.naturalWidth)))"""
    widths = page.execute_async_script(script)
    assert len(widths) > 5 * 8
    assert min(widths) > 0


def test_tables_sort_by_click_and_by_key(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    box = page.find_element("css selector", "#domains table")
    (button,) = (b for b in box.find_elements("css selector", "thead button") if b.text == "AP50")
    header = button.find_element("xpath", "..")
    column = page.execute_script("return arguments[0].cellIndex + 1", header)
    cells = f"#domains tbody tr > :nth-child({column})"

    def shown() -> list[float]:
        return [float(c.text.split()[0]) for c in page.find_elements("css selector", cells)]

    before = shown()
    assert len(before) >= len(DOMAINS)
    button.click()
    assert header.get_attribute("aria-sort") == "descending"
    assert shown() == sorted(before, reverse=True)
    button.send_keys(Keys.ENTER)
    assert header.get_attribute("aria-sort") == "ascending"
    assert shown() == sorted(before)
    first = box.find_element("css selector", "thead button")
    first.send_keys(Keys.SPACE)
    assert header.get_attribute("aria-sort") is None
    names = [c.text for c in box.find_elements("css selector", "tbody th")]
    assert names == sorted(names, key=str.lower)


def test_numbers_sort_as_numbers_and_missing_ones_come_last(page: Any) -> None:
    page.execute_script(
        """const body = document.querySelector('#domains tbody');
        const values = ['9.5', '10.2', null, '100', '-1'];
        [...body.rows].forEach((row, i) => {
          const cell = row.cells[row.cells.length - 1];
          if (values[i % 5] === null) delete cell.dataset.value;
          else cell.dataset.value = values[i % 5];
        });
        const last = document.querySelector('#domains thead th:last-child button');
        last.click(); last.click();"""
    )
    values = page.execute_script(
        "return [...document.querySelectorAll('#domains tbody td:last-child')]"
        ".map(cell => cell.dataset.value ?? null)"
    )
    times = len(values) // 5
    order = ["-1", "9.5", "10.2", "100", None]
    assert values == [value for value in order for _ in range(times)]


def test_no_sideways_scroll_on_a_phone(page: Any) -> None:
    show(page, width=360)
    page.refresh()
    assert page.execute_script("return document.documentElement.scrollWidth") <= 360
    assert page.execute_script(WIDE) == []
    wide = "return [...document.querySelectorAll('.wide')].some(e => e.scrollWidth > e.clientWidth)"
    assert page.execute_script(wide)  # tables that are too wide scroll in their boxes


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(page: Any, scheme: str) -> None:
    show(page, width=1280, scheme=scheme)
    page.refresh()
    body = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (luminance(body) < 0.2) == (scheme == "dark")
    found = {tuple(entry) for entry in page.execute_script(COLOURS)}
    assert len(found) > 5
    poor = [entry for entry in found if contrast(entry[1], entry[2]) < 4.5]
    assert not poor


def test_print_has_pages_and_shows_everything(page: Any) -> None:
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    hidden = page.execute_script(
        "return [...document.querySelectorAll('figure, section, table')]"
        ".filter(e => !e.getClientRects().length).length"
    )
    assert hidden == 0
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    file = base64.b64decode(page.execute_cdp_cmd("Page.printToPDF", {})["data"])
    pages = len(re.findall(rb"/Type\s*/Page\b", file))
    assert 5 <= pages <= 60


def test_switches_of_the_gallery(page: Any) -> None:
    def visible(selector: str) -> int:
        return int(
            page.execute_script(
                "return [...document.querySelectorAll(arguments[0])]"
                ".filter(e => e.getClientRects().length).length",
                selector,
            )
        )

    for layer in ("truth", "pred", "labels"):
        shapes = f".photo .{layer} " + ("text" if layer == "labels" else "rect")
        assert visible(shapes)
        switch = page.find_element("css selector", f"[data-layer={layer}]")
        page.execute_script("arguments[0].click()", switch)
        assert not visible(shapes)
        page.execute_script("arguments[0].click()", switch)
        assert visible(shapes)


def test_menus_over_several_runs(browser: Any, pages: dict[str, Path]) -> None:
    from selenium.webdriver.support.ui import Select

    show(browser, width=1280)
    browser.get(pages["many"].as_uri())
    panels = browser.find_elements("css selector", "figure[data-class]")
    assert len(panels) == len(CLASSES) * len(DOMAINS)
    seen = [panel for panel in panels if panel.is_displayed()]
    assert len(seen) == len(DOMAINS)  # one class, every domain
    menus = {m.get_attribute("data-filter"): m for m in browser.find_elements("tag name", "select")}
    Select(menus["class"]).select_by_visible_text("every class")
    Select(menus["domain"]).select_by_visible_text("fog")
    assert sum(panel.is_displayed() for panel in panels) == len(CLASSES)
    Select(menus[None]).select_by_index(2)
    layers = browser.execute_script(
        "return [...document.querySelectorAll('.photo g[data-run]')]"
        ".filter(g => getComputedStyle(g).display !== 'none').map(g => g.dataset.run)"
    )
    assert set(layers) == {"2"}
    spans = browser.find_elements("css selector", "figcaption [data-run]")
    assert {s.get_attribute("data-run") for s in spans if s.is_displayed()} == {"2"}


def test_the_page_is_small(pages: dict[str, Path]) -> None:
    assert all(path.stat().st_size < 5_000_000 for path in pages.values())


def luminance(colour: str) -> float:
    """Relative luminance of "rgb(r, g, b)" or "color(srgb r g b / a)", as WCAG 2 has it."""
    scale = 1.0 if colour.startswith("color(") else 255.0
    parts = [float(v) / scale for v in re.findall(r"[\d.]+", colour)[:3]]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
