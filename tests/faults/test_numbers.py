"""Numbers that are not finite, memory that does not suffice, and a GPU that is not there."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trainyard import cli

PARAMS = """\
seed: 3
datasets:
  d: {kind: tables, path: d.csv, target: answer, objective: regression, split: {given: split},
      audit: warn}
train:
  m: {family: mlp, dataset: d, layers: [8], epochs: 4, optimizer: {name: sgd, learning_rate: 0.01}}
finetune: {}
evaluate:
  m: {dataset: d}
training: {device: cpu}
"""


@pytest.fixture
def project(here, monkeypatch):
    """A table in which the splits are given, with a model that was trained and registered."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    from trainyard.training import resume

    monkeypatch.setattr(resume, "EVERY", 0)
    draw = np.random.default_rng(0)
    size = draw.normal(size=150)
    split = np.repeat(["train", "validation", "test"], [90, 30, 30])
    frame = pd.DataFrame({"size": size, "weight": draw.normal(size=150), "answer": 3 * size, "split": split})
    frame.to_csv("d.csv", index=False)
    Path("params.yaml").write_text(PARAMS)
    for command in ("validate d", "prepare d", "train m", "evaluate m", "register m"):
        assert cli.main(command.split()) == 0
    return here


def change(path, old, new):
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new, 1))


def at_once():
    change("params.yaml", "learning_rate: 0.01", "learning_rate: 1.0e+30")


def later():
    steps = "{name: PiecewiseConstantDecay, boundaries: [5], values: [0.01, 1.0e+30]}"  # three steps an epoch
    change("params.yaml", "learning_rate: 0.01", f"learning_rate: {steps}")


def validation_alone():
    frame = pd.read_csv("d.csv")
    frame.loc[frame["split"] == "validation", "answer"] = 1e30
    frame.to_csv("d.csv", index=False)
    assert [cli.main([verb, "d"]) for verb in ("validate", "prepare")] == [0, 0]


@pytest.mark.parametrize(
    ("plant", "told", "kept"),
    [
        pytest.param(
            plant,
            told,
            kept,
            marks=pytest.mark.fault(
                number=35,
                what=f"a loss that is not finite {where}",
                then="exit 3 in one line before any state or model is written; nothing is registered, the run is "
                f"FAILED, the model of before and {'the last finite state are' if kept else 'all is'} kept",
            ),
        )
        for plant, where, told, kept in [
            (at_once, "in the first epoch", "epoch 1: loss is ", 0),
            (later, "in a later epoch", "epoch 3: loss is nan", 2),
            (validation_alone, "in the validation split alone", "epoch 1: val_loss is inf", 0),
        ]
    ],
)
def test_a_loss_that_is_not_finite_ends_the_training(project, capsys, plant, told, kept):
    from trainyard.training.resume import STATES, Resume

    before = {path: path.read_bytes() for path in Path("models").rglob("*") if path.is_file()}
    plant()
    capsys.readouterr()
    assert cli.main(["train", "m"]) == 3
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {told}")
    assert {path: path.read_bytes() for path in Path("models").rglob("*") if path.is_file()} == before
    states = [path for path in Path(".trainyard/resume").rglob("*.state") if path.name in STATES]
    assert len(states) == kept
    for state in states:
        arrays, about = Resume(state.parent).read()
        assert all(np.isfinite(values).all() for values in arrays.values())
        assert 1 <= len(about["rows"]) <= kept
    assert runs() == ["FINISHED", "FAILED"]
    assert len(versions()) == 1


def client():
    from trainyard.tracking import store

    with store.connected() as found:
        return found


def runs():
    (experiment,) = [one for one in client().search_experiments() if one.name == "d"]
    found = client().search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    return [run.info.status for run in found]


def versions():
    return client().search_model_versions("name = 'm'")


@pytest.mark.fault(
    number=33,
    what="TensorFlow or Python find no memory for a batch",
    then="exit 5; one line says what takes less",
)
@pytest.mark.parametrize("by", ["TensorFlow", "Python"])
def test_too_little_memory_is_told_in_one_line(project, monkeypatch, capsys, by):
    import keras
    import tensorflow as tf

    def full(*_, **__):
        raise MemoryError if by == "Python" else tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")

    monkeypatch.setattr(keras.Model, "fit", full)
    before = {path: path.read_bytes() for path in Path("models").rglob("*") if path.is_file()}
    capsys.readouterr()
    assert cli.main(["train", "m"]) == 5
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line == "error: out of memory with batches of 32 (in params.yaml a smaller `batch_size` takes less)"
    assert {path: path.read_bytes() for path in Path("models").rglob("*") if path.is_file()} == before


@pytest.mark.fault(
    number=34,
    what="no GPU where params ask for one",
    then="exit 5 in one line; with `device: auto` the training says that it takes the CPU, and why",
)
def test_a_gpu_that_is_not_there(project, monkeypatch, capsys, caplog):
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [])
    change("params.yaml", "device: cpu", "device: gpu")
    capsys.readouterr()
    assert cli.main(["train", "m"]) == 5
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: training.device is gpu, but TensorFlow ")
    change("params.yaml", "device: gpu", "device: auto")
    caplog.set_level("INFO")
    assert cli.main(["train", "m"]) == 0
    assert "device: cpu, there is no GPU" in caplog.text
