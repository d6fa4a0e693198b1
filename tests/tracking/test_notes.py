"""What MLflow's pages say in words, and what a verdict says of the champion before."""

import pandas as pd
import pytest

from trainyard import tracking
from trainyard.tracking import registry
from trainyard.tracking.store import KIND, NOTE


def run_of(client, project):
    experiment = client.get_experiment_by_name(project.dataset)
    return experiment, client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])[0]


def test_experiment_run_and_model_say_what_they_are(project, client):
    project.asked = {"use": "to tell yes from no"}
    project.propose("first", 2)
    experiment, run = run_of(client, project)
    assert experiment.tags[NOTE] == (
        "`table.csv` (tables, binary): 120 examples to train, 40 to choose the epoch, 40 to test."
    )
    assert experiment.tags[KIND] == "custom_model_development"
    told, *figures = run.data.tags[NOTE].split("\n\n")
    assert told == ("accuracy **0.95** [0, 1] on 40 test examples; logistic regression 1; shares of the classes 0.5.")
    names = ["answers", "importance", "learning", "mistakes"]
    address = f"get-artifact?path=evaluation/{{0}}.png&run_uuid={run.info.run_id}"
    assert figures == [f"![{name}.png]({address.format(name)})" for name in names]
    model = client.get_registered_model(project.name)
    assert model.description.startswith(f"`mlp` for `{project.dataset}` (tables, binary): to tell yes from no.\n")


def test_what_is_said_follows_what_is_there(project, client):
    project.propose("first", 2)
    project.evaluate(wrong=4)
    project.asked = {"use": "for more"}
    tracking.publish(project.name, project.params)
    _, run = run_of(client, project)
    assert run.data.tags[NOTE].startswith("accuracy **0.9** ")
    assert ": for more." in client.get_registered_model(project.name).description


def test_a_verdict_tells_the_champion_before_and_what_was_changed(project):
    assert project.propose("first", 10)["before"] is None
    project.train("second", epochs=5)
    project.evaluate(wrong=0)
    verdict = project.register()
    change = {"what": "epochs", "was": "3", "now": "5"}
    assert verdict["before"] == {"value": 0.75, "changed": [change]}
    assert project.register() == verdict, "as champion it is held against the same"


def test_the_same_params_on_other_data_are_told_apart(project, monkeypatch):
    project.propose("first", 10)
    # no Keras model is there that could be asked about the new rows
    monkeypatch.setattr(tracking, "scores_on", lambda _, data: pd.Series(0.75, data.test.rows.index))
    project.write_table(["yes", "no"])
    (change,) = project.propose("second", 0)["before"]["changed"]
    assert change["what"] == "prepared data"
    assert change["was"] != change["now"]


@pytest.mark.parametrize("lost", ["its run", "its scores"])
def test_what_is_no_longer_known_is_not_made_up(project, client, lost, monkeypatch):
    project.propose("first", 10)
    _, run = run_of(client, project)
    if lost == "its run":
        scores = registry.scores_on
        monkeypatch.setattr(
            tracking, "scores_on", lambda *asked: (scores(*asked), client.delete_run(run.info.run_id))[0]
        )
        before = project.propose("second", 0)["before"]
        assert before == {"value": 0.75, "changed": None}
    else:
        client.set_tag(run.info.run_id, "trainyard.test", "other rows")
        assert project.propose("second", 0)["before"] is None
