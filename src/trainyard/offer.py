"""What a retraining has changed, as one pull request for people to judge; and what is made of it once it is merged.

`offer` runs where the line has run, on a commit that does not hold its results yet; `accept` on the commit that does.
"""

import json
import logging
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from trainyard import files, job, reporting, tracking
from trainyard.errors import BadInput, EnvironmentFailed, GateRefused
from trainyard.params import Params
from trainyard.quality.objectives import OBJECTIVES
from trainyard.quality.verdict import Check, Verdict
from trainyard.reporting import results

log = logging.getLogger(__name__)

LOCK, REPORTS, PAGE = Path("dvc.lock"), Path("reports/models"), Path("report/report.md")
BRANCH = "retrain/"
AUTHOR = (
    "-c",
    "user.name=github-actions[bot]",
    "-c",
    "user.email=41898282+github-actions[bot]@users.noreply.github.com",
)
GH_CREDENTIALS = ("-c", "credential.helper=!gh auth git-credential")
"""The token of `gh` for this one push: it is written nowhere."""
MOST_LETTERS = 60_000
"""GitHub takes 65,536 for a pull request."""
MOST_POINTS = 60
"""Epochs of a curve: evenly taken, where there are more."""


@dataclass(frozen=True)
class Figure:
    """A metric of the test split, at HEAD and now: `value`, `low`, `high`."""

    metric: str
    lower: bool
    """Whether less is better."""
    before: Mapping[str, float] | None
    now: Mapping[str, float]

    @property
    def better(self) -> str:
        """Less or more."""
        return "less" if self.lower else "more"

    @property
    def shift(self) -> float | None:
        """By how much it has grown; None where either is not defined."""
        if self.before is None or None in (self.before["value"], self.now["value"]):
            return None
        return self.now["value"] - self.before["value"]

    @property
    def told(self) -> str:
        """What that means, in a word."""
        if not self.shift:
            return "the same"
        return "better" if (self.shift < 0) == self.lower else "worse"


@dataclass(frozen=True)
class Change:
    """A model that is another than at HEAD."""

    name: str
    dataset: str
    figures: Sequence[Figure]
    """The main metric first."""
    data: str
    """Whether it was trained and tested on the same examples as before."""
    failed: Sequence[Check]
    """Checks of the gate that it did not pass."""
    run: str
    page: str
    """Address of its run on the MLflow server; "" where there is none."""
    epochs: tuple[int, int]
    """First and last."""
    curves: Sequence[Sequence[float]]
    """Its loss, and that of the validation split."""


def offer(params: Params) -> None:
    """Push dvc.lock and reports/ to `retrain/DATE` and open a pull request, or bring the one that is open up to date.

    Branch and index of the checkout stay as they are. Raises BadInput where the line has not run or dvc.lock is none,
    EnvironmentFailed where git or gh refuse.
    """
    tree = _tree()
    if tree == _run("git", "rev-parse", "HEAD^{tree}").strip():
        log.info("nothing changed: nothing to offer")
        return
    changes = [found for name in params.models if (found := _change(name))]
    title, body = _title(changes), _body(changes)
    job.summary(body)
    for change in changes:
        _tell_refusal(change)
    asked = _run(
        "gh", "pr", "list", "--state", "open", "--limit", "200", "--json", "number,headRefName,isCrossRepository"
    )
    ours = [one for one in json.loads(asked) if one["headRefName"].startswith(BRANCH) and not one["isCrossRepository"]]
    branch = ours[0]["headRefName"] if ours else f"{BRANCH}{datetime.now(UTC):%Y-%m-%d}"
    commit = _run("git", *AUTHOR, "commit-tree", tree, "-p", "HEAD", "-m", title).strip()
    _run("git", *GH_CREDENTIALS, "push", "--force", "--quiet", "origin", f"{commit}:refs/heads/{branch}")
    if ours:  # `gh pr edit` fails before gh 2.82.1: it asks for what GitHub has taken away
        pull = f"repos/{{owner}}/{{repo}}/pulls/{ours[0]['number']}"
        edit = ("api", "--method", "PATCH", pull, "--raw-field", f"title={title}", "--field", "body=@-")
        told = _run("gh", *edit, "--jq", ".html_url", text=body)
    else:
        told = _run("gh", "pr", "create", "--head", branch, "--title", title, "--body-file", "-", text=body)
    log.info("%s: %s", branch, told.strip() or title)


def accept(params: Params, since: str, why: str | None) -> None:
    """Make champion what was merged: of each model whose entries in dvc.lock are not those of the commit `since`.

    The file in the registry must have the hash that reports/ tells of. All models are gone through; raises GateRefused
    with a line for each that may not be champion.
    """
    if _started("git", "rev-parse", "--verify", "--quiet", f"{since}^{{commit}}").returncode:
        raise BadInput(f"{since}: no such commit (expected the one before the merge)")
    refused = []
    with tempfile.TemporaryDirectory(prefix="trainyard-") as scratch:
        files.write_text(Path(scratch) / LOCK.name, _at(since, LOCK) or "stages: {}\n")
        known = {name: REPORTS / name / "metrics.json" for name in params.models}
        for name, metrics in [(name, files.read_json(path)) for name, path in known.items() if path.is_file()]:
            try:
                old = Path(scratch) / LOCK.name
                tracking.promote_merged(name, metrics["dataset"], LOCK, old, metrics["sha256"], why)
            except GateRefused as error:
                refused.append(str(error))
    if refused:
        raise GateRefused(*refused)


def _tree() -> str:
    """The tree of HEAD with dvc.lock and reports/ as they are in the folder."""
    with tempfile.TemporaryDirectory(prefix="trainyard-") as scratch:
        index = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
        _run("git", "read-tree", "HEAD", **index)
        _run("git", "add", "--", str(LOCK), "reports", **index)
        return _run("git", "write-tree", **index).strip()


def _change(name: str) -> Change | None:
    """None where its metrics are those of HEAD."""
    folder = REPORTS / name
    if not (folder / "metrics.json").is_file():
        return None
    now, old = files.read_json(folder / "metrics.json"), _at("HEAD", folder / "metrics.json")
    before = json.loads(old) if old else None
    if now == before:
        return None
    objective, verdict = OBJECTIVES[now["objective"]], files.read_as(Verdict, folder / "verdict.json")
    metrics = [objective.main, *(metric for metric in objective.metrics if metric != objective.main)]
    known = before["test"] if before and before["objective"] == now["objective"] else {}
    curve = pd.read_csv(folder / "learning.csv", index_col="epoch")[["loss", "val_loss"]]
    shown = curve.iloc[:: -(-len(curve) // MOST_POINTS)]
    return Change(
        name,
        now["dataset"],
        [Figure(one, one in objective.lower_is_better, known.get(one), now["test"][one]) for one in metrics],
        "the same"
        if _prepared(_locked(_at("HEAD", LOCK)), now) == _prepared(_locked(LOCK.read_text(encoding="utf-8")), now)
        else "other",
        [check for check in verdict.checks if not check.passed],
        f"{name}-{verdict.content[:8]}",
        _page(name, now["dataset"], verdict.content),
        (int(curve.index[0]), int(curve.index[-1])),
        [[float(f"{value:.4g}") for value in shown[column]] for column in shown],
    )


def _title(changes: Sequence[Change]) -> str:
    told = [f"{change.name} (refused)" if change.failed else change.name for change in changes]
    return f"Retrain {', '.join(told)}" if told else "Bring dvc.lock and reports up to date"


def _body(changes: Sequence[Change]) -> str:
    """What people read: figures against HEAD, then the report, of which links into the project lead nowhere."""
    report = re.sub(r"(?m)^!\[.*\n+", "", PAGE.read_text(encoding="utf-8"))
    report = re.sub(r"\[([^]]*)\]\(\.\./[^)]*\)", r"\1", report)
    server, run = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_RUN_ID")
    values = {
        "address": f"{server}/{os.environ['GITHUB_REPOSITORY']}/actions/runs/{run}" if server and run else "",
        "changes": changes,
        "causes": _causes(_locked(_at("HEAD", LOCK)), _locked(LOCK.read_text(encoding="utf-8"))),
    }
    body = reporting.render("offer.md", report=report, **values)
    return body if len(body) <= MOST_LETTERS else reporting.render("offer.md", report="", **values)[:MOST_LETTERS]


def _tell_refusal(change: Change) -> None:
    """As a warning; on GitHub as one that its pages show."""
    for check in change.failed:
        told = f"{change.name}: refused by its gate: {check.name}: {' '.join(check.reason.split())}"
        if not job.note("warning", "Gate", told):
            log.warning(told)


def _causes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Data, code and params by which the stages of two dvc.lock differ, each once."""
    made = {out["path"] for stage in now.values() for out in stage.get("outs", ())}
    told = []
    for name, stage in now.items():
        if name not in before:
            told.append(f"the stage `{name}` is new")
            continue
        old, new = _read(before[name]), _read(stage)
        mine = [path for path in new if not any(f"{out}/".startswith(f"{path}/") for out in made)]
        told += [f"`{path}`" for path in mine if old.get(path) != new[path]]
        old, new = _asked(before[name]), _asked(stage)
        changed = [knob for knob in {**old, **new} if old.get(knob) != new.get(knob)]
        told += [f"`{knob}`: {old.get(knob, '-')} → {new.get(knob, '-')}" for knob in changed]
    return list(dict.fromkeys(told))


def _read(stage: Mapping[str, Any]) -> dict[str, str]:
    """What a stage read, with its hash."""
    return {dep["path"]: dep.get("md5", "") for dep in stage.get("deps", ())}


def _asked(stage: Mapping[str, Any]) -> dict[str, str]:
    """The params that a stage read, by dotted names."""
    return dict(results.flat(stage.get("params", {}).get("params.yaml", {})))


def _prepared(stages: Mapping[str, Any], metrics: Mapping[str, Any]) -> Any:
    """What `prepare` wrote, by its hashes."""
    return stages.get(f"prepare@{metrics['dataset']}", {}).get("outs")


def _locked(text: str | None) -> Mapping[str, Any]:
    try:
        return YAML(typ="safe").load(text)["stages"] if text else {}
    except (YAMLError, KeyError, TypeError):
        raise BadInput(f"{LOCK}: not a dvc.lock (no valid YAML, or without `stages`)") from None


def _page(name: str, dataset: str, content: str) -> str:
    try:
        return tracking.page(dataset, content)
    except EnvironmentFailed as error:
        log.warning("%s: no link to its run: %s", name, error)
        return ""


def _at(revision: str, path: Path) -> str | None:
    """A file of a commit; None where the commit has none."""
    done = _started("git", "show", f"{revision}:{path.as_posix()}")
    return done.stdout if done.returncode == 0 else None


def _run(*command: str, text: str | None = None, **environment: str) -> str:
    done = _started(*command, text=text, **environment)
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise EnvironmentFailed(f"`{' '.join(command[:3])}` ended with {done.returncode}: {said[:300]}")
    return done.stdout


def _started(*command: str, text: str | None = None, **environment: str) -> "subprocess.CompletedProcess[str]":
    variables = {**os.environ, **environment}
    try:
        return subprocess.run(command, input=text, capture_output=True, encoding="utf-8", check=False, env=variables)  # noqa: S603  # our own arguments
    except FileNotFoundError:
        raise EnvironmentFailed(f"{command[0]}: not found (an offer needs git, and GitHub's `gh`)") from None
