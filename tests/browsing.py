"""Chromium, driven by Selenium: what the tests of pages share."""

import json
import os
import shutil
from contextlib import contextmanager

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver", path=os.pathsep.join([os.environ.get("CHROMEWEBDRIVER", ""), os.environ["PATH"]]))
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,1000",
]
NEEDED = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium with its driver (apt-get install chromium-driver)"
)


@contextmanager
def opened(profile):
    """A browser with a folder for its profile."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (*QUIET, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def waits(browser, condition, seconds=20):
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(browser, seconds).until(lambda driver: driver.execute_script(f"return {condition}"))


def errors(browser):
    """What stands in the console since it was asked last."""
    return [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]


def asked(browser):
    """Addresses that were asked for since this was called last."""
    told = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    return [one["params"]["request"]["url"] for one in told if one["method"] == "Network.requestWillBeSent"]


def likes(browser, scheme, media=""):
    """Show pages to one who likes them `light` or `dark`, on a screen or in `print`."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
