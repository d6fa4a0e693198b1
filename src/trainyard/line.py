"""The line as DVC knows it: which stages have to run, one after the other or side by side."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

from trainyard.errors import EnvironmentFailed

if TYPE_CHECKING:
    from dvc.repo import Repo

log = logging.getLogger(__name__)

LOCK = Path("dvc.lock")
FAILED = 255
"""What DVC ends with where a stage fails, whatever the stage ended with."""
DVC = (
    "import sys; from trainyard import guard; guard.end_with(int(sys.argv.pop(1)));"
    "from dvc.cli import main; sys.exit(main(sys.argv[1:]))"
)
"""A DVC that ends with the process whose number is its first argument."""


def changed() -> list[str]:
    """Stages that data, params or code have left behind, in the order of `dvc repro`.

    What is only missing does not count, so that a fresh clone can be asked.
    """
    with _opened() as repo:
        return list(_waiting(repo, missing=True))


def repro(asked: Sequence[str]) -> int:
    """`dvc repro` in this process, so that what holds the lock of the line is what runs it; gives DVC's exit code.

    Asked are stages, by default all, and DVC's own options.
    """
    from dvc.cli import main

    logging.getLogger().handlers.clear()  # DVC prints for itself
    return int(main(["repro", *asked]))


def refuse_uncached() -> None:
    """Raises EnvironmentFailed where the cache lacks an output that is there: `dvc repro` only tells of a full disk."""
    with _opened() as repo:
        outputs = [out for out in repo.index.outs if out.use_cache and out.hash_info and out.exists]
        if lacking := [str(out) for out in outputs if out.changed_cache()]:
            raise EnvironmentFailed(
                *(f"{name}: not in DVC's cache (is its disk full? then `dvc commit`)" for name in lacking)
            )


def side_by_side(jobs: int, asked: Sequence[str] = ()) -> int:
    """Run what has to run, `jobs` stages at a time, each by a `dvc repro` of its own once those before it are done.

    DVC lets go of its lock while a command runs, and takes turns at all else. dvc.lock is afterwards the same as after
    one `dvc repro`. Where a stage fails those that run end and no other begins; gives the exit code of DVC.
    Told to end, it tells them all.
    """
    with _opened() as repo:
        waiting = _waiting(repo)
        order = list(dict.fromkeys([*_locked(), *waiting]))
    log.info("%d stage(s) to run, %d at a time", len(waiting), jobs)
    stages, failed = TopologicalSorter(waiting), False
    stages.prepare()
    running: dict[Future[int], str] = {}
    processes: list[subprocess.Popen[str]] = []
    with ThreadPoolExecutor(jobs) as pool:
        try:
            while stages.is_active() and not failed:
                running |= {pool.submit(_run, [*asked, stage], processes): stage for stage in stages.get_ready()}
                for over in wait(running, return_when=FIRST_COMPLETED).done:
                    stages.done(running.pop(over))
                    failed |= over.result() != 0
            pool.shutdown(cancel_futures=failed)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()
            raise
    _sort_lock(order)
    return FAILED if failed else 0


@contextmanager
def _opened() -> Iterator["Repo"]:
    """DVC's own view of the project, locked; raises EnvironmentFailed where DVC cannot read it."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo, lock_repo

    try:
        with Repo() as repo, lock_repo(repo):
            yield repo
    except DvcException as error:
        raise EnvironmentFailed(f"DVC: {' '.join(str(error).split())}") from error


def _waiting(repo: "Repo", *, missing: bool = False) -> Mapping[str, list[str]]:
    """Stages that have to run, each after those that it depends on, and which of these have to run too."""
    from dvc.dvcfile import PROJECT_FILE
    from dvc.repo.reproduce import plan_repro

    found: dict[str, list[str]] = {}
    for stage in plan_repro(repo.index.graph, repo.stage.collect(PROJECT_FILE)):
        before = list(repo.index.graph.successors(stage))
        needs = [one.addressing for one in before if one.addressing in found]
        # a clone has some of the folders that `report` reads from git, and the rest is missing from them
        if needs or (not (missing and stage.addressing == "report") and stage.changed(missing, before)):
            found[stage.addressing] = needs
    return found


def _run(asked: Sequence[str], processes: "list[subprocess.Popen[str]]") -> int:
    command = [sys.executable, "-c", DVC, str(os.getpid()), "--wait-for-lock", "repro", "--single-item", *asked]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8") as process:  # noqa: S603  # our own arguments
        processes.append(process)
        for line in process.stdout or ():
            sys.stderr.write(f"{asked[-1]}: {line}")
    return process.returncode


def _locked() -> list[str]:
    from dvc.utils.serialize import load_yaml

    return list(load_yaml(LOCK)["stages"]) if LOCK.is_file() else []


def _sort_lock(order: list[str]) -> None:
    """Entries of dvc.lock as one `dvc repro` would have written them: the old ones stay where they are."""
    from dvc.utils.serialize import modify_yaml

    there = _locked()
    if there != (names := sorted(there, key=order.index)):
        with modify_yaml(LOCK) as lock:
            lock["stages"] = {name: lock["stages"][name] for name in names}
