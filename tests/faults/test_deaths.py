"""Processes that die: a stage, `dvc repro` above it, two at once, and a machine that is taken back."""

import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest
from yard import OUTPUTS, STAGES, until

KILLS = int(os.environ.get("TRAINYARD_KILLS", "1"))
"""Of each stage, at random moments: 25 take a quarter of an hour."""
SEED = int(os.environ.get("TRAINYARD_SEED") or random.SystemRandom().randrange(10**6))

LONG = "epochs: 10}", "epochs: 100000, batch_size: 1}"
"""So that a training is there to be killed."""

NAMES = {"validate d": 2, "prepare d": 3, "train m": 4, "evaluate m": 5, "register m": 6}


def training(yard, command="dvc repro train@m"):
    """A long training, once it has made epochs; gives the process that was started, and the training's own."""
    yard.replace("params.yaml", *LONG)
    started = yard.start(command)
    assert until(lambda: "epoch 3/" in yard.told), yard.told
    children = subprocess.run(
        ["pgrep", "-g", str(started.pid), "-f", "trainyard train m"], capture_output=True, text=True, check=True
    )
    return started, int(children.stdout.split()[-1])


def alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(
            signal.SIGKILL,
            marks=pytest.mark.fault(
                number=7,
                what="`dvc repro` is killed (SIGKILL)",
                then="its stage ends within 10 s, its run as KILLED; the next `dvc repro` gives the right files",
            ),
        ),
        pytest.param(
            signal.SIGTERM,
            marks=pytest.mark.fault(number=8, what="a CI job is cancelled: `dvc repro` gets SIGTERM", then="the same"),
        ),
    ],
    ids=["7", "8"],
)
def test_a_stage_ends_with_dvc(undisturbed, yard, number):
    repro, stage = training(yard)
    began = time.monotonic()
    os.kill(repro.pid, number)
    assert repro.wait() == -number
    assert until(lambda: not alive(stage), 12)
    assert time.monotonic() - began < 10
    yard.holds()
    assert until(lambda: "RUNNING" not in yard.runs(), 5), "it could say so itself"
    assert yard.runs()[-1] == "KILLED"
    yard.replace("params.yaml", *reversed(LONG))
    yard.recovers(undisturbed)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(
            signal.SIGKILL,
            -signal.SIGKILL,
            marks=pytest.mark.fault(
                number=7, what="`trainyard repro --jobs 2` is killed (SIGKILL)", then="all that it started ends with it"
            ),
        ),
        pytest.param(
            signal.SIGTERM,
            143,
            marks=pytest.mark.fault(number=8, what="`trainyard repro --jobs 2` gets SIGTERM", then="the same"),
        ),
    ],
    ids=["7", "8"],
)
def test_stages_side_by_side_end_with_who_started_them(undisturbed, yard, number, code):
    repro, _ = training(yard, "trainyard repro --jobs 2")
    began = time.monotonic()
    os.kill(repro.pid, number)
    assert repro.wait() == code
    assert until(lambda: not yard.processes(), 12)
    assert time.monotonic() - began < 10
    yard.holds()
    assert yard.runs()[-1] == "KILLED"
    yard.replace("params.yaml", *reversed(LONG))
    yard.recovers(undisturbed)


@pytest.mark.fault(
    number=7,
    what="`dvc repro` is killed before its stage has begun",
    then="the stage notices that its parent is gone, and ends before it writes anything",
)
def test_a_stage_whose_parent_was_gone_before_it_began(yard):
    """As DVC starts one: in its own process group, with its name in the environment; then the parent ends at once."""
    yard.replace("params.yaml", *LONG)
    code = "import subprocess, sys; subprocess.Popen(sys.argv[1:])"
    starting = yard.start([sys.executable, "-c", code, "trainyard", "train", "m"], DVC_STAGE="train@m")
    assert starting.wait() == 0
    assert until(lambda: "told to end" in yard.told, 30), yard.told
    assert until(lambda: not yard.processes(), 12)
    assert "epoch " not in yard.told
    yard.holds()


@pytest.mark.fault(
    number=10,
    what="a machine is taken back: SIGTERM in a training",
    then="a state is kept, exit 143 within 10 s, the run is KILLED, and the next training goes on at the next epoch",
)
@pytest.mark.fault(
    number=11,
    what="SIGTERM and SIGINT again while that state is written",
    then="the first one comes to its end: the state is whole",
)
@pytest.mark.parametrize("engine", ["tensorflow", "jax"])
def test_sigterm_in_a_training(yard, engine):
    yard.replace("params.yaml", "device: cpu", f"device: cpu, engine: {engine}")
    started, stage = training(yard, "trainyard train m")
    assert stage == started.pid
    began = time.monotonic()
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGINT):
        os.kill(stage, number)
        time.sleep(0.002)
    assert started.wait(15) == 143
    assert time.monotonic() - began < 10
    assert (
        yard.refusal()
        == "error: told to end (SIGTERM); run it again: a training or a `predict` goes on from its last state"
    )
    assert yard.runs()[-1] == "KILLED"
    last = max(int(number) for number in re.findall(r"epoch (\d+)/", yard.told))
    yard.holds()
    again = yard.start("trainyard train m")
    assert until(lambda: f"epoch {last + 2}/" in yard.told)
    os.kill(again.pid, signal.SIGTERM)
    assert again.wait(15) == 143
    assert f"goes on after epoch {last}," in yard.told
    assert f"epoch {last}/" not in yard.told
    assert f"epoch {last + 1}/" in yard.told


@pytest.mark.fault(
    number=10,
    what="SIGTERM in a training whose lines nobody reads any more, as who started it is gone",
    then="the same: it is told to end, and did not fail",
)
def test_sigterm_in_a_training_that_nobody_hears(yard):
    yard.replace("params.yaml", *LONG)
    into = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8"}
    command = ["trainyard", "train", "m"]
    with subprocess.Popen(command, cwd=yard.folder, env=yard.environment, start_new_session=True, **into) as started:
        assert any("epoch 3/" in line for line in started.stdout)
        started.stdout.close()
        os.kill(started.pid, signal.SIGTERM)
        assert started.wait(60) == 143
    assert yard.runs()[-1] == "KILLED"
    yard.holds()


@pytest.mark.fault(
    number=24,
    what="two `dvc repro` at once",
    then="the second is refused at once in one line, exit 5; the first goes on",
)
def test_of_two_lines_in_one_folder_the_second_is_refused(yard):
    first, stage = training(yard, "trainyard repro")
    told = yard.told
    began = time.monotonic()
    yard.run("trainyard repro", expect=5)
    assert time.monotonic() - began < 10
    assert yard.refusal() == "error: repro: another process is at it in this folder (wait for its end)"
    assert "Running stage" not in yard.told
    yard.run("trainyard train m", expect=5)
    assert yard.refusal() == "error: train m: another process is at it in this folder (wait for its end)"
    assert alive(stage)
    assert "epoch 3/" in told
    os.kill(first.pid, signal.SIGTERM)
    first.wait()
    assert until(lambda: not yard.processes(), 12)
    yard.holds()


@pytest.mark.fault(
    number=25,
    what="two trainings in two containers (PID namespaces) on one folder",
    then="the second is refused at once, exit 5: the lock is on the file, not on a number",
)
def test_of_two_containers_on_one_folder_the_second_is_refused(yard):
    probe = subprocess.run(["unshare", "--user", "--map-root-user", "--pid", "--fork", "true"], check=False)
    if probe.returncode:
        pytest.skip("no PID namespace can be had here")
    first, _ = training(yard, "trainyard train m")
    yard.run("unshare --user --map-root-user --pid --fork trainyard train m", expect=5)
    assert "another process is at it" in yard.refusal()
    first.kill()
    first.wait()
    yard.holds()


@pytest.mark.parametrize(
    ("stage", "output"),
    [
        pytest.param(
            stage,
            output,
            marks=pytest.mark.fault(
                number=NAMES[stage],
                what=f"`{stage.split()[0]}` is killed (SIGKILL) at a random moment",
                then="no output is half, the champion is the same, and when it is run again it ends in the same bytes",
            ),
        )
        for stage, output in zip(STAGES, [*OUTPUTS, OUTPUTS[-1]], strict=True)
    ],
)
def test_a_stage_that_is_killed(undisturbed, yard, stage, output):
    chance = random.Random(f"{SEED} {stage}")
    sys.stdout.write(f"TRAINYARD_SEED={SEED}\n")  # shown where it fails
    began = time.monotonic()
    yard.run(f"trainyard {stage}")
    seconds = time.monotonic() - began
    assert yard.read(output) == undisturbed.read(output), "the same bytes without a fault"
    for _ in range(KILLS):
        running = yard.start(f"trainyard {stage}")
        time.sleep(chance.uniform(0.2, 1) * seconds)
        running.kill()
        assert running.wait() in (-signal.SIGKILL, 0)
        yard.holds()
        assert yard.read(output).items() <= undisturbed.read(output).items(), (
            "old and new are the same bytes: no others"
        )
    yard.run(f"trainyard {stage}")
    assert yard.read(output) == undisturbed.read(output)
    assert "RUNNING" not in yard.runs()
    yard.holds()
