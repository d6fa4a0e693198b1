"""One MLflow database for all tests here (it takes seconds to make), and a small project whose models need no Keras."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from trainyard import files, kinds, params
from trainyard.quality.verdict import Verdict
from trainyard.stages.register import register


@pytest.fixture(scope="session")
def database(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture(autouse=True)
def project_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for variable in ("DVC_STAGE", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


@pytest.fixture
def tracked(monkeypatch, database):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)


@pytest.fixture
def client(tracked):
    from trainyard.tracking import store

    with store.connected() as found:
        return found


@pytest.fixture
def project(request, tracked):
    return Project(re.sub(r"[^a-z0-9]", "-", request.node.name.removeprefix("test_").lower()))


@pytest.fixture
def new_project():
    return Project


class Server:
    """A real MLflow server, which keeps the artifacts too; ended it can be started again."""

    def __init__(self, folder):
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self.running = subprocess.Popen(command, cwd=self.folder, env=environment, start_new_session=True, **quiet)
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=2).close()  # noqa: S310  # ours
                break
            except OSError:
                time.sleep(1)

    def end(self):
        """At once, with the processes that it started."""
        if self.running.poll() is None:
            os.killpg(self.running.pid, signal.SIGKILL)
            self.running.wait(30)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("server"))
    yield running
    running.end()


@dataclass
class Project:
    """A table of 200 rows, and models that are planted: what they are worth is what the test says."""

    dataset: str
    name: str = field(init=False)
    epochs: int = 3
    floor: dict[str, float] = field(default_factory=dict)
    margin: float = 0.0
    asked: dict[str, object] = field(default_factory=dict)
    """More of the block in `evaluate`."""
    slices: list[str] = field(default_factory=list)
    slice_margin: float = 0.0

    def __post_init__(self):
        self.name = f"m-{self.dataset}"
        self.write_table(classes=["no", "yes"])

    @property
    def params(self):
        model = {"family": "mlp", "dataset": self.dataset, "epochs": self.epochs}
        return params.parse(
            {
                "datasets": {
                    self.dataset: {"kind": "tables", "path": "table.csv", "target": "y", "objective": "binary"}
                },
                "train": {self.name: model},
                "evaluate": {
                    self.name: {
                        "dataset": self.dataset,
                        "floor": self.floor,
                        "margin": self.margin,
                        "slices": self.slices,
                        "slice_margin": self.slice_margin,
                        **self.asked,
                    }
                },
            }
        )

    @property
    def data(self):
        return kinds.open_prepared(self.dataset, self.params.dataset(self.dataset))

    @property
    def folder(self):
        return Path("models") / self.name

    @property
    def report(self):
        return Path("reports/models") / self.name

    def write_table(self, classes):
        draw = np.random.default_rng(list(self.dataset.encode()))  # no two projects have the same test rows
        table = pd.DataFrame({"a": draw.normal(size=200), "b": draw.normal(size=200), "y": classes * 100})
        table.to_csv("table.csv", index=False)
        self.prepare(seed=1)

    def prepare(self, seed):
        spec = self.params.dataset(self.dataset)
        kind = kinds.of(spec)
        manifest = kind.manifest(spec)
        with files.replacing_folder(Path("build") / self.dataset) as folder:
            kinds.write_prepared(spec, manifest, kind.split(spec, manifest, seed), folder)

    def train(self, weights="first", epochs=3):
        self.epochs = epochs
        spec = self.params.dataset(self.dataset)
        with files.replacing_folder(self.folder) as folder:
            (folder / "model.keras").write_text(weights)
            losses = {"loss": np.linspace(1, 0.5, epochs), "val_loss": np.linspace(1, 0.6, epochs)}
            history = pd.DataFrame(losses, index=pd.RangeIndex(1, epochs + 1, name="epoch"))
            history["kept"] = (history.index == epochs).astype(int)
            files.write_csv(folder / "history.csv", history)
            about = {
                "model": self.name,
                "family": "mlp",
                "dataset": self.dataset,
                "kind": "tables",
                "objective": "binary",
                "classes": self.data.classes,
                "facts": dict(self.data.facts),
                "spec": spec.model_dump(mode="json"),
                "params": self.params.model(self.name).model_dump(mode="json"),
                "backbone": None,
                "parameters": 10,
                "temperature": 1.0,
                "sha256": files.sha256(folder / "model.keras"),
            }
            files.write_json(folder / "model.json", about)

    def evaluate(self, wrong, naive_wrong=20):
        """The model errs on the first `wrong` of 40 test examples, the naive baseline on the first `naive_wrong`.

        Of class names instead: on the first so many of each class.
        """
        rows = self.data.test.rows
        place = np.arange(len(rows))
        errs = place < wrong if isinstance(wrong, int) else rows.groupby("label").cumcount() < rows["label"].map(wrong)
        wrong = int(errs.sum())
        scores = rows.assign(score=~errs * 1.0, naive_score=(place >= naive_wrong) * 1.0, classical_score=1.0)
        probability = np.where(scores["score"] == (self.data.test.target == 1), 0.9, 0.1)
        names = [f"p_{name}" for name in self.data.classes]
        scores = scores.assign(**dict(zip(names, (1 - probability, probability), strict=True)))
        interval = {"value": 1 - wrong / len(rows), "low": 0.0, "high": 1.0}
        metrics = {
            "model": self.name,
            "dataset": self.dataset,
            "sha256": files.read_json(self.folder / "model.json")["sha256"],
            "objective": "binary",
            "examples": len(rows),
            "test": {
                "accuracy": interval,
                "auc": {"value": None, "low": None, "high": None},
                "calibration_error": {"value": 0.15, "low": 0.1, "high": 0.2},
            },
            "naive": {"name": "shares of the classes", "accuracy": 0.5, "auc": 0.5, "calibration_error": 0.0},
            "classical": {"name": "logistic regression", "accuracy": 1.0, "auc": None, "calibration_error": 0.1},
            "better_than_naive": interval,
            "better_than_classical": interval,
        }
        self.report.mkdir(parents=True, exist_ok=True)
        files.write_json(self.report / "metrics.json", metrics)
        files.write_csv(self.report / "scores.csv", scores)
        parts = pd.DataFrame({"drop": [0.4], "low": [0.3], "high": [0.5], "examples": len(rows)}, index=["a"])
        files.write_csv(self.report / "importance.csv", parts.rename_axis("part"))
        for figure in ("learning", "answers", "mistakes", "importance"):
            (self.report / f"{figure}.png").write_bytes(b"a figure")

    def write_params(self, folder=Path()):
        with (folder / "params.yaml").open("w") as file:
            YAML().dump(self.params.model_dump(mode="json", exclude_none=True), file)

    def propose(self, weights, wrong):
        """A new model that errs on `wrong` of 40 test examples, through the gate; gives the verdict."""
        self.train(weights)
        self.evaluate(wrong)
        return self.register()

    def verdict(self, mine, against, decision):
        """A verdict on a version, whatever it is worth."""
        return Verdict(
            self.name, self.dataset, mine.content, against, "", {}, (), passed=True, decision=decision, remark=""
        )

    def register(self):
        register(self.name, self.params)
        return files.read_json(self.report / "verdict.json")
