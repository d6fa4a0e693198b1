"""A small line, run once by DVC without a fault. Each fault is planted in a copy; then what must hold is checked."""

import os
import shutil
import signal
import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from yard import Yard

from trainyard import files

ROOT = Path(__file__).parents[2]
PARAMS = """\
seed: 3
datasets:
  d: {kind: tables, path: d.csv, target: answer, objective: binary}
train:
  m: {family: mlp, dataset: d, layers: [8], optimizer: {name: adam, learning_rate: 0.05}, epochs: 10}
finetune: {}
evaluate:
  m: {dataset: d}
training: {device: cpu}
"""


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """After a `dvc repro` that nothing disturbed."""
    yard = Yard(tmp_path_factory.mktemp("undisturbed") / "a yard ☂")
    yard.folder.mkdir()
    shutil.copytree(ROOT / "src", yard.folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", yard.folder)
    (yard.folder / ".dvc").mkdir()
    (yard.folder / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    shutil.copy(ROOT / ".dvcignore", yard.folder)
    (yard.folder / "params.yaml").write_text(PARAMS)
    draw = np.random.default_rng(0)
    size = draw.normal(size=150)
    table = pd.DataFrame({"size": size, "weight": draw.normal(size=150), "answer": (size > 0).astype(int)})
    table.to_csv(yard.folder / "d.csv", index=False)
    table.drop(columns="answer").head(5).to_csv(yard.folder / "golden.csv", index=False)
    yard.run("dvc repro")
    files.write_json(yard.folder / "golden.json", yard.champion_answers())
    return yard


@pytest.fixture
def yard(undisturbed, tmp_path):
    """A copy of it; whatever a fault leaves running ends with the test."""
    copy = Yard(tmp_path / "a yard ☂")
    shutil.copytree(undisturbed.folder, copy.folder, symlinks=True)
    before, now = f"{undisturbed.folder.as_uri()}/", f"{copy.folder.as_uri()}/"
    with sqlite3.connect(copy.folder / "mlruns/mlflow.db") as database:  # MLflow keeps absolute paths
        places = [
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("model_versions", "source"),
            ("model_versions", "storage_location"),
            ("logged_models", "artifact_location"),
        ]
        for table, column in places:
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (before, now))  # noqa: S608  # ours
    yield copy
    for process in copy.processes():
        os.kill(process, signal.SIGKILL)
