"""MLflow that is away, slow, wrong or full: it never costs a training, and no publish makes anything twice."""

import http.client
import http.server
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from trainyard import cli

PREFLIGHT = 10
"""Seconds that a server which does not answer may cost at the start."""


class Passing(http.server.BaseHTTPRequestHandler):
    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.fault(f"{self.command} {self.path}")
        if fault == "hangs":
            self.server.over.wait(60)
        elif isinstance(fault, int):
            self.send_error(fault)
        elif fault == "page":
            self.reply(200, b"<!doctype html><title>Log in</title>", {"Content-Type": "text/html"})
        else:
            onwards = http.client.HTTPConnection("127.0.0.1", self.server.onwards, timeout=60)
            onwards.request(self.command, self.path, body, dict(self.headers))
            told = onwards.getresponse()
            content = told.read()
            onwards.close()
            if fault != "lost":  # the server has done it, and nobody hears of it
                self.reply(told.status, content, {"Content-Type": told.getheader("Content-Type", "text/plain")})

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = answer  # noqa: N815  # http.server asks for these names

    def reply(self, status, content, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": len(content)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def proxy(monkeypatch):
    """Passes on to a server what `fault`, which the test sets, has no answer for."""
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Passing)
    running.daemon_threads = True
    running.fault, running.onwards, running.over = lambda request: None, 0, threading.Event()
    threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True).start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{running.server_port}")
    yield running
    running.over.set()
    running.shutdown()
    running.server_close()


def train(project, weights="first", between=None):
    from trainyard.tracking import runs

    with runs.live(project.name, project.params, project.data) as run:
        for epoch in (1, 2, 3):
            run.log_epoch(epoch, {"loss": 1 / epoch})
            if between:
                between(epoch)
        project.train(weights)
        run.finished(project.folder)


def refusal(capsys, *arguments):
    """The one line of a command that ends with exit code 5."""
    capsys.readouterr()
    assert cli.main([*arguments]) == 5
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(
            "nobody",
            marks=pytest.mark.fault(
                number=17,
                what="no MLflow server at the start",
                then="known within 10 s and said in one line; the training goes on, `publish` ends with exit 5, and "
                "writes all of it when a server is there",
            ),
        ),
        pytest.param(
            "hangs",
            marks=pytest.mark.fault(
                number=19, what="an MLflow server that does not answer in time", then="as where there is none"
            ),
        ),
        *(
            pytest.param(
                fault,
                marks=pytest.mark.fault(
                    number=20, what=f"an MLflow server that answers {name}", then="as where there is none"
                ),
            )
            for fault, name in [(500, "500"), (429, "429"), ("page", "200 with the page of a proxy")]
        ),
    ],
)
def test_a_server_that_does_not_do_its_work_costs_no_training(
    project, database, proxy, monkeypatch, caplog, capsys, fault
):
    project.write_params()
    proxy.fault = lambda request: fault
    if fault == "nobody":
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{taken.getsockname()[1]}")
    began = time.monotonic()
    train(project)
    assert time.monotonic() - began < PREFLIGHT
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told.startswith("the run is not tracked live: ")
    project.evaluate(wrong=2)
    began = time.monotonic()
    assert refusal(capsys, "publish", project.name).startswith("error: MLflow at http://127.0.0.1:")
    assert time.monotonic() - began < PREFLIGHT
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    assert cli.main(["publish", project.name]) == 0
    assert len(versions(project)) == 1


@pytest.mark.fault(
    number=19,
    what="an MLflow server that takes 2 s for each request",
    then="the training does not wait for it, and all that was not written is written by `publish`",
)
def test_a_slow_server_costs_no_training(project, server, proxy):
    proxy.onwards, proxy.fault = server.port, lambda request: time.sleep(2)
    began = time.monotonic()
    train(project)
    assert time.monotonic() - began < PREFLIGHT + 20
    proxy.fault = lambda request: 500  # a process would end now, and its thread with it
    assert until(lambda: "tracking" not in {thread.name for thread in threading.enumerate()})
    proxy.fault = lambda request: None
    project.evaluate(wrong=2)
    publish(project)
    (run,) = finished(project)
    assert steps(run, project) == [1, 2, 3]


@pytest.mark.fault(
    number=18,
    what="the MLflow server ends in the middle of a training and is started again",
    then="the training does not wait, and in the end the run has every epoch",
)
def test_a_server_that_is_started_again_gets_every_epoch(project, server, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)

    def between(epoch):
        if epoch == 1:
            assert until(lambda: [run for run in all_runs(project) if steps(run, project)])
            server.end()
        elif epoch == 2:
            time.sleep(5)  # long enough for MLflow's own tries to come to their end
            server.start()

    train(project, between=between)
    (run,) = all_runs(project)
    assert (run.info.status, steps(run, project)) == ("FINISHED", [1, 2, 3])
    assert "not tracked" not in caplog.text


LOST = {
    "runs/create": "a run",
    "logged-models": "a model",
    "registered-models/create": "a registered model",
    "model-versions/create": "a version",
    "runs/log-batch": "figures",
    "registered-models/alias": "an alias",
}


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(
            request,
            marks=pytest.mark.fault(
                number=21,
                what=f"the server makes {what}, and its answer is lost",
                then="however often `publish` is asked again, there is one run, one model, one version",
            ),
        )
        for request, what in LOST.items()
    ],
    ids=LOST,
)
def test_an_answer_that_is_lost_makes_nothing_twice(project, server, proxy, request_):
    proxy.onwards, lost = server.port, []

    def fault(request):
        if request.startswith("POST") and request_ in request and not lost:
            lost.append(request)
            return "lost"
        return None

    project.write_params()
    project.train()
    project.evaluate(wrong=2)
    proxy.fault = fault
    codes = [cli.main(["register", project.name]) for _ in range(3)]
    assert lost
    assert codes[1:] == [0, 0]
    assert codes[0] in (0, 5)
    (run,) = all_runs(project)
    assert run.info.status == "FINISHED"
    (version,) = versions(project)
    assert {*version.aliases} == {"challenger", "champion"}
    assert len(client().search_logged_models([run.info.experiment_id])) == 1


@pytest.mark.fault(
    number=22,
    what="another process has locked the database",
    then="exit 5 after a short wait, in one line; then `publish` writes all of it",
)
def test_a_locked_database_is_told_in_one_line(project, own_database, capsys):
    made(project)
    holder = sqlite3.connect(own_database)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        assert "database is locked" in refusal(capsys, "publish", project.name)
    finally:
        holder.rollback()
        holder.close()
    publish(project)
    assert len(versions(project)) == 1


@pytest.mark.fault(
    number=23, what="the database has the schema of another MLflow", then="exit 5, with the command that brings it up"
)
def test_a_schema_of_another_mlflow_names_the_command(project, own_database, capsys):
    made(project)
    with sqlite3.connect(own_database) as database:
        database.execute("UPDATE alembic_version SET version_num = '0123456789ab'")
    database.close()
    assert "mlflow db upgrade" in refusal(capsys, "publish", project.name)


@pytest.mark.fault(
    number=36,
    what="the clock goes on a day, then back by two, between trainings",
    then="champions follow each other by the numbers of the ledger, not by time",
)
def test_a_clock_that_jumps_moves_no_champion(project, client, monkeypatch):
    clock, now = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: clock() + now[0])
    for version, (jump, wrong) in enumerate([(0, 14), (86_400, 7), (-172_800, 0)], 1):
        now[0] = jump
        train(project, f"weights {version}")
        project.evaluate(wrong)
        assert project.register()["decision"] == "champion"
        assert project.register()["decision"] == "champion"
        assert client.get_registered_model(project.name).aliases["champion"] == version
    from trainyard.tracking import ledger

    assert [(entry.number, int(entry.version)) for entry in ledger.read(client, project.name)] == [
        (1, 1),
        (2, 2),
        (3, 3),
    ]
    assert {run.info.status for run in all_runs(project)} == {"FINISHED"}


@pytest.mark.fault(
    number=14,
    what="the disk of MLflow is full",
    then="exit 5 in one line, the model is whole; with room, `publish` writes all of it",
)
def test_a_full_disk_of_mlflow_costs_no_model(project, own_database, project_folder):
    made(project)
    with (project.folder / "model.keras").open("ab") as file:  # of a size that does not fit
        file.write(bytes(4_000_000))
    rewritten(project)
    before = {path.name: path.read_bytes() for path in project.folder.iterdir()}
    command = f"{sys.executable} -m trainyard.cli publish {project.name}"
    full = f"mount -t tmpfs -o size=3m tmpfs {own_database.parent}/artifacts && exec {command}"
    (own_database.parent / "artifacts").mkdir()
    done = subprocess.run(["unshare", "-rm", "sh", "-c", full], capture_output=True, text=True, check=False)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no file system of our own can be mounted here: {done.stderr}")
    assert done.returncode == 5, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "No space left on device" in line
    assert {path.name: path.read_bytes() for path in project.folder.iterdir()} == before
    publish(project)
    assert len(versions(project)) == 1


# === Helpers ===


@pytest.fixture
def own_database(project, database, tmp_path, monkeypatch):
    """A copy of the database, of this test alone."""
    with connected():
        pass
    own = tmp_path / "store" / "mlflow.db"
    own.parent.mkdir()
    shutil.copy(database.removeprefix("sqlite:///"), own)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{own}")
    return own


def made(project):
    project.write_params()
    project.train()
    project.evaluate(wrong=2)


def rewritten(project):
    from trainyard import files

    for path in (project.folder / "model.json", project.report / "metrics.json"):
        files.write_json(path, {**files.read_json(path), "sha256": files.sha256(project.folder / "model.keras")})


@contextmanager
def connected():
    from trainyard.tracking import store

    with store.connected() as found:
        yield found


def client():
    with connected() as found:
        return found


def publish(project):
    from trainyard import tracking

    tracking.publish(project.name, project.params)


def versions(project):
    found = client()
    return [
        found.get_model_version(project.name, one.version)
        for one in found.search_model_versions(f"name = '{project.name}'")
    ]


def all_runs(project):
    experiment = client().get_experiment_by_name(project.dataset)
    return client().search_runs([experiment.experiment_id]) if experiment else []


def finished(project):
    return [run for run in all_runs(project) if run.info.status == "FINISHED"]


def steps(run, project):
    return sorted({point.step for point in client().get_metric_history(run.info.run_id, "loss")})


def until(condition, seconds=30):
    """Whether it came true in time."""
    latest = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < latest:
        time.sleep(0.1)
    return found
