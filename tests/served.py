"""A registry with a champion of each kind, and a server of some of them."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
from contracts.samples import SAMPLES
from ruamel.yaml import YAML

from trainyard import files, kinds, models, params, tracking
from trainyard.quality import evaluation
from trainyard.quality.baselines import Baseline
from trainyard.tracking import raw

SETS = {
    "tables": ("tables", "binary", {"family": "mlp", "layers": [8]}),
    "prices": ("tables", "regression", {"family": "mlp", "layers": [8]}),
    "images": ("images", "multiclass", {"family": "cnn", "filters": [4], "dense": []}),
    "series": ("series", "forecast", {"family": "rnn", "units": [4]}),
    "text": ("text", "multiclass", {"family": "rnn", "units": [4]}),
    "speech": ("speech", "transcription", {"family": "rnn", "units": [8]}),
}
"""Name of data and model, what it is, and the model's block."""


def prices(folder, objective):
    """Rows enough for an interval."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(300, 2)), columns=["size", "age"])
    frame["colour"] = rng.choice(["red", "green"], 300)
    frame.assign(price=3 * frame["size"] + rng.normal(size=300)).to_csv(folder / "prices.csv", index=False)
    return params.Tables(kind="tables", objective=objective, path=str(folder / "prices.csv"), target="price")


def block(name, folder):
    kind, objective, model = SETS[name]
    (folder / name).mkdir(parents=True)
    spec = (prices if name == "prices" else SAMPLES[kind])(folder / name, objective)
    return spec.model_dump(mode="json", exclude_none=True), {**model, "dataset": name}


def train(name, loaded, seed=0):
    """Random weights answer as well as trained ones here; gives the scores that `evaluate` writes."""
    import keras

    from trainyard.models import saved
    from trainyard.training import features, package

    spec = loaded.model(name)
    data = kinds.open_prepared(name, loaded.dataset(name))
    keras.utils.set_random_seed(seed)
    preprocessing = kinds.of(data.spec).preprocessing(data.spec, data.facts, data.train)
    core = models.build(spec, features.seen(preprocessing), data.objective, data.units)
    if data.objective.name == "transcription":  # or it would hear nothing
        weights, bias = core.get_layer("head").get_weights()
        core.get_layer("head").set_weights([20 * weights, bias - 3 * (np.arange(len(bias)) == 0)])
    history = pd.DataFrame({"loss": [1.0], "val_loss": [1.0], "kept": [1]}, index=pd.Index([1], name="epoch"))
    package.write(name, spec, data, preprocessing.join(core), history)
    about = files.read_json(Path("models") / name / "model.json")
    model = saved.load(Path("models") / name / "model.keras", about["sha256"])
    answer = saved.answers(model, about, data.test.raw)
    naive = Baseline("another", answer[::-1])
    sample = evaluation.draws(data.objective, data.test.rows, data.test.target)
    metrics = evaluation.metrics(data.objective, data.test.target, answer, naive, naive, sample)
    scores = evaluation.scores(data.objective, data.classes, data.test.rows, data.test.target, answer, naive, naive)
    report = Path("reports/models") / name
    files.write_json(
        report / "metrics.json", {"model": name, "dataset": name, "sha256": about["sha256"], **metrics, "slices": {}}
    )
    files.write_csv(report / "scores.csv", scores)
    return scores


def crown(name, loaded):
    """Publish what lies in models/NAME, and make it champion; gives its version."""
    mine = tracking.publish(name, loaded)
    with tracking.connected() as client:
        client.set_registered_model_alias(name, "champion", mine.version)
    return mine.version


@dataclass
class Registry:
    """A project whose champions stand in a registry of its own."""

    folder: Path
    params: params.Params
    scores: dict[str, pd.DataFrame] = field(default_factory=dict)

    @property
    def uri(self):
        return f"sqlite:///{self.folder}/mlflow.db"

    def rows(self, name, count=None):
        """Raw rows of test examples, as the user's data has them, indexed as scores.csv is."""
        data = kinds.open_prepared(name, self.params.dataset(name), self.folder / "build")
        return raw.reader(data.spec, data.facts)(data.test.rows.index[:count])

    def answers(self, name):
        """Of scores.csv those columns that are answers."""
        scores = self.scores[name]
        return scores[[column for column in scores if re.fullmatch(r"p_.*|answer(_\d+)?", column)]]


class Served:
    """`trainyard serve` as a user starts it, in a folder of its own."""

    def __init__(self, registry, folder, names, serve=None, arguments=(), **environment):
        self.folder, self.log = folder, folder / "log.txt"
        whole = {**registry.params.model_dump(mode="json", exclude_none=True), "serve": serve or {}}
        with (folder / "params.yaml").open("w") as file:
            YAML().dump(whole, file)
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("MLFLOW_", "TRAINYARD_"))}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "trainyard.cli", "serve", *names, "--port", "0", *arguments],
                cwd=folder,
                env={**kept, "MLFLOW_TRACKING_URI": registry.uri, **environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self.port = int(self.until(r"http://\S+:(\d+)/ is ready", 300)[1])
        except AssertionError:
            self.end()
            raise

    def until(self, pattern, seconds=120):
        """The first place of the log that the pattern finds, once it is there."""
        latest = time.monotonic() + seconds
        while not (found := re.search(pattern, self.log.read_text())):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < latest, self.log.read_text()
            time.sleep(0.02)
        return found

    def ask(self, path, body=None, method=None, headers=None, timeout=60, source="127.0.0.1"):
        """Status, headers and JSON, or text, of an answer; a body that is no bytes is sent as JSON."""
        sent = {"content-type": "application/json"} if body is not None else {}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout, (source, 0))
        try:
            content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(
                method or ("GET" if body is None else "POST"), path, content, {**sent, **(headers or {})}
            )
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        told = json.loads(text) if answer.headers["content-type"] == "application/json" else text
        return SimpleNamespace(status=answer.status, headers=answer.headers, told=told, text=text)

    def workers(self):
        """Processes that hold a model, by their ids."""
        import psutil

        own = psutil.Process(self.process.pid).children()
        server = next(child for child in own if "multiprocessing.forkserver" in " ".join(child.cmdline()))
        return {child.pid: child for child in server.children() if child.status() != psutil.STATUS_ZOMBIE}

    def end(self):
        """As `docker stop` does; gives the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(30)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
