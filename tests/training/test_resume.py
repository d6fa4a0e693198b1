"""A training that is killed: the next one ends in the same bits, and what is broken costs no more than an epoch."""

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from contracts.samples import SAMPLES
from contracts.test_families import FAMILIES
from ruamel.yaml import YAML
from training_cases import started

from trainyard import cli, params
from trainyard.params import EarlyStopping, Optimizer, Plateau
from trainyard.training import fit, resume
from trainyard.training.resume import Resume

# === In one process: interrupted in an epoch, then again from the beginning ===


@pytest.fixture
def every_epoch(monkeypatch):
    monkeypatch.setattr(resume, "EVERY", 0)


def trained(case, folder=None, until=None, told=None):
    """The weights and the history; `until` is the epoch in which the training is interrupted."""
    data, spec, (training, validation), core = case
    made = core()

    def on_epoch(number, row):
        if told is not None:
            told.append((number, row["loss"]))
        if number == until:
            raise KeyboardInterrupt

    history = fit.fit(made, training, validation, spec, data, 7, on_epoch, resume=Resume(folder) if folder else None)
    return [np.asarray(variable) for variable in made.variables], history


def assert_equal(one, other):
    for a, b in zip(one[0], other[0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert one[1].to_csv() == other[1].to_csv()


@pytest.fixture(scope="module")
def stopping(tmp_path_factory):
    """A training whose callbacks count: rates fall on plateaus, and it stops early."""
    knobs = {
        "dropout": 0.4,
        "epochs": 60,
        "optimizer": Optimizer(name="adam", learning_rate=0.03),
        "best_epoch": True,
        "early_stopping": EarlyStopping(patience=9),
        "plateau": Plateau(patience=2, factor=0.3, cooldown=1),
    }
    return started(tmp_path_factory.mktemp("data"), "mlp", "tables", "binary", **knobs)


def test_what_callbacks_count_comes_back(stopping, tmp_path, every_epoch):
    undisturbed = trained(stopping)
    history = undisturbed[1]
    assert 12 < len(history) < 60
    assert history["learning_rate"].nunique() > 2
    for until in (len(history) // 2, len(history) - 1):
        folder = tmp_path / str(until)
        with pytest.raises(KeyboardInterrupt):
            trained(stopping, folder, until)
        told = []
        assert_equal(trained(stopping, folder, told=told), undisturbed)
        assert [number for number, _ in told] == [*history.index], "the run is told of every epoch"


def test_a_training_that_was_over_is_not_made_again(stopping, tmp_path, every_epoch, monkeypatch):
    undisturbed = trained(stopping, tmp_path / "state")
    monkeypatch.setattr(keras.Model, "train_step", None)
    assert_equal(trained(stopping, tmp_path / "state"), undisturbed)


def interrupted(stopping, folder, until=6):
    """The states that a training leaves, the newest last."""
    with pytest.raises(KeyboardInterrupt):
        trained(stopping, folder, until)
    return sorted(folder.glob("*.state"), key=lambda path: path.stat().st_mtime_ns)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(
            fault,
            marks=pytest.mark.fault(
                number=32,
                what=f"the state that a training resumes from is {fault}",
                then="one warning; the state before it is taken, and the training ends in the same bits",
            ),
        )
        for fault in ("cut", "empty", "foreign")
    ],
)
def test_a_state_that_is_not_whole_costs_an_epoch_and_one_line(stopping, tmp_path, every_epoch, caplog, fault):
    *_, newest = interrupted(stopping, tmp_path / "state")
    content = newest.read_bytes()
    newest.write_bytes({"cut": content[:-100], "empty": b"", "foreign": b"{}" * 99}[fault])
    caplog.set_level("INFO")
    caplog.clear()
    assert_equal(trained(stopping, tmp_path / "state"), trained(stopping))
    (line,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert line == f"{newest}: not whole: left aside"
    assert "goes on after epoch 4" in caplog.text


def test_no_bit_of_a_state_may_be_another(tmp_path, caplog):
    state = Resume(tmp_path)
    state.write(3, {"model.0": np.arange(6)}, {"rows": []})
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    for place in range(0, 8 * len(content), 7):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        assert Resume(tmp_path).read() is None
    path.write_bytes(content)
    assert Resume(tmp_path).read()[0]["model.0"].tolist() == [*range(6)]


def test_the_last_but_one_is_there_whichever_epochs_were_kept(tmp_path):
    for epoch in (2, 4, 6):
        state = Resume(tmp_path)
        state.read()
        state.write(epoch, {"weight": np.full(3, epoch)}, {"rows": []})
    *_, newest = sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(b"")
    assert Resume(tmp_path).read()[0]["weight"].tolist() == [4, 4, 4]


def test_both_states_broken_is_a_training_from_the_beginning(stopping, tmp_path, every_epoch):
    for path in interrupted(stopping, tmp_path / "state"):
        path.write_bytes(b"")
    told = []
    assert_equal(trained(stopping, tmp_path / "state", told=told), trained(stopping))
    assert told[0][0] == 1


def test_epochs_that_take_no_time_are_not_kept(stopping, tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "EVERY", 1e9)
    assert interrupted(stopping, tmp_path / "state") == []


def test_a_state_that_cannot_be_written_ends_no_training(stopping, tmp_path, every_epoch, caplog):
    (tmp_path / "state").write_text("a file where the folder should be")
    assert_equal(trained(stopping, tmp_path / "state"), trained(stopping))
    assert "no state is kept" in caplog.text


# === Stages that are killed ===

STAGE = """
import os, signal, sys, threading, time
from contextlib import nullcontext
from types import SimpleNamespace
from trainyard import cli, tracking
from trainyard.training import device

verb, name, since, after = *sys.argv[1:4], float(sys.argv[4])
times = {}

def reached(place):
    if place not in times:
        times[place] = time.monotonic()
        if since == place:
            threading.Timer(after, os.kill, (os.getpid(), signal.SIGKILL)).start()

run = SimpleNamespace(log_epoch=lambda *_: reached("first epoch"), finished=lambda *_: None)
tracking.live = lambda *_: nullcontext(run)
begin = device.start

def start(*arguments):
    found = begin(*arguments)
    from trainyard.training import resume, steps
    resume.EVERY, steps.DENSE, steps.OTHERS = 0, 1, 1  # keep every epoch, take the loop for jobs as small as these
    reached("start")
    return found

device.start = start
code = cli.main([verb, name])
print(times["first epoch"] - times["start"], time.monotonic() - times["first epoch"])
os._exit(code)  # the timer may still run
"""
KILLED = {
    "mlp": ("tables", {"dropout": 0.3, "batch_normalization": True, "plateau": {"patience": 1}, "epochs": 30}),
    "cnn": ("images", {"augment": {"flip": "horizontal", "rotate": 0.1}, "filters": [8, 8], "epochs": 20}),
    "series": ("series", {"cell": "lstm", "units": [8], "epochs": 12}),
    "text": ("text", {"cell": "gru", "filters": [8], "bidirectional": True, "head_dropout": 0.5, "epochs": 12}),
    "speech": (
        "speech",
        {"units": [8], "dropout": 0.2, "recurrent_dropout": 0.2, "disturb": {"noise": 0.5}, "epochs": 10},
    ),
    "mobilenet": (
        "images",
        {
            "backbone": {"width": 0.25, "weights": "embedded"},
            "copies": 1,
            "epochs": 12,
            "mix": {"kind": "mixup", "alpha": 1.0},
        },
    ),
}
KILLS = int(os.environ.get("TRAINYARD_KILLS", "1"))
"""Of each, at random moments: half a minute each on two cores."""
SEED = int(os.environ.get("TRAINYARD_SEED") or random.SystemRandom().randrange(10**6))
SINCE = ("start", "first epoch")
"""What a point is counted from, in turn: much of so small a training is compilation, and the epochs fly by after it."""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with a model of each family, prepared, and what an undisturbed training leaves and takes of each."""
    here = tmp_path_factory.mktemp("project")
    blocks = {"seed": 3, "datasets": {}, "train": {}, "finetune": {}, "evaluate": {}}
    before = Path.cwd()
    os.chdir(here)
    try:
        for name, (kind, knobs) in KILLED.items():
            Path(name).mkdir()
            objective = {"series": "forecast", "tables": "binary", "speech": "transcription"}.get(kind, "multiclass")
            dataset = SAMPLES[kind](Path(name), objective)
            blocks["datasets"][name] = dataset.model_dump(mode="json", exclude_unset=True)
            blocks["datasets"][name]["audit"] = "warn"  # of so few letters the same word is said by several
            family = name if name in FAMILIES else "rnn"
            model = {"family": family, "dataset": name, "batch_size": 16, **knobs}
            blocks["finetune" if family == "mobilenet" else "train"][name] = model
            blocks["evaluate"][name] = {"dataset": name}
        blocks["finetune"]["mobilenet"]["thaw"] = {
            "layers": 6,
            "epochs": 5,
            "learning_rate": 0.01,
            "rate_decay": 0.5,
            "warm_up": 2,
        }
        YAML().dump(blocks, Path("params.yaml"))
        for name in KILLED:
            assert cli.main(["validate", name]) == cli.main(["prepare", name]) == 0
        assert cli.main(["backbone", "mobilenet"]) == 0
    finally:
        os.chdir(before)
    found = {}
    for name in KILLED:
        done = stage(here, name)
        assert done.returncode == 0, done.stderr
        found[name] = (left(here, name), dict(zip(SINCE, map(float, done.stdout.split()), strict=True)))
        assert not (here / resume.ROOT / name).exists(), "removed when the training has ended"
    return here, found


def stage(here, name, since="never", after=0.0):
    verb = "finetune" if name == "mobilenet" else "train"
    command = [sys.executable, "-c", STAGE, verb, name, since, str(after)]
    return subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)


def left(here, name):
    """Every byte of `models/NAME`: the best model, its history, what it is."""
    folder = here / "models" / name
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=pytest.mark.fault(
                number=4,
                what=f"a training ({name}) is killed (SIGKILL) in an epoch, between two, or while its state is written",
                then="the next one goes on from there and ends in the same bits, history and best weights too",
            ),
        )
        for name in KILLED
    ],
)
def test_a_killed_training_ends_in_the_same_bits(project, name):
    """Model, history and best weights, wherever it was killed: in an epoch, between two, in the middle of a write."""
    here, undisturbed = project
    expected, seconds = undisturbed[name]
    sys.stdout.write(f"TRAINYARD_SEED={SEED}\n")  # shown where it fails
    chance, told = random.Random(f"{SEED} {name}"), ""
    for point in range(KILLS):
        shutil.rmtree(here / "models" / name)
        since = SINCE[point % 2 - 1]
        after = chance.uniform(0.1, 1) * seconds[since]
        while (killed := stage(here, name, since, after)).returncode == 0:  # it was faster than the undisturbed one
            after *= 0.8
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        again = stage(here, name)
        assert again.returncode == 0, again.stderr
        assert left(here, name) == expected, f"killed {after:.2f} s after {since}\n{again.stderr}"
        assert not (here / resume.ROOT / name).exists()
        told += again.stderr
    assert "goes on after epoch" in told, "no training was killed after its first epoch"


def test_other_params_data_or_code_never_go_on_from_a_state(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "build" / "d").mkdir(parents=True)
    (tmp_path / "build" / "d" / "x.npy").write_bytes(b"1")
    table = {"kind": "tables", "path": "d.csv", "target": "t", "objective": "binary"}

    def key(seed=1, epochs=3):
        block = {"family": "mlp", "dataset": "d", "epochs": epochs}
        asked = {"seed": seed, "datasets": {"d": table}, "train": {"m": block}, "evaluate": {"m": {"dataset": "d"}}}
        return resume.of("m", params.Params(**asked)).folder

    same = key()
    assert key() == same
    assert len({same, key(seed=2), key(epochs=4)}) == 3
    (tmp_path / "build" / "d" / "x.npy").write_bytes(b"2")
    assert key() != same
