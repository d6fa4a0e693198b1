"""The gate's verdict, the aliases it moves, and that a second register of the same state says the same bytes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import artifacts

from trainyard import tracking
from trainyard.errors import BadInput, EnvironmentFailed
from trainyard.tracking import ledger


def aliases(client, project):
    return {alias: int(version) for alias, version in client.get_registered_model(project.name).aliases.items()}


def outcome(verdict):
    return verdict["decision"], [check["name"] for check in verdict["checks"] if not check["passed"]]


@pytest.mark.bad_input(number=83, what="no champion yet", then="the first good model becomes it")
def test_the_first_good_model_is_champion(project, client):
    project.train()
    project.evaluate(wrong=2)
    project.floor = {"accuracy": 0.9}
    verdict = project.register()
    assert outcome(verdict) == ("champion", [])
    assert verdict["against"] == ""
    assert [check["name"] for check in verdict["checks"]] == [
        "floor accuracy",
        "better than naive",
        "better than the champion",
    ]
    assert aliases(client, project) == {"challenger": 1, "champion": 1}
    card = (project.report / "card.md").read_text()
    assert "**Passed** its gate: mlp with 10 parameters" in card
    assert "left to a person" not in card
    assert "| accuracy | 0.950 | 0.000 to 1.000 | 0.500 | 1.000 |" in card
    assert "| auc | - | - to - | 0.500 | - |" in card
    assert f"# {project.name}\n\n{client.get_model_version(project.name, '1').description}" == card


def test_what_waits_for_approval_is_no_champion_until_it_is_promoted(project, client, monkeypatch):
    monkeypatch.setenv("TRAINYARD_APPROVAL", "required")
    project.floor = {"accuracy": 0.9}
    verdict = project.propose("first", 2)
    assert verdict["passed"]
    assert verdict["decision"] == "challenger"
    told = f"Whether it is champion is left to a person: `trainyard promote {project.name}` makes it that."
    assert verdict["remark"] == told
    assert f"\n{told}\n" in client.get_model_version(project.name, "1").description
    assert aliases(client, project) == {"challenger": 1}
    tracking.promote(project.name, None, None)
    assert aliases(client, project) == {"challenger": 1, "champion": 1}
    assert project.register()["decision"] == "champion"  # it reigns, whoever is asked


def test_registering_again_says_the_same_bytes(project, client):
    project.train()
    project.evaluate(wrong=8)
    project.register()
    first = [(project.report / file).read_bytes() for file in ("verdict.json", "card.md")]
    project.register()
    assert [(project.report / file).read_bytes() for file in ("verdict.json", "card.md")] == first
    project.train("better")
    project.evaluate(wrong=0)
    assert outcome(project.register()) == ("champion", [])
    second = (project.report / "verdict.json").read_bytes()
    project.register()  # the champion is this very content: compared with the one it beat, not with itself
    assert (project.report / "verdict.json").read_bytes() == second
    assert aliases(client, project) == {"challenger": 2, "champion": 2}


def test_a_card_says_nothing_that_a_later_champion_makes_untrue(project, client):
    for weights, wrong in [("first", 14), ("worse", 18), ("better", 7)]:
        project.propose(weights, wrong)
    cards = [client.get_model_version(project.name, version).description for version in "123"]
    told = ["Passed", "Did not pass", "Passed"]
    assert [f"**{how}** its gate: mlp" in card for how, card in zip(told, cards, strict=True)] == [True] * 3
    assert not any(word in card for word in ("Champion", "Challenger") for card in cards)


def test_a_tie_keeps_the_champion(project, client):
    project.train("first")
    project.evaluate(wrong=4)
    project.register()
    project.train("as good")
    project.evaluate(wrong=4)
    verdict = project.register()
    assert outcome(verdict) == ("challenger", ["better than the champion"])
    assert verdict["against"] == tracking.champion(project.name).content
    assert aliases(client, project) == {"challenger": 2, "champion": 1}


def test_a_worse_model_is_refused(project, client):
    project.train("first")
    project.evaluate(wrong=0)
    project.register()
    project.train("worse")
    project.evaluate(wrong=12)
    assert outcome(project.register()) == ("challenger", ["better than the champion"])
    assert aliases(client, project) == {"challenger": 2, "champion": 1}


def test_a_margin_asks_for_more(project, client):
    project.train("first")
    project.evaluate(wrong=10)
    project.register()
    project.train("better")
    project.evaluate(wrong=0)
    project.margin = 0.5
    assert outcome(project.register()) == ("challenger", ["better than the champion"])
    project.margin = 0.05
    assert outcome(project.register()) == ("champion", [])
    assert aliases(client, project) == {"challenger": 2, "champion": 2}


def test_a_model_that_is_better_on_average_and_surely_worse_on_a_slice_is_refused(project, client):
    project.slices = ["label"]
    project.train("first")
    project.evaluate({"no": 20, "yes": 0}, naive_wrong=40)
    verdict = project.register()
    assert outcome(verdict) == ("champion", [])
    assert verdict["checks"][-1]["reason"] == "there was no champion"
    project.train("better on average")
    project.evaluate({"no": 0, "yes": 8}, naive_wrong=40)
    assert outcome(project.register()) == ("challenger", ["no slice is worse than the champion"])
    project.slice_margin = 0.7
    assert outcome(project.register()) == ("champion", [])
    project.slices = ["lable"]
    with pytest.raises(BadInput, match=r"slices: .* have no column `lable`; did you mean `label`\?"):
        project.register()
    assert aliases(client, project) == {"challenger": 2, "champion": 2}


@pytest.mark.parametrize(
    ("wrong", "naive_wrong", "failed"),
    [(8, 20, ["floor accuracy"]), (2, 2, ["better than naive"]), (8, 8, ["floor accuracy", "better than naive"])],
)
def test_without_a_champion_floor_and_baseline_still_refuse(project, client, wrong, naive_wrong, failed):
    project.floor = {"accuracy": 0.9}
    project.train()
    project.evaluate(wrong, naive_wrong)
    assert outcome(project.register()) == ("challenger", failed)
    assert aliases(client, project) == {"challenger": 1}


def test_a_metric_that_is_not_defined_reaches_no_floor(project):
    project.floor = {"auc": 0.1}
    project.train()
    project.evaluate(wrong=2)
    assert outcome(project.register()) == ("challenger", ["floor auc"])


def test_going_back_to_earlier_params(project, client):
    for epochs, wrong, decision in [(10, 0, "champion"), (3, 12, "challenger"), (10, 0, "champion")]:
        project.train(f"{epochs} epochs", epochs)
        project.evaluate(wrong)
        assert project.register()["decision"] == decision
    assert aliases(client, project) == {"challenger": 1, "champion": 1}
    assert len(client.search_model_versions(f"name = '{project.name}'")) == 2
    assert len(client.search_runs([client.get_experiment_by_name(project.dataset).experiment_id])) == 2


def test_going_back_to_what_was_beaten_does_not_take_the_crown_back(project, client):
    verdicts = {}
    for weights, wrong in [("old", 20), ("new", 0), ("old", 20), ("new", 0)]:
        project.train(weights)
        project.evaluate(wrong, naive_wrong=39)
        verdicts.setdefault(weights, []).append(project.register())
    assert [verdict["decision"] for verdict in verdicts["old"]] == ["champion", "challenger"]
    assert verdicts["new"][0] == verdicts["new"][1]
    assert aliases(client, project) == {"challenger": 2, "champion": 2}


def test_a_champion_of_other_classes_stays(project, client):
    project.train("first")
    project.evaluate(wrong=10)
    project.register()
    project.write_table(classes=["no", "perhaps"])
    project.train("second")
    project.evaluate(wrong=0)
    verdict = project.register()
    assert outcome(verdict) == ("challenger", ["better than the champion"])
    assert "its classes are no, yes, here they are no, perhaps" in verdict["checks"][-1]["reason"]
    assert aliases(client, project) == {"challenger": 2, "champion": 1}


def test_scores_of_another_model_are_refused(project):
    from trainyard import files

    project.train()
    project.evaluate(wrong=2)
    metrics = files.read_json(project.report / "metrics.json")
    files.write_json(project.report / "metrics.json", {**metrics, "sha256": "0" * 64})
    with pytest.raises(BadInput, match="about another model"):
        project.register()


def test_scores_of_other_rows_are_refused(project):
    project.train()
    project.evaluate(wrong=2)
    project.prepare(seed=2)
    with pytest.raises(BadInput, match=r"scores.csv: not about the rows of build"):
        project.register()


@pytest.mark.bad_input(
    number=83,
    what="a champion without signature, files or tags",
    then="it stays; `trainyard has not made it` is the verdict's reason",
)
def test_a_champion_that_trainyard_has_not_made_stays(project, client):
    client.create_registered_model(project.name)
    client.create_model_version(project.name, "runs:/0/model", tags={})
    client.set_registered_model_alias(project.name, "champion", "1")
    project.train()
    project.evaluate(wrong=0)
    verdict = project.register()
    assert outcome(verdict) == ("challenger", ["better than the champion"])
    assert "trainyard has not made it" in verdict["checks"][-1]["reason"]
    assert aliases(client, project) == {"challenger": 2, "champion": 1}


def test_an_alias_that_somebody_else_moves_meanwhile_is_noticed(project, client, monkeypatch):
    from mlflow import MlflowClient

    project.train("first")
    project.evaluate(wrong=8)
    project.register()
    project.train("second")
    project.evaluate(wrong=0)
    moved = MlflowClient.set_registered_model_alias

    def raced(self, name, alias, version):
        moved(self, name, alias, version)
        if alias == "champion":
            moved(self, name, alias, "1")

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", raced)
    with pytest.raises(EnvironmentFailed, match="champion was moved to version 1 meanwhile"):
        project.register()


def test_a_champion_that_came_meanwhile_is_not_overthrown_unasked(project, client):
    """Two challengers beat the same champion: the later one was never compared with the earlier."""
    project.train("first")
    project.evaluate(wrong=16)
    beaten = project.register()["content"]
    looked = tracking.reign(project.name)
    project.train("second")
    project.evaluate(wrong=8)
    project.register()
    project.train("third")
    project.evaluate(wrong=0)
    third = tracking.publish(project.name, project.params)
    with pytest.raises(EnvironmentFailed, match="version 2 became champion meanwhile"):
        tracking.set_aliases(third, project.verdict(third, beaten, "champion"), "", looked)
    assert aliases(client, project) == {"challenger": 2, "champion": 2}


def test_a_line_that_is_overtaken_is_judged_again(project, client, monkeypatch, caplog):
    project.propose("first", 16)
    project.propose("rival", 4)
    tracking.rollback(project.name, "1", None)
    judged, scores_on = [], tracking.scores_on

    def slow(version, data):
        if not judged:
            tracking.rollback(project.name, "2", None)
        judged.append(version.version)
        return scores_on(version, data)

    monkeypatch.setattr(tracking, "scores_on", slow)
    verdict = project.propose("third", 8)
    assert judged == ["1", "2"]
    assert outcome(verdict) == ("challenger", ["better than the champion"])
    assert aliases(client, project) == {"challenger": 3, "champion": 2}
    assert "version 2 became champion meanwhile" in caplog.text


@pytest.mark.parametrize("moves", [["1"], ["1", "2"]], ids=["away", "away and back"])
def test_a_rollback_while_the_reigning_is_judged_again_is_not_undone(project, client, monkeypatch, moves):
    project.propose("first", 14)
    project.propose("better", 7)
    scores_on, looks = tracking.scores_on, []

    def slow(version, data):
        for to in [] if looks else moves:
            tracking.rollback(project.name, to, "wrong on Mondays")
        looks.append(version.version)
        return scores_on(version, data)

    monkeypatch.setattr(tracking, "scores_on", slow)
    project.floor = {"accuracy": 0.99}
    verdict = project.register()
    assert len(looks) == 2
    assert outcome(verdict) == ("challenger" if moves[-1] == "1" else "champion", ["floor accuracy"])
    assert aliases(client, project)["champion"] == int(moves[-1])
    assert len(ledger.read(client, project.name)) == 2 + len(moves)
    assert ledger.read(client, project.name)[-1].why == "wrong on Mondays"


PUBLISH = """
import sys
from trainyard import params, tracking
tracking.publish(sys.argv[1], params.load())
"""


@pytest.mark.slow
def test_two_that_publish_at_once_make_no_doubles(project, client):
    project.train()
    project.evaluate(wrong=2)
    project.write_params()
    started = [subprocess.Popen([sys.executable, "-c", PUBLISH, project.name]) for _ in range(2)]
    assert [process.wait(120) for process in started] == [0, 0]
    assert len(client.search_model_versions(f"name = '{project.name}'")) == 1
    assert len(client.search_runs([client.get_experiment_by_name(project.dataset).experiment_id])) == 1


def test_without_a_tracking_uri_all_stays_in_the_project(project_folder, new_project, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    project = new_project("digits")
    with tracking.live(project.name, project.params, project.data) as run:
        project.train()
        run.finished(project.folder)
    project.evaluate(wrong=2)
    assert project.register()["decision"] == "champion"
    assert {path.name for path in project_folder.iterdir()} == {"table.csv", "build", "models", "reports", "mlruns"}
    assert {path.name for path in Path("mlruns").glob("[!m]*")} == {"artifacts"}
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_a_challenger_is_not_crowned_because_the_store_is_new(project, client, caplog):
    project.train("first")
    project.evaluate(wrong=4)
    project.register()
    project.train("as good")
    project.evaluate(wrong=4)
    project.register()
    client.delete_registered_model(project.name)
    tracking.restore_aliases(tracking.publish(project.name, project.params))
    assert aliases(client, project) == {"challenger": 1}
    assert "no champion: models/ holds a challenger; its champion comes back with `dvc repro`" in caplog.text


def test_of_one_that_never_passed_no_champion_is_missed(project, client, caplog):
    project.floor = {"accuracy": 0.999}
    project.propose("too bad", 20)
    client.delete_registered_model(project.name)
    tracking.restore_aliases(tracking.publish(project.name, project.params))
    assert aliases(client, project) == {"challenger": 1}
    assert "no champion: models/ holds a challenger; none has passed its gate" in caplog.text


def test_of_one_that_waits_for_approval_it_is_told(project, client, caplog, monkeypatch):
    monkeypatch.setenv("TRAINYARD_APPROVAL", "required")
    project.floor = {"accuracy": 0.9}
    project.propose("first", 2)
    client.delete_registered_model(project.name)
    tracking.restore_aliases(tracking.publish(project.name, project.params))
    assert (
        f"models/ holds a challenger; Whether it is champion is left to a person: `trainyard promote {project.name}`"
        in (caplog.text)
    )
    assert "none has passed" not in caplog.text


def test_a_champion_comes_back_to_a_new_store(project, client):
    project.train("first")
    project.evaluate(wrong=4)
    before = project.register()
    client.delete_registered_model(project.name)
    tracking.restore_aliases(tracking.publish(project.name, project.params))
    assert aliases(client, project) == {"challenger": 1, "champion": 1}
    assert project.register() == before


@pytest.mark.parametrize(("bound", "failed"), [(0.1, []), (0.09, ["calibrated"])])
def test_a_model_that_is_surely_too_sure_of_itself_is_refused(project, bound, failed):
    project.asked = {"calibration": bound}
    project.train()
    project.evaluate(wrong=2)
    assert outcome(project.register()) == ("challenger" if failed else "champion", failed)


@pytest.mark.parametrize(("megabytes", "failed"), [(1, []), (1e-6, ["budget megabytes"])])
def test_a_model_that_is_too_large_is_refused(project, megabytes, failed):
    project.asked = {"budget": {"megabytes": megabytes}}
    project.train()
    project.evaluate(wrong=2)
    assert outcome(project.register()) == ("challenger" if failed else "champion", failed)


@pytest.mark.parametrize(("taken", "failed"), [(99.0, []), (250.0, ["budget milliseconds"])])
def test_a_model_that_is_too_slow_is_refused_and_no_file_says_how_slow(project, client, monkeypatch, taken, failed):
    from trainyard.models import saved

    monkeypatch.setattr(saved, "load", lambda path, sha256: None)
    monkeypatch.setattr(saved, "latency", lambda model, about, raw: taken)
    project.asked = {"budget": {"milliseconds": 100}}
    project.train()
    project.evaluate(wrong=2)
    verdict = project.register()
    assert outcome(verdict) == ("challenger" if failed else "champion", failed)
    (check,) = [check for check in verdict["checks"] if check["name"] == "budget milliseconds"]
    assert check["reason"].endswith("within the budget of 100 milliseconds")
    assert client.get_model_version(project.name, "1").tags["trainyard.milliseconds"] == f"{taken:.3g}"


def test_a_card_that_is_too_long_ends_with_a_whole_line_and_where_the_rest_is(project, client):
    project.asked = {"use": "To tell yes from no. " * 400}
    project.train()
    project.evaluate(wrong=2)
    project.register()
    version = client.get_model_version(project.name, "1")
    card, told = (project.report / "card.md").read_text(), version.description
    assert len(card) > 5000 >= len(told)
    assert told.endswith("\n\n(The whole card: `card.md` of its run)\n")
    assert artifacts.load_text(f"runs:/{version.run_id}/card.md") == card
    kept, _, _ = told.partition("\n\n(The whole")
    assert card.startswith(f"# {project.name}\n\n{kept}\n")
