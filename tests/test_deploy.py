"""Where the line runs elsewhere: the image, whose commands are executed here, and the task for spot machines."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from fnmatch import fnmatch
from pathlib import Path
from string import Template

import pytest
from ruamel.yaml import YAML
from workflow_runner import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
SKY = ROOT / "deploy" / "sky.yaml"
SKYPILOT = "skypilot==0.14.1"


# === The image ===


def instructions():
    """Instruction and text of each line of the Dockerfile, with those that it goes on with."""
    lines = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", DOCKERFILE)).splitlines()
    return [tuple(line.split(" ", 1)) for line in lines if line.strip()]


def of(kind):
    return [text for found, text in instructions() if found == kind]


def test_the_image_runs_as_a_user_from_its_first_copied_file_on():
    kinds = [kind for kind, _ in instructions()]
    assert of("USER") == ["trainyard"]
    assert kinds.index("USER") < kinds.index("COPY")
    assert "useradd --create-home --uid 1000 trainyard" in of("RUN")[1]


def test_the_image_takes_no_package_but_those_of_a_lock():
    assert not re.search(r"pip3? install|uv (pip|add)|curl|wget", DOCKERFILE)
    assert of("ARG") == ["DEVICE=cpu"]
    assert "DEVICE=$DEVICE" in of("ENV")[0]  # by which make chooses requirements/cpu.lock or gpu.lock


def test_what_a_machine_makes_for_itself_stays_out_of_the_image():
    ignored = (ROOT / ".dockerignore").read_text().split()
    for line in (ROOT / ".gitignore").read_text().splitlines():
        if line.startswith("/") and line.count("/") == 2:
            assert line.strip("/") in ignored, line


def ignored(folder, names):
    """What .dockerignore leaves out: of its patterns those that it has, `*` in a name and `**/` before one."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    places = {name: (Path(folder) / name).relative_to(ROOT).as_posix() for name in names}
    return {
        name
        for name, place in places.items()
        if any(fnmatch(name if line.startswith("**/") else place, line.removeprefix("**/")) for line in lines)
    }


@pytest.fixture
def environment(tmp_path):
    """Of this machine's only what reaches the package index."""
    kept = ("UV_", "PIP_", "SSL_", "REQUESTS_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    found = {name: value for name, value in os.environ.items() if name.upper().startswith(kept)}
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "uv"  # or gigabytes come once more
    (tmp_path / "home").mkdir()
    return {"UV_CACHE_DIR": str(cache), **found, "HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}


@pytest.mark.slow
def test_the_commands_of_the_image_end_in_a_page_that_is_healthy(tmp_path, environment):
    # these would change this machine: they are fakes, which write down what they are asked
    (tmp_path / "fakes").mkdir()
    for name in ("apt-get", "useradd", "install"):
        (tmp_path / "fakes" / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/asked\n')
        (tmp_path / "fakes" / name).chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    project = tmp_path / "project"
    mapped = {"/project": str(project), "/var/lib/apt/lists": f"{tmp_path}/lists", ":5000": f":{port}"}

    def here(text):
        for there, place in mapped.items():
            text = text.replace(there, place)
        return text

    environment |= {"PATH": f"{tmp_path}/fakes{os.pathsep}{environment['PATH']}", "DEVICE": "cpu"}
    started = {}
    try:
        for kind, text in instructions():
            if kind == "ENV":
                for name, value in (word.split("=", 1) for word in shlex.split(here(text))):
                    environment[name] = Template(value).substitute(environment)
            elif kind == "COPY":
                assert shlex.split(text)[1:] == [".", "."]
                shutil.copytree(ROOT, project, ignore=ignored, symlinks=True)
            elif kind == "RUN":
                place = project if project.is_dir() else tmp_path
                ran(["sh", "-c", here(text)], place, environment)
            elif kind in ("CMD", "HEALTHCHECK"):
                started[kind] = json.loads(here(text[text.index("[") :]))
            else:
                assert kind in ("FROM", "USER", "WORKDIR", "ARG", "EXPOSE"), kind
        asked = (tmp_path / "asked").read_text().splitlines()
        assert asked[:2] == ["apt-get update", "apt-get install --yes --no-install-recommends git make"]
        command = [*started["CMD"], "--port", port]
        health = {"args": started["HEALTHCHECK"], "cwd": project, "env": environment, "capture_output": True}
        assert subprocess.run(**health, check=False).returncode != 0  # nobody is there yet
        page = subprocess.Popen(command, cwd=project, env=environment, start_new_session=True)
        try:
            patience = time.monotonic() + 120
            while subprocess.run(**health, check=False).returncode:
                assert page.poll() is None
                assert time.monotonic() < patience
                time.sleep(2)
        finally:
            os.killpg(page.pid, signal.SIGKILL)
            page.wait()
        assert (project / "mlruns" / "mlflow.db").is_file()
        assert "no fault" in ran(["trainyard", "check"], project, environment)
    finally:
        shutil.rmtree(project, ignore_errors=True)  # gigabytes


def ran(command, place, environment):
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# === The spot machine ===


def checked_by_skypilot(path, environment, place):
    """SkyPilot's own word on a task; its package wants another click than ours, and gets an environment of its own."""
    program = (
        "import sys, yaml, jsonschema\n"
        "from sky.utils import schemas\n"
        "task = yaml.safe_load(open(sys.argv[1]))\n"
        "jsonschema.validate(task, schemas.get_task_schema())\n"
        "jsonschema.validate(task['resources'], schemas.get_resources_schema())\n"
    )
    return subprocess.run(
        ["uv", "run", "--no-project", "--isolated", "--with", SKYPILOT, "python", "-c", program, path],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_task_ends_before_it_trains_where_there_is_no_remote(here):
    """Its commands up to the line, in a project that DVC has a cached output of."""
    script = YAML(typ="safe").load(SKY)["run"].partition("make repro")[0].replace(".venv/bin/dvc", "dvc")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def dvc(command):
        return subprocess.run(["dvc", *command.split()], env=environment, capture_output=True, check=True)

    def task():
        return subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=False)

    (here / "output").write_text("an output")
    dvc("init --quiet --no-scm")
    dvc("add --quiet output")
    assert "no remote specified" in task().stderr
    assert task().returncode
    dvc(f"remote add --default --quiet store {here}/store")
    assert task().returncode == 0, task().stderr


@pytest.mark.slow
def test_skypilot_takes_the_task_and_would_refuse_another(tmp_path, environment):
    good = checked_by_skypilot(SKY, environment, tmp_path)
    assert good.returncode == 0, good.stderr
    for number, (old, new) in enumerate(
        [("use_spot", "use_spots"), ("file_mounts", "mounts"), ("workdir: .", "workdir: 1"), ("secrets:", "secret:")]
    ):
        planted = tmp_path / f"{number}.yaml"
        planted.write_text(SKY.read_text().replace(old, new))
        assert "ValidationError" in checked_by_skypilot(planted, environment, tmp_path).stderr
