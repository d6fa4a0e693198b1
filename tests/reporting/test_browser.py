"""The report in Chromium itself, opened from disk: offline, readable, by keyboard, on paper; each check has a fault."""

import re
import shutil
from contextlib import contextmanager
from pathlib import Path

import browsing
import pandas as pd
import pytest
from matplotlib.figure import Figure
from reporting.test_results import PARAMS, write_data, write_model

from trainyard import figures, files, params, reporting
from trainyard.reporting import picture, results
from trainyard.stages.report import report

pytestmark = [pytest.mark.slow, browsing.NEEDED]

ROOT = Path(__file__).parents[2]

FAINT = """
const light = (colour) => colour.slice(0, 3).map((c) => c / 255)
  .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const read = (text) => [...text.match(/[\\d.]+/g).map(Number), 1].slice(0, 4);
const over = (top, below) => below.map((c, i) => top[i] * top[3] + c * (1 - top[3]));
document.documentElement.style.backgroundColor = "Canvas";  // what is below all else follows the scheme
const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node; (node = walker.nextNode());) {
  const element = node.parentElement, style = getComputedStyle(element), box = element.getBoundingClientRect();
  if (!node.data.trim() || !element.checkVisibility() || box.width < 2 || box.height < 2) continue;
  const layers = [];
  let shown = 1;
  for (let up = element; up; up = up.parentElement) {
    layers.unshift(read(getComputedStyle(up).backgroundColor));
    shown *= getComputedStyle(up).opacity;
  }
  const ground = layers.reduce((below, top) => over(top, below), [255, 255, 255]);
  const colour = read(element instanceof SVGElement ? style.fill : style.color);
  const [ink, paper] = [over([...colour.slice(0, 3), colour[3] * shown], ground), ground].map(light);
  const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
  if (ratio < (large ? 3 : 4.5)) found.push(`${node.data.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
}
return found;
"""
"""Texts whose contrast is below level AA of WCAG 2.2, 1.4.3."""

UNNAMED = """
const all = (what) => [...document.querySelectorAll(what)];
const bare = (element) => !element.textContent.trim();
return [
  ...all("html:not([lang])"), ...all("img:not([alt]), img[alt='']"), ...all("th:not([scope])"),
  ...all("a, button, summary, th, title, h1, h2, h3, h4, h5, h6").filter(bare),
  ...all("svg").filter((svg) => !svg.querySelector("title")), ...all("[role=region]:not([aria-label])"),
].map((element) => element.outerHTML.slice(0, 80));
"""
"""What has no language, no alternative, no scope, no text or no name."""


def leaps(browser):
    """Headings that are not at most one level below the one before; a page has one of the first."""
    levels = browser.execute_script(
        "return [...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(h => +h.tagName[1])"
    )
    found = [f"h{one} to h{two}" for one, two in zip([0, *levels], levels, strict=False) if two > one + 1]
    return found + [f"{levels.count(1)} h1"] * (levels.count(1) != 1)


def out_of_reach(browser):
    """What a keyboard must reach and does not; and what does not show that it has the focus."""
    from selenium.webdriver.common.keys import Keys

    reachable = "a[href], summary, [tabindex='0']"
    browser.execute_script(f"document.querySelectorAll({reachable!r}).forEach((one, i) => one.dataset.place = i)")
    count = browser.execute_script(f"return document.querySelectorAll({reachable!r}).length")
    browser.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
    reached, dull = set(), []
    for _ in range(count):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        place, name, outline = browser.execute_script(
            "const e = document.activeElement, s = getComputedStyle(e);"
            "const outline = s.outlineStyle === 'none' ? 0 : parseFloat(s.outlineWidth);"
            "return [e.dataset.place, e.outerHTML.slice(0, 60), outline]"
        )
        reached.add(place)
        dull += [f"dull: {name}"] * (outline < 2)
    missed = {str(place) for place in range(count)} - reached
    return dull + [
        browser.execute_script(f"return document.querySelector('[data-place=\"{place}\"]').outerHTML.slice(0, 60)")
        for place in sorted(missed)
    ]


@contextmanager
def phone(browser):
    """On a screen 390 px wide."""
    screen = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        yield
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def too_wide(browser):
    """Whether a page is scrolled sideways on a phone."""
    with phone(browser):
        wide = browser.execute_script("return document.documentElement.scrollWidth")
    return [f"{wide} px"] * (wide > 390)


def faults(browser, page):
    """What is wrong with a page on disk, by what was asked of it."""
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["http://*", "https://*", "ws://*"]})
    browsing.likes(browser, "light")
    browsing.asked(browser), browsing.errors(browser)
    browser.get(page.as_uri())
    told = {
        "unnamed": browser.execute_script(UNNAMED),
        "leaps": leaps(browser),
        "out of reach": out_of_reach(browser),
        "too wide": too_wide(browser),
    }
    for scheme, media in (("light", "screen"), ("dark", "screen"), ("dark", "print")):
        browsing.likes(browser, scheme, media)
        # what is folded on a screen is opened; paper has to show it by itself
        browser.execute_script(
            f"document.querySelectorAll('details').forEach(one => one.open = {str(media == 'screen').lower()})"
        )
        told[f"faint, {scheme} {media}"] = browser.execute_script(FAINT)
    hidden = "return [...document.querySelectorAll('details > :not(summary)')].filter(e => !e.checkVisibility()).length"
    told["folded on paper"] = ["some"] * (browser.execute_script(hidden) > 0)
    told["asked elsewhere"] = [url for url in browsing.asked(browser) if not url.startswith(("file:", "data:"))]
    told["console"] = browsing.errors(browser)
    return {what: found for what, found in told.items() if found}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with browsing.opened(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The report on results of every sort, and on the line as it ships."""
    folder = tmp_path_factory.mktemp("project")
    loaded = params.parse(PARAMS)
    files.write_text(folder / "dvc.yaml", (ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    write_data(folder, "tiles", kind="images", objective="multiclass", labels=[["cat", 40], ["dog", 20]])
    write_data(folder, "tide", kind="series", objective="forecast", remarks=["`level`: no value"])
    for name, decision in (("cnn", "champion"), ("mobilenet", "challenger"), ("rnn", "champion")):
        write_model(folder, loaded, name, right=50, decision=decision, remark="It is left to `you`.")
        for figure in results.FIGURES:
            figures.save(Figure(figsize=(12, 3)), folder / f"reports/models/{name}/{figure}.png")
    cnn = folder / "reports/models/cnn"
    metrics, verdict = files.read_json(cnn / "metrics.json"), files.read_json(cnn / "verdict.json")
    ends = {"value": 0.75, "low": 0.5, "high": 0.9}
    metrics["slices"] = {"label": {"a": {"examples": 12, **ends}}}
    metrics["over_seeds"] = {"accuracy": {**ends, "each": {"1": 0.8, "2": 0.7}}}
    verdict["before"] = {"value": 0.5, "changed": [{"what": "epochs", "was": "5", "now": "10"}]}
    files.write_json(cnn / "metrics.json", metrics)
    files.write_json(cnn / "verdict.json", {**verdict, "against": "f" * 64})
    card = "# cnn\n\n## For **whom**\n\n| a | b |\n|---|---|\n| 1 | `2` |\n\n- `dvc repro register@cnn`\n"
    (cnn / "card.md").write_text(card)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        report(loaded)
    return folder / "report/index.html"


@pytest.fixture
def page(made, browser, tmp_path):
    """A copy of the report, which a test may spoil, on a screen."""
    browsing.likes(browser, "light")
    return Path(shutil.copy(made, tmp_path))


def test_the_report_has_no_fault(browser, page):
    assert faults(browser, page) == {}
    for told in ("finetune", "Since the champion before", "epochs", "For whom", "over 2 seeds", "label: a"):
        assert told in browser.execute_script("return document.body.textContent")


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ("<p style='color: #999'>pale</p>", {"faint, light screen", "faint, dark print"}),
        ("<p style='opacity: .4'>pale</p>", {"faint, light screen", "faint, dark screen", "faint, dark print"}),
        ("<style>@media (prefers-color-scheme: dark) { .lead { color: #444 } }</style>", {"faint, dark screen"}),
        ("<style>@media print { :root { --paper: #222b38 } }</style>", {"faint, dark print"}),
        (
            "<style>@media print { :root { color-scheme: dark } body, .card { background: none } }</style>",
            {"faint, dark print"},
        ),
        (
            "<svg><title>t</title><text y='20' fill='#aaa' style='fill: #aaa'>pale</text></svg>",
            {"faint, light screen", "faint, dark print"},
        ),
        ("<img src='http://127.0.0.1:9/x.png' alt='from elsewhere'>", {"asked elsewhere"}),
        ("<script>nobody()</script>", {"console"}),
        ("<h4>Too deep</h4>", {"leaps"}),
        ("<h1>A second</h1>", {"leaps"}),
        ("<img src='data:,' width='9' height='9'>", {"unnamed"}),
        ("<table><tr><th>No scope</th></tr></table>", {"unnamed"}),
        ("<a href='#data'></a>", {"unnamed"}),
        ("<a href='#data' tabindex='-1'>only for mice</a>", {"out of reach"}),
        ("<style>nav a:focus { outline: none }</style>", {"out of reach"}),
        ("<p style='width: 420px'>wide</p>", {"too wide"}),
        (
            "<style>@media print { details::details-content { content-visibility: hidden } }</style>",
            {"folded on paper"},
        ),
    ],
)
def test_a_fault_that_is_planted_is_found(browser, page, planted, found):
    page.write_text(page.read_text().replace('<h2 id="results">', f'{planted}<h2 id="results">'))
    assert faults(browser, page).keys() == found


def test_the_content_is_one_key_away(browser, page):
    from selenium.webdriver.common.keys import Keys

    browser.get(page.as_uri())
    browser.switch_to.active_element.send_keys(Keys.TAB)
    skip = browser.switch_to.active_element
    assert skip.text == "Skip to the content"
    skip.send_keys(Keys.ENTER)
    assert browser.switch_to.active_element.tag_name == "main"


def test_cards_are_opened_by_keyboard(browser, page):
    from selenium.webdriver.common.keys import Keys

    browser.get(page.as_uri())
    first = browser.find_element("css selector", "details > summary")
    assert not browser.find_element("css selector", ".md").is_displayed()
    first.send_keys(Keys.ENTER)
    assert browser.find_element("css selector", ".md").is_displayed()


def test_figures_are_as_wide_as_the_card_and_grow_on_a_phone(browser, page):
    browser.get(page.as_uri())
    figure, image = (browser.find_element("css selector", f".figures > :nth-child(2){what}") for what in ("", " img"))
    assert figure.rect["width"] == browser.find_element("class name", "figures").rect["width"]
    assert image.rect["width"] > 0.8 * 1200  # of its own pixels
    with phone(browser):
        assert image.rect["width"] < 390
        assert "tap to enlarge" in figure.text
        figure.click()
        assert browser.switch_to.active_element == figure
        assert image.rect["width"] == 1200
        assert browser.execute_script("return arguments[0].scrollWidth", figure) > 1200
    assert "tap to enlarge" not in figure.text


def test_on_a_phone_verdicts_are_whole_and_the_line_goes_on_to_the_right(browser, page):
    beyond = "const e = arguments[0]; return e.scrollWidth - e.clientWidth"
    page.write_text(
        re.sub(r"\[0\.\d+, ", "[0.0051, ", page.read_text()).replace(">mobilenet</a>", ">cnn-pictograms</a>")
    )
    browser.get(page.as_uri())
    line, table = browser.find_elements("css selector", ".scroll")[:2]
    told = browser.find_element("css selector", "#line + figure figcaption")
    assert "scroll it sideways" not in told.text
    assert browser.execute_script(beyond, line) == 0
    with phone(browser):
        assert "challenger" in table.text
        assert browser.execute_script(beyond, table) == 0
        assert "scroll it sideways" in told.text
        assert "gradient" in line.value_of_css_property("mask-image")
        browser.execute_script("arguments[0].scrollLeft = 9999", line)
        right = browser.execute_script("return arguments[0].getBoundingClientRect().right", line)
        boxes = "return Math.max(...[...document.querySelectorAll('.stage')].map(e => e.getBoundingClientRect().right))"
        assert browser.execute_script(boxes) <= right - 38, "the end of it is not faded"


def test_no_word_in_a_box_of_the_line_touches_another(browser, page):
    came = {"evaluate@a": "word error 0.0051", "evaluate@b": "accuracy 0.973", "validate@c": "images"}
    drawn = picture.drawn({name: set() for name in came}, {name: (told, "") for name, told in came.items()})
    page.write_text(page.read_text().replace('<h2 id="results">', f'<div id="planted">{drawn}</div><h2 id="results">'))
    browser.get(page.as_uri())
    gaps = browser.execute_script(
        "return [...document.querySelectorAll('#planted .stage')].map(stage => {"
        "const [verb, came] = [...stage.querySelectorAll('text')].map(text => text.getBBox());"
        "return came.x - verb.x - verb.width })"
    )
    assert len(gaps) == 3
    assert min(gaps) >= 6


def test_pages_of_data_have_no_fault(browser, tmp_path):
    column = {
        "name": "level",
        "type": "number",
        "missing": 2,
        "distinct": 9,
        "least": 0.5,
        "mean": 1.0,
        "greatest": 2.0,
    }
    expectations = [
        {"what": f"`level` is {what}", "passed": what == "there", "unexpected": 3} for what in ("there", "small")
    ]
    data = {"dataset": "d", "kind": "tables", "objective": "binary", "path": "d.csv", "rows": 9, "faults": 3}
    data |= {
        "passed": False,
        "expectations": expectations,
        "labels": [["yes", 5], ["no", 4]],
        "remarks": ["`level`: few"],
    }
    data |= {"columns": [{**column, "histogram": [1, 2, 3]}]}
    wrong = pd.DataFrame(
        {"what": ["`level` is small"], "column": ["level"], "value": ["9"]}, pd.Index(["row 3"], name="example")
    )
    files.write_text(tmp_path / "page.html", reporting.data_page(data, wrong))
    assert faults(browser, tmp_path / "page.html") == {}
