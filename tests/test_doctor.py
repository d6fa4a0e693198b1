"""`trainyard doctor`: each check says that all is well, and, with a fault planted, what is not and what to do."""

import hashlib
import json
import re
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from trainyard import cli, doctor, params, tracking
from trainyard.errors import EnvironmentFailed
from trainyard.training import device

PARAMS = {
    "seed": 1,
    "datasets": {"d": {"kind": "tables", "path": "d.csv", "target": "y", "objective": "binary"}},
    "train": {"m": {"family": "mlp", "dataset": "d"}},
    "finetune": {},
    "evaluate": {"m": {"dataset": "d"}},
}


@pytest.fixture
def yard(here, monkeypatch):
    """A project in which all is well; DVC and the device are asked elsewhere."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(device, "start", lambda training, seed: {"trainyard.device": "cpu"})
    answers = {"cache dir": str(here / ".dvc/cache"), "config core.site_cache_dir": str(here / "site")}
    monkeypatch.setattr(doctor, "_dvc", lambda *command: answers[" ".join(command)])
    (here / "site").mkdir(mode=0o700)
    (here / "d.csv").write_text("x,y\n1,2\n")
    YAML().dump(PARAMS, here / "params.yaml")
    (here / ".dvc").mkdir()
    (here / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    (here / "output").write_bytes(b"an output")
    name = hashlib.md5(b"an output", usedforsecurity=False).hexdigest()
    (here / "output.dvc").write_text(f"outs: [{{md5: {name}, hash: md5, path: output}}]\n")
    place = here / ".dvc/cache/files/md5" / name[:2] / name[2:]
    place.parent.mkdir(parents=True)
    place.write_bytes(b"an output")
    return here


def test_where_all_is_well_each_line_is_ok(yard, capsys):
    assert cli.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"ok    {name}" for name in doctor.CHECKS]


def old_package(yard, monkeypatch):
    version = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: "3.12.0" if name == "keras" else version(name))


def no_package(yard, monkeypatch):
    version = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: "" if name == "optuna" else version(name))


def two_tensorflows(yard, monkeypatch):
    version = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: "2.21.0" if name.startswith("tensorflow") else version(name))


def no_data(yard, monkeypatch):
    (yard / "d.csv").unlink()


def no_room(yard, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10**9, 10**9, 10**6))


def shut(yard, monkeypatch):
    (yard / "models").mkdir()
    access = doctor.os.access
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: path != "models" and access(path, mode))


def no_gpu(yard, monkeypatch):
    def refuse(training, seed):
        raise EnvironmentFailed("training.device is gpu, but TensorFlow sees none")

    monkeypatch.setattr(device, "start", refuse)


def no_server(yard, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:mlruns")


def dead_run(yard, monkeypatch):
    (yard / "mlruns").mkdir()
    (yard / "mlruns/mlflow.db").touch()
    monkeypatch.setattr(tracking, "connected", nullcontext)
    monkeypatch.setattr(tracking, "stale", lambda params: ["m"])


def dead_lock(yard, monkeypatch):
    (yard / ".dvc/tmp").mkdir()
    gone = {"pid": 2**22 + 1, "cmd": "dvc repro"}
    (yard / ".dvc/tmp/rwlock").write_text(json.dumps({"write": {"models/m": gone}, "read": {}}))


def broken_lock(yard, monkeypatch):
    (yard / ".dvc/tmp").mkdir()
    (yard / ".dvc/tmp/rwlock").write_text('{"write": ')


def leftover(yard, monkeypatch):
    (yard / "models/.m.abcd1234").mkdir(parents=True)


def rotten(yard, monkeypatch):
    (path,) = (yard / ".dvc/cache/files/md5").glob("??/*")
    path.write_bytes(b"an outpuT")


def lost(yard, monkeypatch):
    (path,) = (yard / ".dvc/cache/files/md5").glob("??/*")
    path.rename(path.with_name("another"))


def open_to_all(yard, monkeypatch):
    (yard / "site").chmod(0o777)


def one_for_all(yard, monkeypatch):
    monkeypatch.setattr(doctor, "_dvc", lambda *command: "")
    monkeypatch.delenv("DVC_SITE_CACHE_DIR", raising=False)


def no_version(yard, monkeypatch):
    (yard / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    (yard / "mlruns").mkdir()
    (yard / "mlruns/mlflow.db").touch()
    monkeypatch.setattr(tracking, "connected", nullcontext)
    monkeypatch.setattr(tracking, "stale", lambda params: [])
    monkeypatch.setattr(tracking, "amiss", lambda lock, params: ["m: no version came from dvc.lock (run `trainyard p"])


@pytest.mark.parametrize(
    ("plant", "code", "told"),
    [
        (old_package, 5, r"python: keras>=3\.15\.1, installed is 3\.12\.0 \(run `make setup`"),
        (no_package, 5, r"python: optuna>=5, installed is none \(run `make setup`"),
        (two_tensorflows, 5, r"python: tensorflow and tensorflow-cpu are the same files \(remove \.venv, then `make s"),
        (no_data, 2, r"data: params\.yaml: datasets\.d: d\.csv: not found \(bring it, or mend its `path`\)"),
        (no_room, 5, r"disk: 0\.0 GB are free on .* \(make room"),
        (shut, 5, r"disk: .*models: not writable \(make it writable"),
        (no_gpu, 5, r"device: training\.device is gpu, but TensorFlow sees none"),
        (no_server, 5, r"tracking: MLFLOW_TRACKING_URI names a folder, .* \(expected http"),
        (dead_run, 5, r"runs: m: RUNNING in MLflow, and nobody is at it \(its training was killed: train it again"),
        (dead_lock, 5, r"locks: \.dvc/tmp/rwlock: process 4194305 is gone \(the next `dvc repro` drops it"),
        (broken_lock, 5, r"locks: \.dvc/tmp/rwlock: not readable \(remove it"),
        (leftover, 5, r"leftovers: models/\.m\.abcd1234: left by a process that was killed \(remove it\)"),
        (rotten, 5, r"cache: output: is damaged in the cache \(.*`dvc pull`"),
        (lost, 5, r"cache: output: is missing in the cache \("),
        (open_to_all, 5, r"site cache: .*site: open to others \(chmod 700 "),
        (one_for_all, 5, r"site cache: DVC has one for all users of this machine \(run `make setup`"),
        (no_version, 5, r"registry: m: no version came from dvc\.lock \(run `trainyard p"),
    ],
)
def test_a_fault_is_found_and_its_remedy_told(yard, monkeypatch, capsys, plant, code, told):
    plant(yard, monkeypatch)
    assert cli.main(["doctor"]) == code
    out, err = capsys.readouterr()
    lines = [line for line in out.splitlines() if line.startswith("MEND  ")]
    assert any(re.match(f"MEND  {told}", line) for line in lines), out
    assert len(out.splitlines()) == len(doctor.CHECKS)
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert line == f"error: {len(lines)} of {len(doctor.CHECKS)} checks are not well: see the lines with MEND"


def test_a_clone_that_has_made_nothing_yet_is_well(yard):
    shutil.rmtree(yard / ".dvc/cache/files")
    (yard / "output").unlink()
    told, faults = doctor._cache(params.load())
    assert told.startswith("nothing is made here yet")
    assert not faults


def test_a_run_whose_training_is_at_work_is_well(yard, monkeypatch):
    from trainyard import guard

    dead_run(yard, monkeypatch)
    with guard.alone("train m"):
        assert doctor._runs(params.load()) == ("none was left RUNNING", [])


def test_of_many_faults_the_first_are_told(yard, monkeypatch):
    faults = [f"fault {number}" for number in range(9)]
    assert doctor._some(faults) == "fault 0; fault 1; fault 2; fault 3; fault 4; and 4 more"


def test_dvc_s_own_answers_are_read(here):
    Path(".dvc").mkdir()
    Path(".dvc/config").write_text("[core]\n    no_scm = true\n")
    assert doctor._dvc("cache", "dir") == str(here / ".dvc/cache")
    assert doctor._dvc("config", "core.site_cache_dir") == ""
