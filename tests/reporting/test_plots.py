"""`dvc plots show` in Chromium without a network, on the page that `make setup` gives DVC; DVC's own asks for one."""

import os
import subprocess
import sys
from pathlib import Path

import browsing
import pytest
from matplotlib.figure import Figure

from trainyard import figures

pytestmark = [pytest.mark.slow, browsing.NEEDED]

ROOT = Path(__file__).parents[2]
PLOTS = """\
stages:
  evaluate:
    cmd: "true"
    plots:
      - learning.csv: {x: epoch, y: val_loss}
      - importance.csv: {x: drop, y: part, template: bar_horizontal_sorted}
      - answers.png
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    file = tmp_path_factory.mktemp("template") / "plots.html"
    subprocess.run([sys.executable, ROOT / "scripts/make_plots_page.py", file], check=True)
    return file


def shown(browser, *options):
    """Charts that are drawn, images, and what was asked of anybody else."""
    dvc = [sys.executable, "-m", "dvc"]
    environment = {**os.environ, "DVC_SITE_CACHE_DIR": str(Path("site").absolute()), "DVC_NO_ANALYTICS": "1"}
    subprocess.run([*dvc, "init", "--quiet", "--no-scm", "--force"], check=True, env=environment)
    subprocess.run([*dvc, "plots", "show", *options], check=True, env=environment)
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["http://*", "https://*"]})
    browser.get(Path("dvc_plots/index.html").absolute().as_uri())
    charts = "document.querySelectorAll('.vega-embed canvas, .vega-embed svg.marks').length"
    if options:
        browsing.waits(browser, f"{charts} === 2")
    images = "[...document.images].filter(image => image.naturalWidth > 100).length"
    asked = [url for url in browsing.asked(browser) if url.startswith("http")]
    return [browser.execute_script(f"return {what}") for what in (charts, images)], asked


@pytest.fixture
def project(here):
    (here / "dvc.yaml").write_text(PLOTS)
    (here / "learning.csv").write_text("epoch,loss,val_loss\n1,0.9,1.0\n2,0.5,0.6\n")
    (here / "importance.csv").write_text("part,drop,low,high\na,0.4,0.3,0.5\nb,0.1,0.0,0.2\n")
    figures.save(Figure(figsize=(4, 3)), here / "answers.png")
    return here


def test_curves_and_figures_are_drawn_without_a_network(browser, project, template):
    assert shown(browser, "--html-template", template) == ([2, 1], [])
    assert browsing.errors(browser) == []


def test_the_page_of_dvc_itself_would_be_found(browser, project):
    (charts, images), asked = shown(browser)
    assert (charts, images) == (0, 1)
    assert [url for url in asked if "vega" in url]
