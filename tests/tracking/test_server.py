"""The same through a real MLflow server, which keeps the artifacts too; and what happens when it dies."""

import subprocess
import sys
import time

import pytest

from trainyard import cli, tracking
from trainyard.errors import EnvironmentFailed
from trainyard.tracking import ledger, pyfunc, runs

pytestmark = pytest.mark.slow


@pytest.fixture
def tracked(monkeypatch, server):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)


def train(project, weights):
    with runs.live(project.name, project.params, project.data) as run:
        for epoch in (1, 2, 3):
            run.log_epoch(epoch, {"loss": 1 / epoch})
        project.train(weights)
        run.finished(project.folder)


def test_the_line_through_a_server(project, client, monkeypatch):
    train(project, "first")
    project.evaluate(wrong=10)
    first = [project.register(), project.register()]
    assert first[0] == first[1]
    train(project, "second")
    train(project, "second")
    project.evaluate(wrong=0)
    assert [project.register()["decision"] for _ in range(2)] == ["champion", "champion"]
    experiment = client.get_experiment_by_name(project.dataset).experiment_id
    made = client.search_runs([experiment])
    assert len(made) == 2
    assert {run.info.status for run in made} == {"FINISHED"}
    assert not any("trainyard.rebuilt" in run.data.tags for run in made)
    client.delete_run(made[0].info.run_id)
    project.register()
    assert len(client.search_runs([experiment])) == 2
    assert len(client.search_model_versions(f"name = '{project.name}'")) == 2

    project.prepare(seed=2)
    asked = []
    monkeypatch.setattr(
        pyfunc,
        "answers",
        lambda model, data: asked.append((model / "MLmodel").is_file()) or data.test.target[:, None] * 1.0,
    )
    assert tracking.scores_on(tracking.champion(project.name), project.data).mean() == 1
    assert asked == [True]


def champion_of(client, project):
    return int(client.get_registered_model(project.name).aliases["champion"])


def test_the_whole_story_of_a_champion(project, client, capfd):
    project.write_params()
    assert project.propose("first", 14)["decision"] == "champion"
    assert project.propose("better", 7)["decision"] == "champion"
    assert project.propose("worse", 12)["decision"] == "challenger"
    verbs = [["gate"], ["promote"], ["rollback", "--why", "wrong on Mondays"], ["rollback"], ["promote", "3"]]
    assert [cli.main([verb, project.name, *more]) for verb, *more in verbs] == [4, 4, 0, 4, 4]
    assert champion_of(client, project) == 1
    assert cli.main(["promote", project.name, "2"]) == 0
    assert champion_of(client, project) == 2
    client.delete_model_version(project.name, "2")
    capfd.readouterr()
    assert cli.main(["ledger", project.name]) == 0
    told = capfd.readouterr().out.splitlines()
    moves = ["version 1 by register", "version 2 after version 1 by register", "version 1 after version 2 by rollback"]
    moves += ["version 2 after version 1 by promote", "the registry has lost its champion, version 2"]
    assert len(told) == len(moves)
    assert all(move in line for move, line in zip(moves, told, strict=True)), told
    assert cli.main(["rollback", project.name]) == 0
    assert champion_of(client, project) == 1


RACER = """
import sys
from trainyard import cli
for line in sys.stdin:
    print(cli.main(line.split()), flush=True)
"""


@pytest.mark.fault(
    number=26,
    what="two machines promote at the same moment, 50 times",
    then="one wins; the other ends with exit 4 and says who became champion; the ledger has no gap",
)
def test_of_two_machines_that_promote_at_once_one_wins(project, client, tmp_path):
    """50 rounds; the two share the server alone, and no lock."""
    project.propose("first", 14)
    for version, weights, wrong in [(2, "second", 6), (3, "third", 5)]:
        project.propose(weights, wrong)
        tracking.rollback(project.name, "1", None)
        assert champion_of(client, project) == 1 < version
    racers = []
    for machine in ("one", "other"):
        folder = tmp_path / machine
        folder.mkdir()
        project.write_params(folder)
        with (folder / "told").open("w") as told:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": told, "text": True}
            racers.append(subprocess.Popen([sys.executable, "-c", RACER], cwd=folder, **pipes))

    def race(*lines):
        for racer, line in zip(racers, lines, strict=True):
            racer.stdin.write(line + "\n")
            racer.stdin.flush()
        return [int(racer.stdout.readline().split()[-1]) for racer in racers]

    try:
        assert race(*[f"promote {project.name} 1"] * 2) == [0, 0]  # it is champion: nothing but the start
        won = []
        for _ in range(50):
            codes = race(f"promote {project.name} 2", f"promote {project.name} 3")
            assert sorted(codes) == [0, 4]
            won.append(2 + codes.index(0))
            assert champion_of(client, project) == won[-1]
            last = ledger.read(client, project.name)[-1]
            assert (last.verb, int(last.version), int(last.former), last.moved) == ("promote", won[-1], 1, True)
            tracking.rollback(project.name, "1", None)
    finally:
        for racer in racers:
            racer.communicate(timeout=60)
    numbers = [entry.number for entry in ledger.read(client, project.name)]
    assert numbers == list(range(1, 5 + 100 + 1))
    refusals = [line for machine in ("one", "other") for line in (tmp_path / machine / "told").read_text().splitlines()]
    assert sum(line.startswith("error: ") for line in refusals) == 50


def test_a_server_that_dies_costs_no_training(project, server, caplog):
    began = time.monotonic()
    with runs.live(project.name, project.params, project.data) as run:
        run.log_epoch(1, {"loss": 1.0})
        time.sleep(2)
        server.end()
        run.log_epoch(2, {"loss": 0.5})
        project.train()
        run.finished(project.folder)
    assert time.monotonic() - began < 30
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 1
    assert told[0].startswith("the run is not tracked live")
    project.evaluate(wrong=2)
    with pytest.raises(EnvironmentFailed, match=f"MLflow at {server.uri}: ") as refused:
        project.register()
    assert "\n" not in str(refused.value)
