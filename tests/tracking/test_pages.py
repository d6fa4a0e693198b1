"""MLflow's own pages in Chromium, on a real server: runs, curves, figures, versions and aliases can be seen."""

import browsing
import pandas as pd
import pytest
from browsing import waits

from trainyard import figures
from trainyard.tracking import runs

pytestmark = [pytest.mark.slow, browsing.NEEDED]


@pytest.fixture
def tracked(monkeypatch, server):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)


class Pages:
    """MLflow's pages, and what is on them."""

    def __init__(self, browser, server):
        self.browser, self.server = browser, server

    def shows(self, place, *texts, charts="", drawn="true", seconds=30):
        """Whether a page shows texts, charts that are searched for, and what JavaScript says is drawn."""
        from selenium.common.exceptions import TimeoutException

        self.browser.get("about:blank")
        self.browser.get(f"{self.server.uri}/#/{place}")
        try:
            if charts:
                field = "input[placeholder='Search metric charts']"
                waits(self.browser, f'document.querySelector("{field}")', seconds)
                self.browser.find_element("css selector", field).send_keys(charts)
            for text in texts:
                waits(self.browser, f"document.body.innerText.includes({text!r})", seconds)
            waits(self.browser, drawn, seconds)
        except TimeoutException:
            return False
        return True


@pytest.fixture
def pages(browser, server):
    """After the test nothing was asked of anybody else."""
    yield Pages(browser, server)
    asked = [url for url in browsing.asked(browser) if url.startswith("http")]
    assert asked
    assert [url for url in asked if not url.startswith(server.uri)] == []


@pytest.fixture
def champion(project):
    """A model whose training was tracked live, with figures, as champion of the second version."""
    for weights, wrong in (("first", 10), ("second", 0)):
        with runs.live(project.name, project.params, project.data) as run:
            for epoch in (1, 2, 3):
                run.log_epoch(epoch, {"loss": 1 / epoch, "val_loss": 2 / epoch})
            project.train(weights)
            run.finished(project.folder)
        project.evaluate(wrong)
        history = pd.read_csv(project.folder / "history.csv", index_col="epoch")
        for name in ("learning", "answers", "mistakes", "importance"):
            figures.save(figures.learning(history), project.report / f"{name}.png")
        verdict = project.register()
    assert verdict["decision"] == "champion"
    return project


IMAGES = (
    "[...document.querySelectorAll('main img, [role=tabpanel] img')].filter(image => image.naturalWidth > 300).length"
)
CURVES = "document.querySelectorAll('.js-plotly-plot .scatterlayer path.js-line').length"


def alias(name):
    return f"[...document.querySelectorAll('span')].some(span => /^@\\s*{name}$/.test(span.textContent))"


def test_runs_curves_figures_versions_and_aliases_are_shown(pages, champion, client):
    name = champion.name
    experiment = client.get_experiment_by_name(champion.dataset).experiment_id
    versions = client.search_model_versions(f"name = '{name}'")
    runs_of = {version.version: client.get_run(version.run_id) for version in versions}
    (run, earlier) = (runs_of[number].info for number in ("2", "1"))
    assert pages.shows(f"experiments/{experiment}/runs", run.run_name, earlier.run_name)
    here = f"experiments/{experiment}/runs/{run.run_id}"
    assert pages.shows(here, "on 40 test examples", "test/accuracy", "epochs", drawn=f"{IMAGES} === 4")
    assert pages.shows(f"{here}/model-metrics", "val_loss", charts="loss", drawn=f"{CURVES} > 1")
    assert pages.shows(f"{here}/artifacts/evaluation/learning.png", drawn=f"{IMAGES} > 0")
    assert pages.shows(
        f"models/{name}", "Version 2", "has passed its gate", drawn=f"{alias('champion')} && {alias('challenger')}"
    )
    assert pages.shows(f"models/{name}/versions/2", "Passed its gate", "Intended use")

    # and what is not there is not
    bare = client.create_run(experiment, run_name="bare").info.run_id
    client.delete_registered_model_alias(name, "champion")
    client.set_tag(run.run_id, "mlflow.note.content", "![lost](get-artifact?path=evaluation/lost.png)")
    assert not pages.shows(here, drawn=f"{IMAGES} > 0", seconds=8)
    bare = f"experiments/{experiment}/runs/{bare}"
    assert not pages.shows(f"{bare}/model-metrics", drawn=f"{CURVES} > 0", seconds=8)
    assert not pages.shows(f"{here}/artifacts/evaluation/lost.png", drawn=f"{IMAGES} > 0", seconds=8)
    assert pages.shows(f"models/{name}", drawn=alias("challenger"))
    assert not pages.shows(f"models/{name}", drawn=alias("champion"), seconds=8)
