"""The page in a real browser: no error, no request, charts drawn, filters and keys that work."""

from pathlib import Path

import pytest
from tests.report.example_study import example_study, hostile_study, levels, sheets

from whytransfer.report import write

CHROMIUM = Path("/usr/bin/chromium")

pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}: the page can't be opened here"
)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser study")
    return write(example_study(folder, seeds=(0, 1, 2)), folder / "report.html")


class Visit:
    """An open page, with whatever it said and asked for."""

    def __init__(self, browser, path, **look):
        self.said, self.asked = [], []
        self.context = browser.new_context(**look)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append("dialog"), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_function(
            "document.querySelectorAll('.plot svg.marks').length"
            " === document.querySelectorAll('.plot:not(details:not([open]) *)').length"
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()

    @property
    def requests(self):
        return [url for url in self.asked if not url.startswith("data:")]


def test_the_page_draws_and_asks_for_nothing(browser, report):
    with Visit(browser, report) as visit:
        page = visit.page
        assert visit.requests == [report.as_uri()]
        bars = page.locator("#chart-finding-1-1 .mark-rect path")
        assert bars.count() >= 20
        assert bars.first.evaluate("bar => getComputedStyle(bar).fill") == "rgb(211, 215, 220)"
        bars.first.hover(force=True)
        assert "20.0" in page.locator("#vg-tooltip-element.visible").inner_text()
        assert page.locator(".answer h2").first.bounding_box()["y"] < 720, "on the first screen"
        assert visit.said == []


def test_pictures_are_filtered_by_type_and_arm(browser, report):
    with Visit(browser, report) as visit:
        page = visit.page
        shown = page.locator(".pictures > figure:visible")
        assert shown.count() == 12
        page.get_by_role("button", name="similar", exact=True).click()
        assert shown.count() == 3
        assert page.locator(".shown-count").inner_text() == "3 of 12 pictures"
        page.get_by_role("button", name="moco_v2", exact=True).press("Enter")
        assert shown.count() == 1
        assert shown.locator("figcaption").inner_text().startswith("moco_v2: similar")
        page.locator("[data-tag='type'] button").first.press("Space")
        page.locator("[data-tag='arm'] button").first.press("Space")
        assert shown.count() == 12
        assert page.locator("[aria-pressed='true']").count() == 2
        assert visit.said == []


def test_a_picture_opens_large_and_closes_with_the_keyboard(browser, report):
    with Visit(browser, report) as visit:
        page = visit.page
        small = page.locator("button.picture").first
        small.press("Enter")
        dialog = page.locator("dialog[open]")
        assert dialog.locator("rect.box").count() == 3
        assert dialog.locator(".caption").inner_text().startswith("supervised: localisation")
        assert dialog.bounding_box()["width"] > small.bounding_box()["width"]
        page.keyboard.press("Escape")
        assert dialog.count() == 0
        assert visit.said == []


def test_a_sheet_opens_at_its_own_size(browser, tmp_path):
    study = example_study(tmp_path).model_copy(update={"findings": (sheets(tmp_path),)})
    with Visit(browser, write(study, tmp_path / "report.html")) as visit:
        page = visit.page
        sheet, row = (page.locator("button.picture").nth(k) for k in range(2))
        assert row.bounding_box()["width"] > 1.9 * sheet.bounding_box()["width"]
        for small, size in ((sheet, (912, 1850)), (row, (912, 254))):
            small.press("Enter")
            box = page.locator("dialog[open] .large svg").bounding_box()
            assert (box["width"], box["height"]) == size
            page.keyboard.press("Escape")
        assert visit.said == []


def test_figures_beyond_the_first_are_folded_and_drawn_when_they_are_opened(browser, tmp_path):
    found = levels()
    rows = found.finding.figures["collapse"]
    many = found.finding.model_copy(update={"figures": {f"measure_{n}": rows for n in range(7)}})
    finding = found.model_copy(update={"finding": many})
    study = example_study(tmp_path).model_copy(update={"findings": (finding,)})
    with Visit(browser, write(study, tmp_path / "report.html")) as visit:
        # A diagram and seven charts of levels, of which four stand on the page.
        section = visit.page.locator("#finding-1")
        assert section.locator(".plot svg.marks").count() == 4
        section.get_by_text("4 further figures").click()
        visit.page.wait_for_function(
            "document.querySelectorAll('#finding-1 .plot svg.marks').length === 8"
        )
        widths = [c.bounding_box()["width"] for c in section.locator(".plot svg.marks").all()]
        assert min(widths) > 0.9 * max(widths) > 300
        assert visit.said == []


def test_dark_colours_reach_the_charts_and_paper_is_light(browser, report):
    label = "#chart-result-1 .role-axis-label text"
    fill = "text => getComputedStyle(text).fill"
    with Visit(browser, report, color_scheme="dark") as visit:
        page = visit.page
        paper = "getComputedStyle(document.body).backgroundColor"
        assert page.evaluate(paper) == "rgb(19, 23, 28)"
        assert page.locator(label).first.evaluate(fill) == "rgb(155, 166, 178)"
        page.emulate_media(media="print")
        assert page.evaluate(paper) == "rgb(255, 255, 255)"
        assert page.locator(label).first.evaluate(fill) == "rgb(88, 99, 111)"


def test_a_phone_does_not_scroll_sideways(browser, report):
    with Visit(browser, report, viewport={"width": 360, "height": 780}) as visit:
        page = visit.page
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        assert page.locator("#chart-result-1 svg").bounding_box()["width"] <= 360
        for details in page.locator("details").all():
            details.evaluate("details => { details.open = true; }")
        assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_hostile_names_run_nothing(browser, tmp_path):
    path = write(hostile_study(tmp_path), tmp_path / "hostile #1?.html")
    with Visit(browser, path, viewport={"width": 800, "height": 900}) as visit:
        page = visit.page
        assert page.locator("h1").inner_text() == "Which pretraining transfers best?"
        page.locator("#chart-result-1 .mark-symbol path").first.hover()
        assert "<script>alert(1)</script>" in page.locator("#vg-tooltip-element").inner_text()
        page.locator(".filter button").nth(2).click()
        page.locator("button.picture:visible").first.press("Enter")
        assert page.locator("dialog[open] img, dialog[open] script").count() == 0
        assert visit.requests == [path.as_uri()]
        assert visit.said == []
