"""Sweeps: a parent run for a study, and below it a run for each of its trials, written when the trial has ended.

The study holds all that is written here. So runs that are missing, as the process was killed or MLflow did not answer,
are written when the study is opened again, and none is written twice.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from trainyard.kinds import Prepared
from trainyard.params import Params
from trainyard.quality.sweeps import Trial
from trainyard.tracking import runs, store
from trainyard.tracking.runs import Live

PARENT = "mlflow.parentRunId"
"""The tag by which MLflow's pages show a run below another."""


@contextmanager
def sweep(name: str, params: Params, data: Prepared, study: str) -> Iterator["Sweep"]:
    """The runs of a study; its own ends as FINISHED, FAILED, or KILLED when the study is interrupted."""
    shown = Sweep(name, params, data, study)
    status = "FAILED"
    try:
        yield shown
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        shown.close(status)


class Sweep(Live):
    """Runs that are written by a thread of their own: no trial waits for it, and none is lost where it breaks."""

    lost = "the sweep is not tracked: %s (`trainyard tune` writes what is missing when it is called again)"

    def __init__(self, name: str, params: Params, data: Prepared, study: str) -> None:
        """`study` is the id of the study."""
        self._study = study
        super().__init__(name, params, data)

    def trial(self, trial: Trial) -> None:
        """A trial has ended; of those that have a run nothing more is written."""
        self._todo.put(partial(self._trial, trial))

    def result(self, figures: Mapping[str, float]) -> None:
        """What came of it, in the study's own run."""
        self._todo.put(partial(self._result, dict(figures)))

    def _begin(self) -> None:
        self._experiment = store.experiment(self._client, self._data.name)
        # not the model's tags, by which runs of trainings are found
        tags = {key: value for key, value in self._tags.items() if key not in ("trainyard.model", "trainyard.stage")}
        own = {"trainyard.tune": self._name, "trainyard.study": self._study}
        name = f"tune-{self._name}-{self._study[:8]}"
        tags |= own | {"mlflow.source.name": f"trainyard tune {self._name}"}
        found = runs.tagged(self._client, self._experiment, own)
        parent = found[0] if found else self._client.create_run(self._experiment, tags=tags, run_name=name)
        self._run = parent.info.run_id
        self._client.update_run(self._run, "RUNNING")
        runs.log_described(self._client, self._run, self._params, self._data)
        for child in runs.tagged(self._client, self._experiment, {PARENT: self._run}):
            if child.info.status == "RUNNING":  # half written, by a process that was killed
                self._client.delete_run(child.info.run_id)
            else:
                self._seen.add(int(child.data.tags["trainyard.trial"]))

    def _trial(self, trial: Trial) -> None:
        from mlflow.entities import Param

        if trial.number in self._seen:
            return
        half = {PARENT: self._run, "trainyard.trial": str(trial.number)}  # of a try that MLflow broke off
        for left in runs.tagged(self._client, self._experiment, half):
            self._client.delete_run(left.info.run_id)
        tags = {PARENT: self._run, "trainyard.tune": self._name, "trainyard.trial": str(trial.number)}
        tags |= {"trainyard.why": trial.why} if trial.why else {}
        began, ended = (int(time.timestamp() * 1000) for time in (trial.began, trial.ended))
        name = f"{self._name}-{trial.number}"
        run = self._client.create_run(self._experiment, began, tags, name).info.run_id
        figures = [
            point
            for row in trial.rows
            for point in runs.points(int(row["epoch"]), {key: row[key] for key in row if key != "epoch"}, ended)
        ]
        asked = [Param(key, value) for key, value in runs.flat(trial.knobs)]
        for start in range(0, max(len(figures), 1), 1000):  # as many as a server takes at once
            self._client.log_batch(run, metrics=figures[start : start + 1000], params=asked)
        if trial.value is not None:
            self._client.log_metric(run, "kept_val_loss", trial.value, ended)
        self._client.set_terminated(run, "KILLED" if trial.why else "FINISHED", ended)
        self._seen.add(trial.number)

    def _result(self, figures: Mapping[str, float]) -> None:
        self._client.log_batch(self._run, metrics=runs.points(0, figures, runs.now()))

    def _end(self, status: str) -> None:
        self._client.set_terminated(self._run, status)
