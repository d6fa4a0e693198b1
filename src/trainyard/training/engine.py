"""The engine: what computes a training, TensorFlow in this process or JAX in one of its own.

Keras takes its backend once in the life of a process, and the preprocessing that a saved model begins with needs
TensorFlow: nothing else looks words up. So a core goes over to JAX as numbers, learns there, and its weights come back.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np
import pandas as pd

from trainyard import arrays, errors, kinds
from trainyard.errors import EnvironmentFailed, TrainingFailed, TrainyardError
from trainyard.kinds import Prepared
from trainyard.params import AnyDataset, AnyModel, Model, Optimizer, Spec, Training
from trainyard.training.features import Pair, scratch
from trainyard.training.fit import Fit, OnEpoch, fit
from trainyard.training.resume import Resume

ARRAYS = ("x.npy", "y.npy", "validation-x.npy", "validation-y.npy")

log = logging.getLogger("trainyard.training.engine")  # also where Python runs this file itself


class Lesson(Spec):
    """What the other process is told beside the numbers."""

    name: str
    dataset: AnyDataset
    build: Path
    model: AnyModel
    seed: int
    optimizer: Optimizer
    epochs: int
    first: int
    resume: Path | None
    every: float
    device: str


def of(training: Training) -> Fit:
    """The fit by the engine that params ask for; printed with its reason.

    Raises EnvironmentFailed where that is JAX and it is not installed.
    """
    if training.engine != "auto":
        engine, reason = training.engine, "params ask for it"
    elif training.device != "cpu" and _gpu_of_jax_alone():
        engine, reason = "jax", "it has a GPU, and TensorFlow has none"
    else:
        engine, reason = "tensorflow", "with JAX no family trains 1.4 times as fast (benchmarks/RESULTS.md)"
    log.info("engine: %s, %s", engine, reason)
    if engine == "tensorflow":
        return fit
    if find_spec("jax") is None:
        raise EnvironmentFailed(
            "training.engine is jax, but JAX is not installed (pip install 'jax[cuda13]', or 'jax')"
        )
    return partial(_fit_by_jax, training)


def _gpu_of_jax_alone() -> bool:
    import tensorflow as tf

    return bool(entry_points(group="jax_plugins")) and not tf.config.list_physical_devices("GPU")


def _fit_by_jax(
    how: Training,
    core: keras.Model,
    training: Pair,
    validation: Pair,
    spec: Model,
    data: Prepared,
    seed: int,
    on_epoch: OnEpoch = lambda epoch, row: None,
    *,
    optimizer: Optimizer | None = None,
    epochs: int | None = None,
    first: int = 1,
    resume: Resume | None = None,
) -> pd.DataFrame:
    """As `fit`."""
    lesson = Lesson(
        name=data.name,
        dataset=cast("AnyDataset", data.spec),
        build=data.folder.parent.absolute(),
        model=cast("AnyModel", spec),
        seed=seed,
        optimizer=optimizer or spec.optimizer,
        epochs=epochs or spec.epochs,
        first=first,
        resume=resume.folder.absolute() if resume else None,
        every=resume.every if resume else 0.0,
        device=how.device,
    )
    with scratch(resume.folder if resume else None) as folder:
        (folder / "lesson.json").write_text(lesson.model_dump_json(), encoding="utf-8")
        (folder / "core.json").write_text(json.dumps(keras.saving.serialize_keras_object(core)), encoding="utf-8")
        _write_variables(core, folder)
        for name, part in zip(ARRAYS, (*training, *validation), strict=True):
            arrays.write(folder / name, arrays.in_parts(part, 1024))
        history = _taught(folder, on_epoch, _environment(how))
        _read_variables(core, folder)
    return history


def _environment(how: Training) -> dict[str, str]:
    chosen = {"KERAS_BACKEND": "jax"}
    if how.device == "cpu":
        chosen["JAX_PLATFORMS"] = "cpu"
    if how.determinism == "strict":
        chosen["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true"
    return {**os.environ, **chosen}


def _taught(folder: Path, on_epoch: OnEpoch, environment: Mapping[str, str]) -> pd.DataFrame:
    """Have the core in a folder learn there; gives the history. Raises what the other process raised."""
    command = [sys.executable, "-m", "trainyard.training.engine", str(folder)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}  # the first ends as this process does
    with subprocess.Popen(command, env=environment, text=True, **pipes) as other:  # noqa: S603  # our own arguments
        try:
            for told in map(json.loads, cast("Iterator[str]", other.stdout)):
                if "refused" in told:
                    raise getattr(errors, told["refused"])(told["why"])
                if "history" in told:
                    return pd.DataFrame(told["history"]).set_index("epoch")
                on_epoch(told["epoch"], told["row"])
        finally:
            other.kill()
    raise TrainingFailed("the process that trains with JAX ended by itself (had it too little memory?)")


def _learn(folder: Path, tell: Callable[..., None]) -> None:
    """In the other process: fit the core of the folder, and leave its weights there."""
    import jax

    lesson = Lesson.model_validate_json((folder / "lesson.json").read_text(encoding="utf-8"))
    device = jax.devices()[0]
    if lesson.device == "gpu" and device.platform == "cpu":
        raise EnvironmentFailed("training.device is gpu, but JAX sees none (pip install 'jax[cuda13]')")
    log.info("JAX %s on %s", jax.__version__, device.device_kind)
    data = kinds.open_prepared(lesson.name, lesson.dataset, lesson.build)
    core = keras.saving.deserialize_keras_object(json.loads((folder / "core.json").read_text(encoding="utf-8")))
    _read_variables(core, folder)
    resume = Resume(lesson.resume) if lesson.resume else None
    if resume:
        resume.every = lesson.every
    stored = [arrays.Stored(folder / name) for name in ARRAYS]
    x, y, *validation = (part[:] if arrays.resident(part) else part for part in stored)
    history = fit(
        core,
        (x, y[:]),
        (validation[0], validation[1][:]),
        lesson.model,
        data,
        lesson.seed,
        lambda epoch, row: tell(epoch=epoch, row=dict(row)),
        optimizer=lesson.optimizer,
        epochs=lesson.epochs,
        first=lesson.first,
        resume=resume,
    )
    _write_variables(core, folder)
    tell(history=history.reset_index().to_dict("records"))


def _write_variables(core: keras.Model, folder: Path) -> None:
    np.savez(folder / "core.npz", *map(keras.ops.convert_to_numpy, core.variables), allow_pickle=False)


def _read_variables(core: keras.Model, folder: Path) -> None:
    with np.load(folder / "core.npz", allow_pickle=False) as held:
        for variable, value in zip(core.variables, held.values(), strict=True):
            variable.assign(value)


def _main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("trainyard").setLevel(logging.INFO)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a CI job that is cancelled tells both: the one that asks ends this
    told = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # a progress bar is for people

    def tell(**what: Any) -> None:
        told.write(json.dumps(what) + "\n")

    try:
        _learn(Path(sys.argv[1]), tell)
    except TrainyardError as error:
        tell(refused=type(error).__name__, why=str(error))


if __name__ == "__main__":
    _main()
