"""Runs: live while a training goes on, or rebuilt from its files; in one experiment a dataset, named by content.

Whatever a run holds is in files too, so a server that is down never costs a training: `register` rebuilds the run.
"""

import json
import logging
import math
import os
import platform
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pandas as pd

from trainyard import files
from trainyard.kinds import Prepared
from trainyard.params import Params
from trainyard.quality.verdict import Change
from trainyard.tracking import energy, store
from trainyard.tracking.energy import Meter

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Metric, Run

log = logging.getLogger(__name__)

PATIENCE = 10
"""Seconds that a training which is over waits for its last figures to be written."""
AWAY, PAUSE = 90, 2
"""Seconds that a server may be away while the training goes on, and those between two tries."""
HASTE = 2
"""Seconds in which a training that was told to end may still write figures: how it ended is written after them."""


@contextmanager
def live(name: str, params: Params, data: Prepared, used: Mapping[str, str] = MappingProxyType({})) -> Iterator["Live"]:
    """A run of a model while it trains; it ends as FINISHED, FAILED, or KILLED when the training is interrupted.

    `used` are tags that say what computes: another process may replace them as long as the training goes on.
    """
    run = Live(name, params, data, used)
    status = "FAILED"
    try:
        yield run
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        run.close(status)


class Live:
    """A run that is written by a thread of its own: the training never waits for it, and goes on where it breaks.

    Where nobody answers at the start (at most 9 seconds), or MLflow fails later and for longer than a server takes to
    start again, one line says so and nothing more is written.
    """

    lost = "the run is not tracked live: %s (`register` rebuilds it from the files)"
    """What is told where MLflow fails, with the reason."""

    def __init__(
        self, name: str, params: Params, data: Prepared, used: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Find out whether MLflow answers; all else is left to the thread."""
        self._todo: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._seen: set[int] = set()
        self._ended, self._closing, self._lost, self._latest = False, Event(), False, math.inf
        self._used = used
        try:
            with store.connected() as client:
                # imported here and not in the thread: two threads that import at once can stand in each other's way
                from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
            self._client, self._name, self._data = client, name, data
            self._params, self._tags = described(name, params.model(name).model_dump(mode="json"), params, data)
            self._monitored = partial(SystemMetricsMonitor, sampling_interval=1, tracking_uri=store.uri())
            # it fails where the run fails, which is told once
            logging.getLogger("mlflow.system_metrics").setLevel(logging.CRITICAL)
        except Exception as error:  # noqa: BLE001  # whatever it is, the training goes on
            self._give_up(error)
            return
        self._meter, self._began = Meter(), time.monotonic()
        self._thread = Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    def log_epoch(self, epoch: int, row: Mapping[str, float]) -> None:
        """The figures of an epoch, counted from 1."""
        self._todo.put(partial(self._log_epoch, epoch, dict(row), now()))

    def finished(self, folder: Path) -> None:
        """The training is over and `folder`, models/NAME, is written."""
        if self._thread:
            figures, joules = {"training/seconds": time.monotonic() - self._began}, self._meter.read()
            if counted := self._meter.of:
                figures["training/watt_hours"] = joules / 3600
            self._todo.put(partial(self._finish, folder, figures, counted or "unknown"))

    def close(self, status: str) -> None:
        """End the run; `live` calls this."""
        if self._thread is None:
            return
        self._closing.set()
        if status == "KILLED":
            self._latest = time.monotonic() + HASTE
        self._todo.put(partial(self._end, status))
        self._todo.put(None)
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            self._give_up(TimeoutError(f"not done {PATIENCE} s after the training"))

    def _give_up(self, error: Exception) -> None:
        if not self._lost:
            self._lost = True
            log.warning(self.lost, str(error).partition("\n")[0])

    def _work(self) -> None:
        try:
            self._persist(self._begin)
            for task in self._tasks():
                self._persist(task)
        except Exception as error:  # noqa: BLE001  # whatever it is, the training goes on
            self._give_up(error)

    def _tasks(self) -> Iterator[Callable[[], object]]:
        """What is to be done, in its order; where nothing is, the meter is read."""
        while True:
            try:
                task = self._todo.get(timeout=energy.OFTEN)
            except Empty:
                task = self._meter.read
            if task is None:
                return
            yield task

    def _persist(self, task: Callable[[], object]) -> None:
        """Try again while the training goes on; what was written once may be written twice."""
        from mlflow.exceptions import MlflowException

        latest = time.monotonic() + AWAY
        while True:
            try:
                task()
            except MlflowException:
                if self._closing.is_set() or time.monotonic() > latest:
                    raise
                self._closing.wait(PAUSE)
            else:
                return

    def _begin(self) -> None:
        self._experiment = store.experiment(self._client, self._data.name)
        end_dead(self._client, self._experiment, self._name)
        tags = {**self._tags, **self._used, "trainyard.place": _place()}
        with store.once():
            self._run = self._client.create_run(self._experiment, tags=tags, run_name=self._name).info.run_id
        log_described(self._client, self._run, self._params, self._data)
        self._monitor = self._monitored(self._run)
        self._monitor.start()  # type: ignore[no-untyped-call]

    def _log_epoch(self, epoch: int, row: Mapping[str, float], at: int) -> None:
        # a resumed training may tell of an epoch again
        if epoch not in self._seen and time.monotonic() < self._latest:
            self._client.log_batch(self._run, metrics=points(epoch, row, at))
            self._seen.add(epoch)

    def _finish(self, folder: Path, figures: Mapping[str, float], counted: str) -> None:
        content = content_of(folder)
        for epoch, row in _history(folder):
            self._log_epoch(epoch, row, now())
        if with_content(self._client, self._experiment, content):  # trained again to the same bits
            self._end("FINISHED")
            self._client.delete_run(self._run)
            return
        self._client.update_run(self._run, name=run_name(self._name, content))
        self._client.set_tag(self._run, "trainyard.energy", counted)
        self._client.log_batch(self._run, metrics=points(0, figures, now()))
        self._client.set_tag(self._run, "trainyard.content", content)
        self._end("FINISHED")

    def _end(self, status: str) -> None:
        if not self._ended:
            self._monitor.finish()  # type: ignore[no-untyped-call]
            for tag, value in self._used.items():
                self._client.set_tag(self._run, tag, value)
            self._client.set_terminated(self._run, status)
            self._ended = True


def rebuild(client: "MlflowClient", name: str, params: Params, data: Prepared, folder: Path) -> "Run":
    """Write the run of `folder`, models/NAME, from its files; what an earlier try left half done goes first."""
    content, experiment = content_of(folder), store.experiment(client, data.name)
    end_dead(client, experiment, name)
    for half in tagged(client, experiment, {"trainyard.content": content}):
        client.delete_run(half.info.run_id)
    model_params, tags = described(name, files.read_json(folder / "model.json")["params"], params, data)
    tags |= {"trainyard.content": content, "trainyard.rebuilt": "true"}
    with store.once():
        run_id = client.create_run(experiment, tags=tags, run_name=run_name(name, content)).info.run_id
    log_described(client, run_id, model_params, data)
    metrics = [metric for epoch, row in _history(folder) for metric in points(epoch, row, now())]
    for start in range(0, len(metrics), 1000):  # as many as a server takes at once
        client.log_batch(run_id, metrics=metrics[start : start + 1000])
    client.set_terminated(run_id, "FINISHED")
    return client.get_run(run_id)


def content_of(folder: Path) -> str:
    """The hash of models/MODEL, by which runs and versions are found."""
    return files.digest([folder], folder)


def run_name(name: str, content: str) -> str:
    """The name of a run, the same wherever and whenever the content is made."""
    return f"{name}-{content[:8]}"


def with_content(client: "MlflowClient", experiment: str, content: str) -> "Run | None":
    """The finished run of a content that nobody has deleted."""
    return next(iter(tagged(client, experiment, {"trainyard.content": content}, "FINISHED")), None)


def stale(params: Params) -> list[str]:
    """The models of which this folder has runs that are RUNNING; those whose training is over have lost their end."""
    with store.connected() as client:
        experiments = [client.get_experiment_by_name(name) for name in params.datasets]
        found = [
            run.data.tags["trainyard.model"]
            for experiment in experiments
            if experiment
            for run in tagged(client, experiment.experiment_id, {"trainyard.place": _place()}, "RUNNING")
            if "trainyard.model" in run.data.tags
        ]
        return sorted(set(found))


def changed(client: "MlflowClient", dataset: str, content: str, before: str) -> tuple[Change, ...] | None:
    """Params, and the prepared data, that differ between the runs of two contents; None where one is not there."""
    experiment = store.experiment(client, dataset)
    now, was = (with_content(client, experiment, one) for one in (content, before))
    if not (now and was):
        return None
    told = [{**run.data.params, "prepared data": run.data.tags.get("trainyard.data", "")[:8]} for run in (was, now)]
    names = sorted(name for name in {*told[0], *told[1]} if told[0].get(name) != told[1].get(name))
    return tuple(Change(name, *(one.get(name, "-") for one in told)) for name in names)


def cost(client: "MlflowClient", run_id: str | None) -> str:
    """Time and energy of a training, in words; "" where it was not tracked live, or its run was purged."""
    from mlflow.exceptions import MlflowException

    if not run_id:  # of a version that trainyard has not made
        return ""
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return ""
    figures, counted = run.data.metrics, run.data.tags.get("trainyard.energy")
    if "training/seconds" not in figures:
        return ""
    used = f"{figures['training/watt_hours']:.3g} Wh of {counted}" if "training/watt_hours" in figures else "unknown"
    return f"{figures['training/seconds']:.1f} s, energy {used}"


def end_dead(client: "MlflowClient", experiment: str, name: str) -> None:
    """End the runs of a model whose training was killed in this very folder and could not say so."""
    for run in tagged(client, experiment, {"trainyard.model": name, "trainyard.place": _place()}, "RUNNING"):
        client.set_terminated(run.info.run_id, "KILLED")


def described(
    name: str, model: Mapping[str, Any], params: Params, data: Prepared
) -> tuple[dict[str, str], dict[str, str]]:
    """Params and tags of a run: what was asked for, and the code and stage that did it."""
    from mlflow.tracking.context.git_context import GitRunContext
    from mlflow.tracking.context.registry import resolve_tags
    from mlflow.utils.git_utils import get_git_commit

    blocks = {
        **model,
        "data": data.spec.model_dump(mode="json"),
        "seed": params.seed,
        "training": params.training.model_dump(mode="json"),
    }
    stage = "train" if name in params.train else "finetune"
    tags = {
        "trainyard.model": name,
        "trainyard.dataset": data.name,
        "trainyard.stage": stage,
        "trainyard.params": sha256(json.dumps(blocks, sort_keys=True).encode()).hexdigest(),
        "mlflow.source.name": f"trainyard {stage} {name}",
        "mlflow.source.git.commit": get_git_commit("."),
    }
    tags |= {variable: os.environ.get(variable) for variable in ("DVC_STAGE", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV")}
    known = {key: value for key, value in tags.items() if value}
    # MLflow would take the commit of the folder that the command is installed in; ours is the project's
    return dict(flat(blocks)), resolve_tags(known, ignore=[GitRunContext])  # type: ignore[list-item]  # it wants classes


def log_described(client: "MlflowClient", run_id: str, params: Mapping[str, str], data: Prepared) -> None:
    """Params, the digest of the prepared data, and its splits as dataset inputs."""
    from mlflow.entities import Param

    entries = [Param(key, value) for key, value in params.items()]
    for start in range(0, len(entries), 100):  # as many as a server takes at once
        client.log_batch(run_id, params=entries[start : start + 100])
    client.set_tag(run_id, "trainyard.data", data_digest(data.name))
    client.log_inputs(run_id, _inputs(data))


def data_digest(dataset: str, split: str = "") -> str:
    """The hash of build/DATASET, or of one split of it."""
    folder = Path("build") / dataset / split
    return files.digest([folder], folder)


def _history(folder: Path) -> Iterator[tuple[int, dict[str, float]]]:
    for epoch, row in pd.read_csv(folder / "history.csv", index_col="epoch").iterrows():
        yield int(str(epoch)), {str(name): float(value) for name, value in row.items()}


def _inputs(data: Prepared) -> list["DatasetInput"]:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = json.dumps({"uri": data.spec.path})
    found = []
    for split, examples in [("train", data.train), ("validation", data.validation), ("test", data.test)]:
        digest, profile = data_digest(data.name, split)[:8], json.dumps({"num_rows": len(examples)})
        dataset = Dataset(data.name, digest, "local", source, profile=profile)
        found.append(DatasetInput(dataset, [InputTag("mlflow.data.context", split)]))
    return found


def tagged(client: "MlflowClient", experiment: str, tags: Mapping[str, str], status: str | None = None) -> list["Run"]:
    """The runs of an experiment that have these tags, the oldest first."""
    asked = [f"tags.`{key}` = '{value}'" for key, value in tags.items()]
    asked += [f"attributes.status = '{status}'"] if status else []
    return list(client.search_runs([experiment], " and ".join(asked), order_by=["attributes.start_time ASC"]))


def points(epoch: int, row: Mapping[str, float], at: int) -> list["Metric"]:
    """The figures of an epoch as MLflow takes them; `at` is in milliseconds since 1970."""
    from mlflow.entities import Metric

    # MLflow would keep an infinite loss as 1.8e308
    return [Metric(key, value, at, epoch) for key, value in row.items() if key != "kept" and math.isfinite(value)]


def flat(block: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Params as MLflow takes them, `optimizer.learning_rate`; lists, and mappings with odd keys, as JSON."""
    for key, value in block.items():
        if isinstance(value, Mapping) and value and all(re.fullmatch(r"[a-z]\w*", inner) for inner in value):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def _place() -> str:
    return sha256(f"{platform.node()}:{Path.cwd()}".encode()).hexdigest()[:12]


def now() -> int:
    """Milliseconds since 1970, as MLflow counts."""
    return int(time.time() * 1000)
