"""Live runs: what they hold, how they end, and that tracking never costs a training."""

import http.server
import math
import socket
import threading
import time

import pytest

from trainyard.errors import TrainingFailed
from trainyard.tracking import energy, runs


def found(client, project):
    experiment = client.get_experiment_by_name(project.dataset)
    return client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])


def train(project, weights="first", epochs=3, told=None):
    with runs.live(project.name, project.params, project.data) as run:
        for epoch in told or range(1, epochs + 1):
            run.log_epoch(epoch, {"loss": 1 / epoch, "val_loss": 2 / epoch})
        project.train(weights, epochs)
        run.finished(project.folder)


def test_a_live_run_holds_epochs_params_and_data(project, client, monkeypatch):
    monkeypatch.setenv("DVC_STAGE", "train@m")
    monkeypatch.setenv("DVC_STUDIO_TOKEN", "secret")
    train(project)
    (run,) = found(client, project)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == f"{project.name}-{runs.content_of(project.folder)[:8]}"
    history = client.get_metric_history(run.info.run_id, "val_loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 2.0), (2, 1.0), (3, 2 / 3)]
    assert "kept" not in run.data.metrics
    assert run.data.params["seed"] == "1"
    assert run.data.tags["DVC_STAGE"] == "train@m"
    assert not any("secret" in value for value in run.data.tags.values())
    assert run.data.tags["trainyard.data"] == runs.data_digest(project.dataset)
    assert len(run.inputs.dataset_inputs) == 3


def test_a_live_run_holds_time_and_energy_of_the_training(project, client, monkeypatch):
    ticks = iter([10.0, 3610.0])  # as it begins to count, and at the end
    monkeypatch.setattr(energy, "_processors", lambda: iter([energy.Counter("processors", lambda: 5.0, 100)]))
    monkeypatch.setattr(energy, "_gpus", lambda: iter([energy.Counter("GPUs", lambda: next(ticks), 2**64)]))
    monkeypatch.setattr(energy, "_readable", lambda found: list(found()))
    train(project)
    (run,) = found(client, project)
    assert run.data.metrics["training/watt_hours"] == 1
    assert 0 < run.data.metrics["training/seconds"] < 60
    assert run.data.tags["trainyard.energy"] == "processors and GPUs"
    told = runs.cost(client, run.info.run_id)
    assert told == f"{run.data.metrics['training/seconds']:.1f} s, energy 1 Wh of processors and GPUs"


def test_energy_that_nobody_counts_is_unknown(project, client, monkeypatch):
    monkeypatch.setattr(energy, "_readable", lambda found: [])
    train(project)
    (run,) = found(client, project)
    assert "training/watt_hours" not in run.data.metrics
    assert run.data.tags["trainyard.energy"] == "unknown"
    assert runs.cost(client, run.info.run_id).endswith(" s, energy unknown")
    client.delete_run(run.info.run_id)
    rebuilt = runs.rebuild(client, project.name, project.params, project.data, project.folder)
    assert runs.cost(client, rebuilt.info.run_id) == runs.cost(client, "0" * 32) == ""


def test_the_meter_is_read_while_nothing_is_to_be_done(project, client, monkeypatch):
    read, meter = threading.Event(), energy.Meter.read
    monkeypatch.setattr(energy, "OFTEN", 0.01)
    monkeypatch.setattr(energy.Meter, "read", lambda self: read.set() or meter(self))
    with runs.live(project.name, project.params, project.data):
        assert read.wait(30)


def test_a_live_run_says_what_computed_it(project, client):
    """The stage knows before the training; another process, which computes in its place, tells later."""
    used = {"trainyard.device": "a CPU", "trainyard.build": "TensorFlow"}
    with runs.live(project.name, project.params, project.data, used) as run:
        used.update({"trainyard.device": "a GPU", "trainyard.driver": "535"})
        project.train("first", 3)
        run.finished(project.folder)
    (made,) = found(client, project)
    assert {tag: made.data.tags[tag] for tag in used} == used
    assert not any("GPU" in path.read_text(errors="ignore") for path in project.folder.iterdir())


def test_a_live_run_is_the_run_that_publish_finds(project, client):
    from trainyard import tracking

    train(project)
    project.evaluate(wrong=2)
    tracking.publish(project.name, project.params)
    (run,) = found(client, project)
    assert run.data.metrics["test/accuracy"] == pytest.approx(0.95)
    assert "trainyard.rebuilt" not in run.data.tags


def test_live_and_rebuilt_runs_agree(project, client):
    train(project)
    (live,) = found(client, project)
    client.delete_run(live.info.run_id)
    rebuilt = runs.rebuild(client, project.name, project.params, project.data, project.folder)
    assert rebuilt.data.params == live.data.params
    own = {"trainyard.rebuilt", "trainyard.place", "trainyard.energy", "training/seconds", "training/watt_hours"}
    assert {k: v for k, v in rebuilt.data.tags.items() if k not in own} == {
        k: v for k, v in live.data.tags.items() if k not in own
    }
    assert rebuilt.data.metrics.keys() == live.data.metrics.keys() - own


def test_training_again_to_the_same_bits_leaves_one_run(project, client):
    train(project)
    train(project)
    train(project, "other")
    assert len(found(client, project)) == 2


def test_what_is_not_finite_is_left_out(project, client):
    with runs.live(project.name, project.params, project.data) as run:
        run.log_epoch(1, {"loss": math.inf, "val_loss": math.nan, "accuracy": 0.5})
    (made,) = found(client, project)
    assert made.data.metrics == {"accuracy": 0.5}


def test_epochs_of_before_a_resume_come_from_the_history(project, client):
    train(project, told=[3])
    (run,) = found(client, project)
    assert sorted(m.step for m in client.get_metric_history(run.info.run_id, "loss")) == [1, 2, 3]


@pytest.mark.parametrize(
    ("error", "status"),
    [(TrainingFailed("nan"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(143), "KILLED")],
)
def test_a_training_that_breaks_off_says_so(project, client, error, status):
    def broken():
        with runs.live(project.name, project.params, project.data) as run:
            run.log_epoch(1, {"loss": 1.0})
            raise error

    with pytest.raises(type(error)):
        broken()
    (made,) = found(client, project)
    assert made.info.status == status
    assert made.data.metrics["loss"] == 1.0
    assert "trainyard.content" not in made.data.tags


def test_a_run_that_was_killed_is_ended_by_the_next(project, client, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(runs.Live, "close", lambda self, status: self._todo.put(None))  # kill -9 leaves it running
        with runs.live(project.name, project.params, project.data) as run:
            pass
        run._thread.join()
    run._monitor.finish()
    assert runs.stale(project.params) == [project.name]
    train(project)
    assert runs.stale(project.params) == []
    assert [made.info.status for made in found(client, project)] == ["KILLED", "FINISHED"]


@pytest.fixture
def server():
    """An HTTP server that answers as the test says."""

    class Handler(http.server.BaseHTTPRequestHandler):
        answer = staticmethod(lambda handler: handler.send_error(500))

        def do_POST(self):
            self.answer(self)

        do_GET = do_POST  # noqa: N815  # http.server asks for these names

        def log_message(self, *args):
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    threading.Thread(target=running.serve_forever, daemon=True).start()
    running.handler = Handler
    running.uri = f"http://127.0.0.1:{running.server_port}"
    yield running
    running.shutdown()
    running.server_close()


def timed(project):
    began = time.monotonic()
    train(project)
    assert (project.folder / "model.json").is_file()
    return time.monotonic() - began


def one_line(caplog):
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 1
    assert told[0].startswith("the run is not tracked live: ")
    assert "\n" not in told[0]


def test_a_closed_port_costs_little_and_one_line(project, monkeypatch, caplog):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{taken.getsockname()[1]}")
        assert timed(project) < 30
    one_line(caplog)


def test_a_server_that_fails_costs_little_and_one_line(project, server, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    assert timed(project) < 30
    one_line(caplog)


@pytest.mark.slow
def test_a_server_that_never_answers_costs_little_and_one_line(project, server, monkeypatch, caplog):
    server.handler.answer = staticmethod(lambda handler: time.sleep(60))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    assert timed(project) < 30
    one_line(caplog)


def test_a_folder_as_tracking_uri_costs_no_training(project, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:runs")
    timed(project)
    one_line(caplog)


def test_mlflow_that_breaks_in_the_middle_costs_no_training(project, client, monkeypatch, caplog):
    from mlflow import MlflowClient

    def broken(*args, **kwargs):
        raise ValueError("planted")

    with runs.live(project.name, project.params, project.data) as run:
        run.log_epoch(1, {"loss": 1.0})
        patience = time.monotonic() + 30
        while not found_epoch(client, project):
            assert time.monotonic() < patience
            time.sleep(0.05)
        monkeypatch.setattr(MlflowClient, "log_batch", broken)
        run.log_epoch(2, {"loss": 0.5})
        run.log_epoch(3, {"loss": 0.5})
        project.train()
        run.finished(project.folder)
    assert "planted" in caplog.text
    one_line(caplog)
    (made,) = found(client, project)
    assert made.info.status == "RUNNING"


def found_epoch(client, project):
    experiment = client.get_experiment_by_name(project.dataset)
    return experiment and any(run.data.metrics for run in client.search_runs([experiment.experiment_id]))


def test_training_does_not_wait_for_a_slow_server(project, monkeypatch):
    monkeypatch.setattr(runs.Live, "_log_epoch", lambda self, *figures: time.sleep(0.5))
    monkeypatch.setattr(runs, "PATIENCE", 0.1)
    with runs.live(project.name, project.params, project.data) as run:
        began = time.monotonic()
        for epoch in range(1, 100):
            run.log_epoch(epoch, {"loss": 1.0})
        assert time.monotonic() - began < 10
