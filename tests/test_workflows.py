"""The workflows: what each may do, that each `run:` is one command of the project, and what their jobs come to."""

import json
import re
import shutil
from fnmatch import fnmatch
from pathlib import Path

import pandas as pd
import pytest
import workflow_runner
from workflow_runner import ROOT, STUBS, Repository, load, passed

from trainyard import cli, params
from trainyard.reporting import figure

NAMES = sorted(path.name for path in (ROOT / ".github/workflows").iterdir())
JOBS = [(name, job) for name in NAMES for job in load(name)["jobs"]]
STEPS = [(name, job, step) for name, job in JOBS for step in load(name)["jobs"][job]["steps"]]
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
VERBS = set(cli._parser()._subparsers._group_actions[0].choices)


def fault_of(command):
    """Why a `run:` is not one command of this project; "" where it is."""
    found = re.fullmatch(r"(make|trainyard) ([a-z-]+)", command)
    if not found:
        return "not one make target or trainyard verb"
    return "" if found[2] in (TARGETS if found[1] == "make" else VERBS) else f"no such command: {found[2]}"


# === What stands in them ===


def test_there_are_those_that_the_documents_tell_of():
    assert NAMES == ["ci.yml", "drift.yml", "newest.yml", "promote.yml", "release.yml", "retrain.yml"]


@pytest.mark.parametrize("command", sorted({step["run"] for *_, step in STEPS if "run" in step}))
def test_each_run_is_one_command_of_the_project(command):
    assert not fault_of(command)


@pytest.mark.parametrize(
    "command",
    [
        "make nothing",
        "make check test",
        "make check && make test",
        "make check | tee log",
        "make check\nmake test",
        "trainyard dance",
        "trainyard train ${{ matrix.model }}",
        "echo 1",
    ],
)
def test_another_run_would_be_found(command):
    assert fault_of(command)


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_may_do_nothing_and_runs_one_at_a_time(name):
    workflow = load(name)
    assert workflow["permissions"] == {}
    assert workflow["defaults"] == {"run": {"shell": "bash"}}
    # what is pushed half, or offered half, is worse than a wait; checks of an old commit are worth nothing
    assert workflow["concurrency"]["cancel-in-progress"] == (name in ("ci.yml", "newest.yml"))
    assert not {"pull_request_target", "workflow_run", "issue_comment"} & set(workflow["on"])
    # a run that waits would be cancelled by the next: a merge that nobody is asked about any more
    assert (workflow["concurrency"].get("queue") == "max") == (name == "promote.yml")


@pytest.mark.parametrize(("name", "job"), JOBS)
def test_a_job_has_a_limit_and_its_own_permissions_and_needs_jobs_that_are_there(name, job):
    jobs = load(name)["jobs"]
    told = jobs[job]
    assert 5 <= told["timeout-minutes"] <= 360
    assert told["permissions"]
    needs = [told["needs"]] if "needs" in told else []
    assert set(needs) <= set(jobs)
    for need, output in re.findall(r"needs\.(\w+)\.outputs\.(\w+)", json.dumps(told)):
        assert need in needs
        assert output in jobs[need]["outputs"]
    writes = {right for right, level in told["permissions"].items() if level == "write"}
    expected = {
        ("retrain.yml", "offer"): {"contents", "pull-requests"},
        ("drift.yml", "retrain"): {"actions"},
        ("release.yml", "pypi"): {"id-token"},
        ("release.yml", "github"): {"contents"},
    }
    assert writes == expected.get((name, job), set())


@pytest.mark.parametrize(("name", "job"), JOBS)
def test_a_runner_of_ones_own_runs_no_pull_request_and_can_write_nothing(name, job):
    workflow = load(name)
    told = workflow["jobs"][job]
    if told["runs-on"] != "ubuntu-24.04":
        assert (name, job) == ("retrain.yml", "train")
        assert "pull_request" not in workflow["on"]
        assert set(told["permissions"].values()) == {"read"}
        assert told["environment"]


@pytest.mark.parametrize(("name", "job"), JOBS)
def test_a_secret_is_of_an_environment_and_goes_to_no_pull_request(name, job):
    workflow = load(name)
    if "secrets." in json.dumps(workflow["jobs"][job]):
        assert workflow["jobs"][job]["environment"]
        assert "pull_request" not in workflow["on"]


@pytest.mark.parametrize("uses", sorted({step["uses"] for *_, step in STEPS if "uses" in step}))
def test_each_action_is_a_commit_and_known_to_the_runner_of_these_tests(uses):
    action, commit = uses.split("@")
    assert action in STUBS
    assert re.fullmatch(r"[0-9a-f]{40}", commit)


def test_no_checkout_leaves_a_token_behind():
    checkouts = [step for *_, step in STEPS if step.get("uses", "").startswith("actions/checkout@")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)
    assert len(checkouts) == len(JOBS) - 1  # pypi checks nothing out


def test_the_models_of_the_matrix_are_those_that_ship():
    matrix = load("ci.yml")["jobs"]["model"]["strategy"]["matrix"]
    assert sorted(matrix["model"]) == sorted(params.load(ROOT / "params.yaml").models)


def test_what_a_retraining_changes_starts_none():
    started = load("retrain.yml")["on"]["push"]["paths"]
    assert not [path for path in started if path.startswith(("dvc.lock", "reports"))]


def starts(path, patterns):
    """As GitHub does it, of patterns with `**` at their ends alone: the last that fits has the word."""
    told = [not pattern.startswith("!") for pattern in patterns if fnmatch(path, pattern.removeprefix("!"))]
    return bool(told) and told[-1]


def test_new_data_of_any_dataset_starts_a_retraining():
    patterns = load("retrain.yml")["on"]["push"]["paths"]
    paths = {name: Path(spec.path) for name, spec in params.load(ROOT / "params.yaml").datasets.items()}
    inside = {name: path / "file" if (ROOT / path).is_dir() else path for name, path in paths.items()}
    assert not {name: path for name, path in inside.items() if not starts(path.as_posix(), patterns)}
    assert not starts("data/README.md", patterns)
    assert not starts("elsewhere/table.csv", patterns)


def test_the_runner_of_these_tests_refuses_what_it_does_not_know():
    with pytest.raises(NotImplementedError):
        workflow_runner.evaluate("${{ hashFiles('a') }}", {})
    contexts = {"vars": {"A": "a"}, "needs": {"b": {"outputs": {"c": "true"}}}}
    assert workflow_runner.evaluate("${{ vars.A || 'z' }}-${{ vars.B || 'z' }}", contexts) == "a-z"
    assert workflow_runner.evaluate("${{ needs.b.outputs.c == 'true' }}", contexts) is True
    assert not workflow_runner.evaluate("${{ (vars.B || vars.C) && !vars.A }}", contexts)


# === What they come to ===


def results(jobs):
    return {name: job.result for name, job in jobs.items()}


@pytest.mark.slow
def test_retraining_from_a_change_to_the_champion(tmp_path):
    github = Repository(tmp_path)

    # the first time all of it has to run; the machine that trains brings results, and nothing that runs
    jobs = github.run("retrain.yml", "decide", "train")
    for planted in ("Makefile", "src/trainyard/__main__.py", "src/trainyard/offer.py"):
        (github.home / "artifacts/result" / planted).parent.mkdir(parents=True, exist_ok=True)
        (github.home / "artifacts/result" / planted).write_text("$(error planted)")
    jobs = github.run("retrain.yml", "offer", done=jobs)
    passed(jobs)
    assert jobs["decide"].outputs == {"changed": "true"}
    ((arguments, _),) = github.gh.asked("pr", "create")
    assert arguments[arguments.index("--title") + 1] == "Retrain mlp"
    assert github.aliases() == {"challenger": 1}  # it passed, and waits for a person
    github.merge("something else")
    passed(github.run("promote.yml"))
    assert github.aliases() == {"challenger": 1, "champion": 1}

    # nothing changed: nothing retrained
    jobs = github.run("retrain.yml")
    assert jobs["decide"].outputs == {"changed": "false"}
    assert results(jobs) == {"decide": "success", "train": "skipped", "offer": "skipped"}

    # a change: figures against main, of the files that are offered; nobody merges them, and nothing is trained twice
    github.edit("epochs: 4", "epochs: 1")
    jobs = github.run("retrain.yml")
    passed(jobs)
    assert "Running stage 'validate@tumours'" not in jobs["train"].log  # pulled
    assert "Running stage 'train@mlp'" in jobs["train"].log
    jobs = github.run("retrain.yml")
    passed(jobs)
    assert "Stage 'train@mlp' is cached - skipping run" in jobs["train"].log
    assert len(github.gh.asked("api", "--method", "PATCH")) == 1
    (_, (arguments, body)) = github.gh.asked("pr", "create")
    branch = arguments[arguments.index("--head") + 1]
    github.git("fetch", "-q", "origin", cwd=github.work)
    before, now = github.metrics("origin/main"), github.metrics(f"origin/{branch}")
    assert before["accuracy"]["value"] != now["accuracy"]["value"]
    for metric, told in {"accuracy": "more is better", "log_loss": "less is better"}.items():
        old, new = ({end: figure(value) for end, value in of[metric].items()} for of in (before, now))
        ends = f"{old['value']} [{old['low']}, {old['high']}] | {new['value']} [{new['low']}, {new['high']}]"
        shift = now[metric]["value"] - before[metric]["value"]
        assert (
            f"{metric.replace('_', ' ')}, {told} | {ends} | {'+' if shift > 0 else ''}{figure(shift)}, worse |" in body
        )
    assert "- `train.mlp.epochs`: 4 → 1" in body
    assert "(https://github.example/o/r/actions/runs/42)" in body
    changed = github.git("diff", "--name-only", "origin/main", f"origin/{branch}", cwd=github.work).split()
    assert changed == ["dvc.lock", "reports/models/mlp/metrics.json"]

    # refused: the offer says so, and after a merge the promotion does, with exit code 4
    refused = [line for line in jobs["offer"].log.splitlines() if line.startswith("::warning title=Gate::mlp: refused")]
    assert refused
    assert "**refused**: " in jobs["offer"].summary
    assert arguments[arguments.index("--title") + 1] == "Retrain mlp (refused)"
    github.merge()
    jobs = github.run("promote.yml")
    assert results(jobs) == {"promote": "failure"}
    assert re.search(
        r"error: mlp: version 2 did not pass the gate \(failed: .*\); version 1 stays champion", jobs["promote"].log
    )
    assert "Error 4" in jobs["promote"].log
    assert github.aliases() == {"challenger": 2, "champion": 1}


@pytest.mark.slow
def test_drift_fails_its_job_and_starts_a_retraining(tmp_path):
    github = Repository(tmp_path)
    table = pd.read_csv(github.work / "data/tumours.csv")
    github.vars |= {"DRIFT_DATASET": "tumours", "DRIFT_DATA": "new.csv"}
    table.sample(200, random_state=1).to_csv(github.work / "new.csv", index=False)
    github.push("the same")
    del github.vars["DVC_REMOTE"]  # which is empty
    jobs = github.run("drift.yml")
    assert results(jobs) == {"drift": "success", "retrain": "skipped"}, jobs["drift"].log
    assert jobs["drift"].outputs == {"drift": "false"}

    table.assign(mean_radius=table["mean_radius"] * 2).to_csv(github.work / "new.csv", index=False)
    github.push("others")
    shutil.rmtree(github.home / "artifacts")
    jobs = github.run("drift.yml")
    assert results(jobs) == {"drift": "failure", "retrain": "success"}, jobs["drift"].log
    assert "::error title=Drift::new.csv is not like tumours: " in jobs["drift"].log
    assert "mean_radius" in jobs["drift"].summary
    assert (github.home / "artifacts/drift/tumours/page.html").is_file()
    assert len(github.gh.asked("workflow", "run", "retrain.yml")) == 1

    # a check that fails itself is no drift
    (github.work / "new.csv").write_text("mean_radius\n")
    github.push("nothing")
    shutil.rmtree(github.home / "artifacts")
    assert results(github.run("drift.yml")) == {"drift": "failure", "retrain": "skipped"}
    assert not (github.home / "artifacts").exists()


@pytest.mark.slow
def test_models_side_by_side_are_the_line(tmp_path):
    github = Repository(tmp_path)
    climate = "{kind: series, path: data/climate.csv, time: month, target: sea_temperature, window: 12, horizon: 2}"
    github.edit("train:\n", f"  climate: {climate}\ntrain:\n")
    github.edit("finetune:", "  rnn: {family: rnn, dataset: climate, units: [4], epochs: 2}\nfinetune:")
    github.edit("training:", "  rnn: {dataset: climate}\ntraining:")

    # one job a model, then the line, which trains nothing
    jobs = github.run("ci.yml", "model", matrix={"model": ["mlp", "rnn"]})
    assert "Running stage 'train@rnn'" in jobs["model"].log, jobs["model"].log
    assert "Running stage 'register@" not in jobs["model"].log
    jobs = github.run("ci.yml", "line", done=jobs)
    passed(jobs)
    assert "Running stage 'train@" not in jobs["line"].log
    assert "Running stage 'register@mlp'" in jobs["line"].log

    # two stages at a time on one machine: the same lock
    place = github.clone()
    github.shell(place, "make repro JOBS=2")
    github.shell(place, "make settled")
    assert (place / "dvc.lock").read_bytes() == (jobs["line"].place / "dvc.lock").read_bytes()
