"""The gate of `register` on models that the line trained: what is wrong with them was planted in their data."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trainyard import cli, files

PARAMS = """\
seed: 1
datasets:
  d: {{kind: tables, objective: binary, path: table.csv, target: answer, split: {{given: part}}}}
train:
  m: {{family: mlp, dataset: d, layers: [32], epochs: 60, optimizer: {{name: adam, learning_rate: 0.01}}}}
finetune: {{}}
evaluate:
  m: {{dataset: d, {asked}}}
training: {{}}
"""


FLOOR = "floor: {accuracy: 0.93, log_loss: 0.2}"


@pytest.fixture
def line(here, monkeypatch):
    """Runs verbs on a table whose answer two of its columns give, where a share of the training labels is shuffled."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{here / 'mlflow.db'}")
    (here / "params.yaml").write_text(PARAMS.format(asked=FLOOR))

    def run(shuffled):
        rng = np.random.default_rng(0)
        table = pd.DataFrame(rng.normal(size=(320, 4)).round(4), columns=["a", "b", "c", "d"])
        table["answer"] = np.where(table["a"] + table["b"] > 0, "yes", "no")
        table["part"] = np.repeat(["train", "validation", "test"], [160, 80, 80])
        some = rng.permutation(160)[: round(160 * shuffled)]
        table.loc[some, "answer"] = rng.permutation(table.loc[some, "answer"].to_numpy())
        table.to_csv("table.csv", index=False)
        for verb, name in [("validate", "d"), ("prepare", "d"), ("train", "m"), ("evaluate", "m")]:
            assert cli.main([verb, name]) == 0

    return run


def outcome():
    """Of `register`: the decision, the checks that failed, and the exit code of `gate`."""
    assert cli.main(["register", "m"]) == 0
    verdict = files.read_json(Path("reports/models/m/verdict.json"))
    return (
        verdict["decision"],
        [check["name"] for check in verdict["checks"] if not check["passed"]],
        cli.main(["gate", "m"]),
    )


def test_a_model_whose_training_labels_were_shuffled_in_part_is_refused(line):
    line(shuffled=0.4)
    assert outcome() == ("challenger", ["floor accuracy", "floor log_loss"], 4)


@pytest.mark.slow
def test_one_that_learnt_from_clean_labels_passes_but_not_within_a_millionth_of_a_millisecond(line):
    line(shuffled=0.0)
    Path("params.yaml").write_text(PARAMS.format(asked=f"{FLOOR}, budget: {{milliseconds: 0.000001}}"))
    assert outcome() == ("challenger", ["budget milliseconds"], 4)
    Path("params.yaml").write_text(PARAMS.format(asked=f"{FLOOR}, budget: {{milliseconds: 60000}}"))
    assert outcome() == ("champion", [], 0)
