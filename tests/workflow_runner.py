"""Workflows run on this machine: a fake of GitHub's runner, for what these workflows use of it and nothing more.

Each job gets a clone of its own. `run:` steps go through the shell that GitHub starts, with its files for outputs and
summary; `uses:` steps are stubs, in a table; an action or an expression that is not known here is an error.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from fake_gh import FakeGh
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
TOKEN = re.compile(r"\s*('[^']*'|\|\||&&|==|!|\(|\)|[a-z]+(?:\.[A-Za-z_-]+)+|cancelled\(\))")
OPERATORS = {"||": "or", "&&": "and", "==": "==", "!": "not", "(": "(", ")": ")", "cancelled()": "False"}


def load(name):
    return YAML(typ="safe").load(ROOT / ".github" / "workflows" / name)


def passed(jobs):
    """Fails with what the first job printed that did not succeed."""
    for name, job in jobs.items():
        assert job.result == "success", f"{name}: {job.result}\n{job.log}"


def evaluate(text, contexts):
    """A string of a workflow with its `${{ }}` filled in; one that is nothing else keeps its value."""
    if not isinstance(text, str):
        return text
    if whole := re.fullmatch(r"\s*\$\{\{((?:(?!\}\}).)*)\}\}\s*", text):
        return _value(whole[1], contexts)
    return re.sub(r"\$\{\{(.*?)\}\}", lambda found: str(_value(found[1], contexts)), text)


def _value(expression, contexts):
    python, place = [], 0
    while place < len(expression.rstrip()):
        found = TOKEN.match(expression, place)
        if found is None:
            raise NotImplementedError(f"the expression {expression}")
        token, place = found[1], found.end()
        python.append(OPERATORS.get(token) or (token if token.startswith("'") else repr(_looked_up(token, contexts))))
    return eval(" ".join(python), {"__builtins__": {}})  # noqa: S307  # of the tokens above alone


def _looked_up(name, contexts):
    value = contexts
    for part in name.split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    return value


def _goes_on(part):
    """Whether a job or a step is asked about after a failure too: its `if` names a status function."""
    return "cancelled()" in str(part.get("if"))


@dataclass
class Job:
    """How a job ended."""

    result: str
    outputs: dict = field(default_factory=dict)
    log: str = ""
    summary: str = ""
    place: Path | None = None
    """The clone that it worked in, the first one of a matrix."""


@dataclass
class Runner:
    """A repository on "GitHub": a bare one that is cloned and pushed to, with its variables and artifacts."""

    home: Path
    path: str
    """PATH of the steps: with the fake `gh`."""
    vars: dict = field(default_factory=dict)
    stubbed: list = field(default_factory=list)
    before: str = ""
    """What main was before the last push."""

    @property
    def origin(self):
        return self.home / "origin"

    @property
    def environment(self):
        ours = ("MLFLOW_", "DVC_", "GIT_", "GITHUB_", "TRAINYARD_", "PYTHON", "MAKE", "MFLAGS")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {**kept, "HOME": str(self.home), "PATH": self.path, "GIT_CONFIG_NOSYSTEM": "1"}

    def run(self, workflow, *only, matrix=None, done=None):
        """Run all jobs of a workflow, or some after those that are `done`; `matrix` takes the place of a job's own."""
        jobs, done = load(workflow)["jobs"], dict(done or {})
        event = {"repository": {"fork": False}, "before": self.before}
        github = {"event": event, "ref": "refs/heads/main", "token": "token", "repository": "o/r"}
        for name in only or jobs:
            job = jobs[name]
            needs = [job["needs"]] if isinstance(job.get("needs"), str) else job.get("needs", [])
            told = {need: {"outputs": done[need].outputs} for need in needs}
            contexts = {"github": github, "vars": self.vars, "secrets": {}, "inputs": {}, "needs": told}
            held = any(done[need].result != "success" for need in needs) and not _goes_on(job)
            if held or not evaluate(job.get("if", True), contexts):
                done[name] = Job("skipped")
                continue
            axes = matrix or job.get("strategy", {}).get("matrix") or {}
            (axis, values) = next(iter(axes.items()), ("", [""]))
            parts = [self._job(f"{workflow}-{name}", job, {**contexts, "matrix": {axis: one}}) for one in values]
            failed = [part for part in parts if part.result != "success"]
            log, summary = ("\n".join(getattr(part, kind) for part in parts) for kind in ("log", "summary"))
            done[name] = Job("failure" if failed else "success", parts[0].outputs, log, summary, parts[0].place)
        return done

    def _job(self, name, job, contexts):
        place = self.place(name)
        contexts = {**contexts, "steps": {}}
        told = Job("success", place=place)
        environment = {key: str(evaluate(value, contexts)) for key, value in job.get("env", {}).items()}
        for step in job["steps"]:
            if (told.result == "failure" and not _goes_on(step)) or not evaluate(step.get("if", True), contexts):
                continue
            if "uses" in step:
                action = step["uses"].partition("@")[0]
                settings = {key: evaluate(value, contexts) for key, value in step.get("with", {}).items()}
                getattr(self, STUBS[action])(place, settings)
                if action == "actions/setup-python":  # and what `make setup` would make of it
                    (place / ".venv" / f"ready-{environment.get('DEVICE', 'cpu')}").touch()
                self.stubbed.append(action)
                continue
            told.log += f"\n$ {step['run']}\n"
            code, outputs = self._step(place, step["run"], {**environment, **step.get("env", {})}, told)
            contexts["steps"][step.get("id", "")] = {"outputs": outputs}
            if code:
                told.result = "failure"
                told.log += f"Process completed with exit code {code}.\n"
        told.outputs = {key: evaluate(value, contexts) for key, value in job.get("outputs", {}).items()}
        return told

    def _step(self, place, command, environment, told):
        output, summary = self.home / f"{place.name}.output", self.home / f"{place.name}.summary"
        output.write_text("")
        summary.touch()
        given = {
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_OUTPUT": str(output),
            "GITHUB_REPOSITORY": "o/r",
            "GITHUB_RUN_ID": "42",
            "GITHUB_SERVER_URL": "https://github.example",
            "GITHUB_STEP_SUMMARY": str(summary),
            "GITHUB_WORKSPACE": str(place),
            "PYTHONPATH": str(place / "src"),  # the clone's code, not what is installed
        }
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", command],
            cwd=place,
            env={**self.environment, **given, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        told.log += done.stdout
        told.summary = summary.read_text()
        return done.returncode, dict(line.split("=", 1) for line in output.read_text().splitlines())

    def place(self, name):
        """A new folder."""
        found = self.home / f"{name}-{len(list(self.home.iterdir()))}"
        found.mkdir()
        return found

    def clone(self):
        """What a job begins with."""
        place = self.place("clone")
        self.checkout(place, {"persist-credentials": False})
        self.setup_python(place, {})
        (place / ".venv/ready-cpu").touch()
        return place

    def shell(self, place, command, expect=0, **environment):
        """Run a command as a step of a job would; gives what it printed."""
        told = Job("success")
        code, _ = self._step(place, command, environment, told)
        assert code == expect, told.log
        return told.log

    def git(self, *arguments, cwd=None):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        done = subprocess.run(
            ["git", *identity, *arguments],
            cwd=cwd or self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    # === What the actions do, as far as these workflows use it ===

    def checkout(self, place, settings):
        assert settings["persist-credentials"] is False
        depth = settings.get("fetch-depth", 1)
        shallow = ["--depth", str(depth)] if depth else []  # 0 is all
        self.git("clone", "-q", *shallow, "--branch", "main", f"file://{self.origin}", str(place))

    def setup_python(self, place, settings):
        """What `make setup` makes: the packages are those that run this test."""
        environment = place / ".venv"
        environment.mkdir()
        for part in ("bin", "lib", "pyvenv.cfg"):
            (environment / part).symlink_to(Path(sys.prefix) / part)

    def upload(self, place, settings):
        paths = settings["path"].split()
        shown = settings.get("include-hidden-files") is True
        there = [
            file
            for path in paths
            for file in ((place / path).rglob("*") if (place / path).is_dir() else [place / path])
        ]
        base = place if len(paths) > 1 else place / paths[0]
        for file in there:
            name = file.relative_to(base)
            if file.is_file() and (shown or not any(part.startswith(".") for part in file.relative_to(place).parts)):
                target = self.home / "artifacts" / settings["name"] / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, target)

    def download(self, place, settings):
        kept = self.home / "artifacts"
        for artifact in kept.glob(settings.get("pattern") or settings["name"]):
            assert settings.get("merge-multiple") or "name" in settings
            shutil.copytree(artifact, place / settings.get("path", "."), dirs_exist_ok=True)

    def nothing(self, place, settings):
        """Publishing to PyPI cannot be tried here."""


STUBS = {
    "actions/checkout": "checkout",
    "actions/setup-python": "setup_python",
    "actions/upload-artifact": "upload",
    "actions/download-artifact": "download",
    "pypa/gh-action-pypi-publish": "nothing",
}


# === A project to run them in ===

PARAMS = """\
seed: 1
datasets:
  tumours: {kind: tables, path: data/tumours.csv, objective: binary, target: diagnosis, positive: malignant}
train:
  mlp: {family: mlp, dataset: tumours, layers: [8], epochs: 4, optimizer: {name: adam, learning_rate: 0.01}}
finetune: {}
evaluate:
  mlp: {dataset: tumours, floor: {accuracy: 0.5}}
training: {determinism: strict}
"""
SHIPS = ("Makefile", "pyproject.toml", "dvc.yaml", ".gitignore", ".dvcignore", ".dvc", "requirements", "scripts", "src")


class Repository(Runner):
    """A small project on "GitHub", with a remote of DVC and an MLflow registry that all jobs share."""

    def __init__(self, home: Path) -> None:
        self.gh = FakeGh(home / "gh")
        super().__init__(home, self.gh.path)
        self.vars = {"DVC_REMOTE": "store", "MLFLOW_TRACKING_URI": f"sqlite:///{home / 'registry' / 'mlflow.db'}"}
        (home / "registry").mkdir()
        self.git("init", "-q", "--bare", "-b", "main", str(self.origin))
        listed = subprocess.run(
            ["git", "ls-files", "-z", *SHIPS, "data/tumours.csv", "data/climate.csv"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        self.work = home / "work"
        for name in filter(None, listed.stdout.split("\0")):
            (self.work / name).parent.mkdir(parents=True, exist_ok=True)
            (self.work / name).write_bytes((ROOT / name).read_bytes())
            (self.work / name).chmod((ROOT / name).stat().st_mode)
        (self.work / "params.yaml").write_text(PARAMS)
        config = self.work / ".dvc" / "config"
        text = config.read_text().replace("[core]\n", "[core]\n    remote = store\n")
        config.write_text(f"{text}['remote \"store\"']\n    url = {home / 'store'}\n")
        self.git("init", "-q", "-b", "main", cwd=self.work)
        self.git("remote", "add", "origin", str(self.origin), cwd=self.work)
        self.push("start")

    def push(self, message: str) -> None:
        self.git("add", "-A", cwd=self.work)
        self.git("commit", "-qm", message, cwd=self.work)
        self._send()

    def _send(self) -> None:
        told = self.git("for-each-ref", "--format=%(objectname)", "refs/remotes/origin/main", cwd=self.work)
        self.before = told.strip()
        self.git("push", "-q", "origin", "HEAD:main", cwd=self.work)

    def edit(self, old: str, new: str) -> None:
        text = (self.work / "params.yaml").read_text()
        assert old in text
        (self.work / "params.yaml").write_text(text.replace(old, new))
        self.push(f"{old} becomes {new}")

    def merge(self, *later: str) -> None:
        """What a person does with the pull request that is open; with commits on something else in the same push."""
        (pull,) = json.loads((self.gh.folder / "opened.json").read_text())
        self.git("fetch", "-q", "origin", cwd=self.work)
        self.git("merge", "-q", "--no-ff", "-m", "merge", f"origin/{pull['headRefName']}", cwd=self.work)
        for message in later:
            self.git("commit", "-q", "--allow-empty", "-m", message, cwd=self.work)
        self._send()
        self.git("push", "-q", "origin", f":{pull['headRefName']}", cwd=self.work)
        self.gh.opened([])

    def metrics(self, revision: str):
        return json.loads(self.git("show", f"{revision}:reports/models/mlp/metrics.json", cwd=self.work))["test"]

    def aliases(self):
        from mlflow import MlflowClient

        found = MlflowClient(self.vars["MLFLOW_TRACKING_URI"]).get_registered_model("mlp").aliases
        return {alias: int(version) for alias, version in found.items()}
