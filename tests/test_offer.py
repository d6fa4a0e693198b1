"""The pull request about a retraining, from planted results; and what is made of it when it is merged."""

import json
import re
import shutil
import subprocess
from copy import deepcopy
from pathlib import Path

import pytest
from fake_gh import FakeGh
from ruamel.yaml import YAML

from trainyard import cli, offer, params

ROOT = Path(__file__).parents[1]
STAGES = YAML(typ="safe").load(ROOT / "dvc.lock")["stages"]
OURS = {name: entry for name, entry in STAGES.items() if name.partition("@")[2] in ("tumours", "mlp")}
REPORT = """\
# Report

One model, of which [its card](../reports/models/mlp/card.md) tells.

<details><summary>All metrics and figures</summary>

![How it learnt, epoch by epoch](../reports/models/mlp/learning.png)

</details>
"""
TEXT = "Its floor is 1.0 | and 50% of it"


def git(*arguments):
    done = subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


METRICS = Path("reports/models/mlp/metrics.json")


@pytest.fixture
def gh(tmp_path, monkeypatch):
    fake = FakeGh(tmp_path / "gh")
    monkeypatch.setenv("PATH", fake.path)
    for variable in (
        "GITHUB_ACTIONS",
        "GITHUB_STEP_SUMMARY",
        "GITHUB_SERVER_URL",
        "GITHUB_RUN_ID",
        "MLFLOW_TRACKING_URI",
    ):
        monkeypatch.delenv(variable, raising=False)
    return fake


@pytest.fixture
def project(tmp_path, monkeypatch, gh):
    """What ships, committed, with a remote to push to; then mlp trained for 12 epochs instead of 10, a little worse."""
    (tmp_path / "project/reports/models/mlp").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    write_lock(OURS)
    shutil.copy(ROOT / "params.yaml", ".")
    METRICS.write_text(json.dumps(before()))
    Path(".gitignore").write_text("report/\nverdict.json\nlearning.csv\n")
    git("init", "-q", "-b", "main")
    git("init", "-q", "--bare", str(tmp_path / "origin"))
    git("remote", "add", "origin", str(tmp_path / "origin"))
    git("add", "-A")
    git("commit", "-qm", "start")
    retrain(accuracy=0.964602, epochs=12)
    return params.load()


def before():
    """The metrics of the shipped mlp, with figures that no retraining of it changes."""
    found = json.loads((ROOT / METRICS).read_text())
    planted = {"accuracy": (0.925, 0.973451, 0.991), "auc": (0.955, 0.995, 1.0), "log_loss": (0.041, 0.082, 0.31)}
    for name, ends in planted.items():
        found["test"][name] = dict(zip(("low", "value", "high"), ends, strict=True))
    return found


def write_lock(stages):
    Path("dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": stages}))


def retrain(accuracy, epochs, checks=(), data=""):
    now = before()
    now["test"]["accuracy"] |= {"value": accuracy, "low": 0.91, "high": 0.98}
    now["test"]["log_loss"]["value"] = 0.05
    now["sha256"] = "0" * 64
    METRICS.write_text(json.dumps(now))
    stages = deepcopy(OURS)
    train = stages["train@mlp"]
    assert train["params"]["params.yaml"]["train.mlp"]["epochs"] == 10
    train["params"]["params.yaml"]["train.mlp"]["epochs"] = epochs
    train["deps"][0]["md5"] = "1" * 32  # the prepared data: no cause, but made from one
    if data:
        for stage in ("validate@tumours", "prepare@tumours"):
            stages[stage]["deps"][0]["md5"] = data
        stages["prepare@tumours"]["outs"][0]["md5"] = data
    write_lock(stages)
    verdict = {"model": "mlp", "dataset": "tumours", "content": "abcdef0123", "against": "", "metrics": ""}
    verdict |= {"asked": {}, "checks": list(checks), "passed": not checks, "decision": "challenger", "remark": ""}
    METRICS.with_name("verdict.json").write_text(json.dumps(verdict))
    rows = [f"{epoch},{1 / (epoch + 1)},{1.5 / (epoch + 1)},1" for epoch in range(1, epochs + 1)]
    METRICS.with_name("learning.csv").write_text("\n".join(["epoch,loss,val_loss,kept", *rows, ""]))
    Path("report").mkdir(exist_ok=True)
    Path("report/report.md").write_text(REPORT)


def refused(name="floor accuracy"):
    return {"name": name, "passed": False, "reason": TEXT}


def row(body):
    (line,) = re.findall(r"^\| \*\*mlp\*\* .*$", body, re.MULTILINE)
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


EDIT = ("api", "--method", "PATCH")


def body_of(gh, verb=("pr", "create")):
    ((arguments, body),) = gh.asked(*verb)
    return arguments, body


def test_a_new_pull_request_has_figures_against_head(project, gh):
    offer.offer(project)
    arguments, body = body_of(gh)
    assert row(body) == [
        "**mlp** on tumours",
        "accuracy, more is better",
        "0.973 [0.925, 0.991]",
        "0.965 [0.910, 0.980]",
        "-0.0088, worse",
        "the same",
        "passed",
        "`mlp-abcdef01`",
    ]
    assert "| log loss, less is better | 0.082 [0.041, 0.310] | 0.050 [0.041, 0.310] | -0.032, better |" in body
    assert "| auc, more is better | 0.995 [0.955, 1.000] | 0.995 [0.955, 1.000] | 0.000, the same |" in body
    assert re.findall(r"^- (.*)$", body, re.MULTILINE) == ["`train.mlp.epochs`: 10 → 12"]
    branch = arguments[arguments.index("--head") + 1]
    assert re.fullmatch(r"retrain/\d{4}-\d\d-\d\d", branch)
    assert arguments[arguments.index("--title") + 1] == "Retrain mlp"


def test_the_branch_holds_the_lock_and_figures_and_nothing_else(project, gh, tmp_path):
    Path("stray.txt").write_text("of somebody else")
    offer.offer(project)
    arguments, _ = body_of(gh)
    branch = arguments[arguments.index("--head") + 1]
    changed = git("--git-dir", str(tmp_path / "origin"), "show", "--name-only", "--format=%an %s", branch)
    assert changed.split("\n\n") == ["github-actions[bot] Retrain mlp", "dvc.lock\nreports/models/mlp/metrics.json\n"]


def test_what_is_staged_is_not_offered_and_the_checkout_stays_as_it_is(project, gh, tmp_path):
    Path("stray.txt").write_text("of somebody else")
    git("add", "stray.txt")
    told = git("status", "--porcelain"), git("rev-parse", "HEAD")
    offer.offer(project)
    branch = git("--git-dir", str(tmp_path / "origin"), "branch", "--format=%(refname:short)").strip()
    assert "stray.txt" not in git("--git-dir", str(tmp_path / "origin"), "ls-tree", "-r", "--name-only", branch)
    assert (git("status", "--porcelain"), git("rev-parse", "HEAD")) == told


def test_an_offer_whose_push_failed_is_made_again(project, gh, tmp_path, capsys):
    (tmp_path / "origin").rename(tmp_path / "elsewhere")
    assert cli.main(["offer"]) == 5
    assert "ended with 128" in capsys.readouterr().err
    (tmp_path / "elsewhere").rename(tmp_path / "origin")
    assert cli.main(["offer"]) == 0
    assert len(gh.asked("pr", "create")) == 1


def test_curves_are_drawn_of_the_numbers_of_each_epoch(project, gh):
    offer.offer(project)
    _, body = body_of(gh)
    (chart,) = re.findall(r"```mermaid\n(.*?)```", body, re.DOTALL)
    assert '"epoch" 1 --> 12' in chart
    lines = [[float(value) for value in found.split(",")] for found in re.findall(r"line \[(.*)\]", chart)]
    assert lines == [[float(f"{top / (epoch + 1):.4g}") for epoch in range(1, 13)] for top in (1, 1.5)]
    retrain(accuracy=0.9, epochs=500)
    offer.offer(project)
    ((_, body),) = gh.asked(*EDIT)
    assert all(50 <= found.count(",") + 1 <= 60 for found in re.findall(r"line \[(.*)\]", body))


def test_links_into_the_project_are_left_out_of_the_report(project, gh):
    offer.offer(project)
    _, body = body_of(gh)
    assert "One model, of which its card tells." in body
    assert "](../" not in body
    assert "![" not in body
    assert "</details>" in body.split("All metrics and figures")[1]


def test_the_one_that_is_open_is_brought_up_to_date(project, gh, tmp_path):
    offer.offer(project)
    retrain(accuracy=0.99, epochs=20)
    offer.offer(project)
    assert len(gh.asked("pr", "create")) == 1
    arguments, body = body_of(gh, EDIT)
    assert arguments[:3] == ["repos/{owner}/{repo}/pulls/1", "--raw-field", "title=Retrain mlp"]
    assert "`train.mlp.epochs`: 10 → 20" in body
    assert len(git("--git-dir", str(tmp_path / "origin"), "branch", "--list").split("\n")) == 2


def test_a_stranger_s_pull_request_is_not_ours(project, gh):
    gh.opened([{"number": 7, "headRefName": "retrain/2026-01-01", "isCrossRepository": True}])
    offer.offer(project)
    assert not gh.asked(*EDIT)
    assert len(gh.asked("pr", "create")) == 1


def test_nothing_changed_is_nothing_to_offer(project, gh, caplog):
    git("checkout", "-q", ".")
    with caplog.at_level("INFO"):
        offer.offer(project)
    assert "nothing to offer" in caplog.text
    assert gh.asked("pr") == []


def test_a_refusal_is_in_title_text_summary_and_warning(project, gh, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    retrain(
        accuracy=0.9, epochs=11, checks=[{"name": "better than naive", "passed": True, "reason": "it is"}, refused()]
    )
    offer.offer(project)
    arguments, body = body_of(gh)
    assert arguments[arguments.index("--title") + 1] == "Retrain mlp (refused)"
    assert row(body)[6] == "**refused**: floor accuracy"
    assert "- mlp, floor accuracy: Its floor is 1.0 \\| and 50% of it" in body
    assert (tmp_path / "summary").read_text() == body
    told = "::warning title=Gate::mlp: refused by its gate: floor accuracy: Its floor is 1.0 | and 50%25 of it\n"
    assert capsys.readouterr().out == told


def test_other_data_is_named(project, gh):
    retrain(accuracy=0.9, epochs=10, data="2" * 32)
    offer.offer(project)
    _, body = body_of(gh)
    assert row(body)[5] == "other"
    assert "- `data/tumours.csv`" in body


def test_a_model_that_is_new_has_nothing_before(project, gh):
    git("rm", "-q", "--cached", "reports/models/mlp/metrics.json")
    git("commit", "-qm", "before mlp")
    offer.offer(project)
    assert row(body_of(gh)[1])[2:5] == ["-", "0.965 [0.910, 0.980]", "-"]


def test_runs_are_linked(project, gh, monkeypatch):
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.example")
    monkeypatch.setenv("GITHUB_REPOSITORY", "o/r")
    monkeypatch.setenv("GITHUB_RUN_ID", "42")
    monkeypatch.setattr(offer.tracking, "page", lambda dataset, content: f"https://mlflow.example/{dataset}/{content}")
    offer.offer(project)
    _, body = body_of(gh)
    assert "[this run](https://github.example/o/r/actions/runs/42)" in body
    assert row(body)[7] == "[`mlp-abcdef01`](https://mlflow.example/tumours/abcdef0123)"


def test_a_server_that_is_down_costs_the_link_alone(project, gh, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    offer.offer(project)
    assert row(body_of(gh)[1])[7] == "`mlp-abcdef01`"
    assert "no link to its run" in caplog.text


def test_a_long_report_stays_in_the_artifacts(project, gh):
    Path("report/report.md").write_text("word " * 20_000)
    offer.offer(project)
    _, body = body_of(gh)
    assert len(body) < offer.MOST_LETTERS
    assert "too long for this page" in body
    assert row(body)


@pytest.mark.parametrize("text", ["<<<<<<< HEAD\nstages: {}\n=======\n>>>>>>> a\n", "- a list\n", "schema: '2.0'\n"])
def test_a_lock_with_the_marks_of_a_conflict_is_refused_in_one_line(project, capsys, text):
    Path("dvc.lock").write_text(text)
    assert cli.main(["offer"]) == 2
    assert capsys.readouterr().err == "error: dvc.lock: not a dvc.lock (no valid YAML, or without `stages`)\n"


def test_what_github_refuses_is_told_in_one_line(project, gh, capsys):
    gh.refuse()
    assert cli.main(["offer"]) == 5
    assert "`gh pr list` ended with 1: HTTP 403" in capsys.readouterr().err


def test_without_gh_one_line_says_so(project, monkeypatch, capsys, tmp_path):
    (tmp_path / "gh" / "gh").unlink()
    (tmp_path / "only").mkdir()
    (tmp_path / "only/git").symlink_to(shutil.which("git"))
    monkeypatch.setenv("PATH", str(tmp_path / "only"))
    assert cli.main(["offer"]) == 5
    assert "error: gh: not found" in capsys.readouterr().err


def test_a_merge_that_git_does_not_know_is_refused(project, capsys):
    assert cli.main(["accept", "--since", "nowhere"]) == 2
    assert "nowhere: no such commit" in capsys.readouterr().err
