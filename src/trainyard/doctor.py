"""`trainyard doctor`: looks at all that a line stands on; each line says that it is well, or what to do.

Out:  a line a check, `ok` or `MEND` first
Exit: 2 params or data are bad, 5 something else is to be mended
"""

import json
import os
import platform
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import psutil
from packaging.requirements import Requirement

from trainyard import cache, guard, tracking
from trainyard.errors import BadInput, EnvironmentFailed, TrainyardError
from trainyard.params import Params
from trainyard.training import device

LEAST_FREE = 2e9
"""Bytes on the disk: the shipped line writes less than half of it."""
MADE = ("build", "backbones", "models", "report", "reports", "mlruns", ".trainyard")
"""Folders that the line writes to."""
SHOWN = 5


def examine(params: Params) -> Iterator[str]:
    """A line a check, as soon as it is made; raises BadInput or EnvironmentFailed in the end if one is not well."""
    bad = 0
    worst: type[TrainyardError] = EnvironmentFailed
    for name, check in CHECKS.items():
        try:
            told, faults = check(params)
        except TrainyardError as error:
            told, faults = "", [str(error)]
            worst = BadInput if isinstance(error, BadInput) else worst
        bad += bool(faults)
        yield f"ok    {name}: {told}" if not faults else f"MEND  {name}: {_some(faults)}"
    if bad:
        raise worst(f"{bad} of {len(CHECKS)} checks are not well: see the lines with MEND")


Check = Callable[[Params], tuple[str, list[str]]]
"""What there is, in a few words, and what is not well, each with its remedy."""


def _python(_: Params) -> tuple[str, list[str]]:
    """Python and the packages, as pyproject.toml asks for them."""
    asked = [Requirement(text) for text in metadata.requires("trainyard") or []]
    asked = [one for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
    there = {one.name: _version(one.name) for one in asked}
    wrong = [f"{one}, installed is {there[one.name] or 'none'}" for one in asked if not _fits(one, there[one.name])]
    faults = [f"{one} ({device.SETUP})" for one in wrong]
    if _version("tensorflow") and _version("tensorflow-cpu"):  # pip lets one write over the other
        faults.append("tensorflow and tensorflow-cpu are the same files (remove .venv, then `make setup`)")
    return f"{platform.python_version()}, {len(asked)} packages as asked for", faults


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _fits(asked: Requirement, version: str) -> bool:
    return bool(version) and asked.specifier.contains(version, prereleases=True)


def _data(params: Params) -> tuple[str, list[str]]:
    paths = {name: Path(spec.path) for name, spec in params.datasets.items()}
    if absent := [f"{name}: {path}: not found" for name, path in paths.items() if not path.exists()]:
        raise BadInput(f"params.yaml: datasets.{_some(absent)} (bring it, or mend its `path`)")
    return f"{len(params.datasets)} dataset(s), {len(params.models)} model(s)", []


def _disk(_: Params) -> tuple[str, list[str]]:
    free = shutil.disk_usage(".").free
    shut = [name for name in (".", *MADE) if Path(name).exists() and not os.access(name, os.W_OK)]
    faults = [f"{Path(name).resolve()}: not writable (make it writable for you)" for name in shut]
    if free < LEAST_FREE:
        faults.append(
            f"{free / 1e9:.1f} GB are free on {Path.cwd()} (make room: a line wants {LEAST_FREE / 1e9:.0f} GB)"
        )
    return f"{free / 1e9:.0f} GB are free", faults


def _device(params: Params) -> tuple[str, list[str]]:
    found = device.start(params.training, params.seed)
    return f"{found['trainyard.device']}; params ask for {params.training.device}", []


def _tracking(params: Params) -> tuple[str, list[str]]:
    address = tracking.uri()
    if _none_yet(address):
        return "no database yet; the first training makes it", []
    with tracking.connected():
        return f"{address.partition('://')[0]} answers", []


def _none_yet(address: str) -> bool:
    return address.startswith("sqlite:///") and not Path(address.removeprefix("sqlite:///")).exists()


def _runs(params: Params) -> tuple[str, list[str]]:
    """Runs of trainings that were killed; those at work hold a lock."""
    if _none_yet(tracking.uri()):
        return "none", []
    work = guard.at_work()
    dead = [name for name in tracking.stale(params) if not {f"train-{name}", f"finetune-{name}"} & {*work}]
    remedy = "its training was killed: train it again, which ends it"
    return "none was left RUNNING", [f"{name}: RUNNING in MLflow, and nobody is at it ({remedy})" for name in dead]


def _locks(_: Params) -> tuple[str, list[str]]:
    """Locks of DVC whose process is gone; ours go with their process."""
    work, path = guard.at_work(), Path(".dvc/tmp/rwlock")
    try:
        held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        infos = [
            *held.get("write", {}).values(),
            *(one for readers in held.get("read", {}).values() for one in readers),
        ]
        dead = sorted({int(info["pid"]) for info in infos if not psutil.pid_exists(int(info["pid"]))})
    except (ValueError, KeyError, AttributeError, TypeError):
        return "", [f"{path}: not readable (remove it, when no DVC runs)"]
    told = f"at work: {', '.join(work)}" if work else "nobody is at work"
    return told, [f"{path}: process {pid} is gone (the next `dvc repro` drops it; or remove the file)" for pid in dead]


def _left(_: Params) -> tuple[str, list[str]]:
    """What killed processes were writing."""
    if guard.at_work():
        return "not looked for while a stage is at work", []
    found = [path for name in MADE for path in Path(name).rglob(".*.????????") if path.is_dir()]
    return "nothing", [f"{path}: left by a process that was killed (remove it)" for path in found]


def _cache(_: Params) -> tuple[str, list[str]]:
    """What DVC keeps: it hands out a file with another content without a word."""
    if not any((Path(_dvc("cache", "dir") or ".dvc/cache") / "files").rglob("*")):
        return "nothing is made here yet; `make pull` brings it, `make repro` makes it", []
    try:
        cache.verify()
    except EnvironmentFailed as error:
        return "", str(error).splitlines()
    return "each file that dvc.lock names is whole, and its copy", []


def _private(_: Params) -> tuple[str, list[str]]:
    """DVC keeps pickles in its site cache: who may write there may run code as us."""
    site = _dvc("config", "core.site_cache_dir") or os.environ.get("DVC_SITE_CACHE_DIR", "")
    remedy = "run `make setup`, or `dvc config --local core.site_cache_dir` with a folder of mode 0700"
    if not site:
        return "", [f"DVC has one for all users of this machine ({remedy})"]
    if Path(site).exists() and stat.S_IMODE(Path(site).stat().st_mode) & 0o077:
        return "", [f"{site}: open to others (chmod 700 {site})"]
    return "of DVC, ours alone", []


def _registry(params: Params) -> tuple[str, list[str]]:
    lock = Path("dvc.lock")
    if not lock.is_file():
        return "no dvc.lock yet", []
    if _none_yet(tracking.uri()):
        return "empty; `dvc repro` fills it", []
    return "has what dvc.lock led to, and its champions", tracking.amiss(lock, params)


def _dvc(*command: str) -> str:
    """What DVC prints; "" where it refuses, as it does for what is not set."""
    done = subprocess.run([sys.executable, "-m", "dvc", *command], capture_output=True, text=True, check=False)  # noqa: S603  # our own arguments
    return done.stdout.strip() if done.returncode == 0 else ""


def _some(faults: list[str]) -> str:
    more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    return "; ".join(faults[:SHOWN]) + more


CHECKS: dict[str, Check] = {
    "python": _python,
    "data": _data,
    "disk": _disk,
    "device": _device,
    "tracking": _tracking,
    "runs": _runs,
    "locks": _locks,
    "leftovers": _left,
    "cache": _cache,
    "site cache": _private,
    "registry": _registry,
}
