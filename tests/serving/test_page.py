"""The page in Chromium itself: a photo and a sound are dropped on it, rows are edited, also by keyboard alone."""

from pathlib import Path

import browsing
import pytest
from browsing import waits

from trainyard import kinds
from trainyard.tracking import raw

pytestmark = [pytest.mark.slow, browsing.NEEDED]


@pytest.fixture
def page(browser, served):
    """The page on a model; after the test no error stands in the console, and nothing was asked of anybody else."""

    def on(model):
        browser.get(f"http://127.0.0.1:{served.port}/")
        waits(browser, "!document.getElementById('desk').hidden")
        browser.execute_script(
            "const m = document.getElementById('model'); m.value = arguments[0]; m.dispatchEvent(new Event('change'))",
            model,
        )
        return browser

    yield on
    assert browsing.errors(browser) == []
    asked = browsing.asked(browser)
    assert asked
    assert {url.split("/")[2] for url in asked if url.startswith("http")} == {f"127.0.0.1:{served.port}"}


def answered(browser):
    """What the page tells once it has an answer and what that rests on."""
    waits(
        browser,
        "document.getElementById('told').ariaBusy === 'false' && !document.getElementById('rests').hidden",
    )
    trouble = browser.find_element("id", "trouble").text
    assert trouble == ""
    return browser.find_element("id", "answer").text.splitlines()


def drop(browser, path):
    """A file, as a hand drops it on the page."""
    zone = browser.find_element("class name", "drop")
    place = zone.rect
    point = {"x": place["x"] + place["width"] / 2, "y": place["y"] + place["height"] / 2}
    data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        browser.execute_cdp_cmd("Input.dispatchDragEvent", {"type": kind, **point, "data": data})


def source(registry, name):
    """The file of the first test example, and its answers."""
    spec = registry.params.dataset(name)
    data = kinds.open_prepared(name, spec, registry.folder / "build")
    return Path(spec.path) / data.test.rows.index[0], registry.answers(name).iloc[0]


def test_a_photo_that_is_dropped_is_classified(page, registry):
    photo, expected = source(registry, "images")
    browser = page("images")
    drop(browser, photo)
    told = answered(browser)
    assert told[0] == expected.idxmax().removeprefix("p_")
    assert f"{100 * expected.max():.1f}%" in told
    assert len(browser.find_elements("css selector", ".seen rect")) == 16
    assert browser.execute_script("return document.querySelector('.seen img').naturalWidth") == 32


def test_a_sound_that_is_dropped_is_transcribed(page, registry):
    sound, expected = source(registry, "speech")
    browser = page("speech")
    drop(browser, sound)
    assert answered(browser) == [expected["answer"] or "(nothing was heard)"]
    waits(browser, "document.querySelector('audio').readyState > 0")


def test_a_row_is_edited_by_keyboard_alone(page, registry, served):
    from selenium.webdriver.common.keys import Keys

    browser = page("prices")
    size = browser.find_element("css selector", "[data-column=size]")
    size.clear()
    size.send_keys("1.25", Keys.ENTER)
    told = answered(browser)
    row = {**served.ask("/models/prices").told["example"]["rows"][0], "size": 1.25}
    expected = served.ask("/models/prices/answers", {"rows": [row]}).told["answers"][0]
    assert float(told[0].split()[1]) == pytest.approx(expected["answer"], rel=1e-3)
    assert "95 of 100 lie between" in told[0]
    reached = set()
    body = browser.find_element("tag name", "body")
    for _ in range(12):
        body.send_keys(Keys.TAB)
        reached.add(browser.execute_script("return document.activeElement.id"))
        body = browser.switch_to.active_element
    assert {"model", "ask", "example", "field-0", "field-2"} <= reached


def test_a_text_is_pasted(page, registry):
    browser = page("text")
    rows = registry.rows("text", 1)
    area = browser.find_element("id", "text")
    area.clear()
    area.send_keys(rows.iloc[0, 0])
    browser.find_element("id", "ask").click()
    assert answered(browser)[0] == registry.answers("text").iloc[0].idxmax().removeprefix("p_")
    assert len(browser.find_elements("css selector", "#parts i")) == len(set(rows.iloc[0, 0].split()))


def test_a_window_of_a_series_is_a_csv(page, registry):
    browser = page("series")
    browser.find_element("id", "ask").click()
    told = answered(browser)
    assert [line.split()[0] for line in told if line.startswith("+")] == ["+1", "+2", "+3"]
    assert browser.find_elements("css selector", "polyline.ahead")


def explained(browser, *effects):
    """What the page tells an answer rests on where its parts have these effects: how it is told, and the parts."""
    parts = [{"part": f"row 1, column {place}", "effect": effect} for place, effect in enumerate(effects, 1)]
    browser.execute_script("explained({ parts: arguments[0] })", parts)
    return [browser.find_element("id", name) for name in ("how", "parts")]


def test_effects_are_told_in_digits_that_differ_and_bars_on_a_scale_that_is_told(page):
    browser = page("images")
    browser.find_element("id", "example").click()
    answered(browser)
    how, parts = explained(browser, 0.125, -0.00528, 0.0000123)
    told = ["12.5 points", "-0.53 points", "0.0012 points"]
    assert [one.text for one in parts.find_elements("css selector", "span:nth-child(3n)")] == told
    assert how.text.endswith("The longest bar is 12.5 points.")
    widths = [bar.rect["width"] for bar in parts.find_elements("tag name", "i")]
    assert widths[1] == pytest.approx(widths[0] * 0.00528 / 0.125, rel=0.1)
    how, parts = explained(browser, 0.0009, -0.0004)
    assert parts.text == "No part alone changes the answer by more than 0.1 points of 100."
    assert not parts.find_elements("tag name", "i")
    assert "longest" not in how.text
    how, parts = explained(browser, 0.0011, 0)
    assert parts.text.splitlines()[1::2] == ["0.11 points", "0 points"]


def test_what_is_no_share_rests_on_parts_too(page):
    for model, told in (("prices", "2.5"), ("speech", "2.5 letters")):
        browser = page(model)
        browser.find_element("id", "example").click()
        answered(browser)
        how, parts = explained(browser, 2.5, 0)
        assert how.text.endswith(f"The longest bar is {told}.")
        _, parts = explained(browser, 0, 0)
        assert parts.text == "No part alone changes the answer."


def test_likelihoods_that_are_small_have_digits_too(page):
    browser = page("images")
    shares = {"p_a": 0.9951, "p_b": 0.004, "p_c": 0.000271, "p_d": 1e-9, "p_e": 0, "p_f": 0.016}
    browser.execute_script("answered(arguments[0])", shares)
    told = browser.find_element("id", "answer").text.splitlines()
    assert told[2::2] == ["99.5%", "1.6%", "0.40%", "0.027%", "< 0.0001%", "0%"]


def test_a_refusal_is_told_on_the_page(page, tmp_path):
    (tmp_path / "no.png").write_text("no image")
    browser = page("images")
    drop(browser, tmp_path / "no.png")
    waits(browser, "!document.getElementById('trouble').hidden")
    assert "no readable PNG or JPEG" in browser.find_element("id", "trouble").text
    browser.get_log("browser")  # Chromium tells of the 422


def test_the_example_of_each_kind_is_answered(page):
    for model in ("tables", "images", "speech", "text", "series"):
        browser = page(model)
        browser.find_element("id", "example").click()
        assert answered(browser)


def test_a_token_is_asked_for_where_one_is_needed(browser, start):
    token = "a-token-of-more-than-16-letters"  # noqa: S105  # no secret
    running = start("text", TRAINYARD_TOKEN=token)
    browser.get(f"http://127.0.0.1:{running.port}/")
    waits(browser, "!document.getElementById('entry').hidden")
    browser.find_element("id", "token").send_keys(token)
    browser.find_element("css selector", "#entry button").click()
    waits(browser, "!document.getElementById('desk').hidden")
    browser.find_element("id", "ask").click()
    assert answered(browser)


def test_it_is_dark_where_the_reader_likes_it_dark(page):
    browser, ground = page("text"), "return getComputedStyle(document.body).backgroundColor"
    seen = []
    for scheme in ("light", "dark"):
        browsing.likes(browser, scheme)
        seen.append(browser.execute_script(ground))
    assert seen == ["rgb(244, 246, 248)", "rgb(14, 19, 26)"]


def test_rows_that_the_page_shows_are_those_of_the_registry(served, registry):
    assert served.ask("/models/tables").told["example"]["rows"] == raw.as_json(registry.rows("tables", 2))
