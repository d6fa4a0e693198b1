"""The line itself, through DVC, in a copy of the project with little data and few epochs."""

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from trainyard import files

ROOT = Path(__file__).parents[2]
PARAMS = """\
seed: 1   # this remark survives an experiment

datasets:
  tumours: {kind: tables, path: data/tumours.csv, objective: binary, target: diagnosis, positive: malignant,
            expect: [{column: mean_radius, between: [0, 50]}]}
  digits: {kind: images, path: data/digits, objective: multiclass, channels: 1}
  pictograms: {kind: images, path: data/pictograms, objective: multiclass, group: '^(.+)-[0-9]+[.]jpg$'}
  climate: {kind: series, path: data/climate.csv, time: month, target: sea_temperature, window: 12, horizon: 2}

train:
  mlp: {family: mlp, dataset: tumours, epochs: 2}
  cnn: {family: cnn, dataset: digits, filters: [4], dense: [], epochs: 2}
  rnn: {family: rnn, dataset: climate, units: [4], epochs: 2}

finetune:
  mobilenet: {family: mobilenet, dataset: pictograms, backbone: {width: 0.25, weights: embedded}, copies: 0, epochs: 2,
              thaw: {layers: 4, epochs: 1}}

evaluate:
  mlp: {dataset: tumours, floor: {accuracy: 0.5}, calibration: 0.4, budget: {megabytes: 5, milliseconds: 10000}}
  cnn: {dataset: digits, floor: {accuracy: 1.0}}
  rnn: {dataset: climate}
  mobilenet: {dataset: pictograms}

training: {determinism: strict}
"""


MODELS = ("mlp", "cnn", "rnn", "mobilenet")


class Line:
    """A copy of the project and what it is asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_", "GIT_"))},
            "HOME": str(folder.parent),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(folder / "src"),  # the copy's code, not what is installed
        }

    def __call__(self, *command: str, expect: int = 0) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == expect, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def read(self, path: str) -> object:
        return files.read_json(self.folder / path)

    def registry(self):
        from mlflow import MlflowClient

        return MlflowClient(f"sqlite:///{self.folder / 'mlruns' / 'mlflow.db'}")

    def asked(self, query: str, *values: str) -> list[str]:
        """The first column of a query to the database: MLflow would go on asking one that was deleted."""
        with sqlite3.connect(self.folder / "mlruns" / "mlflow.db") as database:
            return [str(row[0]) for row in database.execute(query, values)]

    def versions(self, name: str) -> list[str]:
        return self.asked("SELECT version FROM model_versions WHERE name = ? ORDER BY version", name)


def thin(folder: Path, keep) -> None:
    for file in folder.rglob("*"):
        if file.is_file() and not keep(file):
            file.unlink()


def shipped() -> list[str]:
    """What git has; in a tarball, what lies where git would have it."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        return list(filter(None, listed.stdout.split("\0")))
    names = [".dvc/.gitignore", ".dvc/config", ".dvcignore", ".gitignore", "dvc.yaml"]
    found = [
        file for folder in ("data", "src") for file in (ROOT / folder).rglob("*") if "__pycache__" not in file.parts
    ]
    return names + [file.relative_to(ROOT).as_posix() for file in found]


@pytest.fixture(scope="module")
def line(tmp_path_factory) -> Line:
    """After its first `dvc repro`."""
    folder = tmp_path_factory.mktemp("home") / "project"
    for name in shipped():
        if (ROOT / name).is_file() and not name.startswith(("tests/", "reports/", "requirements/", "dvc.lock")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for digit in range(3, 10):
        shutil.rmtree(folder / "data" / "digits" / str(digit))
    thin(folder / "data" / "digits", lambda file: int(file.stem) < 400)
    for label in ("animals", "landmarks", "vehicles"):
        glyphs = sorted({file.stem.rpartition("-")[0] for file in (folder / "data" / "pictograms" / label).iterdir()})[
            :8
        ]
        thin(
            folder / "data" / "pictograms" / label,
            lambda file, kept=frozenset(glyphs): file.stem.rpartition("-")[0] in kept,
        )
    (folder / "params.yaml").write_text(PARAMS)
    line = Line(folder)
    for command in (
        ["init", "-q"],
        ["config", "user.email", "a@b.c"],
        ["config", "user.name", "a"],
        ["add", "-A"],
        ["commit", "-qm", "start"],
    ):
        line("git", *command)
    line("dvc", "repro")
    return line


@pytest.fixture
def restored(line):
    """Whatever a test does to the files that git tracks, the next one starts from the first `dvc repro`."""
    line("git", "add", "-A")
    line("git", "commit", "-qm", "state", "--allow-empty")
    yield line
    line("git", "checkout", "-q", "--", ".")
    line("git", "clean", "-qfd")
    line("dvc", "checkout", "-q", "--force")


def test_every_model_ends_in_the_registry_with_its_verdict(line):
    registry = line.registry()
    for name in MODELS:
        verdict = line.read(f"reports/models/{name}/verdict.json")
        (version,) = line.versions(name)
        aliases = registry.get_model_version(name, version).aliases
        assert "challenger" in aliases
        assert ("champion" in aliases) == verdict["passed"] == (verdict["decision"] == "champion")
        assert registry.get_model_version(name, version).tags["trainyard.content"] == verdict["content"]
        experiment = registry.get_experiment_by_name(line.read(f"models/{name}/model.json")["dataset"])
        (run,) = registry.search_runs([experiment.experiment_id], f"tags.`trainyard.model` = '{name}'")
        assert run.info.run_name == f"{name}-{verdict['content'][:8]}"
        assert run.info.status == "FINISHED"
        assert len(registry.get_metric_history(run.info.run_id, "val_loss")) == (3 if name == "mobilenet" else 2)
    assert not line.read("reports/models/cnn/verdict.json")[
        "passed"
    ]  # its floor is out of reach: refused, and the line goes on


def test_the_registered_model_gives_the_scores_that_evaluate_wrote(line):
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{line.folder / 'mlruns' / 'mlflow.db'}")
    rows = pd.read_csv(line.folder / "data" / "tumours.csv")
    scores = pd.read_csv(line.folder / "reports/models/mlp/scores.csv", index_col="example")
    asked = rows.loc[scores.index - 2].drop(columns="diagnosis")  # line 1 of the file is the header
    answer = mlflow.pyfunc.load_model("models:/mlp@challenger").predict(asked)
    assert abs(answer["p_malignant"].to_numpy() - scores["p_malignant"].to_numpy()).max() < 1e-6


def test_a_second_repro_does_nothing(line):
    told = line("dvc", "repro")
    assert "Running stage" not in told
    assert "up to date" in told


def test_git_sees_nothing_but_the_lock_and_figures(line):
    line("git", "add", "-A")
    changed = line("git", "diff", "--cached", "--name-only", "HEAD").split()
    reports = ("metrics.json", "verdict.json", "card.md", ".gitignore")
    models = {f"reports/models/{name}/{file}" for name in MODELS for file in reports}
    assert set(changed) <= {"dvc.lock", "reports/data/.gitignore", "reports/audits/.gitignore", ".gitignore"} | models


@pytest.mark.slow
def test_the_lock_is_the_same_in_a_second_training(restored):
    lock = files.sha256(restored.folder / "dvc.lock")
    before = restored.versions("mlp")
    for dataset, stage, model in (
        ("tumours", "train", "mlp"),
        ("digits", "train", "cnn"),
        ("climate", "train", "rnn"),
        ("pictograms", "finetune", "mobilenet"),
    ):
        stages = [f"prepare@{dataset}", f"{stage}@{model}", f"evaluate@{model}"]
        restored("dvc", "repro", "-q", "-f", "-s", *stages)
    assert files.sha256(restored.folder / "dvc.lock") == lock
    assert restored.versions("mlp") == before


def test_no_output_names_the_folder_that_it_was_made_in(line):
    outputs = [line.folder / name for name in ("build", "backbones", "models", "reports", "report", "dvc.lock")]
    written = [file for output in outputs for file in (output, *output.rglob("*")) if file.is_file()]
    assert len(written) > 50
    assert not [file for file in written if str(line.folder).encode() in file.read_bytes()]


@pytest.mark.slow
def test_a_clone_that_comes_to_the_same_bits_registers_them(restored):
    clone = Line(restored.folder.parent / "clone")
    restored("git", "clone", "-q", ".", str(clone.folder))
    shutil.copytree(restored.folder / ".dvc" / "cache", clone.folder / ".dvc" / "cache")
    clone("dvc", "repro", "-q")
    for name in MODELS:
        assert clone.versions(name) == ["1"]
        verdict = f"reports/models/{name}/verdict.json"
        assert clone.read(verdict) == restored.read(verdict)
    assert files.sha256(clone.folder / "dvc.lock") == files.sha256(restored.folder / "dvc.lock")


def test_touching_a_family_reruns_its_models_alone(restored):
    source = restored.folder / "src/trainyard/models/mlp.py"
    source.write_text(source.read_text() + "\n# touched\n")
    told = restored("dvc", "repro", "--dry")
    run = [text.split("'")[1] for text in told.splitlines() if text.startswith("Running stage")]
    assert run[0] == "train@mlp"
    assert all("@mlp" in stage or stage == "report" for stage in run)


@pytest.mark.slow
def test_experiments_metrics_and_plots_and_the_way_back(restored):
    restored("dvc", "exp", "run", "-q", "-S", "train.mlp.epochs=3")
    params = (restored.folder / "params.yaml").read_text()
    assert "epochs: 3" in params
    assert "# this remark survives an experiment" in params
    assert "reports/models/mlp/metrics.json" in restored("dvc", "metrics", "diff")
    assert "reports/models/rnn" not in restored("dvc", "metrics", "diff")
    assert len(restored.versions("mlp")) == 2
    restored("dvc", "plots", "show", "-o", "plots")
    assert (restored.folder / "plots" / "index.html").is_file()
    shutil.rmtree(restored.folder / "plots")

    restored("git", "checkout", "-q", "--", "params.yaml")
    restored("dvc", "repro", "-q")
    content = restored.read("reports/models/mlp/verdict.json")["content"]
    assert len(restored.versions("mlp")) == 2
    assert restored.registry().get_model_version_by_alias("mlp", "challenger").tags["trainyard.content"] == content


def test_publish_brings_back_a_run_that_was_lost(restored):
    aliases = "SELECT name || ' ' || alias FROM registered_model_aliases ORDER BY name, alias"
    told = {name: restored.read(f"reports/models/{name}/verdict.json")["decision"] for name in MODELS}
    assert set(told.values()) == {"challenger", "champion"}
    crowned = [f"{name} champion" for name, decision in told.items() if decision == "champion"]
    expected = sorted([*crowned, *(f"{name} challenger" for name in MODELS)])
    shutil.rmtree(restored.folder / "mlruns")
    restored("trainyard", "publish")
    restored("trainyard", "publish")
    assert restored.versions("rnn") == ["1"]
    assert sorted(restored.asked(aliases)) == expected
    assert "climate" in restored.asked("SELECT name FROM experiments")


def rewritten(change):
    def plant(path: Path) -> None:
        path.write_text(change(path.read_text()))

    return plant


@pytest.mark.parametrize(
    ("data", "plant", "told"),
    [
        ("data/tumours.csv", Path.unlink, "data/tumours.csv"),
        ("data/tumours.csv", rewritten(lambda text: text.replace("diagnosis", "verdict", 1)), "no column `diagnosis`"),
        ("data/tumours.csv", rewritten(lambda text: text.replace("17.99", "wide", 1)), "data/tumours.csv:2"),
        ("data/tumours.csv", rewritten(lambda text: text.replace("17.99", "99", 1)), "mean_radius"),
        ("data/climate.csv", rewritten(lambda text: "\n".join(text.splitlines()[:12]) + "\n"), "no future to predict"),
        ("data/climate.csv", rewritten(lambda text: "\n".join(text.splitlines()[:20]) + "\n"), "data/climate.csv"),
        (
            "data/digits/0",
            lambda path: [file.unlink() for file in path.iterdir()],
            "data/digits/0: class folder without",
        ),
        ("data/digits/0/0000.png", lambda path: path.write_bytes(b"no image"), "data/digits/0/0000.png"),
    ],
)
def test_bad_data_stops_the_line_and_leaves_the_lock(restored, data, plant, told):
    plant(restored.folder / data)
    lock = (restored.folder / "dvc.lock").read_text().splitlines()
    before = restored.versions("rnn")
    assert told in restored("dvc", "repro", expect=255)
    assert (restored.folder / "dvc.lock").read_text().splitlines() == lock
    assert restored.versions("rnn") == before
