"""The registry holds each content once, whatever was there before, and is whole after every publish."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trainyard import files, tracking
from trainyard.errors import BadInput, EnvironmentFailed
from trainyard.tracking import pyfunc, registry, runs


def versions(client, project):
    return sorted(int(version.version) for version in client.search_model_versions(f"name = '{project.name}'"))


def live_runs(client, project):
    experiment = client.get_experiment_by_name(project.dataset)
    return client.search_runs([experiment.experiment_id])


@pytest.fixture
def made(project):
    project.train()
    project.evaluate(wrong=2)
    return project


def test_publish_writes_what_the_files_say(made, client):
    mine = tracking.publish(made.name, made.params)
    (run,) = live_runs(client, made)
    assert run.info.run_name == f"{made.name}-{mine.content[:8]}"
    assert run.info.status == "FINISHED"
    assert run.data.params["data.path"] == "table.csv"
    assert run.data.params["layers"] == "[64, 32]"
    assert run.data.params["optimizer.learning_rate"] == "0.001"
    assert [m.value for m in client.get_metric_history(run.info.run_id, "loss")] == [1.0, 0.75, 0.5]
    assert run.data.metrics["test/accuracy"] == pytest.approx(0.95)
    assert "test/auc" not in run.data.metrics
    assert run.data.metrics["naive/accuracy"] == 0.5
    assert {d.tags[0].value: d.dataset.name for d in run.inputs.dataset_inputs} == dict.fromkeys(
        ("train", "validation", "test"), made.dataset
    )
    logged = {Path(file.path).name for file in client.list_artifacts(run.info.run_id, "evaluation")}
    figures = {"learning.png", "answers.png", "mistakes.png", "importance.png"}
    assert logged == {"scores.csv", "importance.csv", "metrics.json", *figures}
    version = client.get_model_version(made.name, mine.version)
    assert version.tags["trainyard.content"] == mine.content == runs.content_of(made.folder)
    assert version.run_id == run.info.run_id
    assert {"trainyard.data", "trainyard.params", "trainyard.run"} <= version.tags.keys()


def test_a_second_publish_changes_nothing(made, client):
    first = tracking.publish(made.name, made.params)
    second = tracking.publish(made.name, made.params)
    assert first == second
    assert versions(client, made) == [1]
    (run,) = live_runs(client, made)
    assert len(client.get_metric_history(run.info.run_id, "test/accuracy")) == 1


def test_a_new_evaluation_goes_to_the_same_run(made, client):
    tracking.publish(made.name, made.params)
    made.evaluate(wrong=4)
    tracking.publish(made.name, made.params)
    (run,) = live_runs(client, made)
    assert run.data.metrics["test/accuracy"] == pytest.approx(0.9)
    assert versions(client, made) == [1]


def test_a_deleted_run_is_rebuilt(made, client):
    tracking.publish(made.name, made.params)
    (before,) = live_runs(client, made)
    client.delete_run(before.info.run_id)
    tracking.publish(made.name, made.params)
    (after,) = live_runs(client, made)
    assert after.info.run_id != before.info.run_id
    assert after.data.metrics["test/accuracy"] == before.data.metrics["test/accuracy"]
    assert versions(client, made) == [1]


@pytest.mark.bad_input(number=82, what="a deleted experiment", then="brought back by `publish`")
@pytest.mark.bad_input(number=83, what="a deleted version", then="made again by `publish`")
def test_a_deleted_experiment_and_a_deleted_version_come_back(made, client):
    mine = tracking.publish(made.name, made.params)
    client.delete_model_version(made.name, mine.version)
    client.delete_experiment(client.get_experiment_by_name(made.dataset).experiment_id)
    assert tracking.publish(made.name, made.params).version == "2"
    assert client.get_experiment_by_name(made.dataset).lifecycle_stage == "active"


def test_slices_and_seeds_are_metrics_of_the_run(made, client):
    metrics = files.read_json(made.report / "metrics.json")
    ends = {"examples": 12, "value": 0.75, "low": 0.5, "high": None}
    metrics["slices"] = {"label": {"no": ends, "": ends}, "size": {"< 1.5": ends, "> 1.5": {**ends, "value": 0.25}}}
    metrics["over_seeds"] = {"accuracy": {"value": 0.9, "low": 0.8, "high": 1.0, "each": {"1": 0.95, "2": 0.85}}}
    files.write_json(made.report / "metrics.json", metrics)
    tracking.publish(made.name, made.params)
    (run,) = live_runs(client, made)
    told = {name: value for name, value in run.data.metrics.items() if name.startswith(("slice/", "over_seeds/"))}
    assert told == {
        f"slice/{place}/{name}": figure
        for place, value in [("label/no", 0.75), ("label/_", 0.75), ("size/_ 1.5", 0.75), ("size/_ 1.5 2", 0.25)]
        for name, figure in [("examples", 12), ("accuracy", value), ("accuracy_low", 0.5)]
    } | {"over_seeds/accuracy": 0.9, "over_seeds/accuracy_low": 0.8, "over_seeds/accuracy_high": 1.0}


@pytest.mark.parametrize(
    "cut",
    ["log_batch", "log_inputs", "log_artifact", "log_model_artifacts", "finalize_logged_model", "create_model_version"],
)
def test_a_publish_that_breaks_off_is_completed_by_the_next(made, client, monkeypatch, cut):
    from mlflow import MlflowClient

    def broken(*args, **kwargs):
        raise ConnectionError("planted")

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, cut, broken)
        with pytest.raises(EnvironmentFailed, match="planted"):
            tracking.publish(made.name, made.params)
    mine = tracking.publish(made.name, made.params)
    (run,) = live_runs(client, made)
    assert run.info.status == "FINISHED"
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 3
    assert len(client.list_artifacts(run.info.run_id, "evaluation")) == 7
    assert versions(client, made) == [1]
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert model.status == "READY"
    assert mine.uri == f"models:/{made.name}/1"


def test_no_publish_of_a_model_that_was_not_evaluated(made):
    shutil.rmtree(made.report)
    with pytest.raises(BadInput, match=r"metrics.json: not found"):
        tracking.publish(made.name, made.params)


def test_scores_of_a_version_are_its_own_on_the_same_rows_alone(made, client, monkeypatch):
    mine = tracking.publish(made.name, made.params)
    monkeypatch.setattr(pyfunc, "answers", lambda model, data: pytest.fail("asked the model"))
    scores = tracking.scores_on(mine, made.data)
    assert scores.index.equals(made.data.test.rows.index)
    assert scores.sum() == 38
    made.prepare(seed=2)
    asked = []
    monkeypatch.setattr(
        pyfunc,
        "answers",
        lambda model, data: asked.append((model / "MLmodel").is_file()) or data.test.target[:, None] * 1.0,
    )
    assert tracking.scores_on(mine, made.data).sum() == 40
    assert asked == [True]


def test_lineage_is_that_of_the_model_alone(made):
    def lineage(*digests):
        others = [f"train@{made.dataset}", f"register@{made.name}"]  # another model, called as the data is
        stages = [f"prepare@{made.dataset}", f"train@{made.name}", *others]
        entries = [f"  {stage}: {{md5: {digest}}}\n" for stage, digest in zip(stages, digests, strict=True)]
        Path("dvc.lock").write_text("schema: '2.0'\nstages:\n" + "".join(entries))
        return registry.lineage(made.name, made.dataset)

    whole = lineage(1, 1, 1, 1)
    assert whole not in (lineage(2, 1, 1, 1), lineage(1, 2, 1, 1))
    assert lineage(1, 1, 2, 1) == lineage(1, 1, 1, 2) == whole


def test_importing_the_room_imports_neither_mlflow_nor_keras():
    code = "import sys, trainyard.tracking; assert not {'mlflow', 'keras', 'tensorflow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
