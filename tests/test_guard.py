"""A command ends in order when it is told to, works alone, and dies with its parent; tests/faults asks whole stages."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainyard import guard
from trainyard.errors import EnvironmentFailed

WORK = """
import sys, time
from trainyard import guard
guard.EPOCH, guard.PATIENCE = 0.3, 1.0
with guard.in_order(), guard.alone("train m"):
    {before}
    try:
        with guard.{around}:
            print("at work", flush=True)
            {body}
    finally:
        print("in order", flush=True)
"""
NOTHING = "alone('other')"


def working(body="time.sleep(30)", around=NOTHING, before="pass", **how):
    """A process that has come to its body."""
    code = WORK.format(body=body, around=around, before=before)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = subprocess.Popen([sys.executable, "-c", code], **pipes, **how)
    assert running.stdout.readline() == "at work\n", running.stderr.read()
    return running


def ended(running, seconds=5):
    began = time.monotonic()
    out, err = running.communicate(timeout=30)
    assert time.monotonic() - began < seconds
    return running.returncode, out, err


LINE = "error: told to end (SIGTERM); run it again: a training or a `predict` goes on from its last state\n"


def test_sigterm_ends_in_order(here):
    running = working()
    running.terminate()
    assert ended(running) == (143, "in order\n", LINE)
    assert not Path(".trainyard").exists()


@pytest.mark.parametrize("around", [NOTHING, "epochs()"])
def test_sigterm_ends_in_order_what_nobody_reads_any_more(here, around):
    running = working("[time.sleep(0.1) for _ in range(5)]", around)
    running.stderr.close()
    running.terminate()
    with running.stdout as told:
        assert told.read() == "in order\n"
    assert running.wait(5) == 143


def test_an_epoch_comes_to_its_end_first(here):
    body = "time.sleep(0.1); print('an epoch', flush=True); guard.ending() and guard.end(); print('another')"
    running = working(body, "epochs()")
    running.terminate()
    assert ended(running) == (143, "an epoch\nin order\n", LINE)


def test_an_epoch_that_takes_too_long_is_broken_off(here):
    running = working("[time.sleep(0.1) for _ in range(100)]", "epochs()")
    running.terminate()
    assert ended(running) == (143, "in order\n", LINE)


def test_what_asks_for_nothing_after_its_epochs_ends_all_the_same(here):
    running = working("time.sleep(0.1)", "epochs()")
    running.terminate()
    assert ended(running) == (143, "in order\n", LINE)


def test_what_does_not_let_python_see_the_signal_is_gone_in_time(here):
    """Like a network that XLA compiles: one call of C."""
    running = working("import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)")
    running.terminate()
    assert ended(running)[0] == 143


def test_a_second_signal_breaks_nothing_off(here):
    running = working("time.sleep(0.2); print('kept', flush=True)", "epochs()")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        running.send_signal(number)
        time.sleep(0.02)
    assert ended(running) == (143, "kept\nin order\n", LINE)


def test_one_at_a_time_and_nothing_is_left(here):
    running = working()
    assert guard.at_work() == ["other", "train-m"]
    with pytest.raises(EnvironmentFailed, match="train m: another process is at it"), guard.alone("train m"):
        pass
    with guard.alone("train n"):
        assert "train-n" in guard.at_work()
    running.kill()
    ended(running)
    assert guard.at_work() == []
    with guard.alone("train m"):
        pass
    (here / ".trainyard/locks/other.lock").unlink()
    (here / ".trainyard/locks").rmdir()
    assert [*(here / ".trainyard").iterdir()] == []


def test_what_fails_leaves_no_lock(here):
    with pytest.raises(ValueError, match="mine"), guard.alone("train m"):
        raise ValueError("mine")
    assert [*here.iterdir()] == []


PARENT = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]], stdin=0).wait()"


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_it_ends_with_its_parent(here, platform):
    """Where Linux tells it, and where a thread has to look."""
    if sys.platform != "linux":
        pytest.skip("asks Linux for both")
    code = WORK.format(body="time.sleep(30)", around=NOTHING, before="sys.stdout.flush()")
    code = code.replace("import sys, time", f"import sys, time; sys.platform = {platform!r}")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    parent = subprocess.Popen([sys.executable, "-c", PARENT, code], **pipes)
    assert parent.stdout.readline() == "at work\n"
    parent.kill()
    assert ended(parent) == (-signal.SIGKILL, "in order\n", LINE)


def test_what_nohup_started_outlives_its_parent(here):
    code = WORK.format(body="time.sleep(2)", around=NOTHING, before="pass")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    without = {name: text for name, text in os.environ.items() if name != "DVC_STAGE"}
    parent = subprocess.Popen(["nohup", sys.executable, "-c", PARENT, code], env=without, **pipes)
    assert parent.stdout.readline() == "at work\n"
    parent.kill()
    assert ended(parent)[:2] == (-signal.SIGKILL, "in order\n")
