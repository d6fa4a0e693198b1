"""Distribution: devices that share each batch learn what one learns, in this process and by Ray, killed or not."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from contracts.samples import SAMPLES
from ruamel.yaml import YAML
from training_cases import EACH, started

from trainyard import cli
from trainyard.errors import EnvironmentFailed
from trainyard.params import Training
from trainyard.training import distribute, engine, fit

SGD = {"optimizer": {"name": "sgd", "learning_rate": 0.05}}
# of 54 examples: the last batch has 2, which are shared by 3 devices
ALL_AT_ONCE = {
    "epochs": 12,
    "batch_size": 26,
    "best_epoch": True,
    "early_stopping": {"patience": 2, "min_delta": 0.03},
    "plateau": {"patience": 1, "factor": 0.3, "min_delta": 0.06},
    "class_weight": "balanced",
    "metrics": ["F1Score"],
    "l2": 0.01,
    "optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9, "clipnorm": 1.0},
}

# TensorFlow makes a device many once in the life of a process
FITS = """
import json, sys
from pathlib import Path
import numpy as np
from trainyard.params import Training
from trainyard.training import device

folder, family, kind, asked, knobs, until = sys.argv[1:]
asked = Training(**json.loads(asked))
used = device.start(asked, 7)
from training_cases import OBJECTIVES, started
from trainyard.training import distribute, fit
from trainyard.training.resume import Resume

data, spec, pairs, core = started(Path(folder), family, kind, OBJECTIVES[kind], **json.loads(knobs))


def trained(learns, resume=None, until=None):
    made, told = core(), []

    def on_epoch(number, row):
        told.append(number)
        if number == until:
            raise KeyboardInterrupt

    history = learns(made, *pairs, spec, data, 7, on_epoch, resume=resume)
    weights = [np.asarray(weight).ravel().tolist() for weight in made.weights]
    return {"history": history.reset_index().to_dict("list"), "told": told, "weights": weights}


shares = distribute.of(asked, used)
found = [trained(fit.fit), trained(shares)]
if until != "0":
    state = Resume(Path(folder) / "state")
    state.every = 0
    try:
        trained(shares, state, int(until))
    except KeyboardInterrupt:
        found.append(trained(shares, state))
json.dump(found, sys.stdout)
"""


def fits(folder, family, kind, count, knobs, until=0):
    """What one device learns, and what many do; and again where those are interrupted in an epoch."""
    asked = {"distribute": "mirrored", "device": "cpu", "count": count}
    command = [sys.executable, "-c", FITS, str(folder), family, kind, json.dumps(asked), json.dumps(knobs), str(until)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def assert_alike(one, other, tolerance=1e-5):
    assert one["told"] == other["told"]
    assert [*one["history"]] == [*other["history"]]
    for name, values in one["history"].items():
        np.testing.assert_allclose(values, other["history"][name], rtol=tolerance, atol=tolerance, err_msg=name)
    for mine, theirs in zip(one["weights"], other["weights"], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=10 * tolerance)


@pytest.mark.slow
def test_devices_that_share_a_batch_learn_what_one_does(tmp_path):
    """Weights of classes, a penalty, rates that fall, an early end, the best epoch, metrics that are no means: all of
    it, and a batch that leaves a device with nothing; and an interrupted training ends in the same bits."""
    one, many, again = fits(tmp_path, "mlp", "tables", 3, ALL_AT_ONCE, until=3)
    assert_alike(one, many)
    assert 4 < len(one["told"]) < 12
    assert len({*one["history"]["learning_rate"]}) > 1
    assert again == many


@pytest.mark.slow
@pytest.mark.parametrize(("family", "kind"), [case.values for case in EACH if case.values != ("mlp", "tables")])
def test_each_family_learns_by_two_devices_what_it_does_by_one(tmp_path, family, kind):
    """But for dropout, and batch normalisation of batches that do not divide: fill counts there."""
    one, two = fits(tmp_path, family, kind, 2, {**SGD, "batch_size": 12 if family == "cnn" else 15})
    assert_alike(one, two)


@pytest.mark.slow
def test_batch_normalisation_is_that_of_the_whole_batch(tmp_path):
    one, two = fits(tmp_path, "mlp", "tables", 2, {**SGD, "batch_size": 18, "batch_normalization": True})
    assert_alike(one, two)


def test_one_device_is_trained_on_as_ever(caplog):
    caplog.set_level("INFO")
    assert distribute.of(Training(), {}) is fit.fit
    assert "distribute" not in caplog.text
    assert distribute.of(Training(distribute="mirrored", device="cpu"), {}) is fit.fit
    assert "distribute: not at all, as there is one device alone" in caplog.text


def test_copies_that_are_not_connected_do_not_pass_for_one(tmp_path):
    """A worker without the addresses of the others would train a model of its own to the end."""
    data, spec, pairs, core = started(tmp_path, "mlp", "tables", "binary")

    def alone(folder, on_epoch):
        distribute._learn(folder, 0, 2, "cpu", lambda **_: None)

    with pytest.raises(EnvironmentFailed, match="2 devices are to share each batch, but 1 of them found each other"):
        engine.elsewhere(Training(), alone, core(), *pairs, spec, data, 7)
    with pytest.raises(EnvironmentFailed, match="3 devices are to share each batch, but 1 of them"):
        distribute._fit_in_mirrors(["CPU:0"], 3, core(), *pairs, spec, data, 7)


def test_ray_that_is_not_installed_is_refused(monkeypatch):
    monkeypatch.setattr(distribute, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFailed, match="Ray is not installed"):
        distribute.of(Training(distribute="ray"), {})


def test_a_connection_that_is_lost_in_a_training_is_not_told_as_ray_s(monkeypatch):
    class Errors:
        RayError = RuntimeError

    class Ray(ModuleType):
        exceptions = Errors
        init = staticmethod(lambda **_: None)
        shutdown = staticmethod(lambda: None)

    monkeypatch.setitem(sys.modules, "ray", Ray("ray"))
    monkeypatch.setenv("RAY_ADDRESS", "anywhere")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    with pytest.raises(ConnectionError, match="of MLflow"), distribute._ray():
        raise ConnectionError("of MLflow")


# === Ray ===

STAGE = """
import json, os, signal, sys
from contextlib import nullcontext
from types import SimpleNamespace
import psutil
from trainyard import cli, tracking
from trainyard.training import device

kill, begin = int(sys.argv[1]), device.start
told = []


def log_epoch(number, row):
    told.append(number)
    if number == kill:
        workers = [each for each in psutil.Process().children(recursive=True) if "TrainWorker" in each.name()]
        assert len(workers) == 2, workers
        workers[-1].send_signal(signal.SIGKILL)


def live(name, params, data, used):
    live.used = used
    return nullcontext(SimpleNamespace(log_epoch=log_epoch, finished=lambda *_: None))


def start(*arguments):
    found = begin(*arguments)
    from trainyard.training import resume
    resume.EVERY = 0
    return found


device.start, tracking.live = start, live
code = cli.main(["train", "m"])
json.dump({"told": told, "used": live.used}, sys.stdout)
sys.exit(code)
"""
MODEL = {
    "family": "mlp",
    "dataset": "d",
    "layers": [16],
    "epochs": 15,
    "batch_size": 15,
    "plateau": {"patience": 2},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project whose data is prepared."""
    here = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(here)
        dataset = SAMPLES["tables"](Path(), "binary").model_dump(mode="json", exclude_unset=True)
        blocks = {"seed": 3, "datasets": {"d": dataset}, "train": {"m": MODEL}, "evaluate": {"m": {"dataset": "d"}}}
        YAML().dump(blocks, Path("params.yaml"))
        assert cli.main(["validate", "d"]) == cli.main(["prepare", "d"]) == 0
    return here


def stage(here, *, kill=0, model=None, **training):
    """What `trainyard train m` tells and leaves; a worker is killed when an epoch is told of."""
    blocks = {**YAML(typ="safe").load(here / "params.yaml"), "training": {"device": "cpu", **training}}
    blocks["train"] = {"m": {**MODEL, **(model or {})}}
    YAML().dump(blocks, here / "params.yaml")
    command = [sys.executable, "-c", STAGE, str(kill)]
    return subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)


def left(here, done):
    """What a stage that came to its end told, its history, and every byte of `models/m`."""
    assert done.returncode == 0, done.stderr
    folder = here / "models" / "m"
    history = pd.read_csv(folder / "history.csv", index_col="epoch")
    told = json.loads(done.stdout.splitlines()[-1])  # Ray tells there of a worker that died
    return told, history, {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.fault
@pytest.mark.slow
def test_workers_of_ray_learn_what_one_device_does_and_one_that_is_killed_changes_nothing(project):
    of_one, history, files = left(project, stage(project))
    of_two, by_two, two = left(project, stage(project, distribute="ray", count=2))
    assert files.keys() == two.keys()
    assert of_one["told"] == of_two["told"] == [*range(1, 16)]
    np.testing.assert_allclose(by_two, history, rtol=1e-5, atol=1e-5)
    assert of_two["used"]["trainyard.device"].startswith("2 workers of Ray, the first on ")
    killed = stage(project, kill=6, distribute="ray", count=2)
    of_killed, _, after = left(project, killed)
    assert "goes on after epoch" in killed.stderr
    assert of_killed["told"] == of_two["told"]
    assert after == two


@pytest.mark.slow
@pytest.mark.parametrize(
    ("training", "model", "code", "told"),
    [
        ({"count": 500}, {}, 5, "error: training.count is 500, but Ray has "),
        ({"device": "gpu"}, {}, 5, "error: training.device is gpu, but Ray has none"),
        ({"count": 2}, {"optimizer": {"name": "sgd", "learning_rate": 1e30}}, 3, "error: epoch 1: "),
    ],
)
def test_what_ray_lacks_and_what_its_workers_refuse_is_one_line(project, training, model, code, told):
    done = stage(project, distribute="ray", model=model, **training)
    assert done.returncode == code, done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith(told)]
    assert "Traceback" not in done.stderr
