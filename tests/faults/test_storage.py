"""Disks that are full, shut or rotten, and odd places: the old state stays whole, and one line names the place."""

import errno
import os
import re
import shutil
import subprocess
import sys

import pytest
from yard import hashed

from trainyard import cli, files
from trainyard.files import NoRoom

POINTS = ("begun", "half written", "written", "synced", "renamed")

# === Death at each point of a replacement ===


def dies_at(point, target, make):
    """Write `target` in a process that is gone, as by `kill -9`, at a point; gives its exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    files.reached = lambda reached, path: os._exit(137) if (reached, path) == (point, target) else None
    with files.replacing(target) as draft:
        make(draft, "new", stop=point == "half written")
    os._exit(0)


def a_file(path, text, *, stop=False):
    path.write_text(text)
    if stop:
        os._exit(137)
    path.write_text(text * 2)


def a_folder(path, text, *, stop=False):
    path.mkdir()
    a_file(path / "model", text)
    if stop:
        os._exit(137)
    files.write_json(path / "manifest.json", {"model": files.sha256(path / "model")})


def state(target):
    if target.is_file():
        return target.read_text()
    if not target.exists():
        return "none"
    manifest = files.read_json(target / "manifest.json")
    assert manifest["model"] == files.sha256(target / "model"), "mixed"
    return (target / "model").read_text()


@pytest.mark.parametrize("old", [True, False], ids=["over an old one", "new"])
@pytest.mark.parametrize("make", [a_file, a_folder])
@pytest.mark.parametrize(
    "point",
    [
        pytest.param(
            point,
            marks=pytest.mark.fault(
                number=9,
                what=f"death in the writer of files and folders: {point}",
                then="the new state" if point == "renamed" else "the old state, whole with its manifest",
            ),
        )
        for point in POINTS
    ],
)
def test_death_in_the_writer_leaves_the_old_state_or_the_new(tmp_path, point, make, old):
    target = tmp_path / "target"
    if old:
        with files.replacing(target) as draft:
            make(draft, "old")
    assert dies_at(point, target, make) == 137
    before = "oldold" if old else "none"
    assert state(target) == ("newnew" if point == "renamed" else before)
    assert [path.name for path in tmp_path.glob("[!.]*")] == (["target"] if state(target) != "none" else [])
    with files.replacing(target) as draft:
        make(draft, "again")
    assert state(target) == "againagain"


@pytest.mark.fault(
    number=9,
    what="death before the manifest of a model is written",
    then="the old model with its own manifest",
)
def test_death_before_the_manifest(tmp_path):
    target = tmp_path / "target"
    with files.replacing(target) as draft:
        a_folder(draft, "old")
    child = os.fork()
    if not child:
        files.reached = lambda point, path: os._exit(137) if path.name == "manifest.json" else None
        with files.replacing(target) as draft:
            a_folder(draft, "new")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 137
    assert state(target) == "oldold"


def test_where_the_system_cannot_swap_two_folders_they_are_renamed(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_swapped", lambda one, other: False)
    for text in ("old", "new"):
        with files.replacing(tmp_path / "target") as draft:
            a_folder(draft, text)
    assert state(tmp_path / "target") == "newnew"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


# === Room ===


@pytest.mark.parametrize(
    "error",
    [OSError(number, os.strerror(number)) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)],
    ids=lambda error: errno.errorcode[error.errno],
)
@pytest.mark.parametrize("point", ["begun", "written", "synced"])
def test_a_full_disk_names_the_folder_and_the_need_and_leaves_the_old_state(tmp_path, monkeypatch, error, point):
    with files.replacing(tmp_path / "models" / "m") as draft:
        a_folder(draft, "old")

    def full(reached, target):
        if (reached, target.name) == (point, "inside"):
            raise error

    def write():
        with files.replacing_folder(tmp_path / "models" / "m") as draft:
            (draft / "model").write_bytes(bytes(3_000_000))
            files.write_text(draft / "inside", "new")

    monkeypatch.setattr(files, "reached", full)
    with pytest.raises(NoRoom) as refused:
        write()
    told = (
        rf"{tmp_path}/models: no room for m: more than 3\.0 MB are needed, [\d.]+ MB are free \(make room, and run it a"
    )
    assert re.match(told, str(refused.value))
    assert state(tmp_path / "models" / "m") == "oldold"
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["m"]


def test_another_error_is_told_as_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError), files.replacing(tmp_path / "m"):
        (tmp_path / "nowhere" / "a").write_text("")


def mounted(yard, place, options, command, expect):
    """Run a command where a file system of its own, with these options, lies over a folder and what it holds."""
    script = (
        f"cp -a '{place}' kept && mount -t tmpfs -o size=64m tmpfs '{place}' && cp -a kept/. '{place}' "
        f"&& mount -o remount,{options} '{place}' && exec {command}"
    )
    probe = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=False)
    if probe.returncode:
        pytest.skip("no file system of our own can be mounted here")
    yard.run(["unshare", "-rm", "sh", "-c", script], expect)


@pytest.mark.fault(
    number=12,
    what="the disk of the outputs is full",
    then="exit 5; one line names the folder and the need; the old model is whole",
)
def test_a_full_disk_of_models(undisturbed, yard):
    yard.replace("params.yaml", "layers: [8]", "layers: [700, 700]")
    mounted(yard, "models", "size=1m", "trainyard train m", 5)
    assert re.match(r"error: models: no room for m: more than [\d.]+ MB are needed, ", yard.refusal())
    assert yard.runs()[-1] == "FAILED"
    yard.holds()
    yard.replace("params.yaml", "layers: [700, 700]", "layers: [8]")
    yard.recovers(undisturbed)


@pytest.mark.fault(
    number=12,
    what="the disk is full while the state of a training is kept",
    then="one warning; the training goes on to the same model",
)
def test_a_full_disk_costs_no_training(undisturbed, yard):
    (yard.folder / ".trainyard").mkdir(exist_ok=True)
    mounted(yard, ".trainyard", "size=4k", "trainyard train m", 0)
    assert "no state is kept" in yard.told
    assert yard.read("models/m") == undisturbed.read("models/m")


@pytest.mark.fault(
    number=13,
    what="the disk of DVC's cache is full",
    then="exit 5, where DVC ends with 0; the model is whole in its folder, and dvc.lock is true of it",
)
def test_a_full_disk_of_the_cache(undisturbed, yard):
    yard.replace("params.yaml", "layers: [8]", "layers: [300, 300]")
    mounted(yard, ".dvc/cache", "size=700k", "trainyard repro train@m", 5)
    assert "No space left on device" in yard.told
    assert yard.refusal().startswith("error: models/m: not in DVC's cache (is its disk full?")
    assert (yard.folder / "models/m/model.keras").stat().st_size > 300 * 300 * 4
    yard.holds()
    yard.replace("params.yaml", "layers: [300, 300]", "layers: [8]")
    shutil.rmtree(yard.folder / "models/m")  # DVC does not remove what it has not cached
    yard.recovers(undisturbed)


@pytest.mark.parametrize(
    ("place", "command"),
    [
        pytest.param(
            place,
            command,
            marks=pytest.mark.fault(
                number=15, what=f"`{place}` is read-only", then="exit 5; one line names it; all is as it was"
            ),
        )
        for place, command in [("build", "prepare d"), ("models", "train m"), ("mlruns", "register m")]
    ],
)
def test_a_read_only_folder(undisturbed, yard, place, command):
    mounted(yard, place, "ro", f"trainyard {command}", 5)
    assert place in yard.refusal()
    assert re.search("(?i)read-?only", yard.refusal())
    assert yard.read() == undisturbed.read()
    yard.holds()


@pytest.mark.fault(
    number=15, what="DVC's cache is read-only", then="`dvc repro` ends with 255 and names it; dvc.lock is as it was"
)
def test_a_read_only_cache(undisturbed, yard):
    yard.replace("params.yaml", "layers: [8]", "layers: [4]")
    lock = (yard.folder / "dvc.lock").read_bytes()
    mounted(yard, ".dvc/cache", "ro", "dvc repro train@m", 255)
    assert re.search(r"Read-only file system: .*\.dvc/cache", yard.told)
    assert (yard.folder / "dvc.lock").read_bytes() == lock
    yard.replace("params.yaml", "layers: [4]", "layers: [8]")
    shutil.rmtree(yard.folder / "models/m")
    yard.recovers(undisturbed)


@pytest.mark.fault(
    number=16, what="a process may have few files open", then="exit 5; one line says so; all is as it was"
)
def test_few_open_files(undisturbed, yard):
    yard.run(["prlimit", "--nofile=11", sys.executable, "-c", FEW_FILES], expect=5)
    assert yard.refusal().endswith("Too many open files (a process may have too few files open: `ulimit -n 4096`)")
    assert yard.read() == undisturbed.read()
    yard.run("trainyard prepare d")
    assert yard.read() == undisturbed.read()


FEW_FILES = """
import sys
from trainyard import cli, kinds, validation, tracking, reporting, files  # what Python opens to import is not at issue
import trainyard.stages.prepare, trainyard.kinds.tables
held = []
try:
    while True:
        held.append(open("/dev/null"))
except OSError:
    held.pop(); held.pop(); held.pop()
sys.exit(cli.main(["prepare", "d"]))
"""


@pytest.mark.fault(
    number=30,
    what="bytes of an object in DVC's cache have changed",
    then="`trainyard doctor` names it and ends with exit 5; DVC itself hands it out with exit 0",
)
def test_a_rotten_object_in_the_cache(yard):
    (keras_file,) = (yard.folder / "models/m").glob("*.keras")
    name = hashed(keras_file)
    rotten = yard.folder / ".dvc/cache/files/md5" / name[:2] / name[2:]
    rotten.chmod(0o644)
    content = bytearray(rotten.read_bytes())
    content[200:204] = b"rot!"
    rotten.write_bytes(content)
    yard.run("trainyard doctor", expect=5)
    (line,) = [line for line in yard.told.splitlines() if line.startswith("MEND  cache")]
    assert "model.keras: is damaged in the cache (delete " in line
    assert f"{name[:2]}/{name[2:]}" in line


# === Odd places ===


@pytest.mark.fault
@pytest.mark.parametrize("place", ["no HOME", "locale C", "umask 077", "TMPDIR elsewhere"])
def test_an_odd_place_gives_the_same_bytes(undisturbed, yard, place):
    """Each in a folder with a space and a sign that is no ASCII in its name."""
    shutil.rmtree(yard.folder / "build/d")
    command = {
        "no HOME": "env -u HOME trainyard prepare d",
        "locale C": "env LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 trainyard prepare d",
        "umask 077": "umask 077; trainyard prepare d",
        "TMPDIR elsewhere": "env TMPDIR=/dev/shm trainyard prepare d",
    }[place]
    yard.run(["sh", "-c", command])
    assert yard.read("build/d") == undisturbed.read("build/d")


def test_a_reader_that_goes_away_is_no_traceback(here, monkeypatch, capsys):
    """As of `trainyard fetch --list | head -1`."""

    def broken(text):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(sys.stdout, "write", broken)
    assert cli.main(["fetch", "--list"]) == 5
    assert capsys.readouterr().err == "error: the system: Broken pipe\n"


@pytest.mark.slow
def test_ten_thousand_small_files_are_replaced_as_one(tmp_path):
    with files.replacing_folder(tmp_path / "many") as draft:
        for number in range(10_000):
            (draft / str(number)).write_text(str(number))
    assert len(list((tmp_path / "many").iterdir())) == 10_000
    assert [path.name for path in tmp_path.iterdir()] == ["many"]
