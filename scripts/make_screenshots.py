"""Make the pictures of README.md from a line that has run, in the folder of its project.

- docs/line.svg: the stages and what came of them, as the report draws them, for light and dark
- docs/report-light.png, docs/report-dark.png: the top of the report
- docs/mlflow-run.png, docs/mlflow-model.png: MLflow's pages of a run and of a registered model

    apt-get install chromium-driver
    make screenshots
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import browsing  # of tests/
from PIL import Image
from selenium.webdriver.remote.webdriver import WebDriver

from trainyard import params, reporting, tracking
from trainyard.reporting import results

OUT = Path(__file__).resolve().parents[1] / "docs"
MODEL = "mlp"
SCREEN = {"width": 1160, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
TRAINING = "workflowType=machine_learning"  # MLflow's pages of models, not of prompts


def write_line(path: Path) -> None:
    """Write the picture of the line as a file of its own, with the colours of the report."""
    drawn = str(results.read(params.load()).drawing)
    style = (Path(reporting.__file__).parent / "style.css").read_text(encoding="utf-8")
    alone = drawn.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg" font-family="system-ui, sans-serif"', 1)
    path.write_text(alone.replace(">", f"><style>{style}</style>", 1), encoding="utf-8")


def write_page(browser: WebDriver, path: Path) -> None:
    """Write what a browser shows, in 256 colours: half the bytes, and nobody sees it."""
    shot = Image.open(BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    shot.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(path, f"{path.stat().st_size / 1000:.0f} kB")


@contextmanager
def pages_of_mlflow() -> Iterator[str]:
    """The address of MLflow's pages on this project, as `make ui` opens them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("trainyard"), "ui", "--port", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = subprocess.Popen(command, start_new_session=True, **quiet)  # noqa: S603  # our own
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except OSError:
                time.sleep(1)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(running.pid, signal.SIGTERM)  # with the server that it started
        running.wait(30)


def shoot_report(browser: WebDriver, folder: Path) -> None:
    """Write the top of the report as readers see it who like light, and as those who like dark."""
    browser.get(Path("report/index.html").absolute().as_uri())
    for scheme in ("light", "dark"):
        browsing.likes(browser, scheme)
        write_page(browser, folder / f"report-{scheme}.png")


def shoot_mlflow(browser: WebDriver, folder: Path) -> None:
    """Write what MLflow shows of the run of a champion, and of its model."""
    with tracking.connected() as client:
        run_id = client.get_model_version_by_alias(MODEL, "champion").run_id
        experiment = client.get_run(run_id).info.experiment_id
    run = f"experiments/{experiment}/runs/{run_id}"
    browsing.likes(browser, "light")
    pages = {"mlflow-run": (run, "document.images[0].naturalWidth > 300"), "mlflow-model": (f"models/{MODEL}", "true")}
    with pages_of_mlflow() as address:
        for name, (place, drawn) in pages.items():
            browser.get("about:blank")  # what comes after # alone loads nothing anew
            browser.get(f"{address}/?{TRAINING}#/{place}?{TRAINING}")
            browsing.waits(browser, "document.body.innerText.includes('Description')")
            for close in browser.find_elements(
                "css selector", "[data-component-id='mlflow.assistant.chat_panel.close']"
            ):
                close.click()
            for more in browser.find_elements("xpath", "//*[text()='Show more']"):
                more.click()
            browsing.waits(browser, drawn)
            time.sleep(1)  # what slides in and out
            write_page(browser, folder / f"{name}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT, help="folder to write into (default: %(default)s)")
    out = parser.parse_args().out
    write_line(out / "line.svg")
    with tempfile.TemporaryDirectory() as profile, browsing.opened(profile) as opened:
        opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", SCREEN)
        opened.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
        shoot_report(opened, out)
        shoot_mlflow(opened, out)
