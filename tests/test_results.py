"""README's table of what ships: `make results` writes what reports/ and the runs say, `--check` finds what is not."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts/make_results.py"
PAGE = """\
before
<!-- make_results.py -->
| data | model |
|---|---|
| `tumours.csv` | tables, binary | `mlp`: Dense 64, 32 | {} |
<!-- end -->
after
"""
FIGURES = "accuracy 0.900 [0.800, 0.950]; logistic regression 0.880, shares of the classes 0.600"


@pytest.fixture
def project(here):
    """One model that ships, with figures of its own."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    model = "train:\n  mlp: {family: mlp, dataset: tumours}\nevaluate:\n  mlp: {dataset: tumours}\n"
    (here / "params.yaml").write_text(text.split("  digits:\n")[0] + model)
    metrics = {
        "objective": "binary",
        "test": {"accuracy": {"value": 0.9, "low": 0.8, "high": 0.95}},
        "classical": {"name": "logistic regression", "accuracy": 0.88},
        "naive": {"name": "shares of the classes", "accuracy": 0.6},
    }
    report = here / "reports/models/mlp"
    report.mkdir(parents=True)
    (report / "metrics.json").write_text(json.dumps(metrics))
    return here


def run(folder, *arguments):
    return subprocess.run([sys.executable, SCRIPT, *arguments], cwd=folder, capture_output=True, text=True, check=False)


def test_a_figure_that_reports_do_not_say_is_refused(project):
    (project / "README.md").write_text(PAGE.format(FIGURES))
    assert run(project, "--check").returncode == 0
    (project / "README.md").write_text(PAGE.format(FIGURES.replace("0.900", "0.970")))
    done = run(project, "--check")
    assert done.returncode == 1
    assert done.stderr == "README.md: not what reports/ say of mlp (run `make results`)\n"


@pytest.fixture
def results(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    return importlib.import_module("make_results")


@pytest.mark.slow
def test_minutes_and_device_are_those_of_the_run_with_the_model_s_content(project, results, monkeypatch):
    from trainyard import tracking

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    model = project / "models/mlp"
    model.mkdir(parents=True)
    (model / "model.keras").write_text("weights")
    with results.registry() as took:
        assert took("mlp") == results.UNKNOWN
    with tracking.connected() as client:
        run = client.create_run(client.create_experiment("tumours")).info.run_id
        for tag, value in {"content": tracking.content_of(Path("models/mlp")), "device": "A Processor"}.items():
            client.set_tag(run, f"trainyard.{tag}", value)
        client.log_metric(run, "training/seconds", 90)
        client.set_terminated(run)
    with results.registry() as took:
        assert results.table("| head |\n|---|\n| `tumours.csv` | tables | `mlp`: Dense |\n", took).splitlines()[2:] == [
            f"| `tumours.csv` | tables | `mlp`: Dense | {FIGURES} | 1.5 | A Processor |"
        ]
    (model / "model.keras").write_text("other weights")
    with results.registry() as took:
        assert took("mlp") == results.UNKNOWN


def test_the_figures_of_readme_are_those_of_reports():
    done = run(ROOT, "--check")
    assert done.returncode == 0, done.stderr
