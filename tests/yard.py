"""A small line of DVC, what is asked of it, and what must hold after every fault."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from hashlib import md5
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from trainyard import files

STAGES = ("validate d", "prepare d", "train m", "evaluate m", "register m")
OUTPUTS = ("reports/data/d", "build/d", "models/m", "reports/models/m")
"""What each of these writes to; the last two write to the same folder."""
APART = ("sh", "-c", '"$@"; exit $?', "sh")
"""Before a command that asks for its own peak of memory, which begins with that of the process that starts it."""


@dataclass
class Yard:
    """A copy of the line, and what is asked of it."""

    folder: Path
    commands: int = 0

    @property
    def environment(self):
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_", "GIT_"))}
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        site = {"DVC_SITE_CACHE_DIR": str(self.folder.parent / "site"), "HOME": str(self.folder.parent)}
        return {**kept, **site, "PATH": programs, "PYTHONPATH": str(self.folder / "src")}

    def start(self, command, **environment):
        """A command of words; it leads a process group of its own."""
        self.commands += 1
        with self._told.open("w") as told:
            return subprocess.Popen(
                command.split() if isinstance(command, str) else command,
                cwd=self.folder,
                env={**self.environment, **environment},
                stdout=told,
                stderr=told,
                start_new_session=True,
            )

    def run(self, command, expect=0, **environment):
        """Gives what it printed."""
        running = self.start(command, **environment)
        try:
            code = running.wait(240)
        finally:
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGKILL)
        assert code == expect, f"{command} ended with {code}\n{self.told}"
        return self.told

    @property
    def _told(self):
        return self.folder / f"told-{self.commands}.txt"

    @property
    def told(self):
        """What the command that was started last has printed."""
        return self._told.read_text()

    def refusal(self):
        """The one line of what was run last."""
        assert "Traceback" not in self.told
        (line,) = [line for line in self.told.splitlines() if line.startswith("error: ")]
        return line

    def read(self, *names):
        """All that the line wrote, byte by byte, without what differs from registry to registry."""
        roots = [self.folder / name for name in names or ("build", "models", "reports")]
        inside = [path.relative_to(self.folder) for root in roots for path in root.rglob("*") if path.is_file()]
        found = [self.folder / path for path in inside if visible(path)]
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in found}

    def replace(self, path, old, new):
        text = (self.folder / path).read_text()
        assert old in text
        (self.folder / path).write_text(text.replace(old, new))

    # === What must hold after every fault ===

    def holds(self, *, at_rest=True):
        """The champion answers as before (I1), dvc.lock is true (I2), no file is half (I3), nobody is left (I6)."""
        assert self.champion_answers() == pytest.approx(self.golden, abs=1e-6), "I1"
        assert not self.lies(), "I2"
        assert not self.halves(), "I3"
        if at_rest:
            until(lambda: not self.processes(), 15)
            assert not self.processes(), "I6"

    def recovers(self, undisturbed, command="dvc repro"):
        """A plain run succeeds and gives the same bytes (I4), and leaves no run open (I6)."""
        self.run(command)
        assert self.read() == undisturbed.read(), "I4"
        assert (self.folder / "dvc.lock").read_bytes() == (undisturbed.folder / "dvc.lock").read_bytes(), "I4"
        assert not self.processes(), "I6"
        assert "RUNNING" not in self.runs(), "I6"
        self.holds()

    @cached_property
    def registry(self):
        from mlflow import MlflowClient

        return MlflowClient(f"sqlite:///{self.folder}/mlruns/mlflow.db")

    def champion_answers(self):
        import mlflow

        mlflow.set_tracking_uri(f"sqlite:///{self.folder}/mlruns/mlflow.db")
        try:
            champion = mlflow.pyfunc.load_model("models:/m@champion")
        finally:
            mlflow.set_tracking_uri(None)
        rows = pd.read_csv(self.folder / "golden.csv")
        return champion.predict(rows)["p_1"].tolist()

    @property
    def golden(self):
        return files.read_json(self.folder / "golden.json")

    def lies(self):
        """Outputs of dvc.lock, in the folder or else in the cache, that have another hash than it says."""
        stages = YAML(typ="safe").load(self.folder / "dvc.lock")["stages"]
        return [
            out["path"]
            for stage in stages.values()
            for out in stage.get("outs", [])
            if (self.folder / out["path"]).exists() and hashed(self.folder / out["path"]) != out["md5"]
        ]

    def halves(self):
        """Files with a final name that are not whole."""
        found = []
        for root in ("build", "models", "reports"):
            for path in (self.folder / root).rglob("*.json"):
                try:
                    json.loads(path.read_text())
                except ValueError:
                    found.append(path)
        models = [path for path in (self.folder / "models").glob("[!.]*/model.json") if path not in found]
        found += [p for p in models if files.read_json(p)["sha256"] != files.sha256(p.with_name("model.keras"))]
        return [path for path in found if visible(path.relative_to(self.folder))]

    def processes(self):
        """Those that work in this folder."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes()
                if (process / "cwd").readlink() == self.folder and b"python" in command:
                    found.append(int(process.name))
            except OSError:
                continue
        return found

    def runs(self):
        """How the runs of MLflow ended."""
        with sqlite3.connect(self.folder / "mlruns/mlflow.db") as database:
            return [status for (status,) in database.execute("SELECT status FROM runs ORDER BY start_time")]


def visible(path):
    """What killed processes were writing is not."""
    return not any(part.startswith(".") for part in path.parts)


def hashed(path):
    """As DVC does it."""
    if path.is_file():
        return md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    inside = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    entries = [{"md5": hashed(path / name), "relpath": name} for name in inside if "/." not in f"/{name}"]
    return md5(json.dumps(entries, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def until(condition, seconds=60):
    """Whether it came true in time."""
    latest = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < latest:
        time.sleep(0.02)
    return found
