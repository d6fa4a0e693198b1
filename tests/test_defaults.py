"""Safe defaults: nothing calls home, DVC's pickles are ours alone, and no release with a known hole is installed."""

import re
import stat
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
FLOORS = {
    "keras": "3.15.1",  # models that name any module (CVE-2025-1550 and its kin), HDF5 bombs and links (July 2026)
    "mlflow": "3.16.1",  # a default password (CVE-2026-2635)
    "pillow": "12.2",  # FITS bombs (CVE-2026-40192)
    "starlette": "1.3.1",  # any Host header (CVE-2026-48710)
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def below(floors, locked):
    """Packages of a lock that are older than they may be, or not there."""
    return [name for name, floor in floors.items() if name not in locked or Version(locked[name]) < Version(floor)]


def locked(device):
    text = (ROOT / "requirements" / f"{device}.lock").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", text, re.MULTILINE))


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_no_lock_is_below_a_floor(device):
    assert below(FLOORS, locked(device)) == []


def test_an_older_release_would_be_found():
    assert below(FLOORS, {**locked("cpu"), "keras": "3.15.0", "pillow": "9.5"}) == ["keras", "pillow"]
    assert below({"left-pad": "1"}, locked("cpu")) == ["left-pad"]


@pytest.mark.parametrize("name", FLOORS)
def test_pyproject_asks_for_no_release_below_a_floor(name):
    (asked,) = [one for one in map(Requirement, PROJECT["dependencies"]) if one.name == name]
    (lower,) = [Version(one.version) for one in asked.specifier if one.operator == ">="]
    assert lower >= Version(FLOORS[name])


@pytest.mark.parametrize("name", FLOORS)
def test_what_is_installed_is_above_its_floor(name):
    assert Version(metadata.version(name)) >= Version(FLOORS[name])


def test_dvc_s_site_cache_is_ours_alone():
    """As `make setup` leaves it."""
    command = [sys.executable, "-m", "dvc", "config", "--local", "core.site_cache_dir"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run `make setup`: {done.stderr}"
    site = Path(done.stdout.strip())
    assert site == ROOT / ".dvc/tmp/site"
    assert stat.S_IMODE(site.stat().st_mode) == 0o700


def test_nothing_calls_home():
    config = (ROOT / ".dvc/config").read_text()
    assert "analytics = false" in config
    assert "check_update = false" in config
    makefile = (ROOT / "Makefile").read_text()
    for variable in (
        "DVC_NO_ANALYTICS := 1",
        "MLFLOW_DISABLE_TELEMETRY := true",
        "DO_NOT_TRACK := 1".replace("1", "true"),
    ):
        assert f"export {variable}" in makefile


def test_mlflow_unpickles_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    from trainyard.tracking import store

    with store.connected():
        from mlflow.environment_variables import MLFLOW_ALLOW_PICKLE_DESERIALIZATION, MLFLOW_DISABLE_TELEMETRY

        assert MLFLOW_ALLOW_PICKLE_DESERIALIZATION.get() is False
        assert MLFLOW_DISABLE_TELEMETRY.get() is True


def test_mlflows_pages_wait_for_no_jobs(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.delenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", raising=False)
    from trainyard.tracking import store

    with store.connected():
        from mlflow.environment_variables import MLFLOW_SERVER_ENABLE_JOB_EXECUTION

        assert MLFLOW_SERVER_ENABLE_JOB_EXECUTION.get() is False
