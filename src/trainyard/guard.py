"""The guard of a command: it ends in order when it is told to, and a stage works alone and dies with its parent.

A `dvc repro` that is killed leaves the stage that it started, and a second one would start another that writes the same
outputs. So a stage asks the system to tell it when its parent is gone, and holds a lock, which the system takes from it
however it ends. Told to end (SIGTERM: a cloud takes the machine back, a CI job is cancelled), a training comes to the
end of its epoch and keeps its state; after `PATIENCE` seconds the process is gone, whatever it was at.
"""

import _thread
import ctypes
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from trainyard.errors import EnvironmentFailed

LOCKS = Path(".trainyard/locks")
PATIENCE = 9.0
"""Seconds from SIGTERM to the end."""
EPOCH = 5.0
"""Those of them in which an epoch may come to its end."""
TOLD = 143
"""The exit code of what SIGTERM ended."""
TOLD_IN_WORDS = b"error: told to end (SIGTERM); run it again: a training or a `predict` goes on from its last state\n"
PARENT_GONE = 1
"""`PR_SET_PDEATHSIG` of prctl(2)."""

_told, _late, _in_epochs = threading.Event(), threading.Event(), threading.Event()


@contextmanager
def in_order(words: bytes = TOLD_IN_WORDS) -> Iterator[None]:
    """Let SIGTERM end the command as `SystemExit`, with exit code 143: files stay whole, and a run ends as KILLED."""
    said, heard = socket.socketpair()
    said.setblocking(False)
    before = signal.signal(signal.SIGTERM, partial(_end, words))
    signal.set_wakeup_fd(said.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(heard,), name="guard", daemon=True).start()
    try:
        yield
    finally:
        if not _told.is_set():  # else the watch is kept until the process is gone
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, before)
            said.close()


@contextmanager
def epochs() -> Iterator[None]:
    """Within, an end waits for that of the epoch, `EPOCH` seconds at most: who trains asks `ending` after each."""
    _in_epochs.set()
    try:
        yield
        if ending():
            end()
    finally:
        _in_epochs.clear()


def ending() -> bool:
    """Whether the command was told to end."""
    return _told.is_set()


def end() -> None:
    """End the command."""
    sys.exit(TOLD)


@contextmanager
def alone(work: str) -> Iterator[None]:
    """Hold the lock of a piece of work, `train mlp`, and end when the process is gone that started this one.

    Raises EnvironmentFailed at once where another process has it.
    """
    lock = FileLock(LOCKS / f"{work.replace(' ', '-')}.lock")
    while not lock.is_locked:
        LOCKS.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except FileNotFoundError:  # another one has just left, and has removed the folder
            continue
        except Timeout:
            raise EnvironmentFailed(f"{work}: another process is at it in this folder (wait for its end)") from None
    try:
        with _with_parent():
            yield
    finally:
        with suppress(OSError):  # while it is held: who opens it now is refused, or finds that it has no name any more
            Path(lock.lock_file).unlink()
        lock.release()
        with suppress(OSError):  # other locks, or the states of trainings, are there
            LOCKS.rmdir()
            LOCKS.parent.rmdir()


def end_with(parent: int) -> None:
    """On Linux: get SIGTERM when this parent, or its thread that started this process, is gone; now if it is."""
    if sys.platform == "linux":
        _tell(signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)


def at_work() -> list[str]:
    """The locks that are held now, by the names of their files: `train-mlp`."""
    held = []
    for path in sorted(LOCKS.glob("*.lock")):
        try:
            with FileLock(path).acquire(timeout=0):
                pass
        except Timeout:
            held.append(path.stem)
    return held


def _end(words: bytes, *_: object) -> None:
    if not _told.is_set():
        _told.set()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second signal must not break off what the first one ends
        with suppress(OSError):  # who would read it may be gone, too
            os.write(2, words)  # not through a stream, which may be in the middle of a line
        if not _in_epochs.is_set():
            end()
    elif _late.is_set() and _in_epochs.is_set():
        end()


def _watch(heard: socket.socket) -> None:
    """See SIGTERM at once, though Python's own handler waits for the main thread, which XLA may keep for long."""
    with heard:
        while (signals := heard.recv(64)) and signal.SIGTERM not in signals:
            pass
        if signals:
            time.sleep(EPOCH)
            _late.set()
            _thread.interrupt_main(signal.SIGTERM)
            time.sleep(PATIENCE - EPOCH)
            os._exit(TOLD)


@contextmanager
def _with_parent() -> Iterator[None]:
    """SIGTERM when the parent is gone; but for what `nohup` started by hand, which is meant to outlive it."""
    by_dvc, over = "DVC_STAGE" in os.environ, threading.Event()
    if os.name != "posix" or (not by_dvc and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN):
        yield
        return
    parent = os.getppid()
    if sys.platform == "linux":
        _tell(signal.SIGTERM)
    else:
        threading.Thread(target=_watch_parent, args=(parent, over), daemon=True).start()
    # it may be gone already: DVC starts a stage in its own process group, and who adopts one is in another
    if by_dvc and os.getpgid(parent) != os.getpgrp():
        os.kill(os.getpid(), signal.SIGTERM)
    try:
        yield
    finally:
        over.set()
        if sys.platform == "linux":
            _tell(0)


def _tell(number: int) -> None:
    """Have Linux send this signal when the parent is gone; 0 is none."""
    ctypes.CDLL(None).prctl(PARENT_GONE, number)


def _watch_parent(parent: int, over: threading.Event) -> None:
    while not over.wait(0.5):
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)
            return
