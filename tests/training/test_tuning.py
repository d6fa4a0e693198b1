"""`trainyard tune`: what is planted is found, a killed sweep loses nothing, params.yaml changes when asked."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

import optuna
import pandas as pd
import pytest
from contracts.samples import SAMPLES
from filelock import FileLock
from optuna.trial import TrialState

from trainyard import cli, params
from trainyard.quality.sweeps import Comparison
from trainyard.training import tuning

PARAMS = """\
# the head of the file
seed: 3
datasets:
  d: {kind: tables, objective: binary, path: table.csv, target: answer}
train:
  m:                           # a name
    family: mlp
    dataset: d
    layers: [8]                # few
    # how it learns
    optimizer: {name: adam, learning_rate: 0.0000001}   # far too low
    epochs: 2
    batch_size: 16

evaluate:
  m: {dataset: d}              # its twin
"""
SPACE = """\
tune:
  m:
    trials: 4
    seeds: 2
    space:
"""
PLANTED = "      optimizer.learning_rate: {choices: [0.0000001, 0.03]}\n"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A project with a table, split, and one MLflow database for all tests."""
    here, before = tmp_path_factory.mktemp("project"), Path.cwd()
    SAMPLES["tables"](here, "binary")
    (here / "params.yaml").write_text(PARAMS)
    os.chdir(here)
    try:
        assert cli.main(["validate", "d"]) == cli.main(["prepare", "d"]) == 0
    finally:
        os.chdir(before)
    return here


@pytest.fixture
def project(prepared, here, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{prepared / 'mlflow.db'}")
    shutil.copytree(prepared, here, dirs_exist_ok=True, ignore=shutil.ignore_patterns("mlflow*", "artifacts", "models"))
    return here


def write(space=PLANTED, **other):
    text = PARAMS + SPACE + space
    for old, new in other.items():
        text = text.replace(f"{old}: 2", f"{old}: {new}")
    Path("params.yaml").write_text(text)
    return text


def tune(*more):
    return cli.main(["tune", "m", *more])


def study(here="."):
    (storage,) = Path(here, tuning.ROOT).glob("*.db")
    return optuna.load_study(study_name="m", storage=f"sqlite:///{storage}")


def children(key):
    """The study's run, and those of its trials that nobody has deleted."""
    from trainyard.tracking import store

    with store.connected() as client:
        place = [client.get_experiment_by_name("d").experiment_id]
        (parent,) = client.search_runs(place, f"tags.`trainyard.study` = '{key}'")
        found = client.search_runs(place, f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
        losses = {run.info.run_id: client.get_metric_history(run.info.run_id, "val_loss") for run in found}
    return parent, {int(run.data.tags["trainyard.trial"]): (run, losses[run.info.run_id]) for run in found}, len(found)


@pytest.mark.slow
def test_what_is_planted_is_found_and_told_and_nothing_is_written(project, capsys, caplog):
    text = write()
    assert tune() == 0
    said = capsys.readouterr().out
    assert Path("params.yaml").read_text() == text
    assert "    optimizer: {name: adam, learning_rate: 0.03}        # far too low\n" in said
    assert "winner" in said
    assert "dvc repro register@m" in said
    found = study()
    assert found.best_params == {"optimizer.learning_rate": "0.03"}
    assert found.trials[0].params == {"optimizer.learning_rate": "1e-07"}, "the present block comes first"

    parent, runs, count = children(found.user_attrs["id"])
    assert count == len(runs) == 4
    assert parent.info.status == "FINISHED"
    assert "trainyard.model" not in parent.data.tags
    for number, (run, losses) in runs.items():
        trial = found.trials[number]
        told = trial.user_attrs["rows"]
        assert [(point.step, point.value) for point in losses] == [(row["epoch"], row["val_loss"]) for row in told]
        assert run.info.status == ("FINISHED" if trial.state == TrialState.COMPLETE else "KILLED")
        assert run.data.params == trial.params

    # a trial is what the line would train
    assert cli.main(["train", "m"]) == 0
    history = pd.read_csv("models/m/history.csv")
    assert found.trials[0].value == pytest.approx(history.loc[history["kept"] == 1, "val_loss"].item(), rel=1e-7)

    # once more: nothing is trained, all is told
    assert tune() == 0
    assert capsys.readouterr().out == said
    assert len(study().trials) == 4
    assert children(found.user_attrs["id"])[2] == 4
    # and two more, as the command asks for
    assert tune("--trials", "6") == 0
    assert len(study().trials) == children(found.user_attrs["id"])[2] == 6


@pytest.mark.slow
def test_apply_writes_the_best_and_keeps_comments(project, capsys):
    text = write(seeds=3)
    assert tune("--apply") == 0
    assert Path("params.yaml").read_text() == text.replace("rate: 0.0000001}   #", "rate: 0.03}        #")
    assert params.load().model("m").optimizer.learning_rate == 0.03
    assert "written into params.yaml" in capsys.readouterr().out
    assert cli.main(["check"]) == 2, "finetune and training are missing in it"


@pytest.mark.slow
def test_apply_writes_nothing_that_is_not_believed(project, monkeypatch, capsys):
    monkeypatch.setattr(Comparison, "believed", False)
    text = write(epochs=1)
    assert tune("--apply") == 0
    said = capsys.readouterr().out
    assert "\nnot believed: " in said
    assert "\n# not written: not believed\ntrain:\n  m: " in said
    assert "through the gate" not in said
    assert Path("params.yaml").read_text() == text


def test_where_the_present_block_is_best_nothing_changes(project, capsys):
    write("      layers: {choices: [[8]]}\n")
    before = Path("params.yaml").read_bytes()
    assert tune("--trials", "1", "--apply") == 0
    assert "nothing to change" in capsys.readouterr().out
    assert Path("params.yaml").read_bytes() == before


@pytest.mark.slow
def test_trials_that_are_worse_stop_early(project, monkeypatch, capsys):
    monkeypatch.setattr(tuning, "UNPRUNED", 1)
    text = write("      optimizer.learning_rate: {low: 0.0000001, high: 0.1, log: true}\n", epochs=12)
    Path("params.yaml").write_text(text.replace("rate: 0.0000001}", "rate: 0.03}"))
    assert tune("--trials", "6") == 0
    found = study().trials
    rates = {trial.state: trial.params["optimizer.learning_rate"] for trial in found}
    assert rates[TrialState.PRUNED] < 0.03
    for trial in found:
        assert len(trial.user_attrs["rows"]) == (12 if trial.state == TrialState.COMPLETE else 4), "a quarter, and one"
    assert "broken off" in capsys.readouterr().out
    runs = children(study().user_attrs["id"])[1]
    assert {runs[trial.number][0].info.status for trial in found if trial.state == TrialState.PRUNED} == {"KILLED"}


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_a_trial_and_not_the_sweep(project):
    write("      optimizer.learning_rate: {choices: [0.03, 1.0e+38]}\n      optimizer.name: {choices: [sgd]}\n")
    assert tune("--trials", "4") == 0
    ended = {trial.params["optimizer.learning_rate"]: trial.state for trial in study().trials}
    assert ended == {"0.03": TrialState.COMPLETE, "1e+38": TrialState.PRUNED}


@pytest.mark.slow
def test_a_present_block_that_diverges_is_no_end_of_the_sweep(project, capsys):
    text = write("      optimizer.learning_rate: {choices: [1.0e+38, 0.03]}\n")
    Path("params.yaml").write_text(
        text.replace("{name: adam, learning_rate: 0.0000001}", "{name: sgd, learning_rate: 1.0e+38}")
    )
    for _ in range(2):  # what was found once is read back
        assert tune("--trials", "2") == 0
        said = capsys.readouterr().out
        assert ", present failed 2 of 2 times\nbelieved: the present block fails under other seeds\n" in said
    parent, _, _ = children(study().user_attrs["id"])
    assert parent.info.status == "FINISHED"


def test_without_a_block_a_model_has_a_small_space(project):
    space = params.load().tuned("m").space
    assert {*space} == {"optimizer.learning_rate", "layers", "dropout"}
    assert space["layers"].choices == [[4], [8], [16]]


@pytest.mark.parametrize(
    ("space", "told"),
    [
        ("dropuot: {low: 0.0, high: 0.5}", "dropuot: unknown knob `dropuot`; did you mean `dropout`?"),
        (
            "learning_rate: {low: 0.1, high: 0.5}",
            "unknown knob `learning_rate`; did you mean `optimizer.learning_rate`?",
        ),
        ("optimizer.momentun: {low: 0.1, high: 0.5}", "unknown argument `momentun` of adam"),
        ("dropout: {low: 0.5, high: 0.1}", "dropout: low (0.5) must be less than high (0.1)"),
        ("dropout: {low: 0.5, high: 1.5}", "dropout: input should be less than 1, got 1.5"),
        ("batch_size: {low: 8, high: 32.5}", "batch_size: input should be a valid integer"),
        ("batch_size: {low: 8, high: 16, step: 0.5}", "batch_size: input should be a valid integer, got 8.5"),
        ("layers: {choices: [[8], [0]]}", "layers: layers.0: input should be greater than or equal to 1, got 0"),
        ("activation: {choices: [relu, tanj]}", "activation: unknown name `tanj`; did you mean `tanh`?"),
        ("dropout: {choices: [0.1], low: 0.0}", "dropout: either `choices` or a range, not both"),
        ("dropout: {low: 0.0, high: 0.5, log: true}", "dropout: `log` takes a `low` above 0, and no `step`"),
        ("dropout: {low: 0.0, hihg: 0.5}", "dropout.hihg: unknown param `hihg`; did you mean `high`?"),
        ("loss: {choices: [hinge]}", "loss: no sweep turns `loss`: trials are compared by it"),
        ("l2: {low: 0.0, high: 0.1}", "l2: no sweep turns `l2`"),
    ],
)
def test_a_space_that_cannot_be_is_refused_in_one_line(project, capsys, space, told):
    write(f"      {space}\n")
    assert tune() == cli.main(["check"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first == second
    assert first.startswith("error: params.yaml: tune.m.space.")
    assert told in first


def test_a_sweep_of_no_model_is_refused(project, capsys):
    Path("params.yaml").write_text(PARAMS + SPACE.replace("  m:", "  n:") + PLANTED)
    assert tune() == 2
    assert "tune.n: there is no model `n` in train or finetune" in capsys.readouterr().err


def test_one_process_at_a_time_has_a_study(project, capsys):
    write()
    assert tune("--trials", "1") == 0
    (storage,) = tuning.ROOT.glob("*.db")
    capsys.readouterr()
    with FileLock(storage.with_suffix(".lock")):
        assert tune() == 5
    assert capsys.readouterr().err == f"error: {storage}: another `trainyard tune m` has it (wait for its end)\n"


@pytest.mark.slow
def test_mlflow_that_is_down_costs_no_trial_and_gets_its_runs_later(project, monkeypatch, caplog):
    write()
    with socket.socket() as taken, monkeypatch.context() as patch:
        taken.bind(("127.0.0.1", 0))
        patch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{taken.getsockname()[1]}")
        assert tune("--trials", "2") == 0
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told.startswith("the sweep is not tracked: ")
    assert tune("--trials", "2") == 0
    assert sorted(children(study().user_attrs["id"])[1]) == [0, 1]


# === Sweeps that are killed ===

SWEEP = """
import os, signal, sys
from optuna.study import Study
from trainyard import cli
from trainyard.tracking.sweeps import Sweep

place, count = sys.argv[1], int(sys.argv[2])
left = [count]

def dies(owner, name, after=False):
    before = getattr(owner, name)
    def call(*arguments, **more):
        found = before(*arguments, **more) if after else None
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return found if after else before(*arguments, **more)
    setattr(owner, name, call)

if place == "epoch":
    from optuna.trial import Trial
    dies(Trial, "report")
elif place == "asked":
    dies(Study, "ask", after=True)
elif place == "not yet told":
    dies(Study, "tell")
elif place == "run half written":
    from mlflow import MlflowClient
    dies(MlflowClient, "log_batch")
elif place == "told lost, not yet repeated":
    dies(Study, "enqueue_trial")
elif place == "seed":
    dies(Study, "set_user_attr")
os._exit(cli.main(["tune", "m"]))
"""
RANGE = "      optimizer.learning_rate: {low: 0.001, high: 0.1, log: true}\n      dropout: {low: 0.0, high: 0.5}\n"


def sweep(here, place="never", count=0):
    command = [sys.executable, "-c", SWEEP, place, str(count)]
    return subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)


def ended(found):
    return [
        (trial.params, trial.value, trial.intermediate_values)
        for trial in found.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
    ]


RECURRENT = """\
seed: 3
datasets:
  d: {kind: series, path: series.csv, time: day, target: level, window: 6, horizon: 2}
train:
  m: {family: rnn, dataset: d, units: [4], epochs: 2, batch_size: 16}
evaluate:
  m: {dataset: d}
"""
SWEPT = {
    "mlp": PARAMS.replace("0.0000001", "0.01") + SPACE + RANGE,
    "rnn": RECURRENT + SPACE + RANGE.replace("dropout", "head_dropout"),
}


@pytest.fixture(scope="module")
def undisturbed(prepared, tmp_path_factory):
    """A project with a family's params and data, and what its sweep comes to where nobody kills it."""

    @cache
    def of(family):
        here, there = tmp_path_factory.mktemp(family), tmp_path_factory.mktemp("undisturbed")
        if family == "mlp":
            shutil.copytree(prepared, here, dirs_exist_ok=True, ignore=shutil.ignore_patterns("mlflow*", "artifacts"))
        (here / "params.yaml").write_text(SWEPT[family])
        if family == "rnn":
            SAMPLES["series"](here, "forecast")
            for verb in ("validate", "prepare"):
                subprocess.run([sys.executable, "-m", "trainyard.cli", verb, "d"], cwd=here, check=True)
        shutil.copytree(here, there, dirs_exist_ok=True)
        done = sweep(there)
        assert done.returncode == 0, done.stderr
        return here, ended(study(there))

    return of


@pytest.mark.fault
@pytest.mark.parametrize(
    ("family", "kills"),
    [
        ("mlp", (("epoch", 4), ("told lost, not yet repeated", 1))),
        ("mlp", (("asked", 2), ("run half written", 4))),
        ("mlp", (("not yet told", 2), ("seed", 3))),
        ("rnn", (("epoch", 3), ("asked", 2))),
    ],
    ids=lambda told: told if isinstance(told, str) else ", ".join(place for place, _ in told),
)
def test_a_sweep_killed_twice_loses_no_trial_and_counts_none_twice(
    prepared, here, monkeypatch, undisturbed, family, kills
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{prepared / 'mlflow.db'}")
    untouched, expected = undisturbed(family)
    shutil.copytree(untouched, here, dirs_exist_ok=True)
    for place, count in kills:
        killed = sweep(".", place, count)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = sweep(".")
    assert again.returncode == 0, again.stderr
    found = study()
    assert ended(found) == expected, "the same trials, to the same bits"
    assert {trial.state for trial in found.trials} <= {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}
    repeated = [trial.user_attrs["again"] for trial in found.trials if "again" in trial.user_attrs]
    lost = [trial.number for trial in found.trials if trial.state == TrialState.FAIL]
    assert sorted(repeated) == lost, "each trial that was killed is repeated once"
    parent, runs, count = children(found.user_attrs["id"])
    assert parent.info.status == "FINISHED"
    assert sorted(runs) == [trial.number for trial in found.trials if trial.state != TrialState.FAIL]
    assert count == len(runs) == 4
    assert "RUNNING" not in {run.info.status for run, _ in runs.values()}
    assert all(len({point.step for point in losses}) == len(losses) for _, losses in runs.values())
    assert not list(tuning.ROOT.glob("*/")), "no state is left"
