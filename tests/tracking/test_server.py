"""The same through a real MLflow server, which keeps the artifacts too; and what happens when it dies."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from trainyard import tracking
from trainyard.errors import EnvironmentFailed
from trainyard.tracking import pyfunc, runs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    running = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **quiet)
    running.uri = f"http://127.0.0.1:{port}"
    for _ in range(120):
        try:
            urllib.request.urlopen(f"{running.uri}/health", timeout=2).close()  # noqa: S310  # ours
            break
        except OSError:
            time.sleep(1)
    yield running
    end(running)


def end(server):
    """At once, with the processes that it started."""
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(30)


@pytest.fixture
def tracked(monkeypatch, server):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)


def train(project, weights):
    with runs.live(project.name, project.params, project.data) as run:
        for epoch in (1, 2, 3):
            run.log_epoch(epoch, {"loss": 1 / epoch})
        project.train(weights)
        run.finished(project.folder)


def test_the_line_through_a_server(project, client, monkeypatch):
    train(project, "first")
    project.evaluate(wrong=10)
    first = [project.register(), project.register()]
    assert first[0] == first[1]
    train(project, "second")
    train(project, "second")
    project.evaluate(wrong=0)
    assert [project.register()["decision"] for _ in range(2)] == ["champion", "champion"]
    experiment = client.get_experiment_by_name(project.dataset).experiment_id
    made = client.search_runs([experiment])
    assert len(made) == 2
    assert {run.info.status for run in made} == {"FINISHED"}
    assert not any("trainyard.rebuilt" in run.data.tags for run in made)
    client.delete_run(made[0].info.run_id)
    project.register()
    assert len(client.search_runs([experiment])) == 2
    assert len(client.search_model_versions(f"name = '{project.name}'")) == 2

    project.prepare(seed=2)
    asked = []
    monkeypatch.setattr(
        pyfunc,
        "answers",
        lambda model, data: asked.append((model / "MLmodel").is_file()) or data.test.target[:, None] * 1.0,
    )
    assert tracking.scores_on(tracking.champion(project.name), project.data).mean() == 1
    assert asked == [True]


def test_a_server_that_dies_costs_no_training(project, server, caplog):
    began = time.monotonic()
    with runs.live(project.name, project.params, project.data) as run:
        run.log_epoch(1, {"loss": 1.0})
        time.sleep(2)
        end(server)
        run.log_epoch(2, {"loss": 0.5})
        project.train()
        run.finished(project.folder)
    assert time.monotonic() - began < 30
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 1
    assert told[0].startswith("the run is not tracked live")
    project.evaluate(wrong=2)
    with pytest.raises(EnvironmentFailed, match=f"MLflow at {server.uri}: ") as refused:
        project.register()
    assert "\n" not in str(refused.value)
