"""Data in a bucket, through DVC and a server of our own: what one clone pushes another pulls, and makes nothing again.

The line is a small one, of stages that write down when they run; `make pull` and `make push` are the project's own.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from trainyard import cli

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
BUCKET = "models"

STAGES = """\
stages:
  prepare:
    cmd: python stage.py prepare
    deps: [data.csv, stage.py]
    params: [rows]
    outs: [build]
  train:
    cmd: python stage.py train
    deps: [build, stage.py]
    outs: [model.bin]
  evaluate:
    cmd: python stage.py evaluate
    deps: [model.bin, stage.py]
    metrics: [{score.json: {cache: false}}]
"""

STAGE = """\
import os, sys
from pathlib import Path

with open(os.environ["RAN"], "a") as ran:
    ran.write(sys.argv[1] + "\\n")
if sys.argv[1] == "prepare":
    rows = int(Path("params.yaml").read_text().split()[1])
    lines = Path("data.csv").read_text().splitlines()[:rows]
    Path("build/parts").mkdir(parents=True)
    for place, line in enumerate(lines):
        Path(f"build/parts/{place}.txt").write_text(line)
elif sys.argv[1] == "train":
    text = "".join(part.read_text() for part in sorted(Path("build/parts").iterdir()))
    Path("model.bin").write_text(text * 1000)
else:
    score = Path("model.bin").stat().st_size
    Path("score.json").write_text(f'{{"score": {score}}}')
"""


@pytest.fixture(scope="module")
def bucket():
    """An empty bucket, by boto3; the keys that open it are in the environment of `Clone`."""
    import boto3

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command, **quiet)
    for _ in range(60):
        with socket.socket() as asked:
            if asked.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.5)
    keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}
    made = boto3.resource("s3", endpoint_url=f"http://127.0.0.1:{port}", **keys).create_bucket(Bucket=BUCKET)
    yield made
    server.kill()
    server.wait(30)


class Clone:
    """A checkout of the small line, with a cache of its own."""

    def __init__(self, folder, origin=None):
        self.folder = folder
        self.ran = folder.parent / f"{folder.name}-ran"
        self.ran.touch()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "GIT_", "MAKE"))},
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_DEFAULT_REGION": "us-east-1",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(folder.parent / f"{folder.name}-site"),  # what DVC remembers of a remote
            "HOME": str(folder.parent),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "RAN": str(self.ran),
        }
        if origin:
            subprocess.run(["git", "clone", "--quiet", origin, folder], check=True)

    def __call__(self, *command):
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )

    def told(self, *command):
        """What a command says that must end well."""
        done = self(*command)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def make(self, target):
        """A target of the project's Makefile, with what is installed."""
        return self("make", "--file", ROOT / "Makefile", "--old-file", ".venv/ready-cpu", "DEVICE=cpu", target)

    @property
    def stages(self):
        """The stages that ran here, in order."""
        return self.ran.read_text().split()

    def cached(self, output):
        """The place of an output, of a folder the list of its files, in cache or bucket."""
        lock = YAML(typ="safe").load(self.folder / "dvc.lock")
        (md5,) = {out["md5"] for stage in lock["stages"].values() for out in stage["outs"] if out["path"] == output}
        return f"files/md5/{md5[:2]}/{md5[2:]}"


@pytest.fixture
def origin(tmp_path, bucket):
    """The clone that ran the line and committed what git keeps; the bucket is empty."""
    bucket.objects.delete()
    first = Clone(tmp_path / "origin")
    first.folder.mkdir()
    files = {"dvc.yaml": STAGES, "stage.py": STAGE, "params.yaml": "rows: 3\n", "data.csv": "one\ntwo\nthree\nfour\n"}
    for name, text in files.items():
        (first.folder / name).write_text(text)
    for command in (
        ["git", "init", "--quiet"],
        ["git", "config", "user.email", "a@b.c"],
        ["git", "config", "user.name", "a"],
        ["dvc", "init", "--quiet"],
        ["dvc", "remote", "add", "--default", "store", f"s3://{BUCKET}/project"],
        ["dvc", "remote", "modify", "store", "endpointurl", bucket.meta.client.meta.endpoint_url],
        ["dvc", "repro", "--quiet"],
        ["git", "add", "--all"],
        ["git", "commit", "--quiet", "--message", "first"],
    ):
        first.told(*command)
    assert first.stages == ["prepare", "train", "evaluate"]
    return first


@pytest.fixture
def pushed(origin):
    """The same, after `make push`."""
    done = origin.make("push")
    assert done.returncode == 0, done.stderr
    return origin


@pytest.fixture
def runner(origin, tmp_path):
    """A fresh clone, with nothing but what git has."""
    return Clone(tmp_path / "runner", origin.folder)


def test_a_fresh_clone_pulls_and_makes_nothing_again(pushed, runner):
    assert "is missing in the cache" in runner("trainyard", "verify").stderr
    done = runner.make("pull")
    assert done.returncode == 0, done.stderr
    assert "5 files of 2 outputs are whole" in done.stderr  # three parts and their list, and the model
    assert (runner.folder / "model.bin").read_bytes() == (pushed.folder / "model.bin").read_bytes()
    runner.told("dvc", "repro")
    assert runner.stages == []
    assert "Data and pipelines are up to date" in runner.told("dvc", "status")


def test_repro_pulls_what_it_lacks(pushed, runner):
    runner.told("dvc", "repro", "--pull")
    assert runner.stages == []
    runner.told("trainyard", "verify")
    (runner.folder / "data.csv").write_text("five\nsix\nseven\n")
    runner.told("dvc", "repro", "--pull")
    assert runner.stages == ["prepare", "train", "evaluate"]


def test_what_any_clone_has_run_is_not_run_again(origin, runner):
    """The run cache: params that are in no commit. What is git's to keep, and not cached, is made again."""
    (origin.folder / "params.yaml").write_text("rows: 2\n")
    origin.told("dvc", "repro")
    assert origin.make("push").returncode == 0
    (runner.folder / "params.yaml").write_text("rows: 2\n")
    runner.told("dvc", "repro", "--pull")
    assert runner.stages == ["evaluate"]
    assert (runner.folder / "model.bin").read_text() == "onetwo" * 1000


@pytest.mark.parametrize("output", ["model.bin", "build"])
def test_a_damaged_object_fails_the_job(pushed, runner, bucket, output):
    key = f"project/{pushed.cached(output)}"
    whole = bucket.Object(key).get()["Body"].read()
    bucket.put_object(Key=key, Body=whole[:-2] + b"??")
    done = pushed("trainyard", "verify", "--remote", "store")
    assert done.returncode == 5
    assert f"error: {output}: is damaged in the remote store (delete {BUCKET}/{key} there" in done.stderr

    done = runner.make("pull")
    assert done.returncode != 0
    if output == "model.bin":  # of a damaged list DVC itself can make nothing
        assert "error: model.bin: is damaged in the cache" in done.stderr
    bucket.put_object(Key=key, Body=whole)
    for told in (f".dvc/cache/{pushed.cached(output)}", output):  # to be deleted; what DVC remembers of it is wrong
        (runner.folder / told).unlink(missing_ok=True)
    done = runner.make("pull")
    assert done.returncode == 0, done.stderr
    runner.told("dvc", "repro")
    assert runner.stages == []


@pytest.mark.fault(
    number=31,
    what="a push that is cut short",
    then="exit 5: `is missing in the remote store`, which `dvc push` does not tell",
)
def test_a_missing_object_fails_the_job(pushed, runner, bucket):
    bucket.Object(f"project/{pushed.cached('model.bin')}").delete()
    assert runner.make("pull").returncode != 0
    done = pushed("trainyard", "verify", "--remote")
    assert done.returncode == 5
    assert "error: model.bin: is missing in the remote store" in done.stderr


def test_a_push_of_what_the_cache_lacks_fails(origin, runner):
    shutil.rmtree(origin.folder / ".dvc/cache/files")
    assert origin("dvc", "push").returncode == 0  # why there is `make push`
    done = origin.make("push")
    assert done.returncode != 0
    assert "error: model.bin: is missing in the cache" in done.stderr


def test_damage_in_the_workspace_is_found_too(origin):
    (origin.folder / "score.json").unlink()  # it is not DVC's to bring
    origin.told("trainyard", "verify")
    (origin.folder / "build/parts/1.txt").chmod(0o644)
    (origin.folder / "build/parts/1.txt").write_text("twi")
    (origin.folder / "build/parts/2.txt").unlink()
    (origin.folder / "score.json").write_text("{}")
    done = origin("trainyard", "verify")
    assert done.returncode == 5
    told = done.stderr.splitlines()
    assert "error: build/parts/1.txt: is damaged in the workspace, and 1 more of `build` are not whole" in told[-2]
    assert "error: score.json: is damaged in the workspace" in told[-1]


def test_a_bucket_that_is_not_there_is_one_line(origin):
    origin.told("dvc", "remote", "modify", "store", "url", "s3://elsewhere/project")
    done = origin("trainyard", "verify", "--remote")
    assert done.returncode == 5
    assert "in the remote store" in done.stderr
    assert "Traceback" not in done.stderr
    done = origin("trainyard", "verify", "--remote", "nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith("error: DVC: ")


def test_without_a_project_of_dvc_there_is_nothing_to_verify(here, capfd):
    assert cli.main(["verify"]) == 2
    assert capfd.readouterr().err.startswith("error: DVC: you are not inside of a DVC repository")
