"""Where runs go: made once however many processes start, never a file store, never a password in a message."""

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from trainyard.errors import EnvironmentFailed
from trainyard.tracking import store

START = """
from trainyard.tracking import store
with store.connected() as client:
    print(store.experiment(client, "digits"))
"""


@pytest.fixture
def environment(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW")}


@pytest.mark.slow
def test_processes_that_start_at_once_on_a_fresh_checkout_share_one_database(project_folder, environment, monkeypatch):
    folder = project_folder / "ein Ordner 日本"
    folder.mkdir()
    monkeypatch.chdir(folder)
    started = [
        subprocess.Popen(
            [sys.executable, "-c", START], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    told = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], told
    assert [error for _, error in told] == ["", "", ""]
    assert len({experiment for experiment, _ in told}) == 1
    with sqlite3.connect(folder / "mlruns/mlflow.db") as database:
        locations = dict(database.execute("select name, artifact_location from experiments"))
    assert locations["digits"] == (folder / "mlruns/artifacts").as_uri()
    assert {path.name for path in folder.iterdir()} == {"mlruns"}
    assert {path.name for path in (folder / "mlruns").iterdir()} == {"mlflow.db", "mlflow.lock"}


def test_the_default_is_a_database_in_the_project(project_folder, environment):
    assert store.uri() == f"sqlite:///{project_folder}/mlruns/mlflow.db"


def test_the_users_uri_comes_first(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    assert store.uri() == "https://mlflow.example"


@pytest.mark.parametrize("uri", ["file:///srv/runs", "file:mlruns", "mlruns", "./mlruns", "/srv/mlruns"])
def test_a_folder_is_refused_in_one_line(monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(EnvironmentFailed, match="names a folder") as refused:
        store.uri()
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_database_is_refused_in_one_line(project_folder, monkeypatch):
    Path("runs.db").write_text("a letter")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project_folder}/runs.db")
    with pytest.raises(EnvironmentFailed, match="not a database") as refused, store.connected():
        pass
    assert "\n" not in str(refused.value)


def test_a_password_is_not_told():
    assert store.public("postgresql://me:secret@host:5432/mlflow") == "postgresql://host:5432/mlflow"
    assert store.public("sqlite:///mlflow.db") == "sqlite:///mlflow.db"


def test_a_creation_that_breaks_off_leaves_nothing(project_folder, monkeypatch):
    from mlflow.store.tracking import sqlalchemy_store

    def broken(uri, root):
        Path(uri.removeprefix("sqlite:///")).write_text("half")
        raise OSError("planted")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project_folder}/runs.db")
    with monkeypatch.context() as patched:
        patched.setattr(sqlalchemy_store, "SqlAlchemyStore", broken)
        with pytest.raises(EnvironmentFailed, match="planted"), store.connected():
            pass
    assert not Path("runs.db").exists()


def test_the_environment_of_the_first_call_is_put_back(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "9")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    with store._environment(store.FIRST_CALL):
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == store.FIRST_CALL["MLFLOW_HTTP_REQUEST_TIMEOUT"]
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "9"
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ


@pytest.mark.slow
def test_pages_that_are_told_to_end_leave_no_process(project_folder, environment):
    """MLflow's own command leaves its workers behind."""
    import psutil
    from yard import until

    shutil.copy(Path(__file__).parents[2] / "params.yaml", project_folder)
    asked = [sys.executable, "-m", "trainyard.cli", "ui", "--port", "0"]
    process = subprocess.Popen(asked, cwd=project_folder, env=environment, stderr=subprocess.PIPE)
    own = psutil.Process(process.pid)
    assert until(lambda: len(own.children(recursive=True)) > 2), "the workers have begun"
    begun = own.children(recursive=True)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert until(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in begun), 30)
