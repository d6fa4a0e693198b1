"""Tuning: a search (Optuna's TPE: Bergstra et al., 2011) over knobs of one model, by its validation loss.

The study is a database that outlives the process: what a killed one left undone is done again, and no trial is lost or
counted twice. Samplers are seeded by the number of trials that have ended, so that a study which was interrupted asks
for the same trials as one that was not.
"""

import json
import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC
from hashlib import sha256
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import keras
import numpy as np
import optuna
from filelock import FileLock, Timeout
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from trainyard import files
from trainyard.errors import BadInput, EnvironmentFailed, TrainingFailed
from trainyard.kinds import Prepared
from trainyard.params import Axis, MobileNet, Model, Params
from trainyard.quality.sweeps import Comparison, Trial
from trainyard.training import resume, seeds
from trainyard.training.fit import Fit, OnEpoch
from trainyard.training.resume import Resume

ROOT = Path(".trainyard/tune")
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
"""States that count: a trial that FAILed was killed, and is made again."""
UNPRUNED = 5
"""Trials that come to their end before one is broken off for being worse than most."""
DIGITS = 4
"""Significant digits of what is tried, so that it can be written down as it was trained."""
QUIET = {"trainyard.training": logging.WARNING, "tensorflow": logging.ERROR}
"""What of loggers is told while a trial trains."""

log = logging.getLogger("trainyard.tuning")  # told while what is below trainyard.training is silent


class Study:
    """The trials of one model on the same data, by the same params, space and code."""

    def __init__(self, name: str, params: Params, data: Prepared, learns: Fit, storage: Path) -> None:
        """Open the study at `storage`; what a process that was killed left of it is put in order."""
        self._name, self._params, self._data, self._learns = name, params, data, learns
        self._tune, self._states = params.tuned(name), storage.with_suffix("")
        self._space = {knob: _distribution(axis) for knob, axis in self._tune.space.items()}
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        if not storage.exists():
            with files.replacing(storage) as draft:  # whole, or not there
                optuna.storages.RDBStorage(f"sqlite:///{draft}").engine.dispose()
        # an epoch more than a quarter: learning rates that begin slowly may end well
        pruner = optuna.pruners.MedianPruner(UNPRUNED, n_warmup_steps=1 + _epochs(params.model(name)) // 4)
        self._study = optuna.create_study(
            storage=f"sqlite:///{storage}", study_name=name, pruner=pruner, load_if_exists=True
        )
        if "id" not in self._study.user_attrs:
            self._study.set_user_attr("id", uuid4().hex)
        self._put_in_order()

    @property
    def id(self) -> str:
        """What no other study has, wherever it was made."""
        return str(self._study.user_attrs["id"])

    @property
    def trials(self) -> list[Trial]:
        """Those that have ended, in their order."""
        return [self._told(trial) for trial in self._study.get_trials(deepcopy=False, states=ENDED)]

    @property
    def best(self) -> list[Trial]:
        """Those that came to their end, the least validation loss first."""
        return sorted((trial for trial in self.trials if not trial.why), key=lambda trial: cast("float", trial.value))

    def run(self, trials: int, on_trial: Callable[[Trial], None]) -> None:
        """Go on until so many trials have ended; `on_trial` is told of each, those of earlier processes first.

        Raises TrainingFailed where none of them came to its end.
        """
        for trial in (ended := self.trials):
            on_trial(trial)
        if ended:
            log.info("%s: goes on after %d trial(s) (%s.db)", self._name, len(ended), self._states)
        bar = keras.utils.Progbar(trials, stateful_metrics=["best"], unit_name="trial")
        for place in range(len(ended), trials):
            trial = self._trial(place)
            on_trial(trial)
            least = self.best[0].value if self.best else math.nan
            if sys.stderr.isatty():
                bar.update(place + 1, [("best", least)])
                continue
            came = trial.why or f"val_loss {trial.value:.4g}"
            knobs = " ".join(f"{knob} {json.dumps(value)}" for knob, value in trial.knobs.items())
            seconds = (trial.ended - trial.began).total_seconds()
            log.info("trial %d/%d %s, best %.4g: %s (%.1f s)", place + 1, trials, came, least, knobs, seconds)
        if not self.best:
            raise TrainingFailed(f"{self._name}: no trial came to its end; the last one: {self.trials[-1].why}")

    def compared(self) -> Comparison | None:
        """Winner and present block under seeds that no trial had; None where the winner is the present block."""
        winner = self._params.turned(self._name, self.best[0].knobs)
        if winner.model(self._name) == self._params.model(self._name):
            return None
        others = range(self._params.seed + 1, self._params.seed + 1 + self._tune.seeds)
        return Comparison(*([self._value(params, seed) for seed in others] for params in (winner, self._params)))

    def _put_in_order(self) -> None:
        """The lock is ours: what is RUNNING was killed. Each trial that was killed is followed by one that repeats it.

        Being killed in here is no harm: each step is made where it was not made yet.
        """
        trials = self._study.get_trials(deepcopy=False)
        if not trials:
            present = self._present()
            self._study.enqueue_trial(present if len(present) == len(self._space) else {})
        again = {trial.user_attrs.get("again") for trial in trials}
        for trial in trials:
            if trial.state == TrialState.RUNNING:
                self._study.tell(trial.number, state=TrialState.FAIL)
            if trial.state in (TrialState.RUNNING, TrialState.FAIL) and trial.number not in again:
                whole = len(trial.params) == len(self._space)  # else it was killed before it had begun
                self._study.enqueue_trial(trial.params if whole else {}, user_attrs={"again": trial.number})

    def _present(self) -> dict[str, Any]:
        """What the present block has, where the space holds it: the first trial, so that the best is never worse."""
        found: dict[str, Any] = {}
        for knob, axis in self._tune.space.items():
            value: Any = self._params.model(self._name).model_dump()
            for part in knob.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            if axis.holds(value):
                found[knob] = value if axis.choices is None else json.dumps(value)
        return found

    def _trial(self, place: int) -> Trial:
        seed = int(np.random.SeedSequence([self._params.seed, place]).generate_state(1)[0])
        self._study.sampler = optuna.samplers.TPESampler(seed=seed)
        trial = self._study.ask(self._space)
        knobs, rows, last = self._knobs(trial.params), list[Mapping[str, float]](), math.inf

        def on_epoch(number: int, row: Mapping[str, float]) -> None:
            rows.append({"epoch": number, **row})
            trial.report(row["val_loss"], number)
            if number < last and trial.should_prune():
                raise optuna.TrialPruned(f"broken off after {number} epoch(s): worse than most")

        value, why = None, ""
        state = Resume(self._states / str(place))  # so that a trial that is killed loses no more than a training does
        try:
            if twin := next((ended for ended in self.trials if ended.knobs == knobs), None):
                value, why = twin.value, twin.why  # the same seed would give the same bits
                for row in twin.rows:
                    rows.append(row)
                    trial.report(row["val_loss"], int(row["epoch"]))
            else:
                turned = self._params.turned(self._name, knobs)
                last = _epochs(turned.model(self._name))
                value = self._trained(turned, turned.seed, on_epoch, state)
        except optuna.TrialPruned as pruned:
            why = str(pruned)
        except (TrainingFailed, BadInput) as error:  # of these knobs: what is wrong with all of them, `run` tells
            why = str(error).splitlines()[0]
        trial.set_user_attr("rows", rows)
        trial.set_user_attr("why", why)
        self._study.tell(trial, value, TrialState.PRUNED if value is None else TrialState.COMPLETE)
        state.done()
        return self._told(self._study.trials[trial.number])

    def _value(self, params: Params, seed: int) -> float:
        """Validation loss of a block under one seed, infinite where the training fails; none is computed twice."""
        block = json.dumps([params.model(self._name).model_dump(mode="json"), seed], sort_keys=True)
        key = sha256(block.encode()).hexdigest()[:16]
        if key not in self._study.user_attrs:
            log.info("seed %d of %s", seed, "the present block" if params is self._params else "the winner")
            state = Resume(self._states / key)
            try:
                value = self._trained(params, seed, lambda number, row: None, state)
            except TrainingFailed as error:
                log.info("%s", error)
                value = math.inf
            self._study.set_user_attr(key, value)
            state.done()
        return float(self._study.user_attrs[key])

    def _trained(self, params: Params, seed: int, on_epoch: OnEpoch, state: Resume) -> float:
        """Train as the line does; gives the validation loss of the epoch whose weights are kept."""
        with _silent():
            _, history = seeds.train(self._name, params, self._data, seed, self._learns, on_epoch, state)
        return float(history.loc[history["kept"] == 1, "val_loss"].iloc[0])

    def _knobs(self, found: Mapping[str, Any]) -> dict[str, Any]:
        return {knob: _plain(axis, found[knob]) for knob, axis in self._tune.space.items()}

    def _told(self, trial: FrozenTrial) -> Trial:
        began, ended = (at.astimezone(UTC) for at in (trial.datetime_start, trial.datetime_complete) if at)
        value = trial.value if trial.state == TrialState.COMPLETE else None
        knobs, rows, why = self._knobs(trial.params), trial.user_attrs["rows"], trial.user_attrs["why"]
        return Trial(trial.number, knobs, rows, value, why, began, ended)


@contextmanager
def study(name: str, params: Params, data: Prepared, learns: Fit) -> Iterator[Study]:
    """The study of a model, which no other process has meanwhile; raises EnvironmentFailed where one has."""
    space = {knob: axis.model_dump(mode="json") for knob, axis in params.tuned(name).space.items()}
    told = json.dumps([resume.of(name, params).folder.name, space])
    storage = ROOT / f"{name}-{sha256(told.encode()).hexdigest()[:16]}.db"
    storage.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(storage.with_suffix(".lock"), timeout=0):
            yield Study(name, params, data, learns, storage)
    except Timeout:
        raise EnvironmentFailed(f"{storage}: another `trainyard tune {name}` has it (wait for its end)") from None


def _epochs(spec: Model) -> int:
    return spec.epochs + (spec.thaw.epochs if isinstance(spec, MobileNet) else 0)


def _distribution(axis: Axis) -> BaseDistribution:
    if axis.choices is not None:
        return CategoricalDistribution([json.dumps(choice) for choice in axis.choices])
    low, high = cast("float", axis.low), cast("float", axis.high)
    if axis.step is not None:  # the range ends where its last step does
        high = low + axis.step * math.floor(round((high - low) / axis.step, 9))
    if axis.whole:
        return IntDistribution(int(low), int(high), axis.log, int(axis.step or 1))
    return FloatDistribution(low, high, axis.log, axis.step)


def _plain(axis: Axis, value: Any) -> Any:
    """What a trial tries, as it stands in params.yaml."""
    if axis.choices is not None:
        return json.loads(value)
    if isinstance(value, int):
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), cast("float", axis.low)), cast("float", axis.high))


@contextmanager
def _silent() -> Iterator[None]:
    """Trainings tell nothing of their epochs: a line a trial is enough.

    And TensorFlow not of tracing much: each trial is another network.
    """
    before = {name: logging.getLogger(name).level for name in QUIET}
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
